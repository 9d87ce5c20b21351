"""OneHand10K (Wang et al., TCSVT 2018), as it is unpacked.

    {Train,Test}/source/1.jpg   {Train,Test}/mask/1.png   {Train,Test}/label_joint.txt

Licence: research only, on request. Counts: 10,000 and 1,703 pictures, one hand each.
label_joint.txt: `name,width,height,hands,x0,y0,...,x20,y20`, whole px; -1 for a joint that is hidden or not labelled.
Joints: the canonical order. No 3D, no mesh, no camera, no visibility beyond the -1.
Left hands: the labels do not say which hand it is; all are taken as they are.
Label errors: none known; joints are whole pixels.

Splits: Train and Test (which val means, too); by sample (pictures) they cut Train.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ..images import DataError, read_raw
from ..readers.annotation import Annotation
from ..readers.file_dataset import FileDataset, ReaderConfig

ONEHAND10K_FOLDERS = {"train": "Train", "val": "Test", "test": "Test"}
NUM_COLUMNS = 4 + 42

Config = ReaderConfig


class OneHand10K(FileDataset):
    """One sample per line of label_joint.txt."""

    mask = True

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        root = self.root / "OneHand10K" if (self.root / "OneHand10K").is_dir() else self.root
        self.folder = root / ONEHAND10K_FOLDERS[self.part]
        self.path = self.folder / "label_joint.txt"
        self.names, self.sizes, self.joints = _read(self.path)
        self.choose(np.ones(len(self.names), bool), {"sample": np.arange(len(self.names))})

    def annotation(self, index: int) -> Annotation:
        """See `FileDataset`."""
        row = int(self.rows[index])
        joints, name = self.joints[row].astype(np.float64), self.names[row]
        if not (joints >= 0).all(-1).any():
            raise DataError(f"{self.path}, line {row + 1} ({name}): no joint is labelled")
        mask = self.folder / "mask" / f"{Path(name).stem}.png"
        return Annotation(
            key=f"{self.folder.name}/{name}",
            where=f"{self.path}, line {row + 1} ({name})",
            image=self.folder / "source" / name,
            size=tuple(self.sizes[row].tolist()),
            points=joints,
            points_valid=(joints >= 0).all(-1),
            mask=partial(_mask, mask) if mask.is_file() else None,
        )


def _mask(path: Path) -> np.ndarray:
    image = read_raw(path)
    return (image if image.ndim == 2 else image[..., 0]) > 127


def _read(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise DataError(f"{path}: no such file; is this the folder of OneHand10K as it is unpacked?") from None
    names, numbers = [], []
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in line.rstrip().rstrip(",").split(",")]
        if len(cells) != NUM_COLUMNS:
            raise DataError(
                f"{path}, line {number}: {len(cells)} values, {NUM_COLUMNS} expected; is the file cut short?"
            )
        names.append(cells[0])
        try:
            numbers.append([int(float(cell)) for cell in cells[1:]])
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
    if not names:
        raise DataError(f"{path} is empty")
    table = np.array(numbers)
    return names, table[:, :2], table[:, 3:].reshape(-1, 21, 2)


build = OneHand10K.build
