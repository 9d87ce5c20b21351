"""CMU Panoptic hands (Simon et al., CVPR 2017): labelled by hand, rendered, and from the dome.

    hand_labels/{manual_train,manual_test}/NAME.{jpg,json}       1,912 and 846; MPII and NZSL pictures
    hand_labels_synth/{synth1,synth2,synth3,synth4}/NAME.{jpg,json}      6,546 + 3,243 + 2,348 + 2,124
    hand143_panopticdb/imgs/00000000.jpg, hands_v143_14817.json          14,817; 1920 x 1080

Licence: research, not commercial. Joints: the canonical order; hand_pts and joint_self are 21 x (x, y, valid), px of
the whole picture. No 3D, no mesh, no camera. `root` is the folder that holds these three, or one of them.
Crop: round hand_box_center where there is one; `scale: 2.2`, times the joints' extent, is the authors' rule.
Left hands: `is_left`, mirrored here; panopticdb has right hands only, as far as its labels say.
Label errors: panopticdb's labels are reprojected triangulations of a detector's output, not drawn by people.

Splits: train is manual_train, synth and panopticdb (see `sources`), test (and val) is manual_test; by sample they cut
the training sources. Frames of one film of manual_train (names up to the frame's number) stay together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ..images import DataError
from ..readers.annotation import Annotation
from ..readers.file_dataset import FileDataset, ReaderConfig
from ..readers.index import array, read_json

PANOPTIC_SOURCES = ("manual", "synth", "panopticdb")
SYNTH_FOLDERS = ("synth1", "synth2", "synth3", "synth4")
PANOPTICDB_FILE = "hands_v143_14817.json"


@dataclass
class Config(ReaderConfig):
    sources: list[str] = field(default_factory=list)  # of training; empty: all that are there
    CHOICES = ReaderConfig.CHOICES | {"sources": PANOPTIC_SOURCES}


class Panoptic(FileDataset):
    """One sample per hand: JSON files by name, then panopticdb in the order of its list."""

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        sources = self._sources(config.sources, training=self.part == "train")
        self.files: list[Path] = sorted(
            f for folder in sources if folder.suffix != ".json" for f in folder.glob("*.json")
        )
        self.database = next((s for s in sources if s.suffix == ".json"), None)
        self.entries = _entries(self.database) if self.database else []
        names = [_film(f.stem) for f in self.files] + [str(e.get("img_paths")) for e in self.entries]
        groups = np.unique(names, return_inverse=True)[1]
        self.choose(np.ones(len(names), bool), {"sample": groups, "sequence": groups})

    def _sources(self, wanted: list[str], training: bool) -> list[Path]:
        """Folders of JSON files, and the database's JSON file, in the order of the samples."""
        found = {
            "manual": [_inside(self.root, "hand_labels", "manual_train" if training else "manual_test")],
            "synth": [_inside(self.root, "hand_labels_synth", name) for name in SYNTH_FOLDERS],
            "panopticdb": [_inside(self.root, "hand143_panopticdb", PANOPTICDB_FILE)],
        }
        named = (wanted or PANOPTIC_SOURCES) if training else ("manual",)
        there = [path for name in named for path in found[name] if path is not None]
        if missing := [n for n in named if not any(found[n]) and (wanted or n == "manual" and not training)]:
            raise DataError(f"panoptic: {self.root} has no {missing[0]}; see data/datasets/panoptic.py for the folders")
        if not there:
            raise DataError(f"panoptic: {self.root} has none of hand_labels, hand_labels_synth, hand143_panopticdb")
        return there

    def annotation(self, index: int) -> Annotation:
        """See `FileDataset`."""
        row = int(self.rows[index])
        if row >= len(self.files):
            return self._from_database(row - len(self.files))
        path = self.files[row]
        content = read_json(path)
        if not isinstance(content, dict) or "hand_pts" not in content:
            raise DataError(f"{path} has no hand_pts")
        joints = array(content["hand_pts"], (21, 3), f"{path}: hand_pts")
        centre = content.get("hand_box_center")
        centre = None if centre is None else array(centre, (2,), f"{path}: hand_box_center")
        image, is_left = path.with_suffix(".jpg"), content.get("is_left", 0)
        if is_left not in (0, 1):
            raise DataError(f"{path}: is_left {is_left!r} should be 0 or 1")
        return Annotation(
            key=f"{path.parent.name}/{path.stem}",
            where=str(path),
            image=image
            if image.is_file()
            else path.with_suffix(".png")
            if path.with_suffix(".png").is_file()
            else image,
            is_left=bool(is_left),
            box=_box(joints, centre, str(path)),
            box_source="keypoints",
            points=joints[:, :2],
            points_valid=joints[:, 2] > 0,
        )

    def _from_database(self, number: int) -> Annotation:
        entry, where = self.entries[number], f"{self.database}, entry {number}"
        joints = array(entry.get("joint_self"), (21, 3), f"{where}: joint_self")
        name = str(entry.get("img_paths"))
        place = self.database.parent / name
        return Annotation(
            key=f"panopticdb/{Path(name).stem}#{number}",
            where=where,
            size=(_whole(entry, "img_width", where), _whole(entry, "img_height", where)),
            image=place if place.is_file() or name.startswith("imgs/") else self.database.parent / "imgs" / name,
            box=_box(joints, None, where),
            box_source="keypoints",
            points=joints[:, :2],
            points_valid=joints[:, 2] > 0,
        )


def _whole(entry: dict[str, Any], key: str, where: str) -> int:
    return int(array(entry.get(key, 0), (), f"{where}: {key}"))


def _box(joints: Float[np.ndarray, "21 3"], centre: Float[np.ndarray, "2"] | None, where: str) -> np.ndarray:
    """A square of the joints' larger side round the centre."""
    known = joints[joints[:, 2] > 0, :2]
    if not len(known):
        raise DataError(f"{where}: none of the 21 joints is labelled")
    low, high = known.min(0), known.max(0)
    middle = (low + high) / 2 if centre is None else centre
    half = max(float((high - low).max()), 1.0) / 2
    return np.concatenate([middle - half, middle + half])


def _film(stem: str) -> str:
    """The film that a frame belongs to (`ex2_2.flv_000040_l`: `ex2_2.flv`), the name itself for single pictures."""
    match = re.match(r"(.+\.(?:flv|mp4|avi|mov|mpg))_\d+", stem)
    return match[1] if match else re.sub(r"_[lr]$", "", stem)


def _inside(root: Path, folder: str, name: str) -> Path | None:
    """`name` in root/folder, or in root itself where root is that folder already."""
    return next((p for p in (root / folder / name, root / name) if p.exists()), None)


def _entries(path: Path) -> list[dict[str, Any]]:
    content = read_json(path)
    entries = content.get("root") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise DataError(f'{path} should hold {{"root": [entry, ...]}}')
    return entries


build = Panoptic.build
