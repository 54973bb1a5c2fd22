"""What a file says of its origin, who signed that, and whether it is still as it was signed; without the network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from avatarfit.avatarfile.consent import is_printable_line
from avatarfit.contracts import BackendError, FileFormatError, InputError
from avatarfit.output.provenance import EMBEDDED, OFFLINE, SIDECAR, SYNTHESIS, file_sha256, sidecar_of
from avatarfit.output.signing_identity import authorities, local_chain_pem, serial_number

Trust = Literal["own", "trusted", "unknown"]

_LIST_SUFFIX = ".sha256"
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\\\0\r\n]+)")
_LARGEST_LIST = 100_000_000
_LARGEST_MANIFEST = 100_000_000
_LONGEST_TEXT = 300
_CHANGED = ("Hash.mismatch", "hashedURI.mismatch", "claimSignature.mismatch", "claimSignature.missing")
_WANTED = "a file that was signed, with its manifest in it or beside it"


@dataclass(frozen=True)
class Verdict:
    """What was read.

    Attributes:
        path: the file that was signed.
        unchanged: the file is as it was signed, and the signature holds.
        faults: why not, in words; empty where it is unchanged.
        synthetic: the manifest says that the picture is synthetic or has synthetic parts.
        source_type: IPTC's digital source type, its last word; empty where the manifest names none.
        made_with: the software, as the manifest says.
        made_by: avatarfit's command; empty where another software made it.
        avatar_sha256, person, sound_sha256, motion_sha256, footage_sha256: as `Origin` has them, empty where not said.
        signer, issuer: names in the signing certificate.
        trust: "own" for this computer's own certificate, "trusted" for one that a known authority stands behind,
            "unknown" otherwise: then anybody may have signed under that name.
        pictures: how many files of a sequence were compared; 0 for a single file.
    """

    path: Path
    unchanged: bool
    faults: tuple[str, ...]
    synthetic: bool
    source_type: str
    made_with: str
    made_by: str
    avatar_sha256: str
    person: str
    sound_sha256: str
    motion_sha256: str
    footage_sha256: str
    signer: str
    issuer: str
    trust: Trust
    pictures: int = field(default=0)

    def as_dict(self) -> dict[str, object]:
        """JSON-able."""
        return {**asdict(self), "path": str(self.path), "faults": list(self.faults)}


def verify(path: str | Path, authorities_pem: bytes = b"") -> Verdict:
    """Read the manifest of a film, a picture, a folder of pictures, or one picture of a sequence.

    Args:
        path: the file, or the folder of a sequence, its list of hashes (.sha256), or a manifest (.c2pa).
        authorities_pem: PEM certificates that are trusted besides this computer's own.

    Raises:
        InputError: there is no such file, or it carries no manifest.
        FileFormatError: its manifest or list is damaged.
        BackendError: the c2pa package is missing.
    """
    path = _signed_file(Path(path))
    sidecar = sidecar_of(path)
    if sidecar.is_file():
        if path.suffix == _LIST_SUFFIX:
            return _verify_sequence(path, None, authorities_pem)
        return _read(path, _bytes(sidecar, _LARGEST_MANIFEST), authorities_pem)
    listing = None if path.suffix.lower() not in (".png", ".exr") else _listing_with(path)
    if listing is not None:
        return _verify_sequence(listing, path, authorities_pem)
    return _read(path, None, authorities_pem)


def _signed_file(path: Path) -> Path:
    """The file that a manifest would be of."""
    if path.is_dir():
        lists = sorted(path.glob(f"*{_LIST_SUFFIX}{SIDECAR}"))
        if len(lists) != 1:
            found = ", ".join(each.name for each in lists[:4]) or "none"
            raise InputError(
                f"the folder {path} holds {found} for a signed list of pictures", "one",
                "name the file to look at" if lists else "give a file, or the folder as it was written",
            )  # fmt: skip
        path = lists[0]
    if path.suffix == SIDECAR:
        path = path.with_suffix("")
    if not path.is_file():
        raise InputError(f"there is no file {path}", _WANTED, "check the name")
    return path


def _verify_sequence(listing: Path, only: Path | None, authorities_pem: bytes) -> Verdict:
    """The verdict on a list, and on the files it names or one of them."""
    sidecar = sidecar_of(listing)
    verdict = _read(listing, _bytes(sidecar, _LARGEST_MANIFEST), authorities_pem)
    entries = _entries(listing)
    changed, missing = [], []
    for name in entries if only is None else (only.name,):
        file = listing.with_name(name)
        if not file.is_file():
            missing.append(name)
        elif file_sha256(file) != entries[name]:
            changed.append(name)
    faults = list(verdict.faults)
    if changed:
        faults.append(f"{_some(changed)} changed since they were signed")
    if missing:
        faults.append(f"{_some(missing)} missing")
    return Verdict(
        **{**vars(verdict), "path": only or listing, "unchanged": not faults, "faults": tuple(faults),
           "pictures": len(entries) if only is None else 1},
    )  # fmt: skip


def _entries(listing: Path) -> dict[str, str]:
    """Names and hashes of a list.

    Raises:
        FileFormatError: not such a list; a name that leads out of its folder is none.
    """
    try:
        lines = _bytes(listing, _LARGEST_LIST).decode().splitlines()
    except UnicodeDecodeError as error:
        raise _damaged_list(listing) from error
    found = [_LINE.fullmatch(line) for line in lines]
    if not found or not all(found):
        raise _damaged_list(listing)
    return {match[2]: match[1] for match in found if match is not None}


def _damaged_list(listing: Path) -> FileFormatError:
    return FileFormatError(f"{listing} is no list of hashes", "sha256sum's lines", "fetch the sequence again")


def _listing_with(path: Path) -> Path | None:
    """The signed list that names this picture."""
    for sidecar in sorted(path.parent.glob(f"*{_LIST_SUFFIX}{SIDECAR}")):
        listing = sidecar.with_suffix("")
        if listing.is_file() and path.name in _entries(listing):
            return listing
    return None


def _bytes(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise FileFormatError(f"{path} is {path.stat().st_size} bytes long", f"at most {limit}", "fetch it again")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", "a readable file", "check its rights") from error


def _read(path: Path, manifest: bytes | None, authorities_pem: bytes) -> Verdict:
    try:
        import c2pa
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(
            f"the c2pa package cannot be loaded ({error})", "c2pa-python", "pip install c2pa-python"
        ) from error
    own = local_chain_pem()
    anchors = _anchors(own, "the local certificate") + _anchors(authorities_pem, "the file of trusted authorities")
    settings: dict[str, Any] = {**OFFLINE, **({"trust": {"user_anchors": "".join(anchors)}} if anchors else {})}
    kind = EMBEDDED.get(path.suffix.lower()) if manifest is None else "application/octet-stream"
    try:
        with (
            path.open("rb") as file,
            c2pa.Context.from_dict(settings) as context,
            c2pa.Reader(kind, file, manifest, context) as reader,
        ):
            report = json.loads(reader.json())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", _WANTED, "check its rights") from error
    except (c2pa.C2paError, ValueError) as error:
        raise _unreadable(path, manifest is not None, error) from error
    return _verdict(path, report, own)


def _unreadable(path: Path, beside: bool, error: Exception) -> InputError | FileFormatError:
    text = _line(str(error))
    if not beside and ("ManifestNotFound" in text or "JumbfNotFound" in text):
        return InputError(
            f"{path} carries no manifest of its origin", _WANTED,
            "ask who made it; copying into another format or uploading removes a manifest",
        )  # fmt: skip
    if not beside and ("NotSupported" in text or "unsupported type" in text.lower()):
        return InputError(
            f"{path} is of a format that holds no manifest, and there is no {path.name}{SIDECAR} beside it", _WANTED,
            f"fetch {path.name}{SIDECAR} too",
        )  # fmt: skip
    if "RemoteManifest" in text or "remote" in text.lower():
        return InputError(f"the manifest of {path} lies in the network", "one in the file or beside it", "fetch it")
    return FileFormatError(f"the manifest of {path} is damaged ({text})", "a whole manifest", "fetch the file again")


def _anchors(pem: bytes, what: str) -> list[str]:
    if not pem:
        return []
    try:
        return authorities(pem)
    except ValueError as error:
        raise InputError(f"{what} is not PEM", "certificates of authorities in PEM", "give another file") from error


def _verdict(path: Path, report: Any, own_chain: bytes) -> Verdict:
    """A verdict out of c2pa's report, whose words a stranger may have written."""
    active = _part(_part(report, "manifests"), str(_part(report).get("active_manifest")))
    results = _part(_part(report, "validation_results"), "activeManifest")
    said = dict(_assertions(active))
    synthesis = said.get(SYNTHESIS, {})
    source_type = _source_type(said)
    faults = tuple(_faults(results))
    signature = _part(active, "signature_info")
    trusted = any(_part(each).get("code") == "signingCredential.trusted" for each in _list(results, "success"))
    trust: Trust = "trusted" if trusted else "unknown"
    if trusted and signature.get("cert_serial_number") == serial_number(own_chain):
        trust = "own"
    generators = [_part(each) for each in _list(active, "claim_generator_info")]
    made_with = " ".join(_line(generators[0].get(key)) for key in ("name", "version")) if generators else ""

    def digest(part: str) -> str:
        text = _line(_part(synthesis, part).get("sha256"))
        return text if re.fullmatch(r"[0-9a-f]{64}", text) else ""

    return Verdict(
        path=path,
        unchanged=not faults,
        faults=faults,
        synthetic=synthesis.get("synthetic") is True or source_type in _SYNTHETIC,
        source_type=source_type,
        made_with=made_with.strip(),
        made_by=_line(synthesis.get("made_by")),
        avatar_sha256=digest("avatar"),
        person=_line(_part(synthesis, "avatar").get("person")),
        sound_sha256=digest("sound"),
        motion_sha256=digest("motion"),
        footage_sha256=digest("footage"),
        signer=_line(signature.get("common_name")),
        issuer=_line(signature.get("issuer")),
        trust=trust,
    )


