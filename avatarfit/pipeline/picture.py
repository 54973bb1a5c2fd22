"""What a driven frame looks like: who is drawn, at what size and place, over what, through which layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from avatarfit.compositing import Background
from avatarfit.compositing.backdrop import Backdrop, Picture, Still, VideoLoop, check_enlargement, covering_crop
from avatarfit.compositing.clean_edges import CleanEdges
from avatarfit.compositing.compositor import Compositor
from avatarfit.compositing.framing import Framing, beyond_clip, kept_safe, placed
from avatarfit.compositing.look import ColourMatch, Grain, LightWrap
from avatarfit.compositing.shot import Layer
from avatarfit.contracts import Camera, HeadPose, InputError, Motion
from avatarfit.contracts.events import Listener, Note

if TYPE_CHECKING:
    from avatarfit.compositing.mark import Mark
    from avatarfit.model.avatar import Avatar

TORSOS = ("model", "source", "none")
_STAGE = "drive"
_HAIR, _EARS = 0.45, 0.12
"""How far a head reaches above and beside its face, in heights and widths of the face."""
_POSES = 60
_CUT = 0.05


@dataclass(frozen=True)
class PictureSettings:
    """How a driven person is shown.

    Attributes:
        framing: the picture's size, and where the person is in it.
        rate: frames a second; None for the avatar's own.
        torso: "model" as it was fitted; "source" from the clip's own frames, of `torso_clip`; "none" for head and neck.
        torso_clip: a clip folder of the person.
        clean_edges: how much of the old background is taken out of the outline, 0 to 1.
        match_colour: how far the person's colours go towards the background's, 0 to 1.
        light_wrap: how much of the background's light falls over the outline, 0 to 1.
        grain: noise over the person, 8-bit levels; "match" for the background's own.
    """

    framing: Framing = field(default_factory=Framing)
    rate: Fraction | None = None
    torso: str = "model"
    torso_clip: Path | None = None
    clean_edges: float = 1.0
    match_colour: float = 0.0
    light_wrap: float = 0.0
    grain: float | Literal["match"] = 0.0

    def __post_init__(self) -> None:
        if self.torso not in TORSOS:
            raise InputError(f"--torso came as {self.torso!r}", "model, source or none", "choose one of them")
        if self.torso == "source" and self.torso_clip is None:
            raise InputError(
                "--torso source came without a clip", "the clip folder whose torso is to be seen",
                "add --torso-clip me.work/clip",
            )  # fmt: skip
        if self.torso != "source" and self.torso_clip is not None:
            raise InputError("--torso-clip came without --torso source", "both, or none", "add --torso source")
        grain = 0.0 if self.grain == "match" else float(self.grain)
        for name, value, most in (
            ("clean-edges", self.clean_edges, 1.0), ("match-colour", self.match_colour, 1.0),
            ("light-wrap", self.light_wrap, 1.0), ("grain", grain, 30.0),
        ):  # fmt: skip
            if not 0 <= value <= most:
                raise InputError(f"--{name} came as {value:g}", f"0 to {most:g}", "choose a value in between")


class _Drawing(Protocol):
    """What draws people with alpha; frames are asked for in order."""

    def render(self, motion: Motion, index: int) -> np.ndarray:
        """float32 [H, W, 4], premultiplied."""


class PictureMaker:
    """Makes the frames of one video, in order.

    Args:
        avatar: who is drawn.
        background: what stands behind.
        settings: how they are shown.
        takes_alpha: whether float pictures with alpha are wanted, rather than opaque bytes.
        layers: more of them, after all others.
        mark: a visible mark, last of all.
        backend: of the renderer.
        on_event: told of what a person should know about the picture.

    Attributes:
        camera: of the pictures.

    Raises:
        InputError: background, torso's clip, or an opaque picture of nothing behind.
    """

    def __init__(
        self,
        avatar: Avatar,
        background: Background,
        settings: PictureSettings,
        *,
        takes_alpha: bool = False,
        layers: Sequence[Layer] = (),
        mark: Mark | None = None,
        backend: str = "auto",
        on_event: Listener,
    ) -> None:
        from avatarfit.rendering.renderer import renderer_of

        check_alpha(background, takes_alpha)
        self._takes_alpha = takes_alpha
        own = avatar.camera
        self.camera = _camera(avatar, settings.framing, on_event)
        rate = avatar.frame_rate_hz if settings.rate is None else float(settings.rate)
        self._renderer = renderer_of(avatar, self.camera, backend) if settings.torso == "model" else None
        self._drawing = self._renderer or _partly(avatar, self.camera, settings, rate, backend)
        if settings.torso != "none" and self.camera != own:
            _say_what_is_cut(avatar, self.camera, background, backend, on_event)
        plate = placed(avatar.plate, own, self.camera)
        behind = _behind(background, plate, on_event)
        made: list[Layer] = [] if behind is None else [Backdrop(behind)]
        if settings.clean_edges and not background.is_clips_own:
            made.append(CleanEdges(plate, settings.clean_edges))
        if settings.match_colour:
            made.append(ColourMatch(settings.match_colour))
        if settings.light_wrap:
            made.append(LightWrap(settings.light_wrap))
        if settings.grain == "match":
            made.append(Grain(0.0 if behind is None else Grain.of(behind.at(0.0))))
        elif settings.grain:
            made.append(Grain(settings.grain))
        self._compositor = Compositor(*made, *layers)
        self._rate = rate
        self._mark = mark

    def make(self, motion: Motion, index: int, frame: int) -> np.ndarray:
        """Frame `index` of a piece of motion, the video's `frame`.

        Returns:
            uint8 [H, W, 3], or float32 [H, W, 4], premultiplied, where alpha is wanted.
        """
        seconds = frame / self._rate
        behind = self._compositor.only_backdrop
        if behind is not None and self._renderer is not None:
            picture = self._renderer.render_over(motion, index, behind.at(seconds))
        else:
            picture = self._compositor.compose(self._drawing.render(motion, index), frame, seconds)
        if self._takes_alpha and picture.dtype == np.uint8:
            opaque = np.ones((*picture.shape[:2], 4), np.float32)
            opaque[..., :3] = picture * np.float32(1 / 255)
            picture = opaque
        if self._mark is not None:
            # Not as a layer: a still background and nothing else is drawn in one go, and stays so.
            self._mark.stamp(picture)
        return picture

    def skip(self, motion: Motion, index: int, frame: int) -> None:
        """Go past a frame that is there already; what follows is as if it had been made."""
        skip = getattr(self._drawing, "skip", None)
        if frame == 0:
            self.make(motion, index, frame)
        elif skip is not None:
            skip(motion, index)


def check_alpha(background: Background, takes_alpha: bool) -> None:
    """Raise where nothing stands behind and the output is opaque.

    Raises:
        InputError: so it is.
    """
    if background.nothing and not takes_alpha:
        raise InputError(
            "--background none came for an output without alpha", "an output that keeps alpha, or a background",
            "add --alpha straight to a .mov, .webm or .mkv, or --key-fill, or choose a background",
        )  # fmt: skip


def _partly(avatar: Avatar, camera: Camera, settings: PictureSettings, rate: float, backend: str) -> _Drawing:
    if settings.torso == "source" and settings.torso_clip is not None:
        from avatarfit.pipeline.torso_clip import HeadOverClip, TorsoClip

        return HeadOverClip(avatar, TorsoClip(avatar, settings.torso_clip), camera, rate, backend)
    from avatarfit.rendering.head_layer import HeadLayer

    return HeadLayer(avatar, camera, backend)


def _behind(background: Background, plate: np.ndarray, on_event: Listener) -> Picture | None:
    height, width = plate.shape[:2]
    if background.nothing:
        return None
    if background.video is not None:
        return VideoLoop(background.video, width, height)
    if background.rgb is not None and background.rgb.ndim == 3:
        rows, columns = background.rgb.shape[:2]
        _, _, used, _ = covering_crop(columns, rows, width, height)
        check_enlargement(Path(background.name), used, width)
        if used * 1.5 < width:
            on_event(Note(_STAGE, f"the background is enlarged {width / used:.1f} times and will look soft"))
    return Still(background.at(plate))


def _camera(avatar: Avatar, framing: Framing, on_event: Listener) -> Camera:
    camera = framing.camera(avatar.camera)
    if framing.safe_area is None:
        return camera
    moved, changed = kept_safe(camera, head_box(avatar, camera), framing.safe_area)
    if changed:
        on_event(
            Note(
                _STAGE,
                f"the head left the safe area of {framing.safe_area:g}: it is moved "
                f"{moved.center_x_px - camera.center_x_px:+.0f} px right, "
                f"{moved.center_y_px - camera.center_y_px:+.0f} px down"
                + (f", and made {moved.focal_px / camera.focal_px:.2f} times as large"
                   if moved.focal_px != camera.focal_px else ""),
            )
        )  # fmt: skip
    return moved


def head_box(avatar: Avatar, camera: Camera) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, in pixels of `camera`, of the head with its hair wherever the person's habits take
    it."""
    from avatarfit.driving.face_space import PersonRest

    face = PersonRest.of(avatar.rig, avatar.driver).landmarks_cm
    face = face.reshape(-1, face.shape[-1])[:, :3]
    (left, top), (right, bottom) = face[:, :2].min(axis=0), face[:, :2].max(axis=0)
    side, crown = _EARS * (right - left), _HAIR * (bottom - top)
    depth = float(face[:, 2].mean())
    corners = np.array(
        [[x, y, depth] for x in (left - side, right + side) for y in (top - crown, bottom)], np.float64
    )  # fmt: skip
    habits = avatar.driver.habits
    chosen = np.linspace(0, len(habits) - 1, min(_POSES, len(habits))).astype(int)
    poses = HeadPose(habits.rotation_wxyz[chosen], habits.translation_cm[chosen]).matrices().astype(np.float64)
    points = camera.project(np.einsum("tij,nj->tni", poses[:, :, :3], corners) + poses[:, None, :, 3])
    low, high = points.min(axis=1), points.max(axis=1)
    return (*np.percentile(low, 2, axis=0).tolist(), *np.percentile(high, 98, axis=0).tolist())


