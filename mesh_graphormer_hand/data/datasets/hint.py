"""HInt (Pavlakos et al., HaMeR, CVPR 2024): hands in everyday films, each joint with whether it is hidden.

    {TRAIN,VAL,TEST}_{newdays,epick,ego4d}_img/NAME_l.{jpg,json}    {VAL,TEST}_ego4d_seq/...

Licence: annotations MIT; pictures under the terms of their sources (New Days of Hands, EPIC-KITCHENS VISOR, Ego4D: the
last ones have to be licensed and put in place by yourself). Counts: TEST 1,754 (newdays), 1,906 (epick), 1,714
(ego4d_img), 6,953 (ego4d_seq); TRAIN 9,666 + 2,780 + 11,652; VAL 550 + 625 + 514 + 2,320.
JSON: a list of one hand: keypoints 21 x 2 (px), occlusion 21 (1: hidden), bbox [[x0, y0, x1, y1]].
Joints: the canonical order. No 3D, no mesh, no camera.
Left hands: by the file's name, `_l` or `_r`; mirrored here.
Label errors: hidden joints are guesses of the annotators (HaMeR scores visible and hidden ones apart).

Splits: the folders' own; by sequence (ego4d_seq's films) or sample they cut TRAIN.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..images import DataError
from ..readers.annotation import Annotation
from ..readers.file_dataset import FileDataset, ReaderConfig
from ..readers.index import array, read_json

HINT_SOURCES = ("newdays", "epick", "ego4d", "ego4d_seq")


@dataclass
class Config(ReaderConfig):
    sources: list[str] = field(default_factory=list)  # empty: all that are there
    CHOICES = ReaderConfig.CHOICES | {"sources": HINT_SOURCES}


class Hint(FileDataset):
    """One sample per JSON file, by folder and name."""

    protocol = "hint"

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        if (self.root / "HInt_annotation_partial").is_dir():
            self.root = self.root / "HInt_annotation_partial"
        folders = self._folders(self.part.upper(), config.sources)
        self.files = [path for folder in folders for path in sorted(folder.glob("*.json"))]
        films = np.unique([f"{f.parent.name}/{_film(f.stem)}" for f in self.files], return_inverse=True)[1]
        self.choose(np.ones(len(self.files), bool), {"sample": films, "sequence": films})

    def _folders(self, part: str, wanted: list[str]) -> list[Path]:
        names = {s: f"{part}_{s}" if s.endswith("_seq") else f"{part}_{s}_img" for s in wanted or HINT_SOURCES}
        there = [self.root / name for name in names.values() if (self.root / name).is_dir()]
        if not there or (wanted and len(there) < len(wanted)):
            raise DataError(f"hint: {self.root} lacks folders like {', '.join(names.values())}")
        return there

    def protocol_options(self) -> dict[str, Any]:
        """See `HandDataset`."""
        folders = {self.files[row].parent.name for row in self.rows.tolist()}
        return super().protocol_options() | {"folders": ",".join(sorted(folders))}

    def annotation(self, index: int) -> Annotation:
        """See `FileDataset`."""
        path = self.files[int(self.rows[index])]
        content = read_json(path)
        if not isinstance(content, list) or len(content) != 1 or not isinstance(content[0], dict):
            raise DataError(f"{path} should hold a list of one hand")
        hand = content[0]
        points = array(hand.get("keypoints"), (21, 2), f"{path}: keypoints")
        hidden = array(hand.get("occlusion"), (21,), f"{path}: occlusion") > 0.5
        box = hand.get("bbox")
        return Annotation(
            key=f"{path.parent.name}/{path.stem}",
            where=str(path),
            image=path.with_suffix(".jpg"),
            is_left=_side(path) == "l",
            box=None if box is None else array(box, (4,), f"{path}: bbox"),
            points=points,
            visible=~hidden,
        )


def _side(path: Path) -> str:
    if match := re.search(r"_([lr])(?:_|$)", path.stem):
        return match[1]
    raise DataError(f"{path}: the name should say which hand it is, with _l or _r")


def _film(stem: str) -> str:
    """What a frame's name says before its number."""
    return re.sub(r"[_-]?\d+$", "", re.sub(r"_[lr](?=_|$)", "", stem)) or stem


build = Hint.build