_SYNTHETIC = (
    "trainedAlgorithmicMedia",
    "compositeSynthetic",
    "compositeWithTrainedAlgorithmicMedia",
    "algorithmicMedia",
)


def _faults(results: Mapping[str, Any]) -> list[str]:
    """What is wrong beyond a signer whom nobody here knows."""
    found = []
    for each in _list(results, "failure"):
        code = _line(_part(each).get("code"))
        if code == "signingCredential.untrusted":
            continue
        if code.endswith(_CHANGED):
            found.append("it was changed since it was signed")
        elif code in ("claimSignature.outsideValidity", "signingCredential.expired"):
            found.append("the certificate that signed it is not valid any more, or was not yet")
        else:
            found.append(f"{code}: {_line(_part(each).get('explanation'))}")
    if not results:
        found.append("it could not be checked")
    return list(dict.fromkeys(found))


def _source_type(said: Mapping[str, Mapping[str, Any]]) -> str:
    for label, data in said.items():
        if label.startswith("c2pa.actions"):
            for action in _list(data, "actions"):
                text = _line(_part(action).get("digitalSourceType"))
                if text:
                    return text.rsplit("/", 1)[-1]
    return ""


def _assertions(manifest: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(_line(_part(each).get("label")), _part(each, "data")) for each in _list(manifest, "assertions")]


def _part(tree: Any, key: str | None = None) -> Mapping[str, Any]:
    """A mapping, or one in it; empty where it is something else."""
    found = tree if key is None or not isinstance(tree, dict) else tree.get(key)
    return found if isinstance(found, dict) else {}


def _list(tree: Mapping[str, Any], key: str) -> list[Any]:
    found = tree.get(key)
    return found if isinstance(found, list) else []


def _line(value: Any) -> str:
    """Text of a stranger as one short line that no terminal takes for a command."""
    if not isinstance(value, str):
        return ""
    text = "".join(c if is_printable_line(c) else "\N{REPLACEMENT CHARACTER}" for c in value[:_LONGEST_TEXT])
    return text + ("..." if len(value) > _LONGEST_TEXT else "")


def _some(names: list[str]) -> str:
    shown = ", ".join(_line(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more are"
