"""The cross-data-set table as Markdown and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .text import MISSING

METRICS = {"pckb@0.1": ("PCKb@0.1", "{:.3f}", True), "epe_px": ("EPE, px", "{:.2f}", False)}
METRICS |= {"pa_mpjpe": ("PA-MPJPE, mm", "{:.1f}", False)}  # metric -> heading, format, whether more is better


def markdown(rows: dict[str, dict[str, dict[str, float]]], columns: list[str]) -> str:
    """The table, with the best of each column in bold; the mean-pose answer never is."""
    best = {(c, m): _best(rows, c, m) for c in columns for m in METRICS}
    heading = " / ".join(title for title, _, _ in METRICS.values())
    lines = [f"Trained on (rows), tested on (columns): {heading}", ""]
    lines += ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row, cells in rows.items():
        texts = []
        for column in columns:
            parts = []
            for metric in METRICS:
                text = _text(cells.get(column, {}), metric)
                parts.append(f"**{text}**" if best[column, metric] == row and text != MISSING else text)
            texts.append(" / ".join(parts))
        lines.append(f"| {row} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def draw(path: Path, rows: dict[str, dict[str, dict[str, float]]], columns: list[str]) -> None:
    """The table as a picture: a coloured grid for each metric, green is better."""
    import numpy as np
    from matplotlib.figure import Figure

    height = 1.6 + 0.5 * len(rows)
    figure = Figure(figsize=(3 + 2.2 * len(columns) * len(METRICS) / 1.6, height), layout="constrained")
    axes = figure.subplots(1, len(METRICS), sharey=True)
    for axis, (metric, (title, form, more)) in zip(np.atleast_1d(axes), METRICS.items(), strict=True):
        values = np.array([[cells.get(c, {}).get(metric, np.nan) for c in columns] for cells in rows.values()], float)
        shades = _shades(values, more)
        axis.imshow(shades, cmap="RdYlGn", vmin=-0.4, vmax=1.4, aspect="auto")
        for i, j in np.ndindex(*values.shape):
            axis.text(j, i, MISSING if np.isnan(values[i, j]) else form.format(values[i, j]), ha="center", va="center")
        axis.set(title=title, xticks=range(len(columns)), yticks=range(len(rows)))
        axis.set_xticklabels(columns, rotation=20, ha="right")
        axis.set_yticklabels(list(rows))
    figure.savefig(path, dpi=110)


def _shades(values: Any, more: bool) -> Any:
    """Each column from 0 (its worst) to 1 (its best); NaN where there is nothing."""
    import numpy as np

    out = np.full(values.shape, np.nan)
    for j in range(values.shape[1]):
        known = ~np.isnan(values[:, j])
        if known.any():
            column = values[known, j]
            spread = column.max() - column.min()
            share = (column - column.min()) / spread if spread else np.full(len(column), 0.5)
            out[known, j] = share if more else 1 - share
    return out


def _best(rows: dict[str, dict[str, dict[str, float]]], column: str, metric: str) -> str | None:
    found = {r: c[column][metric] for r, c in rows.items() if metric in c.get(column, {}) and not r.startswith("(")}
    if not found:
        return None
    return (max if METRICS[metric][2] else min)(found, key=found.__getitem__)


def _text(metrics: dict[str, float], metric: str) -> str:
    return METRICS[metric][1].format(metrics[metric]) if metric in metrics else MISSING
