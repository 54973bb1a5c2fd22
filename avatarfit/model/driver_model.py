"""All that turns sound into one person's motion, as it is saved in an avatar file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch

from avatarfit.contracts import FileFormatError
from avatarfit.model.audio_to_landmarks import AudioToLandmarks, AudioToLandmarksConfig
from avatarfit.model.habits import Habits
from avatarfit.model.landmark_kernel import Told, landmark_kernel
from avatarfit.model.locally_linear import LocallyLinear
from avatarfit.model.mouth_flow import FARTHEST_REACH_HOPS, MouthFlow

# From which probability of closed lips on they begin to close, and are closed; chosen by cross-validation, so that lips
# close as often as they do in life.
_OPEN_BELOW, _CLOSED_ABOVE = 0.2, 0.5
_HABIT_ARRAYS = tuple(f.name for f in fields(Habits) if f.name != "frame_rate_hz")


@dataclass(frozen=True)
class DriverModel:
    """A person's way of speaking and moving.

    Attributes:
        feature_name: which speech features it was fitted on.
        network: features -> mouth coefficients.
        shapes: the mouth shapes of the clip, in cm coordinates.
        habits: blinks, gaze, brows, head and torso.
        mouth_rest: float32 [M], the mouth when nobody speaks.
        mouth_deviation_cm: float32 [M], what turns coefficients into the coordinates of `shapes`.
        closed: of `shapes` those with closed lips; None where there are none.
        flow: what predictions leave open; None in files that were written before there was one.
    """

    feature_name: str
    network: AudioToLandmarks
    shapes: LocallyLinear
    habits: Habits
    mouth_rest: np.ndarray
    mouth_deviation_cm: np.ndarray
    closed: LocallyLinear | None = None
    flow: MouthFlow | None = None

    @cached_property
    def tell(self) -> Told:
        """The network on arrays, as fast as this machine has it."""
        return landmark_kernel(self.network)

    def mouth(
        self, told: np.ndarray, speaking: np.ndarray, lip_strength: float = 1.0, lle_strength: float = 0.0
    ) -> np.ndarray:
        """The mouth from what the network tells; each row for itself.

        Args:
            told: float32 [T, M + 1], coefficients and the probability of closed lips.
            speaking: float32 [T] in 0..1; at 0 the mouth rests, with closed lips where they are told.
            lip_strength: size of the motion about rest.
            lle_strength: how far shapes are pulled onto the clip's own, 0 to 1.

        Returns:
            float32 [T, M], coefficients. Where closed lips are sure, a shape of the clip's with closed lips, the
            nearest by the locally linear embedding; what is between passes into it smoothly.
        """
        if not len(told):
            return np.zeros((0, len(self.mouth_rest)), np.float32)
        moved = self.mouth_rest + speaking[:, None] * lip_strength * (told[:, :-1] - self.mouth_rest)
        shapes_cm = self.shapes(moved * self.mouth_deviation_cm, lle_strength)
        # However little anybody speaks: m, b and p are quiet, and half at rest would be half open.
        sure = np.clip((told[:, -1] - _OPEN_BELOW) / (_CLOSED_ABOVE - _OPEN_BELOW), 0, 1)
        if self.closed is not None and sure.any():
            some = np.flatnonzero(sure)
            share = (sure * sure * (3 - 2 * sure))[some, None]
            shapes_cm[some] += share * (self.closed(shapes_cm[some]) - shapes_cm[some])
        return (shapes_cm / self.mouth_deviation_cm).astype(np.float32)

    def config(self) -> dict[str, Any]:
        """JSON-able: everything that is not an array."""
        return {
            "features": self.feature_name,
            "network": self.network.config.as_dict(),
            "neighbours": self.shapes.neighbours,
            "ridge": self.shapes.ridge,
            "frame_rate_hz": self.habits.frame_rate_hz,
        }

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Every array by a dotted name."""
        tensors = {f"network.{name}": value.numpy() for name, value in self.network.state_dict().items()}
        tensors |= {f"habits.{name}": getattr(self.habits, name) for name in _HABIT_ARRAYS}
        tensors["shapes_cm"] = self.shapes.shapes_cm
        if self.closed is not None:
            tensors["closed_cm"] = self.closed.shapes_cm
        if self.flow is not None:
            tensors |= {f"flow.{name}": value.numpy() for name, value in self.flow.state_dict().items()}
        tensors["mouth_rest"] = self.mouth_rest
        tensors["mouth_deviation_cm"] = self.mouth_deviation_cm
        return tensors

    def check(self) -> None:
        """Checks that the parts fit each other.

        Raises:
            ValueError: they do not.
        """
        count = self.network.config.mouth_count
        closed = np.zeros((0, count), np.float32) if self.closed is None else self.closed.shapes_cm
        mouths = {count, self.shapes.shapes_cm.shape[1], *self.mouth_rest.shape, *self.mouth_deviation_cm.shape}
        mouths.add(closed.shape[1])
        if mouths != {count}:
            raise ValueError(f"mouth coefficients number {sorted(mouths)}")
        frames = {len(getattr(self.habits, name)) for name in _HABIT_ARRAYS}
        if len(frames) != 1 or frames == {0} or not self.habits.frame_rate_hz > 0:
            raise ValueError(f"habits of {sorted(frames)} frames at {self.habits.frame_rate_hz} a second")
        numbers = (self.shapes.shapes_cm, closed, self.mouth_rest, self.mouth_deviation_cm, self.habits.table())
        if not all(np.isfinite(array).all() for array in numbers):
            raise ValueError("an array holds NaN or infinity")

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> DriverModel:
        """The inverse of `to_tensors` and `config`; other keys are ignored.

        Raises:
            FileFormatError: an array or a setting is missing or of another shape.
        """
        try:
            sizes = AudioToLandmarksConfig(**config["network"])
            # Sizes come from a file: they must be those of its arrays before any memory is taken for them.
            with torch.device("meta"):
                wanted = {name: tuple(value.shape) for name, value in AudioToLandmarks(sizes).state_dict().items()}
            for name, shape in wanted.items():
                if tensors[f"network.{name}"].shape != shape:
                    raise ValueError(
                        f"network.{name} is {list(tensors[f'network.{name}'].shape)}; wanted {list(shape)}"
                    )
            network = AudioToLandmarks(sizes)
            network.load_state_dict(
                {name: torch.from_numpy(np.array(tensors[f"network.{name}"])) for name in network.state_dict()}
            )
            network.eval()
            neighbours, ridge = int(config["neighbours"]), float(config["ridge"])
            model = cls(
                str(config["features"]),
                network,
                LocallyLinear(np.asarray(tensors["shapes_cm"]), neighbours, ridge),
                Habits(
                    **{name: np.asarray(tensors[f"habits.{name}"]) for name in _HABIT_ARRAYS},
                    frame_rate_hz=float(config["frame_rate_hz"]),
                ),
                np.asarray(tensors["mouth_rest"], np.float32),
                np.asarray(tensors["mouth_deviation_cm"], np.float32),
                LocallyLinear(np.asarray(tensors["closed_cm"]), neighbours, ridge) if "closed_cm" in tensors else None,
                _flow(
                    {k.removeprefix("flow."): v for k, v in tensors.items() if k.startswith("flow.")}, sizes.mouth_count
                ),
            )
            model.check()
            return model
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise FileFormatError(
                f"The driver's part of the file does not fit together ({type(error).__name__}: {reason})",
                "the arrays and settings that a fit writes",
                "fit the avatar again",
            ) from error


def _flow(arrays: Mapping[str, np.ndarray], mouth_count: int) -> MouthFlow | None:
    """The flow of these arrays; none of none.

    Raises:
        KeyError, ValueError: an array is missing, of another shape, or not finite.
    """
    if not arrays:
        return None
    axes = len(arrays["axes"])
    if not 1 <= axes <= mouth_count:
        raise ValueError(f"the flow has {axes} axes; wanted 1 to {mouth_count}")
    flow = MouthFlow(axes, mouth_count)
    for name, value in flow.state_dict().items():
        if arrays[name].shape != tuple(value.shape) or not np.isfinite(arrays[name]).all():
            raise ValueError(f"flow.{name} is {list(arrays[name].shape)}; wanted {list(value.shape)}, finite")
    if not 0 < float(arrays["reach_hops"]) <= FARTHEST_REACH_HOPS:
        raise ValueError(f"the flow's noise reaches {float(arrays['reach_hops'])} hops")
    flow.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
    return flow.eval().requires_grad_(False)
