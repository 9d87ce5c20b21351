"""What is predicted, said in the layouts of the protocols that take tables or text: InterHand2.6M, RHD, DexYCB, HInt.

The readers' keys say which annotation a sample is (data/datasets/NAME.py); a protocol's own names are made of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..metrics.protocols import dexycb
from ..metrics.protocols.base import ScoreError
from ..skeleton import PERMUTATIONS

MM_PER_M = 1000.0
DIGITS = 6  # micrometres and millionths of a pixel


@dataclass
class Answers:
    """What one predictor said about a data set, in the photos' frames."""

    keys: list[str] = field(default_factory=list)
    joints: list[np.ndarray] = field(default_factory=list)  # b 21 3, m
    vertices: list[np.ndarray] = field(default_factory=list)  # b 778 3, m
    joints_px: list[np.ndarray] = field(default_factory=list)  # b 21 2

    def joined(self, name: str) -> np.ndarray | None:
        """All samples of a field, None where this predictor does not produce it."""
        parts = getattr(self, name)
        return np.concatenate(parts) if parts else None


@dataclass
class Layout:
    """A file to write, and how it is scored."""

    protocol: str
    truth: Path
    parts: Iterator[str]
    ending: str = ".json"
    options: dict[str, Any] = field(default_factory=dict)


def layout(data: str, answers: Answers, truth: Path, raw: dict[str, Any]) -> Layout | None:
    """The answers in the layout of the data set's protocol; None where it has none.

    `raw`: the data set's options.

    Raises:
        ScoreError: the protocol has no scores for these samples or answers, and why.
    """
    makers = {"interhand26m": _interhand26m, "rhd": _rhd, "dexycb": _dexycb, "hint": _hint}
    if data not in makers:
        return None
    if (split_by := raw.get("split_by", "official")) != "official":
        raise ScoreError(f"split_by={split_by}: the protocol is about the data set's own splits")
    return makers[data](answers, truth, raw)


def numbers(values: np.ndarray) -> str:
    """JSON of an array, rounded to micrometres."""
    return json.dumps(np.round(values.astype(np.float64), DIGITS).tolist(), separators=(",", ":"))


def _joints(answers: Answers) -> np.ndarray:
    if (joints := answers.joined("joints")) is None:
        raise ScoreError("no 3D joints are predicted, or none that can be compared")
    return joints


def _interhand26m(answers: Answers, truth: Path, raw: dict[str, Any]) -> Layout:
    joints, order = _joints(answers), np.argsort(PERMUTATIONS["interhand"])
    pairs: dict[str, dict[str, np.ndarray]] = {}
    for key, hand in zip(answers.keys, joints, strict=True):
        number, _, side = key.rpartition("#")[2].partition("_")
        pairs.setdefault(number, {})[side] = MM_PER_M * hand[order]
    split, absent = answers.keys[0].partition("/")[0], np.zeros((21, 3))
    rows = {
        n: {"joints_mm": np.concatenate([hands.get(s, absent) for s in ("right", "left")]), "hands": list(hands)}
        for n, hands in pairs.items()
    }
    # options of the data set choose hands; one whose joints are all unknown is never asked for
    return Layout("interhand26m", truth, _rows(rows), options={"split": split, "partial": True})


def _rhd(answers: Answers, truth: Path, raw: dict[str, Any]) -> Layout:
    if (hands := raw.get("hands", "dominant")) != "dominant":
        raise ScoreError(f"hands={hands}: the protocol is about the dominant hand of each picture")
    names = [key.rpartition("/")[2].partition("#")[0] for key in answers.keys]
    inner = truth / "RHD_published_v2"
    split = answers.keys[0].partition("/")[0]
    return Layout(
        "hand3d", inner if inner.is_dir() else truth, _rows(_fields(answers, names)), options={"split": split}
    )


def _hint(answers: Answers, truth: Path, raw: dict[str, Any]) -> Layout:
    if not answers.joints_px:
        raise ScoreError("no 2D joints are predicted")
    folders = ",".join(sorted({key.partition("/")[0] for key in answers.keys}))
    return Layout("hint", truth, _rows(_fields(answers, answers.keys)), options={"folders": folders})


def _dexycb(answers: Answers, truth: Path, raw: dict[str, Any]) -> Layout:
    joints, options = _joints(answers), {"setup": raw.get("setup", "s0"), "split": raw.get("split") or "test"}
    if "sequences_per_subject" in raw:
        options["sequences"] = raw["sequences_per_subject"]
    listed = dexycb.frames(truth, dexycb.Config(**options))
    number = {
        f"{p.parent.relative_to(truth).as_posix()}/{p.stem.removeprefix('labels_')}": i for i, p in enumerate(listed)
    }
    if strange := next((key for key in answers.keys if key not in number), None):
        raise ScoreError(f"{truth}: frame {strange} is not in the folders that the split {options} counts")
    lines = (
        ",".join([str(number[key]), *(f"{v:.4f}" for v in (MM_PER_M * hand).ravel().tolist())]) + "\n"
        for key, hand in zip(answers.keys, joints, strict=True)
    )
    return Layout("dexycb", truth, lines, ".txt", options)


def _fields(answers: Answers, names: list[str]) -> dict[str, dict[str, np.ndarray]]:
    columns = {"joints_m": answers.joined("joints"), "joints_px": answers.joined("joints_px")}
    return {n: {k: v[i] for k, v in columns.items() if v is not None} for i, n in enumerate(names)}


def _rows(rows: dict[str, dict[str, np.ndarray | list[str]]]) -> Iterator[str]:
    yield "{\n"
    for i, (name, row) in enumerate(rows.items()):
        cells = (f'"{k}": {json.dumps(v) if isinstance(v, list) else numbers(v)}' for k, v in row.items())
        yield (",\n" if i else "") + f"{json.dumps(name)}: {{{', '.join(cells)}}}"
    yield "\n}\n"
