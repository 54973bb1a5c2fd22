"""What is made says so: C2PA manifests (https://c2pa.org, specification 2.1), signed, in every file that is written.

A manifest names the avatar and the sound by their sha256, the person where the avatar's consent does, and what made it.
It is embedded where the format has a place for it and lies beside the file as NAME.EXT.c2pa where not. Of an image
sequence, a list of the files' hashes in sha256sum's form is signed. Nothing here ever uses the network: no time-stamp
authority is asked, so the time of signing is the signer's word.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from avatarfit import __version__
from avatarfit.avatarfile.whole_file import whole_file
from avatarfit.contracts import BackendError, InputError
from avatarfit.contracts.events import Listener, Note, silent
from avatarfit.output.signing_identity import Identity, given_identity

if TYPE_CHECKING:
    import c2pa

SYNTHESIS = "avatarfit.synthesis"
"""Label of the assertion that says of whom and driven by what."""
SIDECAR = ".c2pa"
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
EMBEDDED = {
    ".avi": "video/avi", ".gif": "image/gif", ".jpeg": "image/jpeg", ".jpg": "image/jpeg", ".m4v": "video/mp4",
    ".mov": "video/quicktime", ".mp4": "video/mp4", ".png": "image/png", ".tif": "image/tiff", ".tiff": "image/tiff",
    ".wav": "audio/wav", ".webp": "image/webp",
}  # fmt: skip
"""MIME types of the suffixes whose files hold a manifest themselves."""
OFFLINE = {
    "verify": {"ocsp_fetch": False, "remote_manifest_fetch": False, "verify_after_sign": False},
    # Above so many megabytes the library keeps what it works on in temporary files.
    "core": {"allowed_network_hosts": [], "backing_store_memory_threshold_in_mb": 64},
    "builder": {"thumbnail": {"enabled": False}},
}
_NUMBER = re.compile(r"%0?\d*d|#+")
_MISSING = "pip install c2pa-python"


@dataclass(frozen=True)
class Signing:
    """Whose certificate signs: PEM files, the signing certificate first; None for the local one."""

    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Origin:
    """What a file is.

    Attributes:
        made_by: the command, such as drive or dub.
        composite: real pictures, such as footage or a filmed background, are mixed with the synthetic ones.
        avatar_sha256: of the avatar's file; None for one that never was in a file.
        person: who is shown, as the avatar's record of consent names them.
        sound_sha256, motion_sha256, footage_sha256: of the files that drove it; None where there was none.
    """

    made_by: str
    composite: bool
    avatar_sha256: str | None = None
    person: str | None = None
    sound_sha256: str | None = None
    motion_sha256: str | None = None
    footage_sha256: str | None = None

    @property
    def source_type(self) -> str:
        """IPTC's digital source type."""
        return SOURCE_TYPES + ("compositeSynthetic" if self.composite else "trainedAlgorithmicMedia")

    def manifest(self, title: str) -> dict[str, Any]:
        """The manifest's definition as c2pa takes it."""
        agent = {"name": "avatarfit", "version": __version__}
        avatar = {"sha256": self.avatar_sha256, "person": self.person}
        parts: dict[str, dict[str, str | None]] = {
            "avatar": avatar, "sound": {"sha256": self.sound_sha256}, "motion": {"sha256": self.motion_sha256},
            "footage": {"sha256": self.footage_sha256},
        }  # fmt: skip
        said = {name: {k: v for k, v in part.items() if v is not None} for name, part in parts.items()}
        created = {"action": "c2pa.created", "digitalSourceType": self.source_type, "softwareAgent": agent}
        synthesis = {
            "synthetic": True, "software": f"avatarfit {__version__}", "made_by": self.made_by,
            **{name: part for name, part in said.items() if part},
        }  # fmt: skip
        return {
            "title": title,
            "claim_generator_info": [agent],
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
                {"label": SYNTHESIS, "data": synthesis},
            ],
        }


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes; of a clip folder, of its tracks.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with (path / "tracks.safetensors" if path.is_dir() else path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", "a readable file", "check the name") from error


def open_sealer(signing: Signing, origin: Origin, on_event: Listener = silent) -> Sealer | None:
    """What signs the finished files; None, and a Note that says why, where the c2pa package is missing.

    Raises:
        InputError: the certificate or key cannot be used.
        BackendError: a certificate came, but the package is missing.
    """
    try:
        import c2pa  # noqa: F401
        import cryptography  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        why = f"the c2pa package cannot be loaded ({error})"
        if signing.certificate is not None or signing.key is not None:
            raise BackendError(why, "c2pa-python and cryptography, to sign with", _MISSING) from error
        on_event(Note(origin.made_by, f"what is made carries no signed record of its origin: {why}; {_MISSING}"))
        return None
    return Sealer(origin, given_identity(signing.certificate, signing.key))


class Sealer:
    """Signs files that are finished, but not yet in their place.

    Args:
        origin: what all of them are.
        identity: who signs; tried at once, so that a certificate that C2PA refuses is known before long work.

    Raises:
        InputError: C2PA refuses the certificate.
    """

    def __init__(self, origin: Origin, identity: Identity) -> None:
        import io

        from c2pa import C2paError

        self.origin, self.identity = origin, identity
        try:
            self._sign("trial", "application/octet-stream", io.BytesIO(b"trial"), _Nowhere(), embed=False)
        except C2paError as error:
            raise InputError(
                f"the certificate of {identity.name} cannot sign content credentials ({error})",
                "one with the extended key usage emailProtection or documentSigning that is not its own issuer",
                "give another with --sign-cert and --sign-key, or none for a local one",
            ) from error  # fmt: skip

    def seal(self, part: Path, target: Path) -> None:
        """Sign `part`, which is about to be renamed to `target`: it gets a manifest, or `target` a sidecar.

        Raises:
            OSError: the disk is full, or so.
            InputError: the format is not what the name says.
        """
        kind = EMBEDDED.get(target.suffix.lower())
        if kind is None:
            with part.open("rb") as source:
                manifest = self._signed(target, "application/octet-stream", source, _Nowhere(), embed=False)
            with whole_file(sidecar_of(target)) as file:
                file.write(manifest)
            return
        signed = part.with_name(part.name + ".signed")
        try:
            with part.open("rb") as source, signed.open("w+b") as destination:
                self._signed(target, kind, source, destination, embed=True)
            os.replace(signed, part)
        finally:
            signed.unlink(missing_ok=True)

    def seal_sequence(self, files: Iterable[Path], listing: Path) -> None:
        """Write `listing`, sha256sum's list of a sequence's files, which lie in its folder, and its sidecar.

        Write it before the last of the files comes to its place, or before the folder does: what looks finished is
        signed then.

        Raises:
            ValueError: a file lies elsewhere.
            OSError: the disk is full, or so.
        """
        self.seal_listed(((path.name, file_sha256(path)) for path in _in_folder(files, listing.parent)), listing)

    def seal_listed(self, hashes: Iterable[tuple[str, str]], listing: Path) -> None:
        """As `seal_sequence`, of names in the listing's folder and hashes that are known already."""
        import io

        text = "".join(f"{digest}  {name}\n" for name, digest in hashes).encode()
        with whole_file(sidecar_of(listing)) as sidecar:
            sidecar.write(self._signed(listing, "text/plain", io.BytesIO(text), _Nowhere(), embed=False))
        with whole_file(listing) as file:
            file.write(text)

    def _signed(self, target: Path, kind: str, source: BinaryIO, destination: Any, *, embed: bool) -> bytes:
        from c2pa import C2paError

        watched, written = _Watched(source), _Watched(destination)
        try:
            return self._sign(target.name, kind, watched, written, embed=embed)
        except C2paError as error:
            # The library tells only that reading or writing failed; why is known to the streams.
            for stream in (written, watched):
                if stream.error is not None:
                    raise stream.error from error
            if "No space left" in str(error) or "os error 28" in str(error):
                raise OSError(errno.ENOSPC, "No space left on device", str(target)) from error
            raise InputError(
                f"{target} cannot be signed ({error})", f"a whole {kind} file", "choose another format"
            ) from error

    def _sign(self, title: str, kind: str, source: Any, destination: Any, *, embed: bool) -> bytes:
        import c2pa

        who = self.identity
        info = c2pa.C2paSignerInfo(who.algorithm, who.chain_pem, who.key_pem, None)
        with (
            c2pa.Context.from_dict(OFFLINE) as context,
            c2pa.Signer.from_info(info) as signer,
            _builder(self.origin.manifest(title), context) as builder,
        ):
            if not embed:
                builder.set_no_embed()
            return builder.sign(signer, kind, source, destination)


def _builder(definition: dict[str, Any], context: c2pa.Context) -> c2pa.Builder:
    import c2pa

    return c2pa.Builder(definition, context=context)


def sidecar_of(path: Path) -> Path:
    """Where the manifest of a file that cannot hold one lies: beside it, NAME.EXT.c2pa."""
    return path.with_name(path.name + SIDECAR)


def listing_of(path: Path) -> Path:
    """Where a sequence's list of hashes lies: in its folder, named for the pattern of its names if it has one.

    Args:
        path: the folder, or a pattern such as frames/shot_%06d.exr.
    """
    if not _NUMBER.search(path.name):
        return path / "pictures.sha256"
    stem = _NUMBER.sub("", path.stem).strip("._- ")
    return path.with_name(f"{stem or 'pictures'}.sha256")


def _in_folder(files: Iterable[Path], folder: Path) -> Sequence[Path]:
    paths = list(files)
    if not paths or any(path.parent != folder for path in paths):
        raise ValueError(f"seal_sequence came with files outside {folder}, or none; wanted files in it")
    return paths


class _Nowhere:
    """Takes what is written and keeps none of it: signing without embedding writes an unchanged copy."""

    def __init__(self) -> None:
        self._at = self._end = 0

    def write(self, data: bytes) -> int:
        self._at += len(data)
        self._end = max(self._end, self._at)
        return len(data)

    def read(self, _size: int = -1) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (offset, self._at + offset, self._end + offset)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        pass


class _Watched:
    """A stream that remembers the first error that passing it to the library would hide."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def _do(self, what: Callable[..., Any], *values: Any) -> Any:
        try:
            return what(*values)
        except OSError as error:
            self.error = self.error or error
            raise

    def write(self, data: bytes) -> Any:
        return self._do(self._stream.write, data)

    def read(self, size: int = -1) -> Any:
        return self._do(self._stream.read, size)

    def seek(self, offset: int, whence: int = 0) -> Any:
        return self._do(self._stream.seek, offset, whence)

    def tell(self) -> Any:
        return self._do(self._stream.tell)

    def flush(self) -> None:
        self._do(self._stream.flush)
