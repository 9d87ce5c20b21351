"""Hands of one's own in COCO's format, as annotation programs write them: a JSON file for each split, and the images.

    annotations/hands_train.json   hands_val.json     or any *.json whose name says train, val or test; or one for all
    train2017/, images/, ...                          where `file_name` leads from `root`, or `images`

images:       id, file_name, width, height, and `K` where it is known (3 x 3, px)
annotations:  image_id, category_id, keypoints (21 x (x, y, v), px; v: 2 visible, 1 hidden, 0 not labelled), bbox (x, y,
              width, height, px), iscrowd, and `joints_m` where they are known (21 x 3, m, camera axes)
categories:   id, name, keypoints: `name` may say the side (left_hand), `keypoints` the order (wrist, thumb_tip, ...)

Licence: yours. Joints: as the category's keypoints name them, else the canonical order; `order` says it instead.
Left hands: by the annotation's `handedness` ("left"), its category's name, or else `side`; mirrored here.
Label errors: whatever cannot be true is refused by name (`plausibility`): shares instead of pixels, an image of another
size than `width` and `height`, (0, 0) with v > 0, a K that is transposed, normalised or of another image.

Splits: by the files' names; test takes val where there is no test, one file alone serves all. By sample (images) they
cut the training file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...skeleton import LEFT_RIGHT, NUM_JOINTS, PERMUTATIONS
from ..images import DataError
from ..readers.annotation import Annotation
from ..readers.coco_index import coco_index, first_file
from ..readers.file_dataset import FileDataset, ReaderConfig
from ..readers.index import Index, IndexWriter, array

NAME_WORDS = {"train": ("train",), "val": ("val",), "test": ("test", "val")}  # in a file's name, the best first
FINGER_PATTERNS = ("thumb", "index|fore", "middle", "ring", "little|pinky|small")
LEVEL_NAMES = {"thumb": ("cmc", "mcp", "ip", "tip"), "": ("mcp", "pip", "dip", "tip")}


@dataclass
class Config(ReaderConfig):
    labels: str = ""  # the JSON file in `root`; empty: the one that is named after the split, see above
    images: str = ""  # folder that `file_name` starts from; empty: root, images/, the split's folder, ...
    box: str = "joints"  # the crop is round the labelled joints (joints) or the file's own box (label)
    side: str = "right"  # of hands that nothing says a side of
    order: str = ""  # of the joints, a key of skeleton.PERMUTATIONS; empty: as the category names them, else canonical
    sides: list[str] = field(default_factory=lambda: list(LEFT_RIGHT))
    min_joints: int = 6  # labelled ones, of a hand that is taken
    CHOICES = ReaderConfig.CHOICES | {
        "box": ("joints", "label"),
        "side": LEFT_RIGHT,
        "sides": LEFT_RIGHT,
        "order": ("", *PERMUTATIONS),
    }


class Coco(FileDataset):
    """One sample per annotation, in the order of the file."""

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        self.path = labels_path(self.root, config.labels, self.part)
        self.index = index = _index(self.root, self.path, config.cache)
        self.folder = _images(self.root, config.images, self.path, index.text("file", 0))
        named = [index.extra.get("names", {}).get(str(c), [""])[0] for c in index["category"]]
        named_side = np.asarray(index["side"])  # 0 left, 1 right, -1: look at the category
        by_name = np.array([_side(name, config.side) for name in named])
        self.left = np.where(named_side >= 0, named_side == 0, by_name == "left")
        keep = np.isin(np.where(self.left, "left", "right"), config.sides)
        few = keep & ((index["joints"][:, :, 2] > 0).sum(-1) < config.min_joints)
        keep &= ~few
        dropped = {"of crowds": index.extra["crowd"], "without keypoints": index.extra["empty"]}
        self.choose(keep, {"sample": np.asarray(index["image"])}, {**dropped, "with few joints": int(few.sum())})

    def annotation(self, index: int) -> Annotation:
        """See `FileDataset`."""
        row, at = int(self.rows[index]), self.index
        order = self._order(str(int(at["category"][row])))
        joints, box = at["joints"][row][order].astype(np.float64), at["box"][row].astype(np.float64)
        joints_m, name = at["joints_m"][row][order].astype(np.float64), at.text("file", row)
        K, side = at["K"][row].astype(np.float64), LEFT_RIGHT[int(not self.left[row])]
        label_box = self.config.box == "label" and box[2] > 0
        return Annotation(
            key=f"{name}#{int(at['id'][row])}",
            where=f"{self.path}, annotation {int(at['id'][row])} ({side} hand of {name})",
            image=self.folder / name,
            size=tuple(at["size"][row].tolist()),
            own=True,
            is_left=bool(self.left[row]),
            box=np.concatenate([box[:2], box[:2] + box[2:]]) if label_box else None,
            points=joints[:, :2],
            points_valid=joints[:, 2] > 0,
            visible=joints[:, 2] > 1,
            joints=joints_m if at["has_3d"][row] else None,
            intrinsics=K if K.any() else None,
        )

    def _order(self, category: str) -> list[int]:
        if self.config.order:
            return list(PERMUTATIONS[self.config.order])
        names = self.index.extra.get("names", {}).get(category, ["", []])[1]
        return named_order(names, f"{self.path}, category {category}") or list(range(NUM_JOINTS))


def labels_path(root: Path, named: str, part: str) -> Path:
    """The JSON file of a split.

    Raises:
        DataError: there is none, or several could be meant.
    """
    if named:
        return first_file(root, named)
    files = sorted([*root.glob("*.json"), *root.glob("annotations/*.json")])
    files = [f for f in files if f.name != "manifest.json"]
    for word in NAME_WORDS[part]:
        if len(mine := [f for f in files if word in f.stem.lower()]) == 1:
            return mine[0]
        if mine:
            raise DataError(f"coco: {root} has {_names(mine)} for {part}: name one with labels=FILE")
    if len(files) == 1:
        return files[0]
    raise DataError(f"coco: {root} and its annotations/ have {_names(files)}: name the one for {part} with labels=FILE")


def _names(files: list[Path]) -> str:
    return ", ".join(f.name for f in files[:5]) + (", ..." if len(files) > 5 else "") if files else "no JSON file"


def _images(root: Path, named: str, path: Path, first: str) -> Path:
    """The folder from which `first`, a file name of the list, is found."""
    if named:
        return root / named if (root / named).is_dir() else Path(named)
    words = [path.stem, *(w for ws in NAME_WORDS.values() for w in ws), *(f"{w}2017" for w in ("train", "val", "test"))]
    folders = [path.parent, root, *(base / w for w in ("images", *words) for base in (root, root / "images"))]
    return next((p for p in folders if (p / first).is_file()), root)


def named_order(names: list[str], where: str = "") -> list[int] | None:
    """canonical = source[order] by the names of 21 keypoints in source order; None: they do not say it.

    Understood are finger and joint (`thumb_cmc`, `index_finger_tip`) and finger and number from base to tip (`ring3`).

    Raises:
        DataError: most of them do, and some do not.
    """
    found = [_place(str(name).lower()) for name in names]
    if sorted(found) == list(range(NUM_JOINTS)):
        return [found.index(k) for k in range(NUM_JOINTS)]
    if len(set(found) - {-1}) > NUM_JOINTS // 2:
        twice = (n for n, place in zip(names, found, strict=True) if place < 0 or found.count(place) > 1)
        odd = next(twice, f"{len(names)} names")
        raise DataError(f"{where}: the keypoint {odd!r} is not understood beside the others; order= says their order")
    return None


def _place(name: str) -> int:
    """The canonical number of a joint's name, -1 where it tells none."""
    if "wrist" in name:
        return 0
    finger = next((k for k, words in enumerate(FINGER_PATTERNS) if re.search(words, name)), None)
    if finger is None:
        return -1
    levels = LEVEL_NAMES["" if finger else "thumb"]
    level = next((k for k, word in enumerate(levels) if re.search(rf"(?<![a-z]){word}(?![a-z])", name)), None)
    if level is None and (number := re.search(r"([1-4])\D*$", name)):
        level = int(number[1]) - 1
    return -1 if level is None else 1 + 4 * finger + level


