"""Train the speech encoder on espeak-ng's speech: `python tools/train_speech_encoder.py -o encoder.safetensors`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from articulation import MOUTH_NAMES, SOUNDS, targets
from espeak_speech import (
    HELD_OUT_LANGUAGES,
    HELD_OUT_VARIANTS,
    LANGUAGES,
    VARIANTS,
    Espeak,
    made_up_text,
)
from safetensors.torch import save_file
from scipy.signal import resample_poly
from spoil_speech import shaped, spoil, vary_bands

from avatarfit.audio.log_mel import BAND_COUNT, HOP_SAMPLES, SAMPLE_RATE_HZ, log_mel
from avatarfit.audio.phoneme_encoder import Leveller, PhonemeNetwork, PhonemeNetworkConfig
from avatarfit.contracts import AvatarfitError

_RATE = 2e-3


@dataclass(frozen=True)
class Options:
    """What to train."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The safetensors file to write."""
    hours: float = 5.0
    """Speech to learn from."""
    held_out_hours: float = 0.15
    """Speech in other languages by other voices, once spoiled and once clean, to tell the accuracy by."""
    cycles: tuple[tuple[int, int], ...] = ((900, 16), (1500, 16))
    """Steps and windows of 2 s a step; the learning rate begins anew with each (Loshchilov & Hutter 2017), and after
    each the file is written."""
    seed: int = 1


@dataclass(frozen=True)
class Recording:
    """Speech of one voice: log powers float16 [F, BAND_COUNT], mouths and sounds uint8 [F]."""

    bands: np.ndarray
    mouths: np.ndarray
    sounds: np.ndarray


def record(espeak: Espeak, voice: str, random: np.random.Generator, seconds: float, rough: bool) -> Recording:
    """One voice saying made-up text, with pauses, then spoiled if `rough`."""
    language = voice.split("+")[0]
    words, pitch, spread = int(random.integers(110, 260)), int(random.integers(10, 95)), int(random.integers(15, 95))
    speed = float(np.exp(random.uniform(-0.22, 0.22))) if rough else 1.0
    waves, mouths, sounds = [], [], []
    total = 0.0
    while total < seconds:
        said = espeak.say(made_up_text(espeak, language, random), voice, words, pitch, spread)
        if not len(said.samples):
            continue
        rate = said.rate_hz * speed
        mouth, sound = targets(said.phonemes, said.samples, rate)
        count = len(mouth)
        at = np.arange(count * HOP_SAMPLES) * (rate / SAMPLE_RATE_HZ)
        wave = resampled(said.samples, at)
        pause = int(random.integers(0, 60))
        waves += [wave, np.zeros(pause * HOP_SAMPLES, np.float32)]
        mouths += [mouth, np.zeros(pause, np.uint8)]
        sounds += [sound, np.zeros(pause, np.uint8)]
        total += (count + pause) / 100
    wave = np.concatenate(waves)
    wave = spoil(wave, random) if rough else wave
    return Recording(log_mel(wave).astype(np.float16), np.concatenate(mouths), np.concatenate(sounds))


def resampled(samples: np.ndarray, at: np.ndarray) -> np.ndarray:
    """`samples` at fractional positions; what the slower of the two rates cannot hold is taken out before."""
    step = float(at[1] - at[0])
    clean = shaped(samples, lambda hz: (hz < 0.49 * SAMPLE_RATE_HZ).astype(np.float64), SAMPLE_RATE_HZ * step)
    fine = resample_poly(clean, 4, 1)
    return np.interp(4 * at, np.arange(len(fine)), fine, right=0).astype(np.float32)


def recordings(
    espeak: Espeak, languages: tuple[str, ...], variants: tuple[str, ...], hours: float, seed: int, rough: bool
) -> list[Recording]:
    """So many hours of random voices, each about 15 s."""
    random = np.random.default_rng(seed)
    out, total, wanted = [], 0.0, hours * 3600
    while total < wanted:
        voice = f"{random.choice(languages)}+{random.choice(variants)}"
        out.append(record(espeak, voice, random, 12.0, rough))
        total += len(out[-1].mouths) / 100
    return out


def usual_spectrum(recorded: list[Recording]) -> np.ndarray:
    """float32 [BAND_COUNT]: the mean of speech's bands less the level of each recording's loud parts."""
    found = []
    for r in recorded:
        bands = r.bands.astype(np.float32)
        level = np.logaddexp.reduce(bands, axis=1) - np.log(BAND_COUNT)
        loud = np.percentile(level, 98)
        found.append(np.maximum(bands[level > loud - 6] - loud, -12).mean(0))
    return np.mean(found, axis=0).astype(np.float32)


def levelled(recorded: list[Recording], spectrum: np.ndarray) -> list[np.ndarray]:
    """float16 [F, BAND_COUNT] of each recording, the network's input."""
    return [Leveller(spectrum).push(r.bands.astype(np.float32)).astype(np.float16) for r in recorded]


