"""DexYCB's hand pose evaluation (Chao et al., CVPR 2021). Millimetres.

Truth: the folder of the data set (subject/sequence/serial/labels_*.npz); frames are counted as the official toolkit
does, over subjects, sequences, cameras, then frames. Predictions: its text file, a line for each frame with a hand: the
frame's number in the split and 63 coordinates in mm (camera axes, canonical order), comma-separated. Frames whose label
is all -1 are skipped; all others must be there.

MPJPE and AUC (0-50 mm, 100 thresholds) as they are, relative to the wrist, and after an alignment with reflections.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ...config import ConfigError, nearest
from ...files import read_arrays
from .. import doubts
from ..predictions import Predictions, write_pieces
from .base import (
    MM_PER_M,
    Broken,
    Curve,
    Errors,
    ScoreError,
    Scores,
    distance,
    first,
    official_file,
    official_procrustes,
    predicted_joints,
)

SETUPS, SPLIT_NAMES = ("s0", "s1", "s2", "s3"), ("train", "val", "test")
SUBJECTS = {"s1": {"train": (0, 1, 2, 3, 4, 5, 9), "val": (6,), "test": (7, 8)}}
SUBJECTS["s0"] = {"train": tuple(range(10)), "val": (0, 1), "test": tuple(range(2, 10))}
CAMERAS = {"train": (0, 1, 2, 3, 4, 5), "val": (6,), "test": (7,)}  # of s2
GRASPS = {"val": (3, 19), "test": (7, 11, 15)}  # of s3, sequence number // 5
NUM_SEQUENCES = 100  # of each subject in the full data set
MAX_ERROR_MM, NUM_THRESHOLDS = 50.0, 100


@dataclass
class Config:
    """Options of the protocol."""

    setup: str = "s0"  # s0: unseen frames | s1: subjects | s2: views | s3: grasped objects
    split: str = "test"
    sequences: int = NUM_SEQUENCES  # of each subject; fewer in a copy that is meant to be smaller

    def __post_init__(self) -> None:
        for name, value, known in (("setup", self.setup, SETUPS), ("split", self.split, SPLIT_NAMES)):
            if value not in known:
                raise ConfigError(f"{name}={value}{nearest(value, known)}: one of {', '.join(known)}")


def score(truth: Path, predictions: Path, config: Config, skip_broken: bool = False) -> Scores:
    """Score a result file of the official layout.

    Raises:
        ScoreError: a missing or damaged file, a frame without a prediction, or a broken one.
    """
    broken = Broken(skip_broken)
    answers = read_results(predictions)
    target, predicted = [], []
    for index, path in enumerate(frames(truth, config)):
        joints = _label(path)
        if (joints == -1).all():
            continue
        answer = answers.get(index)
        if answer is None or not np.isfinite(answer).all():
            what = "has no line" if answer is None else "has NaN"
            broken.add(index, f"{predictions}: frame {index} ({path}) {what}")
            continue
        target.append((np.float32(MM_PER_M) * joints).astype(np.float64))  # in single precision, as the toolkit does
        predicted.append(answer)
    if not target:
        raise ScoreError(f"{predictions}: no frame to score; its numbers are {first(answers)}")
    scores = compare(np.stack(target), np.stack(predicted))
    scores.left_out = broken.listed
    if config.sequences != NUM_SEQUENCES:
        scores.notes.append(
            f"{config.sequences} sequences of each subject instead of {NUM_SEQUENCES}: "
            "another split than the published one"
        )
    return scores


def write(predictions: Predictions, folder: Path, truth: Path | None, config: Config) -> Path:
    """Write the toolkit's text file; keys of samples are SUBJECT/SEQUENCE/SERIAL/FRAME.

    Raises:
        ScoreError: no 3D joints, no labels, or a frame that the split of `config` does not count.
    """
    joints = predicted_joints(predictions)
    if truth is None:
        raise ScoreError("the frames of DexYCB are counted in its folder; there is none")
    number = {
        f"{p.parent.relative_to(truth).as_posix()}/{p.stem.removeprefix('labels_')}": i
        for i, p in enumerate(frames(truth, config))
    }
    if strange := next((key for key in predictions.keys if key not in number), None):
        raise ScoreError(f"{truth}: frame {strange} is not in the folders that the split {asdict(config)} counts")
    lines = (
        ",".join([str(number[key]), *(f"{v:.4f}" for v in (MM_PER_M * hand).ravel().tolist())]) + "\n"
        for key, hand in zip(predictions.keys, joints, strict=True)
    )
    return write_pieces(lines, official_file(folder, predictions.who, ".txt"))


def compare(target: Float[np.ndarray, "n 21 3"], predicted: Float[np.ndarray, "n 21 3"]) -> Scores:
    """The official scores of joints in mm."""
    aligned = {
        "absolute": (target, predicted),
        "root_relative": (target - target[:, :1], predicted - predicted[:, :1]),
        "procrustes": (target, official_procrustes(predicted, target)),
    }
    errors = {name: Errors(distance(*pair)) for name, pair in aligned.items()}
    official = {}
    for name, error in errors.items():
        official |= {f"{name}_mpjpe": error.mean(), f"{name}_auc": error.auc(0.0, MAX_ERROR_MM, NUM_THRESHOLDS)}
    thresholds = np.linspace(0.0, MAX_ERROR_MM, NUM_THRESHOLDS)
    proper = Errors(distance(target, official_procrustes(predicted, target, allow_reflection=False)))
    return Scores(
        protocol="dexycb",
        official=official,
        units={name: "mm" for name in (*official, "procrustes_proper_mpjpe") if name.endswith("mpjpe")},
        extra={
            "procrustes_proper_mpjpe": proper.mean(),
            "procrustes_proper_auc": proper.auc(0.0, MAX_ERROR_MM, NUM_THRESHOLDS),
        },
        counts={"samples": len(target)},
        notes=doubts.notes(target, predicted),
        per_joint={f"{name}_mm": e.by_joint for name, e in errors.items()},
        curves={name: Curve(thresholds, e.curve(thresholds), "mm") for name, e in errors.items()},
    )


def frames(root: Path, config: Config) -> Iterator[Path]:
    """The label files of a split, in the official order.

    Raises:
        ScoreError: no such folder, or a subject with another number of sequences than `config.sequences`.
    """
    subjects = sorted(p for p in root.glob("*-subject-*") if p.is_dir())
    if not subjects:
        raise ScoreError(f"{root}: no folder DATE-subject-NN; give the folder of DexYCB")
    for number, subject in enumerate(subjects):
        if number not in SUBJECTS.get(config.setup, {}).get(config.split, range(len(subjects))):
            continue
        sequences = sorted(p for p in subject.iterdir() if p.is_dir())
        if len(sequences) != config.sequences:
            raise ScoreError(
                f"{subject} has {len(sequences)} sequences, the split is defined for {config.sequences}: "
                "unpack all of it (or say sequences=N for a copy that is meant to be smaller)"
            )
        for i, sequence in enumerate(sequences):
            if in_split(i, config):
                cameras = sorted(p for p in sequence.iterdir() if p.is_dir())
                chosen = CAMERAS[config.split] if config.setup == "s2" else range(len(cameras))
                for camera in (cameras[c] for c in chosen if c < len(cameras)):
                    yield from sorted(camera.glob("labels_*.npz"))


def in_split(sequence: int, config: Config) -> bool:
    """Whether a subject's sequence with this number belongs to the split."""
    if config.setup == "s0":
        return (sequence % 5 != 4) == (config.split == "train")
    if config.setup == "s3":
        held_out = {s for grasps in GRASPS.values() for s in grasps}
        grasp = sequence // 5
        return grasp not in held_out if config.split == "train" else grasp in GRASPS[config.split]
    return True


def read_results(path: Path) -> dict[int, Float[np.ndarray, "21 3"]]:
    """Frame number -> joints in mm.

    Raises:
        ScoreError: no such file, or a line that does not hold 64 numbers.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ScoreError(f"{path}: no such file (predictions)") from None
    except UnicodeDecodeError:
        raise ScoreError(f"{path} is no text file: lines of 64 comma-separated numbers expected") from None
    answers = {}
    for number, line in enumerate(filter(str.strip, lines), 1):
        try:
            values = [float(v) for v in line.split(",")]
            if len(values) != 64:
                raise ValueError(f"{len(values)} numbers")
            answers[int(values[0])] = np.reshape(values[1:], (21, 3))
        except ValueError as error:
            raise ScoreError(f"{path}, line {number}: 64 comma-separated numbers expected ({error})") from None
    return answers


def _label(path: Path) -> Float[np.ndarray, "21 3"]:
    """The joints of a frame, m, in single precision."""
    try:
        return np.asarray(read_arrays(path, ("joint_3d",))["joint_3d"], np.float32).reshape(21, 3)
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise ScoreError(f"{path}: no readable `joint_3d` (1 x 21 x 3): {error}") from None
