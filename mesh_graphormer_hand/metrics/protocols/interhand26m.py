"""InterHand2.6M (Moon et al., ECCV 2020): what its dataset.py prints after a test. Millimetres.

Truth: the folder that holds `InterHand2.6M_SPLIT_{data,camera,joint_3d}.json`, or one above it (`annotations/SPLIT/`).
Predictions: our table; a sample is an annotation's id, with

    joints_mm           42 x [x, y, z], camera axes; right hand 0-20, then left, each from tip to base, wrist last
    hand_type           [probability of a right hand, of a left hand]
    left_from_right_mm  [x, y, z] of the left wrist minus the right one; by default from joints_mm

Each hand is compared minus its own wrist, which is included with its error of 0. MPJPE is the mean over the 42 joints
of per-joint means, MRRPE (interacting hands, both wrists known) the error of the vector between the wrists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from .base import Broken, Errors, ScoreError, Scores, distance, first, numbers, read_json

RIGHT, LEFT, WRISTS = slice(0, 21), slice(21, 42), (20, 41)
BANKS = {"right": "single", "left": "single", "interacting": "interacting"}


@dataclass
class Config:
    """Options of the protocol."""

    split: str = "test"


@dataclass
class Sample:
    """One annotation."""

    name: str
    joints: Float[np.ndarray, "42 3"]  # mm, camera axes
    valid: Bool[np.ndarray, "42"]  # with those of a hand without its wrist taken out
    hand_type: str
    hand_type_valid: bool


@dataclass
class Answer:
    """What was predicted for it."""

    joints: Float[np.ndarray, "42 3"]  # mm, camera axes
    right_left: Float[np.ndarray, "2"] | None  # probabilities
    left_from_right: Float[np.ndarray, "3"]  # mm


def score(truth: Path, predictions: Path, config: Config, skip_broken: bool = False) -> Scores:
    """Score a table of predictions against the official annotations.

    Raises:
        ScoreError: a missing or damaged file, or a broken sample.
    """
    broken = Broken(skip_broken)
    table = read_json(predictions, "predictions")
    if not isinstance(table, dict):
        raise ScoreError(f"{predictions} should hold one answer for each annotation's id, not a {type(table).__name__}")
    samples, answers = [], []
    for sample in read_truth(truth, config.split, broken):
        try:
            answer = _answer(table.get(sample.name), f"{predictions}: annotation {sample.name}")
        except ValueError as error:
            broken.add(sample.name, str(error))
            continue
        samples.append(sample)
        answers.append(answer)
    if not samples:
        raise ScoreError(f"{predictions}: none of its ids ({first(table)}) is an annotation of {truth}")
    scores = compare(samples, answers)
    scores.left_out = broken.listed
    return scores


def compare(samples: list[Sample], answers: list[Answer]) -> Scores:
    """The official scores."""
    target, predicted = np.stack([s.joints for s in samples]), np.stack([a.joints for a in answers])
    valid = np.stack([s.valid for s in samples])
    errors = np.where(valid, distance(_rooted(target), _rooted(predicted)), np.nan)
    bank = np.array([BANKS[s.hand_type] for s in samples])
    both = (bank == "interacting") & valid[:, list(WRISTS)].all(1)
    vector = target[:, WRISTS[1]] - target[:, WRISTS[0]]
    relative = distance(vector, np.stack([a.left_from_right for a in answers]))[both]
    told = [(s, a) for s, a in zip(samples, answers, strict=True) if s.hand_type_valid and a.right_left is not None]
    banks = {"all": Errors(errors), **{name: Errors(errors[bank == name]) for name in ("single", "interacting")}}
    official = {"handedness_accuracy": _share([_same_type(s.hand_type, a.right_left) for s, a in told])}
    official["mrrpe"] = float(relative.mean()) if len(relative) else float("nan")
    official |= {f"mpjpe_{name}": e.mean() for name, e in banks.items()}
    official = {name: value for name, value in official.items() if not np.isnan(value)}
    return Scores(
        protocol="interhand26m",
        official=official,
        units={name: "mm" for name in official if name != "handedness_accuracy"},
        extra={f"mpjpe_{n}_flat": e.flat_mean() for n, e in banks.items() if e.known.any()},  # as mmpose averages
        counts={"samples": len(samples), "single": int((bank == "single").sum()), "mrrpe": len(relative)}
        | {"handedness": len(told)},
        per_joint={f"mpjpe_{name}_mm": e.by_joint for name, e in banks.items()},
    )


def read_truth(folder: Path, split: str, broken: Broken) -> Iterator[Sample]:
    """The annotations of a split, in their order.

    Raises:
        ScoreError: a missing or damaged file, or a broken annotation.
    """
    data, cameras, joints = (_table(folder, split, part) for part in ("data", "camera", "joint_3d"))
    images = {image["id"]: image for image in data["images"]}
    for annotation in data["annotations"]:
        name = str(annotation["id"])
        try:
            image = images[annotation["image_id"]]
            yield _sample(annotation, image, cameras[str(image["capture"])], joints[str(image["capture"])])
        except (KeyError, ValueError) as error:
            broken.add(name, f"{folder}: annotation {name}: {_reason(error)}")


def _sample(annotation: dict, image: dict, camera: dict, frames: dict) -> Sample:
    key = str(image["camera"])
    rotation = numbers(camera["camrot"][key], (3, 3), "camrot")
    world = numbers(frames[str(image["frame_idx"])]["world_coord"], (42, 3), "world_coord")
    joints = (world - numbers(camera["campos"][key], (3,), "campos")) @ rotation.T
    valid = np.asarray(annotation["joint_valid"], np.float64).reshape(42) > 0
    for hand, wrist in zip((RIGHT, LEFT), WRISTS, strict=True):
        valid[hand] &= valid[wrist]
    hand_type = annotation["hand_type"]
    if hand_type not in BANKS:
        raise ValueError(f"hand_type {hand_type!r} should be one of {', '.join(BANKS)}")
    return Sample(str(annotation["id"]), joints, valid, hand_type, bool(annotation["hand_type_valid"]))


def _answer(raw: Any, where: str) -> Answer:
    if not isinstance(raw, dict) or "joints_mm" not in raw:
        raise ValueError(f"{where}: {'no `joints_mm`' if isinstance(raw, dict) else 'missing'}")
    joints = numbers(raw["joints_mm"], (42, 3), f"{where}: joints_mm")
    told = raw.get("hand_type")
    vector = raw.get("left_from_right_mm")
    return Answer(
        joints,
        None if told is None else numbers(told, (2,), f"{where}: hand_type"),
        joints[WRISTS[1]] - joints[WRISTS[0]] if vector is None else numbers(vector, (3,), f"{where}: left_from_right"),
    )


def _rooted(joints: Float[np.ndarray, "n 42 3"]) -> Float[np.ndarray, "n 42 3"]:
    return np.concatenate([joints[:, h] - joints[:, w : w + 1] for h, w in zip((RIGHT, LEFT), WRISTS, strict=True)], 1)


def _same_type(hand_type: str, right_left: Float[np.ndarray, "2"]) -> bool:
    wanted = {"right": (True, False), "left": (False, True), "interacting": (True, True)}[hand_type]
    there = zip(right_left.tolist(), wanted, strict=True)
    return all(probability > 0.5 if want else probability < 0.5 for probability, want in there)  # 0.5 is neither


def _share(hits: list[bool]) -> float:
    return float(np.mean(hits)) if hits else float("nan")


def _table(folder: Path, split: str, part: str) -> Any:
    name = f"InterHand2.6M_{split}_{part}.json"
    inside = [f for f in (folder / name, folder / split / name, folder / "annotations" / split / name) if f.is_file()]
    return read_json(inside[0] if inside else folder / name, "truth", f"give the folder of annotations/{split}")


def _reason(error: Exception) -> str:
    return f"no entry {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
