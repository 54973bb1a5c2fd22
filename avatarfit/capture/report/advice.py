"""What the speaker should do again: each figure of a clip against the threshold it has to pass.

A check never guesses: it states what was measured, what was wanted, and, where it failed, what to do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.capture.report.face_curves import FaceCurves
from avatarfit.capture.report.picture_measures import PictureMeasures
from avatarfit.capture.report.sound_measures import SoundMeasures

SHORTEST_SECONDS = 20.0
"""Below, the mouth has shown too few shapes and words to learn from, and the held-out eleventh is under two seconds."""
GOOD_SECONDS = 120.0
"""What a minute of one voice leaves open, a second minute mostly fills; shown as a wish, not as a fault."""
LEAST_YAW_DEGREES, LEAST_PITCH_DEGREES = 12.0, 6.0
"""Middle 95 % of the head's turn from side to side and its nod. An avatar is at ease only in poses that it was shown;
people who are not asked to sit still move this much without thinking."""
LEAST_OPENING_CM = 0.6
"""Height of the lips' gap that an open vowel reaches; below, the inside of the mouth was never seen."""
FEWEST_MOUTH_SHAPES = 12
"""Shapes of the lips that differ visibly. Speech has about a dozen (the visemes)."""
LIGHT_CHANGE = 0.15
"""Change of the face's brightness over the clip (middle 95 %, smoothed over 2 s). The head's own turning in steady
light makes up to 8 %; a cloud or a lamp makes 20 % and more, and the avatar would learn it as an expression."""
HEAD_CUT = 0.05
"""Share of the head's width that may lie on the picture's edge; hair that ends there ends in a straight line."""
HEAD_CUT_PICTURES = 0.05
NEAR_EDGE_FACE_HEIGHTS = 0.03
"""A face this close to the edge touches it with the next nod."""
AWAY_SHARE = 0.03
"""Pictures without a face: more than a glance aside or a hand before it."""
SMALLEST_FACE_PX = 100.0
"""Hairline to chin in the source. Below, teeth and lids are one or two pixels, and landmarks shake."""
BLUR = 0.58
"""Blur effect (0 sharp, 1 flat) of the face: in-focus faces measure 0.39 to 0.46, the same blurred by one pixel at 256
(standard deviation) 0.56 to 0.66."""
MOTION_BLUR_STEP, MOTION_BLUR_SHARE = 0.12, 0.10
"""A picture this much more blurred than the clip's usual one was taken while something moved; one in ten is many."""
OVERLOAD_SHARE = 6e-4
"""Speech is within 5 % of its peak in 2 of 10,000 samples; cut off at 1.3 times full scale, in 10."""
LEAST_SPEECH_OVER_PAUSES_DB = 20.0
"""With noise closer to the voice, soft consonants drown in it and the lips' timing with them."""
TONAL_SHARE, TONAL_OVER_PAUSES_DB = 0.3, 45.0
"""Pauses made of tones hold music or hum (noise of any colour: under 0.05); 45 dB below speech it does no harm."""


@dataclass(frozen=True)
class Check:
    """One question to a clip.

    Attributes:
        name: for tests and machines, such as "short".
        title: for people.
        passed: whether the clip is good in this.
        measured, wanted: the figure, and the threshold, in words.
        do: what the speaker should do, where it was not passed.
        wish: it was passed, and more would still be better.
    """

    name: str
    title: str
    passed: bool
    measured: str
    wanted: str
    do: str
    wish: bool = False


