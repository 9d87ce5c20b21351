"""Halpe-FullBody (Fang et al., AlphaPose, 2022): the hands among its 136 keypoints of people.

    halpe_train_v1.json   images of HICO-DET: hico_20160224_det/images/train2015/HICO_train2015_00000001.jpg
    halpe_val_v1.json     images of COCO: val2017/000000000139.jpg

Licence: research, not commercial; images under the terms of HICO-DET and COCO. Counts: about 50,000 people.
Joints: `keypoints` has 408 numbers, 136 x (x, y, v), px: 94-114 are the left hand, 115-135 the right one, each in the
canonical order; v > 0 where labelled. `hands` says where they start, for files with other ranges. No 3D, no mesh.
Left hands: the person's own left, mirrored here.
Label errors: none known; hands without a label are zeros.

Splits: train and val (which test means, too); by sample (images) they cut train.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...skeleton import LEFT_RIGHT
from ..images import DataError
from ..readers.annotation import Annotation
from ..readers.coco_index import coco_index, first_file
from ..readers.file_dataset import FileDataset, ReaderConfig
from ..readers.index import Index, IndexWriter, array

LABEL_FILES = {"train": "halpe_train_v1.json", "val": "halpe_val_v1.json", "test": "halpe_val_v1.json"}
IMAGE_FOLDERS = {"train": ("hico_20160224_det/images/train2015", "train2015"), "val": ("val2017",)}
HALPE_COLUMNS = {"id": "<i8", "side": "i1", "joints": "<f4"}


@dataclass
class Config(ReaderConfig):
    hands: list[int] = field(default_factory=lambda: [94, 115])  # first keypoint of the left and of the right hand
    min_joints: int = 6  # labelled ones, of a hand that is taken
    images: str = ""  # folder of the images; empty: the folders above in `root`, or in `root`/images


class Halpe(FileDataset):
    """One sample per hand, in the order of the file, left before right."""

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        self.path = first_file(self.root, LABEL_FILES[self.part])
        self.index = _index(self.root, self.path, list(config.hands), config.cache)
        self.images = _images(self.root, config.images, IMAGE_FOLDERS["train" if self.part == "train" else "val"])
        count = (self.index["joints"][:, :, 2] > 0).sum(-1)
        keep = count >= config.min_joints
        dropped = {"with few or no joints": int((~keep).sum())}
        self.choose(keep, {"sample": np.asarray(self.index["image"])}, dropped)

    def annotation(self, index: int) -> Annotation:
        """See `FileDataset`."""
        row, at = int(self.rows[index]), self.index
        side, person, name = LEFT_RIGHT[int(at["side"][row])], int(at["id"][row]), at.text("file", row)
        joints = at["joints"][row].astype(np.float64)
        return Annotation(
            key=f"{name}#{person}_{side}",
            where=f"{self.path}, annotation {person} ({side} hand)",
            image=self.images / name,
            size=tuple(at["size"][row].tolist()),
            is_left=side == "left",
            points=joints[:, :2],
            points_valid=joints[:, 2] > 0,
        )


def _images(root: Path, named: str, folders: tuple[str, ...]) -> Path:
    if named:
        return Path(named)
    candidates = [base / folder for folder in folders for base in (root, root / "images")]
    return next((p for p in candidates if p.is_dir()), candidates[0])


def _index(root: Path, path: Path, starts: list[int], cache: str) -> Index:
    if len(starts) != 2:
        raise DataError(f"halpe: hands={starts} should be two numbers, the first keypoint of the left and right hand")

    def rows_of(person: dict[str, Any], writer: IndexWriter) -> list[dict[str, Any]]:
        where = f"{path}, annotation {person.get('id')}: keypoints"
        numbers = person.get("keypoints") or []
        if len(numbers) < 3 * (max(starts) + 21):
            raise DataError(f"{where}: {len(numbers)} numbers, the hands end at {3 * (max(starts) + 21)}")
        joints = array(numbers, (len(numbers),), where).reshape(-1, 3)
        known = {"id": person["id"], "image": person["image_id"]}
        return [{**known, "side": side, "joints": joints[s : s + 21]} for side, s in enumerate(starts)]

    return coco_index(root, cache, path.stem, path, rows_of, HALPE_COLUMNS, about=str(starts))


build = Halpe.build
