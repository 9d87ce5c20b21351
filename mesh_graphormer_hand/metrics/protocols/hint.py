"""HInt (Pavlakos et al., CVPR 2024): HaMeR's PCK at 0.05, 0.1 and 0.15 on all, visible and occluded joints.

Truth: a folder of HInt's JSON files (`TEST_newdays_img/NAME.json`: keypoints, occlusion, bbox), whose samples are
called TEST_newdays_img/NAME, or one of HaMeR's .npz lists (imgname, scale, hand_keypoints_2d), whose samples are the
entries of imgname. Predictions: our table with `joints_px`, pixels of the picture (a left hand's not mirrored). A joint
is correct when it lies within (<=) the threshold times the longer side of the hand's box; mean over the samples for
each joint, then over joints.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from ...files import read_arrays
from .. import doubts
from ..predictions import Predictions, table_rows, write_table
from .base import Broken, Curve, Errors, ScoreError, Scores, distance, official_file, read_json, read_table

THRESHOLDS = (0.05, 0.1, 0.15)


@dataclass
class Config:
    """Options of the protocol."""

    folders: str = ""  # only these of the truth's folders, comma-separated, such as TEST_newdays_img; empty: all
    confident: float = 0.5  # joints of an .npz list with a higher confidence count


@dataclass
class Sample:
    """One hand."""

    points: Float[np.ndarray, "21 2"]  # px
    labelled: Bool[np.ndarray, "21"]
    occluded: Bool[np.ndarray, "21"] | None  # None: the list does not say
    side: float  # px, longer side of the hand's box


def score(truth: Path, predictions: Path, config: Config, skip_broken: bool = False) -> Scores:
    """Score our table of predictions.

    Raises:
        ScoreError: a missing or damaged file, or a broken sample.
    """
    samples = read_list(truth, config.confident) if truth.suffix == ".npz" else read_folder(truth, config.folders)
    broken = Broken(skip_broken)
    answers = read_table(predictions, samples, "joints_px", (21, 2), broken)
    scores = compare([samples[name] for name in answers], np.stack(list(answers.values())))
    scores.left_out = broken.listed
    return scores


def write(predictions: Predictions, folder: Path, truth: Path | None, config: Config) -> Path:
    """Write our table; keys of samples are the protocol's own names.

    Raises:
        ScoreError: no 2D joints are predicted.
    """
    if not predictions.joints_px:
        raise ScoreError("no 2D joints are predicted")
    return write_table(table_rows(predictions, predictions.keys), official_file(folder, predictions.who))


def compare(samples: list[Sample], predicted: Float[np.ndarray, "n 21 2"]) -> Scores:
    """PCK of each subset: "all", and "visible" and "occluded" where the labels know."""
    points, side = np.stack([s.points for s in samples]), np.array([s.side for s in samples])
    labelled = np.stack([s.labelled for s in samples])
    relative = distance(points, predicted) / side[:, None]
    subsets = {"all": labelled}
    if all(s.occluded is not None for s in samples):
        occluded = np.stack([s.occluded for s in samples])
        subsets |= {"visible": labelled & ~occluded, "occluded": labelled & occluded}
    scores = Scores("hint", {}, counts={"samples": len(samples)}, notes=doubts.notes(points, predicted, labelled))
    thresholds = np.linspace(0, 0.2, 41)
    for name, mask in subsets.items():
        errors = Errors(np.where(mask, relative, np.nan))
        scores.counts[f"joints_{name}"] = int(mask.sum())
        if mask.any():
            shares = errors.curve(np.array(THRESHOLDS))
            scores.official |= {f"pck@{t:g}_{name}": float(v) for t, v in zip(THRESHOLDS, shares, strict=True)}
            scores.curves[name] = Curve(thresholds, errors.curve(thresholds), "of box")
    scores.per_joint["epe_of_box"] = Errors(np.where(labelled, relative, np.nan)).by_joint
    return scores


def read_folder(folder: Path, folders: str = "") -> dict[str, Sample]:
    """HInt's own JSON files, at any depth; only those in `folders`, comma-separated, where that is not empty.

    Raises:
        ScoreError: no file, or a damaged one.
    """
    samples = {}
    wanted = [name.strip() for name in folders.split(",") if name.strip()]
    for path in sorted(p for p in folder.rglob("*.json") if not wanted or p.parent.name in wanted):
        content = read_json(path, "truth")
        try:
            label = content[0]
            points = np.array(label["keypoints"], np.float64).reshape(21, 2)
            occluded = np.array(label["occlusion"], np.float64).reshape(21) > 0.5
            box = np.array(label["bbox"], np.float64).reshape(-1)[:4]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ScoreError(f"{path}: keypoints (21 x 2), occlusion (21) and bbox expected: {error!r}") from None
        samples[f"{path.parent.name}/{path.stem}"] = Sample(
            points, np.isfinite(points).all(-1), occluded, float((box[2:] - box[:2]).max())
        )
    if not samples:
        raise ScoreError(f"{folder}: no JSON file of HInt in it (truth)")
    return samples


def read_list(path: Path, confident: float) -> dict[str, Sample]:
    """One of HaMeR's evaluation lists.

    Raises:
        ScoreError: a missing or damaged file.
    """
    try:
        archive = read_arrays(path, ("imgname", "scale", "hand_keypoints_2d"))
        names, scale = archive["imgname"], np.asarray(archive["scale"], np.float64)
        points = np.asarray(archive["hand_keypoints_2d"], np.float64)
    except FileNotFoundError:
        raise ScoreError(f"{path}: no such file (truth)") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ScoreError(f"{path}: imgname (text), scale and hand_keypoints_2d expected: {error}") from None
    side = scale.reshape(len(names), -1).max(1)
    return {
        str(name): Sample(points[i, :, :2], points[i, :, 2] > confident, None, float(side[i]))
        for i, name in enumerate(names)
    }
