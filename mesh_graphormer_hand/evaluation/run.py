"""A saved model evaluated on one data set: scores, exported predictions, official scores, a report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import config as configs
from .text import collect_notes, official_lines, table

if TYPE_CHECKING:
    from ..data.base import HandDataset
    from ..mano.template import HandTemplate
    from ..metrics.protocols.base import Scores
    from ..models.base import HandModel
    from .predictions import Collector

TTA_COLUMN = "model_tta"


@dataclass(frozen=True)
class EvaluationSettings:
    """How to evaluate."""

    tta: bool = False  # also with test-time augmentation
    two_hands: bool = False  # also by the protocols for meshes of two hands
    samples: int = 0  # only the first ones; 0: all
    batch_size: int = 32
    workers: int = -1  # processes that prepare batches; -1: by the cores
    device: str | None = None  # None: a GPU if there is one


def evaluate_model(
    folder: Path, name: str, raw: dict[str, Any], out: Path, settings: EvaluationSettings, show: Callable[[str], None]
) -> dict[str, Any]:
    """Evaluate a saved model on one data set and write all files into `out`.

    Args:
        folder: of the model.
        name: of the data set, with its options `raw`.
        show: called with the lines of the report as they become known, such as `print`.

    Returns:
        The content of a JSON file: metrics and official scores by predictor, broken-down scores, notes.
    """
    import torch

    from .. import assembly
    from ..data.loader import worker_count
    from ..mano import hand as hands
    from ..mano.template import hand_template
    from ..metrics.calibration import calibration_of
    from . import predictions, report
    from .evaluate import evaluate
    from .hand_mapping import map_predictors_to_hand
    from .two_hands import TwoHands

    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    hand = hands.find(model_config(folder)["hand"])
    model = assembly.load_model(folder, hand).to(device)
    template = hand_template(hand)
    predictors = _predictors(model, template, settings.tta)
    if name == "virtual":
        raw = {"extra": ["appearance"], **raw}  # skin and light, for the report
    size, crop = model.config.image_size, model.config.crop_spec
    dataset = assembly.build_dataset(name, raw, "test", hand, size, crop, where=f"data.test.{name}")
    predictors, notes = map_predictors_to_hand(predictors, dataset, hand.fingerprint)
    judged = tuple(n for n in predictors if n != "mean_pose")
    collector = predictions.Collector(judged, vertices=predictions.has_submission(dataset), total=len(dataset))
    pairs = TwoHands(dataset, judged) if settings.two_hands else None
    curve = calibration_of(model)
    watch = chain_callbacks(*(callback for callback in (collector, pairs, curve) if callback is not None))
    scores = evaluate(
        predictors,
        dataset,
        device=device,
        batch_size=settings.batch_size,
        workers=worker_count(settings.workers),
        samples=settings.samples,
        watch=watch,
    )
    metrics = {who: accumulator.summary() for who, accumulator in scores.items()}
    in_pixels = predictions.keypoint_scores_2d(collector)
    for who, found in in_pixels.items():
        metrics[who]["epe_px"] = found.official["epe"]
    if curve is not None:
        metrics["model"]["calibration_error"] = curve.error()
    title = f"{run_name(folder)} on {name}"
    text = table(f"{title}, {len(scores['model'])} samples", metrics)
    show(text)
    official = export_and_score(dataset, collector, out, show)
    if pairs:
        official |= pairs.scores(out)
        notes += pairs.notes
    official |= {f"{who}, 2D": found for who, found in in_pixels.items()}
    notes += collect_notes(collector, official)
    for line in official_lines(official, notes, collector.left_out):
        show(line)
    evaluation = report.Evaluation(title, text, scores, official, notes, collector.left_out)
    evaluation.calibration = {} if curve is None else curve.shares()
    missing = len(collector.left_out) + len(collector.no_hand)
    evaluation.gallery = report.worst(dataset, scores["model"], model, template, device, missing)
    show(str(report.write(out, evaluation)))
    return {
        "metrics": metrics,
        "official": {who: s.as_mapping() for who, s in official.items()},
        "breakdown": {who: accumulator.breakdown() for who, accumulator in scores.items()},
        "notes": notes,
        "left_out": collector.left_out,
        "no_hand": collector.no_hand,
    }


def _predictors(model: HandModel, template: HandTemplate, tta: bool) -> dict[str, Callable]:
    """Who is measured: the model, the model with test-time augmentation, the template."""
    from .evaluate import MeanPose
    from .tta import TestTimeAugmentation

    averaged = {TTA_COLUMN: TestTimeAugmentation(model).eval()} if tta else {}
    return {"model": model, **averaged, "mean_pose": MeanPose(template)}


def export_and_score(
    dataset: HandDataset, collector: Collector, out: Path, show: Callable[[str], None]
) -> dict[str, Scores]:
    """Write each predictor's predictions and score the files by the data set's protocol, where it has one."""
    from ..metrics.protocols.base import ScoreError
    from . import predictions as files

    official = {}
    for who, predicted in collector.predictions.items():
        if not predicted.keys:
            continue
        exported = files.export(out, dataset, predicted)
        show(str(exported.path))
        try:
            scores = files.score(dataset, exported, partial=len(predicted.keys) < predicted.total)
        except ScoreError as error:  # hours of predictions are on the disk: the report is still made
            collector.notes.append(f"no official scores: {error}")
            continue
        if scores is not None:
            scores.left_out = []  # listed once, by the data set
            official[who] = scores
    return official


def chain_callbacks(*callbacks: Callable) -> Callable:
    """One callback that calls `callbacks` in turn with its own arguments."""

    def call(*arguments: Any) -> None:
        for callback in callbacks:
            callback(*arguments)

    return call


def run_name(folder: Path) -> str:
    """What a saved model is called: its run's name, or its folder's."""
    return folder.parent.name if folder.name == "model" else folder.name


def skipping_broken(name: str, raw: dict[str, Any]) -> dict[str, Any]:
    """The options of a data set, set to leave broken samples out, where the data set can have any."""
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
