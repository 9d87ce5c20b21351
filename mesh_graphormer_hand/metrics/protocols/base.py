"""What all protocols share: named scores, file reading with checks, errors by joint.

A protocol is one file `metrics/protocols/NAME.py` with a dataclass `Config` (its options) and
`score(truth: Path, predictions: Path, config: Config, skip_broken: bool) -> Scores`. The file name is the registry.
Arrays are float64, in the unit that the official program computes in.

A protocol that a data set names (`HandDataset.protocol`) also writes the layout that it reads:
`write(predictions: Predictions, folder: Path, truth: Path | None, config: Config) -> Path` writes the predictions of
one predictor into `folder` and returns the file, or raises ScoreError where the protocol has no place for them.
`IS_SUBMISSION = True` marks a layout that an evaluation server takes: its file is written without labels, too.

Sets without an official submission format take our table of predictions, one JSON object, sample -> answer:

    {"SAMPLE": {"joints_m": 21 x [x, y, z], "joints_px": 21 x [x, y], ...}, ...}

Each protocol says in its docstring what names a sample and which of these keys it reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ...config import ConfigError
from ...json_stream import JsonError, json_items
from ..predictions import Predictions

MM_PER_M, CM_PER_M = 1000.0, 100.0
MAX_LISTED = 5  # broken samples that a message lists


class ScoreError(ConfigError):
    """A truth or prediction file that cannot be scored; the message names file, sample and remedy."""


@dataclass
class Curve:
    """Share of correct joints over a threshold."""

    thresholds: Float[np.ndarray, "t"]
    share: Float[np.ndarray, "t"]
    unit: str  # of the thresholds


@dataclass
class Scores:
    """What a protocol says about a file of predictions."""

    protocol: str
    official: dict[str, float]  # the official names, in the official order and units
    units: dict[str, str] = field(default_factory=dict)  # by name: "cm", "mm", "px"; shares have none
    extra: dict[str, float] = field(default_factory=dict)  # beyond the official program, named for what it is
    counts: dict[str, int] = field(default_factory=dict)
    per_joint: dict[str, Float[np.ndarray, "j"]] = field(default_factory=dict)  # name ends in its unit
    curves: dict[str, Curve] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # warnings for the reader of the numbers
    left_out: list[str] = field(default_factory=list)  # samples that --skip-broken skipped

    def lines(self) -> list[str]:
        """`name: value`, six digits, as the official programs write scores.txt."""
        return [f"{name}: {value:f}" for name, value in self.official.items()]

    def as_mapping(self) -> dict[str, Any]:
        """Everything but the curves, for a JSON file."""
        joints = {name: [None if np.isnan(v) else float(v) for v in values] for name, values in self.per_joint.items()}
        keys = ("protocol", "official", "units", "extra", "counts", "notes", "left_out")
        return {**{key: getattr(self, key) for key in keys}, "per_joint": joints}


class Errors:
    """Distances by joint over samples, NaN where a joint does not count: the bookkeeping of hand3d's and FreiHAND's
    evaluations. Means and areas are means over the joints of per-joint values; joints without a sample are left out."""

    def __init__(self, distances: Float[np.ndarray, "n j"]) -> None:
        self.distances = np.asarray(distances, np.float64)
        self.known = ~np.isnan(self.distances)
        self.joints = self.known.any(0)  # that have a sample

    @property
    def by_joint(self) -> Float[np.ndarray, "j"]:
        """Mean of each joint, NaN without a sample."""
        return self._per_joint(lambda errors: errors.mean())

    def mean(self) -> float:
        """Mean over the joints of per-joint means; NaN when nothing counts."""
        return _mean(self.by_joint)

    def median(self) -> float:
        """Mean over the joints of per-joint medians."""
        return _mean(self._per_joint(np.median))

    def flat_mean(self) -> float:
        """Mean over all counted joints of all samples."""
        return float(self.distances[self.known].mean()) if self.known.any() else float("nan")

    def curve(self, thresholds: Float[np.ndarray, "t"], strict: bool = False) -> Float[np.ndarray, "t"]:
        """Share of errors within each threshold (below it, if `strict`), averaged over the joints."""
        shares = [self._within(j, thresholds, strict) for j in np.flatnonzero(self.joints).tolist()]
        return np.mean(shares, 0) if shares else np.full(len(thresholds), np.nan)

    def auc(self, low: float | int, high: float | int, steps: int) -> float:
        """Area under `curve` over `steps` thresholds from `low` to `high`, by trapezoids, over that of ones."""
        return area(np.linspace(low, high, steps), self.curve(np.linspace(low, high, steps)))

    def _within(self, joint: int, thresholds: Float[np.ndarray, "t"], strict: bool) -> np.ndarray:
        errors = np.sort(self.distances[self.known[:, joint], joint])
        return np.searchsorted(errors, thresholds, side="left" if strict else "right") / len(errors)

    def _per_joint(self, reduce: Any) -> np.ndarray:
        out = np.full(self.distances.shape[1], np.nan)
        for joint in np.flatnonzero(self.joints).tolist():
            out[joint] = reduce(self.distances[self.known[:, joint], joint])
        return out


class Broken:
    """Samples that cannot be scored: an error by default, counted and listed where the user asked to skip them."""

    def __init__(self, skip: bool) -> None:
        self.skip = skip
        self.found: dict[Any, str] = {}

    def add(self, sample: Any, why: str) -> None:
        """Record a broken sample.

        Raises:
            ScoreError: unless broken samples are to be skipped.
        """
        if not self.skip:
            raise ScoreError(f"{why} (--skip-broken leaves such samples out and lists them)")
        self.found.setdefault(sample, why)

    @property
    def listed(self) -> list[str]:
        """The reasons, one line a sample."""
        return list(self.found.values())


def area(x: Float[np.ndarray, "t"], y: Float[np.ndarray, "t"]) -> float:
    """Area under y(x) by trapezoids, over that of a curve of ones."""
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum() / (x[-1] - x[0]))


def distance(a: Float[np.ndarray, "*b c"], b: Float[np.ndarray, "*b c"]) -> Float[np.ndarray, "*b"]:
    """Euclidean distances."""
    return np.linalg.norm(np.asarray(a) - np.asarray(b), axis=-1)


def official_procrustes(
    source: Float[np.ndarray, "b n 3"], target: Float[np.ndarray, "b n 3"], allow_reflection: bool = True
) -> Float[np.ndarray, "b n 3"]:
    """`source` moved, rotated and scaled onto `target`, to the last digit as FreiHAND's, HO-3D's and DexYCB's programs
    do it: both centred and divided by (Frobenius norm + 1e-8), reflections allowed. Elsewhere: geometry.alignment.
    """
    centre = target.mean(1, keepdims=True)
    a, b = target - centre, source - source.mean(1, keepdims=True)
    size_a, size_b = (np.linalg.norm(x, axis=(1, 2), keepdims=True) + 1e-8 for x in (a, b))
    a, b = a / size_a, b / size_b
    u, singular, vh = np.linalg.svd(np.einsum("bnc,bnd->bcd", b, a))  # b^T a
    if not allow_reflection:
        sign = np.sign(np.linalg.det(u @ vh))
        u[:, :, 2] *= sign[:, None]
        singular[:, 2] *= sign
    return (b @ (u @ vh)) * singular.sum(1)[:, None, None] * size_a + centre


def read_json(path: Path, what: str, remedy: str = "") -> Any:
    """The content of a JSON file.

    Raises:
        ScoreError: it is missing, cut short or not JSON.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError:
        raise ScoreError(f"{path}: no such file ({what}){'; ' + remedy if remedy else ''}") from None
    except (IsADirectoryError, NotADirectoryError):
        raise ScoreError(f"{path} should be a JSON file ({what})") from None
    except UnicodeDecodeError:
        raise ScoreError(f"{path} is no JSON text ({what}); is it a zip? Unpack it first") from None
    except json.JSONDecodeError as error:
        cut = "is cut short" if error.pos >= path.stat().st_size - 2 else "is not valid JSON"
        raise ScoreError(f"{path} {cut} ({what}): {error.msg} in line {error.lineno}; copy it again") from None
    except (RecursionError, ValueError) as error:  # lists in lists without end, numbers of thousands of digits
        raise ScoreError(f"{path} is not valid JSON ({what}): {error}") from None


