"""Score a model:  hand-evaluate RUN [--data NAME --root DIR] [--tta] [--json FILE]   (python tools/evaluate.py).

RUN is the name of shipped weights, a run's folder, its name under runs/, or a folder that save_pretrained wrote. What
the model does not produce is a dash; beside it stands the mean-pose answer, which has never seen a photo, and with
--tta a column for the published test-time augmentation.

Beside the JSON file lies a folder with the predictions in the data set's official layout (pred.json, pred.zip) or as a
table, curves.png, per_joint.csv and report.html, which holds all of it. Official scores are made from the exported
file, where the labels are there. docs/evaluation.md tells more.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import config as configs
from ..files import write_json
from . import console

if TYPE_CHECKING:
    from ..data.base import HandDataset
    from ..evaluation.predictions import Collector
    from ..metrics.protocols.base import Scores

DEFAULT = "graphormer_lite"
UNITS = {"mpjpe": "mm", "pa_mpjpe": "mm", "mpvpe": "mm", "pa_mpvpe": "mm", "epe_2d": "of box", "epe_px": "px"}
ORDER = ("mpjpe", "pa_mpjpe", "mpvpe", "pa_mpvpe", "auc", "f@5", "f@15", "pck@0.1", "pck@0.2", "pckb@0.1", "auc_2d")
ORDER += ("epe_2d", "epe_px", "mask_iou")
TTA_COLUMN = "model_tta"


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
    """Evaluate as the command line says; see the module's docstring."""
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
    results = {}
    for name, raw in sections.items():
        part = out if len(sections) == 1 else out / name
        results[name] = evaluate_one(folder, name, raw, part, arguments, arguments.two_hands)
    content = {"model": str(folder), "samples": arguments.samples, "data": sections}
    content["test"] = {name: result.pop("metrics") for name, result in results.items()}
    write_json(path, content | {"more": results})
    print(path)
    return 0


def evaluate_one(
    folder: Path, name: str, raw: dict[str, Any], out: Path, arguments: argparse.Namespace, two_hands: bool = False
) -> dict[str, Any]:
    """Evaluate a saved model on one data set; prints its table and official scores, writes all files into `out`.

    `two_hands`: also by the protocols for meshes of two hands. Returns what belongs into a JSON file: metrics and
    official scores by predictor, broken-down scores, notes.
    """
    import torch  # after the arguments, so that their mistakes are told at once

    from .. import assembly
    from ..data.loader import worker_count
    from ..evaluation import predictions, report
    from ..evaluation.evaluate import MeanPose, evaluate
    from ..evaluation.tta import TestTimeAugmentation
    from ..evaluation.two_hands import TwoHands
    from ..mano import hand as hands
    from ..mano.template import hand_template

    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    hand = hands.find(model_config(folder)["hand"])
    model = assembly.load_model(folder, hand).to(device)
    template = hand_template(hand)
    predictors: dict[str, Callable] = {"model": model, "mean_pose": MeanPose(template)}
    if arguments.tta:
        predictors = {
            "model": model,
            TTA_COLUMN: TestTimeAugmentation(model).eval(),
            "mean_pose": predictors["mean_pose"],
        }
    if name == "virtual":
        raw = {"extra": ["appearance"], **raw}  # skin and light, for the report
    dataset = assembly.build_dataset(name, raw, "test", hand, model.config.image_size, where=f"data.test.{name}")
    predictors, notes = said_of_data(predictors, dataset, hand.fingerprint)
    judged = tuple(n for n in predictors if n != "mean_pose")
    collector = predictions.Collector(judged, vertices=predictions.has_submission(dataset), total=len(dataset))
    pairs = TwoHands(dataset, judged) if two_hands else None
    scores = evaluate(
        predictors,
        dataset,
        device=device,
        batch_size=arguments.batch_size,
        workers=worker_count(arguments.workers),
        samples=arguments.samples,
        watch=chain_callbacks(collector, pairs) if pairs else collector,
    )
    metrics = {who: accumulator.summary() for who, accumulator in scores.items()}
    in_pixels = predictions.keypoint_scores_2d(collector)
    for who, found in in_pixels.items():
        metrics[who]["epe_px"] = found.official["epe"]
    title = f"{run_name(folder)} on {name}"
    text = table(f"{title}, {len(scores['model'])} samples", metrics)
    print(text)
    official = export_and_score(dataset, collector, out)
    if pairs:
        official |= pairs.scores(out)
        notes += pairs.notes
    official |= {f"{who}, 2D": found for who, found in in_pixels.items()}
    notes += told(collector, official)
    print_official(official, notes, collector.left_out)
    evaluation = report.Evaluation(title, text, scores, official, notes, collector.left_out)
    missing = len(collector.left_out) + len(collector.no_hand)
    evaluation.gallery = report.worst(dataset, scores["model"], model, template, device, missing)
    print(report.write(out, evaluation))
    return {
        "metrics": metrics,
        "official": {who: s.as_mapping() for who, s in official.items()},
        "breakdown": {who: accumulator.breakdown() for who, accumulator in scores.items()},
        "notes": notes,
        "left_out": collector.left_out,
        "no_hand": collector.no_hand,
    }


