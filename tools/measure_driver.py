"""Measure what each part of a driver brings: lips driven by sound that was held out, against the clip's, as a table.

Every driver is fitted to the clip's first 10/11 and driven by the sound of the rest. The figures are those of
`avatarfit evaluate` (avatarfit.evaluation.definitions says what each means), in pixels of the clip's own size. Beside
the drivers stand the mean mouth, ridge regression on log-mel bands, and the tracked mouth as the rig can show it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from avatarfit.audio import HOP_SECONDS, SAMPLE_RATE_HZ, SpeechEncoder, speech_features
from avatarfit.audio.named_encoder import BUILT_IN, PLAIN, named_encoder
from avatarfit.capture import ClipFolder
from avatarfit.contracts import AudioClip, AvatarfitError, FaceMotion
from avatarfit.driving import drive
from avatarfit.evaluation.driven import heard, mouth_figures, placed
from avatarfit.evaluation.face_figures import correlation
from avatarfit.evaluation.lip_sound import Sound, energy_offset
from avatarfit.fitting.driver_loss import DriverLossConfig
from avatarfit.fitting.driver_prior import DriverPrior
from avatarfit.fitting.driver_trainer import DriverTrainingConfig, fit_driver
from avatarfit.fitting.speech_augmentation import Voice, as_voice
from avatarfit.media import read_audio, resample
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.rig import closed_gaps_cm, lip_aperture_cm

# A voice, a room and a line that no driver is trained with.
STRANGER = Voice(pitch=1.35, formants=0.94, speed=1.0, reverberation_seconds=0.2, noise_db=-28)
_RIDGES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
_RIDGE_HOPS = np.arange(-10, 10, 2)


@dataclass(frozen=True)
class Options:
    """What to measure."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A clip folder."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Write the table as JSON here, too."""
    prior: Path | None = None
    """A file of `avatarfit fit-driver`: adds a driver that begins with it."""
    features: tuple[str, ...] = ()
    """Other speech features than the built-in ones, as of `avatarfit fit --features`: adds a driver for each."""
    sounds: tuple[Path, ...] = ()
    """Other people's recordings: how lips follow their level, and how far they leave the person's range."""
    only: tuple[str, ...] = ()
    """Names of the fitted drivers to measure; all if not given."""
    seed: int = 0
    """Of the fits."""


class Bench:
    """One clip, split."""

    def __init__(self, folder: Path) -> None:
        self.clip = ClipFolder.open(folder)
        count, whole = self.clip.train_count, self.clip.motion()
        self.rig, self.sound = self.clip.rig(), self.clip.audio()
        self.train, self.test = np.arange(count), np.arange(count, len(self.clip))
        self.motion, self.held = whole[self.train], whole[self.test]
        self.pts = self.held.pts_seconds
        self.truth_cm = self.clip.landmarks_cm[self.test]
        self.truth_px = placed(self.truth_cm, self.held.head, self.clip.camera)
        self.levels = Sound(self.sound)
        self.closed_cm = closed_gaps_cm(lip_aperture_cm(self.clip.landmarks_cm[self.train]))
        self.rate = self.clip.frame_rate_hz

    def fit(
        self, config: DriverTrainingConfig, encoder: SpeechEncoder, prior: DriverPrior | None, seed: int
    ) -> DriverModel:
        """A driver of the training part."""
        return fit_driver(
            self.rig, self.motion, self.clip.landmarks_cm[self.train], self.sound, self.rate, config=config,
            encoder=encoder, prior=prior, seed=seed,
        )  # fmt: skip

    def figures(self, mouth: np.ndarray) -> dict[str, Any]:
        """Of mouths float32 [T, M] at the held-out frames."""
        out = mouth_figures(
            mouth, self.held.face, self.rig, self.held.head, self.clip.camera, self.truth_px, self.truth_cm,
            self.closed_cm, self.pts, self.levels,
        )  # fmt: skip
        out["offset_frames"] = self._offset(self.gap(mouth))
        return out

    def gap(self, mouth: np.ndarray) -> np.ndarray:
        """The lips' gap of mouths at the held-out frames, float64 [T], cm."""
        face = self.held.face
        return lip_aperture_cm(self.rig.landmarks_cm(FaceMotion(mouth, face.upper, face.eyes))).astype(np.float64)

    def _offset(self, gap: np.ndarray) -> float | None:
        """Frames by which the driven lips come later than the true ones, where the two agree best."""
        truth = lip_aperture_cm(self.truth_cm).astype(np.float64)
        found = [correlation(np.roll(gap, -k)[8:-8], truth[8:-8]) for k in range(-8, 9)]
        return None if None in found else float(np.argmax(np.array(found, float)) - 8)

    def driven(self, model: DriverModel, encoder: SpeechEncoder, sound: AudioClip, **options: float) -> np.ndarray:
        """Mouths float32 [T, M] at the held-out frames."""
        motion = drive(model, self.rig, heard(sound, self.pts, self.rate), self.rate, encoder=encoder, **options)  # type: ignore[arg-type]
        columns = [np.interp(self.pts, motion.pts_seconds, column) for column in motion.face.mouth.T]
        return np.stack(columns, axis=1).astype(np.float32)

    def ridge(self, encoder: SpeechEncoder) -> np.ndarray:
        """Linear regression from a window of the same features; its ridge by blocks of the training part."""
        features = speech_features(resample(self.sound, SAMPLE_RATE_HZ), encoder)
        pts = np.concatenate([self.motion.pts_seconds, self.pts])
        hop = np.round((pts - features.start_seconds) / HOP_SECONDS).astype(np.int64)
        rows = np.clip(hop[:, None] + _RIDGE_HOPS, 0, len(features) - 1)
        x = features.values[rows].reshape(len(pts), -1).astype(np.float64)
        count, y = len(self.train), self.motion.face.mouth.astype(np.float64) * self.rig.mouth_deviation_cm
        fold = np.arange(count) // round(6 * self.rate) % 3

        def told(inside: np.ndarray, at: np.ndarray, ridge: float) -> np.ndarray:
            middle, mean = x[inside].mean(0), y[inside].mean(0)
            z = x[inside] - middle
            weights = np.linalg.solve(z.T @ z + ridge * np.eye(z.shape[1]), z.T @ (y[inside] - mean))
            return (x[at] - middle) @ weights + mean

        errors = [
            sum(
                np.square(told(np.flatnonzero(fold != k), np.flatnonzero(fold == k), ridge) - y[fold == k]).sum()
                for k in range(3)
            )
            for ridge in _RIDGES
        ]
        best = _RIDGES[int(np.argmin(errors))]
        return (told(np.arange(count), self.test, best) / self.rig.mouth_deviation_cm).astype(np.float32)

    def stranger(self, seed: int) -> AudioClip:
        """The clip's sound as somebody else would say it elsewhere."""
        return as_voice(resample(self.sound, SAMPLE_RATE_HZ), STRANGER, np.random.default_rng(seed))

    def others(self, model: DriverModel, encoder: SpeechEncoder, path: Path) -> dict[str, Any]:
        """Somebody else's voice: the lips' gap against its level, and landmarks against the person's range."""
        sound = read_audio(path)
        motion = drive(model, self.rig, sound, self.rate, encoder=encoder)
        seen = self.rig.mouth_landmarks_cm(self.motion.face.mouth)
        low, high = np.percentile(seen, [0.5, 99.5], axis=0)
        mine = self.rig.mouth_landmarks_cm(motion.face.mouth)
        beyond = np.maximum(mine - high, low - mine) / np.maximum(high - low, 1e-6)
        levels = Sound(sound)
        gap = lip_aperture_cm(self.rig.landmarks_cm(motion.face)).astype(np.float64)
        best = energy_offset(motion.pts_seconds, gap, levels)
        return {
            "energy_r": correlation(gap, levels.at(levels.level, motion.pts_seconds)),
            "best_energy_r": best and best["r"], "best_energy_offset_s": best and best["offset_s"],
            "farthest_beyond_range": float(beyond.max()), "gap_deviation_cm": float(gap.std()),
            "gap_deviation_of_clip_cm": float(lip_aperture_cm(self.clip.landmarks_cm[self.train]).std()),
        }  # fmt: skip


