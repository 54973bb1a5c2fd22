"""The capture report: measures a clip folder once more, with a viewer's eyes, and writes what they should know."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from avatarfit.capture.audio_offset import SURE
from avatarfit.capture.clip_folder import ClipFolder
from avatarfit.capture.report.advice import LIGHT_CHANGE, Check, advise, light_curve
from avatarfit.capture.report.charts import Curve, Marks, clock, line_chart
from avatarfit.capture.report.contact_sheet import contact_sheet
from avatarfit.capture.report.drawings import (
    LABEL_COLORS,
    Shown,
    choose_pictures,
    on_checkerboard,
    plate_with_invented,
    reduced,
    shown,
    with_labels,
)
from avatarfit.capture.report.face_curves import FaceCurves, edge_gap, face_height_px
from avatarfit.capture.report.page import Cell, color_legend, facts, gallery, page, paragraph, section, table
from avatarfit.capture.report.picture_measures import PictureMeasures, measure_pictures
from avatarfit.capture.report.sound_measures import SoundMeasures, measure_sound
from avatarfit.capture.stages import write_atomically
from avatarfit.contracts import SoundError
from avatarfit.contracts.events import Finished, Listener, Note, Progress, Started, silent

REPORT, CONTACT_SHEET = "report.html", "contact_sheet.png"
SPREAD_PICTURES, WORST_PICTURES = 8, 4
_STAGE = "report"
_REPEATS = "repeats"


@dataclass(frozen=True)
class CaptureReport:
    """A report that was written.

    Attributes:
        page: report.html.
        contact_sheet: contact_sheet.png.
        checks: every question and its answer.
    """

    page: Path
    contact_sheet: Path
    checks: list[Check]

    @property
    def failed(self) -> list[Check]:
        """What the speaker should do again."""
        return [check for check in self.checks if not check.passed]


@dataclass(frozen=True)
class _Measured:
    """All that a report says of a clip."""

    face: FaceCurves
    pictures: PictureMeasures
    sound: SoundMeasures | None
    checks: list[Check]
    kept_seconds: float
    spread: list[int]
    worst: list[int]
    shown: dict[int, Shown]


def write_report(clip: ClipFolder, on_event: Listener = silent) -> CaptureReport:
    """Writes report.html and contact_sheet.png into a clip folder, each whole or not at all.

    Raises:
        InputError: the clip's source is gone or was changed, or the folder cannot be written.
        FileFormatError: the clip folder is damaged.
    """
    import cv2

    began = time.monotonic()
    on_event(Started(_STAGE, len(clip)))
    measured = _measure(clip, on_event)
    target = clip.path / REPORT
    write_atomically(target, _page(clip, measured).encode())
    sheet = clip.path / CONTACT_SHEET
    write_atomically(sheet, cv2.imencode(".png", _sheet(clip, measured)[..., ::-1])[1].tobytes())
    on_event(Finished(_STAGE, time.monotonic() - began))
    report = CaptureReport(target, sheet, measured.checks)
    for check in report.failed:
        on_event(Note(_STAGE, f"record again: {check.do} ({check.title}? no: {check.measured}; wanted {check.wanted})"))
    return report


def report_is_current(clip: ClipFolder) -> bool:
    """Whether a report of exactly this capture lies in its folder."""
    written = clip.path / REPORT
    if not written.is_file() or not (clip.path / CONTACT_SHEET).is_file():
        return False
    with written.open("rb") as stream:
        return f'content="{clip.content_hash}"'.encode() in stream.read(1000)


def _measure(clip: ClipFolder, on_event: Listener) -> _Measured:
    head = clip.motion().head
    face = FaceCurves.of(clip.pts_seconds, head, clip.landmarks_cm, *clip.blendshapes())
    residual = np.array([f["pose_residual_px"] for f in clip.manifest["frames"]])
    state = np.concatenate([face.angles_degrees, face.aperture_cm[:, None], face.closure[:, None]], axis=1)
    spread, worst = choose_pictures(state, residual, SPREAD_PICTURES, WORST_PICTURES)
    kept: dict[int, Shown] = {}

    def keep(index: int, rgb: np.ndarray) -> np.ndarray:
        kept[index] = shown(rgb, clip.landmarks_px[index])
        return kept[index].whole

    pictures = measure_pictures(clip, [*spread, *worst], keep, lambda k: on_event(Progress(_STAGE, k, len(clip))))
    sound = _sound_of(clip)
    kept_seconds = len(clip) / clip.frame_rate_hz
    lost = [r for r in clip.manifest["rejects"] if _REPEATS not in r["reason"]]
    to_source = clip.manifest["view"]["width_px"] / clip.camera.width_px
    checks = advise(
        kept_seconds, len(lost) / max(len(lost) + len(clip), 1), face, face_height_px(clip.landmarks_px) * to_source,
        edge_gap(clip.landmarks_px, clip.camera), pictures, sound,
    )  # fmt: skip
    return _Measured(face, pictures, sound, checks, kept_seconds, spread, worst, kept)


def _sound_of(clip: ClipFolder) -> SoundMeasures | None:
    if clip.manifest["source"]["audio"] is None:
        return None
    try:
        return measure_sound(clip.audio())
    except SoundError:  # there is a track, and nothing in it can be decoded: the report says that there is no sound
        return None


def _page(clip: ClipFolder, m: _Measured) -> str:
    name = clip.source.name
    failed = [check for check in m.checks if not check.passed]
    return page(
        f"Capture of {name}",
        clip.content_hash,
        [
            f"<header><h1>Capture of {escape(name)}</h1>{_outline(clip, m)}</header>",
            "<main>",
            section("What to record again", _again(failed)),
            section("What was checked", _checks(m.checks)),
            section("Landmarks", *_landmarks(clip, m)),
            section("Labels", *_labels(clip, m)),
            section("Matte and background", *_mattes(clip, m)),
            section("Over time", *_charts(clip, m)),
            section("Pictures left out", *_rejects(clip)),
            "</main>",
        ],
    )


def _outline(clip: ClipFolder, m: _Measured) -> str:
    source, camera = clip.manifest["source"], clip.camera
    told = [
        f"{source['width_px']} x {source['height_px']} px", f"{source['duration_seconds']:.1f} s",
        f"{source['file_frame_rate_hz']:.4g} pictures a second",
        *(["turned upright"] if source["rotation_degrees"] else []),
        *(["deinterlaced"] if source["interlaced"] else []),
        *([f"{source['dynamic_range'].upper()}, mapped to SDR"] if source["dynamic_range"] != "sdr" else []),
    ]  # fmt: skip
    rows = [("Clip", ", ".join(told))]
    view = clip.manifest["view"]
    if (view["width_px"], view["height_px"]) != (source["width_px"], source["height_px"]):
        rows.append(("Part taken", f"{view['width_px']} x {view['height_px']} px from {view['x_px']}, {view['y_px']}"))
    if (camera.width_px, camera.height_px) != (source["width_px"], source["height_px"]):
        rows.append(("Working size", f"{camera.width_px} x {camera.height_px} px"))
    rejects = Counter(r["reason"] for r in clip.manifest["rejects"])
    left_out = ", ".join(f"{count} ({reason})" for reason, count in rejects.most_common()) or "none"
    imported = clip.manifest.get("imported")
    if imported:
        rows.append(("Imported", f"from {imported['folder']} ({imported['format']})"))
    rows += [
        ("Kept", f"{len(clip)} pictures, {m.kept_seconds:.1f} s at {clip.frame_rate_hz:.4g} a second"),
        ("Left out", left_out),
        ("Landmarks", str(clip.manifest.get("landmarks"))),
        (
            "Sound",
            "none" if m.sound is None else f"{m.sound.seconds:.1f} s, speech in {m.sound.speech_share:.0%} of it",
        ),
        ("Blinks", f"{len(m.face.blinks)}, {60 * len(m.face.blinks) / max(m.kept_seconds, 1e-6):.0f} a minute"),
    ]
    if m.sound is not None:
        rows.insert(-1, ("Sound against mouth", _offset(clip)))
    return facts(rows)


def _offset(clip: ClipFolder) -> str:
    """What capture found about the sound being early or late."""
    offset, sure = clip.manifest.get("audio_offset_seconds"), clip.manifest.get("audio_offset_confidence")
    if offset is None or sure is None or sure < SURE:
        return "whether it is in step cannot be told"
    moved = clip.manifest["audio_shift_seconds"]
    said = f"{abs(offset) * 1000:.0f} ms {'after' if offset > 0 else 'before'} it in the file"
    return said + (f", moved by {-moved * 1000:+.0f} ms" if moved else "")


def _again(failed: list[Check]) -> str:
    if not failed:
        return '<p class="fine">Nothing: the clip passed every check.</p>'
    items = "".join(
        f"<li><b>{escape(c.do)}</b><span>{escape(c.title)}: no. Measured: {escape(c.measured)}. "
        f"Wanted: {escape(c.wanted)}.</span></li>"
        for c in failed
    )
    return f'<ul class="again">{items}</ul>'


def _checks(checks: list[Check]) -> str:
    def answer(check: Check) -> str:
        if not check.passed:
            return '<span class="no">✗ no</span>'
        return '<span class="mm">✓ more is better</span>' if check.wish else '<span class="ok">✓ yes</span>'

    rows = [(escape(c.title), answer(c), escape(c.measured), escape(c.wanted)) for c in checks]
    return table(("Question", "Answer", "Measured", "Wanted"), rows, "checks")


def _where(clip: ClipFolder, m: _Measured, index: int) -> str:
    yaw, pitch, roll = (round(float(a)) for a in m.face.angles_degrees[index])
    return (
        f"{clock(float(clip.pts_seconds[index]))} · turn {yaw:+d}°, nod {pitch:+d}°, tilt {roll:+d}°, "
        f"lips {m.face.aperture_cm[index]:.1f} cm"
    )


def _landmarks(clip: ClipFolder, m: _Measured) -> list[str]:
    frames = clip.manifest["frames"]

    def cell(index: int) -> Cell:
        residual = f" · residual {frames[index]['pose_residual_px']:.2f} px"
        where = _where(clip, m, index)
        return Cell(m.shown[index].face, f"Face with its landmarks at {where}", where + residual * (index in m.worst))

    return [
        paragraph("The dots and lines must lie on the face: on its outline, the lids, the irises and the lips."),
        gallery([cell(k) for k in m.spread]),
        paragraph("The pictures whose pose fits worst:" if m.worst else "There are no further pictures."),
        gallery([cell(k) for k in m.worst]),
    ]


def _labels(clip: ClipFolder, m: _Measured) -> list[str]:
    cells = [
        Cell(with_labels(m.shown[k].whole, m.pictures.masks[k][1]), f"Labels at {_where(clip, m, k)}",
             clock(float(clip.pts_seconds[k])))
        for k in m.spread
    ]  # fmt: skip
    return [color_legend(list(LABEL_COLORS.values())), gallery(cells)]


def _mattes(clip: ClipFolder, m: _Measured) -> list[str]:
    seen = clip.plate_seen()
    plate = clip.plate()
    cells = [
        Cell(on_checkerboard(m.shown[k].whole, m.pictures.masks[k][0]), f"Person cut out at {_where(clip, m, k)}",
             clock(float(clip.pts_seconds[k])))
        for k in m.spread
    ]  # fmt: skip
    cells.append(Cell(reduced(plate), "The background without the person", "background"))
    cells.append(
        Cell(plate_with_invented(plate, seen), "The background; what was never seen is striped", "striped: made up")
    )
    return [
        paragraph(
            "The person alone, on a checkerboard: hair and shoulders must be whole, nothing of the room may be left. "
            f"{seen.mean():.0%} of the background was seen; the rest is made up."
        ),
        gallery(cells),
    ]


def _charts(clip: ClipFolder, m: _Measured) -> list[str]:
    pts, duration = clip.pts_seconds, float(clip.manifest["source"]["duration_seconds"])
    step = 1 / clip.frame_rate_hz
    lost = Marks("left out", _spans([r["pts_seconds"] for r in clip.manifest["rejects"]
                                     if _REPEATS not in r["reason"]], 1.5 * step), "lost")  # fmt: skip
    cut = Marks("cut", [(float(pts[k]), float(pts[k])) for k in m.pictures.cut_frames], "cut")
    blink = Marks("blink", m.face.blinks, "blink")
    holes = np.flatnonzero(np.diff(pts) > 2.5 * step) + 1

    def broken(values: np.ndarray) -> np.ndarray:
        out = values.astype(np.float64).copy()
        out[holes] = np.nan
        return out

    angles, place = m.face.angles_degrees, m.face.translation_cm - np.median(m.face.translation_cm, axis=0)
    pose = [Curve(n, pts, broken(angles[:, k]), k + 1) for k, n in enumerate(("turn", "nod", "tilt"))]
    shift = [Curve(n, pts, broken(place[:, k]), k + 1) for k, n in enumerate(("across", "down", "away"))]
    light = light_curve(m.pictures, m.kept_seconds)
    charts = [
        line_chart("Head rotation", "degrees", duration, pose, (lost, cut)),
        line_chart("Head position against its middle", "cm", duration, shift, (lost, cut)),
        line_chart("Eyes shut", "0 open, 1 shut", duration, [Curve("closure", pts, broken(m.face.closure))],
                   (blink, lost, cut), 0, 1),
        line_chart("Mouth opening", "cm", duration, [Curve("lips apart", pts, broken(m.face.aperture_cm))],
                   (lost, cut), 0),
        line_chart("Brightness of the face", f"1 is its usual; {LIGHT_CHANGE:.0%} of change is allowed", duration,
                   [Curve("brightness", pts[m.pictures.sampled], light)], (lost, cut), min(0.8, float(light.min())),
                   max(1.2, float(light.max()))),
    ]  # fmt: skip
    if m.sound is not None:
        heard = m.sound
        charts.append(
            line_chart("Sound level", "dB of full scale", duration,
                       [Curve("level", heard.level_seconds, np.maximum(heard.level_db.astype(np.float64), -80))],
                       (lost,), -80, 0)
        )  # fmt: skip
    return charts


def _spans(times: list[float], step: float) -> list[tuple[float, float]]:
    """Neighbouring times, no further apart than `step`, as stretches."""
    spans: list[tuple[float, float]] = []
    for t in times:
        if spans and t - spans[-1][1] <= step:
            spans[-1] = (spans[-1][0], t)
        else:
            spans.append((t, t))
    return spans


def _rejects(clip: ClipFolder) -> list[str]:
    rejects = clip.manifest["rejects"]
    if not rejects:
        return [paragraph("None.")]
    step = 1.5 / float(clip.manifest["source"]["file_frame_rate_hz"])
    rows = []
    for reason, count in Counter(r["reason"] for r in rejects).most_common():
        spans = _spans([r["pts_seconds"] for r in rejects if r["reason"] == reason], step)
        said = ", ".join(clock(a) if b - a < 0.05 else f"{clock(a)} to {clock(b)}" for a, b in spans[:12])
        rows.append((escape(reason), str(count), escape(said + (", and so on" if len(spans) > 12 else ""))))
    return [table(("Why", "Pictures", "When"), rows)]


def _sheet(clip: ClipFolder, m: _Measured) -> np.ndarray:
    columns, captions = [], []
    for k in [*m.spread, *m.worst]:
        person, labels = m.pictures.masks[k]
        whole = m.shown[k].whole
        columns.append([m.shown[k].face, with_labels(whole, labels), on_checkerboard(whole, person)])
        worst = f", residual {clip.manifest['frames'][k]['pose_residual_px']:.2f} px" * (k in m.worst)
        captions.append(f"{clock(float(clip.pts_seconds[k]))}{worst}")
    return contact_sheet(columns, captions)
