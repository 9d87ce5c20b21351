"""Your own photos: a folder of images and one JSON file of what is known about the hands in them.

    {"kitchen/cup.jpg": [{"keypoints_px": [[x, y], ...], "handedness": "left"}, ...], ...}

Each image has a list of hands; of each hand, all keys but one of the first three are optional:

    keypoints_px  21 x [x, y], pixels of the photo from its top-left corner; null for a joint that is not known
    joints_m      21 x [x, y, z], metres in the camera's axes (x right, y down, z forward)
    box           [x0, y0, x1, y1], pixels of the photo
    K             3 x 3, the camera's intrinsics in pixels of the photo
    handedness    "right" or "left", the person's own hand ("right" when it is missing); left hands are mirrored
    score         how sure the source is, 0 to 1

Labels that cannot be true are refused with their likely cause; options say how a file of another kind is to be read
(`units`, `axes`, `origin`, `coordinates`, `K_layout`, `missing`, `labelled_size`: see `conventions.Conventions`).

Splits: all of the file for any split (give training and test a file each), or, with split_by=sample or
sequence, 70/15/15 of its photos or of the folders that they lie in.

docs/your_own_photos.md shows it step by step.
"""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from ...config import nearest
from ...contracts import HandBatch
from ...geometry.cameras import perspective_project
from ...skeleton import NUM_JOINTS, PERMUTATIONS
from ..images import DataError, cut_crop, read_image, to_tensor
from ..readers import conventions, plausibility
from ..readers.annotation import Annotation, placement, to_sample
from ..readers.conventions import Conventions
from ..readers.file_dataset import ON_BROKEN, FileDataset
from ..readers.splits import SplitConfig, in_split

HAND_KEYS = ("keypoints_px", "joints_m", "box", "K", "handedness", "score")
CROP_RULES = ("auto", "box", "whole")
# label -> its shape, whether parts of it may be null, what to say it should be
ARRAY_SHAPES = {
    "keypoints_px": ((NUM_JOINTS, 2), True, "21 pairs [x, y] in pixels, null for a joint that is not known"),
    "joints_m": ((NUM_JOINTS, 3), True, "21 triples [x, y, z] in metres, null for a joint that is not known"),
    "box": ((4,), False, "[x0, y0, x1, y1] in pixels"),
    "K": ((3, 3), False, "3 rows of 3 numbers, pixels"),
}


@dataclass
class Config(SplitConfig, Conventions):
    # split_by: official: all of the file | sample: by photo | sequence: by the folder that a photo lies in
    root: str = ""  # the folder
    labels: str = "keypoints.json"  # the JSON file in it
    sets: dict[str, float] = field(default_factory=dict)  # folders in `root`, each with its own `labels` -> how often
    #   its hands are shown an epoch (0.5: every second one; 2: twice); empty: `root` itself
    crop: str = (
        "auto"  # box: a square around the hand | whole: all of the image | auto: whole for a square image of one
    )
    #   hand without a box, else box
    scale: float = 0.0  # side of the square over the longer side of the box around the keypoints; 0: the model's
    box_scale: float = 0.0  # the same for a box of the JSON file's own
    order: str = "canonical"  # of the joints in the file, a key of skeleton.PERMUTATIONS
    min_score: float = 0.0  # hands with a lower score are left out
    files: str = "*"  # only images whose names match this pattern, such as crop_*
    on_broken: str = "stop"  # stop: a broken image is an error | skip: it is left out (training: replaced) and logged
    CHOICES = (
        SplitConfig.CHOICES
        | Conventions.CHOICES
        | {"on_broken": ON_BROKEN, "crop": CROP_RULES, "order": tuple(PERMUTATIONS)}
    )


@dataclass(frozen=True)
class Entry:
    """One hand of one image, as the JSON file has it, in canonical order; NaN where it says null."""

    file: str
    index: int  # of the hand in its image
    alone: bool  # the image's only hand
    is_left: bool
    keypoints_px: np.ndarray | None
    joints_m: np.ndarray | None
    box: np.ndarray | None
    intrinsics: np.ndarray | None
    score: float | None
    relative: bool = False  # joints_m are relative to the wrist, and where it stands is not known


