"""InterHand2.6M (Moon et al., ECCV 2020): what its dataset.py prints after a test. Millimetres.

Truth: the folder that holds `InterHand2.6M_SPLIT_{data,camera,joint_3d}.json`, or one above it (`annotations/SPLIT/`).
Predictions: our table; a sample is an annotation's id, with

    joints_mm           42 x [x, y, z], camera axes; right hand 0-20, then left, each from tip to base, wrist last
    hands               which hands of joints_mm are answers: ["right"], ["left"] or, by default, both
    hand_type           [probability of a right hand, of a left hand]
    left_from_right_mm  [x, y, z] of the left wrist minus the right one; by default from joints_mm

Each hand is compared minus its own wrist, which is included with its error of 0. MPJPE is the mean over the 42 joints
of per-joint means, MRRPE (interacting hands, both wrists known) the error of the vector between the wrists.

Every hand with a valid joint and wrist needs an answer, others may have one. With partial=true those that are not
answered do not count, and a note gives the share of those that do. All files are read record by record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ...skeleton import PERMUTATIONS
from .. import doubts
from ..predictions import Predictions, write_table
from .base import (
    MM_PER_M,
    Broken,
    Errors,
    ScoreError,
    Scores,
    distance,
    first,
    numbers,
    official_file,
    predicted_joints,
    read_items,
)

RIGHT_ROWS, LEFT_ROWS, WRIST_ROWS = slice(0, 21), slice(21, 42), (20, 41)
HAND_ROWS = {"right": RIGHT_ROWS, "left": LEFT_ROWS}
BANKS = {"right": "single", "left": "single", "interacting": "interacting"}


@dataclass
class Config:
    """Options of the protocol."""

    split: str = "test"
    partial: bool = False  # score the hands that have predictions and note their share, instead of requiring all


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
    hands: tuple[str, ...] = tuple(HAND_ROWS)  # that `joints` speaks of


@dataclass
class Share:
    """How many hands the annotations label, and how many of them were scored."""

    labelled: int = 0
    scored: int = 0

    @property
    def note(self) -> str | None:
        """A note for scores that are not of all hands; None where they are."""
        if self.scored == self.labelled:
            return None
        part = f"{self.scored:,} of {self.labelled:,} labelled hands ({self.scored / self.labelled:.1%})"
        return f"scored: {part}; published numbers are of all"


def score(truth: Path, predictions: Path, config: Config, skip_broken: bool = False) -> Scores:
    """Score a table of predictions against the official annotations.

    Raises:
        ScoreError: a missing or damaged file, or a broken sample.
    """
    broken, share = Broken(skip_broken), Share()
    scores = compare(_pairs(Truth(truth, config.split), predictions, config.partial, share, broken))
    scores.left_out = broken.listed
    scores.counts["hands"] = share.scored
    scores.notes += [share.note] if share.note else []
    return scores


def write(predictions: Predictions, folder: Path, truth: Path | None, config: Config) -> Path:
    """Write our table; keys of samples are SPLIT/...#ANNOTATION_SIDE, and both hands of an annotation become one row.

    Raises:
        ScoreError: no 3D joints are predicted.
    """
    order, absent = np.argsort(PERMUTATIONS["interhand"]), np.zeros((21, 3))
    pairs: dict[str, dict[str, np.ndarray]] = {}
    for key, joints in zip(predictions.keys, predicted_joints(predictions), strict=True):
        annotation, _, side = key.rpartition("#")[2].partition("_")
        pairs.setdefault(annotation, {})[side] = MM_PER_M * joints[order]
    rows = {
        annotation: {"joints_mm": np.concatenate([hands.get(s, absent) for s in HAND_ROWS]), "hands": list(hands)}
        for annotation, hands in pairs.items()
    }
    return write_table(rows, official_file(folder, predictions.who))


def compare(pairs: Iterable[tuple[Sample, Answer]]) -> Scores:
    """The official scores."""
    errors, banks, relative, same_types, seen = [], [], [], [], []
    for sample, answer in pairs:
        error = distance(_rooted(sample.joints), _rooted(answer.joints))
        errors.append(np.where(sample.valid, error, np.nan))
        if len(seen) < doubts.MAX_COMPARED:
            seen.append((sample.joints, answer.joints, sample.valid))
        banks.append(BANKS[sample.hand_type])
        if banks[-1] == "interacting" and sample.valid[list(WRIST_ROWS)].all():
            vector = sample.joints[WRIST_ROWS[1]] - sample.joints[WRIST_ROWS[0]]
            relative.append(float(np.linalg.norm(vector - answer.left_from_right)))
        if sample.hand_type_valid and answer.right_left is not None:
            same_types.append(_same_type(sample.hand_type, answer.right_left))
    all_errors, bank = np.reshape(errors, (-1, 42)), np.array(banks, str)
    of = {"all": Errors(all_errors), **{n: Errors(all_errors[bank == n]) for n in ("single", "interacting")}}
    official = {"handedness_accuracy": _mean(same_types), "mrrpe": _mean(relative)}
    official |= {f"mpjpe_{name}": e.mean() for name, e in of.items()}
    official = {name: value for name, value in official.items() if not np.isnan(value)}
    return Scores(
        protocol="interhand26m",
        official=official,
        units={name: "mm" for name in official if name != "handedness_accuracy"},
        extra={f"mpjpe_{n}_flat": e.flat_mean() for n, e in of.items() if e.known.any()},  # as mmpose averages
        counts={"samples": len(errors), "single": banks.count("single"), "mrrpe": len(relative)}
        | {"handedness": len(same_types)},
        per_joint={f"mpjpe_{name}_mm": e.by_joint for name, e in of.items()},
        notes=_doubts(seen)
        + ([] if same_types else ["no handedness_accuracy: no answer predicts which hands there are (`hand_type`)"]),
    )


def _doubts(seen: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> list[str]:
    """See `metrics.doubts`; of each hand by itself."""
    order = list(PERMUTATIONS["interhand"])
    hands = [[part[own][order] for part in parts] for parts in seen for own in (RIGHT_ROWS, LEFT_ROWS)]
    return doubts.notes(*(np.stack(parts) for parts in zip(*hands, strict=True))) if hands else []


class Truth:
    """The annotations of a split, in their order; memory holds cameras, moments and what names the pictures."""

    def __init__(self, folder: Path, split: str) -> None:
        """
        Raises:
            ScoreError: a missing or damaged file.
        """
        self.data = _file(folder, split, "data")
        self.cameras = {capture: views for (capture,), views in read_items(_file(folder, split, "camera"), 1, "truth")}
        moments = read_items(_file(folder, split, "joint_3d"), 2, "truth")
        self.worlds = {moment: _compact(value["world_coord"]) for moment, value in moments}
        self.images = {
            image["id"]: (str(image["capture"]), str(image["frame_idx"]), str(image["camera"]))
            for image in self._section("images")
        }
        if not self.images:
            raise ScoreError(f"{self.data} holds no `images`; is it the official file of {split}?")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The annotations as they stand in the file."""
        return self._section("annotations")

    def sample(self, annotation: dict[str, Any]) -> Sample:
        """The annotation with its joints.

        Raises:
            KeyError: its picture, camera or moment is not in the files.
            ValueError: it or they hold something else than expected.
        """
        capture, frame, camera = self.images[annotation["image_id"]]
        views, hand_type = self.cameras[capture], annotation["hand_type"]
        rotation = numbers(views["camrot"][camera], (3, 3), "camrot")
        world = numbers(self.worlds[capture, frame], (42, 3), "world_coord")
        joints = (world - numbers(views["campos"][camera], (3,), "campos")) @ rotation.T
        if hand_type not in BANKS:
            raise ValueError(f"hand_type {hand_type!r} should be one of {', '.join(BANKS)}")
        valid, known = valid_joints(annotation), bool(annotation["hand_type_valid"])
        return Sample(str(annotation["id"]), joints, valid, hand_type, known)

    def _section(self, name: str) -> Iterator[dict[str, Any]]:
        return (value for place, value in read_items(self.data, 2, "truth") if place[:1] == (name,))


