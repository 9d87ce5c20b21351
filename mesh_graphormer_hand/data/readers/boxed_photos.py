"""Whole photos and the boxes of the hands in them, from three kinds of label files in a photo set's folder:

    frames.json         {"photo.jpg": {"hands": [{"keypoints_px": 21 x [x, y], "handedness": "left"}, ...],
                        "human_boxes": [[x0, y0, x1, y1], ...] or null}, ...}: boxes that people drew are complete
    keypoints.json      {"crop.jpg": [{"keypoints_px": ..., "handedness": ...}, ...], ...}, the data set `folder`'s
    annotations/*.json  COCO's, with a category of hands or one a side: what `hand-generate --kind frames` writes, too

Pixels are measured from the photo's top-left corner. A list of key points may miss hands of its photo: such a photo
says where hands are, not where none are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from ...geometry.boxes import match
from ...skeleton import NUM_JOINTS
from ..images import DataError
from .index import array

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
            found = [read(value, folder / file, path, boxes) for file, value in _content(path).items()]
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


def round_keypoints(points: Float[np.ndarray, "21 2"], flesh: float = FLESH_MARGIN) -> Float[np.ndarray, "4"]:
    """The box round key points with flesh."""
    low, high = points.min(0), points.max(0)
    grow = flesh * (high - low).max()
    return np.concatenate([low - grow, high + grow])


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} should hold a mapping, not a {type(content).__name__}")
    return content


def _boxes(value: Any, where: str) -> Float[np.ndarray, "n 4"]:
    if not isinstance(value, list):
        raise DataError(f"{where} should be a list of boxes of four numbers")
    return array(value, (len(value), 4), where) if value else np.zeros((0, 4))


def _hands(hands: Any, where: str) -> tuple[Float[np.ndarray, "n 4"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Boxes, left hands and known sides of a list of hands with key points."""
    if not isinstance(hands, list) or not all(isinstance(hand, dict) for hand in hands):
        raise DataError(f"{where} should have a list of hands")
    points = [array(h.get("keypoints_px"), (NUM_JOINTS, 2), f"{where}: keypoints_px") for h in hands]
    boxes = np.array([round_keypoints(p) for p in points]).reshape(-1, 4)
    if not np.isfinite(boxes).all():
        raise DataError(f"{where}: keypoints_px should be finite numbers")
    sides = [h.get("handedness") for h in hands]
    return boxes, np.array([s == "left" for s in sides], bool), np.array([s in ("left", "right") for s in sides], bool)


def _frames(value: Any, photo: Path, path: Path, prefer: str) -> BoxedPhoto:
    where = f"{path}: {photo.name}"
    if not isinstance(value, dict):
        raise DataError(f"{where} should be a mapping of hands and human_boxes")
    boxes, left, known = _hands(value.get("hands", []), where)
    if (drawn := value.get("human_boxes")) is None:
        return BoxedPhoto(photo, boxes, left, known, complete=False)
    drawn = _boxes(drawn, f"{where}: human_boxes")
    if not (np.isfinite(drawn).all() and (drawn[:, 2:] > drawn[:, :2]).all()):
        raise DataError(f"{where}: human_boxes should be [x0, y0, x1, y1] with x0 < x1 and y0 < y1")
    merged = drawn.copy()
    side, side_known = np.zeros(len(drawn), bool), np.zeros(len(drawn), bool)
    for k, hand in match(torch.from_numpy(drawn), torch.from_numpy(boxes), SAME_HAND_IOU):
        side[k], side_known[k] = left[hand], known[hand]
        merged[k] = boxes[hand] if prefer == "keypoints" else drawn[k]
    return BoxedPhoto(photo, merged, side, side_known, complete=True)


def _keypoints(value: Any, photo: Path, path: Path, prefer: str) -> BoxedPhoto:
    return BoxedPhoto(photo, *_hands(value, f"{path}: {photo.name}"), complete=False)


def _coco(path: Path, folder: Path) -> list[BoxedPhoto]:
    content = _content(path)
    try:
        names = {c["id"]: c["name"].lower() for c in content["categories"]}
        hands: dict[Any, list[tuple[list[float], str]]] = {i["id"]: [] for i in content["images"]}
        for a in content["annotations"]:
            if "hand" in names[a["category_id"]]:
                hands[a["image_id"]].append((a["bbox"], names[a["category_id"]]))
        found = []
        for image in content["images"]:
            mine = hands[image["id"]]
            boxes = _boxes([box for box, _ in mine], f"{path}: {image['file_name']}: bbox")
            boxes[:, 2:] += boxes[:, :2]
            left = np.array(["left" in name for _, name in mine], bool)
            known = left | np.array(["right" in name for _, name in mine], bool)
            found.append(BoxedPhoto(_image(folder, path, image["file_name"]), boxes, left, known, complete=True))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not as COCO has it: {type(error).__name__} {error}") from None
    return found


def _image(folder: Path, labels: Path, name: str) -> Path:
    """Where an image of COCO's labels lies: in the folder, or in that of its split."""
    subset = "train2017" if "train" in labels.name else "val2017"
    return folder / subset / name if (folder / subset).is_dir() else folder / name
