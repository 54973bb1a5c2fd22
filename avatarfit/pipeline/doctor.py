"""What is installed and built here, which backend pictures run on, and why anything is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from avatarfit.contracts import AvatarfitError, BackendError

State = Literal["ok", "missing", "optional"]

_PACKAGES = (
    ("numpy", "arrays"),
    ("torch", "fitting"),
    ("av", "video and sound"),
    ("mediapipe", "face landmarks"),
    ("opencv-contrib-python-headless", "image geometry"),
    ("scipy", "numerics"),
    ("safetensors", "avatar files"),
    ("praat-parselmouth", "pitch"),
    ("c2pa-python", "signed records of origin"),
    ("cryptography", "certificates"),
    ("imageio", "pictures"),
    ("tqdm", "bars"),
    ("tensorboard", "curves"),
    ("tyro", "the command line"),
)
_OPTIONAL = (
    ("gsplat", "another rasteriser, for CUDA machines: pip install gsplat"),
    ("nerfacc", "ray marching, for CUDA machines: pip install nerfacc"),
    ("tinycudann", "hash encoding and small networks, for CUDA machines: see README.md"),
)


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        state: "ok"; "missing" needs mending before avatarfit works fully; "optional" is absent and may stay so.
        text: what was found, or why it is missing and what to do.
    """

    name: str
    state: State
    text: str


def _python() -> Finding:
    version = platform.python_version()
    right = (3, 11) <= sys.version_info[:2] <= (3, 12)
    advice = "" if right else "; wanted 3.11 or 3.12, make a virtual environment with one of these"
    return Finding("python", "ok" if right else "missing", f"{version} on {platform.platform()}{advice}")


def _processor() -> Finding:
    return Finding("processor", "ok", f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores for this process")


def _package(name: str, purpose: str) -> Finding:
    try:
        return Finding(name, "ok", f"{importlib.metadata.version(name)} ({purpose})")
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", f"not installed ({purpose}); run pip install {name}")


def _optional_package(name: str, purpose: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "optional", f"not installed ({purpose})")


def _native_kernels() -> Finding:
    from avatarfit.ops import native

    try:
        text = f"{native.find_library()}: {native.isa()} of {', '.join(native.available_isas())}"
        return Finding("native kernels", "ok", f"{text}; {native.threads()} threads")
    except BackendError as error:
        return Finding("native kernels", "missing", str(error))


def _backend() -> Finding:
    from avatarfit import ops

    choice = ops.choose("auto")
    return Finding("backend auto", "ok" if choice.name != "reference" else "missing", str(choice))


def _heads() -> Finding:
    from avatarfit import ops
    from avatarfit.avatarfile import HEADS
    from avatarfit.contracts import InputError
    from avatarfit.pipeline.presets import DEFAULTS, load_preset

    try:
        presets = ", ".join(f"{head} (preset {DEFAULTS[head]})" for head in HEADS if load_preset(DEFAULTS[head]))
    except InputError as error:
        return Finding("heads", "missing", str(error))
    return Finding("heads", "ok", f"{presets}; fitted and drawn on {ops.choose('auto').name}")


def _cuda_kernels() -> Finding:
    from avatarfit.ops import native_cuda

    try:
        text = f"{native_cuda.find_library()}: built for {', '.join(native_cuda.architectures())}"
        return Finding("CUDA kernels", "ok", f"{text}; not yet measured on a GPU")
    except BackendError as error:
        return Finding("CUDA kernels", "optional", str(error))


def _gpu() -> Finding:
    from avatarfit.ops import native_cuda

    try:
        return Finding("GPU", "ok", native_cuda.device_name())
    except BackendError as error:
        return Finding("GPU", "optional", f"{error.came}; not needed")


def _face_model() -> Finding:
    from importlib.util import find_spec

    # The models lie inside mediapipe's wheel; newer wheels bundle none and speak another interface.
    if find_spec("mediapipe") is None:
        return Finding("face landmarks", "missing", "mediapipe is not installed; run pip install mediapipe==0.10.21")
    version = importlib.metadata.version("mediapipe")
    right = version == "0.10.21"
    advice = "models are inside the wheel" if right else "wanted 0.10.21, whose wheel holds the models"
    return Finding("face landmarks", "ok" if right else "missing", f"mediapipe {version}; {advice}")


def _landmarker() -> Finding:
    from avatarfit.capture.landmark_source import cache_path, choose_source

    try:
        source = choose_source("auto")
    except AvatarfitError as error:
        return Finding("landmarker", "missing", str(error))
    if source.bundle is None:
        return Finding(
            "landmarker", "optional",
            f"{source.name} would be used; for 52 blendshapes: avatarfit fetch landmarker (into {cache_path()})",
        )  # fmt: skip
    return Finding("landmarker", "ok", f"{source.bundle} would be used: {source.name[:40]}")


def _codecs() -> Finding:
    import av

    absent = [name for name in ("libx264", "aac", "ffv1") if name not in av.codecs_available]
    if absent:
        return Finding(
            "encoders", "missing", f"PyAV lacks {', '.join(absent)}; install the wheel from PyPI: pip install av"
        )
    return Finding("encoders", "ok", f"H.264, AAC and FFV1 (PyAV {av.__version__})")


def examine() -> list[Finding]:
    """Look at everything; a check that fails becomes a finding, never an error."""
    checks: list[tuple[str, Callable[[], Finding]]] = [("python", _python), ("processor", _processor)]
    checks += [(n, lambda n=n, p=p: _package(n, p)) for n, p in _PACKAGES]  # type: ignore[misc]
    checks += [
        ("native kernels", _native_kernels),
        ("backend auto", _backend),
        ("heads", _heads),
        ("CUDA kernels", _cuda_kernels),
        ("GPU", _gpu),
    ]
    checks += [("face landmarks", _face_model), ("landmarker", _landmarker), ("encoders", _codecs)]
    checks += [(n, lambda n=n, p=p: _optional_package(n, p)) for n, p in _OPTIONAL]  # type: ignore[misc]
    findings = []
    for name, check in checks:
        try:
            findings.append(check())
        except (ImportError, OSError) as error:
            findings.append(Finding(name, "missing", f"cannot be loaded: {error}"))
    return findings


def report(findings: list[Finding]) -> str:
    """The findings as aligned lines and one closing sentence."""
    width = max(len(f.name) for f in findings)
    lines = [f"{f.name:<{width}}  {f.state:<8}  {f.text}" for f in findings]
    missing = [f.name for f in findings if f.state == "missing"]
    closing = "Everything that is needed is here." if not missing else f"To mend: {', '.join(missing)}."
    return "\n".join([*lines, closing])
