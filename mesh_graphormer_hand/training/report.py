"""`report.html` of a run: curves, metrics, best and worst predictions, settings, commit and data in one file.

It holds everything that it shows (curves as SVG, pictures as JPEG inside the page) and is made of the run's own files,
so it can be written at any time: after each evaluation, at the end, when a run is stopped.
"""

from __future__ import annotations

import base64
import html
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import files
from ..contracts import HandBatch, HandPrediction
from ..data.loader import Samples
from ..evaluation.evaluate import Predictor, as_float, evaluated_order
from ..evaluation.pictures import AnyImage, draw, jpeg
from ..mano.template import HandTemplate
from ..metrics import HIGHER_IS_BETTER, RANKING, Accumulator
from . import checkpoint
from .log import provenance, read_history

EXTREMES = 4  # best and worst samples that are shown
WIDTH, HEIGHT = 400, 180  # px of a curve's picture
LEFT, BOTTOM, TOP = 62, 22, 12  # px of its margins
POINTS = 400  # of a curve, at most
COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706")
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1320px;margin:2em auto;padding:0 1em;color:#1f2937}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em;border-bottom:1px solid #d1d5db}
figure{display:inline-block;margin:0 1em 1em 0;vertical-align:top}figcaption{font-size:.85em;color:#4b5563}
table{border-collapse:collapse}td,th{padding:.15em .9em;text-align:right;border-bottom:1px solid #e5e7eb}
td:first-child,th:first-child{text-align:left}pre{background:#f3f4f6;padding:1em;overflow:auto;font-size:.85em}
svg text{font-size:11px;fill:#4b5563}"""


class Extremes(NamedTuple):
    """The best and the worst samples of a test set by one metric."""

    metric: str
    captions: list[str]  # the best first, the worst last
    best: int  # how many of them are the best
    batch: HandBatch
    prediction: HandPrediction


@torch.no_grad()
def extremes(
    dataset: Samples, scores: Accumulator, predict: Predictor, device: torch.device, processes: int = 1
) -> Extremes | None:
    """Look at the samples that `scores` (of all processes) found best and worst; None where nothing ranks them."""
    values = scores.values()
    metric = next((name for name in RANKING if name in values), None)
    if metric is None:
        return None
    value = values[metric].numpy()
    known = np.flatnonzero(np.isfinite(value))
    ranked = known[np.argsort(value[known], kind="stable")]
    ranked = ranked[::-1] if metric in HIGHER_IS_BETTER else ranked
    count = min(EXTREMES, len(ranked) // 2)
    if not count:
        return None
    rows = [*ranked[:count].tolist(), *ranked[-count:].tolist()]
    order = evaluated_order(len(value), processes)
    batch = dataset.load([order[row] for row in rows])
    if batch.keys != [scores.keys[row] for row in rows]:  # broken samples were left out: rows are not what they were
        return None
    batch = batch.to(device)
    prediction = as_float(predict(batch.inputs)).to("cpu")
    captions = [f"{scores.keys[row]}: {metric} {value[row]:.3g}" for row in rows]
    return Extremes(metric, captions, count, batch.to("cpu"), prediction)


def keep_pictures(
    folder: Path, found: Mapping[str, Extremes | None], sheet: AnyImage | None, template: HandTemplate | None
) -> None:
    """Replace the run's `pictures/`: the fixed samples, and the best and worst of each test set."""
    temporary, target = folder / ".writing_pictures", folder / "pictures"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    entries: list[dict[str, str]] = []

    def keep(title: str, caption: str, image: AnyImage) -> None:
        name = f"{len(entries):03d}.jpg"
        (temporary / name).write_bytes(jpeg(image))
        entries.append({"title": title, "caption": caption, "file": name})

    if sheet is not None:
        keep("Fixed virtual samples", "labels on the left, the prediction on the right of each pair", sheet)
    for name, item in found.items():
        for i, image in enumerate(draw(item.batch, item.prediction, template) if item else []):
            kind = "Best" if i < item.best else "Worst"
            keep(f"{kind} predictions on {name}, by {item.metric}", item.captions[i], image)
    files.write_json(temporary / "index.json", entries)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def write(folder: Path, step: int) -> Path:
    """Write `report.html` from what lies in the run's folder; returns its path."""
    settings = _text(folder / "config.yaml")
    metrics = _json(folder / "metrics.json") or {}
    made = _provenance(folder)
    facts = {"step": str(step), "commit": made.pop("git", "") or "unknown", **made}
    parts = [
        f"<h1>{html.escape(folder.name)}</h1>",
        "<p>" + ", ".join(f"{html.escape(k)} {html.escape(str(v))}" for k, v in facts.items()) + "</p>",
        *_metrics(metrics),
        *_pictures(folder),
        *_curves(read_history(folder)),
        "<h2>Data</h2>",
        f"<pre>{html.escape(_data_section(settings))}</pre>",
        "<h2>Settings</h2>",
        f"<pre>{html.escape(settings)}</pre>",
    ]
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(folder.name)}</title>'
    files.write_text(folder / "report.html", page + f"<style>{STYLE}</style>" + "\n".join(parts) + "</html>\n")
    return folder / "report.html"


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    parts = []
    for name, scores in metrics.get("test", {}).items():
        who = list(scores)
        rows = sorted({metric for values in scores.values() for metric in values})
        head = "".join(f"<th>{html.escape(w.replace('_', ' '))}</th>" for w in who)
        body = "".join(
            f"<tr><td>{html.escape(row)}</td>"
            + "".join(f"<td>{scores[w][row]:.4g}</td>" if row in scores[w] else "<td>-</td>" for w in who)
            + "</tr>"
            for row in rows
        )
        title = f"Metrics on {html.escape(name)} at step {metrics.get('step')}"
        parts.append(f"<h2>{title}</h2><table><tr><th></th>{head}</tr>{body}</table>")
    return parts


def _pictures(folder: Path) -> list[str]:
    parts, last = [], ""
    for entry in _json(folder / "pictures" / "index.json") or []:
        if entry["title"] != last:
            parts.append(f"<h2>{html.escape(entry['title'])}</h2>")
            last = entry["title"]
        data = base64.b64encode((folder / "pictures" / entry["file"]).read_bytes()).decode()
        caption = html.escape(entry["caption"])
        parts.append(
            f'<figure><img style="max-width:100%" alt="{caption}" src="data:image/jpeg;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return parts


def _curves(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """A picture for each number that was logged, in the order of the log's first entries."""
    series: dict[str, list[tuple[float, float]]] = {}
    for entry in history:
        for name, value in entry.items():
            if name not in ("step", "of") and isinstance(value, int | float):
                series.setdefault(f"{entry['of']}/{name}", []).append((float(entry["step"]), float(value)))
    parts = ["<h2>Curves</h2>"] if series else []
    for number, (name, points) in enumerate(series.items()):
        picture = curve(points, COLOURS[number % len(COLOURS)])
        parts.append(f"<figure>{picture}<figcaption>{html.escape(name)}</figcaption></figure>")
    return parts


def curve(points: Sequence[tuple[float, float]], colour: str = COLOURS[0]) -> str:
    """Points (step, value) as an SVG; logarithmic where the values are positive and span more than two decades."""
    points = [p for p in points if math.isfinite(p[1])]
    points = points[:: -(-len(points) // POINTS)] if len(points) > POINTS else points
    if not points:
        return f'<svg width="{WIDTH}" height="{HEIGHT}"></svg>'
    steps, values = zip(*points, strict=True)
    logarithmic = min(values) > 0 and max(values) / min(values) > 100
    heights = [math.log10(v) for v in values] if logarithmic else list(values)
    low, high = min(heights), max(heights)
    if high - low < 1e-12:
        low, high = low - max(abs(low), 1) * 0.5, high + max(abs(high), 1) * 0.5
    first, last = min(steps), max(max(steps), min(steps) + 1)
    x = [LEFT + (s - first) / (last - first) * (WIDTH - LEFT - 10) for s in steps]
    y = [HEIGHT - BOTTOM - (h - low) / (high - low) * (HEIGHT - BOTTOM - TOP) for h in heights]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    ticks = []
    for share in (0.0, 0.5, 1.0):
        value, row = low + share * (high - low), HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
        text = f"{10**value if logarithmic else value:.3g}"
        ticks.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{row}" y2="{row}" stroke="#e5e7eb"/>')
        ticks.append(f'<text x="{LEFT - 6}" y="{row + 4}" text-anchor="end">{text}</text>')
    ticks.append(f'<text x="{LEFT}" y="{HEIGHT - 5}">{first:g}</text>')
    ticks.append(f'<text x="{WIDTH - 10}" y="{HEIGHT - 5}" text-anchor="end">step {last:g}</text>')
    dots = f'<circle cx="{x[-1]:.1f}" cy="{y[-1]:.1f}" r="2.5" fill="{colour}"/>'
    shape = f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    return f'<svg width="{WIDTH}" height="{HEIGHT}">{"".join(ticks)}{shape}{dots}</svg>'


def _provenance(folder: Path) -> dict[str, str]:
    """Of the newest checkpoint, else of this program."""
    for path in reversed(checkpoint.paths(folder)):
        state = _json(path / "state.json")
        if state and "provenance" in state:
            return state["provenance"]
    return provenance()


def _data_section(settings: str) -> str:
    """The lines of the section `data` of a YAML file."""
    lines = settings.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("data:")), None)
    if start is None:
        return ""
    stop = next((i for i in range(start + 1, len(lines)) if not lines[i].startswith((" ", "-"))), len(lines))
    return "\n".join(lines[start:stop])


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
