"""Options that may be left away, with plain words for their values in the help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

MaybeInt = Annotated[int | None, tyro.conf.arg(metavar="INT")]
MaybeFloat = Annotated[float | None, tyro.conf.arg(metavar="FLOAT")]
MaybeText = Annotated[str | None, tyro.conf.arg(metavar="TEXT")]
MaybeSize = Annotated[str | None, tyro.conf.arg(metavar="256|512|1024|source")]
MaybePath = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
