"""Multi-scale SSIM, noise of known variance, the composites, and LPIPS' switch, against exact answers."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from avatarfit.capture.clip_folder import BACKGROUND, FACE, HAIR, NECK, TORSO
from avatarfit.capture.face_points import FACE_OVAL
from avatarfit.evaluation import Scores, Truth, ms_ssim, psnr_db
from avatarfit.evaluation.composites import COMPOSITES, FEATHER_PX, composed, face_matte, head_matte
from avatarfit.evaluation.metrics import MS_SSIM_WEIGHTS, Pyramid, halved, ms_ssim_scales, similarity, ssim_map
from avatarfit.evaluation.perceptual import perceptual_distance
from avatarfit.model.lpips_network import BACKBONE


def smooth(seed: int, side: int) -> np.ndarray:
    import cv2

    return cv2.resize(np.random.default_rng(seed).random((side // 8, side // 8, 3)), (side, side))


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_noise_of_known_variance_gives_its_psnr(sigma: float) -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((256, 256, 3))
    noisy = truth + rng.normal(0, sigma, truth.shape)
    assert psnr_db(truth, noisy) == pytest.approx(-20 * np.log10(sigma), abs=0.05)


def test_ms_ssim_of_two_constants_is_the_luminance_of_the_coarsest_scale() -> None:
    a, b = 0.3, 0.5
    luminance = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    got = ms_ssim(np.full((176, 176, 3), a), np.full((176, 176, 3), b))
    assert got == pytest.approx(luminance ** MS_SSIM_WEIGHTS[-1], abs=1e-9)


def test_ms_ssim_equals_its_definition_written_out() -> None:
    x, y = smooth(0, 192), np.clip(smooth(0, 192) + 0.1 * (smooth(1, 192) - 0.5), 0, 1)
    product, p, q = np.ones(3), x, y
    for k, weight in enumerate(MS_SSIM_WEIGHTS):
        scale = similarity(p, q)
        last = k == len(MS_SSIM_WEIGHTS) - 1
        factor = scale.structure * scale.luminance if last else scale.structure
        product *= factor.mean(axis=(0, 1)) ** weight
        p, q = (v.reshape(len(v) // 2, 2, len(v) // 2, 2, 3).mean(axis=(1, 3)) for v in (p, q))
    assert ms_ssim(x, y) == pytest.approx(product.mean(), abs=1e-6)


@pytest.mark.parametrize(("side", "scales"), [(176, 5), (175, 4), (44, 3), (43, 2), (11, 1), (10, 0)])
def test_as_many_scales_as_fit(side: int, scales: int) -> None:
    assert ms_ssim_scales(side, 500) == scales
    if scales:
        assert len(Pyramid(smooth(0, 500)[:side, :side], smooth(1, 500)[:side, :side]).scales) == scales


def test_ms_ssim_of_a_region_sees_only_the_region() -> None:
    x = smooth(2, 512)
    y = x.copy()
    y[:, 320:] = smooth(3, 512)[:, 320:]
    mask = np.zeros((512, 512), bool)
    mask[:, 100:160] = True  # the coarsest windows reach 88 px to both sides
    near, whole = ms_ssim(x, y, mask), ms_ssim(x, y)
    assert near is not None
    assert whole is not None
    assert near == pytest.approx(1, abs=1e-4)
    assert whole < 0.9
    assert ms_ssim(x, y, np.zeros((512, 512), bool)) is None


def test_single_precision_is_good_enough() -> None:
    x, y = smooth(4, 128), smooth(5, 128)
    np.testing.assert_allclose(ssim_map(x.astype(np.float32), y.astype(np.float32)), ssim_map(x, y), atol=2e-4)
    assert np.abs(ssim_map(x.astype(np.float32), y.astype(np.float32)).mean() - ssim_map(x, y).mean()) < 1e-5


def test_halved_is_the_mean_of_four() -> None:
    x = np.random.default_rng(0).random((7, 9, 3))
    np.testing.assert_allclose(halved(x), x[:6, :8].reshape(3, 2, 4, 2, 3).mean(axis=(1, 3)))


def test_composites_take_each_pixel_from_where_they_should() -> None:
    truth, render = np.full((40, 40, 3), 0.25), np.full((40, 40, 3), 0.75)
    head, face = np.zeros((40, 40), np.float32), np.zeros((40, 40), np.float32)
    head[:20], face[:10] = 1, 1
    head[20] = 0.5
    pictures = composed(truth, render, head, face)
    assert set(pictures) == set(COMPOSITES)
    np.testing.assert_allclose(pictures["full"], 0.75)
    np.testing.assert_allclose(
        pictures["head_over_true_torso"][[0, 19, 20, 21, 39], 0, 0], [0.75, 0.75, 0.5, 0.25, 0.25]
    )
    np.testing.assert_allclose(pictures["paste_back"][[0, 9, 10, 39], 0, 0], [0.75, 0.75, 0.25, 0.25])


def test_head_matte_is_the_heads_share_of_a_soft_person() -> None:
    labels = np.full((80, 80), BACKGROUND, np.uint8)
    labels[10:40, 20:60], labels[10:20, 20:60] = FACE, HAIR
    labels[40:60, 20:60], labels[60:, 10:70] = NECK, TORSO
    person = np.where(labels == BACKGROUND, 0, 200).astype(np.uint8)
    matte = head_matte(person, labels, 80, 80)
    np.testing.assert_allclose(matte[12:36, 25:55], 200 / 255, atol=1e-5)
    np.testing.assert_allclose(matte[45:, 25:55], 0, atol=1e-5)
    np.testing.assert_allclose(matte[:8], 0, atol=1e-5)
    assert matte[39, 40] + matte[40, 40] == pytest.approx(200 / 255, abs=1e-5)  # the border's two sides share it
    half = head_matte(person, labels, 40, 40)
    np.testing.assert_allclose(half[8:15, 14:26], 200 / 255, atol=1e-5)


def test_face_matte_fades_inside_the_oval_only() -> None:
    points = np.zeros((478, 2))
    angle = np.linspace(0, 2 * np.pi, len(FACE_OVAL), endpoint=False)
    points[FACE_OVAL] = np.stack([32 + 20 * np.sin(angle), 32 - 20 * np.cos(angle)], axis=1)
    matte = face_matte(points, 64, 64)
    radius = np.hypot(*(np.mgrid[0:64, 0:64] + 0.5 - 32))
    assert (matte[radius > 21] == 0).all()
    assert (matte[radius < 20 - FEATHER_PX - 1.2] == 1).all()
    rim = matte[32, 12:17]
    assert (np.diff(rim) >= 0).all()
    assert 0 < rim[1] < 1


def test_scores_of_the_head_and_of_several_scales() -> None:
    truth_rgb = (smooth(6, 200) * 255).astype(np.uint8)
    exact = truth_rgb / 255.0
    head = np.zeros((200, 200), np.float32)
    head[20:100, 20:100] = 1
    truth = Truth(truth_rgb, np.ones((200, 200), bool), (30, 30, 74, 74), head)
    picture = exact.copy()
    picture[20:100, 20:100] += 0.1
    scores = Scores(mouth_scales=3)
    scores.add(truth, picture)
    means = scores.means()
    assert means["head"]["psnr_db"] == pytest.approx(20, abs=1e-3)
    assert means["person"]["psnr_db"] == pytest.approx(20 - 10 * np.log10(80 * 80 / 200**2), abs=1e-3)
    assert set(means["mouth"]) == {"psnr_db", "ssim", "ms_ssim"}
    assert 0 < means["head"]["ms_ssim"] < means["person"]["ms_ssim"] < 1
    assert "ms_ssim" not in Scores().add(truth, picture)


def test_lpips_says_why_it_is_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    assert perceptual_distance() == (None, "LPIPS is off: the lpips package is not installed (pip install lpips)")
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    distance, said = perceptual_distance()
    assert distance is None
    assert f"weights are not at {tmp_path}" in said


def test_lpips_is_asked_with_pictures_it_can_take(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Net(torch.nn.Module):
        def __init__(self, net: str, verbose: bool) -> None:
            super().__init__()
            assert net == "alex"

        def forward(self, a: torch.Tensor, b: torch.Tensor, normalize: bool) -> torch.Tensor:
            assert normalize
            assert min(a.shape[2:]) == 64
            return (a - b).abs().mean()

    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / BACKBONE).touch()
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Net))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    distance, said = perceptual_distance()
    assert distance is not None
    assert "alex" in said
    assert distance(np.full((32, 40, 3), 0.5), np.full((32, 40, 3), 0.75)) == pytest.approx(0.25, abs=1e-6)
