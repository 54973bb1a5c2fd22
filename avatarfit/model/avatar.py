"""An avatar as one object: what an avatar file holds."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from dataclasses import field as attribute
from pathlib import Path
from typing import Any

import numpy as np

from avatarfit.avatarfile import HEADS, Consent, header_consent, read_avatar, write_avatar
from avatarfit.contracts import Camera, FileFormatError
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.gaussian_avatar import GaussianAvatar
from avatarfit.model.hashgrid_head import HashgridHead
from avatarfit.model.rig import Rig
from avatarfit.model.torso_modes import TorsoModes


@dataclass
class Avatar:
    """One person: rig, head and torso, driver, background plate.

    Attributes:
        gaussians: the whole person; neck and torso alone where there is a field.
        camera: the view it was fitted at; rendering at other sizes rescales it.
        frame_rate_hz: the clip's own rate.
        plate: uint8 [H, W, 3], the clip's background at the camera's size.
        made: what is known of the making (source's hash, size, steps, software version), JSON-able.
        torso_modes: what the torso's motion speaks of.
        field: the head, drawn over the Gaussians; None where they hold the head too.
        consent: who agreed to be made speak, and to what; None where that is not recorded.
        file_sha256: of the file this avatar was read from or written to last; None where there is none.
    """

    rig: Rig
    camera: Camera
    gaussians: GaussianAvatar
    driver: DriverModel
    plate: np.ndarray
    frame_rate_hz: float
    made: dict[str, Any] = attribute(default_factory=dict)
    torso_modes: TorsoModes = attribute(default_factory=TorsoModes.none)
    field: HashgridHead | None = None
    consent: Consent | None = None
    file_sha256: str | None = attribute(default=None, compare=False)

    @property
    def head(self) -> str:
        """What draws the head: one of `HEADS`."""
        return "gaussian" if self.field is None else "hashgrid"

    def save(self, path: Path | str) -> None:
        """Writes the avatar file in one step (avatarfit.avatarfile.write_avatar)."""
        tensors = {"plate": self.plate}
        parts = {
            "rig": self.rig.to_tensors(),
            "gaussians": self.gaussians.to_tensors(),
            "driver": self.driver.to_tensors(),
            "torso_modes": self.torso_modes.to_tensors(),
            **({} if self.field is None else {"field": self.field.to_tensors()}),
        }
        for name, part in parts.items():
            tensors |= {f"{name}.{key}": value for key, value in part.items()}
        header = {
            "head": self.head,
            "camera": asdict(self.camera),
            "frame_rate_hz": self.frame_rate_hz,
            "gaussians": self.gaussians.config(),
            **({} if self.field is None else {"field": self.field.config()}),
            "driver": self.driver.config(),
            "made": self.made,
            "consent": None if self.consent is None else self.consent.as_dict(),
        }
        write_avatar(path, header, tensors)
        self.file_sha256 = _sha256(path)

    @classmethod
    def load(cls, path: Path | str) -> Avatar:
        """Reads an avatar file.

        Raises:
            InputError: no such file.
            FileFormatError: truncated, damaged, of a newer version, or its parts do not fit each other.
        """
        header, tensors = read_avatar(path)

        def part(name: str) -> dict[str, np.ndarray]:
            return {key.removeprefix(name + "."): v for key, v in tensors.items() if key.startswith(name + ".")}

        try:
            camera = Camera(**header["camera"])
            plate = tensors["plate"]
            if plate.dtype != np.uint8 or plate.shape != (camera.height_px, camera.width_px, 3):
                raise ValueError(f"the plate is {plate.dtype} {list(plate.shape)}")
            frame_rate_hz = float(header["frame_rate_hz"])
            if not 1 <= frame_rate_hz <= 1000:
                raise ValueError(f"the frame rate is {frame_rate_hz}")
            head = header.get("head")
            if head not in HEADS:
                raise ValueError(f"the head is {head!r}, which is none of {', '.join(HEADS)}")
            return cls(
                Rig.from_tensors(part("rig")),
                camera,
                GaussianAvatar.from_tensors(part("gaussians"), header["gaussians"]),
                DriverModel.from_tensors(part("driver"), header["driver"]),
                plate,
                frame_rate_hz,
                header.get("made", {}),
                TorsoModes.from_tensors(part("torso_modes")),
                HashgridHead.from_tensors(part("field"), header["field"]) if head == "hashgrid" else None,
                header_consent(path, header),
                _sha256(path),
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise FileFormatError(
                f"{path} is an avatar file whose parts do not fit each other ({error})",
                "an avatar as avatarfit writes it",
                "fetch the file again, or fit the avatar anew",
            ) from error


def _sha256(path: Path | str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
