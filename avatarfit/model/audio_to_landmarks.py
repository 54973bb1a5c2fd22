"""Speech features to mouth-and-jaw motion and closed lips: the mean of small transformers and of kernel regressions.

They see at most `LOOK_AHEAD_HOPS` (90 ms) of features after the moment they speak of, all of it in the first
convolutions, and a limited past; attention itself looks only backwards through a sliding window. So long sound runs in
chunks of constant memory, and a chunk with its past in front gives what the whole would.

Attention: Vaswani et al. 2017, pre-normalised; position: rotary (Su et al. 2021). Output: coefficients of the rig, and
how surely the lips are closed, which a mean of mouths cannot tell: between open and closed it stands half open.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from math import isfinite

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from avatarfit.audio import OTHER_COLUMNS
from avatarfit.model import kernel_regression
from avatarfit.model.kernel_regression import KernelRegression

LOOK_AHEAD_HOPS = 9
"""With the 20 ms that log-mel features and pitch look ahead, and up to 10 ms from a frame to the next hop: 120 ms."""
PAST_HOPS = 23
NEAR_TAPS, FAR_TAPS, FAR_STEP = 5, 15, 2
"""Of the first convolutions: 4 + 28 hops, exactly PAST_HOPS + LOOK_AHEAD_HOPS."""
_MOST_LAYERS = 64
_MOST_PAST_HOPS = 6_000
_REACH_HOPS = 6.0


@dataclass(frozen=True)
class AudioToLandmarksConfig:
    """Sizes of the network."""

    feature_count: int
    """Columns of the speech features."""
    mouth_count: int
    """Coefficients to predict."""
    stride_hops: int = 4
    """Hops of 10 ms from one prediction to the next."""
    width: int = 64
    """Channels of a token."""
    layers: int = 1
    heads: int = 4
    past_tokens: int = 8
    """Tokens before itself that a token attends to, in each layer."""
    members: int = 1
    """Transformers whose predictions are averaged; each was trained from its own random start."""
    kernel_centres: int = 0
    """Moments of the clip in the kernel regression."""
    kernel_group: int = 4
    """Neighbouring columns that the kernel regression averages: 4 for mel bands, 1 for columns of no order."""
    kernel_axes: int = 0
    """Principal axes of its windows on which it tells distances; 0 for all."""
    kernel_share: float = 0.65
    """Weight of the kernel regression in the mean, 0 to 1; the transformers have the rest."""
    kept_columns: int = 0
    """The encoder's columns are turned onto so many axes of unit spread first; 0 leaves them as they are."""
    beside_columns: int = 0
    """So many of the encoder's columns, the last, are heard by a second kernel regression and by nothing else."""
    beside_kept: int = 0
    """These are turned onto so many axes of unit spread."""
    beside_axes: int = 0
    """As `kernel_axes`, of the second kernel regression."""
    beside_share: float = 0.3
    """Weight of the second kernel regression in the mean."""
    hear_pitch: bool = True
    """Without, pitch and voicing count as 0."""
    lead_hops: float = 4.0
    """The sound that tells most of a mouth comes so many hops after it."""
    dropout: float = 0.2

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            # Numbers come from files; most meet an array that they must fit, but not all.
            if entry.type == "int" and type(value) is not int:
                raise ValueError(f"{entry.name} is {value!r}; wanted a whole number")
            if entry.type == "float" and not (isinstance(value, int | float) and isfinite(value)):
                raise ValueError(f"{entry.name} is {value!r}; wanted a finite number")
        if min(self.width, self.heads) < 1:
            raise ValueError("width and heads must be at least 1")
        if not all(0 <= share <= 1 for share in (self.kernel_share, self.beside_share)):
            raise ValueError(f"shares {self.kernel_share} and {self.beside_share} came; wanted 0 to 1")
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the heads ({self.heads})")
        if min(self.stride_hops, self.layers, self.past_tokens, self.members) < 1:
            raise ValueError("stride_hops, layers, past_tokens and members must be at least 1")
        for kept, columns in ((self.kept_columns, self.main_columns), (self.beside_kept, self.beside_columns)):
            if not 0 <= kept <= columns:
                raise ValueError(f"{kept} of {columns} columns cannot be kept")
        if self.layers > _MOST_LAYERS or self.members > _MOST_LAYERS:
            raise ValueError(f"layers and members must be at most {_MOST_LAYERS}")
        if self.stride_hops * self.layers * self.past_tokens > _MOST_PAST_HOPS:
            raise ValueError(f"the network hears {self.past_tokens} tokens back in each layer; wanted fewer")

    @property
    def main_columns(self) -> int:
        """Of the encoder's columns those that the transformers and the first kernel regression hear."""
        return self.feature_count - OTHER_COLUMNS - self.beside_columns

    @property
    def seen_columns(self) -> int:
        """Columns that the transformers and the first kernel regression see."""
        return (self.kept_columns or self.main_columns) + OTHER_COLUMNS

    @property
    def past_tokens_total(self) -> int:
        """Tokens before a prediction that can change it, through all layers."""
        return self.layers * self.past_tokens

    def as_dict(self) -> dict[str, int | float]:
        """JSON-able."""
        return asdict(self)


