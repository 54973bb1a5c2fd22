"""Who agreed to be made speak, when and to what: the avatar file's record of it."""

from __future__ import annotations

import datetime
import hashlib
import re
import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avatarfit.contracts import InputError

NAME_LIMIT, SCOPE_LIMIT = 200, 2000
"""The longest name and scope, in characters."""


@dataclass(frozen=True)
class Consent:
    """What a person agreed to. It checks itself, for it also comes out of files of strangers.

    Attributes:
        name: who agreed, 1 to `NAME_LIMIT` characters in one line.
        scope: to what, 1 to `SCOPE_LIMIT` characters in one line.
        date: when, as 2026-01-31.
        statement_sha256: of the file that states it (a signed form, a recording); None where there is none.

    Raises:
        InputError: a part is of the wrong type, empty, too long, not one printable line, no date or no sha256.
    """

    name: str
    scope: str
    date: str
    statement_sha256: str | None = None

    def __post_init__(self) -> None:
        for part, limit in (("name", NAME_LIMIT), ("scope", SCOPE_LIMIT)):
            _check_line(part, getattr(self, part), limit)
        if not isinstance(self.date, str) or not _is_date(self.date):
            raise InputError(
                f"the consent's date came as {_short(self.date)}", "a day such as 2026-01-31", "correct the date"
            )
        digest = self.statement_sha256
        if digest is not None and not (isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest)):
            raise InputError(
                f"the consent's statement came as {_short(digest)}", "64 hexadecimal digits of a sha256, or none",
                "make the record anew with avatarfit consent",
            )  # fmt: skip

    @classmethod
    def given(cls, name: str, scope: str, date: str | None = None, statement: Path | None = None) -> Consent:
        """A record of what is said here, today if no date is given; of the statement's file only the hash is kept.

        Raises:
            InputError: as the class, or the statement's file cannot be read.
        """
        digest = None
        if statement is not None:
            try:
                with statement.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise InputError(
                    f"the statement of consent {statement} cannot be read ({error.strerror})",
                    "a file, such as a signed form", "check the name",
                ) from error  # fmt: skip
        day = datetime.date.today().isoformat() if date is None else date.strip()
        return cls(name.strip(), scope.strip(), day, digest)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, as the avatar file's header holds it."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def of_header(cls, entry: Any) -> Consent | None:
        """The record out of an avatar file's header entry; None where nothing was recorded.

        Raises:
            ValueError: no record as `as_dict` makes it.
        """
        if entry is None:
            return None
        if not isinstance(entry, dict) or not set(entry) <= {"name", "scope", "date", "statement_sha256"}:
            raise ValueError(f"the consent is {_short(entry)}")
        try:
            return cls(**entry)
        except (InputError, TypeError) as error:
            raise ValueError(error.came if isinstance(error, InputError) else "the consent lacks a part") from error

    def __str__(self) -> str:
        stated = "" if self.statement_sha256 is None else f"; statement sha256 {self.statement_sha256}"
        return f"{self.name}, {self.date}, for: {self.scope}{stated}"


def is_printable_line(text: str) -> bool:
    """Whether a text is one line without control, formatting or surrogate characters, so safe for any terminal."""
    return not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)


def _check_line(part: str, text: Any, limit: int) -> None:
    if isinstance(text, str) and 0 < len(text) <= limit and is_printable_line(text):
        return
    raise InputError(
        f"the consent's {part} came as {_short(text)}", f"one line of 1 to {limit} letters", f"give another {part}"
    )


def _is_date(text: str) -> bool:
    try:
        return len(text) == 10 and datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _short(value: Any) -> str:
    """A value for an error's sentence: never long, never with control characters."""
    if not isinstance(value, str):
        return f"a {type(value).__name__}" if value is not None else "nothing"
    if not value:
        return "nothing"
    return ascii(value) if len(value) <= 40 else f"{value[:40]!a}... of {len(value)} characters"
