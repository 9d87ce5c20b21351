"""Whole frames as COCO has them, under COCO-WholeBody's names: detectors train on them, and the data set
`coco_wholebody` reads the hands back.

    train2017/0000/00000000.jpg                   10,000 in each subfolder
    annotations/coco_wholebody_train_v1.0.json

The other splits are called `val`. Each annotation is one hand, of the category left_hand (1) or right_hand (2): `bbox`
(x, y, width, height, px: round the hand without its arm, cut off at the frame), `area` (the box's), `keypoints` (21 x
(x, y, v), px; v: 2 in sight, 1 hidden, 0 outside the frame, and then x = y = 0). Beyond COCO: `joints_m` (21 x 3, m,
camera axes), `clear` (share of the joints that nothing else hides), COCO-WholeBody's own names of box and keypoints,
and of each image `K` (3 x 3, px).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ...mano.hand import Hand
from ...skeleton import BONES, JOINT_NAMES, LEFT_RIGHT
from ...virtual.frames import MAX_HANDS, FrameHands, Frames
from .base import Block, Encoding, Layout, numbers, to_json
from .folder import SUBFOLDER

HEADER = {
    "info": {"description": "virtual frames of hands, rendered by mesh_graphormer_hand"},
    "licenses": [],
    "categories": [
        {
            "id": number,
            "name": f"{side}_hand",
            "supercategory": "hand",
            "keypoints": list(JOINT_NAMES),
            "skeleton": [[a + 1, b + 1] for a, b in BONES],
        }
        for number, side in enumerate(LEFT_RIGHT, 1)
    ],
}


@dataclass(frozen=True)
class Coco(Layout):
    """Part: the entries of both tables, one JSON text each."""

    encoding: Encoding
    subset: str  # COCO's word for the split
    span: int = 0
    about: str = (
        "`annotations/` in COCO's format, and the frames that it names: of each hand a box, its side, 21 keypoints, "
        "and beyond COCO `joints_m` (m, camera axes), `clear` (share of the joints that nothing else hides) and of "
        "each image `K`. The data set `coco_wholebody` reads the hands"
    )

    def encode(self, frames: Frames, indices: list[int]) -> Block:
        """See `Layout`."""
        files: dict[str, bytes] = {}
        rows: dict[str, list[str]] = {"images": [], "annotations": []}
        pictures = (frames.images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()[..., ::-1]
        for picture, hands, camera, index in zip(pictures, frames.hands, frames.intrinsics, indices, strict=True):
            name = f"{index // SUBFOLDER:04d}/{index:08d}.{self.encoding.suffix}"
            files[f"{self.subset}2017/{name}"] = self.encoding.encode(picture)
            height, width = picture.shape[:2]
            about = {"id": index, "file_name": name, "width": width, "height": height}
            rows["images"].append(to_json({**about, "K": numbers(camera.cpu().numpy(), "px")}))
            rows["annotations"] += [to_json(hand) for hand in annotations(hands, index, width)]
        return Block(files, to_json(rows).encode())

    def outputs(self, group: int) -> list[str]:
        """See `Layout`."""
        return [f"annotations/coco_wholebody_{self.subset}_v1.0.json"]

    def assemble(self, parts: Iterable[bytes], sinks: list[BinaryIO]) -> None:
        """See `Layout`. The short entries of images wait in memory, since parts come once."""
        (sink,), images, before = sinks, [], b""
        sink.write(to_json(HEADER).encode()[:-1] + b',\n"annotations":[\n')
        for part in parts:
            rows = json.loads(part)
            images += rows["images"]
            if rows["annotations"]:
                sink.write(before + ",\n".join(rows["annotations"]).encode())
                before = b",\n"
        sink.write(b'],\n"images":[\n' + ",\n".join(images).encode() + b"]}\n")


def annotations(hands: FrameHands, index: int, size: int) -> list[dict[str, Any]]:
    """The hands of frame `index`, which is `size` px wide, numbered from 1 (COCO's evaluation takes 0 for none)."""
    boxes, pixels, joints, clear, left, visible = (
        getattr(hands, name).cpu().numpy() for name in ("boxes", "joints_2d", "joints", "clear", "is_left", "visible")
    )
    inside = ((pixels >= 0) & (pixels < size)).all(-1)
    seen = np.where(visible, 2, np.where(inside, 1, 0))
    found = []
    for k, box in enumerate(boxes.astype(np.float64)):
        width, height = box[2:] - box[:2]
        bbox = numbers(np.array([*box[:2], width, height]), "px")
        points = np.round(np.where(seen[k, :, None] > 0, pixels[k].astype(np.float64), 0), 5).tolist()
        keypoints = [value for (x, y), v in zip(points, seen[k].tolist(), strict=True) for value in (x, y, v)]
        side = LEFT_RIGHT[0 if left[k] else 1]
        found.append(
            {
                "id": index * MAX_HANDS + k + 1,
                "image_id": index,
                "category_id": LEFT_RIGHT.index(side) + 1,
                "bbox": bbox,
                "area": round(float(width * height), 5),
                "iscrowd": 0,
                "num_keypoints": int((seen[k] > 0).sum()),
                "keypoints": keypoints,
                "joints_m": numbers(joints[k], "m"),
                "clear": round(float(clear[k]), 4),
                f"{side}hand_valid": True,
                f"{side}hand_box": bbox,
                f"{side}hand_kpts": keypoints,
            }
        )
    return found


def build(encoding: Encoding, split: str, hand: Hand) -> Coco:
    """The layout for one split."""
    return Coco(encoding, "train" if split == "train" else "val")
