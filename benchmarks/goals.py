"""Goals for the figures of tools/benchmark.py, on two cores of a server or on a GPU, and whether they are met."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .timing import Timing


@dataclass(frozen=True)
class Goal:
    """A bound on one figure of the rows that `row` matches in the tables that `table` matches."""

    table: str  # a regular expression of the whole title
    row: str  # and of the whole name
    figure: str  # a key of FIGURES
    bound: float
    device: str = "cpu"  # that it is meant for

    def judge(self, row: Timing) -> str | None:
        """The goal and whether it is met, in words; None where there is no figure."""
        measure, words, most = FIGURES[self.figure]
        value = measure(row)
        if value is None:
            return None
        met = value <= self.bound if most else value >= self.bound
        return f"{'at most' if most else 'at least'} {words.format(self.bound)}: {'met' if met else 'missed'}"


# figure -> its value in a row, its words, whether less is better
FIGURES: dict[str, tuple[Callable[[Timing], float | None], str, bool]] = {
    "ratio": (lambda t: t.ratio, "{:g} times", False),
    "rate": (lambda t: t.rate, "{:g} a second", False),
    "milliseconds": (lambda t: 1e3 * t.seconds / t.items, "{:g} ms", True),
    "seconds": (lambda t: t.seconds, "{:g} s", True),
    "peak": (lambda t: t.peak, "{:.0%} of the matrix rate", False),
    "waiting": (lambda t: t.waiting, "{:.0%} waiting", True),
}
GOALS = (
    Goal(r"forward, graphormer, batch \d+", "ONNX Runtime", "ratio", 1.5),
    Goal(r"forward, graphormer, batch \d+", "torch, bfloat16", "ratio", 2.5),
    Goal(r"forward, graphormer_lite, batch 1", "ONNX Runtime", "milliseconds", 13.0),
    Goal(r"training step, graphormer, .*", r"(bfloat16|auto)(, compiled)?", "peak", 0.4, "cuda"),
    Goal(r"training step, .*", r".*, fed by new virtual hands", "waiting", 0.05, "cuda"),
    Goal(r"virtual samples by pixels, .*", "224 px", "rate", 120.0),
    Goal(r"virtual samples by .*", r"224 px|\d+ a call", "rate", 5000.0, "cuda"),
    Goal(r"rasterise 778 vertices at 224 px, \d+ images", "ours", "ratio", 150.0),
    Goal(r"pipeline, .*", "photo and box to hand", "rate", 30.0),
    Goal(r"video, .*", "torch|ONNX Runtime", "rate", 30.0),
    Goal(r"start", r"import \w+", "seconds", 0.1),
    Goal(r"start", r"\w+ --help", "seconds", 0.5),
    Goal(r"first prediction", "demo", "seconds", 6.0),
)


def judge(title: str, rows: Sequence[Timing], device: str = "cpu") -> list[Timing]:
    """The rows of a table that was measured on `device`, each with the goals that are about it in its note."""
    meant = [g for g in GOALS if g.device == device.partition(":")[0] and re.fullmatch(g.table, title)]
    judged = []
    for row in rows:
        goals = [g for g in meant if re.fullmatch(g.row, row.name)]
        words = [s for g in goals if (s := g.judge(row)) is not None]
        judged.append(replace(row, note="; ".join([row.note] * bool(row.note) + words)))
    return judged
