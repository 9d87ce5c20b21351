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

import numpy as np

from ...mano.hand import Hand
from ..base import HandDataset
from ..images import DataError
from ..readers.annotation import Annotation
from ..readers.file_dataset import FileDataset, ReaderConfig, check_config, log_selection
from ..readers.index import Index, IndexWriter, array, cached_index, image_size, json_items

LABEL_FILES = {"train": "halpe_train_v1.json", "val": "halpe_val_v1.json", "test": "halpe_val_v1.json"}
LEFT_RIGHT = ("left", "right")
IMAGE_FOLDERS = {"train": ("hico_20160224_det/images/train2015", "train2015"), "val": ("val2017",)}
RECORDS_AT_ONCE = 1024


@dataclass
class Config(ReaderConfig):
    hands: list[int] = field(default_factory=lambda: [94, 115])  # first keypoint of the left and of the right hand
    min_joints: int = 6  # labelled ones, of a hand that is taken
    images: str = ""  # folder of the images; empty: the folders above in `root`, or in `root`/images


class Halpe(FileDataset):
    """One sample per hand, in the order of the file, left before right."""

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        self.root = Path(config.root)
        official = config.split_by == "official"
        part = self.split if official else "train"
        self.path = self.root / LABEL_FILES[part]
        if not self.path.is_file() and (self.root / "annotations" / LABEL_FILES[part]).is_file():
            self.path = self.root / "annotations" / LABEL_FILES[part]
        self.index = _index(self.root, self.path, list(config.hands), config.cache)
        self.images = _images(self.root, config.images, IMAGE_FOLDERS["train" if part == "train" else "val"])
        count = (self.index["joints"][:, :, 2] > 0).sum(-1)
        keep = count >= config.min_joints
        few = int((~keep).sum())
        if not official:
            keep &= self.in_split({"sample": np.asarray(self.index["image"])})
        self.rows = np.flatnonzero(keep)
        log_selection(f"halpe {self.split}", len(self.rows), {"with few or no joints": few})

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

    def build(writer: IndexWriter) -> None:
        files: dict[int, tuple[str, tuple[int, int]]] = {}
        rows: list[tuple] = []
        for (section, *_), value in json_items(path, 2):
            if section == "images":
                files[value["id"]] = value["file_name"], image_size(value)
            elif section == "annotations":
                where = f"{path}, annotation {value.get('id')}: keypoints"
                numbers = value.get("keypoints") or []
                if len(numbers) < 3 * (max(starts) + 21):
                    raise DataError(f"{where}: {len(numbers)} numbers, the hands end at {3 * (max(starts) + 21)}")
                joints = array(numbers, (len(numbers),), where).reshape(-1, 3)
                rows += [(value["id"], value["image_id"], side, joints[s : s + 21]) for side, s in enumerate(starts)]
        if not rows:
            raise DataError(f"{path} holds no annotation")
        for start in range(0, len(rows), RECORDS_AT_ONCE):
            part = rows[start : start + RECORDS_AT_ONCE]
            for k, (name, dtype) in enumerate((("id", "<i8"), ("image", "<i8"), ("side", "i1"), ("joints", "<f4"))):
                writer.append(name, [r[k] for r in part], dtype)
            if lost := [r for r in part if r[1] not in files]:
                raise DataError(f"{path}: annotation {lost[0][0]} belongs to image {lost[0][1]}, which is not there")
            writer.append_text("file", [files[r[1]][0] for r in part])
            writer.append("size", [files[r[1]][1] for r in part], "<i4")

    return cached_index(root, cache, path.stem, [path], build, about=str(starts))


def build(config: Config, split: str, hand: Hand, image_size: int) -> HandDataset:
    """One split.

    Raises:
        DataError: a file is missing, cut short, or has fewer keypoints.
    """
    check_config(config, split, "halpe")
    return Halpe(config, split, image_size)
