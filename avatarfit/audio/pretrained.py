"""HuBERT, wav2vec2 and Whisper's encoder as transformers holds them, from a folder or from the hub.

transformers is optional (`pip install avatarfit[speech]`) and imported only when such features are asked for.

HuBERT: Hsu et al. 2021. wav2vec 2.0: Baevski et al. 2020. Whisper: Radford et al. 2022.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatarfit.audio.log_mel import HOP_SAMPLES, SAMPLE_RATE_HZ
from avatarfit.audio.sound_windows import FRAME_SAMPLES
from avatarfit.contracts import InputError

KINDS = {"hubert": "HubertModel", "wav2vec2": "Wav2Vec2Model", "whisper": "WhisperModel"}
"""transformers' model_type and the class that holds it."""
_RECEPTIVE_SAMPLES = 400
_LARGEST = 10.0
_WANTED = "a HuBERT, wav2vec2 or Whisper checkpoint as transformers saves it"


@dataclass(frozen=True)
class Pretrained:
    """A network that was loaded.

    Attributes:
        kind: of `KINDS`.
        model: the encoder, in evaluation mode.
        layer: whose output is taken, 1 for the first.
        column_count: of a frame.
        window_samples: 0, or how long every window must be (Whisper).
        frame_centre: samples from the window's start to the middle of the first frame.
        weights_hash: of all weights, 16 hexadecimal digits.
        level_samples: the samples of a window are brought to mean 0 and variance 1 first.
        extractor: Whisper's own mel bands, else None.
    """

    kind: str
    model: Any
    layer: int
    column_count: int
    window_samples: int
    frame_centre: float
    weights_hash: str
    level_samples: bool
    extractor: Any

    def frames(self, samples: np.ndarray) -> np.ndarray:
        """float32 [n] at 16 kHz -> float32 [J, column_count], a frame every 20 ms, each of mean 0 and variance 1.

        Layers grow through such a network and few columns would outshout the rest; so every frame is levelled
        (layer normalisation, Ba et al. 2016, without weights), and columns beyond 10 are held there.
        """
        with torch.inference_mode():
            hidden = self._hidden(samples).float().numpy()
        hidden = hidden - hidden.mean(1, keepdims=True)
        levelled = hidden / np.sqrt(np.square(hidden).mean(1, keepdims=True) + 1e-8)
        return np.clip(levelled, -_LARGEST, _LARGEST).astype(np.float32)

    def _hidden(self, samples: np.ndarray) -> torch.Tensor:
        if self.kind == "whisper":
            wanted = min(-(-len(samples) // FRAME_SAMPLES), self.window_samples // FRAME_SAMPLES)
            padded = np.pad(samples, (0, self.window_samples - len(samples)))
            mel = self.extractor(padded, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_features
            return self.model(mel, output_hidden_states=True).hidden_states[self.layer][0, :wanted]
        padded = np.pad(samples, (0, max(_RECEPTIVE_SAMPLES - len(samples), 0))).astype(np.float64)
        if self.level_samples:
            padded = (padded - padded.mean()) / np.sqrt(padded.var() + 1e-7)
        given = torch.from_numpy(padded.astype(np.float32))[None]
        return self.model(given, output_hidden_states=True).hidden_states[self.layer][0]


def load_pretrained(source: str | Path, layer: int | None = None) -> Pretrained:
    """A checkpoint's encoder.

    Args:
        source: a folder with config.json and weights, or a name on the hub such as facebook/hubert-base-ls960. With
            HF_HUB_OFFLINE=1 in the environment a name is only looked for among what was fetched before.
        layer: whose output, 1 to the network's depth. None: three quarters of the depth, where phonemes show best
            (Pasad, Chou & Livescu 2021); Whisper's last.

    Raises:
        InputError: transformers is not installed; there is no such folder, name or layer; it is another network, at
            another sample rate, or its weights are not all there.
    """
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            "transformers is not installed, which HuBERT, wav2vec2 and Whisper need", "it beside avatarfit",
            "run: pip install 'avatarfit[speech]'",
        ) from error  # fmt: skip
    is_folder = _is_folder(source)
    name = str(source)
    with _quiet(transformers):
        settings = _settings(transformers, name, is_folder)
        kind = settings.model_type
        try:
            model, told = getattr(transformers, KINDS[kind]).from_pretrained(
                name, output_loading_info=True, local_files_only=is_folder
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{name} holds no weights that can be read ({_first_line(error)})", _WANTED, _mend(is_folder)
            ) from error
    missing = sorted(key for key in told["missing_keys"] if "masked_spec_embed" not in key)
    if missing:
        raise InputError(
            f"{name} lacks {len(missing)} of its weights, {missing[0]} among them", _WANTED, "fetch it again"
        )
    # Half precision is how some are stored, not how a processor computes.
    model = (model.encoder if kind == "whisper" else model).float().eval().requires_grad_(False)
    depth = settings.encoder_layers if kind == "whisper" else settings.num_hidden_layers
    usual = depth if kind == "whisper" else max(round(0.75 * depth), 1)
    layer = usual if layer is None else layer
    if not 1 <= layer <= depth:
        raise InputError(f"layer {layer} of {name} was asked for", f"1 to {depth}", "choose one of these")
    rate, level, extractor = _front(transformers, settings, Path(name) if is_folder else None, name)
    if rate != SAMPLE_RATE_HZ:
        raise InputError(f"{name} takes sound at {rate} Hz", f"{SAMPLE_RATE_HZ} Hz", "take another checkpoint")
    whisper = kind == "whisper"
    return Pretrained(
        kind, model, layer,
        settings.d_model if whisper else settings.hidden_size,
        settings.max_source_positions * FRAME_SAMPLES if whisper else 0,
        0.0 if whisper else _RECEPTIVE_SAMPLES / 2,
        _hash(model, settings), level, extractor,
    )  # fmt: skip


def _is_folder(source: str | Path) -> bool:
    """Whether `source` is a folder; a name on the hub has at most one slash and no such folder beside it."""
    path = Path(source)
    if path.is_dir():
        return True
    text = str(source)
    if isinstance(source, Path) or path.is_absolute() or text.startswith((".", "~")) or text.count(os.sep) > 1:
        raise InputError(f"There is no folder {source}", _WANTED, "check the path, or give a name on the hub")
    return False


def _settings(transformers: Any, name: str, is_folder: bool) -> Any:
    try:
        settings = transformers.AutoConfig.from_pretrained(name, local_files_only=is_folder)
    except (OSError, ValueError, KeyError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
        where = "in this folder" if is_folder else "among what was fetched before" if offline else "on the hub or here"
        raise InputError(
            f"{name} is no speech network {where} ({_first_line(error)})", _WANTED, _mend(is_folder)
        ) from error
    if settings.model_type not in KINDS:
        raise InputError(f"{name} is a network of type {settings.model_type}", _WANTED, "take one of these")
    return settings


def _front(transformers: Any, settings: Any, folder: Path | None, name: str) -> tuple[int, bool, Any]:
    """Sample rate, whether samples are levelled, and Whisper's extractor."""
    try:
        told = transformers.FeatureExtractionMixin.get_feature_extractor_dict(
            name if folder is None else str(folder), local_files_only=folder is not None
        )[0]
    except (OSError, json.JSONDecodeError):
        # A checkpoint may come without: then the papers' own, 16 kHz and levelled sound.
        told = {}
    rate = int(told.get("sampling_rate", SAMPLE_RATE_HZ))
    if settings.model_type != "whisper":
        strides = int(np.prod(settings.conv_stride))
        if strides != FRAME_SAMPLES:
            raise InputError(f"{name} makes a frame every {strides} samples", f"{FRAME_SAMPLES}", "take another one")
        return rate, bool(told.get("do_normalize", True)), None
    seconds = settings.max_source_positions * FRAME_SAMPLES // SAMPLE_RATE_HZ
    extractor = transformers.WhisperFeatureExtractor(
        feature_size=settings.num_mel_bins, hop_length=HOP_SAMPLES, chunk_length=seconds
    )
    return rate, False, extractor


def _hash(model: torch.nn.Module, settings: Any) -> str:
    """Of the encoder's weights and of what shapes their use."""
    total = hashlib.sha256(settings.model_type.encode())
    for key, weights in sorted(model.state_dict().items()):
        total.update(f"{key} {tuple(weights.shape)} {weights.dtype}".encode())
        total.update(weights.contiguous().view(torch.uint8).numpy().data if weights.ndim else bytes(weights.numpy()))
    return total.hexdigest()[:16]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")[:200]


def _mend(is_folder: bool) -> str:
    if is_folder:
        return "fetch the checkpoint again into this folder"
    return "check the name and the network, or fetch it elsewhere and give its folder"


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without transformers' own bars and warnings; ours say what matters."""
    logging = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