def batch(
    inputs: list[np.ndarray], recorded: list[Recording], hops: int, count: int, config: PhonemeNetworkConfig,
    random: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Varied input [B, BAND_COUNT, past + hops + ahead] and classes int64 [B, hops], twice."""
    xs, mouths, sounds = [], [], []
    length = config.past_hops + hops + config.look_ahead_hops
    for _ in range(count):
        which = int(random.integers(len(inputs)))
        start = int(random.integers(len(inputs[which]) - length + 1))
        xs.append(inputs[which][start : start + length].astype(np.float32))
        middle = slice(start + config.past_hops, start + config.past_hops + hops)
        mouths.append(recorded[which].mouths[middle])
        sounds.append(recorded[which].sounds[middle])
    x = vary_bands(torch.from_numpy(np.stack(xs)).transpose(1, 2), random)
    return x, torch.from_numpy(np.stack(mouths).astype(np.int64)), torch.from_numpy(np.stack(sounds).astype(np.int64))


def train(
    network: PhonemeNetwork, inputs: list[np.ndarray], recorded: list[Recording], steps: int, windows: int, seed: int
) -> None:
    """AdamW (Loshchilov & Hutter 2019); the rate rises for 50 steps and falls by a cosine."""
    random = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.02)
    network.train()
    smoothed = np.zeros(3)
    for step in range(steps):
        done = step / steps
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / 50) * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * done)))
        x, mouths, sounds = batch(inputs, recorded, 200, windows, network.config, random)
        _, mouth, sound = network(x)
        mouth_loss = torch.nn.functional.cross_entropy(mouth, mouths, label_smoothing=0.05)
        sound_loss = torch.nn.functional.cross_entropy(sound, sounds, label_smoothing=0.05)
        loss = mouth_loss + 0.5 * sound_loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        right = float((mouth.argmax(1) == mouths).float().mean())
        now = np.array([float(mouth_loss.detach()), float(sound_loss.detach()), right])
        smoothed = now if step == 0 else 0.97 * smoothed + 0.03 * now
        if (step + 1) % 50 == 0:
            told = f"mouth {smoothed[0]:.3f}, sound {smoothed[1]:.3f}, right {smoothed[2]:.3f}"
            print(f"{step + 1}/{steps}: {told}", flush=True)


@torch.no_grad()
def accuracy(network: PhonemeNetwork, inputs: list[np.ndarray], recorded: list[Recording]) -> dict[str, float]:
    """Share of hops whose mouth and phoneme are right, and recall and precision of closed lips."""
    network.eval()
    config = network.config
    closed = MOUTH_NAMES.index("closed")
    found, wanted, sounds, true_sounds = [], [], [], []
    for x, r in zip(inputs, recorded, strict=True):
        padded = np.pad(
            x.astype(np.float32), ((config.past_hops, config.look_ahead_hops), (0, 0)), constant_values=-4.0
        )
        _, mouth, sound = network(torch.from_numpy(padded.T[None].copy()))
        found.append(mouth[0].argmax(0).numpy())
        sounds.append(sound[0].argmax(0).numpy())
        wanted.append(r.mouths)
        true_sounds.append(r.sounds)
    f, w, s, t = (np.concatenate(v) for v in (found, wanted, sounds, true_sounds))
    speech = w != 0
    return {
        "mouth": float((f == w).mean()),
        "mouth_in_speech": float((f == w)[speech].mean()),
        "phoneme": float((s == t).mean()),
        "phoneme_in_speech": float((s == t)[speech].mean()),
        "closed_recall": float((f == closed)[w == closed].mean()),
        "closed_precision": float((w == closed)[f == closed].mean()),
    }


def main(options: Options) -> int:
    """Make the speech, then train, measure and write in each cycle; 0 on success, an error's exit code otherwise."""
    try:
        espeak = Espeak()
    except AvatarfitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    heard = recordings(espeak, LANGUAGES, VARIANTS, options.hours, options.seed, True)
    spectrum = usual_spectrum(heard)
    inputs = levelled(heard, spectrum)
    others = {
        name: recordings(
            espeak, HELD_OUT_LANGUAGES, HELD_OUT_VARIANTS, options.held_out_hours, options.seed + 1, name == "spoiled"
        )
        for name in ("spoiled", "clean")
    }
    network = PhonemeNetwork(PhonemeNetworkConfig(len(MOUTH_NAMES), len(SOUNDS)))
    recipe = {
        "tool": "tools/train_speech_encoder.py", "espeak_ng": espeak.version.decode(), "seed": options.seed,
        "hours": options.hours, "languages": LANGUAGES, "variants": VARIANTS,
        "held_out_languages": HELD_OUT_LANGUAGES, "held_out_variants": HELD_OUT_VARIANTS,
    }  # fmt: skip
    for number, (steps, windows) in enumerate(options.cycles):
        train(network, inputs, heard, steps, windows, options.seed + number)
        told = {
            name: {key: round(v, 4) for key, v in accuracy(network, levelled(r, spectrum), r).items()}
            for name, r in others.items()
        }
        write(options.output, network, spectrum, recipe | {"cycles": options.cycles[: number + 1]}, told)
        print(json.dumps(told, indent=1), flush=True)
    return 0


def write(
    path: Path, network: PhonemeNetwork, spectrum: np.ndarray, recipe: dict[str, object],
    told: dict[str, dict[str, float]],
) -> None:  # fmt: skip
    """The file that `load_phoneme_encoder` reads."""
    save_file(
        network.state_dict() | {"spectrum": torch.from_numpy(spectrum)},
        path,
        {
            "config": json.dumps(asdict(network.config)), "mouths": json.dumps(MOUTH_NAMES),
            "sounds": json.dumps(SOUNDS), "recipe": json.dumps(recipe), "held_out_accuracy": json.dumps(told),
        },
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
