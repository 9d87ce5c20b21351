"""FreiHAND (Zimmermann et al., ICCV 2019), version 2, as it is unpacked; and what hand-generate writes in its layout.

    training/rgb/00000000.jpg ... 00130239.jpg     evaluation/rgb/00000000.jpg ... 00003959.jpg     224 x 224
    training/mask/00000000.jpg ... 00032559.jpg    training_{K,xyz,verts,mano,scale}.json   evaluation_{K,scale}.json
    evaluation_{xyz,verts,mano}.json               released later (FreiHAND_pub_v2_eval.zip): in the same folder

Licence: research only, not commercial; cite the paper. Vertices and parameters fall under MANO's licence as well.
Counts: 32,560 labels; each picture in four versions, file number = label + 32,560 x version: `gs` (green screen), `hom`
(homogenised), `sample` and `auto` (recoloured); 3,960 pictures for evaluation, `gs` only.
Joints: the canonical order. Units and frame: metres, camera axes (x right, y down, z forward); K per picture, px.
Left hands: none. Vertices: MANO; tips are the vertices 744, 320, 443, 555, 672 (skeleton.FINGERTIPS["freihand"]).
`mano`: 48 axis-angles less the mean pose, 10 betas, middle MCP in px, focal length / its z (not `scale`).
Label errors: version 1 (before 22 October 2019) was corrected by up to 6 mm: do not mix its files with version 2's.

Splits: training is training, test is evaluation. Splits by sample cut the 32,560 labels: the four versions of one stay
on one side, and validation and test show `gs` only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...contracts import DEPTH_UNIT
from ..images import DataError, read_image, read_raw
from ..readers.annotation import Annotation
from ..readers.file_dataset import FileDataset, ReaderConfig, log_selection
from ..readers.fits import Fitter, labelled_hand
from ..readers.index import Index, IndexWriter, array, cached_index, json_items, require

logger = logging.getLogger(__name__)

SPLIT_FOLDERS = {"train": "training", "test": "evaluation"}
VERSIONS = ("gs", "hom", "sample", "auto")
TABLE_SHAPES = {"K": (3, 3), "xyz": (21, 3), "verts": (778, 3), "mano": (61,), "visible": (21,)}


@dataclass
class Config(ReaderConfig):
    """`scale` and crops do not apply: the pictures are crops already."""

    versions: list[str] = field(default_factory=list)  # empty: all that are there in training, gs elsewhere
    mano: str = "auto"  # whose labels: auto (see data/readers/fits.py) | none | MANO_RIGHT.pkl or its folder
    depth: bool = False  # read the depth images that hand-generate adds
    CHOICES = ReaderConfig.CHOICES | {"versions": VERSIONS}


class FreiHand(FileDataset):
    """One sample per picture, in the order of the files."""

    protocol = "freihand"
    splits = tuple(SPLIT_FOLDERS)
    mesh = True

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        self.root = find_root(self.root)
        self.folder = _folder(self.root, self.split, config.split) if self.official else "training"
        self.index = _index(self.root, self.folder, config.cache)
        self.unique = len(self.index["K"])
        self.mask = (self.root / self.folder / "mask").is_dir()
        self.depth = "rendered" if config.depth else ""
        labels = np.arange(self.unique)
        if not self.official:
            labels = labels[self.in_split({"sample": labels})]
        versions = self._versions(config.versions)
        self.rows = np.concatenate([labels + self.unique * VERSIONS.index(v) for v in versions])
        self.mano, self.hand = labelled_hand(self.root, config.mano)
        self.fitter = None if self.mano is None else Fitter(self.mano, flat=False)
        log_selection(f"{self.name} {self.split} ({', '.join(versions)})", len(self.rows), {})

    def _versions(self, wanted: list[str]) -> list[str]:
        """The versions to show: those that are there (the test files and hand-generate have one)."""
        if wanted or self.split != "train":
            return wanted or ["gs"]
        return [
            "gs",
            *(v for v in VERSIONS[1:] if self._image(self.unique * VERSIONS.index(v)).is_file()),
        ]

    def _image(self, number: int) -> Path:
        return self.root / self.folder / "rgb" / f"{number:08d}.jpg"

    def annotation(self, index: int) -> Annotation:
        """See `FileDataset`."""
        number = int(self.rows[index])
        row, image = number % self.unique, self._image(number)
        known = {t: self.index[t][row] for t in TABLE_SHAPES if t in self.index}
        mano = known.get("mano")
        pose = shape = None
        if mano is not None and self.fitter is not None:
            pose, shape = self.fitter.full_pose(mano[:48], is_left=False), mano[48:58]
        return Annotation(
            key=f"{self.folder}/{image.stem}",
            where=f"{self.root}, {self.folder} label {row}",
            image=image,
            whole=True,
            joints=known.get("xyz"),
            intrinsics=known["K"],
            vertices=known.get("verts"),
            visible=known.get("visible"),
            pose=pose,
            shape=shape,
            hand=self.hand,
            mask=partial(self._mask, row) if self.mask else None,
            depth=partial(self._depth, row) if self.depth else None,
        )

    def _mask(self, row: int) -> np.ndarray:
        return read_image(self.root / self.folder / "mask" / f"{row:08d}.jpg")[..., 0] > 127

    def _depth(self, row: int) -> np.ndarray:
        return read_raw(self.root / self.folder / "depth" / f"{row:08d}.png") * DEPTH_UNIT


def find_root(root: Path) -> Path:
    """The folder that holds the JSON files: `root`, or FreiHAND_pub_v2 in it."""
    inner = root / "FreiHAND_pub_v2"
    return inner if inner.is_dir() and not any(root.glob("*_K.json")) else root


def _folder(root: Path, part: str, asked: str) -> str:
    """Where the official split `part` lies. What hand-generate wrote is one split, training unless --split names
    another: a test that names none reads that one."""
    folder, other = SPLIT_FOLDERS[part], SPLIT_FOLDERS["train"]
    generated = (root / "manifest.json").is_file() and (root / f"{other}_K.json").is_file()
    if asked or not generated or (root / f"{folder}_K.json").is_file():
        return folder
    logger.warning("%s: generated, with no %s part: its %s part is read", root, folder, other)
    return other


def _index(root: Path, folder: str, cache: str) -> Index:
    needed = ("K",) if folder == "evaluation" else ("K", "xyz")
    there = [t for t in TABLE_SHAPES if t in needed or (root / f"{folder}_{t}.json").is_file()]
    sources = {t: root / f"{folder}_{t}.json" for t in there}
    for split, other in SPLIT_FOLDERS.items():
        if not sources["K"].is_file() and (root / f"{other}_K.json").is_file():
            raise DataError(
                f"{root} holds {other}_K.json and no {sources['K'].name}: split={split} reads it"
                + ("; split_by=sample makes train, val and test of it" if split == "train" else "")
            )

    def build(writer: IndexWriter) -> None:
        rows = {}
        for table, path in sources.items():
            rows[table] = 0
            dtype = {"verts": "<f4", "visible": "?"}.get(table, "<f8")
            for (row,), value in _rows(path):
                writer.append(table, array(value, TABLE_SHAPES[table], f"{path}, label {row}")[None], dtype)
                rows[table] += 1
        for table, count in rows.items():
            require(sources[table], count, rows["K"], f"{folder}_K.json")

    return cached_index(root, cache, f"freihand-{folder}", sources.values(), build)


def _rows(path: Path) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    for key, value in json_items(path, 1):
        if not key or not isinstance(key[0], int):
            raise DataError(f"{path} should be a list with one entry per picture")
        yield key, value


build = FreiHand.build
