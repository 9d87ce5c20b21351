"""FreiHAND (Zimmermann et al., ICCV 2019): what its eval.py writes into scores.txt. Distances in cm.

Truth: a folder with `evaluation_xyz.json` (21 x 3 a sample) and `evaluation_verts.json` (778 x 3), metres, camera axes,
as the released evaluation labels are unpacked. Predictions: `pred.json`, [list of 21 x 3, list of vertices], metres, in
the order of the truth; if the meshes have another number of vertices, mesh numbers are -1 as in the official program.

Its alignment allows reflections, fits vertices on themselves, and takes strict `<` in F-scores and `<=` in PCK. Beyond
it, named `*_proper_*`: the same with proper rotations only, as HMR, HaMeR and Mesh Graphormer report them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from ...files import replacing
from ...json_stream import JsonError, json_items
from ...skeleton import NUM_JOINTS
from .. import doubts, fingertips
from ..measures import f_scores
from ..predictions import Predictions, json_array, write_pieces
from .base import CM_PER_M, Broken, Curve, Errors, ScoreError, Scores, distance, numbers, official_procrustes, read_json

MAX_ERROR_M, NUM_THRESHOLDS = 0.05, 100
NO_MESH = -1.0  # what the official program says of meshes that it cannot compare
IS_SUBMISSION = True
TIP_SAMPLES = 4  # samples that show which vertices are the fingertips
TRUTH_HINT = "the released evaluation labels of FreiHAND go into the folder of --truth"


@dataclass
class Config:
    """Options of the protocol."""

    split: str = "evaluation"  # prefix of the truth's files
    tips: str = ""  # take the predicted fingertips from the predicted vertices by this convention (skeleton.FINGERTIPS)

    def __post_init__(self) -> None:
        fingertips.check(self.tips)


@dataclass
class Meshes:
    """Joints and vertices of n samples, m."""

    xyz: Float[np.ndarray, "n 21 3"]
    verts: Float[np.ndarray, "n v 3"] | None  # None: the meshes of prediction and truth have different vertices


def score(truth: Path, predictions: Path, config: Config, skip_broken: bool = False) -> Scores:
    """Score `pred.json` against the labels in the folder `truth`.

    Raises:
        ScoreError: a missing, damaged or mismatched file, or a broken sample.
    """
    broken = Broken(skip_broken)
    target, predicted = read(truth, predictions, config.split, broken)
    scores = compare(target, predicted, config.tips)
    scores.left_out = broken.listed
    return scores


def write(predictions: Predictions, folder: Path, truth: Path | None, config: Config) -> Path:
    """Write `pred.json`; keys of samples are evaluation/NUMBER. Fingertips follow the convention of the truth.

    Raises:
        ScoreError: no 3D joints, or samples that are not of the official test list.
    """
    stems = [key.removeprefix(f"{config.split}/") for key in predictions.keys]
    positions = [int(stem) for stem in stems] if all(stem.isdigit() for stem in stems) else None
    joints, vertices = submission_joints(predictions, positions), predictions.joined("vertices")
    if vertices is not None:
        tips = labelled_tips(truth, config.split, range(NUM_JOINTS)) or "freihand"
        joints = fingertips.convert(joints, vertices, tips)
    return write_submission(predictions, folder, positions, joints, vertices)


def submission_joints(predictions: Predictions, positions: list[int] | None) -> Float[np.ndarray, "n 21 3"]:
    """The joints (m) for a `pred.json`; `positions` of the samples in the official test list, None: not in it.

    Raises:
        ScoreError: no 3D joints, or no positions.
    """
    joints = predictions.joined("joints")
    if joints is None or not positions:
        raise ScoreError("a pred.json holds 3D joints of samples of the official test list; there are none here")
    return joints


def labelled_tips(truth: Path | None, split: str, order: Sequence[int]) -> str:
    """The fingertip convention of the first labels in the folder `truth`; "" where it cannot be found.

    Args:
        order: canonical from the files' joint order.
    """
    if truth is None:
        return ""
    try:
        joints, vertices = (_first_labels(truth / f"{split}_{kind}.json") for kind in ("xyz", "verts"))
        return fingertips.detect(joints[:, list(order)], vertices) or ""
    except (JsonError, TypeError, ValueError, IndexError):
        return ""


def write_submission(
    predictions: Predictions,
    folder: Path,
    positions: list[int],
    joints: Float[np.ndarray, "n 21 3"],
    vertices: Float[np.ndarray, "n v 3"] | None,
) -> Path:
    """Write `pred.json`, null for a sample without a prediction; where all samples have one, also `pred.zip` as the
    evaluation servers take it. `positions`: of the n samples in the official test list.
    """
    path = folder / f"pred{predictions.suffix}.json"
    rows = {position: i for i, position in enumerate(positions)}
    total = max(predictions.total, max(positions) + 1)
    write_pieces(_submission(joints, vertices, [rows.get(n) for n in range(total)]), path)
    if len(rows) == total:
        archive = path.with_suffix(".zip")
        with replacing(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.write(path, "pred.json")
    return path


def compare(target: Meshes, predicted: Meshes, tips: str = "") -> Scores:
    """The official scores of predictions for the truth, both in metres."""
    notes = fingertip_notes(target, predicted, tips) + doubts.notes(target.xyz, predicted.xyz)
    xyz_predicted = predicted.xyz
    if tips and predicted.verts is not None:
        xyz_predicted = fingertips.convert(predicted.xyz, predicted.verts, tips)
    kinds = {
        "xyz": (target.xyz, xyz_predicted),
        "mesh": (target.verts, predicted.verts) if predicted.verts is not None else None,
    }
    official, extra, errors = {}, {}, {}
    for kind, pair in kinds.items():
        for name, reflections in (("", None), ("_al", True), ("_al_proper", False)):
            label = f"{kind}{name}"
            values = extra if reflections is False else official
            if pair is None:
                values |= {f"{label}_mean3d": NO_MESH, f"{label}_auc3d": NO_MESH}
                continue
            moved = pair[1] if reflections is None else official_procrustes(pair[1], pair[0], reflections)
            errors[label] = Errors(distance(pair[0], moved))
            values[f"{label}_mean3d"] = CM_PER_M * errors[label].mean()
            values[f"{label}_auc3d"] = errors[label].auc(0.0, MAX_ERROR_M, NUM_THRESHOLDS)
    official |= _f_scores(target, predicted)
    return Scores(
        protocol="freihand",
        official=official,
        units={name: "cm" for name in [*official, *extra] if name.endswith("mean3d")},
        extra=extra,
        counts={"samples": len(target.xyz)},
        per_joint={f"{label}_cm": CM_PER_M * errors[label].by_joint for label in ("xyz", "xyz_al")},
        curves={label: curve(e) for label, e in errors.items()},
        notes=notes,
    )


def read(truth: Path, predictions: Path, split: str, broken: Broken) -> tuple[Meshes, Meshes]:
    """Truth and predictions, without the samples that are broken.

    Raises:
        ScoreError: see `score`.
    """
    files = {kind: truth / f"{split}_{kind}.json" for kind in ("xyz", "verts")}
    labels = {kind: read_json(path, "truth", TRUTH_HINT) for kind, path in files.items()}
    answers = read_submission(predictions)
    sizes = {str(files[k]): len(v) for k, v in labels.items()} | {
        f"{predictions} [{i}]": len(answers[i]) for i in range(2)
    }
    if len(set(sizes.values())) > 1:
        raise ScoreError("; ".join(f"{name} has {n} samples" for name, n in sizes.items()) + ": they should be equal")
    same_mesh = bool(sizes) and _rows(answers[1]) == _rows(labels["verts"])
    parts: list[list[np.ndarray]] = [[], [], [], []]
    for i in range(len(labels["xyz"])):
        try:
            row = [
                numbers(labels["xyz"][i], (21, 3), f"{files['xyz']}: sample {i}"),
                numbers(labels["verts"][i], (None, 3), f"{files['verts']}: sample {i}"),
                numbers(answers[0][i], (21, 3), f"{predictions}: xyz of sample {i}"),
            ]
            if same_mesh:
                row.append(numbers(answers[1][i], row[1].shape, f"{predictions}: vertices of sample {i}"))
        except ValueError as error:
            broken.add(i, str(error))
            continue
        for part, value in zip(parts, row, strict=False):
            part.append(value)
    if not parts[0]:
        raise ScoreError(f"{predictions}: no sample is left to score")
    xyz, verts, xyz_predicted = (np.stack(part) for part in parts[:3])
    return Meshes(xyz, verts), Meshes(xyz_predicted, np.stack(parts[3]) if same_mesh else None)


def read_submission(path: Path) -> tuple[list, list]:
    """The two lists of a `pred.json` of FreiHAND or HO-3D.

    Raises:
        ScoreError: the file is missing, damaged or laid out otherwise.
    """
    content = read_json(path, "predictions")
    if not (isinstance(content, list) and len(content) == 2 and all(isinstance(part, list) for part in content)):
        raise ScoreError(f"{path} should hold two lists, [xyz of every sample, vertices of every sample]")
    return content[0], content[1]


def curve(errors: Errors) -> Curve:
    """The official PCK curve, in mm."""
    thresholds = np.linspace(0.0, MAX_ERROR_M, NUM_THRESHOLDS)
    return Curve(1000 * thresholds, errors.curve(thresholds), "mm")


def _f_scores(target: Meshes, predicted: Meshes) -> dict[str, float]:
    """F-scores as they stand and aligned; without a common mesh they are left at -1 (the official program's aligned
    ones add the prediction's centroid twice and say nothing)."""
    names = {"f@5": "5", "f@15": "15"}
    out = {f"f{al}_score_{mm}": NO_MESH for mm in names.values() for al in ("", "_al")}
    if predicted.verts is None:
        return out
    for al, points in (("", predicted.verts), ("_al", official_procrustes(predicted.verts, target.verts))):
        values = f_scores(torch.from_numpy(np.ascontiguousarray(points)), torch.from_numpy(target.verts))
        out |= {f"f{al}_score_{mm}": float(values[name].mean()) for name, mm in names.items()}
    return out


def fingertip_notes(target: Meshes, predicted: Meshes, tips: str = "") -> list[str]:
    """A warning where truth and predictions (canonical order) take their fingertips from different vertices."""
    if predicted.verts is None or target.verts is None or target.verts.shape[1] != 778 or tips:
        return []
    mine = fingertips.detect(predicted.xyz, predicted.verts)
    note = fingertips.warning(mine, fingertips.detect(target.xyz, target.verts), predicted.verts)
    return [note] if note else []


def _first_labels(path: Path) -> Float[np.ndarray, "n p 3"]:
    return np.array([value for _, value in islice(json_items(path, 1), TIP_SAMPLES)])


def _submission(
    joints: Float[np.ndarray, "n 21 3"], vertices: Float[np.ndarray, "n v 3"] | None, rows: list[int | None]
) -> Iterator[str]:
    """[xyz, vertices] in pieces; `rows`: of each sample of the test list, None for one without a prediction."""
    for start, values, end in (("[[", joints, "],\n["), ("", vertices, "]]\n")):
        yield start
        for n, row in enumerate(rows):
            known = row is not None and values is not None
            yield (",\n" if n else "") + (json_array(values[row]) if known else "null" if row is None else "[]")
        yield end


def _rows(samples: list) -> int:
    return next((len(s) for s in samples if isinstance(s, list) and s), 0)
