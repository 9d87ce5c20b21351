"""Whole photos and the boxes of the hands in them, from three kinds of label files in a photo set's folder:

    frames.json         {"photo.jpg": {"hands": [{"keypoints_px": 21 x [x, y], "handedness": "left"}, ...],
                        "human_boxes": [[x0, y0, x1, y1], ...] or null}, ...}: boxes that people drew are complete
    keypoints.json      {"crop.jpg": [{"keypoints_px": ..., "handedness": ...}, ...], ...}, the data set `folder`'s
    annotations/*.json  COCO's, with a category of hands or one a side: what `hand-generate --kind frames` writes, too

Pixels are measured from the photo's top-left corner. A list of key points may miss hands of its photo: such a photo
says where hands are, not where none are. Labels that cannot be true are refused by name (`plausibility`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from ...geometry.boxes import match
from ...skeleton import LEFT_RIGHT, NUM_JOINTS
from ..images import DataError, read_image
from . import plausibility
from .index import array, image_size

FLESH_MARGIN = 0.08  # of the key points' longer extent, round them: flesh (boxes that people draw have 0.05 to 0.16)
SAME_HAND_IOU = 0.2  # IoU of a drawn box and a box round key points from which they are one hand's
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
BOX_SOURCES = ("keypoints", "drawn")


@dataclass(frozen=True, eq=False)
class BoxedPhoto:
    """What is known about a photo's n hands."""

    path: Path
    boxes: Float[np.ndarray, "n 4"]  # px of the photo, x0, y0, x1, y1
    left: Bool[np.ndarray, "n"]  # the person's own left hand
    left_valid: Bool[np.ndarray, "n"]  # whether the side is known
    complete: bool  # whether all hands of the photo are there
    size: tuple[int, int] = (0, 0)  # width and height by its labels, px; 0: they do not say
    unmatched: Float[np.ndarray, "m 4"] | None = None  # px, round key points that no drawn box holds; only checked

    def read(self) -> UInt8[np.ndarray, "h w 3"]:
        """The photo, RGB.

        Raises:
            DataError: it cannot be read, it has another size than its labels name, or a hand lies outside of it.
        """
        image = read_image(self.path)
        size = image.shape[1], image.shape[0]
        if all(self.size) and (problem := plausibility.of_size(self.size, size)):
            raise DataError(f"{self.path}: {problem.message}")
        others = [] if self.unmatched is None else self.unmatched
        for number, box in enumerate([*self.boxes, *others]):
            if problem := plausibility.of_box_in(box, size):
                raise DataError(f"{self.path}, hand {number}: {problem.message}")
        return image


def read_set(folder: Path, boxes: str = "keypoints") -> list[BoxedPhoto]:
    """The photos of a folder in the order of its label file. `boxes`, of a hand that has both: round the key points
    with flesh (keypoints), or as people drew it (drawn).

    Raises:
        DataError: no label file, or a mistake in it, named by file and photo.
    """
    if boxes not in BOX_SOURCES:
        raise DataError(f"boxes {boxes!r} should be one of {', '.join(BOX_SOURCES)}")
    for name, read in (("frames.json", _frames), ("keypoints.json", _keypoints)):
        if (path := folder / name).is_file():
            found = [read(value, folder / file, path, boxes) for file, value in labels_by_photo(path).items()]
            break
    else:
        files = sorted((folder / "annotations").glob("*.json"))
        if not files:
            raise DataError(f"{folder} has none of frames.json, keypoints.json, annotations/*.json")
        found = [photo for path in files for photo in _coco(path, folder)]
    if not found:
        raise DataError(f"{folder}: its labels name no photo")
    if not found[0].path.is_file():
        raise DataError(f"{folder}: its labels name {found[0].path}, which is not there")
    return found


def pictures(folder: Path) -> list[Path]:
    """The image files of a folder without labels, by name.

    Raises:
        DataError: it holds none.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES)
    if not found:
        raise DataError(f"{folder} holds no picture ({', '.join(PHOTO_SUFFIXES)})")
    return found


def without_hands(path: Path) -> BoxedPhoto:
    """A photo that shows no hand."""
    nobody = np.zeros(0, bool)
    return BoxedPhoto(path, np.zeros((0, 4)), nobody, nobody, complete=True)


def round_keypoints(points: Float[np.ndarray, "21 2"], flesh: float = FLESH_MARGIN) -> Float[np.ndarray, "4"]:
    """The box round key points with flesh."""
    low, high = points.min(0), points.max(0)
    grow = flesh * (high - low).max()
    return np.concatenate([low - grow, high + grow])


def labels_by_photo(path: Path) -> dict[str, Any]:
    """The mapping in a label file.

    Raises:
        DataError: no such file, no JSON, or no mapping.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} should hold a mapping, not a {type(content).__name__}")
    return content


