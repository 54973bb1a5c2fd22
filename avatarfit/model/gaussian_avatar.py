"""The Gaussian avatar: head, mouth interior, neck and torso as one set of 3-D Gaussians that motion bends.

Rest space is the camera's frame with the head at its rest pose. Each Gaussian has base attributes and a few learned
deltas; a small network turns the motion of one frame into the deltas' weights (the reduced blendshapes of RGBAvatar,
Li et al. 2025). The deltas are local: a Gaussian belongs to one weight group, which sees only the motion that can move
it, so that a blink cannot disturb the collar. Then it rides the head's pose, the torso's motion or, in the neck, a
blend of both (linear blend skinning, as on SMPL, Loper et al. 2015).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.linalg import block_diag
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from avatarfit.contracts import HeadPose, Motion, rotations

ATTRIBUTE_COUNT = 14
"""mean xyz (cm), quaternion wxyz, log scale xyz (log cm), opacity logit, rgb (sRGB-coded)."""

GROUPS = ("lower_face", "upper_face", "torso")

# One standard deviation of ordinary motion, so that every input of the network is of order one.
_ROTATION_SCALE_RAD = 0.08
_TRANSLATION_SCALE_CM = 1.0
_AFFINE_SCALE = 0.01


def compose(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Affine maps [..., 3, 4]: first `b`, then `a`."""
    linear = a[..., :3] @ b[..., :3]
    return np.concatenate([linear, a[..., :3] @ b[..., 3:] + a[..., 3:]], axis=-1)


def inverse(a: np.ndarray) -> np.ndarray:
    """The inverse of affine maps [..., 3, 4]."""
    linear = np.linalg.inv(a[..., :3])
    return np.concatenate([linear, -linear @ a[..., 3:]], axis=-1)


class MotionWeights(nn.Module):
    """Motion of a frame -> weights of the deltas, one set for each group.

    A linear map plus one hidden tanh layer; `mask` hides from a group what must not move it.

    Args:
        mask: float [G, D], 1 where group g may see input d.
        basis_count: K.
        hidden: width of the hidden layer.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, basis_count: int, hidden: int = 32) -> None:
        super().__init__()
        groups, inputs = mask.shape
        self.register_buffer("mask", mask)
        self.linear = nn.Parameter(torch.zeros(groups, inputs, basis_count))
        self.hidden = nn.Parameter(torch.randn(groups, inputs, hidden) * 0.3 / inputs**0.5)
        self.hidden_bias = nn.Parameter(torch.zeros(groups, hidden))
        self.out = nn.Parameter(torch.randn(groups, hidden, basis_count) * 0.1 / hidden**0.5)
        self.out_bias = nn.Parameter(torch.zeros(groups, basis_count))
        # Start as plain blendshapes: weight k of a group is the k-th input that it sees.
        with torch.no_grad():
            for group in range(groups):
                seen = torch.nonzero(mask[group]).flatten()[:basis_count]
                self.linear[group, seen, torch.arange(len(seen))] = 1.0

    def forward(self, condition: Tensor) -> Tensor:
        """Weights [T, G, K] of conditions [T, D]."""
        seen = condition[:, None, :] * self.mask  # [T, G, D]
        hidden = torch.tanh(torch.einsum("tgd,gdh->tgh", seen, self.hidden) + self.hidden_bias)
        return (
            torch.einsum("tgd,gdk->tgk", seen, self.linear)
            + torch.einsum("tgh,ghk->tgk", hidden, self.out)
            + self.out_bias
        )


class StillWeights:
    """A copy of a network that learns no more, for frames as they come: plain products instead of many small steps.

    Args:
        network: on any device.
        low, high: float [D], what its inputs are held to.
    """

    def __init__(self, network: MotionWeights, low: Tensor, high: Tensor) -> None:
        parts = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
        mask = parts["mask"][:, :, None]
        groups, _, self._basis_count = parts["linear"].shape
        self._linear = np.concatenate(list(parts["linear"] * mask), axis=1)  # [D, G K]
        self._hidden = np.concatenate(list(parts["hidden"] * mask), axis=1)  # [D, G H]
        self._hidden_bias, self._bias = parts["hidden_bias"].reshape(-1), parts["out_bias"].reshape(-1)
        self._out = block_diag(*parts["out"]).astype(np.float32)  # [G H, G K]
        self._low, self._high = low.cpu().numpy(), high.cpu().numpy()
        self._groups = groups

    def __call__(self, condition: np.ndarray) -> np.ndarray:
        """float32 [T, G, K] of conditions float32 [T, D]; as the network's but for rounding."""
        held = np.minimum(np.maximum(condition, self._low), self._high)
        hidden = np.tanh(held @ self._hidden + self._hidden_bias)
        weights = held @ self._linear + hidden @ self._out + self._bias
        return np.asarray(weights.reshape(len(held), self._groups, self._basis_count))


