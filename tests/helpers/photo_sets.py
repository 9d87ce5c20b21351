"""Tiny photo sets in each layout that `data/readers/boxed_photos.py` reads: grey pictures with a white hand's box."""

import json
from pathlib import Path

import cv2
import numpy as np

BOX = [10.0, 20.0, 50.0, 44.0]
OTHER = [60.0, 5.0, 75.0, 20.0]  # of every other photo of `frames`
SHAPE = (60, 80)


def picture(path: Path, boxes: list, shade: int = 60) -> None:
    image = np.full((*SHAPE, 3), shade, np.uint8)
    for x0, y0, x1, y1 in np.array(boxes).reshape(-1, 4).astype(int):
        image[y0:y1, x0:x1] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def points(box: list) -> list:
    """21 key points in a box, two of them in its corners."""
    low, high = np.array(box[:2]), np.array(box[2:])
    return (low + (high - low) * np.linspace(0, 1, 21)[:, None]).tolist()


def frames(root: Path, count: int = 4, drawn: bool = True) -> Path:
    """Photos of one hand with key points; `drawn`: boxes by people, and every other photo has a hand without points."""
    content = {}
    for k in range(count):
        boxes = [BOX, OTHER] if drawn and k % 2 else [BOX]
        picture(root / f"whole/{k}.png", boxes)
        hand = {"keypoints_px": points(BOX), "handedness": "left" if k % 2 else "right", "score": 0.9}
        content[f"whole/{k}.png"] = {"hands": [hand], "human_boxes": boxes if drawn else None}
    (root / "frames.json").write_text(json.dumps(content))
    return root


def crops(root: Path, count: int = 2) -> Path:
    content = {}
    for k in range(count):
        picture(root / f"crops/{k}.png", [BOX])
        content[f"crops/{k}.png"] = [{"keypoints_px": points(BOX), "handedness": "left"}]
    (root / "keypoints.json").write_text(json.dumps(content))
    return root


def coco(root: Path) -> Path:
    picture(root / "train2017/0.png", [BOX])
    picture(root / "train2017/1.png", [])
    content = {
        "categories": [{"id": 1, "name": "left_hand"}, {"id": 2, "name": "right_hand"}, {"id": 3, "name": "cat"}],
        "images": [{"id": 5 + k, "file_name": f"{k}.png", "width": SHAPE[1], "height": SHAPE[0]} for k in range(2)],
        "annotations": [
            {"image_id": 5, "category_id": 1, "bbox": [10, 20, 40, 24]},
            {"image_id": 6, "category_id": 3, "bbox": [0, 0, 9, 9]},
        ],
    }
    (root / "annotations").mkdir()
    (root / "annotations/some_train.json").write_text(json.dumps(content))
    return root


def backgrounds(root: Path, count: int = 3) -> Path:
    for k in range(count):
        picture(root / f"{k}.png", [], shade=20)
    return root
