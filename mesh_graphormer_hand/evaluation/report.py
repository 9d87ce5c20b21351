"""The report of an evaluation: PCK curves, per-joint table, generalisation, the worst samples, one HTML file with all.

report.html holds its pictures itself: it can be sent as it is.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from ..contracts import HandBatch, HandPrediction
from ..files import write_text
from ..mano.template import HandTemplate
from ..metrics import RANKING, Accumulator
from ..metrics.protocols.base import Curve, Scores
from ..skeleton import JOINT_NAMES
from . import report_html

Image = UInt8[np.ndarray, "h w 3"]
CURVES = {"pa_mpjpe": (50.0, "aligned joint error, mm"), "mpjpe": (100.0, "wrist-relative joint error, mm")}
CURVES |= {"epe_2d": (0.4, "2D error, of the keypoints' box")}
CURVE_POINTS = 100
PER_JOINT = ("pa_mpjpe", "mpjpe", "epe_2d", "pck@0.1")
BROKEN_DOWN = ("pa_mpjpe", "pck@0.1", "pck@0.2")
GALLERY_SIZE = 12  # samples in the gallery


@dataclass
class Evaluation:
    """One data set's results, by predictor."""

    title: str
    table: str  # of the metrics, as printed
    scores: dict[str, Accumulator]
    official: dict[str, Scores] = field(default_factory=dict)  # by predictor, from its file
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # broken samples, what and why
    gallery: list[tuple[str, Image]] = field(default_factory=list)  # caption, picture
    calibration: dict[float, float] = field(default_factory=dict)  # promised share of errors -> true one


def write(folder: Path, evaluation: Evaluation) -> Path:
    """curves.png, calibration.png, per_joint.csv, worst.jpg and report.html in `folder`; returns the last."""
    folder.mkdir(parents=True, exist_ok=True)
    curves = folder / "curves.png"
    drawn = draw_curves(curves, evaluation)
    with (folder / "per_joint.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(per_joint(evaluation))
    if evaluation.gallery:
        from .pictures import jpeg, sheet

        (folder / "worst.jpg").write_bytes(jpeg(sheet([picture for _, picture in evaluation.gallery])))
    calibration = folder / "calibration.png"
    if evaluation.calibration:
        draw_calibration(calibration, evaluation.calibration)
    page = folder / "report.html"
    pictures = {"PCK curves": curves if drawn else None, "Calibration": calibration if evaluation.calibration else None}
    write_text(page, _page(evaluation, {name: path.read_bytes() for name, path in pictures.items() if path}))
    return page


def draw_curves(path: Path, evaluation: Evaluation) -> bool:
    """PCK curves of every predictor, official ones where there are any; False where nothing was measured."""
    panels = [(metric, limit, label) for metric, (limit, label) in CURVES.items() if _errors(evaluation, metric)]
    official = {name: scores.curves for name, scores in evaluation.official.items() if scores.curves}
    if not panels and not official:
        return False
    from matplotlib.figure import Figure  # no pyplot: no global state, no window

    count = len(panels) + bool(official)
    figure = Figure(figsize=(4.6 * count, 3.8), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, count))
    for axis, (metric, limit, label) in zip(axes, panels, strict=False):
        thresholds = np.linspace(0, limit, CURVE_POINTS)
        for who, errors in _errors(evaluation, metric).items():
            axis.plot(thresholds, _within(errors, thresholds), label=who.replace("_", " "))
        _label(axis, label)
    if official:
        for who, curves in official.items():
            for name, curve in curves.items():
                if not name.endswith("proper"):
                    axes[-1].plot(curve.thresholds, curve.share, label=f"{who.replace('_', ' ')}: {name}")
        _label(axes[-1], f"official, {_unit(official)}")
    figure.savefig(path, dpi=110)
    return True


