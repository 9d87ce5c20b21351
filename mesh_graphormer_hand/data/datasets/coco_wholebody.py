"""COCO-WholeBody (Jin et al., ECCV 2020): the hands of people in COCO's 2017 images.

    annotations/coco_wholebody_{train,val}_v1.0.json    {train2017,val2017}/000000000785.jpg

Licence: annotations CC BY-NC 4.0 (research, not commercial); images under their photographers' Flickr terms. Counts:
about 130,000 boxes of hands in training and validation together.
Joints: the canonical order, per person `lefthand_kpts` and `righthand_kpts` (21 x (x, y, v), px; v > 0: reliable),
`lefthand_box` (x, y, width, height: tight round the joints), `lefthand_valid`. No 3D, no mesh.
Left hands: the person's own left, mirrored here. Crowds and hands that are not valid are left out, and counted.
Label errors: boxes are tight round the labelled joints, and so too small for hands that are partly hidden.

Splits: train is train2017, test (and val) is val2017; by sample (images) they cut train2017.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...skeleton import LEFT_RIGHT
from ..readers.annotation import Annotation
from ..readers.coco_index import coco_index, first_file
from ..readers.file_dataset import FileDataset, ReaderConfig
from ..readers.index import Index, IndexWriter, array

SUBSETS = {"train": "train", "val": "val", "test": "val"}
WHOLEBODY_COLUMNS = {"id": "<i8", "side": "i1", "joints": "<f4", "box": "<f4"}


@dataclass
class Config(ReaderConfig):
    sides: list[str] = field(default_factory=lambda: list(LEFT_RIGHT))
    box: str = "joints"  # the crop is round the reliable joints (joints) or the file's own box (label)
    min_joints: int = 6  # reliable ones, of a hand that is taken
    images: str = ""  # folder of the images; empty: {train,val}2017 in `root`, or in `root`/images
    CHOICES = ReaderConfig.CHOICES | {"box": ("joints", "label"), "sides": LEFT_RIGHT}


class CocoWholeBody(FileDataset):
    """One sample per hand, in the order of the file, left before right."""

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        self.subset = SUBSETS[self.part]
        self.path = first_file(self.root, f"coco_wholebody_{self.subset}_v1.0.json")
        self.index = index = _index(self.root, self.path, config.cache)
        self.images = _images(self.root, config.images, f"{self.subset}2017")
        side, count = np.asarray(index["side"]), (index["joints"][:, :, 2] > 0).sum(-1)
        keep = np.isin(side, [LEFT_RIGHT.index(s) for s in config.sides])
        few = keep & (count < config.min_joints)
        keep &= ~few
        dropped = {"not valid": index.extra["invalid"], "of crowds": index.extra["crowd"]}
        self.choose(keep, {"sample": np.asarray(index["image"])}, {**dropped, "with few joints": int(few.sum())})

    def annotation(self, index: int) -> Annotation:
        """See `FileDataset`."""
        row, at = int(self.rows[index]), self.index
        side, person = LEFT_RIGHT[int(at["side"][row])], int(at["id"][row])
        joints, box = at["joints"][row].astype(np.float64), at["box"][row].astype(np.float64)
        name = at.text("file", row)
        return Annotation(
            key=f"{self.subset}/{name}#{person}_{side}",
            where=f"{self.path}, annotation {person} ({side} hand)",
            image=self.images / name,
            size=tuple(at["size"][row].tolist()),
            is_left=side == "left",
            box=np.concatenate([box[:2], box[:2] + box[2:]]) if self.config.box == "label" else None,
            points=joints[:, :2],
            points_valid=joints[:, 2] > 0,
        )


def _images(root: Path, named: str, subset: str) -> Path:
    if named:
        return Path(named) / subset if (Path(named) / subset).is_dir() else Path(named)
    return root / "images" / subset if (root / "images" / subset).is_dir() else root / subset


def _index(root: Path, path: Path, cache: str) -> Index:
    def rows_of(person: dict[str, Any], writer: IndexWriter) -> list[dict[str, Any]]:
        for reason in ("invalid", "crowd"):
            writer.extra.setdefault(reason, 0)
        return _hands(person, path, writer)

    return coco_index(root, cache, path.stem, path, rows_of, WHOLEBODY_COLUMNS)


def _hands(person: dict[str, Any], path: Path, writer: IndexWriter) -> list[dict[str, Any]]:
    """The valid hands of one annotation; others are counted."""
    found = []
    for side, name in enumerate(LEFT_RIGHT):
        where = f"{path}, annotation {person.get('id')}, {name}hand"
        if person.get("iscrowd"):
            writer.extra["crowd"] += 1
            continue
        if not person.get(f"{name}hand_valid"):
            writer.extra["invalid"] += 1
            continue
        joints = array(person.get(f"{name}hand_kpts"), (63,), f"{where}_kpts").reshape(21, 3)
        box = array(person.get(f"{name}hand_box"), (4,), f"{where}_box")
        known = {"id": person["id"], "image": person["image_id"], "side": side}
        found.append({**known, "joints": joints, "box": box})
    return found


build = CocoWholeBody.build
