"""Line charts as inline SVG: no script, colours from the page's style sheet, a text for those who cannot see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

WIDTH, HEIGHT = 720, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 22, 10, 26
_MOST_POINTS = 700


@dataclass(frozen=True)
class Curve:
    """One line: its name, and a break where values are NaN. `kind` 1 to 3 chooses colour and dash."""

    name: str
    seconds: np.ndarray
    values: np.ndarray
    kind: int = 1


@dataclass(frozen=True)
class Marks:
    """Stretches of time that are shaded over the whole height: (start, stop) in seconds; `style` is a CSS class."""

    name: str
    spans: Sequence[tuple[float, float]]
    style: str


def line_chart(
    title: str, unit: str, duration_seconds: float, curves: Sequence[Curve], marks: Sequence[Marks] = (),
    low: float | None = None, high: float | None = None,
) -> str:  # fmt: skip
    """A figure with its heading, chart and legend, as HTML. The axis holds all values unless `low`, `high` say so."""
    finite = [c.values[np.isfinite(c.values)] for c in curves]
    everything = np.concatenate(finite) if finite else np.zeros(0)
    everything = everything if len(everything) else np.array([0.0, 1.0])
    bottom = float(everything.min()) if low is None else low
    top = float(everything.max()) if high is None else high
    ticks = _ticks(bottom, top, 4)
    bottom, top = min(bottom, ticks[0]), max(top, ticks[-1])
    duration = max(duration_seconds, 1e-3)

    def x(seconds: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * min(max(seconds / duration, 0), 1)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - bottom) / max(top - bottom, 1e-9)

    parts = []
    for mark in marks:
        for start, stop in mark.spans:
            width = max(x(stop) - x(start), 1.5)
            parts.append(
                f'<rect class="{mark.style}" x="{x(start):.1f}" y="{_TOP}" width="{width:.1f}" '
                f'height="{HEIGHT - _TOP - _BOTTOM}"/>'
            )
    for value in ticks:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    times = [value for value in _ticks(0, duration, 6) if value <= duration]
    tenths = any(not value.is_integer() for value in times)
    for value in times:
        label = clock(value, tenths)
        parts.append(f'<text x="{x(value):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{label}</text>')
    parts += [f'<path class="line k{c.kind}" d="{_path(c, x, y)}"/>' for c in curves]
    said = "; ".join(
        f"{c.name} from {v.min():.3g} to {v.max():.3g}" for c, v in zip(curves, finite, strict=True) if len(v)
    )
    legend = "".join(f'<li><i class="key k{c.kind}"></i>{escape(c.name)}</li>' for c in curves)
    legend += "".join(f'<li><i class="box {m.style}"></i>{escape(m.name)}</li>' for m in marks if m.spans)
    return (
        f"<figure class=chart><figcaption>{escape(title)} <small>{escape(unit)}</small></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}, {escape(unit)}: {escape(said)}">'
        f"{''.join(parts)}</svg><ul class=legend>{legend}</ul></figure>"
    )


def clock(seconds: float, tenths: bool = True) -> str:
    """m:ss.s, or m:ss."""
    minutes, rest = divmod(round(seconds, 1 if tenths else 0), 60)
    return f"{int(minutes)}:{rest:04.1f}" if tenths else f"{int(minutes)}:{rest:02.0f}"


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round values that span [low, high]."""
    span = max(high - low, 1e-6)
    raw = span / about
    base = 10.0 ** np.floor(np.log10(raw))
    step = float(next(m * base for m in (1, 2, 5, 10) if m * base >= raw))
    first, last = int(np.floor(low / step)), int(np.ceil(high / step))
    return [round(k * step, 10) for k in range(first, last + 1)]


def _path(curve: Curve, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """Path data; long curves keep the least and greatest value of each stretch, so that no peak is lost."""
    seconds, values = curve.seconds, curve.values
    if len(values) > _MOST_POINTS:
        edges = np.linspace(0, len(values), _MOST_POINTS // 2 + 1).astype(int)
        kept: list[int] = []
        for a, b in pairwise(edges.tolist()):
            piece = values[a:b]
            if np.isnan(piece).all():
                kept.append(a)
            else:
                kept += sorted({a + int(np.nanargmin(piece)), a + int(np.nanargmax(piece))})
        seconds, values = seconds[kept], values[kept]
    out, pen = [], "M"
    for s, v in zip(seconds, values, strict=True):
        if not np.isfinite(v):
            pen = "M"
            continue
        out.append(f"{pen}{x(float(s)):.1f} {y(float(v)):.1f}")
        pen = "L"
    return "".join(out)
