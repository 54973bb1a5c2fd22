"""Measures the parsing of a clip folder and prints JSON.

Flicker by landmarks: of two pictures that follow one another, the labels of the first are moved to the second, the rows
above the chin by the affine map that best takes the head's rigid landmarks along (least squares over all of them), the
rows below by the torso's map; each pixel takes the label that lies nearest to where it comes from. The share of all
pixels whose label then differs is the pair's flicker, in percent. Motion within the head (lips, lids) and rounding to
whole pixels count as flicker, too; `flicker_floor_percent` says what rounding alone makes: the same labels, moved in
two steps of half the way, compared with the same moved in one. Where pictures are missing in the clip, the head jumps;
the figure without such pairs is given beside the one with them.

An affine map of the face is not how a turning head's hair, a dropping jaw or a collar moves, so exact labels flicker by
that figure, too: the synthetic performer's true ones by 0.31 % at 512 pixels, of which 0.19 % are left when they are
moved as the picture moves. That is the flicker by image motion: the first picture's labels are moved by dense optical
flow between the two (Farneback 2003, which nothing in capture uses) instead.

Where the clip is the synthetic performer's (`avatarfit sample-clip`), its truth is rendered again: overlap
(intersection over union) of every label over the sampled pictures, and the mean error of the person's alpha.

    python tools/measure_parsing.py FOLDER [--start N] [--stop N] [--truth CLIP.truth.safetensors] [--every N]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from safetensors import safe_open

from avatarfit.capture import ClipFolder
from avatarfit.capture.clip_folder import BACKGROUND, FACE, HAIR, HEAD, MOUTH_INTERIOR, NECK, TORSO
from avatarfit.capture.face_points import CHIN, RIGID
from avatarfit.capture.picture_maps import between_maps, head_map

JUMP = 0.015
"""A step of the rigid landmarks, in picture widths, that shows that pictures are missing in between."""

NAMES = {
    BACKGROUND: "background", FACE: "face", NECK: "neck", TORSO: "torso", MOUTH_INTERIOR: "mouth_interior",
    HAIR: "hair",
}  # fmt: skip


def torso_maps_px(clip: ClipFolder) -> np.ndarray:
    """float64 [T, 2, 3]: the torso's maps on pixel indices."""
    affine = clip.motion().torso.affine.astype(np.float64)
    center = np.array([clip.camera.center_x_px, clip.camera.center_y_px]) - 0.5
    out = affine.copy()
    out[:, :, 2] = affine[:, :, 2] * clip.camera.focal_px + center - affine[:, :, :2] @ center
    return out


