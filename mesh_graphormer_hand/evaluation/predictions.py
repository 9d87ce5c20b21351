"""Predictions as files: in the photo's own frame (unmirrored, the camera's axes, metres, pixels), in the official
layout where a data set has one, else as our table (metrics/protocols/base.py). Scores come from these files.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..contracts import HandBatch, HandPrediction
from ..data.axes import photo_cameras
from ..files import replacing
from ..geometry.crops import apply_affine, homogeneous
from ..geometry.placement import place_wrist
from ..geometry.viewing import turn_points
from ..json_stream import JsonError, json_items
from ..metrics import fingertips
from ..metrics.protocols import keypoints_2d
from ..metrics.protocols.base import ScoreError, Scores
from ..skeleton import PERMUTATIONS
from . import layouts as layouts
from .layouts import Answers

OFFICIAL = ("freihand", "ho3d")  # data sets whose submission is [xyz, vertices] in the order of the test files
DETECTED_ON = 4  # samples that show which vertices are the fingertips
OPENGL = np.array([1.0, -1.0, -1.0])  # camera axes of HO-3D


class Collector:
    """Watches an evaluation (`engine.evaluate.evaluate(watch=...)`)."""

    def __init__(self, who: tuple[str, ...], vertices: bool) -> None:
        """`who`: the predictors to keep; `vertices`: whether meshes are wanted, too (they are large)."""
        self.answers = {name: Answers() for name in who}
        self.vertices, self.placed = vertices, True
        self.left_out: list[str] = []  # broken samples
        self.no_hand: list[str] = []  # samples that show none, by their labels
        self.notes: list[str] = []
        self.labelled_px: list[np.ndarray] = []  # b 21 2, NaN where a joint is not labelled in the picture

    def __call__(self, predictions: dict[str, HandPrediction], batch: HandBatch) -> None:
        """Keep a batch."""
        self.left_out += batch.left_out
        self.no_hand += batch.no_hand
        if len(batch):
            self.labelled_px.append(labelled_px(batch).cpu().numpy())
        for name in self.answers.keys() & predictions.keys():
            found, placed = in_photo(predictions[name], batch)
            self.placed &= placed
            answers = self.answers[name]
            answers.keys += batch.keys
            for part, value in found.items():
                if part != "vertices" or self.vertices:
                    getattr(answers, part).append(value.cpu().numpy())


def labelled_px(batch: HandBatch) -> Float[Tensor, "b 21 2"]:
    """The 2D labels in pixels of the photo, NaN where there is none."""
    points, known = batch.targets.joints_2d, batch.targets.joints_2d_valid
    if points is None or known is None:
        return torch.full((len(batch), 21, 2), torch.nan)
    points = points if batch.image_from_crop is None else apply_affine(points, batch.image_from_crop)
    return torch.where(known[..., None], points, torch.nan)


def score_2d(collector: Collector, answers: Answers) -> Scores | None:
    """mmpose's and PCKb's 2D scores, in pixels of the photos; the annotated box is the labelled keypoints' own."""
    predicted = answers.joined("joints_px")
    if predicted is None:
        return None
    points = np.concatenate(collector.labelled_px).astype(np.float64)
    known = ~np.isnan(points).any(-1)
    rows = known.sum(1) > 1
    if not rows.any():
        return None
    high = np.where(known[..., None], points, -np.inf).max(1)[rows]
    low = np.where(known[..., None], points, np.inf).min(1)[rows]
    names = [key for key, row in zip(answers.keys, rows, strict=True) if row]
    labels = keypoints_2d.Labels(names, points[rows], (high - low).max(-1), np.full(len(names), np.nan))
    scores = keypoints_2d.compare(labels, predicted[rows].astype(np.float64))
    scores.curves = {}  # in px of photos of any size: the report shows the relative error instead
    return scores


def in_photo(prediction: HandPrediction, batch: HandBatch) -> tuple[dict[str, Tensor], bool]:
    """joints, vertices (m, the camera's axes) and joints_px of a batch in the photo's frame, and whether every hand
    could be placed before its camera; one that could not (no intrinsics, no camera) has its wrist at the origin."""
    k, axes, known = photo_cameras(batch)
    found = {}
    for name in ("joints", "vertices"):
        if (points := getattr(prediction, name)) is not None:
            found[name] = turn_points(points, axes)
    wrists, placed = _wrists(prediction, found.get("joints"), batch, k, known)
    found = {name: points + wrists for name, points in found.items()}
    if prediction.joints_2d is not None:
        pixels = prediction.joints_2d
        found["joints_px"] = pixels if batch.image_from_crop is None else apply_affine(pixels, batch.image_from_crop)
    return found, placed


def _wrists(
    prediction: HandPrediction,
    joints: Float[Tensor, "b 21 3"] | None,
    batch: HandBatch,
    k: Float[Tensor, "b 3 3"],
    known: Bool[Tensor, "b"],
) -> tuple[Float[Tensor, "b 1 3"], bool]:
    """Where (m, the photos' cameras) the wrists stand, by the predictor's own rule, and whether all do."""
    size, device = batch.inputs.image.shape[-1], batch.inputs.image.device
    own = torch.eye(2, 3).expand(len(batch), 2, 3)
    places = own if batch.image_from_crop is None else batch.image_from_crop.cpu()
    answers, k, wrists, placed = prediction.map(Tensor.cpu), k.cpu().numpy(), torch.zeros(len(batch), 1, 3), True
    for i, has_camera in enumerate(known.tolist()):
        own_joints = None if joints is None else joints[i].cpu().numpy()
        wrist = place_wrist(answers[i], own_joints, homogeneous(places[i]), k[i], size) if has_camera else None
        placed &= wrist is not None
        if wrist is not None:
            wrists[i, 0] = torch.from_numpy(wrist)
    return wrists.to(device), placed


