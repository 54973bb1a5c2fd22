"""Laws of the log-mel bands."""

from __future__ import annotations

import numpy as np
import pytest

from avatarfit.audio.log_mel import (
    HOP_SAMPLES,
    SAMPLE_RATE_HZ,
    band_edges_hz,
    hop_count,
    hz_to_mel,
    log_mel,
    mel_filters,
    mel_to_hz,
)


def tone(frequency_hz: float, seconds: float = 0.5) -> np.ndarray:
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (0.3 * np.sin(2 * np.pi * frequency_hz * t)).astype(np.float32)


@pytest.mark.parametrize("frequency_hz", [300.0, 700.0, 1500.0, 3000.0, 6000.0])
def test_a_pure_tone_peaks_in_the_band_that_holds_it(frequency_hz: float) -> None:
    peaks = band_edges_hz()[1:-1]
    nearest = int(np.argmin(np.abs(peaks - frequency_hz)))
    band = int(log_mel(tone(frequency_hz))[25].argmax())
    assert abs(band - nearest) <= 1


def test_the_mel_scale_is_linear_below_1_khz_and_has_an_inverse() -> None:
    assert float(hz_to_mel(1000.0)) == pytest.approx(15.0)
    assert float(hz_to_mel(500.0)) == pytest.approx(7.5)
    assert float(hz_to_mel(6400.0)) == pytest.approx(15.0 + 27.0)
    hz = np.linspace(0, 8000, 50)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, atol=1e-9)


def test_every_band_hears_something_and_wide_bands_have_unit_area() -> None:
    filters = mel_filters()
    assert (filters.sum(1) > 0).all()
    np.testing.assert_allclose(filters[-10:].sum(1) * SAMPLE_RATE_HZ / 512, 1, rtol=0.02)


def test_twice_the_amplitude_adds_log_four_everywhere() -> None:
    x = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    np.testing.assert_allclose(log_mel(2 * x) - log_mel(x), np.log(4), atol=1e-4)


def test_a_hop_sees_its_own_25_ms_and_nothing_else() -> None:
    x = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    y = x.copy()
    y[20 * HOP_SAMPLES + 200 :] = 0
    y[: 20 * HOP_SAMPLES - 200] = 0
    np.testing.assert_array_equal(log_mel(x)[20], log_mel(y)[20])
    y[20 * HOP_SAMPLES + 199] = 9
    assert (log_mel(x)[20] != log_mel(y)[20]).any()


def test_hops_lie_every_10_ms_from_the_start() -> None:
    assert [hop_count(n) for n in (0, 1, 160, 161, 16000)] == [0, 1, 1, 2, 100]
    assert log_mel(np.zeros(0, np.float32)).shape == (0, 64)
    click = np.zeros(16000, np.float32)
    click[50 * HOP_SAMPLES] = 1
    assert int(log_mel(click).sum(1).argmax()) == 50


def test_long_sounds_are_done_in_blocks_without_a_seam() -> None:
    x = np.random.default_rng(0).standard_normal(2010 * HOP_SAMPLES).astype(np.float32)
    np.testing.assert_allclose(log_mel(x)[1990:2005], log_mel(x[1980 * HOP_SAMPLES :])[10:25], atol=1e-5)