def valid_joints(annotation: dict[str, Any]) -> Bool[np.ndarray, "42"]:
    """Which joints count: those of a hand without its wrist do not."""
    valid = np.asarray(annotation["joint_valid"], np.float64).reshape(42) > 0
    for hand, wrist in zip((RIGHT_ROWS, LEFT_ROWS), WRIST_ROWS, strict=True):
        valid[hand] &= valid[wrist]
    return valid


def labelled_hands(annotation: dict[str, Any]) -> set[str]:
    """The hands that count, which need an answer."""
    valid = valid_joints(annotation)
    return {hand for hand, own in HAND_ROWS.items() if valid[own].any()}


def read_answers(path: Path) -> dict[str, Answer | ValueError]:
    """The answers by annotation; in the place of one that cannot be read, why.

    Raises:
        ScoreError: the file is missing, damaged or no table.
    """
    answers: dict[str, Answer | ValueError] = {}
    for place, raw in read_items(path, 1, "predictions"):
        if not place or not isinstance(place[0], str):
            raise ScoreError(f"{path} should hold one answer for each annotation's id, {{ID: {{joints_mm: ...}}, ...}}")
        try:
            answers[place[0]] = _answer(raw, f"{path}: annotation {place[0]}")
        except ValueError as error:
            answers[place[0]] = error
    return answers