class FolderDataset(FileDataset):
    """The hands of the folder, in the order of the JSON file."""

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        conventions.check(config, "folder")
        if wrong := [name for name, times in config.sets.items() if not 0 <= times < float("inf")]:
            raise DataError(f"data set folder: sets.{wrong[0]} should be 0 or more, not {config.sets[wrong[0]]}")
        path = self.root / config.labels if not config.sets else self.root
        # before any hand is left out, so that `files` and `min_score` move no photo to another side
        entries = own_part(_read_sets(config), config, self.split, path)
        self.entries = [entry for entry in entries if fnmatch.fnmatchcase(entry.file, config.files)]
        if not self.entries:
            raise DataError(f"{path}: no image matches files={config.files!r}")
        self.entries = [e for e in self.entries if e.score is None or e.score >= config.min_score]
        if not self.entries:
            raise DataError(f"{path} holds no hand with a score of {config.min_score} or more")
        for file in dict.fromkeys(e.file for e in self.entries):
            if not (self.root / file).is_file():
                raise DataError(f"{path}: {file!r}: there is no such image in {self.root}")
        self.rows = np.arange(len(self.entries))
        self._read = lru_cache(maxsize=4)(read_image)  # neighbours in a list often share their image

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_read"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._read = lru_cache(maxsize=4)(read_image)

    def sample(self, index: int) -> HandBatch:
        """One hand, in its own crop.

        Raises:
            DataError: an image that cannot be read, named with the number of its hand.
        """
        entry = self.entries[index]
        try:
            photo = self._read(self.root / entry.file)
        except DataError as error:
            raise DataError(f"{error} (hand {entry.index} of {entry.file!r} in {self.config.labels})") from None
        height, width = photo.shape[:2]
        annotation = self._annotation(self._in_pixels(entry, (width, height)), square=width == height)
        own = self.config.scale if annotation.box is None else self.config.box_scale
        margin = own or self.crop.over("keypoints" if annotation.box is None else "box")
        place = placement(annotation, width, height, margin, self.image_size)
        inputs, targets = to_sample(annotation, place, self.image_size, mesh=False)
        image = to_tensor(cut_crop(photo, place, self.image_size))
        return HandBatch(replace(inputs, image=image), targets, [annotation.key], place)

    def _in_pixels(self, entry: Entry, size: tuple[int, int]) -> Entry:
        """The hand in pixels of its photo of `size`. Raises DataError: it cannot be a hand in it."""
        box = conventions.in_pixels(None if entry.box is None else entry.box.reshape(2, 2), self.config, size)
        entry = replace(
            entry,
            keypoints_px=conventions.in_pixels(entry.keypoints_px, self.config, size),
            box=None if box is None else box.reshape(4),
            intrinsics=conventions.camera_in_pixels(entry.intrinsics, self.config, size),
        )
        given = {"joints": entry.joints_m, "K": entry.intrinsics, "box": entry.box, "relative": entry.relative}
        problem = plausibility.find(points=_points(entry), **given, size=size, own=True)
        conventions.refuse(problem, f"{self.root / self.config.labels}: {entry.file!r}, hand {entry.index}")
        return entry

    def _annotation(self, entry: Entry, square: bool) -> Annotation:
        """The hand as all readers have it; `square`: its photo is."""
        points, joints, crop = _points(entry), entry.joints_m, self.config.crop
        if crop == "auto":
            crop = "whole" if entry.box is None and entry.alone and square else "box"
        return Annotation(
            key=f"{entry.file}#{entry.index}",
            where=f"hand {entry.index} of {entry.file!r}",
            image=self.root / entry.file,
            own=True,
            is_left=entry.is_left,
            box=entry.box,
            whole=crop == "whole" or (entry.box is None and points is None),
            points=points,
            points_valid=None if points is None else np.isfinite(points).all(-1),
            joints=joints,
            joints_valid=None if joints is None else np.isfinite(joints).all(-1),
            relative=entry.relative,
            intrinsics=entry.intrinsics,
        )


build = FolderDataset.build


def own_part(entries: list[Entry], config: SplitConfig, part: str, path: Path) -> list[Entry]:
    """The hands of one part: those of a photo, or of all photos of a folder, stay together.

    Raises:
        DataError: the part is empty.
    """
    if config.split_by == "official":
        return entries
    files = np.array([entry.file for entry in entries])
    folders = np.array([str(PurePosixPath(file).parent) for file in files])
    mine = in_split({"sample": files, "sequence": folders}, config, part, "folder")
    if not mine.any():
        there = f"{len(set(files))} photos in {len(set(folders))} folders"
        raise DataError(
            f"{path}: split_by={config.split_by} leaves nothing for {part}: there are {there}; split_by=sample divides "
            "photos, sequence folders, and each part with a share takes one at least"
        )
    return [entry for entry, own in zip(entries, mine.tolist(), strict=True) if own]


def _read_sets(config: Config) -> list[Entry]:
    """The hands of `root`, or of each of its `sets` as often as it says, evenly dealt."""
    root = Path(config.root)
    if not config.sets:
        return read_labels(root / config.labels, config.order, config)
    entries = []
    for name, times in config.sets.items():
        for k, entry in enumerate(read_labels(root / name / config.labels, config.order, config)):
            count = int((k + 1) * times + 1e-9) - int(k * times + 1e-9)
            entries += [replace(entry, file=f"{name}/{entry.file}")] * count
    return entries