class FrontEnd(nn.Module):
    """Hops to tokens. Token t sees hops [t * stride - PAST_HOPS, t * stride + LOOK_AHEAD_HOPS].

    The farther a hop is from `lead_hops` after the token, the less it weighs: with a minute of speech nothing but
    coincidence is learned from there.
    """

    taper: Tensor

    def __init__(self, config: AudioToLandmarksConfig) -> None:
        super().__init__()
        width, self.stride = config.width, config.stride_hops
        self.near = nn.Conv1d(config.seen_columns, width, NEAR_TAPS)
        self.far = nn.Conv1d(width, width, FAR_TAPS, stride=self.stride, dilation=FAR_STEP)
        taps = torch.arange(-PAST_HOPS + 2, LOOK_AHEAD_HOPS - 1, FAR_STEP, dtype=torch.float32)
        bell = torch.exp(-0.5 * ((taps - config.lead_hops) / _REACH_HOPS).square())
        self.register_buffer("taper", bell, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, PAST_HOPS + (T - 1) * stride + LOOK_AHEAD_HOPS + 1, D] -> [B, T, width]."""
        # As products of windows: on the few tokens of a live frame a convolution's own overhead is five times the work.
        near, far = self.near, self.far
        x = functional.gelu(_windowed(x.unfold(1, NEAR_TAPS, 1), near.weight, near.bias))
        reach = (FAR_TAPS - 1) * FAR_STEP + 1
        return _windowed(x.unfold(1, reach, self.stride)[..., ::FAR_STEP], far.weight * self.taper, far.bias)


class Layer(nn.Module):
    """Attention over a sliding window of the past, then a two-layer perceptron; both residual."""

    def __init__(self, config: AudioToLandmarksConfig) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rotation: Tensor, allowed: Tensor, skip: int = 0) -> Tensor:
        """[B, T, width] -> [B, T - skip, width]; `rotation` [2, T, width / heads / 2], `allowed` bool [T, T]."""
        batch, count, width = x.shape
        qkv = self.query_key_value(self.before_attention(x)).view(batch, count, 3, self.heads, width // self.heads)
        qkv = qkv.permute(2, 0, 3, 1, 4)
        query, key = _rotate(qkv[:2], rotation)
        attended = functional.scaled_dot_product_attention(query[:, :, skip:], key, qkv[2], allowed[skip:])
        x = x[:, skip:] + self.dropout(self.out(attended.transpose(1, 2).reshape(batch, count - skip, width)))
        return x + self.dropout(self.perceptron(self.before_perceptron(x)))


class Member(nn.Module):
    """One network: front end, layers, output."""

    def __init__(self, config: AudioToLandmarksConfig) -> None:
        super().__init__()
        self.config = config
        self.front = FrontEnd(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, config.mouth_count + 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, skip: int = 0) -> Tensor:
        """Hops [B, H, seen_columns] -> [B, T - skip, M + 1]: coefficients, then the logit of closed lips."""
        return self.out(self.trunk(x, skip))

    def trunk(self, x: Tensor, skip: int = 0) -> Tensor:
        """Hops [B, H, seen_columns] -> [B, T - skip, width]: all but what is one person's own."""
        x = self.front(x)
        rotation = _rotary(x.shape[1], self.config.width // self.config.heads, x.device)
        allowed = _sliding_window(x.shape[1], self.config.past_tokens, x.device)
        for number, layer in enumerate(self.layers, 1):
            x = layer(x, rotation, allowed, skip if number == len(self.layers) else 0)
        return self.norm(x)


class AudioToLandmarks(nn.Module):
    """Speech features -> mouth coefficients and how surely the lips are closed, `100 / stride_hops` times a second.

    Buffers:
        offset: float [C], turn: float [C, kept_columns]: what brings an encoder's C columns onto the kept axes.
        beside_offset, beside_turn: the same for the columns that only the second kernel regression hears.
    """

    offset: Tensor
    turn: Tensor
    beside_offset: Tensor
    beside_turn: Tensor

    def __init__(self, config: AudioToLandmarksConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(Member(config) for _ in range(config.members))
        self.kernel = KernelRegression(
            config.kernel_centres, config.seen_columns, config.mouth_count + 1, config.kernel_group, config.kernel_axes
        )
        columns = config.main_columns if config.kept_columns else 0
        self.register_buffer("offset", torch.zeros(columns))
        self.register_buffer("turn", torch.zeros(columns, config.kept_columns))
        self.beside: KernelRegression | None = None
        if config.beside_columns:
            self.beside = KernelRegression(
                config.kernel_centres, config.beside_kept + OTHER_COLUMNS, config.mouth_count + 1,
                axes=config.beside_axes,
            )  # fmt: skip
            self.register_buffer("beside_offset", torch.zeros(config.beside_columns))
            self.register_buffer("beside_turn", torch.zeros(config.beside_columns, config.beside_kept))

    @property
    def transformers(self) -> list[Member]:
        """`members`, by their type."""
        return [member for member in self.members if isinstance(member, Member)]

    def seen(self, x: Tensor) -> Tensor:
        """Features [..., D] as transformers and the first kernel regression see them, [..., seen_columns]."""
        main, others = x[..., : self.config.main_columns], x[..., -OTHER_COLUMNS:]
        if self.config.kept_columns:
            main = (main - self.offset) @ self.turn
        return torch.cat([main, others], dim=-1)

    def seen_beside(self, x: Tensor) -> Tensor:
        """Features [..., D] as the second kernel regression sees them, [..., beside_kept + OTHER_COLUMNS]."""
        beside, others = x[..., self.config.main_columns : -OTHER_COLUMNS], x[..., -OTHER_COLUMNS:]
        return torch.cat([(beside - self.beside_offset) @ self.beside_turn, others], dim=-1)

    def forward(self, x: Tensor, skip: int = 0) -> Tensor:
        """Predictions from hops with their surroundings.

        Args:
            x: float [B, PAST_HOPS + (T - 1) * stride + LOOK_AHEAD_HOPS + 1, D]; token t stands at hop
                PAST_HOPS + t * stride of it.
            skip: the first tokens, which are not asked for but as the others' past.

        Returns:
            float [B, T - skip, M + 1]: coefficients, then the probability of closed lips. The first
            `past_tokens_total` of the T tokens lack some of their past when sound precedes `x`.
        """
        if not self.config.hear_pitch:
            x = without_pitch(x)
        seen = self.seen(x)
        transformers = torch.stack([network(seen, skip) for network in self.members]).mean(0)
        transformers = torch.cat([transformers[..., :-1], transformers[..., -1:].sigmoid()], dim=-1)
        told = torch.lerp(transformers, self._votes(self.kernel, seen, skip), self.config.kernel_share)
        if self.beside is None:
            return told
        return torch.lerp(told, self._votes(self.beside, self.seen_beside(x), skip), self.config.beside_share)

    def _votes(self, kernel: KernelRegression, x: Tensor, skip: int) -> Tensor:
        votes = kernel(kernel_part(x)[:, skip * self.config.stride_hops :], self.config.stride_hops)
        return torch.cat([votes[..., :-1], votes[..., -1:].clamp(0, 1)], dim=-1)

    def token_count(self, features: np.ndarray) -> int:
        """Tokens of a recording of F hops: `ceil(F / stride)`, token t at hop t * stride."""
        return -(-len(features) // self.config.stride_hops)

    @torch.no_grad()
    def tokens(self, features: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Predictions for tokens [start, stop) of a recording, whatever was asked before.

        Args:
            features: float32 [F, D], hop 0 first. What lies beyond both ends equals the end's hop.

        Returns:
            float32 [stop - start, M + 1].
        """
        self.eval()
        first, stride = max(start - self.config.past_tokens_total, 0), self.config.stride_hops
        hops = np.arange(first * stride - PAST_HOPS, (stop - 1) * stride + LOOK_AHEAD_HOPS + 1)
        x = torch.from_numpy(features[np.clip(hops, 0, len(features) - 1)])
        return self(x[None], start - first)[0].numpy()

    def predict(self, features: np.ndarray, chunk_tokens: int = 512) -> np.ndarray:
        """float32 [token_count, M + 1] for a whole recording; working memory depends on `chunk_tokens` only."""
        total = self.token_count(features)
        parts = [
            self.tokens(features, start, min(start + chunk_tokens, total)) for start in range(0, total, chunk_tokens)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.config.mouth_count + 1), np.float32)


def _windowed(windows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[B, T, width] of windows [B, T, D, taps] under a convolution's weight [width, D, taps]."""
    return functional.linear(windows.flatten(2), weight.flatten(1), bias)


def without_pitch(x: Tensor) -> Tensor:
    """Features [..., D] with pitch and voicing set to 0."""
    return torch.cat([x[..., :-3], torch.zeros_like(x[..., -3:-1]), x[..., -1:]], dim=-1)


def kernel_part(x: Tensor) -> Tensor:
    """Of hops [B, H, D] that the transformers see, those that the kernel regression sees."""
    return x[:, PAST_HOPS - kernel_regression.PAST_HOPS : x.shape[1] - LOOK_AHEAD_HOPS + kernel_regression.AHEAD_HOPS]


@lru_cache(maxsize=64)
def _rotary(count: int, channels: int, device: torch.device) -> Tensor:
    """Cosines and sines [2, count, channels / 2]."""
    # What is kept must serve training, too, whoever asked first.
    with torch.inference_mode(False):
        frequency = 100.0 ** -(torch.arange(channels // 2, device=device) / (channels // 2))
        angle = torch.arange(count, device=device)[:, None] * frequency
        return torch.stack([angle.cos(), angle.sin()])


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Channel pairs turned by their position's angle."""
    a, b = x.chunk(2, dim=-1)
    cosine, sine = rotation
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], dim=-1)


@lru_cache(maxsize=64)
def _sliding_window(count: int, past: int, device: torch.device) -> Tensor:
    """bool [count, count]: which columns (keys) a row (query) may see: itself and `past` before it."""
    with torch.inference_mode(False):
        back = torch.arange(count, device=device)[:, None] - torch.arange(count, device=device)
        return (back >= 0) & (back <= past)
