"""Scores as text: the table of metrics by predictors, the official lines, notes for the reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..metrics.protocols.base import Scores
    from .predictions import Collector

UNITS = {"mpjpe": "mm", "pa_mpjpe": "mm", "mpvpe": "mm", "pa_mpvpe": "mm", "epe_2d": "of box", "epe_px": "px"}
MISSING = "-"  # of what was not measured
METRIC_ORDER = (
    "mpjpe",
    "pa_mpjpe",
    "mpvpe",
    "pa_mpvpe",
    "auc",
    "f@5",
    "f@15",
    "pck@0.05",
    "pck@0.1",
    "pck@0.2",
    "pckb@0.1",
    "auc_2d",
)
METRIC_ORDER += ("epe_2d", "epe_px", "mask_iou")


SHOWN = {  # metric -> its heading in a table of rows, a factor to its unit there, digits behind the point
    **{f"pck@{limit}": (f"PCK@{limit}", 1.0, 3) for limit in ("0.05", "0.1", "0.2")},
    "epe_2d": ("EPE, % of box", 100.0, 1),
    "auc_2d": ("AUC 2D", 1.0, 3),
    "pa_mpjpe": ("PA-MPJPE, mm", 1.0, 1),
    "mpjpe": ("MPJPE, mm", 1.0, 1),
    "pa_mpvpe": ("PA-MPVPE, mm", 1.0, 1),
}


def metric_heading(metric: str) -> str:
    """What a table of rows calls a metric of SHOWN."""
    return SHOWN[metric][0]


def mean_cell(values: Sequence[float], metric: str) -> str:
    """The mean of a metric over the seeds, and half of what lies between the least and the largest; MISSING: none."""
    if not values:
        return MISSING
    _, factor, digits = SHOWN[metric]
    spread = factor * (max(values) - min(values)) / 2
    return f"{factor * sum(values) / len(values):.{digits}f}" + (f" ± {spread:.{digits}f}" if len(values) > 1 else "")


def table(title: str, results: dict[str, dict[str, float]]) -> str:
    """A text table, metrics by predictors; a dash for what a predictor does not produce."""
    present = {name for scores in results.values() for name in scores}
    names = [*METRIC_ORDER, *sorted(present - set(METRIC_ORDER))]
    rows = [["", *(who.replace("_", " ") for who in results)]]
    rows += [[f"{n} {UNITS.get(n, '')}".strip(), *(_cell(n, scores) for scores in results.values())] for n in names]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(r, widths, strict=True)))
        for r in rows
    ]
    return "\n".join([title, *lines])


def collect_notes(collector: Collector, official: dict[str, Scores]) -> list[str]:
    """Notes for the reader of the numbers."""
    notes = collector.notes + [note for scores in official.values() for note in scores.notes]
    if not collector.placed:
        notes.append(
            "hands without a known camera were exported with the wrist at the origin: of them only aligned scores count"
        )
    reasons = Counter(line.rpartition(": ")[2] for line in collector.no_hand)
    notes += [f"{count:,} samples without a hand were passed over: {why}" for why, count in reasons.items()]
    if collector.left_out:
        notes.append(f"{len(collector.left_out)} broken samples were left out, see the list")
    return list(dict.fromkeys(notes))


def official_lines(official: dict[str, Scores], notes: list[str], left_out: list[str]) -> list[str]:
    """The official scores of every predictor, then notes and the samples that were left out."""
    lines = []
    for who, scores in official.items():
        kind = "2D" if who.endswith(", 2D") else "official"
        name = who.removesuffix(", 2D").replace("_", " ")
        lines.append(f"{kind} scores ({scores.protocol}), {name}, {next(iter(scores.counts.values()))} samples")
        lines += [f"  {line}" for line in scores.lines()]
    return [*lines, *(f"note: {note}" for note in notes), *(f"left out: {line}" for line in left_out)]


def _cell(name: str, scores: dict[str, float]) -> str:
    if name not in scores:
        return MISSING
    return f"{scores[name]:.2f}" if UNITS.get(name) in ("mm", "px") else f"{scores[name]:.3f}"