def read_labels(path: Path, order: str = "canonical", written: Conventions | None = None) -> list[Entry]:
    """Every hand of a JSON file that is `written` so, joints in metres; what is in pixels needs the photo for that.

    Raises:
        DataError: the file is missing or no JSON, or a hand in it has a mistake; names file, image, hand and key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = "give `root` the folder of your images" if path.parent.is_dir() else f"there is no folder {path.parent}"
        raise DataError(f"{path}: no such file; {hint}, `labels` the name of its JSON file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    except (RecursionError, ValueError) as error:  # most name line and column
        raise DataError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f'{path} should hold {{"image.jpg": [hand, ...], ...}}, not a {type(content).__name__}')
    if {"images", "annotations"} <= content.keys():
        raise DataError(f"{path} is in COCO's format: read it with --data coco labels={path.name}")
    entries, written = [], written or Conventions()
    for file, hands in content.items():
        if not isinstance(hands, list):
            raise DataError(f"{path}: {file!r} should have a list of hands, not a {type(hands).__name__}")
        for index, hand in enumerate(hands):
            where = f"{path}: {file!r}, hand {index}"
            entry = _converted(_entry(hand, file, index, len(hands) == 1, order, where), written)
            entries.append(entry)
            conventions.refuse(_problem(entry, written), where)
    if not entries:
        raise DataError(f"{path} holds no hand")
    return entries


def _entry(hand: Any, file: str, index: int, alone: bool, order: str, where: str) -> Entry:
    if not isinstance(hand, dict):
        raise DataError(f"{where} should be a mapping with some of {', '.join(HAND_KEYS)}, not a {type(hand).__name__}")
    for key in hand:
        if key not in HAND_KEYS:
            raise DataError(f"{where}: unknown key {key!r}{nearest(key, HAND_KEYS)} (known: {', '.join(HAND_KEYS)})")
    arrays = {key: _array(hand.get(key), key, where) for key in ARRAY_SHAPES}
    if all(arrays[key] is None for key in ("keypoints_px", "joints_m", "box")):
        raise DataError(f"{where} has none of keypoints_px, joints_m, box; nothing is known about this hand")
    for key in ("keypoints_px", "joints_m"):
        if arrays[key] is not None:
            arrays[key] = arrays[key][list(PERMUTATIONS[order])]
    box, side, score = arrays["box"], hand.get("handedness") or "right", hand.get("score")
    if box is not None and not (box[2:] > box[:2]).all():
        raise DataError(f"{where}: box {box.tolist()} is empty; it should be [x0, y0, x1, y1] with x0 < x1 and y0 < y1")
    if side not in ("right", "left"):
        raise DataError(f'{where}: handedness {side!r} should be "right" or "left"')
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise DataError(f"{where}: score {score!r} should be a number")
    known = (arrays["keypoints_px"], arrays["joints_m"], box, arrays["K"])
    return Entry(file, index, alone, side == "left", *known, None if score is None else float(score))


def _converted(entry: Entry, written: Conventions) -> Entry:
    """The hand with its joints in metres and null for those that are missing."""
    points, joints, K = entry.keypoints_px, entry.joints_m, entry.intrinsics
    return replace(
        entry,
        keypoints_px=None if points is None else conventions.known(points, written),
        joints_m=None if joints is None else conventions.in_metres(conventions.known(joints, written), written),
        intrinsics=None if K is None else conventions.upright(K, written),
        relative=written.origin == "wrist",
    )


def _problem(entry: Entry, written: Conventions) -> plausibility.Problem | None:
    """What cannot be true about a hand, whatever its photo looks like."""
    flat = written.coordinates == "pixels"
    return plausibility.find(
        points=entry.keypoints_px if flat else None,
        joints=entry.joints_m,
        K=entry.intrinsics if written.K_layout != "normalised" else None,
        box=entry.box if flat else None,
        relative=entry.relative,
    )


def _array(value: Any, key: str, where: str) -> np.ndarray | None:
    """A label as float32, NaN where it is null."""
    if value is None:
        return None
    shape, nullable, wanted = ARRAY_SHAPES[key]
    if nullable and isinstance(value, list):
        if not any(row is not None for row in value):
            return None
        value = [
            [float("inf")] * shape[1] if row is None else row for row in value
        ]  # not the same as a NaN in the file
    try:
        array = np.array(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise DataError(f"{where}: {key} should be {wanted}") from None
    if array.shape != shape:
        raise DataError(f"{where}: {key} has shape {list(array.shape)}, it should be {wanted}")
    unknown = np.isinf(array).all(-1, keepdims=True) if nullable else np.zeros((1,), bool)
    if not np.isfinite(np.where(unknown, 0, array)).all():
        place = int(np.argwhere(~np.isfinite(np.where(unknown, 0, array)))[0][0])
        raise DataError(f"{where}: {key} has NaN or infinity at position {place}; write null for what is not known")
    return np.where(unknown, np.nan, array)


def _points(entry: Entry) -> Float[np.ndarray, "21 2"] | None:
    """The 21 keypoints in the photo, NaN where unknown: as given, or the projected 3D joints."""
    if entry.keypoints_px is not None:
        return entry.keypoints_px
    if entry.joints_m is not None and entry.intrinsics is not None and not entry.relative:
        return perspective_project(torch.from_numpy(entry.joints_m), torch.from_numpy(entry.intrinsics)).numpy()
    return None
