"""HO-3D v2 and v3 (Hampali et al., CVPR 2020): what its eval.py writes into scores.txt. Distances in cm.

Files as FreiHAND's (`evaluation_xyz.json`, `evaluation_verts.json`, `pred.json`), but in OpenGL camera axes (y up, the
hand at negative z) and in the order of HO-3D's joints: 16 of MANO, then the tips. Also scored is the
scale-translation alignment: the prediction scaled so that wrist to middle MCP (joint 4 there) is as long as the
truth's, its wrist put onto the truth's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from ...skeleton import PERMUTATIONS
from .. import doubts, fingertips
from ..predictions import Predictions
from . import freihand
from .base import CM_PER_M, Broken, Errors, ScoreError, Scores, distance

IS_SUBMISSION = True
OPENGL_SIGNS = np.array([1.0, -1.0, -1.0])  # HO-3D's camera axes from ours
HO3D_WRIST, HO3D_MIDDLE_MCP = 0, 4  # in HO-3D's own order


Config = freihand.Config


def score(truth: Path, predictions: Path, config: Config, skip_broken: bool = False) -> Scores:
    """Score `pred.json` against the labels in the folder `truth`.

    Raises:
        ScoreError: a missing, damaged or mismatched file, a broken sample, or predictions with the hand at positive z.
    """
    broken = Broken(skip_broken)
    target, predicted = freihand.read(truth, predictions, config.split, broken)
    if (predicted.xyz[..., 2] > 0).all() and (target.xyz[..., 2] < 0).any():
        raise ScoreError(
            f"{predictions}: every joint has positive z, HO-3D's hands lie at negative z (OpenGL axes): "
            "multiply x, y, z by 1, -1, -1"
        )
    scores = compare(target, predicted, config.tips)
    scores.left_out = broken.listed
    return scores


def write(predictions: Predictions, folder: Path, truth: Path | None, config: Config) -> Path:
    """Write `pred.json`; keys of samples are evaluation/SEQUENCE/FRAME, whose order `truth`/evaluation.txt lists.
    Fingertips follow the convention of the truth, where it is known.

    Raises:
        ScoreError: no 3D joints, no list, or samples that are not in it.
    """
    positions = official_positions(predictions.keys, truth, config.split)
    joints, vertices = freihand.submission_joints(predictions, positions), predictions.joined("vertices")
    order = list(PERMUTATIONS["mano"])
    if vertices is not None:
        if tips := freihand.labelled_tips(truth, config.split, order):
            joints = fingertips.convert(joints, vertices, tips)
        vertices = vertices * OPENGL_SIGNS
    joints = joints[:, np.argsort(order)] * OPENGL_SIGNS
    return freihand.write_submission(predictions, folder, positions, joints, vertices)


def official_positions(keys: list[str], truth: Path | None, split: str = "evaluation") -> list[int] | None:
    """The samples' positions in the official test list `truth`/SPLIT.txt; None where one is not in it."""
    listed = None if truth is None else truth / f"{split}.txt"
    if listed is None or not listed.is_file():
        return None
    order = {name: position for position, name in enumerate(listed.read_text(encoding="utf-8").split())}
    stems = [key.removeprefix(f"{split}/") for key in keys]
    return [order[stem] for stem in stems] if all(stem in order for stem in stems) else None


def compare(target: freihand.Meshes, predicted: freihand.Meshes, tips: str = "") -> Scores:
    """The official scores; joints in HO-3D's order."""
    order = list(PERMUTATIONS["mano"])
    canonical = [freihand.Meshes(m.xyz[:, order], m.verts) for m in (target, predicted)]
    notes = freihand.fingertip_notes(*canonical, tips) + doubts.notes(*(m.xyz for m in canonical))
    if tips and predicted.verts is not None:
        converted = fingertips.convert(canonical[1].xyz, predicted.verts, tips)
        predicted = freihand.Meshes(converted[:, np.argsort(order)], predicted.verts)
    base = freihand.compare(*(freihand.Meshes(m.xyz, m.verts) for m in (target, predicted)))
    errors = Errors(distance(target.xyz, scale_translation(target.xyz, predicted.xyz)))
    renamed = {name.replace("xyz_al_", "xyz_procrustes_al_"): value for name, value in base.official.items()}
    moved = {
        "xyz_scale_trans_al_mean3d": CM_PER_M * errors.mean(),
        "xyz_scale_trans_al_auc3d": errors.auc(0.0, freihand.MAX_ERROR_M, freihand.NUM_THRESHOLDS),
    }
    official = {}
    for name, value in renamed.items():
        official[name] = value
        if name == "xyz_procrustes_al_auc3d":
            official |= moved
    base.protocol, base.official = "ho3d", official
    base.extra = {name.replace("xyz_al_", "xyz_procrustes_al_"): value for name, value in base.extra.items()}
    base.units = {name: "cm" for name in [*official, *base.extra] if name.endswith("mean3d")}
    base.per_joint = {name: values[order] for name, values in base.per_joint.items()}  # canonical, as all tables here
    base.curves["xyz_scale_trans_al"] = freihand.curve(errors)
    base.notes = notes
    return base


def scale_translation(
    target: Float[np.ndarray, "n 21 3"], predicted: Float[np.ndarray, "n 21 3"]
) -> Float[np.ndarray, "n 21 3"]:
    """The prediction scaled by the ratio of the two lengths of wrist to middle MCP, wrist on wrist. A prediction of
    length 0 is scaled by the truth's length alone, as in the official program."""
    own, wanted = (np.linalg.norm(x[:, HO3D_MIDDLE_MCP] - x[:, HO3D_WRIST], axis=-1) for x in (predicted, target))
    scaled = predicted * (wanted / np.where(own > 0, own, 1.0))[:, None, None]
    return scaled - scaled[:, :1] + target[:, :1]
