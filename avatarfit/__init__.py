"""avatarfit: from a clip of one person to a digital human that speaks.

    import avatarfit

    avatarfit.fit("clip.mp4", "anna.avatar")
    anna = avatarfit.Avatar.load("anna.avatar")
    anna.drive("speech.wav", "talking.mp4")

Names are loaded when first used, so that `import avatarfit` itself is instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from avatarfit.capture import ClipFolder as ClipFolder
    from avatarfit.capture import capture_clip as capture_clip
    from avatarfit.contracts import AvatarfitError as AvatarfitError
    from avatarfit.evaluation import evaluate_avatar as evaluate
    from avatarfit.pipeline.avatar import Avatar as Avatar
    from avatarfit.pipeline.convert import convert_to_gaussian as convert_to_gaussian
    from avatarfit.pipeline.drive import drive_avatar as drive
    from avatarfit.pipeline.fit import fit as fit
    from avatarfit.pipeline.live_frames import live as live

_WHERE = {
    "Avatar": ("avatarfit.pipeline.avatar", "Avatar"),
    "AvatarfitError": ("avatarfit.contracts", "AvatarfitError"),
    "ClipFolder": ("avatarfit.capture", "ClipFolder"),
    "capture_clip": ("avatarfit.capture", "capture_clip"),
    "convert_to_gaussian": ("avatarfit.pipeline.convert", "convert_to_gaussian"),
    "drive": ("avatarfit.pipeline.drive", "drive_avatar"),
    "evaluate": ("avatarfit.evaluation", "evaluate_avatar"),
    "fit": ("avatarfit.pipeline.fit", "fit"),
    "live": ("avatarfit.pipeline.live_frames", "live"),
}

__all__ = [
    "Avatar",
    "AvatarfitError",
    "ClipFolder",
    "__version__",
    "capture_clip",
    "convert_to_gaussian",
    "drive",
    "evaluate",
    "fit",
    "live",
]


def __getattr__(name: str) -> Any:  # PEP 562
    if name not in _WHERE:
        raise AttributeError(f"module 'avatarfit' has no attribute {name!r}")
    import importlib

    module, attribute = _WHERE[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
