"""`report.html` of a run: curves, metrics, best and worst predictions, settings, commit and data in one file.

It holds everything that it shows (curves as SVG, pictures as JPEG inside the page) and is made of the run's own files,
so it can be written at any time: after each evaluation, at the end, when a run is stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import files
from ..contracts import HandBatch, HandPrediction
from ..data.loader import Samples
from ..evaluation import report_html
from ..evaluation.evaluate import Predictor, as_float, evaluated_order
from ..evaluation.pictures import AnyImage, draw, jpeg
from ..mano.template import HandTemplate
from ..metrics import HIGHER_IS_BETTER, RANKING, Accumulator
from . import checkpoint
from .log import provenance, read_log

EXTREMES = 4  # best and worst samples that are shown


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
    prediction = as_float(predict(batch.inputs_for(predict))).to("cpu")
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
    made = _provenance(folder)
    facts = {"step": str(step), "commit": made.pop("git", "") or "unknown", **made}
    parts = [
        report_html.paragraph(", ".join(f"{key} {value}" for key, value in facts.items())),
        *_metrics(_json(folder / "metrics.json") or {}),
        *_pictures(folder),
        *_curves(read_log(folder)),
        report_html.heading("Data"),
        report_html.preformatted(_data_section(settings)),
        report_html.heading("Settings"),
        report_html.preformatted(settings),
    ]
    files.write_text(folder / "report.html", report_html.page(folder.name, parts))
    return folder / "report.html"


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    """A table for each test set: a row for each metric, a column for each predictor."""
    parts = []
    for name, scores in metrics.get("test", {}).items():
        rows = [["", *(who.replace("_", " ") for who in scores)]]
        for metric in sorted({metric for values in scores.values() for metric in values}):
            cells = [f"{values[metric]:.4g}" if metric in values else "-" for values in scores.values()]
            rows.append([metric, *cells])
        parts += [report_html.heading(f"Metrics on {name} at step {metrics.get('step')}"), report_html.table(rows)]
    return parts


def _pictures(folder: Path) -> list[str]:
    parts, last = [], ""
    for entry in _json(folder / "pictures" / "index.json") or []:
        if entry["title"] != last:
            parts.append(report_html.heading(entry["title"]))
            last = entry["title"]
        picture = report_html.image((folder / "pictures" / entry["file"]).read_bytes(), entry["caption"])
        parts.append(report_html.figure(picture, entry["caption"]))
    return parts


def _curves(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """A curve of each number that was logged, in the order of the log's first entries."""
    series: dict[str, list[tuple[float, float]]] = {}
    for entry in entries:
        for name, value in entry.items():
            if name not in ("step", "of") and isinstance(value, int | float):
                series.setdefault(f"{entry['of']}/{name}", []).append((float(entry["step"]), float(value)))
    parts = [report_html.heading("Curves")] if series else []
    for number, (name, points) in enumerate(series.items()):
        colour = report_html.LINE_COLOURS[number % len(report_html.LINE_COLOURS)]
        parts.append(report_html.figure(report_html.curve(points, colour), name))
    return parts


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