def draw_calibration(path: Path, shares: dict[float, float]) -> None:
    """The true share of errors over the promised one (`metrics.calibration`)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.8), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1, label="calibrated")
    axis.plot(list(shares), list(shares.values()), marker="o", markersize=3, label="model")
    axis.set(xlabel="promised share of errors", ylabel="true share", xlim=(0, 1), ylim=(0, 1))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)


def per_joint(evaluation: Evaluation) -> list[list[str]]:
    """Rows of joints, columns of predictors and metrics, with a header."""
    columns = {}
    for who, accumulator in evaluation.scores.items():
        columns |= {f"{who} {m}": v.tolist() for m, v in accumulator.per_joint().items() if m in PER_JOINT}
    for who, scores in evaluation.official.items():
        columns |= {f"{who} official {name}": values.tolist() for name, values in scores.per_joint.items()}
    columns = {n: v for n, v in columns.items() if len(v) == len(JOINT_NAMES) and not np.isnan(v).all()}
    header = ["joint", *columns]
    return [header, *([JOINT_NAMES[j], *(f"{v[j]:.3f}" for v in columns.values())] for j in range(21))]


@torch.no_grad()
def worst(
    dataset: Any, scores: Accumulator, predict: Any, template: HandTemplate | None, device: str, left_out: int = 0
) -> list[tuple[str, Image]]:
    """Captions and pictures of the worst samples; `left_out`: how many samples of the set were not measured."""
    from .evaluate import as_float
    from .pictures import draw

    values = scores.values()
    metric = next((name for name in RANKING if name in values and not values[name].isnan().all()), None)
    if metric is None:
        return []
    found = []
    for key, value in scores.worst(metric, GALLERY_SIZE):
        batch = _load(dataset, scores.keys.index(key), key, left_out)
        if batch is None:
            continue
        prediction: HandPrediction = as_float(predict(batch.to(device).inputs_for(predict))).to("cpu")
        found.append((f"{key}: {metric} {value:.3g}", draw(batch, prediction, template)[0]))
    return found


def _load(dataset: Any, index: int, key: str, left_out: int) -> HandBatch | None:
    """The sample called `key`; broken ones before it that were left out have moved it on."""
    for number in range(index, min(index + left_out + 1, len(dataset))):
        batch = dataset.load([number])
        if batch.keys == [key]:
            return batch
    return None


def _errors(evaluation: Evaluation, metric: str) -> dict[str, np.ndarray]:
    """Every counted joint's error, sorted, by predictor."""
    found = {}
    for who, accumulator in evaluation.scores.items():
        if (values := accumulator.by_joint().get(metric)) is not None and not values.isnan().all():
            found[who] = np.sort(values[~values.isnan()].numpy())
    return found


def _within(errors: Float[np.ndarray, "n"], thresholds: Float[np.ndarray, "t"]) -> np.ndarray:
    return np.searchsorted(errors, thresholds, side="right") / len(errors)


def _label(axis: Any, label: str) -> None:
    axis.set(xlabel=label, ylabel="share of joints within", ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="lower right")


def _unit(official: dict[str, dict[str, Curve]]) -> str:
    return next(curve.unit for curves in official.values() for curve in curves.values())


def _page(evaluation: Evaluation, pictures: dict[str, bytes]) -> str:
    parts = [report_html.paragraph(note, note=True) for note in evaluation.notes]
    for who, scores in evaluation.official.items():
        parts.append(report_html.heading(f"By the rules of {scores.protocol}: {who.replace('_', ' ')}"))
        rows = [[n, f"{v:f}", scores.units.get(n, "")] for n, v in (scores.official | scores.extra).items()]
        parts.append(report_html.table([["score", "value", "unit"], *rows]))
        parts += [report_html.paragraph(note, note=True) for note in scores.notes]
    parts += [report_html.heading("Metrics"), report_html.preformatted(evaluation.table)]
    for name, picture in pictures.items():
        parts += [report_html.heading(name), report_html.image(picture, name, "png")]
    parts += [report_html.heading("By joint"), report_html.table(per_joint(evaluation))]
    parts += [report_html.heading("Generalisation"), *_breakdown(evaluation)]
    if evaluation.left_out:
        parts.append(report_html.heading(f"Left out: {len(evaluation.left_out)} broken samples"))
        parts.append(report_html.bullets(evaluation.left_out))
    if evaluation.gallery:
        from .pictures import jpeg

        parts += [report_html.heading("The worst"), report_html.paragraph("Each: labels, then the prediction.")]
        parts += [report_html.figure(report_html.image(jpeg(p), "sample"), c) for c, p in evaluation.gallery]
    return report_html.page(evaluation.title, parts)


def _breakdown(evaluation: Evaluation) -> list[str]:
    parts = []
    for who, accumulator in evaluation.scores.items():
        for name, bins in accumulator.breakdown().items():
            metrics = [m for m in BROKEN_DOWN if any(m in row for row in bins.values())]
            if not metrics:
                continue
            rows = [
                [label, str(int(row["samples"])), *(_cell(row.get(m)) for m in metrics)] for label, row in bins.items()
            ]
            heading = f"{who.replace('_', ' ')}, by {name.replace('_', ' ')}"
            parts += [report_html.heading(heading, 3), report_html.table([["", "samples", *metrics], *rows])]
    return parts or [report_html.paragraph("The labels have nothing to sort samples by.")]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
