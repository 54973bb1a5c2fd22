"""Footage of a person and new speech become the footage in which the person speaks it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatarfit.audio.named_encoder import encoder_of
from avatarfit.capture import ClipFolder
from avatarfit.contracts import InputError, Motion, SoundError
from avatarfit.contracts.events import Finished, Listener, Note, Picture, Progress, Started, silent
from avatarfit.evaluation.identity import OTHER_PERSON
from avatarfit.media import SoundBlocks
from avatarfit.output import OutputOptions, check_output, open_sink
from avatarfit.pipeline.blas_threads import one_blas_thread
from avatarfit.pipeline.drive import driving_sound
from avatarfit.pipeline.dub_footage import Footage, captured
from avatarfit.pipeline.dub_frames import dubbed_frames
from avatarfit.pipeline.dub_sound import cut_to, driven_mouth, mouth_at, own_sound
from avatarfit.pipeline.dub_torso import settled
from avatarfit.pipeline.origin import check_consent, sealer_for

if TYPE_CHECKING:
    from avatarfit.compositing.mark import Mark
    from avatarfit.model.avatar import Avatar
    from avatarfit.output.provenance import Signing

_STAGE = "dub"


@dataclass(frozen=True)
class DubReport:
    """What was made.

    Attributes:
        path: the video.
        frames, frame_rate_hz, width_px, height_px: of the video.
        dubbed: how many frames were drawn anew.
        left: those that stayed as they were, `[first_seconds, last_seconds, reason]`.
        identity, identity_limit: distance of the footage's person from the avatar's, and where another person begins
            (`evaluation.identity`).
        sound_seconds: length of the new sound; None where the footage's own was kept.
        seconds: time that it took, capture included.
    """

    path: Path
    frames: int
    frame_rate_hz: float
    width_px: int
    height_px: int
    dubbed: int
    left: list[tuple[float, float, str]]
    identity: float
    identity_limit: float
    sound_seconds: float | None
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """JSON-able."""
        return {**asdict(self), "path": str(self.path)}


@one_blas_thread()
def dub_video(
    avatar: Avatar,
    video: str | Path,
    sound: str | Path | SoundBlocks | None,
    output: str | Path,
    *,
    motion: Motion | None = None,
    work_dir: str | Path | None = None,
    lip_strength: float | None = None,
    lle_strength: float | None = None,
    variation: float | None = None,
    seed: int = 0,
    features: str | None = None,
    output_options: OutputOptions | None = None,
    signing: Signing | None = None,
    require_consent: bool = False,
    mark: Mark | None = None,
    report: str | Path | None = None,
    backend: str = "auto",
    on_event: Listener = silent,
) -> DubReport:
    """Write `video` with its person speaking `sound`: size, rate and timing of the footage, only the mouth is new.

    Args:
        avatar: of the person in the footage.
        video: the footage, or its clip folder.
        sound: any sound file, or a video whose sound is taken. Where it ends early there is silence; what is longer
            than the footage is cut off. None, with `motion`, keeps the footage's own sound.
        output: a film, or a folder or numbered name for pictures (`output.open_sink`).
        motion: whose mouth is taken instead of the driver's, by its times on the footage's clock.
        work_dir: for the footage's clip folder; None puts it beside the output.
        lip_strength, lle_strength, variation, seed: of the driver (`driving.DriveOptions`).
        features: what the avatar's driver hears, if it is a network: the checkpoint's folder or name.
        output_options: how pictures and sound are stored; without alpha, for footage has none.
        signing: whose certificate signs what the output says of its origin; None for the local one.
        require_consent: refuse an avatar that records nobody's consent.
        mark: a visible mark on every picture; None for none.
        report: a JSON file for the report.
        backend: of the renderer.

    Raises:
        SoundError: there is no sound, or it cannot be read.
        InputError: footage or output cannot be used, or the footage shows somebody else.
        FaceError: no face in the footage, or none that faces the camera.
    """
    began = time.perf_counter()
    output, video = Path(output), Path(video)
    stored = output_options or OutputOptions()
    check_dub(video, sound, output, motion is not None, stored)
    if require_consent:
        check_consent(avatar)
    heard = driving_sound(sound) if isinstance(sound, str | Path) else sound
    filmed = video if video.is_file() else ClipFolder.open(video).source
    sealer = sealer_for(avatar, _STAGE, signing, on_event, composite=True, sound=heard, footage=filmed)
    encoder = None if motion is not None else encoder_of(avatar.driver.feature_name, features)
    work = Path(work_dir) if work_dir is not None else output.with_suffix(".work")
    footage = Footage.of(avatar, captured(avatar, video, work, on_event))
    footage, clothes = settled(avatar, footage, backend)
    for text in (*_told(footage, heard), *([clothes] if clothes else [])):
        on_event(Note(_STAGE, text))
    if motion is not None:
        mouth = mouth_at(motion, footage.pts_seconds)
    else:
        assert heard is not None
        assert encoder is not None
        asked = {"lip_strength": lip_strength, "lle_strength": lle_strength, "variation": variation}
        options = {name: value for name, value in asked.items() if value is not None}
        mouth = driven_mouth(avatar, heard, footage, encoder, options | {"seed": seed})
    rate = footage.clip.manifest["source"]["file_frame_rate_hz"]
    shown = shown_at(footage.pts_seconds, rate)
    if len(shown) != len(footage) or (shown != np.arange(len(footage))).any():
        on_event(Note(_STAGE, f"the footage's pictures come unevenly; the video shows them at {rate:g} a second"))
    kept_sound = cut_to(heard, len(shown) / rate) if heard is not None else own_sound(footage)
    camera = footage.camera
    made_from = {
        "avatar": avatar.made, "footage": footage.clip.content_hash, "sound": sound,
        "mouth": hashlib.sha256(mouth.tobytes()).hexdigest(), "mark": None if mark is None else mark.text,
    }  # fmt: skip
    on_event(Started(_STAGE, len(shown)))
    with open_sink(
        output, stored, camera.width_px, camera.height_px, rate, kept_sound, made_from=made_from, sealer=sealer
    ) as sink:
        done = sink.first_frame
        part = range(int(shown[done]) if done < len(shown) else len(footage), len(footage))
        with closing(dubbed_frames(avatar, footage, mouth, backend, part=part)) as frames:
            for frame in frames:
                picture = frame.picture
                if mark is not None:
                    picture = picture.copy()
                    mark.stamp(picture)
                while done < len(shown) and shown[done] == frame.index:
                    sink.write(picture)
                    done += 1
                    on_event(Progress(_STAGE, done, len(shown)))
                if frame.index == len(footage) // 2:
                    on_event(Picture(_STAGE, frame.index, "frame", picture))
    made = DubReport(
        output, len(shown), float(rate), camera.width_px, camera.height_px, int((~footage.left[shown]).sum()),
        left_stretches(footage), round(footage.identity, 5), OTHER_PERSON,
        None if heard is None else round(heard.duration_seconds, 3), round(time.perf_counter() - began, 2),
    )  # fmt: skip
    if report is not None:
        Path(report).write_text(json.dumps(made.as_dict(), indent=2) + "\n", encoding="utf-8")
    on_event(Finished(_STAGE, made.seconds, {"frames_per_s": made.frames / max(made.seconds, 1e-9)}))
    return made


def check_dub(
    video: Path, sound: object, output: Path, has_motion: bool = False, options: OutputOptions | None = None
) -> None:
    """Raise unless these, as `dub_video` takes them, can be used, as far as can be told at once.

    Raises:
        InputError, SoundError: they cannot.
    """
    stored = options or OutputOptions()
    if stored.takes_alpha:
        raise InputError("alpha was asked for", "an opaque film, for footage has no alpha", "leave --alpha and key out")
    check_output(output, stored)
    if sound is None and not has_motion:
        raise SoundError("no sound came", "the speech that the person shall say", "add --audio new.wav")
    if not video.exists():
        raise InputError(f"there is no footage {video}", "a video or a clip folder", "check the name")
    if video.is_file() and output.exists() and video.samefile(output):
        raise InputError(f"the output {output} is the footage itself", "another name", "change -o")


def shown_at(pts_seconds: np.ndarray, rate_hz: float) -> np.ndarray:
    """Which picture is shown at each tick of a constant rate, int [K]: each in turn where they come evenly.

    Args:
        pts_seconds: float [N], rising from about 0.
    """
    count = len(pts_seconds)
    if np.abs(pts_seconds - pts_seconds[0] - np.arange(count) / rate_hz).max() < 0.5 / rate_hz:
        return np.arange(count)
    ticks = np.arange(max(round(float(pts_seconds[-1] - pts_seconds[0]) * rate_hz) + 1, 1)) / rate_hz
    return np.clip(np.searchsorted(pts_seconds - pts_seconds[0], ticks + 0.25 / rate_hz) - 1, 0, count - 1)


def left_stretches(footage: Footage) -> list[tuple[float, float, str]]:
    """Pictures that stay as they are: first and last second of each stretch, and why."""
    out: list[tuple[float, float, str]] = []
    for k in np.flatnonzero(footage.left):
        at, reason = round(float(footage.pts_seconds[k]), 3), footage.reasons[k]
        if out and k and footage.left[k - 1] and out[-1][2] == reason:
            out[-1] = (out[-1][0], at, reason)
        else:
            out.append((at, at, reason))
    return out


def _told(footage: Footage, sound: SoundBlocks | None) -> Iterator[str]:
    yield f"the footage's person is {footage.identity:.4f} from the avatar's (another person from {OTHER_PERSON} on)"
    stretches = left_stretches(footage)
    for reason in dict.fromkeys(part[2] for part in stretches):
        spans = [f"{a:.2f} to {b:.2f}" for a, b, why in stretches if why == reason]
        count = sum(why == reason for why in footage.reasons)
        shown = ", ".join(spans[:4]) + (f" and {len(spans) - 4} more" if len(spans) > 4 else "")
        yield f"{count} pictures stay as they were, for {reason}: {shown} s"
    if sound is not None:
        length = float(footage.pts_seconds[-1]) + 1 / footage.clip.frame_rate_hz
        if sound.duration_seconds > length + 0.1:
            yield f"the sound is {sound.duration_seconds - length:.1f} s longer than the footage and is cut off there"
        elif sound.duration_seconds < length - 0.1:
            yield f"the sound ends {length - sound.duration_seconds:.1f} s before the footage; the mouth rests then"
