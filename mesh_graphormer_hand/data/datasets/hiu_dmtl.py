"""HIU-DMTL (Zhang et al., ICCV 2021), as it is unpacked: one flat folder.

    abcdefghij.jpg (or .png)   abcdefghij.json   abcdefghij_mask.png (or .jpg)

Licence: none is stated; by agreement with the authors. Counts: about 40,000 pictures; no lists of splits come with it.
JSON: pts2d_2hand 42 x 2 (px), pts3d_2hand 42 x 3 (some pictures; its frame and unit are not documented, so it is not
used), pts3d_w_2hand, hand_type and hand_type_valid (right, left). No camera, no mesh here.
Joints: right hand 0-20, left hand 21-41, each from base to tip (canonical): as others draw them, NOT CERTAIN; look at a
few pictures of yours first. Rows of a hand that is not there hold garbage such as (2.0, -0.67): such rows are unknown.
Left hands: mirrored here.
Label errors: users report sides that are inconsistent in some pictures.

Splits: by sample, 70/15/15 by `split_seed`, since there are no official ones (many split 80/10/10: set `shares`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..images import DataError, read_raw
from ..readers.annotation import Annotation
from ..readers.file_dataset import FileDataset, ReaderConfig
from ..readers.index import Index, IndexWriter, array, cached_index, read_json

RIGHT_LEFT = ("right", "left")
ABSENT_ROW_X = 2.0  # x of rows that are not there
HIU_SUFFIXES = (".jpg", ".png", ".jpeg")


@dataclass
class Config(ReaderConfig):
    split_by: str = "sample"


class HiuDmtl(FileDataset):
    """One sample per hand, by file name, right before left."""

    mask = True

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        if self.official:
            raise DataError("hiu_dmtl has no official splits: leave split_by at `sample`")
        self.index = _index(self.root, config.cache)
        pictures = np.asarray(self.index["picture"])
        self.choose(np.ones(len(pictures), bool), {"sample": pictures})

    def annotation(self, index: int) -> Annotation:
        """See `FileDataset`."""
        row, at = int(self.rows[index]), self.index
        stem, side = at.text("stem", row), RIGHT_LEFT[int(at["side"][row])]
        path = self.root / f"{stem}.json"
        if stem in at.extra["broken"]:
            raise DataError(at.extra["broken"][stem])
        points = at["points"][row].astype(np.float64)
        mask = _first(self.root, f"{stem}_mask")
        return Annotation(
            key=f"{stem}#{side}",
            where=f"{path} ({side} hand)",
            image=_first(self.root, stem) or path.with_suffix(HIU_SUFFIXES[0]),
            is_left=side == "left",
            points=points,
            points_valid=points[:, 0] != ABSENT_ROW_X,
            mask=None if mask is None else partial(_mask, mask),
        )


def _first(root: Path, stem: str) -> Path | None:
    return next((root / f"{stem}{s}" for s in HIU_SUFFIXES if (root / f"{stem}{s}").is_file()), None)


def _mask(path: Path) -> np.ndarray:
    image = read_raw(path)
    return (image if image.ndim == 2 else image.max(-1)) > 127


def _index(root: Path, cache: str) -> Index:
    paths = sorted(root.glob("*.json"))
    if not paths:
        raise DataError(f"{root} holds no JSON files; is it HIU-DMTL's folder (to_cv_community)?")

    def build(writer: IndexWriter) -> None:
        writer.extra["broken"] = {}
        for number, path in enumerate(paths):
            try:
                hands = _hands(path)
            except DataError as error:  # raised again when the sample is loaded
                writer.extra["broken"][path.stem] = str(error)
                hands = [(0, np.full((21, 2), ABSENT_ROW_X))]
            for side, points in hands:
                writer.append("picture", [number], "<i4")
                writer.append("side", [side], "i1")
                writer.append("points", points[None], "<f4")
                writer.append_text("stem", [path.stem])

    newest = max(p.stat().st_mtime_ns for p in paths)
    return cached_index(root, cache, "hiu_dmtl", [], build, about=f"{len(paths)} files, {newest}")


def _hands(path: Path) -> list[tuple[int, np.ndarray]]:
    content = read_json(path)
    if not isinstance(content, dict) or "pts2d_2hand" not in content:
        raise DataError(f"{path} has no pts2d_2hand")
    points = array(content["pts2d_2hand"], (42, 2), f"{path}: pts2d_2hand").reshape(2, 21, 2)
    there = array(content.get("hand_type"), (2,), f"{path}: hand_type") > 0
    if not there.any():
        raise DataError(f"{path}: hand_type names no hand")
    return [(side, points[side]) for side in range(2) if there[side]]


build = HiuDmtl.build
