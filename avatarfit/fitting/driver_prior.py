"""What many people's drivers have in common: transformers whose last layer alone is one person's.

It is trained on several people at once, each with a last layer of their own (as hard parameter sharing, Caruana 1997),
and saved as a safetensors file. A person's fit begins with it: the last layer by ridge regression, then all, slowly.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from avatarfit.avatarfile.whole_file import whole_file
from avatarfit.contracts import FileFormatError, InputError
from avatarfit.fitting.driver_lessons import Columns, Lesson
from avatarfit.model.audio_to_landmarks import AudioToLandmarks, AudioToLandmarksConfig, Member

FORMAT, VERSION = "avatarfit.driver-prior", 1
_RIDGE = 10.0
_LOGIT = 2.0
_OF_PERSON = ("out.weight", "out.bias")


@dataclass(frozen=True)
class DriverPrior:
    """Transformers without their last layers.

    Attributes:
        feature_name: of the speech features they hear.
        sizes: of the network; mouth_count, stride, kernel and lead are of no meaning.
        columns: how features are seen.
        trunks: of each transformer its weights by name.
        people: how many it was trained on. seconds: of speech in all.
    """

    feature_name: str
    sizes: AudioToLandmarksConfig
    columns: Columns
    trunks: Sequence[dict[str, torch.Tensor]]
    people: int
    seconds: float

    @staticmethod
    def of(network: AudioToLandmarks, feature_name: str, columns: Columns, people: int, seconds: float) -> DriverPrior:
        """Of a trained network."""
        trunks = [
            {name: value.detach().clone() for name, value in member.state_dict().items() if name not in _OF_PERSON}
            for member in network.transformers
        ]
        return DriverPrior(feature_name, network.config, columns, trunks, people, seconds)

    def require(self, feature_name: str) -> None:
        """Checks that it hears these features.

        Raises:
            FileFormatError: it hears others.
        """
        if self.feature_name != feature_name:
            raise FileFormatError(
                f"The driver's prior hears {self.feature_name}", feature_name, "make it again with these features"
            )

    def adapted(self, sizes: AudioToLandmarksConfig) -> AudioToLandmarksConfig:
        """A person's sizes with the prior's transformers."""
        own = {name: getattr(self.sizes, name) for name in ("width", "layers", "heads", "past_tokens", "members")}
        return replace(sizes, **own)

    @torch.no_grad()
    def into(self, network: AudioToLandmarks, lesson: Lesson) -> None:
        """Sets the transformers' weights; the last layer is the ridge regression to a person's own lesson."""
        network.eval()
        known = torch.from_numpy(lesson.known)
        targets = torch.from_numpy(lesson.targets)[known].double()
        targets[:, -1] = (2 * targets[:, -1] - 1) * _LOGIT
        for member, trunk in zip(network.transformers, self.trunks, strict=True):
            member.load_state_dict(trunk, strict=False)
            x = member.trunk(torch.from_numpy(lesson.hops)[None])[0, : len(known)][known].double()
            mean, middle = x.mean(0), targets.mean(0)
            gram = (x - mean).T @ (x - mean) + _RIDGE * torch.eye(x.shape[1], dtype=torch.float64)
            weight = torch.linalg.solve(gram, (x - mean).T @ (targets - middle)).T
            member.out.weight.copy_(weight)
            member.out.bias.copy_(middle - weight @ mean)

    def save(self, path: Path) -> None:
        """Writes it in one step.

        Raises:
            InputError: the folder cannot be written.
        """
        tensors = {
            f"{k}.{name}": value.numpy() for k, trunk in enumerate(self.trunks) for name, value in trunk.items()
        } | {"columns.offset": self.columns.offset, "columns.turn": self.columns.turn}
        header = {
            "format": FORMAT, "version": VERSION, "features": self.feature_name, "network": self.sizes.as_dict(),
            "people": self.people, "seconds": self.seconds,
        }  # fmt: skip
        arrays = {name: np.ascontiguousarray(a) for name, a in tensors.items()}
        with whole_file(path) as file:
            file.write(save(arrays, {"header": json.dumps(header)}))

    @classmethod
    def load(cls, path: Path) -> DriverPrior:
        """Reads what `save` wrote.

        Raises:
            InputError: no such file.
            FileFormatError: it is no prior, of a newer version, or its parts do not fit each other.
        """
        if not path.is_file():
            raise InputError(f"there is no file {path}", "a driver's prior", "make one with avatarfit fit-driver")
        try:
            with safe_open(path, "np") as file:
                header = json.loads((file.metadata() or {})["header"])
                if (header["format"], header["version"]) != (FORMAT, VERSION):
                    raise ValueError(f"it is {header['format']} version {header['version']}")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            names = {field.name for field in fields(AudioToLandmarksConfig)}
            sizes = AudioToLandmarksConfig(**{k: v for k, v in header["network"].items() if k in names})
            columns = Columns(0, sizes.main_columns, tensors["columns.offset"], tensors["columns.turn"])
            with torch.device("meta"):
                wanted = {k: v.shape for k, v in Member(sizes).state_dict().items() if k not in _OF_PERSON}
            trunks = [{k: torch.from_numpy(tensors[f"{i}.{k}"]) for k in wanted} for i in range(sizes.members)]
            for trunk in trunks:
                for name, shape in wanted.items():
                    if trunk[name].shape != shape or not trunk[name].isfinite().all():
                        raise ValueError(f"{name} is {list(trunk[name].shape)}; wanted {list(shape)}, finite")
            if columns.kept != sizes.kept_columns or len(columns.offset) != len(columns.turn):
                raise ValueError(f"columns {list(columns.offset.shape)} and {list(columns.turn.shape)}")
            return cls(header["features"], sizes, columns, trunks, int(header["people"]), float(header["seconds"]))
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise FileFormatError(
                f"{path} is no driver's prior ({type(error).__name__}: {reason})",
                "a file of avatarfit fit-driver",
                "make it again",
            ) from error