def advise(
    kept_seconds: float, away_share: float, face: FaceCurves, face_px: np.ndarray, edge_gap: np.ndarray,
    pictures: PictureMeasures, sound: SoundMeasures | None,
) -> list[Check]:  # fmt: skip
    """All checks of a clip, failed ones too, in the order in which they matter.

    Args:
        kept_seconds: length of what is kept.
        away_share: share of the source's pictures without a usable face.
        face: curves of the kept pictures.
        face_px: float [T], hairline to chin in pixels of the source.
        edge_gap: float [T], least distance of the face from the picture's edge, in face heights.
        pictures, sound: their figures; no sound is None.
    """
    return [
        _length(kept_seconds),
        _turn("turn", "Head turns", face.angles_degrees[:, 0], LEAST_YAW_DEGREES, "turn the head to both sides"),
        _turn("nod", "Head nods", face.angles_degrees[:, 1], LEAST_PITCH_DEGREES, "nod, look up and down"),
        *_mouth(face),
        _light(pictures, kept_seconds),
        _in_frame(pictures, edge_gap, away_share),
        _size(face_px),
        *_sharpness(pictures),
        _shots(pictures),
        *_sound(sound),
    ]


def _length(seconds: float) -> Check:
    return Check(
        "short", "Long enough", seconds >= SHORTEST_SECONDS, f"{seconds:.1f} s of usable pictures",
        f"{SHORTEST_SECONDS:.0f} s at least, {GOOD_SECONDS:.0f} s for a good likeness",
        "Speak for two to five minutes, freely, as you would to a friend.", seconds < GOOD_SECONDS,
    )  # fmt: skip


def _span(values: np.ndarray) -> float:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(high - low)


def _turn(name: str, title: str, degrees: np.ndarray, least: float, how: str) -> Check:
    span = _span(degrees)
    return Check(
        name, f"{title} enough", span >= least, f"{span:.1f} degrees from end to end (middle 95 %)",
        f"{least:.0f} degrees at least", f"Now and then, {how} while you speak; slowly, up to 20 degrees.",
    )  # fmt: skip


def _mouth(face: FaceCurves) -> list[Check]:
    opening = float(np.percentile(face.aperture_cm, 98))
    return [
        Check(
            "mouth", "Mouth opens", opening >= LEAST_OPENING_CM, f"lips {opening:.1f} cm apart at their widest (98 %)",
            f"{LEAST_OPENING_CM:.1f} cm at least",
            "Speak clearly and a little louder, with wide open vowels now and then.",
        ),
        Check(
            "shapes", "Mouth shows many shapes", face.mouth_shapes >= FEWEST_MOUTH_SHAPES,
            f"{face.mouth_shapes} distinct shapes", f"{FEWEST_MOUTH_SHAPES} at least",
            "Say more, and more varied: read a page aloud that has every sound of your language in it.",
        ),
    ]  # fmt: skip


