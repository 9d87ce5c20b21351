"""Compare systems on equal terms: rows trained alike, one table (python tools/compare.py comparisons/rgb.yaml):

    hand-compare FILE.yaml [--data TITLE=folder:root=DIR,...] [--dry-run] [key=value ...]

FILE.yaml (configs/comparisons/ has some) says what is trained and on how many samples; docs/comparison.md. key=value
are settings of all trained rows. Every row is scored on the file's `data` and on each --data. Runs and results are kept
in --out: the same command again goes on where it was stopped, and computes only what is missing or has other settings.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .. import config as configs
from . import console
from .train import estimate_run, train_run

if TYPE_CHECKING:
    from ..evaluation.comparison.exports import Finder
    from ..evaluation.comparison.terms import Comparison


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and fill the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-compare", description=__doc__.splitlines()[0])
    files = console.shipped_configs("comparisons/*.yaml")
    parser.add_argument("file", metavar="FILE.yaml", help=f"a comparison file, or one of {files}")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="settings of all rows that are trained")
    sets = console.plugins("data/datasets")
    more = f"a column more, under its own title: one of {sets}"
    parser.add_argument("--data", metavar="[TITLE=]NAME[:key=value,...]", action="append", default=[], help=more)
    parser.add_argument("--out", metavar="DIR", type=Path, help="default: runs/comparison_FILE")
    parser.add_argument("--train-samples", type=int, metavar="N", help="that each row is trained on, not the file's")
    parser.add_argument("--samples", type=int, default=0, metavar="N", help="only the first N of each test set")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="of the evaluation")
    parser.add_argument("--workers", type=int, default=-1, metavar="N", help="processes that prepare test batches")
    parser.add_argument("--device", help="to score on: cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the CPU, that a crop is timed with")
    parser.add_argument("--dry-run", action="store_true", help="say what each row would take here; writes nothing")
    environment = "a Python with mediapipe 0.10.21, for rows with `program: mediapipe` (exported once)"
    parser.add_argument("--mediapipe-python", metavar="PYTHON", type=Path, help=environment)
    arguments = parser.parse_intermixed_args(argv)
    return console.run(lambda: compare(arguments))


def compare(arguments: argparse.Namespace) -> int:
    """Fill the table with the options of the command line; see the module's docstring."""
    from ..evaluation.columns import parse_tests
    from ..evaluation.comparison import terms

    if arguments.device is not None:
        console.check_device(arguments.device)
    if arguments.threads < 1:
        raise configs.ConfigError(f"--threads {arguments.threads} should be 1 or more")
    comparison = terms.read(arguments.file, arguments.overrides, arguments.train_samples)
    out = arguments.out or Path("runs") / f"comparison_{configs.find(arguments.file).stem}"
    if arguments.dry_run:
        return _dry_run(comparison, out)

    from ..evaluation.comparison import subjects
    from ..evaluation.comparison.fill import Comparer, Tools
    from ..evaluation.run import EvaluationSettings

    columns = parse_tests([*comparison.data, *arguments.data])
    subjects.check_columns([name for name, _ in columns.values()])
    console.log_to_terminal()
    a = arguments
    settings = EvaluationSettings(samples=a.samples, batch_size=a.batch_size, workers=a.workers, device=a.device)
    tools = Tools(train_run, print, _machine(), _mediapipe(a.mediapipe_python))
    finished = Comparer(comparison, columns, out, settings, tools, a.threads).fill()
    if finished:
        print((out / "comparison.md").read_text(encoding="utf-8"))
    return 0 if finished else console.INTERRUPTED


def _dry_run(comparison: Comparison, out: Path) -> int:
    from ..evaluation.comparison.fill import budget

    for row in budget(comparison, out, lambda config, settings: estimate_run(config, settings)[1]):
        print("{:<44} {:>12} {:>7} {:>10} {:>9} {:>8}".format(*row), flush=True)
    return 0


def _machine() -> str:
    from ..training.log import machine

    facts = machine()
    return f"{facts['processor']}, {facts['cores']} cores, torch {facts['torch']}"


def _mediapipe(python: Path | None) -> Finder | None:
    if python is None:
        return None
    from ..inference.detectors.media_pipe import MediaPipe

    return MediaPipe(python=python).landmarks
