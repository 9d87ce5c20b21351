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

import numpy as np

from ...mano.hand import Hand
from ..base import HandDataset
from ..images import DataError
from ..readers.annotation import Annotation
from ..readers.file_dataset import FileDataset, ReaderConfig, check_config, log_selection
from ..readers.index import Index, IndexWriter, array, cached_index, image_size, json_items
from ..readers.splits import check_choice

SUBSETS = {"train": "train", "val": "val", "test": "val"}
LEFT_RIGHT = ("left", "right")
BOX_OF = ("joints", "label")
RECORDS_AT_ONCE = 1024  # records that become rows together


@dataclass
class Config(ReaderConfig):
    sides: list[str] = field(default_factory=lambda: list(LEFT_RIGHT))
    box: str = "joints"  # the crop is round the reliable joints (joints) or the file's own box (label)
    min_joints: int = 6  # reliable ones, of a hand that is taken
    images: str = ""  # folder of the images; empty: {train,val}2017 in `root`, or in `root`/images


class CocoWholeBody(FileDataset):
    """One sample per hand, in the order of the file, left before right."""

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        self.root = Path(config.root)
        official = config.split_by == "official"
        self.subset = SUBSETS[self.split] if official else "train"
        self.path = _labels_path(self.root, self.subset)
        self.index = index = _index(self.root, self.path, config.cache)
        self.images = _images(self.root, config.images, f"{self.subset}2017")
        side, count = np.asarray(index["side"]), (index["joints"][:, :, 2] > 0).sum(-1)
        keep = np.isin(side, [LEFT_RIGHT.index(s) for s in config.sides])
        few = keep & (count < config.min_joints)
        keep &= ~few
        if not official:
            keep &= self.in_split({"sample": np.asarray(index["image"])})
        self.rows = np.flatnonzero(keep)
        dropped = {"not valid": index.extra["invalid"], "of crowds": index.extra["crowd"]}
        log_selection(f"coco_wholebody {self.split}", len(self.rows), {**dropped, "with few joints": int(few.sum())})

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


def _labels_path(root: Path, subset: str) -> Path:
    name = f"coco_wholebody_{subset}_v1.0.json"
    return next((p for p in (root / "annotations" / name, root / name) if p.is_file()), root / "annotations" / name)


def _images(root: Path, named: str, subset: str) -> Path:
    if named:
        return Path(named) / subset if (Path(named) / subset).is_dir() else Path(named)
    return root / "images" / subset if (root / "images" / subset).is_dir() else root / subset


def _index(root: Path, path: Path, cache: str) -> Index:
    def build(writer: IndexWriter) -> None:
        files: dict[int, tuple[str, tuple[int, int]]] = {}
        rows: list[tuple] = []
        writer.extra.update(invalid=0, crowd=0)
        for (section, *_), value in json_items(path, 2):
            if section == "images":
                files[value["id"]] = value["file_name"], image_size(value)
            elif section == "annotations":
                rows += _hands(value, path, writer)
        if not rows:
            raise DataError(f"{path} holds no valid hand; is it COCO-WholeBody's? Hands of your own: --data coco")
        for start in range(0, len(rows), RECORDS_AT_ONCE):
            part = rows[start : start + RECORDS_AT_ONCE]
            for k, (name, dtype) in enumerate((("id", "<i8"), ("image", "<i8"), ("side", "i1"))):
                writer.append(name, [r[k] for r in part], dtype)
            for k, name in ((3, "joints"), (4, "box")):
                writer.append(name, [r[k] for r in part], "<f4")
            if lost := [r for r in part if r[1] not in files]:
                raise DataError(f"{path}: annotation {lost[0][0]} belongs to image {lost[0][1]}, which is not there")
            writer.append_text("file", [files[r[1]][0] for r in part])
            writer.append("size", [files[r[1]][1] for r in part], "<i4")

    return cached_index(root, cache, path.stem, [path], build)


def _hands(person: dict, path: Path, writer: IndexWriter) -> list[tuple]:
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
        found.append((person["id"], person["image_id"], side, joints, box))
    return found


def build(config: Config, split: str, hand: Hand, image_size: int) -> HandDataset:
    """One split.

    Raises:
        DataError: a file is missing, cut short, or not COCO-WholeBody's.
    """
    check_config(config, split, "coco_wholebody")
    check_choice("coco_wholebody", "box", config.box, BOX_OF)
    for side in config.sides:
        check_choice("coco_wholebody", "sides", side, LEFT_RIGHT)
    return CocoWholeBody(config, split, image_size)
