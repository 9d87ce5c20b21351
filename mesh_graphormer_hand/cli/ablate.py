"""What earns what: rows of settings, each trained alike from one start and scored (python tools/ablate.py):

    hand-ablate ROWS.yaml [--data folder:root=DIR,files=crop_*,crop=box] [--samples N] [key=value ...]

ROWS.yaml (configs/ablations/ has some) names a `config`, the `steps` of every row, `shared` settings, how many `seeds`
to average over, and `rows`: a heading and its settings. key=value comes on top of all. Every row is scored on the
frozen virtual split and on each --data. Runs and results are kept in --out: the same command again goes on where it
was stopped, and computes only what is missing or has other settings.
"""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import config as configs
from ..evaluation.columns import data_state, parse_tests
from ..evaluation.row_runs import QUIET, run_of, score_model
from ..evaluation.run import EvaluationSettings
from ..evaluation.text import MISSING, mean_cell, metric_heading
from . import console
from .train import train_run

if TYPE_CHECKING:
    from ..contracts import HandBatch, HandPrediction

COLUMNS = ("pa_mpjpe", "pa_mpvpe", "mpjpe", "pck@0.1", "pck@0.2")
TOKENS = "tokens"  # whose joints are those that the joint queries end as, not those regressed from the mesh
SHOWN_METRICS = {"model": COLUMNS, TOKENS: ("pa_mpjpe",)}  # what a table has of each
VIRTUAL = "virtual"  # every row is scored on it: the frozen split


@dataclass
class Table:
    """The content of ROWS.yaml."""

    config: str = "graphormer_lite"
    steps: int = 1000
    seeds: int = 1
    shared: list[str] = field(default_factory=list)
    rows: dict[str, list[str]] = field(default_factory=dict)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and fill the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-ablate", description=__doc__.splitlines()[0])
    parser.add_argument(
        "rows", metavar="ROWS.yaml", help=f"a file, or one of {console.shipped_configs('ablations/*.yaml')}"
    )
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", help="settings for all rows, such as data.workers=1"
    )
    sets = console.plugins("data/datasets")
    parser.add_argument(
        "--data", metavar="NAME[:key=value,...]", action="append", default=[], help=f"also score on one of {sets}"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="default: runs/ablation_ROWS")
    parser.add_argument("--steps", type=int, metavar="N", help="of every row, instead of the file's")
    parser.add_argument("--samples", type=int, default=500, metavar="N", help="of each test set (default: 500), 0: all")
    parser.add_argument("--workers", type=int, default=-1, metavar="N", help="processes that prepare test batches")
    parser.add_argument("--device", help="to score on: cpu, cuda, ... (default: a GPU if there is one)")
    arguments = parser.parse_intermixed_args(argv)
    return console.run(lambda: ablate(arguments))


def ablate(arguments: argparse.Namespace) -> int:
    """Train and score every row, then write table.md; see the module's docstring."""
    from .. import assembly
    from ..files import write_json, write_text

    table = read(arguments.rows, arguments.overrides, arguments.steps)
    out = arguments.out or Path("runs") / f"ablation_{configs.find(arguments.rows).stem}"
    tests = parse_tests([VIRTUAL, *arguments.data])
    for name, _ in tests.values():
        assembly.plugin("datasets", name, where="--data")
    states = {column: data_state(raw) for column, (_, raw) in tests.items()}
    store = out / "table.json"
    known = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {"trained": []}
    scores: dict[str, list[dict[str, float]]] = {}
    for row, settings in table.rows.items():
        for seed in range(table.seeds):
            name, command = run_of_row(table, out, row, settings, seed)
            if name not in known["trained"]:
                if not train_run(table.config, command):
                    return console.INTERRUPTED  # half a run is no row; the same command goes on with it
                known["trained"].append(name)
                write_json(store, known)
            found: dict[str, float] = {}
            for column, (dataset, raw) in tests.items():
                key = f"{name}|{column}|{arguments.samples}|{states[column]}"
                if key not in known:
                    known[key] = score(out / name / "model", dataset, raw, arguments)
                    write_json(store, known)
                found |= {f"{column}: {metric}": value for metric, value in known[key].items()}
            scores.setdefault(row, []).append(found)
            write_text(out / "table.md", markdown(table, scores, out))
    print(markdown(table, scores, out))
    print(out / "table.md")
    return 0


