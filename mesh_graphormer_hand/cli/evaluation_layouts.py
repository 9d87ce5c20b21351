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
    """The answers in the layout of the data set's protocol; None where it has none or these samples are not its own.

    `raw`: the data set's options. Samples of splits of one's own have no official scores.
    """
    if raw.get("split_by", "official") != "official":
        return None
    makers = {"interhand26m": _interhand26m, "rhd": _rhd, "dexycb": _dexycb, "hint": _hint}
    return makers[data](answers, truth, raw) if data in makers else None


def numbers(values: np.ndarray) -> str:
    """JSON of an array, rounded to micrometres."""
    return json.dumps(np.round(values.astype(np.float64), DIGITS).tolist(), separators=(",", ":"))


def _interhand26m(answers: Answers, truth: Path, raw: dict[str, Any]) -> Layout | None:
    joints = answers.joined("joints")
    if joints is None:
        return None
    order = np.argsort(PERMUTATIONS["interhand"])
    pairs: dict[str, dict[str, np.ndarray]] = {}
    for key, hand in zip(answers.keys, joints, strict=True):
        number, _, side = key.rpartition("#")[2].partition("_")
        pairs.setdefault(number, {})[side] = MM_PER_M * hand[order]
    split = answers.keys[0].partition("/")[0]
    absent = np.zeros((21, 3))
    rows = {
        n: {"joints_mm": np.concatenate([hands.get(s, absent) for s in ("right", "left")])}
        for n, hands in pairs.items()
    }
    return Layout("interhand26m", _annotations(truth, split), _rows(rows), options={"split": split})


def _rhd(answers: Answers, truth: Path, raw: dict[str, Any]) -> Layout | None:
    names = [key.rpartition("/")[2].partition("#")[0] for key in answers.keys]
    if len(set(names)) < len(names):
        return None  # both hands of pictures: the protocol is about the dominant one
    inner = truth / "RHD_published_v2"
    split = answers.keys[0].partition("/")[0]
    return Layout(
        "hand3d", inner if inner.is_dir() else truth, _rows(_fields(answers, names)), options={"split": split}
    )


def _hint(answers: Answers, truth: Path, raw: dict[str, Any]) -> Layout | None:
    if not answers.joints_px:
        return None
    folders = ",".join(sorted({key.partition("/")[0] for key in answers.keys}))
    return Layout("hint", truth, _rows(_fields(answers, answers.keys)), options={"folders": folders})


def _dexycb(answers: Answers, truth: Path, raw: dict[str, Any]) -> Layout | None:
    joints = answers.joined("joints")
    options = {"setup": str(raw.get("setup", "s0")), "split": str(raw.get("split", "test") or "test")}
    try:
        listed = list(dexycb.frames(truth, dexycb.Config(**options)))
    except ScoreError:
        return None  # not the whole data set: its frames have no official numbers
    number = {
        f"{p.parent.relative_to(truth).as_posix()}/{p.stem.removeprefix('labels_')}": i for i, p in enumerate(listed)
    }
    if joints is None or not set(answers.keys) <= set(number):
        return None
    lines = (
        ",".join([str(number[key]), *(f"{v:.4f}" for v in (MM_PER_M * hand).ravel().tolist())]) + "\n"
        for key, hand in zip(answers.keys, joints, strict=True)
    )
    return Layout("dexycb", truth, lines, ".txt", options)


def _fields(answers: Answers, names: list[str]) -> dict[str, dict[str, np.ndarray]]:
    columns = {"joints_m": answers.joined("joints"), "joints_px": answers.joined("joints_px")}
    return {n: {k: v[i] for k, v in columns.items() if v is not None} for i, n in enumerate(names)}


def _rows(rows: dict[str, dict[str, np.ndarray]]) -> Iterator[str]:
    yield "{\n"
    for i, (name, row) in enumerate(rows.items()):
        cells = ", ".join(f'"{key}": {numbers(values)}' for key, values in row.items())
        yield (",\n" if i else "") + f"{json.dumps(name)}: {{{cells}}}"
    yield "\n}\n"


def _annotations(truth: Path, split: str) -> Path:
    """The folder of the official annotations of a split, under the data set's."""
    found = sorted(truth.rglob(f"InterHand2.6M_{split}_data.json"))
    return found[0].parent if found else truth
