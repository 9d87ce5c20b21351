"""A comparison as a file: Markdown with pictures beside it, and one HTML page that holds everything itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...files import write_bytes, write_text
from ...metrics.measures import HIGHER_IS_BETTER
from .. import report_html
from ..text import MISSING, mean_cell, metric_heading
from . import plots

MAIN = ("pck@0.05", "pck@0.1", "pck@0.2", "epe_2d", "auc_2d", "pa_mpjpe", "mpjpe", "pa_mpvpe")
BIN_METRICS = ("pck@0.1", "pa_mpjpe")  # each has a table by view, visible share and size
ATTRIBUTE_WORDS = {"view": "", "visible": "visible: ", "hand_size": "hand, mm: ", "size_in_crop": "in crop: "}
# of attributes that are not listed: as the labels give them
BIN_ORDER = {
    "view": ("back", "palm", "edge", "fingers"),
    "visible": ("all", "most", "half", "few"),
}
HEADLINE = "Comparison of systems"
EXPLANATION = (
    "2D errors are shares of the longer side of the box of the labelled keypoints: PCK@t is the share of joints nearer "
    "than t of it, AUC the area under that share from 0 to 0.2. PA-MPJPE and PA-MPVPE: after a similarity alignment; "
    "MPJPE: relative to the wrist. The best of the rows on equal terms is bold."
)


@dataclass(frozen=True)
class Entry:
    """A row of the tables."""

    heading: str
    row: str  # of the comparison file
    scores: list[dict[str, dict[str, Any]]]  # a seed: column -> metrics, breakdown, samples
    about: dict[str, Any]  # parameters, gmac, gives
    equal: bool  # trained on the terms of all others
    ms: float | None = None

    def values(self, column: str, metric: str) -> list[float]:
        """The metric by seed; empty where it was not measured."""
        found = [scores[column]["metrics"].get(metric) for scores in self.scores if column in scores]
        return [] if None in found else found

    def bin(self, column: str, attribute: str, label: str, metric: str) -> list[float]:
        """The metric of one bin by seed."""
        rows = [scores[column]["breakdown"].get(attribute, {}) for scores in self.scores if column in scores]
        found = [row.get(label, {}).get(metric) for row in rows]
        return [] if None in found else found


@dataclass
class Table:
    """All that a comparison says."""

    caption: list[str]
    columns: list[str]
    entries: list[Entry]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Grid:
    """One of its tables: texts, of which the first row is the header."""

    title: str
    rows: list[list[str]]


def write(folder: Path, table: Table, pictures: bool = True) -> list[Path]:
    """comparison.md, .html and the pictures, where they are wanted, in `folder`; returns their paths."""
    drawn = plots.draw(table.entries, table.columns) if pictures else {}
    paths = [folder / "comparison.md", folder / "comparison.html"]
    for name, png in drawn.items():
        paths.append(folder / f"comparison_{name}.png")
        write_bytes(paths[-1], png)
    grids = [*main_grids(table), *bin_grids(table)]
    write_text(paths[0], _markdown(table, grids, list(drawn)))
    write_text(paths[1], _page(table, grids, drawn))
    return paths


def main_grids(table: Table) -> list[Grid]:
    """A grid for each column, of the metrics that any row has; the first one has the costs, too."""
    grids = []
    for number, column in enumerate(table.columns):
        metrics = [m for m in MAIN if any(entry.values(column, m) for entry in table.entries)]
        costs = number == 0
        header = ["", "gives"] * costs + [""] * (not costs) + [metric_heading(m) for m in metrics]
        rows = [header + ["M parameters", "GMAC", "ms"] * costs]
        best = {m: _best([e for e in table.entries if e.equal], column, m) for m in metrics}
        for entry in table.entries:
            if not costs and not any(entry.values(column, m) for m in metrics):
                continue
            cells = [_bold(_cell(entry, column, m), best[m] is entry) for m in metrics]
            rows.append([entry.heading, *([", ".join(entry.about["gives"]) or MISSING] * costs), *cells])
            rows[-1] += _costs(entry) * costs
        grids.append(Grid(f"{column}, {_samples(table, column)} samples", rows))
    return [grid for grid in grids if len(grid.rows) > 1]


def bin_grids(table: Table) -> list[Grid]:
    """For each column and metric a grid by view, visible share and size; the first row counts the samples."""
    grids = []
    for column in table.columns:
        for metric in BIN_METRICS:
            entries = [entry for entry in table.entries if entry.values(column, metric)]
            bins = _bins(entries, column)
            if not entries or not bins:
                continue
            counts = [str(entries[0].scores[0][column]["breakdown"][a][label]["samples"]) for a, label in bins]
            rows = [["", *(f"{ATTRIBUTE_WORDS[a]}{label}" for a, label in bins)], ["(samples)", *counts]]
            for entry in entries:
                values = [entry.bin(column, *place, metric) for place in bins]
                rows.append([entry.heading, *(mean_cell(v, metric).partition(" ")[0] for v in values)])
            grids.append(Grid(f"{column}: {metric_heading(metric)} by view, visible share and size", rows))
    return grids


def _bins(entries: list[Entry], column: str) -> list[tuple[str, str]]:
    """Attributes and bins that the column has; attributes of one bin say nothing and are left out."""
    if not entries:
        return []
    found = entries[0].scores[0][column]["breakdown"]
    out = []
    for attribute in ATTRIBUTE_WORDS:
        labels = list(found.get(attribute, {}))
        ordered = [label for label in BIN_ORDER.get(attribute, labels) if label in labels]
        out += [(attribute, label) for label in ordered] if len(ordered) > 1 else []
    return out


def _best(entries: list[Entry], column: str, metric: str) -> Entry | None:
    means = {i: sum(v) / len(v) for i, e in enumerate(entries) if (v := e.values(column, metric))}
    if not means:
        return None
    return entries[(max if metric in HIGHER_IS_BETTER else min)(means, key=means.__getitem__)]


def _cell(entry: Entry, column: str, metric: str) -> str:
    return mean_cell(entry.values(column, metric), metric)


def _costs(entry: Entry) -> list[str]:
    parameters, gmac = entry.about["parameters"], entry.about["gmac"]
    return [
        MISSING if parameters is None else f"{parameters / 1e6:.2f}",
        MISSING if gmac is None else f"{gmac:.2f}",
        MISSING if entry.ms is None else f"{entry.ms:.1f}",
    ]


def _samples(table: Table, column: str) -> int:
    return max((s[column]["samples"] for e in table.entries for s in e.scores if column in s), default=0)


def _bold(text: str, on: bool) -> str:
    return f"**{text}**" if on and text != MISSING else text


def _markdown(table: Table, grids: list[Grid], pictures: list[str]) -> str:
    lines = [f"# {HEADLINE}", "", *_paragraphs([*table.caption, EXPLANATION])]
    for grid in grids:
        head, *body = ([cell.replace("|", "\\|") for cell in row] for row in grid.rows)
        lines += [f"## {grid.title}", "", "| " + " | ".join(head) + " |"]
        lines += ["|---" + "|---:" * (len(head) - 1) + "|", *("| " + " | ".join(row) + " |" for row in body), ""]
    lines += [line for name in pictures for line in (f"![{plots.PICTURE_TITLES[name]}](comparison_{name}.png)", "")]
    lines += ["Notes:", "", *(f"- {note}" for note in table.notes)] if table.notes else []
    return "\n".join(lines).rstrip() + "\n"


def _paragraphs(texts: list[str]) -> list[str]:
    return [line for text in texts for line in (text, "")]


def _page(table: Table, grids: list[Grid], pictures: dict[str, bytes]) -> str:
    parts = [report_html.paragraph(text) for text in (*table.caption, EXPLANATION)]
    for grid in grids:
        parts += [report_html.heading(grid.title), report_html.table(grid.rows)]
    for name, png in pictures.items():
        parts += [
            report_html.heading(plots.PICTURE_TITLES[name]),
            report_html.image(png, plots.PICTURE_TITLES[name], "png"),
        ]
    parts += [report_html.heading("Notes"), report_html.bullets(table.notes)] if table.notes else []
    return report_html.page(HEADLINE, parts)