def read_items(path: Path, depth: int, what: str) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The values `depth` levels below the top of a large JSON file, one by one, with the keys that lead there.

    Raises:
        ScoreError: missing or damaged; the message names the file and `what` it is.
    """
    try:
        yield from json_items(path, depth)
    except JsonError as error:
        raise ScoreError(f"{error} ({what})") from None


def numbers(value: Any, shape: tuple[int | None, ...], where: str) -> np.ndarray:
    """`value` as finite float64 of `shape` (None: any length).

    Raises:
        ValueError: another shape, or numbers that are missing or not finite; the message begins with `where`.
    """
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{where} is not an array of numbers, {_named(shape)} expected") from None
    if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
        raise ValueError(f"{where} has shape {list(array.shape)}, {_named(shape)} expected")
    if not np.isfinite(array).all():
        raise ValueError(f"{where} holds {int((~np.isfinite(array)).sum())} numbers that are NaN or infinite")
    return array


def read_table(
    path: Path, samples: Iterable[str], key: str, shape: tuple[int | None, ...], broken: Broken
) -> dict[str, np.ndarray]:
    """The values of `key` in our table of predictions: sample -> array. A sample without one is broken.

    Raises:
        ScoreError: a file that is no such table, a broken answer, or none that is whole.
    """
    table = read_json(path, "predictions")
    if not isinstance(table, Mapping):
        raise ScoreError(f'{path} should hold {{"SAMPLE": {{"{key}": ...}}, ...}}, not a {type(table).__name__}')
    samples, answers = list(samples), {}
    if samples and not set(samples) & set(table):
        raise ScoreError(
            f"{path} names none of the samples of the truth: it has {first(table)}, wanted {first(samples)}"
        )
    for sample in samples:
        where = f"{path}: {sample!r}"
        answer = table.get(sample)
        if not isinstance(answer, Mapping) or key not in answer:
            broken.add(sample, f"{where} has no `{key}`" if sample in table else f"{where} is missing")
            continue
        try:
            answers[sample] = numbers(answer[key], shape, f"{where}: {key}")
        except ValueError as error:
            broken.add(sample, str(error))
    if not answers:
        raise ScoreError(f"{path}: no sample is left to score")
    return answers


def official_file(folder: Path, who: str, ending: str = ".json") -> Path:
    """Where a protocol that is no submission writes the predictions of `who`."""
    return folder / f"official_{who}{ending}"


def predicted_joints(predictions: Predictions) -> Float[np.ndarray, "n 21 3"]:
    """The 3D joints of all samples, m.

    Raises:
        ScoreError: none are predicted.
    """
    if (joints := predictions.joined("joints")) is None:
        raise ScoreError("no 3D joints are predicted, or none that can be compared")
    return joints


def first(names: Iterable[Any], count: int = 3) -> str:
    """The first few names, for a message."""
    names = [repr(name) for name, _ in zip(names, range(count + 1), strict=False)]
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "") if names else "nothing"


def _mean(values: Float[np.ndarray, "j"]) -> float:
    return float("nan") if np.isnan(values).all() else float(np.nanmean(values))


def _named(shape: tuple[int | None, ...]) -> str:
    return " x ".join("n" if n is None else str(n) for n in shape)
