"""SyncNet: what lips look like and what sound says, as vectors that lie near each other where the two are in step.

Chung and Zisserman, "Out of time: automated lip sync in the wild", ACCV workshops 2016, in the layout of the public
`syncnet_v2.model`: a state dict with the parts netcnnaud, netfcaud, netcnnlip and netfclip.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from avatarfit.contracts import FileFormatError, InputError

WINDOW_FRAMES, SIDE_PX = 5, 224
MFCC_COUNT, WINDOW_HOPS = 13, 20
_PARTS = ("netcnnaud", "netfcaud", "netcnnlip", "netfclip")
_SOUND_CONVOLUTIONS, _LIP_CONVOLUTIONS = (0, 4, 8, 11, 14, 18), (0, 4, 8, 11, 14, 18)
_LARGEST_BYTES = 2**30
_WANTED = "the public syncnet_v2.model: a state dict with " + ", ".join(_PARTS)
_DO = "fetch the file again, or leave --syncnet away"


def _head(channels: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out))


class SyncNet(nn.Module):
    """The two networks.

    Args:
        sound_channels, lip_channels: of the six convolutions each; the published ones are the defaults.
        hidden, out: widths of the last two layers.
    """

    def __init__(
        self,
        sound_channels: tuple[int, ...] = (64, 192, 384, 256, 256, 512),
        lip_channels: tuple[int, ...] = (96, 256, 256, 256, 256, 512),
        hidden: int = 512,
        out: int = 1024,
    ) -> None:
        super().__init__()
        a, v = (1, *sound_channels), (3, *lip_channels)

        def flat(k: int, kernel: Any = 3, padding: Any = 1) -> list[nn.Module]:
            return [nn.Conv2d(a[k], a[k + 1], kernel, padding=padding), nn.BatchNorm2d(a[k + 1]), nn.ReLU()]

        def deep(k: int, kernel: Any = (1, 3, 3), padding: Any = (0, 1, 1), stride: Any = 1) -> list[nn.Module]:
            return [nn.Conv3d(v[k], v[k + 1], kernel, stride, padding), nn.BatchNorm3d(v[k + 1]), nn.ReLU()]

        self.netcnnaud = nn.Sequential(
            *flat(0), nn.MaxPool2d(1, 1), *flat(1), nn.MaxPool2d(3, (1, 2)), *flat(2), *flat(3), *flat(4),
            nn.MaxPool2d(3, 2), *flat(5, (5, 4), 0),
        )  # fmt: skip
        self.netcnnlip = nn.Sequential(
            *deep(0, (5, 7, 7), 0, (1, 2, 2)), nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *deep(1, (1, 5, 5), (0, 1, 1), (1, 2, 2)), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *deep(2), *deep(3), *deep(4), nn.MaxPool3d((1, 3, 3), (1, 2, 2)), *deep(5, (1, 6, 6), 0),
        )  # fmt: skip
        self.netfcaud, self.netfclip = _head(a[-1], hidden, out), _head(v[-1], hidden, out)

    def sound(self, mfcc: Tensor) -> Tensor:
        """float [B, 1, 13, 20] -> [B, out]."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))

    def lips(self, faces: Tensor) -> Tensor:
        """float [B, 3, 5, 224, 224], blue first, 0 to 255 -> [B, out]."""
        return self.netfclip(self.netcnnlip(faces).flatten(1))


def load_syncnet(path: Path) -> SyncNet:
    """The network of a weights file; widths are those of its arrays. Nothing in the file is executed.

    Raises:
        InputError: there is no such file.
        FileFormatError: it is no such state dict, too large, or holds NaN or infinity.
    """
    if not path.is_file():
        raise InputError(f"--syncnet came as {path}, where no file is", _WANTED, "check the path")
    if path.stat().st_size > _LARGEST_BYTES:
        raise FileFormatError(f"{path} has {path.stat().st_size >> 20} MiB", "a file of 54 MB", _DO)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {name: value for name, value in state.items() if name.split(".")[0] in _PARTS}
        network = _of_size(tensors)
        for name, value in network.state_dict().items():
            given = tensors[name]
            if given.shape != value.shape:
                raise ValueError(f"{name} is {list(given.shape)}; wanted {list(value.shape)}")
            if not torch.isfinite(given.double()).all():
                raise ValueError(f"{name} holds NaN or infinity")
        network = network.to_empty(device="cpu")
        network.load_state_dict({name: tensors[name] for name in network.state_dict()})
    except (
        pickle.UnpicklingError, EOFError, OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError,
        IndexError,
    ) as cause:  # fmt: skip
        reason = " ".join(str(cause).split())[:160] or type(cause).__name__
        raise FileFormatError(f"{path} holds no SyncNet ({reason})", _WANTED, _DO) from cause
    return network.eval()


def _of_size(tensors: dict[str, Tensor]) -> SyncNet:
    """A network without memory of its own, as wide as the arrays."""
    sound = tuple(int(tensors[f"netcnnaud.{k}.weight"].shape[0]) for k in _SOUND_CONVOLUTIONS)
    lips = tuple(int(tensors[f"netcnnlip.{k}.weight"].shape[0]) for k in _LIP_CONVOLUTIONS)
    out, hidden = tensors["netfcaud.3.weight"].shape
    with torch.device("meta"):
        return SyncNet(sound, lips, int(hidden), int(out))


def mfcc(samples: np.ndarray) -> np.ndarray:
    """Mel-frequency cepstral coefficients as SyncNet was trained on: float32 [F, 13], 100 a second.

    The definition of the python_speech_features package with its defaults (James Lyons): pre-emphasis 0.97, frames of
    400 samples every 160, 512-point power spectrum, 26 triangular filters, orthonormal DCT-II, lifter 22, the first
    coefficient replaced by the log energy; of 16-bit values.

    Args:
        samples: float32 [n] in [-1, 1], 16 kHz.
    """
    from scipy.fft import dct

    length, step, size, filters, lifter = 400, 160, 512, 26, 22
    signal = samples.astype(np.float64) * 32768
    signal = np.concatenate([signal[:1], signal[1:] - 0.97 * signal[:-1]])
    count = 1 + max(0, -(-(len(signal) - length) // step))
    signal = np.pad(signal, (0, max(0, (count - 1) * step + length - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(signal, length)[::step][:count]
    power = np.abs(np.fft.rfft(frames, size)) ** 2 / size
    tiny = np.finfo(float).eps
    energy = np.maximum(power.sum(axis=1), tiny)
    mels = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), filters + 2)
    edges = np.floor((size + 1) * 700 * (10 ** (mels / 2595) - 1) / 16000)
    bins = np.arange(size // 2 + 1)
    bank = np.zeros((filters, size // 2 + 1))
    for k in range(filters):
        low, middle, high = edges[k : k + 3]
        rising, falling = (bins >= low) & (bins < middle), (bins >= middle) & (bins < high)
        bank[k, rising] = ((bins - low) / max(middle - low, 1))[rising]
        bank[k, falling] = ((high - bins) / max(high - middle, 1))[falling]
    cepstrum = dct(np.log(np.maximum(power @ bank.T, tiny)), type=2, axis=1, norm="ortho")[:, :MFCC_COUNT]
    cepstrum *= 1 + lifter / 2 * np.sin(np.pi * np.arange(MFCC_COUNT) / lifter)
    cepstrum[:, 0] = np.log(energy)
    return np.asarray(cepstrum, np.float32)
