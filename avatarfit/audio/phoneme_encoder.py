"""A small network that tells from sound what the mouth does: phonemes and what lips show of them.

It was trained on made-up speech in many languages and voices (tools/train_speech_encoder.py) and works as sound
arrives: dilated convolutions (WaveNet's, van den Oord et al. 2016) over log-mel bands that are levelled by what was
heard so far. The network hears 50 ms after the moment it tells of; its rows are late by just that, so that row k knows
no more of the sound than a log-mel row does, and the driver, which sees many rows at once, learns the delay.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from avatarfit.audio.hop_windows import HopWindows
from avatarfit.audio.log_mel import BAND_COUNT, HOP_SECONDS, SAMPLE_RATE_HZ, WINDOW_SAMPLES, mel_of_stretch
from avatarfit.contracts import FileFormatError
from avatarfit.ops.driver_networks import PhonemeRows, dense_panels, wants_native_networks

_RANGE = 4.0
_SPREAD = 2.0
"""Natural logarithms of power: a unit of the network's input."""
_FORGET = float(np.exp(-HOP_SECONDS / 3.0))
_PEAK_FALL = 0.7 * HOP_SECONDS
"""Natural logarithms a hop: 3 dB a second."""
_QUIETEST = float(np.log(1e-8))
_SPEECH_BELOW_PEAK, _SPEECH_EDGE = 6.0, 0.7
_PRIOR_WEIGHT = 50.0
_BLOCK_HOPS = 2_000


class Leveller:
    """Log-mel bands less a running mean of each over speech; loudness and a microphone's colour cancel.

    The mean forgets in 3 s, counts hops within 26 dB of a peak that falls by 3 dB a second, and begins at speech's
    usual spectrum below that peak.

    Args:
        spectrum: float32 [BAND_COUNT], speech's mean log power of each band less the level of its loud parts.
    """

    def __init__(self, spectrum: np.ndarray) -> None:
        self._spectrum = spectrum
        self._peak = _QUIETEST
        self._sum = np.zeros(BAND_COUNT)
        self._weight = 0.0

    def push(self, bands: np.ndarray) -> np.ndarray:
        """float32 [F, BAND_COUNT] of natural log powers -> float32 [F, BAND_COUNT] in [-4, 4], no look-ahead."""
        if not len(bands):
            return np.zeros((0, BAND_COUNT), np.float32)
        level = np.logaddexp.reduce(bands, axis=1) - np.log(BAND_COUNT)
        falls = _PEAK_FALL * np.arange(1, len(level) + 1)
        peak = np.maximum.accumulate(np.concatenate([[self._peak], level + falls]))[1:] - falls
        peak = np.maximum(peak, _QUIETEST)
        self._peak = float(peak[-1])
        weight = 1 / (1 + np.exp(np.clip((peak - _SPEECH_BELOW_PEAK - level) / _SPEECH_EDGE, -30, 30)))
        # Digital silence inside speech would weigh by how far down the logarithm's floor is.
        floored = np.maximum(bands, (peak - 2 * _SPEECH_BELOW_PEAK)[:, None])
        sums, weights = self._recent(floored * weight[:, None], self._sum), self._recent(weight, np.array(self._weight))
        self._sum, self._weight = sums[-1], float(weights[-1])
        prior = self._spectrum + peak[:, None]
        mean = (sums + _PRIOR_WEIGHT * prior) / (weights + _PRIOR_WEIGHT)[:, None]
        return np.clip((bands - mean) / _SPREAD, -_RANGE, _RANGE).astype(np.float32)

    @staticmethod
    def _recent(values: np.ndarray, before: np.ndarray) -> np.ndarray:
        out = np.empty_like(values)
        for k, value in enumerate(values):
            before = out[k] = _FORGET * before + value
        return out


@dataclass(frozen=True)
class PhonemeNetworkConfig:
    """Sizes of the network."""

    mouth_count: int
    """Classes of mouths."""
    sound_count: int
    """Classes of phonemes."""
    width: int = 160
    bottleneck: int = 24
    dilations: tuple[int, ...] = (1, 2, 4, 8, 12)
    aheads: tuple[int, ...] = (1, 2, 0, 0, 0)
    """Hops each block hears ahead, 0 to twice its dilation."""

    @property
    def look_ahead_hops(self) -> int:
        """Hops after its own that a row knows."""
        return _FIRST_AHEAD + sum(self.aheads)

    @property
    def past_hops(self) -> int:
        """Hops before its own that a row knows."""
        return _FIRST_TAPS - 1 + 2 * sum(self.dilations) - self.look_ahead_hops