def configs(options: Options) -> Iterator[tuple[str, DriverTrainingConfig, SpeechEncoder, DriverPrior | None]]:
    """The drivers to fit."""
    full, usual = DriverTrainingConfig(), named_encoder(BUILT_IN)
    alone = replace(full, kernel_share=0.0, beside_share=0.0)
    yield "full", full, usual, None
    yield "log-mel alone", full, named_encoder(PLAIN), None
    yield "no pitch", replace(full, hear_pitch=False), usual, None
    yield "no other voices", replace(full, voices=()), usual, None
    yield "no closure loss", replace(full, loss=DriverLossConfig(closed_gap_weight=0, closure_weight=0)), usual, None
    yield "transformers only", alone, usual, None
    yield "kernels only", replace(full, kernel_share=1.0), usual, None
    if options.prior is not None:
        prior = DriverPrior.load(options.prior)
        yield "prior", full, usual, prior
        yield "prior, transformers only", alone, usual, prior
    for name in options.features:
        yield name, full, named_encoder(name), None


def measure(options: Options) -> dict[str, Any]:
    """The table, name by name."""
    bench = Bench(options.folder)
    mouths = bench.held.face.mouth
    table: dict[str, dict[str, Any]] = {}

    def add(name: str, figures: dict[str, Any]) -> None:
        table[name] = {k: None if v is None else round(float(v), 4) for k, v in figures.items()}
        print(f"{name:34s}", *(f"{k} {v}" for k, v in table[name].items()), flush=True)

    add("truth, as the rig shows it", bench.figures(mouths))
    add("mean mouth", bench.figures(np.zeros_like(mouths)))
    add("ridge", bench.figures(bench.ridge(named_encoder(PLAIN))))
    stranger = bench.stranger(options.seed)
    for name, config, encoder, prior in configs(options):
        if options.only and name not in options.only:
            continue
        began = time.monotonic()
        model = bench.fit(config, encoder, prior, options.seed)
        seconds = time.monotonic() - began
        shown = replace(model, closed=None) if name == "no closure loss" else model
        add(name, bench.figures(bench.driven(shown, encoder, bench.sound)) | {"fit_seconds": seconds})
        add(f"{name}: a stranger's voice", bench.figures(bench.driven(shown, encoder, stranger)))
        if name != "full":
            continue
        free = replace(model, closed=None)
        add("no embedding", bench.figures(bench.driven(free, encoder, bench.sound, lle_strength=0.0)))
        add("embedding, lips not closed", bench.figures(bench.driven(free, encoder, bench.sound)))
        for strength in (0.0, 1.0):
            mouth = bench.driven(model, encoder, bench.sound, lle_strength=strength)
            add(f"embedding strength {strength:g}", bench.figures(mouth))
        for strength in (1.0, 1.4):
            mouth = bench.driven(model, encoder, bench.sound, lip_strength=strength)
            add(f"lip strength {strength:g}", bench.figures(mouth))
        add("variation 1", bench.figures(bench.driven(model, encoder, bench.sound, variation=1.0)))
        for path in options.sounds:
            add(path.name, bench.others(model, encoder, path))
    return {"clip": str(options.folder), "held_out_frames": len(bench.test), "closed_gaps_cm": bench.closed_cm} | {
        "table": table
    }


def main(options: Options) -> int:
    """Print the table and write it as JSON; 0 on success, an error's exit code otherwise."""
    try:
        report = measure(options)
    except AvatarfitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if options.output is not None:
        options.output.write_text(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
