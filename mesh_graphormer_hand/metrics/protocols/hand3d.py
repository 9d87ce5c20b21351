"""RHD and STB as Zimmermann & Brox score them (hand3d, ICCV 2017): EPE in mm or px and AUC.

data=rhd: truth is the data set's folder (its `SPLIT/anno_SPLIT.pickle`, read without running anything, and the masks,
which decide the dominant hand: the one with more pixels); a sample is the number of its picture, five digits.
data=stb: truth is the folder of STB's labels (`B1Counting_BB.mat`, ...); a sample is SEQUENCE_CAMERA/NUMBER, such as
B1Counting_BB/0. Predictions: our table, with one or both of

    joints_m    21 x [x, y, z], canonical order; any origin, and any scale under scale=truth
    joints_px   21 x [x, y], pixels of the picture (RHD)

Only visible joints count. Joints are compared relative to the root: the palm's centre, half-way between wrist and
middle MCP, as in the published evaluations (STB labels that point instead of the wrist), or the wrist. Predictions are
scaled so that middle MCP to PIP is as long as the truth's (scale=truth, published) or left alone (scale=none).
3D: thresholds 0-50 mm in 20 steps, and the last 12 of them for AUC 20-50; 2D: 0-30 px in 20 steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float

from ...config import ConfigError, nearest
from ...mano import pickles
from ...mano.hand import HandFileError
from ...skeleton import PERMUTATIONS
from .. import doubts
from ..predictions import Predictions, table_rows, write_table
from .base import MM_PER_M, Broken, Curve, Errors, ScoreError, Scores, distance, official_file, read_json, read_table

OPTION_VALUES = {"data": ("rhd", "stb"), "root": ("palm", "wrist"), "scale": ("truth", "none")}
WRIST, MIDDLE_MCP, MIDDLE_PIP = 0, 9, 10
CURVE_STEPS, LAST_STEPS = 20, 12
MAX_ERROR_MM, MAX_ERROR_PX = 50.0, 30.0
LEFT_MASK = (2, 17)  # values of the left hand's parts in RHD's masks; above are the right hand's
STB_TEST = ("B1Counting", "B1Random")
# STB: palm centre, then little, ring, middle, index finger and thumb, each from its base to its tip
STB_ORDER = (0, *range(17, 21), *range(13, 17), *range(9, 13), *range(5, 9), *range(1, 5))


@dataclass
class Config:
    """Options of the protocol."""

    data: str = "rhd"  # rhd | stb
    split: str = "evaluation"  # of RHD
    cameras: str = "BB"  # of STB: BB (the stereo camera) or SK
    root: str = "palm"  # palm | wrist
    scale: str = "truth"  # truth | none

    def __post_init__(self) -> None:
        for name, known in OPTION_VALUES.items():
            if (value := getattr(self, name)) not in known:
                raise ConfigError(f"{name}={value}{nearest(value, known)}: one of {', '.join(known)}")
        if self.data == "stb" and self.root == "wrist":
            raise ConfigError("root=wrist: STB labels the palm's centre, not the wrist")


@dataclass
class Sample:
    """One hand in canonical order."""

    name: str
    xyz: Float[np.ndarray, "21 3"]  # m
    uv: Float[np.ndarray, "21 2"] | None  # px
    visible: Bool[np.ndarray, "21"]


def score(truth: Path, predictions: Path, config: Config, skip_broken: bool = False) -> Scores:
    """Score our table of predictions.

    Raises:
        ScoreError: a missing or damaged file, or a broken sample.
    """
    samples = {s.name: s for s in (read_stb if config.data == "stb" else read_rhd)(truth, config)}
    broken, scores = Broken(skip_broken), Scores(f"hand3d/{config.data}", {}, counts={"samples": len(samples)})
    known = _keys(predictions)
    if not known & {"joints_m", "joints_px"}:
        raise ScoreError(f"{predictions}: no sample has joints_m or joints_px")
    if "joints_m" in known:
        answers = read_table(predictions, samples, "joints_m", (21, 3), broken)
        chosen = [samples[name] for name in answers]
        _score_3d(scores, chosen, np.stack(list(answers.values())), config)
    if "joints_px" in known and config.data == "rhd":
        answers = read_table(predictions, samples, "joints_px", (21, 2), broken)
        _score_2d(scores, [samples[name] for name in answers], np.stack(list(answers.values())), config)
    scores.left_out = broken.listed
    return scores


def write(predictions: Predictions, folder: Path, truth: Path | None, config: Config) -> Path:
    """Write our table of RHD's pictures, one hand each: keys of samples are SPLIT/NUMBER#SIDE."""
    names = [key.rpartition("/")[2].partition("#")[0] for key in predictions.keys]
    return write_table(table_rows(predictions, names), official_file(folder, predictions.who))


def compare_3d(
    target: Float[np.ndarray, "n 21 3"],
    predicted: Float[np.ndarray, "n 21 3"],
    visible: Bool[np.ndarray, "n 21"],
    config: Config,
) -> Errors:
    """Distances in mm under the options of `config`; joints in canonical order, m."""
    palm_in_truth = config.data == "stb"
    if config.root == "palm":
        target = target if palm_in_truth else with_palm(target)
        predicted = with_palm(predicted)
        if not palm_in_truth:
            visible = visible.copy()
            visible[:, WRIST] |= visible[:, MIDDLE_MCP]
    target, predicted = target - target[:, :1], predicted - predicted[:, :1]
    if config.scale == "truth":
        ratio = _bone(target) / np.maximum(_bone(predicted), 1e-12)
        predicted = predicted * ratio[:, None, None]
    return Errors(np.where(visible, MM_PER_M * distance(target, predicted), np.nan))


