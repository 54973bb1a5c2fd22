"""How near a fitted performer over the true background comes to the true picture, and its alpha to the true one.

    python tools/measure_compositing.py -o table.json [--size 512] [--seconds 12] [--steps 6000] [--gaussians 25000]

The synthetic performer is filmed without a codec, Gaussians are fitted to every second frame with the truth's own
motion and masks, and frames in between are drawn and composed over the background that was truly there. So nothing but
fitting, drawing and compositing is measured. PSNR is of neck and torso in the true labels, and of those of them that
lie on the outline, on the border with the head, and farther inside.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from avatarfit.capture.clip_folder import BACKGROUND, HEAD, NECK, TORSO
from avatarfit.compositing import Backdrop, Compositor, Still
from avatarfit.contracts import Motion
from avatarfit.contracts.events import Event, Progress
from avatarfit.fitting.frame_store import WEIGHT_SCALE, FrameStore
from avatarfit.fitting.gaussian_settings import GaussianSettings
from avatarfit.fitting.gaussian_trainer import GaussianTrainer
from avatarfit.model.rig import Rig, lip_aperture_cm
from avatarfit.model.torso_modes import TorsoModes
from avatarfit.performer.performer import Performer, Rendering
from avatarfit.rendering.gaussian_renderer import GaussianRenderer

RATE, BACKGROUND_WEIGHT = 25.0, 0.05
WANTED_PSNR_DB, WANTED_ALPHA_ERROR = 38.0, 0.02
_EQUAL = 255**2 * 1e-10
"""Square error that counts as none: 100 dB."""
_NEAR = 0.008
"""Width of outline and border, in heights of the picture."""


def regions(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Neck and torso, bool [H, W] each: all, on the outline, by the head, and the rest."""
    reach = max(round(_NEAR * len(labels)), 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    body = np.isin(labels, (NECK, TORSO))
    outline, by_head = (
        body & (cv2.dilate(np.isin(labels, which).astype(np.uint8), disc) > 0) for which in ((BACKGROUND,), HEAD)
    )
    return {"body": body, "outline": outline, "by_head": by_head & ~outline, "inside": body & ~outline & ~by_head}


def judged(
    draw: Callable[[int], np.ndarray], truths: Iterator[tuple[int, Rendering]], plate: np.ndarray
) -> dict[str, float]:
    """PSNR of each region in dB, of the mean square error over all frames, and the mean difference of alpha.

    Args:
        draw: gives a frame, float32 [H, W, 4], premultiplied.
        truths: frames and what they truly are.
        plate: uint8 [H, W, 3].
    """
    compositor = Compositor(Backdrop(Still(plate)))
    squares: dict[str, list[np.ndarray]] = {}
    apart = []
    for index, truth in truths:
        rgba = draw(index)
        apart.append(np.abs(rgba[..., 3] - truth.alpha).mean())
        picture = compositor.compose(rgba, index, index / RATE)
        error = np.square(picture.astype(np.float32) - truth.rgb).mean(axis=2)
        for name, region in regions(truth.labels).items():
            squares.setdefault(name, []).append(error[region])
    found = {
        f"{name}_psnr_db": round(float(10 * np.log10(255**2 / max(np.concatenate(parts).mean(), _EQUAL))), 3)
        for name, parts in squares.items()
    }
    return found | {"alpha_error": round(float(np.mean(apart)), 5)}


def main() -> int:
    """Films, fits, judges and writes; 1 where what is wanted is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=12.0, help="of the performer")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--gaussians", type=int, default=25_000)
    parser.add_argument("--frames", type=int, default=20, help="so many held-out frames are judged")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    performer = Performer(asked.seed, asked.size)
    take = performer.performance(asked.seconds, RATE, asked.seed)
    points = take.landmarks_cm.astype(np.float32)
    motion = Motion(take.pts_seconds, Rig.fit(points).encode(points), take.head, take.torso)

    fitted = np.arange(0, len(take), 2)
    pictures = [performer.render(take, int(index)) for index in fitted]
    person = np.stack([np.rint(255 * p.alpha).astype(np.uint8) for p in pictures])
    store = FrameStore(
        performer.camera, np.stack([p.rgb for p in pictures]), person, np.stack([p.labels for p in pictures]),
        np.where(person > 0, WEIGHT_SCALE, round(BACKGROUND_WEIGHT * WEIGHT_SCALE)).astype(np.uint8),
        np.arange(len(fitted)),
    )  # fmt: skip
    del pictures
    print(f"{len(store)} frames filmed at {asked.size} px", flush=True)

    def tell(event: Event) -> None:
        if isinstance(event, Progress) and event.step % 500 == 0:
            print(f"step {event.step} of {event.total}", flush=True)

    began = time.process_time()
    gaussians = GaussianTrainer(
        motion[fitted], points[fitted], lip_aperture_cm(points[fitted]), store, performer.plate, TorsoModes.none(),
        GaussianSettings(count=asked.gaussians, steps=asked.steps, minutes=None, seed=asked.seed), on_event=tell,
    ).run()  # fmt: skip
    renderer = GaussianRenderer(gaussians, performer.camera)
    between = np.arange(1, len(take), 2)
    chosen = between[np.linspace(0, len(between) - 1, asked.frames).round().astype(int)].tolist()
    found = judged(
        lambda index: renderer.render(motion, index),
        ((index, performer.render(take, index)) for index in chosen), performer.plate,
    )  # fmt: skip
    report = {
        "size": asked.size, "seconds": asked.seconds, "steps": asked.steps, "gaussians": gaussians.count,
        "fit_processor_seconds": round(time.process_time() - began, 1), "frames": len(chosen), **found,
        "wanted": {"body_psnr_db": WANTED_PSNR_DB, "alpha_error": WANTED_ALPHA_ERROR},
    }  # fmt: skip
    asked.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))
    return int(found["body_psnr_db"] < WANTED_PSNR_DB or found["alpha_error"] > WANTED_ALPHA_ERROR)


if __name__ == "__main__":
    raise SystemExit(main())