def corner_boxes(value: Any, where: str) -> Float[np.ndarray, "n 4"]:
    """Boxes by two corners, px.

    Raises:
        DataError: they are none, or they cannot be true.
    """
    if not isinstance(value, list):
        raise DataError(f"{where} should be a list of boxes of four numbers")
    boxes = array(value, (len(value), 4), where) if value else np.zeros((0, 4))
    if not (np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()):
        raise DataError(f"{where} should be [x0, y0, x1, y1] with x0 < x1 and y0 < y1")
    for box in boxes:
        if problem := plausibility.of_box(box):
            raise DataError(f"{where}: {problem.message}")
    return boxes


def keypoints_of(hands: Any, where: str) -> list[Float[np.ndarray, "21 2"]]:
    """Key points of each hand of a list, px.

    Raises:
        DataError: they are none, or they cannot be true.
    """
    if not isinstance(hands, list) or not all(isinstance(hand, dict) for hand in hands):
        raise DataError(f"{where} should have a list of hands")
    found = []
    for number, hand in enumerate(hands):
        points = array(hand.get("keypoints_px"), (NUM_JOINTS, 2), f"{where}, hand {number}: keypoints_px")
        if not np.isfinite(points).all():
            raise DataError(f"{where}, hand {number}: keypoints_px should be finite numbers")
        if problem := plausibility.of_points(points):
            raise DataError(f"{where}, hand {number}: {problem.message}")
        found.append(points)
    return found


def _hands(hands: Any, where: str) -> tuple[Float[np.ndarray, "n 4"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Boxes, left hands and known sides of a list of hands with key points."""
    boxes = np.array([round_keypoints(p) for p in keypoints_of(hands, where)]).reshape(-1, 4)
    sides = [hand.get("handedness") for hand in hands]
    if odd := [side for side in sides if side not in (*LEFT_RIGHT, None)]:
        raise DataError(f'{where}: handedness {odd[0]!r} should be "left" or "right"')
    return boxes, np.array([s == "left" for s in sides], bool), np.array([s is not None for s in sides], bool)


def _frames(value: Any, photo: Path, path: Path, prefer: str) -> BoxedPhoto:
    where = f"{path}: {photo.name}"
    boxes, left, known = _hands(frame_entry(value, where).get("hands", []), where)
    if (drawn := value.get("human_boxes")) is None:
        return BoxedPhoto(photo, boxes, left, known, complete=False)
    drawn = corner_boxes(drawn, f"{where}: human_boxes")
    merged, matched = drawn.copy(), np.zeros(len(boxes), bool)
    side, side_known = np.zeros(len(drawn), bool), np.zeros(len(drawn), bool)
    for k, hand in match(torch.from_numpy(drawn), torch.from_numpy(boxes), SAME_HAND_IOU):
        side[k], side_known[k], matched[hand] = left[hand], known[hand], True
        merged[k] = boxes[hand] if prefer == "keypoints" else drawn[k]
    return BoxedPhoto(photo, merged, side, side_known, complete=True, unmatched=boxes[~matched])


def frame_entry(value: Any, where: str) -> dict[str, Any]:
    """The entry of one photo in frames.json.

    Raises:
        DataError: it is no mapping, or one of neither hands nor boxes.
    """
    if not isinstance(value, dict) or not {"hands", "human_boxes"} & set(value):
        raise DataError(f"{where} should be a mapping of hands and human_boxes")
    return value


def _keypoints(value: Any, photo: Path, path: Path, prefer: str) -> BoxedPhoto:
    return BoxedPhoto(photo, *_hands(value, f"{path}: {photo.name}"), complete=False)


def _coco(path: Path, folder: Path) -> list[BoxedPhoto]:
    content = labels_by_photo(path)
    try:
        names = {c["id"]: c["name"].lower() for c in content["categories"]}
        hands: dict[Any, list[tuple[list[float], str]]] = {i["id"]: [] for i in content["images"]}
        for a in content["annotations"]:
            if "hand" in names[a["category_id"]]:
                hands[a["image_id"]].append((a["bbox"], names[a["category_id"]]))
        found = []
        for image in content["images"]:
            mine, where = hands[image["id"]], f"{path}: {image['file_name']}: bbox"
            extents = array([box for box, _ in mine], (len(mine), 4), where) if mine else np.zeros((0, 4))
            if not (np.isfinite(extents).all() and (extents[:, 2:] > 0).all()):
                raise DataError(f"{where} should be [x, y, width, height] with a width and a height above 0")
            corners = np.concatenate([extents[:, :2], extents[:, :2] + extents[:, 2:]], 1)
            boxes = corner_boxes(corners.tolist(), where)
            left = np.array(["left" in name for _, name in mine], bool)
            known = left | np.array(["right" in name for _, name in mine], bool)
            place, size = _image(folder, path, image["file_name"]), image_size(image)
            found.append(BoxedPhoto(place, boxes, left, known, complete=True, size=size))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not as COCO has it: {type(error).__name__} {error}") from None
    return found


def _image(folder: Path, labels: Path, name: str) -> Path:
    """Where an image of COCO's labels lies: in the folder, or in that of its split."""
    subset = "train2017" if "train" in labels.name else "val2017"
    return folder / subset / name if (folder / subset).is_dir() else folder / name