def with_palm(joints: Float[np.ndarray, "n 21 c"]) -> Float[np.ndarray, "n 21 c"]:
    """The joints with the palm's centre in place of the wrist."""
    moved = joints.copy()
    moved[:, WRIST] = (joints[:, WRIST] + joints[:, MIDDLE_MCP]) / 2
    return moved


def auc_20_50(errors: Errors) -> float:
    """Area over the last 12 of the 20 thresholds of 0-50 mm: hand3d's "20-50"."""
    return errors.auc(MAX_ERROR_MM * (CURVE_STEPS - LAST_STEPS) / (CURVE_STEPS - 1), MAX_ERROR_MM, LAST_STEPS)


def read_rhd(root: Path, config: Config) -> Iterator[Sample]:
    """The dominant hand of each picture.

    Raises:
        ScoreError: a missing or damaged file.
    """
    folder = root / config.split
    path = folder / f"anno_{config.split}.pickle"
    try:
        content = pickles.load(path.read_bytes(), path)
    except FileNotFoundError:
        raise ScoreError(f"{path}: no such file (truth); give the folder RHD_published_v2") from None
    except HandFileError as error:
        raise ScoreError(str(error)) from None
    order = np.array(PERMUTATIONS["rhd"])
    for number, label in content.items():
        name = f"{number:05d}"
        try:
            uv_vis, xyz = (np.asarray(pickles.to_array(label[k], f"{path}: {k} of {name}")) for k in ("uv_vis", "xyz"))
            hand = order + (0 if _is_left(folder / "mask" / f"{name}.png") else 21)
            yield Sample(name, xyz[hand].astype(np.float64), uv_vis[hand, :2], uv_vis[hand, 2] > 0)
        except (KeyError, IndexError, TypeError, HandFileError) as error:
            raise ScoreError(f"{path}: sample {name}: {error!r}") from None


def read_stb(folder: Path, config: Config) -> Iterator[Sample]:
    """All hands of the test sequences, the palm's centre in place of the wrist.

    Raises:
        ScoreError: no label files, or a damaged one.
    """
    from scipy.io import loadmat

    for sequence in STB_TEST:
        path = folder / f"{sequence}_{config.cameras}.mat"
        if not path.is_file():
            raise ScoreError(f"{path}: no such file (truth); give the folder of STB's labels")
        try:
            joints = np.asarray(loadmat(path)["handPara"], np.float64)
        except Exception as error:  # a damaged .mat can raise almost anything
            raise ScoreError(f"{path} cannot be read: {error}") from None
        for i in range(joints.shape[2]):
            xyz = joints[:, list(STB_ORDER), i].T / MM_PER_M
            yield Sample(f"{sequence}_{config.cameras}/{i}", xyz, None, np.ones(21, bool))


def _score_3d(scores: Scores, samples: list[Sample], predicted: Float[np.ndarray, "n 21 3"], config: Config) -> None:
    target, visible = np.stack([s.xyz for s in samples]), np.stack([s.visible for s in samples])
    errors = compare_3d(target, predicted, visible, config)
    scores.notes += doubts.notes(target, predicted, visible, units=config.scale == "none")
    scores.official |= {"epe_mean": errors.mean(), "epe_median": errors.median()}
    scores.official |= {"auc_0_50": errors.auc(0, MAX_ERROR_MM, CURVE_STEPS), "auc_20_50": auc_20_50(errors)}
    scores.units |= {"epe_mean": "mm", "epe_median": "mm"}
    scores.per_joint["epe_mm"] = errors.by_joint
    thresholds = np.linspace(0, MAX_ERROR_MM, CURVE_STEPS)
    scores.curves["xyz"] = Curve(thresholds, errors.curve(thresholds), "mm")


def _score_2d(scores: Scores, samples: list[Sample], predicted: Float[np.ndarray, "n 21 2"], config: Config) -> None:
    target, visible = np.stack([s.uv for s in samples]), np.stack([s.visible for s in samples])
    scores.notes += doubts.notes(target, predicted, visible)
    if config.root == "palm":
        target, predicted = with_palm(target), with_palm(predicted)
        visible[:, WRIST] |= visible[:, MIDDLE_MCP]
    errors = Errors(np.where(visible, distance(target, predicted), np.nan))
    scores.official |= {"epe_2d_mean": errors.mean(), "epe_2d_median": errors.median()}
    scores.official |= {"auc_2d_0_30": errors.auc(0, MAX_ERROR_PX, CURVE_STEPS)}
    scores.units |= {"epe_2d_mean": "px", "epe_2d_median": "px"}
    scores.per_joint["epe_px"] = errors.by_joint
    thresholds = np.linspace(0, MAX_ERROR_PX, CURVE_STEPS)
    scores.curves["uv"] = Curve(thresholds, errors.curve(thresholds), "px")


def _keys(predictions: Path) -> set[str]:
    table = read_json(predictions, "predictions")
    values = table.values() if isinstance(table, dict) else []
    return {key for answer in values if isinstance(answer, dict) for key in answer}


def _bone(joints: Float[np.ndarray, "n 21 3"]) -> Float[np.ndarray, "n"]:
    return np.linalg.norm(joints[:, MIDDLE_PIP] - joints[:, MIDDLE_MCP], axis=-1)


def _is_left(path: Path) -> bool:
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
    if mask is None:
        raise ScoreError(f"{path}: no such mask, or not readable; it decides which hand counts")
    low, high = LEFT_MASK
    return int(((mask >= low) & (mask <= high)).sum()) > int((mask > high).sum())
