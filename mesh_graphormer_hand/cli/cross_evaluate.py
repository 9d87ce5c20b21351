"""The cross-data-set table: several runs, each scored on several data sets (python tools/cross_evaluate.py):

    hand-cross-evaluate RUN RUN ... --data freihand:root=DIR --data folder:root=DIR,files=crop_* [--out DIR]

Rows are what was trained on, columns what was tested on; each cell has PCKb@0.1 (share of 2D joints within 0.1 of the
diagonal of the keypoints' box), EPE (2D, px of the photo) and PA-MPJPE (mm, proper rotations). A RUN that is a
config (a YAML file, or the name of a shipped one) is trained first, or resumed. Results are kept
next to the table: the same command again computes only what is missing, and what has other weights or, under `root`,
other files than before. `--overwrite` is for what else may have changed, such as the program.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .. import config as configs
from ..evaluation.columns import data_state, parse_tests
from ..evaluation.cross_table import draw, markdown
from ..evaluation.row_runs import mixture
from ..evaluation.run import TTA_COLUMN, EvaluationSettings, evaluate_model, model_config, skipping_broken
from ..files import write_json, write_text
from . import console


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and fill the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-cross-evaluate", description=__doc__.splitlines()[0])
    shipped = f"weights: {console.shipped_weights()}; configs: {console.shipped_configs(*console.NETWORKS)}"
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help=f"a run, weights, or a config to train (shipped {shipped})"
    )
    sets = console.plugins("data/datasets")
    parser.add_argument("--data", metavar="NAME[:key=value,...]", action="append", help=f"to test on: {sets}")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs/cross_evaluation"))
    parser.add_argument("--samples", type=int, default=0, metavar="N", help="only the first N samples of each set")
    parser.add_argument("--tta", action="store_true", help="rows of their own with test-time augmentation")
    parser.add_argument("--skip-broken", action="store_true", help="leave broken samples out, count and list them")
    parser.add_argument("--overwrite", action="store_true", help="compute everything anew")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N")
    parser.add_argument("--workers", type=int, default=-1, metavar="N")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    console.refuse_renamed(parser, {"--again": "--overwrite"})
    arguments = parser.parse_args(argv)
    return console.run(lambda: cross_evaluate(arguments))


def cross_evaluate(arguments: argparse.Namespace) -> int:
    """Fill the table with the options of the command line; see the module's docstring."""
    from .. import assembly

    tests = parse_tests(arguments.data or ["virtual"])
    for name, raw in tests.values():
        assembly.plugin("datasets", name, where="--data")
        if arguments.skip_broken:
            raw |= skipping_broken(name, raw)
    console.log_to_terminal()
    arguments.out.mkdir(parents=True, exist_ok=True)
    store = arguments.out / "table.json"
    known = {} if arguments.overwrite or not store.is_file() else _read(store)
    states = {column: data_state(raw) for column, (_, raw) in tests.items()}
    rows: dict[str, dict[str, dict[str, float]]] = {}
    a = arguments
    settings = EvaluationSettings(a.tta, False, a.samples, a.batch_size, a.workers, a.device)
    for run in arguments.runs:
        folder = find_or_train(run)
        label = trained_on(folder)
        for column, (name, raw) in tests.items():
            inputs = [str(folder), name, raw, arguments.samples, arguments.tta, _stamp(folder), states[column]]
            key = json.dumps(inputs, sort_keys=True)
            if key not in known:
                part = arguments.out / f"{_slug(label)}__{_slug(column)}"
                known[key] = evaluate_model(folder, name, dict(raw), part, settings, print)["metrics"]
                write_json(store, known)
            for who, metrics in known[key].items():
                if who in ("model", TTA_COLUMN):
                    row = label if who == "model" else f"{label}, TTA"
                    rows.setdefault(row, {})[column] = metrics
            rows.setdefault("(mean pose)", {})[column] = known[key].get("mean_pose", {})
    rows = {**{r: v for r, v in rows.items() if r != "(mean pose)"}, "(mean pose)": rows["(mean pose)"]}
    text = markdown(rows, list(tests))
    write_text(arguments.out / "table.md", text)
    draw(arguments.out / "table.png", rows, list(tests))
    print(text)
    print(arguments.out / "table.md")
    return 0


def find_or_train(run: str) -> Path:
    """The saved model that `run` names; a config is trained first, or finished.

    Raises:
        ConfigError: neither a model nor a config.
    """
    from .. import assembly

    if not run.endswith((".yaml", ".yml")):
        try:
            return assembly.find_model(run)
        except configs.ConfigError:
            configs.find(run)  # whose own error lists the configs
    from .train import train_run

    experiment = configs.load(run)
    folder = Path(experiment.train.output) / (experiment.train.name or configs.find(run).stem)
    if not train_run(run, []):
        raise configs.ConfigError(f"{run} was not trained to its end")
    return assembly.find_model(folder)


def trained_on(folder: Path) -> str:
    """A row's heading: the data sets of the run with their shares, and the run's or the weights' name."""
    run = folder.parent if folder.name == "model" else folder
    config = folder.parent / "config.yaml"
    if not config.is_file():
        return f"{run.name} ({model_config(folder).get('name', '')})"
    return f"{mixture(configs.load(config).data.train)} ({run.name})"


def _stamp(folder: Path) -> int:
    """Changes when the weights do."""
    return (folder / "model.safetensors").stat().st_mtime_ns


def _slug(text: str) -> str:
    slug = "".join(c if c.isalnum() else "_" for c in text).strip("_")
    return slug if len(slug) <= 80 else f"{slug[:73]}_{hashlib.sha256(os.fsencode(text)).hexdigest()[:6]}"


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}  # cut short by an interrupt: everything is computed anew
