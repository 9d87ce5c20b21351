"""InterHand2.6M (Moon et al., ECCV 2020), version 1.0, 5 or 30 frames a second, as it is unpacked.

    images/{train,val,test}/Capture0/SEQUENCE/cam400026/image69148.jpg                    512 high, 334 wide
    annotations/SPLIT/InterHand2.6M_SPLIT_{data,camera,joint_3d,MANO_NeuralAnnot}.json    the last one is optional

Licence: CC BY-NC 4.0. Counts (30 frames a second): 1,361,062 pictures to train on (687,548 of one hand, 673,514 of
two), 380,125 to validate, 849,160 to test; 5 frames a second: about a sixth of the moments. Captures are numbered anew
in each split: Capture0 of two splits is not the same.
Joints: 42, right hand 0-20 and left hand 21-41, each from tip to base, wrist last: skeleton.PERMUTATIONS["interhand"].
Units and frame: world, mm; X_camera = R (X_world - campos); pixels by focal lengths and principal point, no distortion.
A joint that is not valid has a dummy coordinate (1.0). MANO fits: per moment and hand, axis-angles less the mean pose,
translation in metres, world.
Left hands: mirrored here, as everywhere. Pictures of two hands give two samples, each with a crop of its own.
Label errors: joints are partly machine-made (`ids` takes a list of human-labelled annotation ids, as InterWild has);
some pictures show two hands and label one; some moments have valid joints and no fit.

Splits: official ones; by sample (moments: all cameras and both hands stay together) or by sequence (a capture's
recording) they cut the training part.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from ...skeleton import PERMUTATIONS
from ..images import DataError
from ..readers.annotation import Annotation, pinhole, project
from ..readers.file_dataset import FileDataset, ReaderConfig, log_selection
from ..readers.fits import Fitter, mano
from ..readers.index import Index, IndexWriter, array, cached_index, image_size, json_items

CANONICAL_FROM_INTERHAND = np.array(PERMUTATIONS["interhand"])
FILE_WRIST = 20  # of a hand's 21
RIGHT_LEFT = ("right", "left")
HAND_TYPES = (*RIGHT_LEFT, "interacting")
MM_PER_M = 1000.0
MIN_BOX_JOINTS = 4  # known joints below which a hand's box says little: then the annotation's box is taken
ANNOTATIONS_AT_ONCE = 512  # records turned into arrays at once: few enough for the processor's cache
FRAMES_PER_CAPTURE = 10**8  # a moment's number is capture * FRAMES_PER_CAPTURE + frame


@dataclass
class Config(ReaderConfig):
    hand_types: list[str] = field(default_factory=lambda: list(HAND_TYPES))  # of the pictures
    sides: list[str] = field(default_factory=lambda: list(RIGHT_LEFT))  # of the hands
    labels: str = "joints"  # where 3D joints come from: joints (triangulated) | mano (the fits; no other samples)
    mano: str = "auto"  # MANO for the fits: auto | none (no meshes) | MANO_RIGHT.pkl or its folder
    crop: str = "hand"  # square round: hand (its own joints) | annotation (its box, which holds both hands)
    ids: str = ""  # file of annotation ids, one a line: only these
    moments_valid_only: bool = False  # leave out pictures whose hand type is marked as uncertain
    CHOICES = ReaderConfig.CHOICES | {
        "hand_types": HAND_TYPES,
        "sides": RIGHT_LEFT,
        "labels": ("joints", "mano"),
        "crop": ("hand", "annotation"),
    }


class InterHand(FileDataset):
    """One sample per hand and picture."""

    protocol = "interhand26m"

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        self.folder = self.part
        self.index = index = _index(self.root, self.folder, config.cache)
        self.mano = mano(config.mano) if "fits" in index else None
        self.fitter = None if self.mano is None else Fitter(self.mano, flat=False)
        self.mesh, self.hand = self.mano is not None, 0 if self.mano is None else self.mano.fingerprint
        if config.labels == "mano" and self.mano is None:
            raise DataError(f"interhand26m: labels=mano needs the fits of {self.folder} and MANO (mano=FILE)")
        self.rows, self.sides = self._select(config)

    def _select(self, config: Config) -> tuple[np.ndarray, np.ndarray]:
        index, dropped = self.index, {}
        kind = np.asarray(index["type"])
        keep = np.isin(kind, [HAND_TYPES.index(t) for t in config.hand_types])
        dropped["in pictures of another hand type"] = int((~keep).sum())
        if config.moments_valid_only:
            dropped["of uncertain hand type"] = int((keep & (index["type_valid"] == 0)).sum())
            keep &= index["type_valid"] == 1
        if config.ids:
            wanted = keep & np.isin(index["id"], _ids(Path(config.ids)))
            dropped["not in the list of ids"], keep = int((keep & ~wanted).sum()), wanted
        if not self.official:
            moments = index["capture"].astype(np.int64) * FRAMES_PER_CAPTURE + index["frame"]
            recordings = index["capture"].astype(np.int64) * FRAMES_PER_CAPTURE + index["sequence"]
            keep &= self.in_split({"sample": moments, "sequence": recordings})
        rows, sides = [], []
        for side, name in enumerate(RIGHT_LEFT):
            if name not in config.sides:
                continue
            mine = keep & ((kind == side) | (kind == 2))
            known = index["known"][:, side] > 0
            if config.labels == "mano":
                known = known & (index["fit"] >= 0) & index["fitted"][np.maximum(index["fit"], 0), side]
            dropped[f"{name} without any label"] = int((mine & ~known).sum())
            rows.append(np.flatnonzero(mine & known).astype(np.int32))
            sides.append(np.full(len(rows[-1]), side, np.int8))
        rows, sides = np.concatenate(rows), np.concatenate(sides)
        order = np.lexsort((sides, rows))
        log_selection(f"{self.name} {self.split}", len(rows), dropped)
        return rows[order], sides[order]

    @property
    def interacting_ids(self) -> Int64[np.ndarray, "n"]:
        """The annotations of pictures of two interacting hands."""
        return self.index["id"][self.index["type"] == HAND_TYPES.index("interacting")]

    def protocol_options(self) -> dict[str, Any]:
        """See `HandDataset`. Options of the data set choose hands, and a hand without a known joint is no sample."""
        return super().protocol_options() | {"split": self.folder, "partial": True}

    def annotation(self, index: int) -> Annotation:
        """See `FileDataset`."""
        row, side, at = int(self.rows[index]), int(self.sides[index]), self.index
        name = at.text("file", row)
        where = f"{self.root}, {self.folder} annotation {int(at['id'][row])} ({RIGHT_LEFT[side]} hand)"
        step = int(at["step"][row])
        if step < 0:
            raise DataError(f"{where}: its moment is not in InterHand2.6M_{self.folder}_joint_3d.json")
        camera = int(at["view"][row])
        if camera < 0:
            raise DataError(f"{where}: its camera is not in InterHand2.6M_{self.folder}_camera.json")
        rotation, position = at["camrot"][camera], at["campos"][camera]
        own = slice(21 * side, 21 * side + 21)
        world = at["world"][step, own].astype(np.float64)
        known_3d = _bits(at["world_valid"][step])[own]
        known = _bits(at["valid"][row])[own] & known_3d
        joints = ((world - position) @ rotation.T / MM_PER_M)[CANONICAL_FROM_INTERHAND]
        intrinsics = pinhole(*at["focal"][camera], *at["princpt"][camera])
        seen = known[CANONICAL_FROM_INTERHAND]
        wrist = bool(known[FILE_WRIST])
        fit = self._fit(row, side, rotation, position)
        if self.config.labels == "mano":
            joints, seen, wrist = fit["joints"], np.ones(21, bool), True
        points = project(np.where(seen[:, None], joints, [0, 0, 1]), intrinsics)
        box = at["bbox"][row].astype(np.float64)
        frame = self.config.crop == "annotation" or seen.sum() < MIN_BOX_JOINTS
        return Annotation(
            key=f"{self.folder}/{name}#{int(at['id'][row])}_{RIGHT_LEFT[side]}",
            where=where,
            image=self.root / "images" / self.folder / name,
            size=tuple(at["size"][row].tolist()),
            is_left=side == 1,
            box=np.concatenate([box[:2], box[:2] + box[2:]]) if frame else None,
            points=points,
            points_valid=seen,
            joints=joints,
            joints_valid=seen & wrist,
            intrinsics=intrinsics,
            vertices=fit["vertices"],
            mesh_joints=fit["joints"],
            pose=fit["pose"],
            shape=fit["shape"],
            hand=self.hand if fit["vertices"] is not None else 0,
        )

    def _fit(self, row: int, side: int, rotation: np.ndarray, position: np.ndarray) -> dict[str, np.ndarray | None]:
        """The fit's mesh in camera axes; None where there is no fit, or no MANO to make a mesh with."""
        fit = int(self.index["fit"][row]) if self.fitter is not None else -1
        if fit < 0 or not self.index["fitted"][fit, side]:
            return dict.fromkeys(("vertices", "joints", "pose", "shape"))
        numbers = self.index["fits"][fit, side].astype(np.float64)
        pose, shape = self.fitter.full_pose(numbers[:48], side == 1), numbers[48:58]
        camera = np.concatenate([rotation, -(rotation @ position / MM_PER_M)[:, None]], 1)
        vertices, joints, pose = self.fitter.mesh(pose, shape, numbers[58:], side == 1, camera)
        return {"vertices": vertices, "joints": joints, "pose": pose, "shape": shape}


