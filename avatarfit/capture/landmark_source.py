"""Which network finds the landmarks of a clip, where its file is looked for, and how it is fetched when asked.

Without a file, MediaPipe's face mesh does it, whose networks lie inside the wheel. With Google's `face_landmarker.task`
the same 478 landmarks come from there, and 52 blendshapes with them. Landmarks of the two differ by some 2 px, so a
clip takes all of its landmarks from one.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from avatarfit.capture.stages import file_sha256
from avatarfit.contracts import FileFormatError, InputError
from avatarfit.contracts.events import Listener, Note, Progress, Started, silent

FACE_MESH_NAME = "mediapipe-0.10.21 face_mesh"
BUNDLE_FILE = "face_landmarker.task"
BUNDLE_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
)
BUNDLE_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
ENVIRONMENT = "AVATARFIT_FACE_LANDMARKER"

_LARGEST_BYTES = 64 * 2**20
_TIMEOUT_SECONDS = 30
_CHUNK = 1 << 16
_WANTED = f"the path of a {BUNDLE_FILE}, auto or none"


@dataclass(frozen=True)
class LandmarkSource:
    """The network that gives a clip its landmarks.

    Attributes:
        name: as clip.json tells it; equal names mean landmarks that may be compared.
        bundle: the `.task` file, None for the face mesh inside mediapipe.
    """

    name: str
    bundle: Path | None = None


FACE_MESH = LandmarkSource(FACE_MESH_NAME)


def cache_path() -> Path:
    """Where `fetch_bundle` puts the file and `auto` looks: in avatarfit/ of $XDG_CACHE_HOME, or of ~/.cache."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification: a relative path is to be ignored.
    base = Path(named) if named and Path(named).is_absolute() else Path.home() / ".cache"
    return base / "avatarfit" / BUNDLE_FILE


def choose_source(wanted: str | Path = "auto", on_event: Listener = silent) -> LandmarkSource:
    """The source to take.

    Args:
        wanted: the path of a `.task` file; "none" for the face mesh; "auto" for the file that the environment variable
            AVATARFIT_FACE_LANDMARKER names ("none" there means the face mesh), else the one in the user's cache, else
            the face mesh.
        on_event: told what `auto` chose when it is not the face mesh, and of a file that is not the known one.

    Raises:
        InputError: the named file is not there, or cannot be read.
        FileFormatError: it is no bundle of networks, or the cache's is not the one it should be.
    """
    if str(wanted) == "none":
        return FACE_MESH
    if str(wanted) != "auto":
        return _bundled(Path(wanted), "--landmarker", on_event)
    named = os.environ.get(ENVIRONMENT, "")
    if named == "none":
        return FACE_MESH
    if named:
        source = _bundled(Path(named), ENVIRONMENT, on_event)
        on_event(Note("landmarks", f"landmarks and blendshapes come from {named}, which {ENVIRONMENT} names"))
        return source
    cached = cache_path()
    if not cached.is_file():
        return FACE_MESH
    if file_sha256(cached) != BUNDLE_SHA256:
        raise FileFormatError(
            f"{cached} is not the {BUNDLE_FILE} it should be", f"sha256 {BUNDLE_SHA256}",
            "delete it, or fetch it again: avatarfit fetch landmarker",
        )  # fmt: skip
    on_event(Note("landmarks", f"landmarks and blendshapes come from {cached}; --landmarker none leaves it"))
    return _named(cached, BUNDLE_SHA256)


def _named(path: Path, sha256: str) -> LandmarkSource:
    return LandmarkSource(f"{BUNDLE_FILE} sha256:{sha256}", path)


def _bundled(path: Path, where: str, on_event: Listener) -> LandmarkSource:
    path = path.expanduser()
    if not path.is_file():
        raise InputError(
            f"{where} came as {path}, where no file is", _WANTED, "check the path, or run avatarfit fetch landmarker"
        )
    try:
        sha256 = file_sha256(path)
    except OSError as cause:
        raise InputError(f"{path} cannot be read ({cause})", _WANTED, "choose a file that may be read") from cause
    if sha256 != BUNDLE_SHA256:
        if not zipfile.is_zipfile(path):  # a .task file is a zip of networks
            raise FileFormatError(
                f"{path} is no bundle of MediaPipe networks", f"Google's {BUNDLE_FILE}", "fetch the file again"
            )
        on_event(Note("landmarks", f"{path} is not the {BUNDLE_FILE} that avatarfit was measured with"))
    return _named(path, sha256)


def fetch_bundle(
    destination: Path | None = None,
    *,
    url: str = BUNDLE_URL,
    sha256: str = BUNDLE_SHA256,
    on_event: Listener = silent,
) -> Path:
    """Downloads the bundle, checks it, and puts it in its place in one move; what is there and right is kept.

    Args:
        destination: the file to write; None is the user's cache.
        url: where it lies.
        sha256: what it must be.
        on_event: told of the progress, in bytes.

    Returns:
        the file's path.

    Raises:
        InputError: the address cannot be reached, answers with an error or too much, or the file cannot be written.
        FileFormatError: what came is not the file that was wanted.
    """
    path = destination or cache_path()
    if path.is_file() and file_sha256(path) == sha256:
        on_event(Note("fetch", f"{path} is there and whole already"))
        return path
    wanted = f"{BUNDLE_FILE} from its official address"
    by_hand = "try again later, or download it elsewhere and give its path with --landmarker"
    if not url.startswith(("https://", "http://")):
        raise InputError(f"--url came as {url}", "an address that begins with https:// or http://", "change it")
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = _download(url, part, on_event)
        if digest != sha256:
            raise FileFormatError(
                f"{url} gave a file with sha256 {digest}", f"sha256 {sha256}",
                "try again; if it stays so, the file at that address was changed and should not be used",
            )  # fmt: skip
        os.replace(part, path)
    except urllib.error.URLError as cause:
        reason = f"HTTP {cause.code}" if isinstance(cause, urllib.error.HTTPError) else str(cause.reason)
        raise InputError(f"{url} cannot be fetched ({reason})", wanted, by_hand) from cause
    except (ConnectionError, TimeoutError, http.client.HTTPException) as cause:
        raise InputError(f"{url} broke off ({cause})", wanted, by_hand) from cause
    except OSError as cause:
        raise InputError(f"{path} cannot be written ({cause})", "a place to keep the file", by_hand) from cause
    finally:
        part.unlink(missing_ok=True)
    return path


def _download(url: str, part: Path, on_event: Listener) -> str:
    """Writes what lies at `url` to `part`; its sha256."""
    digest, done = hashlib.sha256(), 0
    request = urllib.request.Request(url, headers={"User-Agent": "avatarfit"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer, part.open("wb") as file:
        stated = answer.headers.get("Content-Length", "")
        total = int(stated) if stated.isdigit() else None
        on_event(Started("fetch", total, "bytes"))
        while piece := answer.read(_CHUNK):
            done += len(piece)
            if done > _LARGEST_BYTES:
                raise InputError(f"{url} gives over {_LARGEST_BYTES >> 20} MiB", "a file of 4 MB", "check the address")
            digest.update(piece)
            file.write(piece)
            on_event(Progress("fetch", done, total))
        if total is not None and done < total:
            raise ConnectionResetError(f"{done} of {total} bytes came")
    return digest.hexdigest()