def said_of_data(
    predictors: dict[str, Callable], dataset: HandDataset, fingerprint: int
) -> tuple[dict[str, Callable], list[str]]:
    """The predictors, speaking of the hand of the data set's labels, and what to tell about it.

    Another hand's answers go through the registered map; without one, 3D is taken out: it cannot be compared.
    """
    from ..mano.registration import map as registration
    from .said import Mapped, OnlyImage

    if dataset.hand in (0, fingerprint):
        return predictors, []
    to_data = registration.find(fingerprint, dataset.hand)
    if to_data is not None:
        return {name: Mapped(predict, to_data).eval() for name, predict in predictors.items()}, [
            "the labels are of another hand than the model's: predictions went through the registered map"
        ]
    note = "3D is not compared: the labels are of another hand than the model's; "
    return {name: OnlyImage(predict).eval() for name, predict in predictors.items()}, [
        note + registration.registration_hint(fingerprint, dataset.hand)
    ]


def export_and_score(dataset: HandDataset, collector: Collector, out: Path) -> dict[str, Scores]:
    """Write each predictor's predictions and score the files by the data set's protocol, where it has one."""
    from ..evaluation import predictions as files
    from ..metrics.protocols.base import ScoreError

    official = {}
    for who, predicted in collector.predictions.items():
        if not predicted.keys:
            continue
        exported = files.export(out, dataset, predicted)
        print(exported.path)
        try:
            scores = files.score(dataset, exported, partial=len(predicted.keys) < predicted.total)
        except ScoreError as error:  # hours of predictions are on the disk: the report is still made
            collector.notes.append(f"no official scores: {error}")
            continue
        if scores is not None:
            scores.left_out = []  # told once, by the data set
            official[who] = scores
    return official


def chain_callbacks(*callbacks: Callable) -> Callable:
    """One callback that calls `callbacks` in turn with its own arguments."""

    def call(*arguments: Any) -> None:
        for callback in callbacks:
            callback(*arguments)

    return call


def told(collector: Collector, official: dict[str, Scores]) -> list[str]:
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


def print_official(official: dict[str, Scores], notes: list[str], left_out: list[str]) -> None:
    """The official lines of every predictor, then notes and what was left out."""
    for who, scores in official.items():
        kind = "2D" if who.endswith(", 2D") else "official"
        name = who.removesuffix(", 2D").replace("_", " ")
        print(f"{kind} scores ({scores.protocol}), {name}, {next(iter(scores.counts.values()))} samples")
        print("\n".join(f"  {line}" for line in scores.lines()))
    for note in notes:
        print(f"note: {note}")
    for line in left_out:
        print(f"left out: {line}")


def run_name(folder: Path) -> str:
    """What a saved model is called: its run's name, or its folder's."""
    return folder.parent.name if folder.name == "model" else folder.name


def skipping_broken(name: str, raw: dict[str, Any]) -> dict[str, Any]:
    """The options of a data set, told to leave broken samples out, where it can have any."""
    import dataclasses

    from .. import assembly

    known = {f.name for f in dataclasses.fields(assembly.plugin("datasets", name, where="--data").Config)}
    return {**raw, "on_broken": "skip"} if "on_broken" in known else raw


def model_config(folder: Path) -> dict[str, Any]:
    """config.json of a saved model."""
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


def _cell(name: str, scores: dict[str, float]) -> str:
    if name not in scores:
        return "-"
    return f"{scores[name]:.2f}" if UNITS.get(name) in ("mm", "px") else f"{scores[name]:.3f}"