_FIRST_TAPS, _FIRST_AHEAD = 5, 2


class _Valid(nn.Module):
    """A convolution that keeps the end of what it saw, so that pieces give what the whole gives."""

    def __init__(self, inputs: int, outputs: int, taps: int, dilation: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(inputs, outputs, taps, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm1d(outputs)
        self.reach = (taps - 1) * dilation

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T + reach] -> [B, D, T]."""
        return functional.relu(self.norm(self.convolution(x)))


class PhonemeNetwork(nn.Module):
    """Levelled bands -> bottleneck features and classes; no padding: T rows come of T + past + look-ahead hops."""

    def __init__(self, config: PhonemeNetworkConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.first = _Valid(BAND_COUNT, width, _FIRST_TAPS, 1)
        self.blocks = nn.ModuleList(_Valid(width, width, 3, dilation) for dilation in config.dilations)
        self.mixes = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in config.dilations)
        self.bottleneck = nn.Conv1d(width, config.bottleneck, 1)
        self.mouth = nn.Conv1d(config.bottleneck, config.mouth_count, 1)
        self.sound = nn.Conv1d(config.bottleneck, config.sound_count, 1)
        self.dropout = nn.Dropout1d(0.1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, BAND_COUNT, H] -> bottleneck [B, N, T] in -1..1, mouth and sound logits [B, C, T]."""
        x = self.dropout(self.first(x))
        for index, (block, mix, ahead) in enumerate(zip(self.blocks, self.mixes, self.config.aheads, strict=True)):
            reach = 2 * self.config.dilations[index]
            x = x[..., reach - ahead : x.shape[-1] - ahead] + mix(self.dropout(block(x)))
        narrow = torch.tanh(self.bottleneck(x))
        return narrow, self.mouth(narrow), self.sound(narrow)


@dataclass(frozen=True)
class _Step:
    """A convolution with its norm folded in: float32 [D, taps * C] and [D]."""

    weight: Tensor
    bias: Tensor
    taps: int
    dilation: int

    @staticmethod
    def of(convolution: nn.Conv1d, norm: nn.BatchNorm1d | None = None) -> _Step:
        weight = convolution.weight.detach().double()
        bias = torch.zeros(len(weight)) if convolution.bias is None else convolution.bias.detach()
        if norm is not None and norm.running_var is not None and norm.running_mean is not None:
            scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
            weight, bias = weight * scale[:, None, None], norm.bias.detach() - norm.running_mean * scale
        flat = weight.permute(0, 2, 1).flatten(1).float().contiguous()
        return _Step(flat, bias.float(), convolution.kernel_size[0], convolution.dilation[0])

    @property
    def reach(self) -> int:
        """Rows that are lost at the ends."""
        return (self.taps - 1) * self.dilation

    def __call__(self, x: Tensor) -> Tensor:
        """[T + reach, C] -> [T, D]."""
        count = len(x) - self.reach
        seen = [x[tap * self.dilation : tap * self.dilation + count] for tap in range(self.taps)]
        return functional.linear(torch.cat(seen, dim=1), self.weight, self.bias)


class PhonemeEncoder:
    """See `SpeechEncoder`. Columns: the bottleneck, then how likely each class of mouth is.

    Args:
        network: trained.
        spectrum: float32 [BAND_COUNT] of `Leveller`.
        weights_hash: of the file it came from.
    """

    sample_rate_hz = SAMPLE_RATE_HZ
    prior = None

    def __init__(self, network: PhonemeNetwork, spectrum: np.ndarray, weights_hash: str) -> None:
        self.network, self.spectrum = network.eval().requires_grad_(False), spectrum
        self.name = f"phonemes-{weights_hash}"
        self.column_count = network.config.bottleneck + network.config.mouth_count
        self.look_ahead_seconds = WINDOW_SAMPLES / 2 / SAMPLE_RATE_HZ

    def stream(self) -> PhonemeStream:
        """A fresh stream."""
        return PhonemeStream(self.network, self.spectrum, self._kernel)

    @cached_property
    def _kernel(self) -> PhonemeRows | None:
        return phoneme_kernel(self.network) if wants_native_networks() else None


class PhonemeStream:
    """See `RowStream`; `hear` takes bands instead of samples.

    Args:
        network: trained.
        spectrum: of `Leveller`.
        kernel: the network as the native library takes it; None where torch runs it.
    """

    def __init__(self, network: PhonemeNetwork, spectrum: np.ndarray, kernel: PhonemeRows | None = None) -> None:
        config = network.config
        self._leveller = Leveller(spectrum)
        self._windows = HopWindows(WINDOW_SAMPLES // 2, WINDOW_SAMPLES // 2)
        self._told = _TorchRows(network) if kernel is None else partial(kernel, kernel.empty_past())
        self._told(np.full((config.past_hops + config.look_ahead_hops, BAND_COUNT), -_RANGE, np.float32))

    def push(self, samples: np.ndarray) -> np.ndarray:
        """As `RowStream.push`."""
        return self.hear(mel_of_stretch(self._windows.push(samples)))

    def finish(self) -> np.ndarray:
        """As `RowStream.finish`."""
        return self.hear(mel_of_stretch(self._windows.finish()))

    def hear(self, bands: np.ndarray) -> np.ndarray:
        """A row for each of the next log-mel bands float32 [F, BAND_COUNT]."""
        levelled = self._leveller.push(bands)
        blocks = range(0, max(len(levelled), 1), _BLOCK_HOPS)
        return np.concatenate([self._told(levelled[start : start + _BLOCK_HOPS]) for start in blocks])


class _TorchRows:
    """The network, row by row, in torch: the kernel's reference."""

    # Plain matrix products: torch's convolutions of two hops take ten times as long.
    def __init__(self, network: PhonemeNetwork) -> None:
        self._aheads = network.config.aheads
        self._steps, self._mixes = _steps(network)
        self._bottleneck, self._mouth = _Step.of(network.bottleneck), _Step.of(network.mouth)
        self._past = [torch.zeros(0, step.weight.shape[1] // step.taps) for step in self._steps]

    @torch.inference_mode()
    def __call__(self, bands: np.ndarray) -> np.ndarray:
        """float32 [F, BAND_COUNT] -> float32 [F, columns]; fewer rows until the first one's past is there."""
        x = torch.from_numpy(bands)
        for index, step in enumerate(self._steps):
            x = torch.cat([self._past[index], x])
            self._past[index] = x[max(len(x) - step.reach, 0) :].clone()
            if len(x) <= step.reach:
                return np.zeros((0, len(self._bottleneck.bias) + len(self._mouth.bias)), np.float32)
            heard = step(x).relu_()
            if index:
                ahead = self._aheads[index - 1]
                heard = self._mixes[index - 1](heard) + x[step.reach - ahead : len(x) - ahead]
            x = heard
        narrow = self._bottleneck(x).tanh()
        return torch.cat([narrow, self._mouth(narrow).softmax(dim=1)], dim=1).numpy()


def _steps(network: PhonemeNetwork) -> tuple[list[_Step], list[_Step]]:
    """The first convolution and those of the blocks, and the blocks' mixes."""
    convolutions = [network.first, *network.blocks]
    return (
        [_Step.of(c.convolution, c.norm) for c in convolutions if isinstance(c, _Valid)],
        [_Step.of(mix) for mix in network.mixes if isinstance(mix, nn.Conv1d)],
    )


def phoneme_kernel(network: PhonemeNetwork) -> PhonemeRows:
    """The network for the native library."""
    config = network.config
    (first, *blocks), mixes = _steps(network)
    inside = [step for pair in zip(blocks, mixes, strict=True) for step in pair]
    sizes = [BAND_COUNT, config.width, config.bottleneck, config.mouth_count, _FIRST_TAPS, len(blocks)]
    for pair in zip(config.dilations, config.aheads, strict=True):
        sizes += pair
    layers = [first, *inside, _Step.of(network.bottleneck), _Step.of(network.mouth)]
    panels = [dense_panels(step.weight.numpy(), step.bias.numpy()) for step in layers]
    return PhonemeRows(sizes, [part for layer in panels for part in layer])


def load_phoneme_encoder(path: str | Path) -> PhonemeEncoder:
    """The encoder of a file that tools/train_speech_encoder.py wrote.

    Raises:
        FileFormatError: it is none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        sizes: dict[str, Any] = json.loads(told["config"])
        sizes |= {key: tuple(sizes[key]) for key in ("dilations", "aheads")}
        config = PhonemeNetworkConfig(**sizes)
        network = PhonemeNetwork(config)
        spectrum = weights.pop("spectrum").numpy()
        network.load_state_dict(weights)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FileFormatError(
            f"{path} is no speech encoder ({str(error).splitlines()[0]})", "one of tools/train_speech_encoder.py",
            "install avatarfit again",
        ) from error  # fmt: skip
    return PhonemeEncoder(network, spectrum, hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16])
