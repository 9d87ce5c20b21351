"""Score a model:  hand-evaluate RUN [--data NAME --root DIR] [--json FILE]   (python tools/evaluate.py in a checkout).

RUN is a run's folder, its name under runs/, a folder that save_pretrained wrote, or the name of shipped weights. What
the model does not produce is a dash; beside it stands the mean-pose answer, which has never seen a photo.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import config as configs
from . import console

DEFAULT = "graphormer_lite"
UNITS = {"mpjpe": "mm", "pa_mpjpe": "mm", "mpvpe": "mm", "pa_mpvpe": "mm", "epe_2d": "of box"}
ORDER = ("mpjpe", "pa_mpjpe", "mpvpe", "pa_mpvpe", "auc", "f@5", "f@15", "pck@0.1", "pck@0.2", "auc_2d", "epe_2d")
ORDER += ("mask_iou",)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and evaluate; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("run", metavar="RUN", nargs="?", default=DEFAULT, help=f"what to score (default: {DEFAULT})")
    parser.add_argument("options", metavar="key=value", nargs="*", help="options of the data set, such as crop=box")
    parser.add_argument("--data", metavar="NAME", help="data set (default: the run's own test sets, else virtual)")
    parser.add_argument("--root", metavar="DIR", help="its folder")
    parser.add_argument("--json", metavar="FILE", help="where to write the numbers")
    parser.add_argument("--samples", type=int, default=0, metavar="N", help="only the first N samples")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N")
    parser.add_argument("--workers", type=int, default=-1, metavar="N", help="processes that prepare batches")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    arguments = parser.parse_intermixed_args(argv)
    return console.run(lambda: evaluate(arguments))


def evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate as the command line says; see the module's docstring."""
    from .. import assembly  # imports no torch yet

    folder = assembly.find_model(arguments.run)
    sections = test_sections(folder, arguments.data, arguments.root, arguments.options)
    console.log_to_terminal()

    import torch  # after the arguments, so that their mistakes are told at once

    from ..engine import train
    from ..engine.evaluate import MeanPose, evaluate
    from ..engine.loader import worker_count
    from ..mano import hand as hands
    from ..mano.template import hand_template

    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    hand = hands.find(model_config(folder)["hand"])
    model = assembly.load_model(folder, hand).to(device)
    predictors = {"model": model, "mean_pose": MeanPose(hand_template(hand))}
    results = {}
    for name, raw in sections.items():
        dataset = assembly.build_dataset(name, raw, "test", hand, model.config.image_size, where=f"data.test.{name}")
        scores = evaluate(
            predictors,
            dataset,
            device=device,
            batch_size=arguments.batch_size,
            workers=worker_count(arguments.workers),
            samples=arguments.samples,
        )
        results[name] = {who: accumulator.summary() for who, accumulator in scores.items()}
        print(table(f"{arguments.run} on {name}, {len(scores['model'])} samples", results[name]))
    path = Path(arguments.json) if arguments.json else default_json(arguments.run, folder, sections)
    path.parent.mkdir(parents=True, exist_ok=True)
    train.write_json(path, {"model": str(folder), "samples": arguments.samples, "data": sections, "test": results})
    print(path)
    return 0


def model_config(folder: Path) -> dict[str, Any]:
    """config.json of a saved model."""
    import json

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return {"hand": "", **config}
    except (ValueError, TypeError) as error:
        raise configs.ConfigError(f"{folder / 'config.json'} is not valid: {error}") from None


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


def table(title: str, results: dict[str, dict[str, float]]) -> str:
    """A text table, metrics by predictors; a dash for what a predictor does not produce."""
    present = {name for scores in results.values() for name in scores}
    names = [*ORDER, *sorted(present - set(ORDER))]
    rows = [["", *(who.replace("_", " ") for who in results)]]
    rows += [[f"{n} {UNITS.get(n, '')}".strip(), *(_cell(n, scores) for scores in results.values())] for n in names]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(r, widths, strict=True)))
        for r in rows
    ]
    return "\n".join([title, *lines])


def default_json(run: str, folder: Path, sections: dict[str, Any]) -> Path:
    """evaluation_DATA.json in the run's folder, or under runs/ for a model that is no run of ours."""
    name = f"evaluation_{'_'.join(sections)}.json"
    if (folder.parent / "config.yaml").is_file():
        return folder.parent / name
    return Path("runs") / (folder.parent.name if folder.name == "model" else folder.name) / name


def _cell(name: str, scores: dict[str, float]) -> str:
    if name not in scores:
        return "-"
    return f"{scores[name]:.2f}" if UNITS.get(name) == "mm" else f"{scores[name]:.3f}"
