"""Meshes of two interacting hands, as IntagHand (CVPR 2022) and InterWild (CVPR 2023) score them. mm.

Truth and predictions are .npz files of n frames in the same order, in metres and camera axes; of two hands the first is
the right one. Truth is made from the MANO fits of InterHand2.6M, predictions have the same keys without the
marked ones:

    vertices   n x 2 x 778 x 3      joints     n x 2 x 21 x 3, canonical order, regressed from the vertices
    valid*     n x 2, hands with a fit               interacting*  n, frames of both hands
    joints_valid*  n x 2 x 21       joints_labelled*  n x 2 x 21 x 3, InterHand2.6M's own (optional, for MPJPE)
    box        n x 2 x 4, x0, y0, x1, y1 (optional)
    left_from_right  n x 3, of the wrists; in predictions optional: by default from the joints
    names*     n strings (optional)

rules=intaghand: interacting frames with both fits; each hand minus its middle MCP, the prediction scaled so that wrist
to middle MCP is as long as the truth's; left and right averaged. rules=interwild: each hand minus its wrist, not
scaled; single, interacting and all; MRRPE is the error of the vector between the wrists where both are valid, RRVE that
of both meshes with the left one placed by it, and the boxes' IoU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Shaped

from ...config import ConfigError, nearest
from ...files import ArchiveError, read_arrays, replacing
from ...skeleton import WRIST
from .base import MM_PER_M, Broken, Errors, ScoreError, Scores, distance

Frames = dict[str, Shaped[np.ndarray, "n ..."]]  # by key
RULE_NAMES = ("intaghand", "interwild")
MIDDLE_MCP = 9
FRAME_SHAPES = {
    "vertices": (2, 778, 3),
    "joints": (2, 21, 3),
    "valid": (2,),
    "interacting": (),
    "joints_valid": (2, 21),
}
FRAME_SHAPES |= {"joints_labelled": (2, 21, 3), "box": (2, 4), "left_from_right": (3,), "names": ()}
REQUIRED_KEYS = {
    "truth": ("vertices", "joints", "valid", "interacting", "joints_valid"),
    "predictions": ("vertices", "joints"),
}


@dataclass
class Config:
    """Options of the protocol."""

    rules: str = "intaghand"  # whose: intaghand | interwild

    def __post_init__(self) -> None:
        if self.rules not in RULE_NAMES:
            raise ConfigError(f"rules={self.rules}{nearest(self.rules, RULE_NAMES)}: one of {', '.join(RULE_NAMES)}")


def score(truth: Path, predictions: Path, config: Config, skip_broken: bool = False) -> Scores:
    """Score the predictions in one .npz against the truth in another.

    Raises:
        ScoreError: a missing, damaged or mismatched file, or a broken sample.
    """
    target, predicted = _load(truth, "truth"), _load(predictions, "predictions")
    sizes = len(target["vertices"]), len(predicted["vertices"])
    if sizes[0] != sizes[1]:
        raise ScoreError(f"{truth} has {sizes[0]} frames, {predictions} {sizes[1]}: they should be equal")
    names = [str(n) for n in target.get("names", np.arange(sizes[0]))]
    broken, whole = Broken(skip_broken), np.ones(sizes[0], bool)
    for i in range(sizes[0]):
        for key, array in predicted.items():
            if (
                array.dtype.kind == "f"
                and not np.isfinite(array[i][target["valid"][i].astype(bool)] if array.ndim > 2 else array[i]).all()
            ):
                whole[i] = False
                broken.add(names[i], f"{predictions}: {key} of frame {names[i]} is not finite")
    target, predicted = ({k: v[whole] for k, v in part.items()} for part in (target, predicted))
    scores = (intaghand if config.rules == "intaghand" else interwild)(target, predicted)
    scores.left_out = broken.listed
    return scores


def write(path: Path, frames: dict[str, Shaped[np.ndarray, "n ..."]]) -> None:
    """Write the .npz of a truth or of predictions, whole or not at all; see the module's docstring for its keys."""
    with replacing(path) as temporary:
        np.savez(temporary, **frames)


def intaghand(target: Frames, predicted: Frames) -> Scores:
    """IntagHand's scores: `joint_*` and `vert_*`, mm.

    Raises:
        ScoreError: no frame with both hands.
    """
    chosen = target["interacting"].astype(bool) & target["valid"].astype(bool).all(1)
    if not chosen.any():
        raise ScoreError("no frame of the truth shows two interacting hands with fits")
    official, joints = {}, {}
    for name, key in (("joint", "joints"), ("vert", "vertices")):
        sides = {}
        for side, hand in (("left", 1), ("right", 0)):
            truth, guess = target["joints"][chosen, hand], predicted["joints"][chosen, hand]
            length = [np.linalg.norm(j[:, MIDDLE_MCP] - j[:, WRIST], axis=-1) for j in (truth, guess)]
            scale = (length[0] / length[1])[:, None, None]
            moved = (predicted[key][chosen, hand] - guess[:, MIDDLE_MCP : MIDDLE_MCP + 1]) * scale
            wanted = target[key][chosen, hand] - truth[:, MIDDLE_MCP : MIDDLE_MCP + 1]
            error = MM_PER_M * distance(moved, wanted)
            sides[side] = float(error.mean())
            if key == "joints":
                joints[f"{side}_mm"] = error.mean(0)
        official |= {f"{name}_{side}": value for side, value in sides.items()}
        official[f"{name}_all"] = (sides["left"] + sides["right"]) / 2
    return Scores(
        "two_hands/intaghand",
        official,
        dict.fromkeys(official, "mm"),
        counts={"frames": int(chosen.sum())},
        per_joint=joints,
    )