def _pairs(
    truth: Truth, predictions: Path, partial: bool, share: Share, broken: Broken
) -> Iterator[tuple[Sample, Answer]]:
    """Annotations with their answers; counts hands into `share`.

    Raises:
        ScoreError: see `score`; also when no annotation is left.
    """
    answers = read_answers(predictions)
    some, count = first(answers), 0
    for annotation in truth:
        name = str(annotation["id"])
        answer = answers.pop(name, None)
        try:
            labelled = labelled_hands(annotation)
            share.labelled += len(labelled)
            if answer is None and (partial or not labelled):
                continue
            if isinstance(answer, ValueError):
                broken.add(name, str(answer))
                continue
            missing = labelled - set(answer.hands if answer else ())
            if missing and not partial:
                what = f"no answer for its {' and '.join(sorted(missing))} hand" if answer else "missing"
                broken.add(name, f"{predictions}: annotation {name}: {what}; partial=true scores what is answered")
                continue
            sample = truth.sample(annotation)
        except (KeyError, ValueError) as error:
            reason = f"no entry {error.args[0]!r}" if isinstance(error, KeyError) else error
            broken.add(name, f"{truth.data}: annotation {name}: {reason}")
            continue
        for hand in missing:
            sample.valid[HAND_ROWS[hand]] = False
        share.scored += len(labelled - missing)
        count += 1
        yield sample, answer
    if not count:
        raise ScoreError(f"{predictions}: none of its ids ({some}) is an annotation of {truth.data}")


def _answer(raw: Any, where: str) -> Answer:
    if not isinstance(raw, dict) or "joints_mm" not in raw:
        raise ValueError(f"{where}: no `joints_mm`")
    joints = numbers(raw["joints_mm"], (42, 3), f"{where}: joints_mm")
    types, vector, hands = (raw.get(key) for key in ("hand_type", "left_from_right_mm", "hands"))
    if hands is not None and not (isinstance(hands, list) and hands and set(hands) <= set(HAND_ROWS)):
        raise ValueError(f'{where}: hands should be some of ["right", "left"]')
    return Answer(
        joints,
        None if types is None else numbers(types, (2,), f"{where}: hand_type"),
        joints[WRIST_ROWS[1]] - joints[WRIST_ROWS[0]]
        if vector is None
        else numbers(vector, (3,), f"{where}: left_from_right"),
        tuple(HAND_ROWS if hands is None else hands),
    )


def _left_from_right(joints: Float[np.ndarray, "42 3"]) -> Float[np.ndarray, "3"]:
    right, left = WRIST_ROWS
    return joints[left] - joints[right]


def _rooted(joints: Float[np.ndarray, "42 3"]) -> Float[np.ndarray, "42 3"]:
    return np.concatenate(
        [joints[hand] - joints[wrist] for hand, wrist in zip((RIGHT_ROWS, LEFT_ROWS), WRIST_ROWS, strict=True)]
    )


def _same_type(hand_type: str, right_left: Float[np.ndarray, "2"]) -> bool:
    wanted = {"right": (True, False), "left": (False, True), "interacting": (True, True)}[hand_type]
    there = zip(right_left.tolist(), wanted, strict=True)
    return all(probability > 0.5 if want else probability < 0.5 for probability, want in there)  # 0.5 is neither


def _mean(values: list[float] | list[bool]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _compact(world: Any) -> Any:
    """An array for nested lists; anything else unchanged, and refused when its annotation is read."""
    try:
        return np.asarray(world, np.float64)
    except (TypeError, ValueError):
        return world


def _file(folder: Path, split: str, part: str) -> Path:
    name = f"InterHand2.6M_{split}_{part}.json"
    candidates = (folder / name, folder / split / name, folder / "annotations" / split / name)
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise ScoreError(f"{folder / name}: no such file (truth); give the folder of annotations/{split}")
    return found
