"""2D keypoints as mmpose scores them (PCK, PCKh, AUC, EPE, NME), and PCKb.

Truth: a COCO-style JSON file, `annotations` with `id`, `keypoints` (63 numbers or 21 triples, x, y, visible), `bbox`
and, for PCKh, `head_size`. Predictions: COCO results, a list of {"id": ..., "keypoints": ...} with annotations' ids, or
with "image_id" instead where the picture has one annotation only (whose `image_id` it is); or our table (a sample is an
annotation's id) with `joints_px`; pixels of the picture. Joint orders must agree.

    pck@0.2    share nearer (strictly) than 0.2 of the longer side of the annotated box; mean over the joints
    pckh@0.7   the same with the head's size        auc   mean of that share, unnormalised, at 0, 1.5, ..., 28.5 px
    epe        mean over all labelled joints, px    nme   the same, of the box's longer side
    pckb@0.1   share within (<=) 0.1 of the diagonal of the labelled keypoints' own box; mean over all labelled joints
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from .. import doubts
from .base import Broken, Curve, Errors, ScoreError, Scores, distance, first, numbers, read_json

AUC_PX, AUC_STEPS = 30.0, 20


@dataclass
class Config:
    """Options of the protocol: thresholds."""

    pck: float = 0.2
    pckh: float = 0.7
    pckb: float = 0.1


@dataclass
class Labels:
    """n annotations; NaN where a joint is not labelled."""

    names: list[str]
    points: Float[np.ndarray, "n 21 2"]  # px
    box: Float[np.ndarray, "n"]  # px, longer side of the annotated box
    head: Float[np.ndarray, "n"]  # px, NaN where unknown
    alone: dict[str, str] = field(default_factory=dict)  # image id -> name, of annotations with a picture to themselves


def score(truth: Path, predictions: Path, config: Config, skip_broken: bool = False) -> Scores:
    """Score COCO results or our table against a COCO-style file.

    Raises:
        ScoreError: a missing or damaged file, or a broken sample.
    """
    labels, broken = read_labels(truth), Broken(skip_broken)
    answers = read_answers(predictions, labels.alone)
    if not set(answers) & set(labels.names):
        raise ScoreError(
            f"{predictions} names none of the annotations of {truth}: it has {first(answers)}, wanted "
            f"{first(labels.names)}"
        )
    rows, points = [], []
    for i, name in enumerate(labels.names):
        try:
            if name not in answers:
                raise ValueError(f"{predictions}: annotation {name} is missing")
            points.append(numbers(answers[name], (21, 2), f"{predictions}: annotation {name}"))
            rows.append(i)
        except ValueError as error:
            broken.add(name, str(error))
    if not rows:
        raise ScoreError(f"{predictions}: no sample is left to score")
    chosen = Labels([labels.names[i] for i in rows], labels.points[rows], labels.box[rows], labels.head[rows])
    scores = compare(chosen, np.stack(points), config)
    scores.left_out = broken.listed
    return scores


def compare(labels: Labels, predicted: Float[np.ndarray, "n 21 2"], config: Config | None = None) -> Scores:
    """The scores of predictions for the labels, px."""
    config = config or Config()
    pixels = distance(labels.points, predicted)  # NaN where unlabelled
    errors = Errors(pixels)
    official = {f"pck@{config.pck:g}": pck(pixels / labels.box[:, None], config.pck)}
    if not np.isnan(labels.head).all():
        official[f"pckh@{config.pckh:g}"] = pck(pixels / labels.head[:, None], config.pckh)
    steps = AUC_PX * np.arange(AUC_STEPS) / AUC_STEPS
    official |= {"auc": float(errors.curve(steps, strict=True).mean()), "epe": errors.flat_mean()}
    official["nme"] = Errors(pixels / labels.box[:, None]).flat_mean()
    relative = pixels / diagonal(labels.points)[:, None]
    known = ~np.isnan(relative)
    pckb = float((relative[known] <= config.pckb).mean()) if known.any() else float("nan")
    return Scores(
        protocol="keypoints_2d",
        official=official,
        units={"epe": "px"},
        extra={f"pckb@{config.pckb:g}": pckb, "epe_by_joint": errors.mean()},
        counts={"samples": len(pixels), "joints": int(errors.known.sum())},
        per_joint={"epe_px": errors.by_joint},
        notes=doubts.notes(labels.points, predicted, errors.known),
        curves={"uv": Curve(steps, errors.curve(steps, strict=True), "px")},
    )


def pck(relative: Float[np.ndarray, "n j"], threshold: float) -> float:
    """Mean over the joints of the share of errors strictly below the threshold; NaNs are not labelled."""
    return float(Errors(relative).curve(np.array([threshold]), strict=True)[0])


def diagonal(points: Float[np.ndarray, "n 21 2"]) -> Float[np.ndarray, "n"]:
    """Diagonal (px) of the tight box of the labelled keypoints; NaN where there are fewer than two."""
    labelled = ~np.isnan(points).any(-1)
    high = np.where(labelled[..., None], points, -np.inf).max(1)
    low = np.where(labelled[..., None], points, np.inf).min(1)
    length = np.linalg.norm(np.where(np.isfinite(high - low), high - low, 0), axis=-1)
    return np.where(length > 0, length, np.nan)


def read_labels(path: Path) -> Labels:
    """The annotations of a COCO-style file.

    Raises:
        ScoreError: a missing or damaged file, or an annotation that lacks a key.
    """
    content = read_json(path, "truth")
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise ScoreError(f'{path} should be a COCO-style file with a list of "annotations" (truth)')
    names, images, points, boxes, heads = [], [], [], [], []
    for i, annotation in enumerate(content["annotations"]):
        where = f"{path}: annotation {i}"
        try:
            row = np.array(annotation["keypoints"], np.float64).reshape(21, 3)
            box = numbers(annotation["bbox"], (4,), f"{where}: bbox")
            names.append(str(annotation["id"]))
            images.append(str(annotation.get("image_id")))
        except (KeyError, TypeError, ValueError) as error:
            raise ScoreError(f"{where}: keypoints (21 x 3), bbox (4) and id expected: {error}") from None
        points.append(np.where(row[:, 2:] > 0, row[:, :2], np.nan))
        boxes.append(max(box[2:]))
        heads.append(float(annotation.get("head_size") or np.nan))
    if not names:
        raise ScoreError(f"{path} holds no annotation")
    shared = Counter(images)
    alone = {image: name for image, name in zip(images, names, strict=True) if shared[image] == 1}
    return Labels(names, np.stack(points), np.array(boxes), np.array(heads), alone)


def read_answers(path: Path, alone: dict[str, str]) -> dict[str, Any]:
    """Annotation id -> predicted keypoints (21 x 2 or more). `alone`: image id -> the only annotation of the picture.

    Raises:
        ScoreError: a missing or damaged file, neither COCO results nor our table, two results for one annotation, or a
            result with an image_id only of a picture that has not exactly one annotation.
    """
    content = read_json(path, "predictions")
    if isinstance(content, dict):
        return {name: (answer or {}).get("joints_px") for name, answer in content.items() if isinstance(answer, dict)}
    if not isinstance(content, list):
        raise ScoreError(f"{path} should hold COCO results (a list) or a table of predictions")
    answers: dict[str, Any] = {}
    for i, result in enumerate(content):
        try:
            image = str(result["image_id"]) if "id" not in result else None
            name = str(result["id"]) if image is None else alone.get(image)
            points = np.array(result["keypoints"], np.float64).reshape(21, -1)[:, :2]
        except (KeyError, TypeError, ValueError):
            raise ScoreError(f"{path}: result {i} should have an id or image_id and keypoints of 21 joints") from None
        if name is None:
            raise ScoreError(
                f'{path}: result {i} has only image_id {image}, of a picture with no or several annotations; give "id"'
            )
        if name in answers:
            raise ScoreError(f"{path}: result {i} is another one for annotation {name}; leave one of them")
        answers[name] = points
    return answers
