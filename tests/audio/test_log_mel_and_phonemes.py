"""Laws of the features that are built in."""

from __future__ import annotations

import numpy as np
import pytest

from avatarfit.audio import LOG_MEL, SAMPLE_RATE_HZ, feature_name, speech_features
from avatarfit.audio.log_mel_and_phonemes import log_mel_and_phonemes
from avatarfit.audio.named_encoder import BUILT_IN, PLAIN, encoder_of, named_encoder
from avatarfit.contracts import AudioClip, FileFormatError
from avatarfit.performer.speech import synthesise, write_phrases


def said(seconds: float = 3.0) -> AudioClip:
    random = np.random.default_rng(0)
    return synthesise(write_phrases(seconds, random), random)


def test_its_columns_are_those_of_both_and_the_first_are_normalised_as_alone() -> None:
    sound, both = said(), log_mel_and_phonemes()
    assert sound.sample_rate_hz == SAMPLE_RATE_HZ
    together, alone = speech_features(sound, both).values, speech_features(sound, LOG_MEL).values
    count = LOG_MEL.column_count
    np.testing.assert_array_equal(together[:, :count], alone[:, :count])
    np.testing.assert_array_equal(together[:, -4:], alone[:, -4:])
    assert together.shape[1] == both.column_count + 4
    likely = together[:, count:-4][:, -12:]
    np.testing.assert_allclose(likely.sum(axis=1), 1, atol=1e-5)


def test_pieces_of_any_length_give_the_same_rows() -> None:
    samples, both = said().samples, log_mel_and_phonemes()
    whole, pieces = both.stream(), both.stream()
    wanted = np.concatenate([whole.push(samples), whole.finish()])
    cuts = np.sort(np.random.default_rng(1).integers(0, len(samples), 40))
    got = [pieces.push(piece) for piece in np.split(samples, cuts)]
    np.testing.assert_allclose(np.concatenate([*got, pieces.finish()]), wanted, atol=1e-4)


def test_the_built_in_encoder_tells_closed_lips_of_a_synthesiser_that_it_never_heard() -> None:
    random = np.random.default_rng(3)
    segments = write_phrases(20.0, random)
    stream = log_mel_and_phonemes().stream()
    rows = np.concatenate([stream.push(synthesise(segments, random).samples), stream.finish()])
    closed = rows[:, LOG_MEL.column_count + 24 + 1]
    late = 0.05  # rows tell of the mouth 50 ms ago

    def mean(symbols: str) -> float:
        spans = [(s.start_seconds + late, s.stop_seconds + late) for s in segments if s.symbol in symbols]
        return float(np.mean([closed[round(100 * a) : round(100 * b)].mean() for a, b in spans]))

    assert mean("mbp") > 3 * mean("aeiou")
    assert mean("mbp") > 2 * mean("tdkgs")


def test_a_driver_finds_what_it_hears_or_says_what_to_name() -> None:
    assert named_encoder(PLAIN) is LOG_MEL
    assert named_encoder(BUILT_IN) is log_mel_and_phonemes()
    for encoder in (LOG_MEL, log_mel_and_phonemes()):
        assert encoder_of(feature_name(encoder), None) is encoder
    assert encoder_of("anything", PLAIN) is LOG_MEL
    with pytest.raises(FileFormatError, match="driver hears hubert-x/1; wanted the network"):
        encoder_of("hubert-x/1", None)