def _bits(packed: np.ndarray) -> np.ndarray:
    return np.unpackbits(packed, count=42).astype(bool)


def _ids(path: Path) -> np.ndarray:
    try:
        return np.array([int(line) for line in path.read_text(encoding="utf-8").split()], np.int64)
    except FileNotFoundError:
        raise DataError(f"ids={path}: no such file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"ids={path} should hold one annotation id a line: {error}") from None


def _index(root: Path, split: str, cache: str) -> Index:
    folder = root / "annotations" / split
    stem = str(folder / f"InterHand2.6M_{split}_")
    paths = {name: Path(f"{stem}{name}.json") for name in ("data", "camera", "joint_3d", "MANO_NeuralAnnot")}
    if not paths["MANO_NeuralAnnot"].is_file():
        del paths["MANO_NeuralAnnot"]

    def build(writer: IndexWriter) -> None:
        cameras = _cameras(writer, paths["camera"])
        steps = _steps(writer, paths["joint_3d"])
        fits = _fits(writer, paths["MANO_NeuralAnnot"]) if "MANO_NeuralAnnot" in paths else np.zeros(0, np.int64)
        _pictures(writer, paths["data"], cameras, steps, fits)

    return cached_index(root, cache, f"interhand26m-{split}", paths.values(), build)


def _cameras(writer: IndexWriter, path: Path) -> np.ndarray:
    """Cameras into the index; their numbers, capture * FRAMES_PER_CAPTURE + name, in the order of the rows."""
    keys = []
    for (capture, *_), views in json_items(path, 1):
        for name in views["campos"]:
            where = f"{path}, capture {capture}, camera {name}"
            for field_name, shape in (("campos", (3,)), ("camrot", (3, 3)), ("focal", (2,)), ("princpt", (2,))):
                value = array(views[field_name][name], shape, f"{where}: {field_name}")
                writer.append(field_name, value[None], "<f8")
            keys.append(int(capture) * FRAMES_PER_CAPTURE + int(name))
    return np.array(keys, np.int64)


def _steps(writer: IndexWriter, path: Path) -> np.ndarray:
    keys, rows = [], []

    def flush() -> None:
        if rows:
            writer.append("world", [r[0] for r in rows], "<f4")
            writer.append("world_valid", np.packbits([r[1] for r in rows], axis=1), "u1")
            rows.clear()

    for (capture, frame), value in json_items(path, 2):
        where = f"{path}, capture {capture}, frame {frame}"
        world = array(value["world_coord"], (42, 3), f"{where}: world_coord")
        rows.append((world, array(value["joint_valid"], (42,), f"{where}: joint_valid") > 0))
        keys.append(int(capture) * FRAMES_PER_CAPTURE + int(frame))
        if len(rows) == ANNOTATIONS_AT_ONCE:
            flush()
    flush()
    return np.array(keys, np.int64)


def _fits(writer: IndexWriter, path: Path) -> np.ndarray:
    keys, rows = [], []

    def flush() -> None:
        if rows:
            writer.append("fits", [r[0] for r in rows], "<f4")
            writer.append("fitted", [r[1] for r in rows], "?")
            rows.clear()

    for (capture, frame), value in json_items(path, 2):
        numbers, there = np.zeros((2, 61)), np.zeros(2, bool)
        for side, name in enumerate(RIGHT_LEFT):
            if fit := value.get(name):
                where = f"{path}, capture {capture}, frame {frame}, {name}"
                parts = [
                    array(fit[key], (n,), f"{where}: {key}") for key, n in (("pose", 48), ("shape", 10), ("trans", 3))
                ]
                numbers[side], there[side] = np.concatenate(parts), True
        rows.append((numbers, there))
        keys.append(int(capture) * FRAMES_PER_CAPTURE + int(frame))
        if len(rows) == ANNOTATIONS_AT_ONCE:
            flush()
    flush()
    return np.array(keys, np.int64)


def _pictures(writer: IndexWriter, path: Path, cameras: np.ndarray, steps: np.ndarray, fits: np.ndarray) -> None:
    """One row per annotation, in the order of the file, joined with its picture, camera, moment and fit."""
    images, annotations, batch, files = [], [], [], []
    sequences: dict[str, int] = {}
    known = {"images", "annotations"}
    for (section, *_), value in json_items(path, 2):
        if section not in known:
            continue
        batch.append((section, value))
        if len(batch) == ANNOTATIONS_AT_ONCE:
            _convert(batch, images, annotations, files, sequences, path)
    _convert(batch, images, annotations, files, sequences, path)
    if not images or not annotations:
        raise DataError(f"{path} holds no images or no annotations")
    images, annotations = np.concatenate(images), np.concatenate(annotations)
    row = _find(images["id"], annotations["image"])
    if (lost := np.flatnonzero(row < 0)).size:
        one = annotations[lost[0]]
        raise DataError(f"{path}: annotation {one['id']} belongs to image {one['image']}, which is not there")
    picture = images[row]
    for name, dtype in (("capture", "<i2"), ("frame", "<i4"), ("sequence", "<i4"), ("size", "<i4")):
        writer.append(name, picture[name], dtype)
    for name, dtype in (("id", "<i8"), ("type", "i1"), ("type_valid", "i1"), ("bbox", "<f4"), ("valid", "u1")):
        writer.append(name, annotations[name], dtype)
    for start in range(0, len(row), ANNOTATIONS_AT_ONCE):
        writer.append_text("file", [files[r] for r in row[start : start + ANNOTATIONS_AT_ONCE]])
    capture = picture["capture"].astype(np.int64) * FRAMES_PER_CAPTURE
    moment = _find(steps, capture + picture["frame"])
    for name, place in (
        ("view", _find(cameras, capture + picture["camera"])),
        ("step", moment),
        ("fit", _find(fits, capture + picture["frame"])),
    ):
        writer.append(name, place, "<i4")
    valid = writer.read("world_valid")
    for start in range(0, len(row), ANNOTATIONS_AT_ONCE):
        part = slice(start, start + ANNOTATIONS_AT_ONCE)
        both = annotations["valid"][part] & valid[moment[part]]
        count = np.unpackbits(both, axis=1, count=42).reshape(-1, 2, 21).sum(-1)
        # a moment that is missing is a mistake of the files, raised when the sample is loaded
        writer.append("known", np.where(moment[part, None] < 0, 21, count), "u1")


IMAGE_DTYPE = np.dtype(
    [("id", "<i8"), ("capture", "<i2"), ("camera", "<i4"), ("frame", "<i4"), ("sequence", "<i4"), ("size", "<i4", 2)]
)
ANNOTATION_DTYPE = np.dtype(
    [("id", "<i8"), ("image", "<i8"), ("type", "i1"), ("type_valid", "i1"), ("bbox", "<f4", 4), ("valid", "u1", 6)]
)


def _convert(
    batch: list, images: list, annotations: list, files: list[str], sequences: dict[str, int], path: Path
) -> None:
    """Empty `batch` into arrays."""
    pictures = [v for section, v in batch if section == "images"]
    hands = [v for section, v in batch if section == "annotations"]
    batch.clear()
    if pictures:
        try:
            rows = [
                (
                    p["id"],
                    p["capture"],
                    int(p["camera"]),
                    p["frame_idx"],
                    sequences.setdefault(p["seq_name"], len(sequences)),
                    image_size(p),
                )
                for p in pictures
            ]
            images.append(np.array(rows, IMAGE_DTYPE))
            files.extend(p["file_name"] for p in pictures)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: an image near id {pictures[0].get('id')} lacks or garbles {error}") from None
    if hands:
        rows = np.zeros(len(hands), ANNOTATION_DTYPE)
        try:
            for name, key in (("id", "id"), ("image", "image_id"), ("type_valid", "hand_type_valid")):
                rows[name] = [h[key] for h in hands]
            rows["type"] = [HAND_TYPES.index(h["hand_type"]) for h in hands]
            rows["bbox"] = [h["bbox"] for h in hands]
            rows["valid"] = np.packbits(_flags([h["joint_valid"] for h in hands]), axis=1)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: an annotation near id {hands[0].get('id')} lacks or garbles {error}") from None
        annotations.append(rows)


def _flags(valid: list) -> np.ndarray:
    """n lists of 42 numbers, or of 42 lists of one, as (n, 42) of bool; np.array takes ten times as long."""
    flat = chain.from_iterable(valid)
    if valid and isinstance(valid[0][0], list):
        flat = chain.from_iterable(flat)
    flags = np.fromiter(flat, np.int8)
    if flags.size != 42 * len(valid):
        raise ValueError(f"joint_valid: {flags.size} numbers in {len(valid)} annotations, 42 each expected")
    return flags.reshape(-1, 42) > 0


def _find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Positions of `wanted` in `keys`, -1 where it is not there."""
    if not len(keys):
        return np.full(len(wanted), -1)
    order = np.argsort(keys, kind="stable")
    place = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(keys[place] == wanted, place, -1)


build = InterHand.build