def export(folder: Path, data: str, answers: Answers, total: int, truth: Path | None, suffix: str = "") -> Path:
    """Write what was predicted, in the official layout of the data set `data` or as our table; returns the file.

    A `pred.zip` as the evaluation servers take it comes beside an official file that is complete.

    Args:
        total: samples of the whole test set.
        truth: the folder of its labels, where they are known: its fingertip convention is followed.
        suffix: of the file's name, for a second predictor.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = official_order(data, answers.keys, truth) if data in OFFICIAL and answers.joints else None
    if not places:
        path = folder / f"predictions{suffix}.json"
        _write(path, _table(answers))
        return path
    path = folder / f"pred{suffix}.json"
    joints, vertices = answers.joined("joints"), answers.joined("vertices")
    if joints is not None and vertices is not None and (tips := _truth_tips(data, truth)):
        joints = fingertips.convert(joints, vertices, tips)
    if data == "ho3d":
        joints = None if joints is None else joints[:, np.argsort(PERMUTATIONS["mano"])] * OPENGL
        vertices = None if vertices is None else vertices * OPENGL
    rows = {place: i for i, place in enumerate(places)}
    total = max(total, max(places) + 1)
    _write(path, _submission(joints, vertices, [rows.get(n) for n in range(total)]))
    if len(rows) == total:
        archive = path.with_suffix(".zip")
        with replacing(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.write(path, "pred.json")
    return path


def official_order(data: str, keys: list[str], truth: Path | None = None) -> list[int] | None:
    """Each sample's place in the official test list (HO-3D's is `truth`/evaluation.txt); None where these samples are
    not of it."""
    if data == "freihand":
        stems = [key.removeprefix("evaluation/") for key in keys]
        return [int(stem) for stem in stems] if all(s.isdigit() for s in stems) else None
    listed = truth / "evaluation.txt" if truth is not None else None
    if listed is None or not listed.is_file():
        return None
    order = {name: place for place, name in enumerate(listed.read_text(encoding="utf-8").split())}
    stems = [key.removeprefix("evaluation/") for key in keys]
    return [order[stem] for stem in stems] if all(stem in order for stem in stems) else None


def score(
    data: str, path: Path, answers: Answers, truth: Path | None, raw: dict[str, Any], partial: bool
) -> Scores | None:
    """The official scores of what was exported to `path`; None where there is no protocol for it.

    `raw`: the data set's options. `partial`: not all of the test set was predicted; what is missing is not counted.

    Raises:
        ScoreError: there is one, and why it gives no scores.
    """
    from .score import score_files

    if truth is None or not answers.joints and not answers.joints_px:
        return None
    if data in OFFICIAL:
        if path.name.startswith("predictions"):
            raise ScoreError("a pred.json holds 3D joints of samples of the official test list; there are none here")
        return score_files(data, truth, path, {}, skip_broken=partial)
    found = layouts.layout(data, answers, truth, raw)
    if found is None:
        return None
    own = path.with_name(f"official_{path.stem.removeprefix('predictions').strip('_') or 'model'}{found.ending}")
    _write(own, found.parts)
    return score_files(found.protocol, found.truth, own, found.options, skip_broken=partial)


def _truth_tips(data: str, truth: Path | None) -> str:
    """The fingertips of the labels: found on their first samples, else FreiHAND's official ones; "" where HO-3D's are
    not known."""
    unknown = "freihand" if data == "freihand" else ""
    try:
        joints, vertices = (_first_labels(truth / f"evaluation_{name}.json") for name in ("xyz", "verts"))
        order = list(PERMUTATIONS["mano"]) if data == "ho3d" else slice(None)
        return fingertips.detect(joints[:, order], vertices) or unknown
    except (JsonError, TypeError, ValueError, IndexError):
        return unknown


def _first_labels(path: Path) -> np.ndarray:
    return np.array([value for _, value in islice(json_items(path, 1), DETECTED_ON)])


def _submission(joints: np.ndarray | None, vertices: np.ndarray | None, rows: list[int | None]) -> Iterator[str]:
    """[xyz, vertices], null for a sample that was not predicted."""
    for start, values, end in (("[[", joints, "],\n["), ("", vertices, "]]\n")):
        yield start
        for n, row in enumerate(rows):
            known = row is not None and values is not None
            yield (",\n" if n else "") + (layouts.numbers(values[row]) if known else "null" if row is None else "[]")
        yield end


def _table(answers: Answers) -> Iterator[str]:
    """Our table, a sample a line."""
    columns = {"joints_m": answers.joined("joints"), "joints_px": answers.joined("joints_px")}
    columns |= {"vertices_m": answers.joined("vertices")}
    yield "{\n"
    for i, key in enumerate(answers.keys):
        row = ", ".join(
            f'"{name}": {layouts.numbers(values[i])}' for name, values in columns.items() if values is not None
        )
        yield (",\n" if i else "") + f"{json.dumps(key)}: {{{row}}}"
    yield "\n}\n"


def _write(path: Path, parts: Iterator[str]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(parts)
