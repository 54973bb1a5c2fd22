"""A fitted avatar made into one whose lower face lights up while a voice is heard; and how soon its motion does so.

Nothing is left out of the way that a picture goes: features, driver, controls, Gaussians, background, mark. Only
numbers are others. The driver's network, of the same size, tells the first mouth coefficient as 1 where its features
say that someone speaks and as 0 elsewhere, and the first delta of the lower face's Gaussians is brightness alone.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from beeping_microphone import SOUND_HZ, beep

from avatarfit.contracts import FaceMotion
from avatarfit.driving import DriveOptions, DriverStream
from avatarfit.model.audio_to_landmarks import LOOK_AHEAD_HOPS, PAST_HOPS, AudioToLandmarks
from avatarfit.model.avatar import Avatar
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.gaussian_avatar import GaussianAvatar
from avatarfit.model.locally_linear import LocallyLinear
from avatarfit.pipeline.live_picture import LivePictures, resting_moment
from avatarfit.pipeline.picture import PictureSettings

_BRIGHTER = 0.6
_FULL = DriveOptions().lip_strength
"""The coefficient when it is told as 1."""
_TAP, _HOP = 11, 1
"""Of the front end's taps those that see the very hop that is asked for."""
_SURE = 4.0
"""Where its activations are straight lines."""


def flashing(avatar: Avatar) -> Avatar:
    """The avatar, made so.

    Raises:
        ValueError: its head is no set of Gaussians.
    """
    if avatar.head != "gaussian":
        raise ValueError(f"the avatar's head is a {avatar.head}; wanted gaussian")
    return replace(avatar, driver=_driver(avatar.driver), gaussians=_gaussians(avatar.gaussians))


def _driver(driver: DriverModel) -> DriverModel:
    count = len(driver.mouth_rest)
    # Pulled onto the clip's own shapes, a shape on this line stays itself.
    shapes = np.zeros_like(driver.shapes.shapes_cm)
    shapes[:, 0] = np.linspace(0, _FULL, len(shapes)) * driver.mouth_deviation_cm[0]
    return replace(
        driver, network=_network(driver.network), mouth_rest=np.zeros(count, np.float32),
        shapes=LocallyLinear(shapes, driver.shapes.neighbours, driver.shapes.ridge),
    )  # fmt: skip


@torch.no_grad()
def _network(fitted: AudioToLandmarks) -> AudioToLandmarks:
    network = deepcopy(fitted).eval()
    for kernel in (network.kernel, network.beside):
        if kernel is not None:
            kernel.votes.zero_()
            kernel.mean.zero_()
    for member in network.transformers:
        for parameter in member.parameters():
            parameter.zero_()
        front = member.front
        front.near.weight[0, -1, _HOP] = _SURE
        front.far.weight[0, 0, _TAP] = 1 / front.taper[_TAP]
        assert front.far.bias is not None
        # Beside what is heard something that stays: else the norm would make all that is heard the same.
        front.far.bias[1] = _SURE
        member.norm.weight.fill_(1)
        member.out.weight[0, 0] = 1
        # The lips are never told as closed.
        member.out.bias[-1] = -30
    config = network.config
    heard = torch.zeros(1, PAST_HOPS + LOOK_AHEAD_HOPS + 1, config.feature_count)
    silent = float(network(heard)[0, 0, 0])
    heard[..., -1] = 1
    full = float(network(heard)[0, 0, 0])
    share = (1 - config.kernel_share) * (1 - config.beside_share if network.beside is not None else 1)
    for member in network.transformers:
        member.out.weight[0, 0] = 1 / (full - silent)
        member.out.bias[0] = -silent / (full - silent) / share
    return network


