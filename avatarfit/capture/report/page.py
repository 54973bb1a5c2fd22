"""The report's page: one HTML file that needs nothing else, in light and dark, on a desk and on a phone."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

JPEG_QUALITY = 82

_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--ink:#1c1c1e;--soft:#5f6368;--line:#d9dce1;--card:#f5f6f8;--good:#12733a;
--bad:#b3261e;--badbg:#fdecea;--wish:#7a5200;--a:#1a66d0;--b:#b8480b;--c:#6b3fa0;--shade:#f0b6b0;--blink:#b9d3f5}
@media(prefers-color-scheme:dark){:root{--bg:#16171a;--ink:#ececf0;--soft:#a2a7b0;--line:#3a3d44;--card:#202227;
--good:#6fd08c;--bad:#ff8a80;--badbg:#3a1f1d;--wish:#f2c063;--a:#7fb2ff;--b:#ffab70;--c:#c9a4ff;--shade:#6b3430;
--blink:#2c4a75}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:64rem;padding:1.25rem 1rem 3rem;background:var(--bg);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.25rem 0 .5rem;border-bottom:1px solid var(--line);padding-bottom:.25rem}
p{margin:.4rem 0;max-width:46rem}small,.soft{color:var(--soft)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:.75rem 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.again{list-style:none;margin:.75rem 0;padding:0;display:grid;gap:.6rem}
.again li{background:var(--badbg);border-left:4px solid var(--bad);border-radius:4px;padding:.6rem .8rem}
.again b{display:block}.again span{display:block;color:var(--soft);font-size:.9rem}
.fine{background:var(--card);border-left:4px solid var(--good);border-radius:4px;padding:.6rem .8rem}
table{border-collapse:collapse;width:100%;font-size:.92rem}
table+table{margin-top:1.25rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line)}
.ok{color:var(--good);white-space:nowrap}.no{color:var(--bad);font-weight:600;white-space:nowrap}
.mm{color:var(--wish);white-space:nowrap}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:.6rem;margin:.75rem 0}
.grid.wide{grid-template-columns:1fr}
figure{margin:0}video{width:100%;height:auto;display:block}
.grid img{width:100%;height:auto;display:block;border-radius:4px;background:var(--card)}
.grid figcaption{font-size:.8rem;color:var(--soft)}
.chart{margin:1rem 0}.chart figcaption{font-weight:600}.chart svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font-size:11px}svg .grid{stroke:var(--line);stroke-width:1}
.line{fill:none;stroke-width:1.6;stroke-linejoin:round}.line.k1{stroke:var(--a)}
.line.k2{stroke:var(--b);stroke-dasharray:6 2}.line.k3{stroke:var(--c);stroke-dasharray:2 2}
rect.lost,.box.lost{fill:var(--shade);background:var(--shade)}rect.blink,.box.blink{fill:var(--blink);background:var(--blink)}
rect.cut,.box.cut{fill:var(--bad);background:var(--bad)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:.2rem 0 0;padding:0;font-size:.85rem;
color:var(--soft)}
.key{display:inline-block;width:1.4rem;border-top:3px solid var(--a);margin-right:.4rem;vertical-align:middle}
.key.k2{border-top:3px dashed var(--b)}.key.k3{border-top:3px dotted var(--c)}
.box{display:inline-block;width:.9rem;height:.9rem;margin-right:.4rem;vertical-align:-.1rem;border-radius:2px;
border:1px solid var(--line)}
@media(max-width:34rem){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.4rem}.grid{grid-template-columns:1fr 1fr}
svg text{font-size:18px}.checks thead{display:none}.checks tr{display:block;border-bottom:1px solid var(--line);
padding:.4rem 0}.checks th,.checks td{display:block;border:0;padding:0}
.checks td:nth-of-type(2)::before{content:"Measured: "}.checks td:nth-of-type(3)::before{content:"Wanted: "}}
@media print{body{max-width:none}}
"""


@dataclass(frozen=True)
class Cell:
    """A picture with what it shows (for those who cannot see it) and its caption."""

    rgb: np.ndarray
    alt: str
    caption: str


def page(title: str, content_hash: str, body: Sequence[str]) -> str:
    """A whole document around `body`, which is HTML; `content_hash` tells later what it was made from."""
    head = [
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">',
        f'<meta name="avatarfit-clip" content="{escape(content_hash, quote=True)}">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
    ]
    return "\n".join(['<!doctype html>\n<html lang="en"><head>', *head, "</head>\n<body>", *body, "</body></html>\n"])


def section(title: str, *parts: str) -> str:
    """A heading and what belongs to it."""
    name = "".join(c if c.isalnum() else "-" for c in title.lower())
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(title)}</h2>{"".join(parts)}</section>'


def paragraph(text: str) -> str:
    """Plain text as a paragraph."""
    return f"<p>{escape(text)}</p>"


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names and what they are."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows) + "</dl>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], style: str = "") -> str:
    """A table of HTML cells; the first of each row is its heading."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows
    )
    return f'<table class="{style}"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>'


def gallery(cells: Sequence[Cell], wide: bool = False) -> str:
    """Pictures side by side, each inside the page; `wide` ones below each other."""
    return f'<div class="grid{" wide" * wide}">' + "".join(_figure(cell) for cell in cells) + "</div>"


def color_legend(colors: Sequence[tuple[str, tuple[int, int, int]]]) -> str:
    """Names beside their colours."""
    items = (f'<li><i class="box" style="background:rgb{c}"></i>{escape(name)}</li>' for name, c in colors)
    return f"<ul class=legend>{''.join(items)}</ul>"


def _figure(cell: Cell) -> str:
    import cv2

    data = cv2.imencode(".jpg", cell.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    height, width = cell.rgb.shape[:2]
    return (
        f'<figure><img src="data:image/jpeg;base64,{base64.b64encode(data).decode()}" width="{width}" '
        f'height="{height}" loading="lazy" alt="{escape(cell.alt, quote=True)}">'
        f"<figcaption>{escape(cell.caption)}</figcaption></figure>"
    )