def moved(labels: np.ndarray, head: np.ndarray, torso: np.ndarray, chin_row: int) -> np.ndarray:
    """uint8 [H, W]: labels moved by the head's map above the chin and by the torso's below."""
    height, width = labels.shape
    out, body = (
        cv2.warpAffine(labels, a, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        for a in (head, torso)
    )
    out[chin_row:] = body[chin_row:]
    return out


def half_way(affine: np.ndarray) -> np.ndarray:
    """The map [2, 3] half way between none and this one."""
    return (affine + np.eye(2, 3)) / 2


def image_motion(gray: np.ndarray, former: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [H, W] each, whole numbers: the columns and rows of the former picture [H, W] that this one's came from.

    The flow is found at half the size, where a pixel's place is still surer than to half a pixel.
    """
    height, width = gray.shape
    small = [cv2.resize(g, (width // 2, height // 2), interpolation=cv2.INTER_AREA) for g in (gray, former)]
    start = np.zeros((*small[0].shape, 2), np.float32)
    flow = cv2.calcOpticalFlowFarneback(small[0], small[1], start, 0.5, 5, 13, 3, 7, 1.5, 0)
    flow = cv2.resize(flow, (width, height)) * (width / (width // 2), height / (height // 2))
    rows, columns = np.mgrid[:height, :width]
    return np.rint(columns + flow[..., 0]).astype(np.float32), np.rint(rows + flow[..., 1]).astype(np.float32)


def flicker(clip: ClipFolder, start: int, stop: int) -> dict[str, object]:
    """Figures over the pictures from `start` to before `stop`."""
    torso = torso_maps_px(clip)
    shares, floors, alphas, steps, seen = [], [], [], [], []
    by_label = np.zeros(len(NAMES))
    former: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    grays = (cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY) for frame in clip.frames(start, stop))
    for index, (gray, (alpha, labels)) in enumerate(zip(grays, clip.masks(start, stop), strict=True), start=start):
        if former is not None:
            points = clip.landmarks_px[index - 1 : index + 1]
            head, body = head_map(points[0], points[1]), between_maps(torso[index - 1], torso[index])
            row = int(np.clip(points[1, CHIN, 1], 0, labels.shape[0]))
            steps.append(np.linalg.norm((points[1] - points[0])[RIGID, :2], axis=1).mean() / labels.shape[1])
            once = moved(former[1], head, body, row)
            changed = once != labels
            shares.append(changed.mean())
            by_label += [(changed & (labels == k)).mean() for k in NAMES]
            half = moved(former[1], half_way(head), half_way(body), row)
            floors.append((moved(half, half_way(head), half_way(body), row) != once).mean())
            alphas.append(cv2.absdiff(moved(former[0], head, body, row), alpha).mean() / 255)
            there = image_motion(gray, former[2])
            seen.append(
                (cv2.remap(former[1], *there, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE) != labels).mean()
            )
        former = alpha, labels, gray
    percent, jumped, by_image = 100 * np.array(shares), np.array(steps) > JUMP, 100 * np.array(seen)
    return {
        "pairs": len(shares),
        "flicker_percent": round(float(percent.mean()), 4),
        "flicker_median_percent": round(float(np.median(percent)), 4),
        "jumps": int(jumped.sum()),
        "flicker_without_jumps_percent": round(float(percent[~jumped].mean()), 4),
        "flicker_worst_percent": round(float(percent.max()), 4),
        "flicker_floor_percent": round(100 * float(np.mean(floors)), 4),
        "flicker_by_image_motion_percent": round(float(by_image.mean()), 4),
        "flicker_by_image_motion_median_percent": round(float(np.median(by_image)), 4),
        "flicker_percent_by_label": {
            name: round(100 * float(v) / len(shares), 4) for name, v in zip(NAMES.values(), by_label, strict=True)
        },
        "alpha_change_percent": round(100 * float(np.mean(alphas)), 4),
    }


def sampled(clip: ClipFolder, truth: Path, every: int) -> Iterator[tuple[np.ndarray, ...]]:
    """(alpha, labels, true alpha 0..1, true labels) of every `every`th picture."""
    from avatarfit.performer import Performer

    with safe_open(truth, "np") as file:
        about = file.metadata()
        times = file.get_tensor("pts_seconds")
    rate, seed = float(about["frame_rate_hz"]), int(about["seed"])
    performer = Performer(seed, clip.camera.width_px)
    performance = performer.performance(len(times) / rate, rate, seed)
    for index, (alpha, labels) in enumerate(clip.masks()):
        if index % every == every // 2:
            rendering = performer.render(performance, int(np.argmin(np.abs(times - clip.pts_seconds[index]))))
            yield alpha, labels, rendering.alpha, rendering.labels


def truth_figures(clip: ClipFolder, truth: Path, every: int) -> dict[str, object]:
    """Overlap of every label with the truth's, and the alpha's error."""
    both = {name: np.zeros(2) for name in (*NAMES.values(), "head", "person")}
    errors, rims = [], []
    for alpha, labels, true_alpha, true in sampled(clip, truth, every):
        pairs = {name: (labels == k, true == k) for k, name in NAMES.items()}
        pairs["head"] = np.isin(labels, HEAD), np.isin(true, HEAD)
        pairs["person"] = labels != BACKGROUND, true != BACKGROUND
        for name, (a, b) in pairs.items():
            both[name] += (a & b).sum(), (a | b).sum()
        error = np.abs(alpha / 255 - true_alpha)
        errors.append(error.mean())
        rim = cv2.dilate(((true_alpha > 0.002) & (true_alpha < 0.998)).astype(np.uint8), np.ones((9, 9), np.uint8))
        rims.append(error[rim > 0].mean())
    return {
        "overlap": {name: round(float(a / max(b, 1)), 4) for name, (a, b) in both.items()},
        "alpha_error": round(float(np.mean(errors)), 5),
        "alpha_error_at_the_rim": round(float(np.mean(rims)), 5),
    }


def main() -> None:
    """Prints the figures of one clip folder."""
    parser = argparse.ArgumentParser(description="Measures the parsing of a clip folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--start", type=int, default=0, help="first picture")
    parser.add_argument("--stop", type=int, default=None, help="picture to stop before")
    parser.add_argument("--truth", type=Path, default=None, help="the performer's truth file")
    parser.add_argument("--every", type=int, default=10, help="compare every so many pictures with the truth")
    asked = parser.parse_args()
    clip = ClipFolder.open(asked.folder)
    stop = len(clip) if asked.stop is None else min(asked.stop, len(clip))
    figures: dict[str, object] = {"folder": asked.folder.name, **flicker(clip, asked.start, stop)}
    if asked.truth is not None:
        figures["truth"] = truth_figures(clip, asked.truth, asked.every)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