@dataclass
class GaussianAvatar:
    """The Gaussians and what moves them.

    Attributes:
        base: float32 [N, 14], attributes at rest (`ATTRIBUTE_COUNT`).
        deltas: float32 [N, K, 14].
        group: int32 [N], index into `GROUPS`.
        skin: float32 [N] in [0, 1]; 1 rides the head, 0 the torso.
        rest_head: float32 [3, 4], the head's pose in rest space.
        condition_low, condition_high: float32 [D], range of the network's inputs over the training frames.
        weights: the network.
        input_counts: lengths of the mouth, upper-face and torso codes it was built for.
    """

    base: Tensor
    deltas: Tensor
    group: Tensor
    skin: Tensor
    rest_head: np.ndarray
    condition_low: Tensor
    condition_high: Tensor
    weights: MotionWeights
    input_counts: tuple[int, int, int]

    @property
    def count(self) -> int:
        """N."""
        return len(self.base)

    def only(self, kept: Tensor) -> GaussianAvatar:
        """The avatar of the Gaussians where `kept`, bool [N], holds."""
        parts = {name: getattr(self, name)[kept] for name in ("base", "deltas", "group", "skin")}
        return replace(self, **parts)

    def trainable(self) -> GaussianAvatar:
        """A copy whose network learns."""
        parts = {name: getattr(self, name).clone() for name in ("base", "deltas", "group", "skin")}
        return replace(self, **parts, weights=deepcopy(self.weights).train().requires_grad_(True))

    def head_matrices(self, head: HeadPose) -> np.ndarray:
        """float32 [T, 3, 4]: rest space to camera for Gaussians that ride the head."""
        return compose(head.matrices(), inverse(self.rest_head)).astype(np.float32)

    def condition(self, motion: Motion) -> Tensor:
        """The network's inputs, float32 [T, D], not yet held to the training range."""
        return condition(motion, self.rest_head)

    @torch.no_grad()
    def basis_weights(self, motion: Motion) -> Tensor:
        """float32 [T, G, K]. Motion beyond what fitting saw is held at the nearest that it saw, so nothing tears."""
        held = torch.minimum(torch.maximum(self.condition(motion), self.condition_low), self.condition_high)
        return self.weights(held)

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Every array by name; deltas are kept in half precision, which is below the colour steps of a display."""
        out = {
            "base": self.base,
            "deltas": self.deltas.half(),
            "group": self.group,
            "skin": self.skin,
            "condition_low": self.condition_low,
            "condition_high": self.condition_high,
        }
        out |= {f"weights.{name}": value for name, value in self.weights.state_dict().items()}
        arrays = {name: value.detach().cpu().numpy() for name, value in out.items()}
        return arrays | {"rest_head": self.rest_head.astype(np.float32)}

    def config(self) -> dict[str, Any]:
        """JSON-able shape of the model."""
        mouth, upper, torso = self.input_counts
        return {"mouth_count": mouth, "upper_count": upper, "torso_count": torso, "groups": list(GROUPS)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray], config: dict[str, Any]) -> GaussianAvatar:
        """The inverse of `to_tensors` and `config`.

        Raises:
            KeyError, RuntimeError, ValueError: an array is missing or of the wrong shape.
        """
        state = {
            name.removeprefix("weights."): torch.from_numpy(np.array(value))
            for name, value in tensors.items()
            if name.startswith("weights.")
        }
        groups, hidden, basis_count = state["out"].shape
        counts = int(config["mouth_count"]), int(config["upper_count"]), int(config["torso_count"])
        weights = MotionWeights(group_mask(*counts), basis_count, hidden)
        weights.load_state_dict(state)
        base = torch.from_numpy(np.array(tensors["base"], np.float32))
        deltas = torch.from_numpy(np.array(tensors["deltas"], np.float32))
        group = torch.from_numpy(np.array(tensors["group"], np.int32))
        skin = torch.from_numpy(np.array(tensors["skin"], np.float32))
        count = len(base)
        shapes = (base.shape, deltas.shape, group.shape, skin.shape)
        wanted = ((count, ATTRIBUTE_COUNT), (count, basis_count, ATTRIBUTE_COUNT), (count,), (count,))
        if tuple(map(tuple, shapes)) != wanted or (count and not 0 <= int(group.min()) <= int(group.max()) < groups):
            raise ValueError(f"the Gaussians' arrays do not fit each other: {[list(s) for s in shapes]}")
        return cls(
            base, deltas, group, skin, np.array(tensors["rest_head"], np.float32),
            torch.from_numpy(np.array(tensors["condition_low"], np.float32)),
            torch.from_numpy(np.array(tensors["condition_high"], np.float32)),
            weights.eval().requires_grad_(False), counts,
        )  # fmt: skip


def condition(motion: Motion, rest_head: np.ndarray) -> Tensor:
    """The network's inputs, float32 [T, D]: torso modes, mouth, upper face, eyes, head rotation and translation, torso,
    head on torso."""
    return torch.from_numpy(condition_array(motion, rest_head, Rotation.from_matrix(rest_head[:, :3]).inv()))


def condition_array(motion: Motion, rest_head: np.ndarray, from_rest: Rotation) -> np.ndarray:
    """`condition` where the way back from the resting head's rotation is known: in a live frame every step counts."""
    rotation = (rotations(motion.head.rotation_wxyz) * from_rest).as_rotvec() / _ROTATION_SCALE_RAD
    translation = (motion.head.translation_cm - rest_head[:, 3]) / _TRANSLATION_SCALE_CM
    torso = (motion.torso.affine - np.eye(2, 3)).reshape(len(motion), 6) / _AFFINE_SCALE
    # Where the torso would carry the head, against where the head is: what stretches the neck.
    carried = np.einsum("tij,j->ti", motion.torso.matrices()[:, :, :3], rest_head[:, 3])
    on_torso = (motion.head.translation_cm - carried) / _TRANSLATION_SCALE_CM
    face = motion.face
    parts = [motion.torso.shape, face.mouth, face.upper, face.eyes, rotation, translation, torso, on_torso]
    return np.concatenate(parts, axis=1).astype(np.float32)


def group_mask(mouth_count: int, upper_count: int, torso_count: int) -> Tensor:
    """float [G, D] for `MotionWeights`: which inputs of `condition` move which group."""
    sizes = {"shape": torso_count, "mouth": mouth_count, "upper": upper_count, "eyes": 6}
    sizes |= {"rotation": 3, "translation": 3, "torso": 6, "on_torso": 3}
    seen_by = {
        "lower_face": ("mouth", "rotation"),
        "upper_face": ("upper", "eyes", "rotation"),
        "torso": ("shape", "rotation", "torso", "on_torso"),
    }
    columns = np.repeat(list(sizes), list(sizes.values()))
    return torch.tensor(np.array([np.isin(columns, seen_by[group]) for group in GROUPS]), dtype=torch.float32)