def interwild(target: Frames, predicted: Frames) -> Scores:
    """InterWild's scores, mm and percent."""
    fits, both_kinds = target["valid"].astype(bool), target["interacting"].astype(bool)
    known = target["joints_valid"].astype(bool)
    mesh = _rooted_error(target["vertices"], target["joints"], predicted["vertices"], predicted["joints"]).mean(-1)
    labelled = target.get("joints_labelled", target["joints"])
    joints = _rooted_error(labelled, labelled, predicted["joints"], predicted["joints"])  # n 2 21
    banks = {"single": ~both_kinds, "interacting": both_kinds}
    per_joint = {n: Errors(np.where(known[f], joints[f], np.nan).reshape(-1, 42)).by_joint for n, f in banks.items()}
    meshes = {n: mesh[f][fits[f]] for n, f in banks.items()}
    relative = _left_from_right(target), _left_from_right(predicted)
    official = {"mrrpe": _mean(MM_PER_M * distance(*relative)[known[:, :, 0].all(1)])}
    official |= {f"mpvpe_{n}": _mean(v) for n, v in {"all": np.concatenate(list(meshes.values())), **meshes}.items()}
    both_banks = np.concatenate(list(per_joint.values()))  # of 42 joints each, as the official program averages
    official |= {f"mpjpe_{n}": _nanmean(v) for n, v in {"all": both_banks, **per_joint}.items()}
    pairs = both_kinds & fits.all(1)
    official["rrve"] = _mean(_placed_error(target, predicted, relative, pairs))
    if "box" in target and "box" in predicted:
        official["bbox_iou"] = 100 * _mean(_iou(target["box"], predicted["box"])[known.any(2)])
    official = {name: value for name, value in official.items() if not np.isnan(value)}
    units = {name: "%" if name == "bbox_iou" else "mm" for name in official}
    counts = {"frames": len(fits), "interacting": int(both_kinds.sum()), "both_fits": int(pairs.sum())}
    return Scores("two_hands/interwild", official, units, counts=counts)


def _rooted_error(
    target: Float[np.ndarray, "n 2 p 3"],
    target_joints: Float[np.ndarray, "n 2 21 3"],
    predicted: Float[np.ndarray, "n 2 p 3"],
    predicted_joints: Float[np.ndarray, "n 2 21 3"],
) -> np.ndarray:
    """Distances in mm, each hand minus its own wrist."""
    return MM_PER_M * distance(target - target_joints[:, :, :1], predicted - predicted_joints[:, :, :1])


def _placed_error(target: Frames, predicted: Frames, relative: tuple, pairs: Bool[np.ndarray, "n"]) -> np.ndarray:
    """Mean over all 1,556 vertices, each hand minus its wrist, the left one moved by the vector between them; mm."""
    placed = []
    for part, vector in zip((target, predicted), relative, strict=True):
        mesh = part["vertices"][pairs] - part["joints"][pairs][:, :, :1]
        mesh[:, 1] += vector[pairs][:, None]
        placed.append(mesh)
    return MM_PER_M * distance(*placed).mean((1, 2))


def _left_from_right(part: Frames) -> Float[np.ndarray, "n 3"]:
    if "left_from_right" in part:
        return part["left_from_right"]
    return part["joints"][:, 1, WRIST] - part["joints"][:, 0, WRIST]


def _iou(a: Float[np.ndarray, "n 2 4"], b: Float[np.ndarray, "n 2 4"]) -> Float[np.ndarray, "n 2"]:
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clip(0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).clip(0).prod(-1) for box in (a, b)]
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-12)


def _nanmean(values: Float[np.ndarray, "*s"]) -> float:
    return float("nan") if np.isnan(values).all() else float(np.nanmean(values))


def _mean(values: Float[np.ndarray, "*s"]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _load(path: Path, what: str) -> dict[str, np.ndarray]:
    try:
        content = read_arrays(path)
    except FileNotFoundError:
        raise ScoreError(f"{path}: no such file ({what})") from None
    except ArchiveError as error:
        raise ScoreError(f"{path} is not a readable .npz of numbers ({what}): {error}") from None
    for key in REQUIRED_KEYS[what]:
        if key not in content:
            raise ScoreError(f"{path}: key `{key}` is missing ({what})")
    for key, array in content.items():
        if key not in FRAME_SHAPES:
            raise ScoreError(f"{path}: unknown key {key!r}{nearest(key, list(FRAME_SHAPES))}")
        if array.shape[1:] != FRAME_SHAPES[key] or len(array) != len(content["vertices"]):
            raise ScoreError(f"{path}: `{key}` has shape {array.shape}, n x {FRAME_SHAPES[key]} expected")
    return {k: v.astype(np.float64) if v.dtype.kind in "iuf" else v for k, v in content.items()}
