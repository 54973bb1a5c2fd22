"""The first guess of a Gaussian avatar: one Gaussian a patch of pixels, laid on the solved face and a simple body.

The resting frame gives most; frames with the head turned and the mouth open give what it hides.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import cKDTree

from avatarfit.capture.clip_folder import HEAD, MOUTH_INTERIOR, NECK, TORSO
from avatarfit.contracts import Camera, InputError, Motion
from avatarfit.fitting.frame_store import FrameStore, StoredFrame
from avatarfit.model.gaussian_avatar import (
    ATTRIBUTE_COUNT,
    GROUPS,
    GaussianAvatar,
    MotionWeights,
    compose,
    condition,
    group_mask,
    inverse,
)
from avatarfit.model.torso_modes import TorsoModes

_MESH_COUNT = 468
SUBNASALE, _CHIN = 2, 152
_SKULL_DEPTH_CM, _NECK_BEHIND_CHIN_CM, _TORSO_BEHIND_CHIN_CM, _MOUTH_BEHIND_LIPS_CM = 7.0, 4.0, 6.0, 0.8
OPENING_LOGIT = 2.0
"""Opacity logit of a Gaussian that fitting begins with."""
PERSON = (*HEAD, NECK, TORSO)
"""The labels of a person."""


def resting_frame(motion: Motion, aperture_cm: np.ndarray) -> int:
    """The frame nearest the median of pose and torso, its mouth about as open as usual."""
    columns = [motion.head.rotation_wxyz[:, 1:] / 0.04, motion.head.translation_cm / 1.0]
    columns += [motion.torso.affine.reshape(-1, 6) / 0.01, aperture_cm[:, None] / 0.5]
    values = np.concatenate(columns, axis=1)
    return int(np.argmin(np.linalg.norm(values - np.median(values, axis=0), axis=1)))


def initial_gaussians(
    motion: Motion,
    landmarks_cm: np.ndarray,
    frames: FrameStore,
    aperture_cm: np.ndarray,
    modes: TorsoModes,
    *,
    count: int,
    basis_count: int,
    generator: np.random.Generator,
    labels: tuple[int, ...] = PERSON,
) -> GaussianAvatar:
    """A GaussianAvatar to start fitting from.

    Args:
        motion: of the training frames.
        landmarks_cm: float32 [T, 478, 3], of the training frames, in the head's frame.
        frames: pictures and masks of the same frames.
        aperture_cm: float [T], height of the inner lips' gap.
        modes: how the torso gives way.
        count: N.
        basis_count: K, deltas for each Gaussian.
        labels: of which pixels: the whole person, or the neck and torso below another kind of head.

    Raises:
        InputError: no frame has such pixels.
    """
    rest = resting_frame(motion, aperture_cm)
    rest_head = motion.head.matrices()[rest]
    head = compose(motion.head.matrices(), inverse(rest_head))
    torso = motion.torso.matrices()
    camera = frames.camera

    # (frame, labels to take, share of the count)
    yaw, pitch = motion.head.rotation_wxyz[:, 2], motion.head.rotation_wxyz[:, 1]
    plan: list[tuple[int, tuple[int, ...], float]] = [(rest, labels, 0.86)]
    plan += [(int(f(a)), labels, 0.025) for a in (yaw, pitch) for f in (np.argmin, np.argmax)]
    if MOUTH_INTERIOR in labels:
        plan += [(int(i), (MOUTH_INTERIOR,), 0.02) for i in np.argsort(aperture_cm)[[-1, -len(aperture_cm) // 20]]]

    parts: list[dict[str, np.ndarray]] = []
    for index, wanted, share in plan:
        posed = landmarks_cm[index] @ motion.head.matrices()[index, :, :3].T + motion.head.translation_cm[index]
        frame = frames[index]
        found = np.where(frame.person > 127, frame.labels, 0)
        candidates = np.isin(found, wanted)
        if index != rest and wanted != (MOUTH_INTERIOR,):
            candidates &= ~_covered(parts, head[index], torso[index], camera)
        part = _lift(candidates, found, posed, frame, camera, round(share * count), generator)
        if part is None:
            continue
        skin = part["skin"][:, None, None]
        to_camera = skin * head[index] + (1 - skin) * torso[index]
        back = inverse(to_camera)
        part["mean"] = np.einsum("nij,nj->ni", back[:, :, :3], part["mean"]) + back[:, :, 3]
        parts.append(part)

    if not parts:
        raise InputError(
            "the clip's frames show nothing of the person that Gaussians could begin at",
            f"frames with labels {', '.join(map(str, labels))}",
            "capture the clip again, with neck and shoulders in the picture",
        )
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    n = len(whole["mean"])
    base = np.zeros((n, ATTRIBUTE_COUNT), np.float32)
    base[:, 0:3] = whole["mean"]
    base[:, 3] = 1
    # Neighbours overlap at one deviation: nearest-neighbour distance sets the size (Kerbl et al. 2023, 3.4).
    distance = cKDTree(whole["mean"]).query(whole["mean"], k=4)[0][:, 1:].mean(axis=1)
    base[:, 7:10] = np.log(np.clip(distance * 0.6, 0.02, 1.0))[:, None]
    base[:, 10] = OPENING_LOGIT
    base[:, 11:14] = whole["rgb"]

    face = landmarks_cm.mean(axis=0)
    rest_face = face @ rest_head[:, :3].T + rest_head[:, 3]
    below_nose = (whole["mean"][:, 1] > rest_face[SUBNASALE, 1] - 0.5) | (whole["label"] == MOUTH_INTERIOR)
    on_head = np.isin(whole["label"], HEAD)
    group = np.where(on_head, np.where(below_nose, 0, 1), 2).astype(np.int32)
    assert GROUPS == ("lower_face", "upper_face", "torso")

    skin = whole["skin"].astype(np.float32)
    deltas = np.zeros((n, basis_count, ATTRIBUTE_COUNT), np.float32)
    # The network starts with a delta for each of the first inputs that a group sees: the torso's are its modes.
    moved = modes.displacements_cm(whole["mean"])[:, :basis_count] * (1 - skin[:, None, None])
    deltas[:, : moved.shape[1], :3] = moved * (group == GROUPS.index("torso"))[:, None, None]
    inputs = condition(motion, rest_head)
    counts = motion.face.mouth.shape[1], motion.face.upper.shape[1], motion.torso.shape.shape[1]
    return GaussianAvatar(
        torch.from_numpy(base),
        torch.from_numpy(deltas),
        torch.from_numpy(group),
        torch.from_numpy(skin),
        rest_head,
        inputs.amin(dim=0),
        inputs.amax(dim=0),
        MotionWeights(group_mask(*counts), basis_count),
        counts,
    )


def _lift(
    candidates: np.ndarray,
    labels: np.ndarray,
    posed_cm: np.ndarray,
    frame: StoredFrame,
    camera: Camera,
    count: int,
    generator: np.random.Generator,
) -> dict[str, np.ndarray] | None:
    """Gaussians under `count` of the candidate pixels: mean (cm, camera's frame), rgb, label, skin."""
    rows, columns = np.nonzero(candidates)
    if not len(rows) or not count:
        return None
    # Head and neck, small in the picture, are what people look at, mouth and eyes above all: they take more than
    # their share of pixels.
    chance = np.where(np.isin(labels[rows, columns], (*HEAD, NECK)), 2.0, 1.0) * frame.weight[rows, columns]
    chosen = generator.choice(len(rows), count, replace=count > len(rows), p=chance / chance.sum())
    rows, columns = rows[chosen], columns[chosen]
    pixels = np.stack([columns, rows], axis=1) + generator.uniform(0, 1, (count, 2))
    label = labels[rows, columns]
    depth = _depth_cm(pixels, label, posed_cm, camera)
    ray = (pixels - (camera.center_x_px, camera.center_y_px)) / camera.focal_px
    mean = np.concatenate([ray * depth[:, None], depth[:, None]], axis=1)

    # The neck's skin hangs between the jaw and the collar, in proportion to how far each is.
    to_head = cv2.distanceTransform((~np.isin(labels, HEAD)).astype(np.uint8), cv2.DIST_L2, 5)
    to_torso = cv2.distanceTransform((labels != TORSO).astype(np.uint8), cv2.DIST_L2, 5)
    between = to_torso / np.maximum(to_torso + to_head, 1e-3)
    skin = np.where(label == NECK, between[rows, columns], np.isin(label, HEAD))
    return {"mean": mean, "rgb": frame.rgb[rows, columns] / np.float32(255), "label": label, "skin": skin}


def _depth_cm(pixels: np.ndarray, label: np.ndarray, posed_cm: np.ndarray, camera: Camera) -> np.ndarray:
    mesh = posed_cm[:_MESH_COUNT]
    mesh_px = camera.project(mesh)
    depth = LinearNDInterpolator(mesh_px, mesh[:, 2])(pixels)
    outside = np.isnan(depth)
    distance, nearest = cKDTree(mesh_px).query(pixels[outside])
    away_cm = distance * mesh[nearest, 2] / camera.focal_px
    # Past the face's edge the skull turns away, then the hair's outline is about level with the ears.
    depth[outside] = mesh[nearest, 2] + np.minimum(away_cm, _SKULL_DEPTH_CM)
    depth[label == NECK] = mesh[_CHIN, 2] + _NECK_BEHIND_CHIN_CM
    depth[label == TORSO] = mesh[_CHIN, 2] + _TORSO_BEHIND_CHIN_CM
    depth[label == MOUTH_INTERIOR] += _MOUTH_BEHIND_LIPS_CM
    return depth


def _covered(parts: list[dict[str, np.ndarray]], head: np.ndarray, torso: np.ndarray, camera: Camera) -> np.ndarray:
    """bool [H, W]: pixels near which a Gaussian already lies."""
    seen = np.zeros((camera.height_px, camera.width_px), np.uint8)
    for part in parts:
        skin = part["skin"][:, None, None]
        matrix = skin * head + (1 - skin) * torso
        points = camera.project(np.einsum("nij,nj->ni", matrix[:, :, :3], part["mean"]) + matrix[:, :, 3])
        x, y = np.floor(points).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < camera.width_px) & (y < camera.height_px)
        seen[y[inside], x[inside]] = 1
    return cv2.morphologyEx(seen, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)).astype(bool)
