"""Events become bars with time left, a log in JSON lines, TensorBoard curves, and a preview picture that refreshes."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from avatarfit.contracts.events import Event, Finished, Listener, Note, Picture, Progress, Started
from avatarfit.output import write_png

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm


def together(*listeners: Listener) -> Listener:
    """A listener that passes each event to all of `listeners`, one event at a time even from several threads."""
    lock = threading.Lock()

    def listen(event: Event) -> None:
        with lock:
            for listener in listeners:
                listener(event)

    return listen


class TerminalBars:
    """One tqdm bar per stage, with its rate, time left and named figures; notes and finished stages as lines.

    Where `stream` is no terminal, bars refresh every 15 s, so that logs stay short.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._bars: dict[str, tqdm[Any]] = {}

    def __call__(self, event: Event) -> None:
        """Show `event`."""
        from tqdm import tqdm

        if isinstance(event, Started):
            self._close(event.stage)
            self._bars[event.stage] = tqdm(
                total=event.total, desc=event.stage, unit=f" {event.unit}", file=self._stream, leave=False,
                mininterval=0.2 if self._stream.isatty() else 15, dynamic_ncols=True,
            )  # fmt: skip
        elif isinstance(event, Progress) and event.stage in self._bars:
            bar = self._bars[event.stage]
            if event.values:
                bar.set_postfix({k: f"{v:.4g}" for k, v in event.values.items()}, refresh=False)
            # A run by the clock learns on its way how many steps it will come to; the time left follows from it.
            bar.total = event.total
            bar.update(event.step - bar.n)
            if event.step == event.total:
                self._close(event.stage)
        elif isinstance(event, Note):
            self._line(f"{event.stage}: {event.text}")
        elif isinstance(event, Finished):
            self._close(event.stage)
            how = "taken from before" if event.reused else f"{event.seconds:.1f} s"
            figures = "".join(f", {k} {v:.4g}" for k, v in event.values.items())
            self._line(f"{event.stage}: done ({how}{figures})")

    def _line(self, text: str) -> None:
        from tqdm import tqdm

        tqdm.write(text, file=self._stream)
        self._stream.flush()

    def _close(self, stage: str) -> None:
        bar = self._bars.pop(stage, None)
        if bar is not None:
            bar.close()

    def close(self) -> None:
        """Take down bars that are still up, as after an error."""
        for stage in list(self._bars):
            self._close(stage)


class JsonLines:
    """Every event but pictures as one JSON object per line: `time` (Unix seconds), `event`, then the event's fields.

    Numbers that are not finite become null, so that each line is valid JSON.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115 (closed by close)

    def __call__(self, event: Event) -> None:
        """Append `event`."""
        if isinstance(event, Picture):
            return
        record: dict[str, Any] = {"time": round(time.time(), 3), "event": type(event).__name__.lower()}
        for name, value in vars(event).items():
            record[name] = {k: _finite(v) for k, v in value.items()} if name == "values" else value
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


class TensorBoard:
    """Figures as curves and pictures, both named "stage/name", in a TensorBoard folder."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._writer: SummaryWriter | None = None

    def __call__(self, event: Event) -> None:
        """Record `event`."""
        if not isinstance(event, Progress | Picture | Finished):
            return
        if isinstance(event, Progress | Finished) and not event.values:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder))
        if isinstance(event, Picture):
            self._writer.add_image(f"{event.stage}/{event.name}", event.rgb, event.step, dataformats="HWC")
            return
        for name, value in event.values.items():
            if isinstance(event, Progress):
                self._writer.add_scalar(f"{event.stage}/{name}", value, event.step)
            else:
                self._writer.add_scalar(f"{event.stage}/final/{name}", value)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


class Preview:
    """The newest picture, as one PNG file that is replaced whole."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def __call__(self, event: Event) -> None:
        """Keep `event` if it is a picture."""
        if isinstance(event, Picture):
            write_png(self._path, np.ascontiguousarray(event.rgb))


class Listeners:
    """What the command line shows and keeps of a long run; a context manager that closes everything.

    Args:
        folder: for `events.jsonl`, `tensorboard/` and `preview.png`; made; None: only the terminal.
        stream: where bars go; None: standard error.
    """

    def __init__(self, folder: str | Path | None = None, stream: TextIO | None = None) -> None:
        self._bars = TerminalBars(stream)
        self._others: list[JsonLines | TensorBoard] = []
        parts: list[Listener] = [self._bars]
        if folder is not None:
            folder = Path(folder)
            folder.mkdir(parents=True, exist_ok=True)
            self._others = [JsonLines(folder / "events.jsonl"), TensorBoard(folder / "tensorboard")]
            parts += [*self._others, Preview(folder / "preview.png")]
        self.on_event: Listener = together(*parts)

    def __enter__(self) -> Listener:
        return self.on_event

    def __exit__(self, *_: object) -> None:
        self._bars.close()
        for listener in self._others:
            listener.close()