def _say_what_is_cut(avatar: Avatar, camera: Camera, background: Background, backend: str, on_event: Listener) -> None:
    """Notes about what the clip does not show and the picture would."""
    past = beyond_clip(avatar.camera, camera)
    if not past:
        return
    if background.is_clips_own and past.keys() & {"left", "right", "top"}:
        on_event(
            Note(
                _STAGE,
                f"the picture reaches beyond the clip ({_named(past)}): its background is mirrored there; "
                "--background puts another one behind",
            )
        )
    alpha = _resting_alpha(avatar, backend)
    touched = {"left": alpha[:, 0], "right": alpha[:, -1], "bottom": alpha[-1]}
    cut = {side: past[side] for side, edge in touched.items() if side in past and edge.mean() > _CUT}
    if cut:
        on_event(
            Note(
                _STAGE,
                f"the clip cuts the person off inside the picture ({_named(cut)}): a larger --scale or another "
                "--position hides it",
            )
        )


def _named(past: dict[str, float]) -> str:
    return ", ".join(f"{share:.0%} {side}" for side, share in past.items())


def _resting_alpha(avatar: Avatar, backend: str) -> np.ndarray:
    """float32 [H, W]: the person at rest, as the clip's camera sees them."""
    from avatarfit.contracts import FaceMotion, TorsoMotion
    from avatarfit.rendering.renderer import renderer_of

    habits = avatar.driver.habits
    rest = habits.stance(habits.rest()[None])
    motion = Motion(
        np.zeros(1), FaceMotion(avatar.driver.mouth_rest[None], rest.upper, rest.eyes),
        HeadPose(rest.rotation_wxyz, rest.translation_cm), TorsoMotion(rest.torso_affine, rest.torso_shape),
    )  # fmt: skip
    return renderer_of(avatar, avatar.camera, backend).render(motion, 0)[..., 3]
