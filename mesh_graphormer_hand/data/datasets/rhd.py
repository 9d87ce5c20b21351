"""RHD, the Rendered Hand Pose Dataset (Zimmermann and Brox, ICCV 2017), as it is unpacked.

    training/{color,depth,mask}/00000.png ... 41257.png   anno_training.pickle     (in training/)
    evaluation/{color,depth,mask}/00000.png ... 02727.png anno_evaluation.pickle   (in evaluation/)

Licence: research only, not commercial; cite the paper. Counts: 41,258 and 2,728 pictures of 320 x 320, two hands each.
The pickle (read without executing it): number -> uv_vis 42 x (u, v, visible), xyz 42 x 3, K.
Joints: 42, left hand 0-20 and right hand 21-41 (the opposite of InterHand2.6M), each: wrist, then every finger from its
tip to its base: skeleton.PERMUTATIONS["rhd"]. Units and frame: metres, camera axes (x right, y down, z forward), px.
Mask: 0 background, 1 person, 2-17 left hand, 18-33 right hand, by finger bone and palm. Depth: metres, (256 R + G) /
65535 x 5.
Left hands: mirrored here. Both hands are labelled whether or not they can be seen, joints outside the picture, too.
`hands: dominant` takes the side with more mask pixels (the authors' rule: left only if it has strictly more).
Label errors: none known; but the authors' tables replace the wrist by the palm's centre (mean of wrist and middle MCP),
and one of their scripts forgets to.

Splits: training is training, test is evaluation; by sample they cut the training part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ...mano import pickles
from ...mano.hand import HandFileError
from ...metrics.protocols.base import ScoreError
from ...skeleton import LEFT_RIGHT, PERMUTATIONS
from ..images import DataError, read_bytes, read_raw
from ..readers.annotation import Annotation
from ..readers.file_dataset import FileDataset, ReaderConfig, log_selection
from ..readers.index import Index, IndexWriter, array, cached_index

SPLIT_FOLDERS = {"train": "training", "test": "evaluation"}
CANONICAL_FROM_RHD = np.array(PERMUTATIONS["rhd"])
MASK_RANGES = ((2, 17), (18, 33))  # mask values, first and last
DEPTH_RANGE_M = 5.0  # m, of a full depth value


@dataclass
class Config(ReaderConfig):
    hands: str = "dominant"  # of each picture: dominant | visible (sides with `min_visible` joints to be seen) | all
    min_visible: int = 6
    only_visible: bool = False  # 2D labels of visible joints only, as the authors evaluate
    depth: bool = False  # read the depth images
    CHOICES = ReaderConfig.CHOICES | {"hands": ("dominant", "visible", "all")}


class Rhd(FileDataset):
    """One sample per picture (`dominant`) or per hand."""

    protocol = "hand3d"
    splits = tuple(SPLIT_FOLDERS)
    mask = True

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        self.folder = self.root / SPLIT_FOLDERS[self.part]
        self.index = _index(self.root, self.folder, config.cache)
        self.depth = "rendered" if config.depth else ""
        pictures = np.arange(len(self.index["number"]))
        if not self.official:
            pictures = pictures[self.in_split({"sample": pictures})]
        self.sides = None
        self.rows, dropped = pictures, {}
        if config.hands != "dominant":
            seen = (np.asarray(self.index["uv_vis"])[pictures, :, 2] > 0).reshape(-1, 2, 21).sum(-1)
            keep = seen >= (config.min_visible if config.hands == "visible" else 0)
            dropped["with too few visible joints"] = int((~keep).sum())
            place, self.sides = np.nonzero(keep)
            self.rows = pictures[place]
        log_selection(f"{self.name} {self.split}", len(self.rows), dropped)

    def protocol_options(self) -> dict[str, Any]:
        """See `HandDataset`."""
        if (hands := self.config.hands) != "dominant":
            raise ScoreError(f"hands={hands}: the protocol is about the dominant hand of each picture")
        return super().protocol_options() | {"split": self.folder.name}

    def annotation(self, index: int) -> Annotation:
        """See `FileDataset`."""
        row, at = int(self.rows[index]), self.index
        number = int(at["number"][row])
        mask = self._picture("mask", number)
        side = _dominant(mask) if self.sides is None else int(self.sides[index])
        own = slice(21 * side, 21 * side + 21)
        uv_vis = at["uv_vis"][row, own][CANONICAL_FROM_RHD]
        visible = uv_vis[:, 2] > 0
        low, high = MASK_RANGES[side]
        return Annotation(
            key=f"{self.folder.name}/{number:05d}#{LEFT_RIGHT[side]}",
            where=f"{self.folder}/anno_{self.folder.name}.pickle, sample {number} ({LEFT_RIGHT[side]} hand)",
            image=self.folder / "color" / f"{number:05d}.png",
            is_left=side == 0,
            points=uv_vis[:, :2],
            points_valid=visible if self.config.only_visible else None,
            joints=at["xyz"][row, own][CANONICAL_FROM_RHD],
            visible=visible,
            intrinsics=at["K"][row],
            mask=lambda: (mask >= low) & (mask <= high),
            depth=partial(self._depth, number) if self.depth else None,
        )

    def _picture(self, kind: str, number: int) -> np.ndarray:
        image = read_raw(self.folder / kind / f"{number:05d}.png")
        return image[..., 0] if image.ndim == 3 and kind == "mask" else image

    def _depth(self, number: int) -> np.ndarray:
        image = self._picture("depth", number).astype(np.float32)  # BGR
        return (image[..., 2] * 256 + image[..., 1]) / 65535 * DEPTH_RANGE_M


def _dominant(mask: UInt8[np.ndarray, "h w"]) -> int:
    """The side (0 left, 1 right) with more pixels."""
    left, right = (int(((mask >= low) & (mask <= high)).sum()) for low, high in MASK_RANGES)
    return 0 if left > right else 1


def _index(root: Path, folder: Path, cache: str) -> Index:
    path = folder / f"anno_{folder.name}.pickle"

    def build(writer: IndexWriter) -> None:
        content = read_pickle(path)
        if not isinstance(content, dict) or not content:
            raise DataError(f"{path} should map numbers to labels")
        for number, value in sorted(content.items()):
            where = f"{path}, sample {number}"
            writer.append("number", [number], "<i4")
            for key, shape in (("uv_vis", (42, 3)), ("xyz", (42, 3)), ("K", (3, 3))):
                writer.append(key, array(_numbers(value, key, where), shape, f"{where}: {key}")[None], "<f8")

    return cached_index(root, cache, f"rhd-{folder.name}", [path], build)


def _numbers(value: object, key: str, where: str) -> np.ndarray:
    if not isinstance(value, dict) or key not in value:
        raise DataError(f"{where} has no {key}")
    try:
        return pickles.to_array(value[key], f"{where}: {key}")
    except HandFileError as error:
        raise DataError(str(error)) from None


def read_pickle(path: Path) -> object:
    """A pickle's content, nothing of which is executed.

    Raises:
        DataError: missing, cut short, or it names a program.
    """
    try:
        return pickles.load(read_bytes(path), path)
    except HandFileError as error:
        raise DataError(str(error).replace("which no hand's file needs", "which no data needs")) from None


build = Rhd.build
