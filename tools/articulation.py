"""What the lips and the tongue's tip show of a phoneme: targets for the speech encoder."""

from __future__ import annotations

import unicodedata

import numpy as np

from avatarfit.audio.log_mel import HOP_SAMPLES, SAMPLE_RATE_HZ

MOUTHS = {
    "silence": "",
    "closed": "mbpɓ",
    "lip_teeth": "fvɱʋⱱɸβ",
    "rounded": "wʍɥuʊyʏʉoɵø",
    "open_rounded": "ɔɒœɶ",
    "open": "aɑæɐʌA",
    "middle": "əɜɚɝɘɛɤεʚ",
    "spread": "iɪejɨɯʝɿ1",
    "dental": "θð",
    "alveolar": "tdnszlɫrɾɹɬɮʈɖɳɭɽɻ",
    "palatal_fricative": "ʃʒɕʑʂʐç",
    "back": "kgɡŋxɣqɢχʁhɦʔħʕcɟɲʎɴ?",
}
"""Classes of mouths and the IPA letters that show them."""
MOUTH_NAMES = tuple(MOUTHS)
SOUNDS = ("", *dict.fromkeys("".join(MOUTHS.values())))
"""Letters told apart; the first is the pause."""
STOPS = frozenset("pbtdkgɡʈɖcɟqʔ")
_MOUTH_OF = {letter: index for index, letters in enumerate(MOUTHS.values()) for letter in letters}
_SOUND_OF = {letter: index for index, letter in enumerate(SOUNDS)}
_AFFRICATE = frozenset("ʃʒɕʑʂʐ")
# espeak tells when the burst of a stop begins; lips or tongue close before it, at most so long.
_CLOSING_HOPS, _CLOSING_AFTER_PAUSE_HOPS = 9, 6
_CLOSING_DB = 18.0


def letters(ipa: str) -> list[str]:
    """The letters of a phoneme that `SOUNDS` knows, in order; [""] for a pause, [] for what is none (a language mark).

    Length, stress, tones and diacritics go; of an affricate its fricative stays when it is said with rounded lips.
    """
    if ipa.startswith("("):
        return []
    plain = [c for c in unicodedata.normalize("NFD", ipa) if c in _SOUND_OF]
    if ipa and not plain:
        return []
    if len(plain) > 1 and plain[0] in "td" and plain[1] in _AFFRICATE:
        plain = plain[1:]
    return plain or [""]


def targets(
    phonemes: list[tuple[int, str]],
    samples: np.ndarray,
    rate_hz: float,
    hop_seconds: float = HOP_SAMPLES / SAMPLE_RATE_HZ,
) -> tuple[np.ndarray, np.ndarray]:
    """Mouth and sound at every hop of an utterance.

    A diphthong's letters share its time. The closure of a stop is drawn over the quiet hops before its burst.

    Args:
        phonemes: (first sample, IPA), rising.
        samples: float32 [n] at `rate_hz`, clean.

    Returns:
        uint8 [F] of `MOUTH_NAMES`, uint8 [F] of `SOUNDS`, F = 1 + (n - 1) // hop.
    """
    hop = hop_seconds * rate_hz
    count = 1 + int((len(samples) - 1) // hop) if len(samples) else 0
    mouth, sound = np.zeros(count, np.uint8), np.zeros(count, np.uint8)
    level = _level_db(samples, hop, count)
    known = [(start, found) for start, ipa in phonemes if (found := letters(ipa))]
    stops = [start for start, _ in known[1:]] + [len(samples)]
    for (start, found), stop in zip(known, stops, strict=True):
        edges = np.round(np.linspace(start, stop, len(found) + 1) / hop).astype(int)
        for letter, low, high in zip(found, edges[:-1], edges[1:], strict=True):
            mouth[low:high], sound[low:high] = _MOUTH_OF.get(letter, 0), _SOUND_OF[letter]
        first = int(edges[0])
        if found[0] in STOPS and 0 < first < count:
            after_pause = sound[first - 1] == 0
            loud = level[max(first - 25, 0) : first + 15].max()
            low = first
            while low > 0 and first - low < (_CLOSING_AFTER_PAUSE_HOPS if after_pause else _CLOSING_HOPS):
                if level[low - 1] > loud - _CLOSING_DB:
                    break
                low -= 1
            mouth[low:first], sound[low:first] = _MOUTH_OF[found[0]], _SOUND_OF[found[0]]
    return mouth, sound


def _level_db(samples: np.ndarray, hop: float, count: int) -> np.ndarray:
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    centres = np.arange(count) * hop
    low, high = (np.clip(centres + side * hop, 0, len(samples)).astype(int) for side in (-0.75, 0.75))
    return np.asarray(10 * np.log10((energy[high] - energy[low]) / (1.5 * hop) + 1e-10))
