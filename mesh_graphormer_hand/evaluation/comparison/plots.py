"""Pictures of a comparison: how good each row is against the time of a crop and against its parameters."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...metrics.measures import HIGHER_IS_BETTER
from ..text import SHOWN, metric_heading

if TYPE_CHECKING:
    from .report import Entry

PICTURE_TITLES = {"time": "Accuracy against time", "parameters": "Accuracy against parameters"}
X_LABELS = {"time": "ms a crop", "parameters": "M parameters"}
PLOTTED = ("pck@0.1", "pa_mpjpe")
PANEL_IN, LABEL_PX = (6.2, 4.6), 13  # inches of a panel; px that a label is high
DPI = 110
COLOURS = {True: "#2563eb", False: "#9ca3af"}  # of rows on equal terms, of others


def draw(entries: Sequence[Entry], columns: Sequence[str]) -> dict[str, bytes]:
    """PNG files by the name of what stands on the x axis; those without a point are left out."""
    found = {"time": _figure(entries, columns, "time"), "parameters": _figure(entries, columns, "parameters")}
    return {name: png for name, png in found.items() if png is not None}


def _x(entry: Entry, name: str) -> float | None:
    parameters = entry.about["parameters"]
    return entry.ms if name == "time" else None if parameters is None else parameters / 1e6


def _figure(entries: Sequence[Entry], columns: Sequence[str], name: str) -> bytes | None:
    panels = []
    for metric in PLOTTED:
        for column in columns:
            points = [
                (x, SHOWN[metric][1] * sum(values) / len(values), entry)
                for entry in entries
                if (x := _x(entry, name)) is not None and (values := entry.values(column, metric))
            ]
            if points:
                panels.append((metric, column, points))
    if not panels:
        return None
    import numpy as np
    from matplotlib.figure import Figure

    wide = min(len(panels), 2)
    high = -(-len(panels) // wide)
    figure = Figure(figsize=(PANEL_IN[0] * wide, PANEL_IN[1] * high), dpi=DPI, layout="constrained")
    axes = np.atleast_1d(figure.subplots(high, wide)).ravel()
    for axis, (metric, column, points) in zip(axes, panels, strict=False):
        _panel(axis, points)
        better = "more" if metric in HIGHER_IS_BETTER else "less"
        axis.set(title=column, xlabel=X_LABELS[name], ylabel=f"{metric_heading(metric)} ({better} is better)")
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _panel(axis: Any, points: list[tuple[float, float, Entry]]) -> None:
    """Points, and their names in a column to the right, each tied to its point by a line."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    xs, ys = [p[0] for p in points], [p[1] for p in points]
    axis.scatter(xs, ys, c=[COLOURS[p[2].equal] for p in points], s=28, zorder=3)
    axis.set_xscale("log")
    axis.set_xlim(min(xs) / 1.3, max(xs) * 1.3)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = min(ys), max(ys)
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    axis.set_ylim(low - margin, high + margin)
    axis.grid(alpha=0.3)
    height_px = 0.75 * PANEL_IN[1] * DPI
    gap = (high - low + 2 * margin) * LABEL_PX / height_px
    for (x, y, entry), at in zip(points, spread(ys, gap, (low - margin, high + margin)), strict=True):
        axis.annotate(
            entry.heading,
            (x, y),
            xytext=(1.03, at),
            textcoords=axis.get_yaxis_transform(),
            fontsize=7.5,
            va="center",
            color="#111827" if entry.equal else "#6b7280",
            arrowprops={"arrowstyle": "-", "color": "#d1d5db", "linewidth": 0.7, "shrinkB": 3},
        )


def spread(values: Sequence[float], gap: float, limits: tuple[float, float]) -> list[float]:
    """Places near `values` that are `gap` apart at least, in their order, inside the limits where these have room."""
    order = sorted(range(len(values)), key=values.__getitem__)
    placed = [0.0] * len(values)
    at = limits[0] - gap
    for i in order:
        at = max(values[i], at + gap)
        placed[i] = at
    ceiling = limits[1] + gap
    for i in reversed(order):
        ceiling = min(placed[i], ceiling - gap)
        placed[i] = ceiling
    return placed
