"""What is said of a video's origin: who signs, whose consent is needed, a visible mark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from avatarfit.cli.types import MaybePath

if TYPE_CHECKING:
    from avatarfit.compositing.mark import Mark
    from avatarfit.output.provenance import Signing

_TEXT = tyro.constructors.PrimitiveConstructorSpec[str](
    nargs="*", metavar="[TEXT]", instance_from_str=" ".join, is_instance=lambda value: isinstance(value, str),
    str_from_instance=lambda value: [value],
)  # fmt: skip


@dataclass(frozen=True)
class ProvenanceOptions:
    """Every video says in a signed C2PA manifest that it is synthetic, of whom and driven by what."""

    sign_cert: MaybePath = None
    """Your certificate, PEM, with those that vouch for it; a local one, made at first use, signs if not given."""
    sign_key: MaybePath = None
    """Its private key, PEM, without a password."""
    require_consent: bool = False
    """Refuse an avatar that records nobody's consent."""
    mark: Annotated[str | None, _TEXT] = None
    """A visible mark in the upper left corner, AI-generated if no text is given."""
    mark_font: MaybePath = None
    """A font file for letters that the built-in one lacks."""

    @property
    def signing(self) -> Signing:
        """Whose certificate signs."""
        from avatarfit.output.provenance import Signing

        return Signing(self.sign_cert, self.sign_key)

    def visible_mark(self) -> Mark | None:
        """The mark; None where none is asked for.

        Raises:
            InputError: it cannot be drawn.
        """
        if self.mark is None:
            if self.mark_font is not None:
                from avatarfit.contracts import InputError

                raise InputError("--mark-font came without --mark", "both, or none of them", "add --mark")
            return None
        from avatarfit.compositing.mark import USUAL_TEXT, Mark

        return Mark(self.mark or USUAL_TEXT, self.mark_font)