def _side(name: str, otherwise: str) -> str:
    """What a category's name says of the side."""
    return next((side for side in LEFT_RIGHT if side in name.lower()), otherwise)


def _index(root: Path, path: Path, cache: str) -> Index:
    def rows_of(hand: dict[str, Any], writer: IndexWriter) -> list[dict[str, Any]]:
        for reason in ("crowd", "empty"):
            writer.extra.setdefault(reason, 0)
        row = _row(hand, path, writer)
        return [] if row is None else [row]

    return coco_index(root, cache, f"coco-{path.stem}", path, rows_of, INDEX_COLUMNS, own=True)


INDEX_COLUMNS = {"id": "<i8", "category": "<i8", "side": "i1", "joints": "<f4", "box": "<f4"}
INDEX_COLUMNS |= {"joints_m": "<f4", "has_3d": "?"}


def _row(value: dict[str, Any], path: Path, writer: IndexWriter) -> dict[str, Any] | None:
    """One annotation; None for those without a hand, which are counted."""
    where = f"{path}, annotation {value.get('id')}"
    if value.get("iscrowd"):
        writer.extra["crowd"] += 1
        return None
    keypoints = value.get("keypoints")
    if not keypoints:
        writer.extra["empty"] += 1
        return None
    if isinstance(keypoints, list) and len(keypoints) in (51, 399, 408):
        raise DataError(f"{where} has keypoints of a whole person: read it with coco_wholebody or halpe")
    joints = array(keypoints, (63,), f"{where}: keypoints").reshape(21, 3)
    side = str(value.get("handedness") or "").lower()
    if side and side not in LEFT_RIGHT:
        raise DataError(f'{where}: handedness {side!r} should be "left" or "right"')
    joints_m, category = value.get("joints_m"), value.get("category_id", 0)
    if not isinstance(category, int):
        raise DataError(f"{where}: category_id {category!r} should be a number of `categories`")
    return {
        "id": int(value["id"]),
        "image": value["image_id"],
        "category": category,
        "side": LEFT_RIGHT.index(side) if side else -1,
        "joints": joints,
        "box": array(value.get("bbox") or [0, 0, 0, 0], (4,), f"{where}: bbox"),
        "joints_m": np.zeros((21, 3)) if joints_m is None else array(joints_m, (21, 3), f"{where}: joints_m"),
        "has_3d": joints_m is not None,
    }


build = Coco.build
