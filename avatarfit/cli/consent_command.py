"""`avatarfit consent`, and the question that `avatarfit fit` asks."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from avatarfit.cli.types import MaybePath, MaybeText

if TYPE_CHECKING:
    from avatarfit.avatarfile.consent import Consent

_ANY_SCOPE = "to be made speak"


@dataclass(frozen=True)
class ConsentOptions:
    """Who agreed to be made speak."""

    consent_name: MaybeText = None
    """Who is in the clip and agreed to be made speak; asked for on a terminal. The avatar file keeps it, and every
    video names this person."""
    consent_scope: MaybeText = None
    """To what they agreed, in a line, such as "the evening news until the end of 2026"."""
    consent_date: MaybeText = None
    """When, such as 2026-01-31; today if not given."""
    consent_statement: MaybePath = None
    """A file that states it, such as a signed form; its sha256 is kept."""
    no_consent: bool = False
    """Record nothing and ask nothing."""

    def record(self, ask: bool = True) -> Consent | None:
        """The record that these options, or answers on a terminal, make; None where there is none.

        Raises:
            InputError: they contradict each other, or a part cannot be recorded.
        """
        from avatarfit.avatarfile.consent import Consent
        from avatarfit.contracts import InputError

        parts = {"scope": self.consent_scope, "date": self.consent_date, "statement": self.consent_statement}
        came = [f"--consent-{part}" for part, value in parts.items() if value is not None]
        if self.no_consent and (came or self.consent_name is not None):
            raise InputError(
                f"--no-consent came with {came[0] if came else '--consent-name'}", "one of them", "leave one away"
            )
        if self.consent_name is not None:
            scope = _ANY_SCOPE if self.consent_scope is None else self.consent_scope
            return Consent.given(self.consent_name, scope, self.consent_date, self.consent_statement)
        if came:
            raise InputError(f"{came[0]} came without --consent-name", "who agreed, too", "add --consent-name")
        # Without a terminal nobody could answer, and a fit must not wait for ever.
        if self.no_consent or not ask or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return None
        return _asked()


def _asked() -> Consent | None:
    """Answers on a terminal; asked again where one cannot be recorded."""
    from avatarfit.avatarfile.consent import Consent
    from avatarfit.contracts import InputError

    def ask(question: str) -> str:
        print(question, end=" ", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip()

    print("The avatar file keeps who agreed to be made speak; every video will name them.", file=sys.stderr)
    while True:
        name = ask("Who is in the clip and agreed to it? (Return: record nothing)")
        if not name:
            return None
        scope = ask(f"Agreed to what? (Return: {_ANY_SCOPE})") or _ANY_SCOPE
        date = ask("When, such as 2026-01-31? (Return: today)") or None
        statement = ask("A file that states it, such as a signed form? (Return: none)")
        try:
            return Consent.given(name, scope, date, Path(statement) if statement else None)
        except InputError as error:
            print(f"{error} Once more:", file=sys.stderr)


def consent_text(consent: Consent | None, avatar: Path) -> str:
    """What was recorded, in a sentence."""
    if consent is None:
        return (
            f"No consent is recorded in {avatar}; to add it: "
            f"avatarfit consent {avatar} --consent-name NAME --consent-scope SCOPE"
        )
    return f"Consent is recorded in {avatar}: {consent}"


@dataclass(frozen=True)
class ConsentCommand:
    """Say whose consent an avatar file records, or record it (--consent-name), or take it out (--no-consent)."""

    avatar: tyro.conf.Positional[Path]
    """The avatar file."""
    consent: ConsentOptions = field(default_factory=ConsentOptions)
    """What to record."""

    def run(self) -> int:
        """Show or change; the exit code."""
        from avatarfit.avatarfile import header_consent, read_avatar, write_avatar

        header, tensors = read_avatar(self.avatar)
        recorded = header_consent(self.avatar, header)
        changed = self.consent.record(ask=False)
        if changed is None and not self.consent.no_consent:
            print(consent_text(recorded, self.avatar))
            return 0
        header["consent"] = None if changed is None else changed.as_dict()
        write_avatar(self.avatar, header, tensors)
        print(consent_text(changed, self.avatar))
        return 0
