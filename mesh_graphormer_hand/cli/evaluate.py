"""Score a model:  hand-evaluate RUN [--data NAME --root DIR] [--tta] [--json FILE]   (python tools/evaluate.py).

RUN is the name of shipped weights, a run's folder, its name under runs/, or a folder that save_pretrained wrote. What
the model does not produce is a dash; another column is the mean pose, which sees no photo, and with
--tta a column for the published test-time augmentation.

In a folder with the name of the JSON file lie the predictions in the data set's official layout (pred.json, pred.zip)
or as a table, curves.png, per_joint.csv and report.html, which holds all of it. Official scores are made from the
exported file, where the labels are known. See docs/evaluation.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import config as configs
from ..evaluation.run import EvaluationSettings, evaluate_model, run_name, skipping_broken
from ..files import write_json
from . import console

DEFAULT = "graphormer_lite"


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and evaluate; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-evaluate", description=__doc__.splitlines()[0])
    shipped = console.shipped_weights()
    what = f"a run, a saved model or shipped weights: {shipped} (default: {DEFAULT})"
    parser.add_argument("run", metavar="RUN", nargs="?", default=DEFAULT, help=what)
    parser.add_argument("options", metavar="key=value", nargs="*", help="options of the data set, such as crop=box")
    sets = f"one of {console.plugins('data/datasets')} (default: the run's own test sets, else virtual)"
    parser.add_argument("--data", metavar="NAME", help=sets)
    parser.add_argument("--root", metavar="DIR", help="its folder")
    parser.add_argument("--json", metavar="FILE", help="where to write the numbers")
    parser.add_argument("--out", metavar="DIR", type=Path, help="where to write all of it (default: beside the run)")
    parser.add_argument("--tta", action="store_true", help="also with 5 scales x 19 turns averaged (95 times slower)")
    parser.add_argument("--two-hands", action="store_true", help="InterHand2.6M: also meshes, as IntagHand, InterWild")
    parser.add_argument("--skip-broken", action="store_true", help="leave broken samples out, count and list them")
    parser.add_argument("--samples", type=int, default=0, metavar="N", help="only the first N samples")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N")
    parser.add_argument("--workers", type=int, default=-1, metavar="N", help="processes that prepare batches")
    parser.add_argument("--device", help="cpu, cuda, mps, ... (default: a GPU if there is one)")
    arguments = parser.parse_intermixed_args(argv)
    if "=" in arguments.run and not Path(arguments.run).exists():  # no RUN, an option of the data set
        arguments.options.insert(0, arguments.run)
        arguments.run = DEFAULT
    return console.run(lambda: evaluate(arguments))


def evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate with the options of the command line; see the module's docstring."""
    from .. import assembly  # imports no torch yet

    if arguments.device is not None:
        console.check_device(arguments.device)
    folder = assembly.find_model(arguments.run)
    sections = test_sections(folder, arguments.data, arguments.root, arguments.options)
    if arguments.skip_broken:
        sections = {name: skipping_broken(name, raw) for name, raw in sections.items()}
    console.log_to_terminal()
    path = Path(arguments.json) if arguments.json else default_json(folder, sections, arguments.out)
    out = arguments.out or path.with_suffix("")
    a, results = arguments, {}
    settings = EvaluationSettings(a.tta, a.two_hands, a.samples, a.batch_size, a.workers, a.device)
    for name, raw in sections.items():
        part = out if len(sections) == 1 else out / name
        results[name] = evaluate_model(folder, name, raw, part, settings, print)
    content = {"model": str(folder), "samples": arguments.samples, "data": sections}
    content["test"] = {name: result.pop("metrics") for name, result in results.items()}
    write_json(path, content | {"more": results})
    print(path)
    return 0


def test_sections(folder: Path, data: str | None, root: str | None, options: list[str]) -> dict[str, dict[str, Any]]:
    """Data set name -> raw options: what the command line asks for, else the run's own test sets, else virtual.

    Raises:
        ConfigError: options or a root without --data, or an option without "=".
    """
    if data is None:
        if root or options:
            raise configs.ConfigError("--root and key=value are options of a data set: name it with --data")
        own = folder.parent / "config.yaml"
        return configs.load(own).data.test if own.is_file() else {"virtual": {}}
    raw = configs.overrides_to_mapping(options)
    return {data: {**raw, **({"root": root} if root else {})}}


def default_json(folder: Path, sections: dict[str, Any], out: Path | None = None) -> Path:
    """evaluation_DATA.json in `out`, else in the run's folder, or under runs/ for a model that is no run of ours: of
    shipped weights in runs/shipped/NAME, apart from a run that is called like them."""
    from .. import assembly

    name = f"evaluation_{'_'.join(sections)}.json"
    if out is not None:
        return out / name
    if (folder.parent / "config.yaml").is_file():
        return folder.parent / name
    place = Path("runs") / "shipped" if assembly.is_shipped(folder) else Path("runs")
    return place / run_name(folder) / name
