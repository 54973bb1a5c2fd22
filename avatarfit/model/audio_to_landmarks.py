"""Speech features to mouth-and-jaw motion: the mean of small transformers and of a kernel regression.

They see at most `LOOK_AHEAD_HOPS` (90 ms) of features after the moment they speak of, all of it in the first
convolutions, and a limited past; attention itself looks only backwards through a sliding window. So long sound runs in
chunks of constant memory, and a chunk with its past in front gives what the whole would.

Attention: Vaswani et al. 2017, pre-normalised; position: rotary (Su et al. 2021). Output: coefficients of the rig.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from avatarfit.model import kernel_regression
from avatarfit.model.kernel_regression import KernelRegression

LOOK_AHEAD_HOPS = 9
"""With the 20 ms that log-mel features and pitch look ahead, and up to 10 ms from a frame to the next hop: 120 ms."""
PAST_HOPS = 23
_MOST_LAYERS = 64


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
    layers: int = 2
    heads: int = 4
    past_tokens: int = 12
    """Tokens before itself that a token attends to, in each layer."""
    members: int = 3
    """Transformers whose predictions are averaged; each was trained from its own random start."""
    kernel_centres: int = 0
    """Moments of the clip in the kernel regression."""
    kernel_share: float = 0.5
    """Weight of the kernel regression in the mean, 0 to 1; the transformers have the rest."""
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the heads ({self.heads})")
        if min(self.stride_hops, self.layers, self.past_tokens, self.members) < 1:
            raise ValueError("stride_hops, layers, past_tokens and members must be at least 1")
        if self.layers > _MOST_LAYERS or self.members > _MOST_LAYERS:
            raise ValueError(f"layers and members must be at most {_MOST_LAYERS}")

    @property
    def past_tokens_total(self) -> int:
        """Tokens before a prediction that can change it, through all layers."""
        return self.layers * self.past_tokens

    def as_dict(self) -> dict[str, int | float]:
        """JSON-able."""
        return asdict(self)


class FrontEnd(nn.Module):
    """Hops to tokens. Token t sees hops [t * stride - PAST_HOPS, t * stride + LOOK_AHEAD_HOPS]."""

    def __init__(self, config: AudioToLandmarksConfig) -> None:
        super().__init__()
        width, self.stride = config.width, config.stride_hops
        # Five taps, then fifteen of dilation 2: 4 + 28 hops, exactly PAST_HOPS + LOOK_AHEAD_HOPS.
        self.near = nn.Conv1d(config.feature_count, width, 5)
        self.far = nn.Conv1d(width, width, 15, stride=self.stride, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, PAST_HOPS + (T - 1) * stride + LOOK_AHEAD_HOPS + 1, D] -> [B, T, width]."""
        x = functional.gelu(self.near(x.transpose(1, 2)))
        return self.far(x).transpose(1, 2)


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

    def forward(self, x: Tensor, rotation: Tensor, allowed: Tensor) -> Tensor:
        """[B, T, width] -> the same; `rotation` [2, T, width / heads / 2], `allowed` bool [T, T]."""
        batch, count, width = x.shape
        qkv = self.query_key_value(self.before_attention(x)).view(batch, count, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(
            _rotate(query, rotation), _rotate(key, rotation), value, allowed
        )
        x = x + self.dropout(self.out(attended.transpose(1, 2).reshape(batch, count, width)))
        return x + self.dropout(self.perceptron(self.before_perceptron(x)))


class Member(nn.Module):
    """One network: front end, layers, output."""

    def __init__(self, config: AudioToLandmarksConfig) -> None:
        super().__init__()
        self.config = config
        self.front = FrontEnd(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, config.mouth_count)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Hops [B, H, D] -> [B, T, M]."""
        x = self.front(x)
        rotation = _rotary(x.shape[1], self.config.width // self.config.heads, x.device)
        allowed = _sliding_window(x.shape[1], self.config.past_tokens, x.device)
        for layer in self.layers:
            x = layer(x, rotation, allowed)
        return self.out(self.norm(x))


class AudioToLandmarks(nn.Module):
    """Speech features -> mouth coefficients, `100 / stride_hops` times a second."""

    def __init__(self, config: AudioToLandmarksConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(Member(config) for _ in range(config.members))
        self.kernel = KernelRegression(config.kernel_centres, config.feature_count, config.mouth_count)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions from hops with their surroundings.

        Args:
            x: float [B, PAST_HOPS + (T - 1) * stride + LOOK_AHEAD_HOPS + 1, D]; token t stands at hop
                PAST_HOPS + t * stride of it.

        Returns:
            float [B, T, M]; the first `past_tokens_total` tokens lack some of their past when sound precedes `x`.
        """
        kernel_x = x[:, PAST_HOPS - kernel_regression.PAST_HOPS :]
        kernel_x = kernel_x[:, : kernel_x.shape[1] - (LOOK_AHEAD_HOPS - kernel_regression.AHEAD_HOPS)]
        transformers = torch.stack([network(x) for network in self.members]).mean(0)
        return torch.lerp(transformers, self.kernel(kernel_x, self.config.stride_hops), self.config.kernel_share)

    def token_count(self, features: np.ndarray) -> int:
        """Tokens of a recording of F hops: `ceil(F / stride)`, token t at hop t * stride."""
        return -(-len(features) // self.config.stride_hops)

    @torch.no_grad()
    def tokens(self, features: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Predictions for tokens [start, stop) of a recording, whatever was asked before.

        Args:
            features: float32 [F, D], hop 0 first. What lies beyond both ends equals the end's hop.

        Returns:
            float32 [stop - start, M].
        """
        self.eval()
        first, stride = max(start - self.config.past_tokens_total, 0), self.config.stride_hops
        hops = np.arange(first * stride - PAST_HOPS, (stop - 1) * stride + LOOK_AHEAD_HOPS + 1)
        x = torch.from_numpy(features[np.clip(hops, 0, len(features) - 1)])
        return self(x[None])[0, start - first :].numpy()

    def predict(self, features: np.ndarray, chunk_tokens: int = 512) -> np.ndarray:
        """float32 [token_count, M] for a whole recording; working memory depends on `chunk_tokens` only."""
        total = self.token_count(features)
        parts = [
            self.tokens(features, start, min(start + chunk_tokens, total)) for start in range(0, total, chunk_tokens)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.config.mouth_count), np.float32)


def _rotary(count: int, channels: int, device: torch.device) -> Tensor:
    """Cosines and sines [2, count, channels / 2]."""
    frequency = 100.0 ** -(torch.arange(channels // 2, device=device) / (channels // 2))
    angle = torch.arange(count, device=device)[:, None] * frequency
    return torch.stack([angle.cos(), angle.sin()])


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Channel pairs turned by their position's angle."""
    a, b = x.chunk(2, dim=-1)
    cosine, sine = rotation
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], dim=-1)


def _sliding_window(count: int, past: int, device: torch.device) -> Tensor:
    """bool [count, count]: which columns (keys) a row (query) may see: itself and `past` before it."""
    back = torch.arange(count, device=device)[:, None] - torch.arange(count, device=device)
    return (back >= 0) & (back <= past)