def light_curve(pictures: PictureMeasures, kept_seconds: float) -> np.ndarray:
    """The face's brightness at `pictures.sampled`, as a share of its median, smoothed over 2 s."""
    luma = pictures.skin_luma
    seen = np.isfinite(luma)
    if not seen.any():
        return np.ones(len(luma))
    luma = np.interp(np.arange(len(luma)), np.flatnonzero(seen), luma[seen])
    taps = int(np.clip(round(2.0 * len(luma) / max(kept_seconds, 1e-6)), 1, len(luma)))
    padded = np.pad(luma, (taps // 2, taps - 1 - taps // 2), mode="edge")
    smooth = np.convolve(padded, np.full(taps, 1 / taps), "valid")
    return smooth / max(float(np.median(smooth)), 1e-6)


def _light(pictures: PictureMeasures, kept_seconds: float) -> Check:
    change = _span(light_curve(pictures, kept_seconds))
    return Check(
        "light", "Light stays the same", change <= LIGHT_CHANGE, f"the face's brightness changes by {change:.0%}",
        f"{LIGHT_CHANGE:.0%} at most",
        "Close the curtains, use lamps, and lock exposure and white balance in the camera.",
    )  # fmt: skip


def _in_frame(pictures: PictureMeasures, edge_gap: np.ndarray, away_share: float) -> Check:
    cut = float((pictures.head_cut > HEAD_CUT).mean())
    near = float((edge_gap < NEAR_EDGE_FACE_HEIGHTS).mean())
    good = cut <= HEAD_CUT_PICTURES and near <= HEAD_CUT_PICTURES and away_share <= AWAY_SHARE
    return Check(
        "frame", "Head stays in the picture", good,
        f"cut off by the edge in {cut:.0%} of the pictures, face at the edge in {near:.0%}, "
        f"no usable face in {away_share:.0%}",
        f"{HEAD_CUT_PICTURES:.0%}, {HEAD_CUT_PICTURES:.0%} and {AWAY_SHARE:.0%} at most",
        "Step back or zoom out until there is air around the hair, keep facing the camera, hands off the face.",
    )  # fmt: skip


def _size(face_px: np.ndarray) -> Check:
    height = float(np.median(face_px))
    return Check(
        "small", "Face is large enough", height >= SMALLEST_FACE_PX, f"{height:.0f} px from hairline to chin",
        f"{SMALLEST_FACE_PX:.0f} px at least", "Come nearer, zoom in, or record at a higher resolution.",
    )  # fmt: skip


def _sharpness(pictures: PictureMeasures) -> list[Check]:
    usual = float(np.median(pictures.blur))
    moved = float((pictures.blur > usual + MOTION_BLUR_STEP).mean())
    return [
        Check(
            "focus", "Face is in focus", usual <= BLUR, f"blur {usual:.2f} (0 sharp, 1 flat)", f"{BLUR:.2f} at most",
            "Focus on the eyes and lock the focus; clean the lens; do not enlarge or beautify the video.",
        ),
        Check(
            "motion", "Movements are sharp", moved <= MOTION_BLUR_SHARE,
            f"{moved:.0%} of the pictures are smeared", f"{MOTION_BLUR_SHARE:.0%} at most",
            "More light, so that the shutter can be shorter; move more slowly; camera on a tripod.",
        ),
    ]  # fmt: skip


def _shots(pictures: PictureMeasures) -> Check:
    count = len(pictures.cut_frames)
    return Check(
        "cuts", "One shot", count == 0, f"{count} cut" + "s" * (count != 1), "no cut",
        "Record in one go, and do not edit the recording.",
    )  # fmt: skip


def _sound(sound: SoundMeasures | None) -> list[Check]:
    if sound is None or sound.silent:
        measured = "no sound track" if sound is None else f"loudest parts at {sound.loud_db:.0f} dB of full scale"
        return [
            Check(
                "silent", "There is sound", False, measured, "speech that can be heard",
                "Record with a microphone: without speech the avatar learns how you look, not how you talk.",
            )
        ]  # fmt: skip
    where = "pauses" if sound.pauses_found else "its quietest tenth, for there is no pause"
    tonal = sound.tonal_share > TONAL_SHARE and sound.speech_over_pauses_db < TONAL_OVER_PAUSES_DB
    quiet = sound.speech_over_pauses_db >= LEAST_SPEECH_OVER_PAUSES_DB
    distance = f"speech is {sound.speech_over_pauses_db:.0f} dB over the {where}"
    return [
        Check("silent", "There is sound", True, f"loud parts at {sound.loud_db:.0f} dB of full scale", "speech", ""),
        Check(
            "overload", "Sound is not overloaded", sound.overload_share <= OVERLOAD_SHARE,
            f"{sound.overload_share * 1e4:.1f} of 10,000 samples at the ceiling", f"{OVERLOAD_SHARE * 1e4:.0f} at most",
            "Turn the microphone's gain down until the loudest words stay below -6 dB.",
        ),
        Check(
            "music", "No music or hum under the voice", not tonal,
            f"{sound.tonal_share:.0%} of what is heard there is tones; {distance}",
            f"{TONAL_SHARE:.0%} at most, or {TONAL_OVER_PAUSES_DB:.0f} dB below the voice",
            "Record without music, jingles and humming devices; use the recording from before it was mixed.",
        ),
        Check(
            # Where tones are the trouble, the check above has said so.
            "noise", "Voice is clear of noise", quiet or tonal, distance, f"{LEAST_SPEECH_OVER_PAUSES_DB:.0f} dB",
            "Closer to the microphone, windows shut, fans off, soft furniture around you.",
        ),
    ]  # fmt: skip
