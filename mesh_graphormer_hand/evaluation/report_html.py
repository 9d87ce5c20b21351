"""HTML of reports: one page that holds its pictures and curves itself, so that it can be sent as one file."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence

CURVE_WIDTH, CURVE_HEIGHT = 400, 180  # px of a curve's picture
LEFT, BOTTOM, TOP, RIGHT = 62, 22, 12, 10  # px of its margins
MAX_POINTS = 400  # of a curve
LINE_COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706")
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1320px;margin:2em auto;padding:0 1em;color:#1f2937}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em;border-bottom:1px solid #d1d5db}
figure{display:inline-block;margin:0 1em 1em 0;vertical-align:top}figcaption{font-size:.85em;color:#4b5563}
table{border-collapse:collapse;margin:.6em 0}td,th{padding:.15em .9em;text-align:right;border-bottom:1px solid #e5e7eb}
td:first-child,th:first-child{text-align:left}pre{background:#f3f4f6;padding:1em;overflow:auto;font-size:.85em}
img{max-width:100%}.note{background:#fef3c7;padding:.4em .8em}svg text{font-size:11px;fill:#4b5563}"""


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page with `title` at its top; `parts` are HTML."""
    title = html.escape(title)
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return head + "\n".join([f"<h1>{title}</h1>", *parts]) + "</html>\n"


def heading(text: str, level: int = 2) -> str:
    """A heading of plain text."""
    return f"<h{level}>{html.escape(text)}</h{level}>"


def paragraph(text: str, note: bool = False) -> str:
    """A paragraph of plain text; a `note` is marked."""
    kind = ' class="note"' if note else ""
    return f"<p{kind}>{html.escape(text)}</p>"


def preformatted(text: str) -> str:
    """Plain text with its line breaks and columns."""
    return f"<pre>{html.escape(text)}</pre>"


def bullets(lines: Sequence[str]) -> str:
    """A list of plain texts."""
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of plain texts, of which the first is the header; a text between ** is bold."""
    head, *body = rows
    titles = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    cells = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in body)
    return f"<table><tr>{titles}</tr>{cells}</table>"


def _cell(text: str) -> str:
    bold = len(text) > 4 and text.startswith("**") and text.endswith("**")
    return f"<b>{html.escape(text[2:-2])}</b>" if bold else html.escape(text)


def image(data: bytes, alt: str, kind: str = "jpeg") -> str:
    """A picture inside the page: the bytes of a "jpeg" or "png" file."""
    return f'<img alt="{html.escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def figure(picture: str, caption: str) -> str:
    """`picture` (HTML, such as `image` and `curve` give) over a plain caption."""
    return f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>"


def curve(points: Sequence[tuple[float, float]], colour: str = LINE_COLOURS[0]) -> str:
    """Points (step, value) as an SVG; logarithmic where the values are positive and span more than two decades."""
    points = [p for p in points if math.isfinite(p[1])]
    points = points[:: -(-len(points) // MAX_POINTS)] if len(points) > MAX_POINTS else points
    size = f'<svg width="{CURVE_WIDTH}" height="{CURVE_HEIGHT}">'
    if not points:
        return f"{size}</svg>"
    steps, values = zip(*points, strict=True)
    logarithmic = min(values) > 0 and max(values) / min(values) > 100
    heights = [math.log10(v) for v in values] if logarithmic else list(values)
    low, high = min(heights), max(heights)
    if high - low < 1e-12:
        low, high = low - max(abs(low), 1) * 0.5, high + max(abs(high), 1) * 0.5
    first, last = min(steps), max(max(steps), min(steps) + 1)
    wide, high_px = CURVE_WIDTH - LEFT - RIGHT, CURVE_HEIGHT - BOTTOM - TOP
    x = [LEFT + (s - first) / (last - first) * wide for s in steps]
    y = [CURVE_HEIGHT - BOTTOM - (h - low) / (high - low) * high_px for h in heights]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    ticks = _ticks(low, high, logarithmic) + _axis(first, last)
    dot = f'<circle cx="{x[-1]:.1f}" cy="{y[-1]:.1f}" r="2.5" fill="{colour}"/>'
    shape = f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    return f"{size}{ticks}{shape}{dot}</svg>"


def _ticks(low: float, high: float, logarithmic: bool) -> str:
    """Three lines across a curve's picture, with their values."""
    ticks = []
    for share in (0.0, 0.5, 1.0):
        value, row = low + share * (high - low), CURVE_HEIGHT - BOTTOM - share * (CURVE_HEIGHT - BOTTOM - TOP)
        text = f"{10**value if logarithmic else value:.3g}"
        ticks.append(f'<line x1="{LEFT}" x2="{CURVE_WIDTH - RIGHT}" y1="{row}" y2="{row}" stroke="#e5e7eb"/>')
        ticks.append(f'<text x="{LEFT - 6}" y="{row + 4}" text-anchor="end">{text}</text>')
    return "".join(ticks)


def _axis(first: float, last: float) -> str:
    """The steps at both ends of a curve."""
    row = CURVE_HEIGHT - 5
    end = f'<text x="{CURVE_WIDTH - RIGHT}" y="{row}" text-anchor="end">step {last:g}</text>'
    return f'<text x="{LEFT}" y="{row}">{first:g}</text>{end}'