@torch.no_grad()
def _gaussians(fitted: GaussianAvatar) -> GaussianAvatar:
    out = replace(fitted, deltas=fitted.deltas.clone(), weights=deepcopy(fitted.weights))
    out.condition_low, out.condition_high = fitted.condition_low.clone(), fitted.condition_high.clone()
    coefficient = fitted.input_counts[2]
    weights = out.weights
    for part in (weights.linear, weights.out, weights.out_bias):
        part[0] = 0
    weights.linear[0, coefficient, 0] = 1 / _FULL
    out.condition_low[coefficient], out.condition_high[coefficient] = 0, _FULL
    of_lower_face = out.group == 0
    out.deltas[of_lower_face] = 0
    out.deltas[of_lower_face, 0, 11:] = _BRIGHTER
    return out


@dataclass(frozen=True)
class Lamp:
    """Where a flashing avatar's pictures light up.

    Attributes:
        rows, columns: the part of the picture around it.
        mask: bool, of that part.
        dark, light: mean grey of the masked pixels, 0 to 255, as it is drawn.
    """

    rows: slice
    columns: slice
    mask: np.ndarray
    dark: float
    light: float

    def share(self, luma: np.ndarray) -> float:
        """How far it is lit, about 0 to 1. `luma`: uint8 [H, W] of video range, 16 to 235."""
        grey = (float(luma[self.rows, self.columns][self.mask].mean()) - 16) * 255 / 219
        return (grey - self.dark) / (self.light - self.dark)


def lamp_of(avatar: Avatar, settings: PictureSettings) -> Lamp:
    """Of a flashing avatar that is drawn so.

    Raises:
        ValueError: too little of its lower face can be seen.
    """
    pictures = LivePictures(
        avatar, avatar.frame_rate_hz, "clip", settings, alpha=False, mark=None, on_event=lambda event: None
    )
    moment = resting_moment(avatar)
    face = moment.motion.face
    mouth = np.zeros_like(face.mouth)
    mouth[:, 0] = _FULL
    lit = replace(moment, motion=replace(moment.motion, face=FaceMotion(mouth, face.upper, face.eyes)))
    dark, light = (pictures.draw(one).astype(np.float32) @ (0.299, 0.587, 0.114) for one in (moment, lit))
    mask = light - dark > 40
    if mask.sum() < 50:
        raise ValueError(f"{mask.sum()} pixels light up; wanted 50 or more of a lower face")
    at = np.argwhere(mask)
    (top, left), (bottom, right) = at.min(0), at.max(0) + 1
    rows, columns = slice(int(top), int(bottom)), slice(int(left), int(right))
    return Lamp(rows, columns, mask[rows, columns], float(dark[mask].mean()), float(light[mask].mean()))


def motion_delays(avatar: Avatar, frame_rate_hz: float, phases: int = 40) -> np.ndarray:
    """How long after a beep's begin the first moment lies whose motion is lit: the driver's own, in no hurry.

    Args:
        avatar: a flashing one.
        frame_rate_hz: of the moments.
        phases: n.

    Returns:
        float [n], seconds: of a beep that begins (k + 0.5) / n of a frame after one.
    """
    frame = 1 / frame_rate_hz
    apart = np.ceil(1 / frame) * frame
    onsets = 2 * apart + np.arange(phases) * apart + (np.arange(phases) + 0.5) * frame / phases
    sound = np.zeros(round((onsets[-1] + 2) * SOUND_HZ), np.float32)
    begins = np.round(onsets * SOUND_HZ).astype(int)
    for begin in begins:
        sound[begin : begin + len(beep())] = beep()
    stream = DriverStream(avatar.driver, avatar.rig, SOUND_HZ, frame_rate_hz)
    parts = [stream.push(sound), stream.finish()]
    lit = np.concatenate([part.face.mouth[:, 0] for part in parts]) > _FULL / 2
    moments = np.flatnonzero(lit[1:] & ~lit[:-1]) + 1
    if len(moments) != phases:
        raise ValueError(f"{len(moments)} flashes came of {phases} beeps")
    return np.asarray(moments * frame - begins / SOUND_HZ)