def read(path: str, overrides: list[str], steps: int | None) -> Table:
    """The rows, every one of them checked as far as can be without building its network.

    Raises:
        ConfigError: a mistake in the file or in the settings of a row, which the message names.
    """
    from .. import assembly

    table = configs.parse(Table, configs.read(path), where=str(path))
    table = replace(table, steps=steps or table.steps, shared=[*table.shared, *overrides])
    if not table.rows or min(table.steps, table.seeds) < 1:
        raise configs.ConfigError(f"{path}: give `rows`, and 1 or more `steps` and `seeds`")
    for row, settings in table.rows.items():
        try:
            assembly.check(configs.load(table.config, [*table.shared, *settings, *QUIET]))
        except configs.ConfigError as error:
            raise configs.ConfigError(f"{path}, row {row!r}: {error}") from None
    return table


def run_of_row(table: Table, out: Path, row: str, settings: list[str], seed: int) -> tuple[str, list[str]]:
    """The name of a row's run, which changes with its settings, and the settings to train it with."""
    budget = [f"train.steps={table.steps}", *([f"train.seed={seed}"] if table.seeds > 1 else [])]
    return run_of(table.config, [*budget, *table.shared, *settings], out, row, seed)


def score(folder: Path, name: str, raw: dict[str, Any], arguments: argparse.Namespace) -> dict[str, float]:
    """Metrics of a saved model on one data set, those of its joint tokens under "tokens METRIC"."""
    from .. import assembly
    from ..metrics import Accumulator

    model, tokens = assembly.load_model(folder), Accumulator()

    def watch(answers: dict[str, HandPrediction], batch: HandBatch) -> None:
        p = answers["model"]
        if p.joints_token is not None:
            p = replace(p, joints=p.joints_token, joints_2d=p.joints_token_2d, vertices=None)
            tokens.update(p, batch.targets, batch.keys)

    settings = EvaluationSettings(samples=arguments.samples, workers=arguments.workers, device=arguments.device)
    summaries = {"model": score_model(model, name, raw, settings, watch).summary(), TOKENS: tokens.summary()}
    return {
        metric if who == "model" else f"{who} {metric}": summaries[who][metric]
        for who, metrics in SHOWN_METRICS.items()
        for metric in metrics
        if metric in summaries[who]
    }


def markdown(table: Table, scores: dict[str, list[dict[str, float]]], out: Path) -> str:
    """The table, rows so far; the mean over the seeds, and half of what lies between the least and the largest."""
    columns = list(dict.fromkeys(name for runs in scores.values() for found in runs for name in found))
    lines = [f"{table.config}, {table.steps} steps a row" + f", {table.seeds} seeds" * (table.seeds > 1), ""]
    lines += ["| | " + " | ".join([*map(_heading, columns), "command"]) + " |", "|---" * (len(columns) + 2) + "|"]
    for row, runs in scores.items():
        cells = [_cell([found[c] for found in runs if c in found], c) for c in columns]
        command = shlex.join(
            ["python", "tools/train.py", table.config, *run_of_row(table, out, row, table.rows[row], 0)[1]]
        )
        lines.append(f"| {row} | " + " | ".join([*cells, f"`{command}`"]) + " |")
    return "\n".join(lines) + "\n"


def _heading(column: str) -> str:
    data, _, metric = column.partition(": ")
    who, _, metric = metric.rpartition(" ")
    return ", ".join(filter(None, (data.split()[0], who, metric_heading(metric))))


def _cell(values: list[float], column: str) -> str:
    return mean_cell(values, column.rpartition(" ")[2]) if values else MISSING
