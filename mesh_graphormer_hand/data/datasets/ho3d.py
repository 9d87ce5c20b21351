"""HO-3D (Hampali et al., CVPR 2020), versions 2 and 3, as it is unpacked.

    train.txt evaluation.txt                       SEQUENCE/0000 a line
    {train,evaluation}/SEQUENCE/rgb/0000.png       version 3: .jpg; 640 x 480
    {train,evaluation}/SEQUENCE/depth/0000.png     {train,evaluation}/SEQUENCE/meta/0000.pkl
    evaluation_{xyz,verts}.json                    released in 2024, the order of evaluation.txt

Licence: academic use, not commercial. Counts: version 2 66,034 and 11,524; version 3 83,325 and 20,137.
Joints: MANO's 16, then 5 tips (skeleton.PERMUTATIONS["mano"]). Units and frame: metres, OpenGL's axes (y up, z
backwards): turned here. MANO parameters: axis-angles with the mean pose included (flat_hand_mean=True). Depth: metres,
(R + 256 G) x 0.000124986. Left hands: none. The pickles are read without executing them, all of them once.
Label errors: evaluation labels give the wrist and a box only, unless the released files are there; frames without
a label may stand in the lists (they are counted when the set is opened).

Splits: train and evaluation; by sequence (neighbouring frames are nearly equal) or sample they cut the training part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...mano import pickles
from ...mano.hand import HandFileError
from ...skeleton import PERMUTATIONS
from ..images import DataError, read_bytes, read_raw
from ..readers.annotation import Annotation
from ..readers.file_dataset import FileDataset, ReaderConfig
from ..readers.fits import UNKNOWN_MANO, Fitter, mano
from ..readers.index import Index, IndexWriter, array, cached_index, json_items, require

HO3D_FOLDERS = {"train": "train", "test": "evaluation"}
CANONICAL_FROM_MANO = np.array(PERMUTATIONS["mano"])
CV_FROM_GL = np.diag([1.0, -1.0, -1.0])
HO3D_DEPTH_STEP_M = 0.00012498664727900177  # m
LABELLED, UNLABELLED, BROKEN = range(3)


@dataclass
class Config(ReaderConfig):
    mano: str = "auto"  # MANO for the meshes of training frames: auto | none | MANO_RIGHT.pkl or its folder
    depth: bool = False  # read the depth images (as an input)


class Ho3d(FileDataset):
    """One sample per frame."""

    protocol = "ho3d"
    splits = tuple(HO3D_FOLDERS)
    mesh = True

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        self.folder = HO3D_FOLDERS[self.part]
        self.frames = _frames(self.root / f"{self.folder}.txt")
        self.index = _index(self.root, self.folder, self.frames, config.cache)
        self.depth = "sensor" if config.depth else ""
        self.mano = mano(config.mano)
        self.fitter = None if self.mano is None else Fitter(self.mano, flat=True)
        self.hand = UNKNOWN_MANO if self.mano is None else self.mano.fingerprint
        status = np.asarray(self.index["status"])
        sequences = np.unique([f.partition("/")[0] for f in self.frames], return_inverse=True)[1]
        groups = {"sequence": sequences, "sample": np.arange(len(status))}
        self.choose(status != UNLABELLED, groups, {"without a label": int((status == UNLABELLED).sum())})

    def annotation(self, index: int) -> Annotation:
        """See `FileDataset`."""
        row, at = int(self.rows[index]), self.index
        frame = self.frames[row]
        sequence, _, number = frame.partition("/")
        folder = self.root / self.folder / sequence
        if at["status"][row] == BROKEN:
            raise DataError(at.extra["broken"][frame])
        image = folder / "rgb" / f"{number}.jpg"
        known = at["joints_known"][row]
        joints = at["joints"][row][CANONICAL_FROM_MANO] @ CV_FROM_GL
        box = at["box"][row]
        mesh = self._mesh(row)
        return Annotation(
            key=f"{self.folder}/{frame}",
            where=f"{folder}/meta/{number}.pkl",
            image=image if image.is_file() else image.with_suffix(".png"),
            box=box if box[2] > box[0] else None,
            joints=joints,
            joints_valid=known[CANONICAL_FROM_MANO],
            intrinsics=at["K"][row],
            hand=self.hand if mesh else 0,
            depth=partial(_depth, folder / "depth" / f"{number}.png") if self.depth else None,
            **mesh,
        )

    def _mesh(self, row: int) -> dict[str, np.ndarray]:
        at = self.index
        if "verts" in at:
            return {"vertices": at["verts"][row] @ CV_FROM_GL}
        if not at["fitted"][row]:
            return {}
        pose, shape = at["pose"][row].reshape(16, 3), at["shape"][row]
        turn = np.concatenate([CV_FROM_GL, np.zeros((3, 1))], 1)
        if self.fitter is None:
            return {}
        vertices, joints, pose = self.fitter.mesh(pose, shape, at["trans"][row], camera_from_world=turn)
        return {"vertices": vertices, "mesh_joints": joints, "pose": pose, "shape": shape}


def _depth(path: Path) -> np.ndarray:
    image = read_raw(path).astype(np.float32)  # BGR
    return (image[..., 2] + 256 * image[..., 1]) * HO3D_DEPTH_STEP_M


def _frames(path: Path) -> list[str]:
    try:
        frames = path.read_text(encoding="utf-8").split()
    except OSError:
        raise DataError(f"{path}: no such file; is this the folder of HO-3D as it is unpacked?") from None
    if wrong := [i for i, frame in enumerate(frames) if frame.count("/") != 1]:
        raise DataError(f"{path}, line {wrong[0] + 1}: {frames[wrong[0]]!r} should be SEQUENCE/FRAME")
    return frames


def _index(root: Path, folder: str, frames: list[str], cache: str) -> Index:
    released = {t: root / f"{folder}_{t}.json" for t in ("xyz", "verts") if (root / f"{folder}_{t}.json").is_file()}

    def build(writer: IndexWriter) -> None:
        truth = {}
        if "xyz" in released:
            rows = [array(v, (21, 3), f"{released['xyz']}, entry {k[0]}") for k, v in json_items(released["xyz"], 1)]
            require(released["xyz"], len(rows), len(frames), f"{folder}.txt")
            truth["xyz"] = rows
        writer.extra["broken"] = {}
        for row, frame in enumerate(frames):
            sequence, _, number = frame.partition("/")
            path = root / folder / sequence / "meta" / f"{number}.pkl"
            try:
                values, status = _read(path)
            except DataError as error:
                values, status = _blank(), BROKEN
                writer.extra["broken"][frame] = str(error)
            if "xyz" in truth:
                values["joints"], values["joints_known"] = truth["xyz"][row], np.ones(21, bool)
            writer.append("status", [status], "i1")
            for name, value in values.items():
                writer.append(name, value[None], "?" if value.dtype == bool else "<f8")
        if "verts" in released:
            count = 0
            for (entry,), value in json_items(released["verts"], 1):
                writer.append("verts", array(value, (778, 3), f"{released['verts']}, entry {entry}")[None], "<f4")
                count += 1
            require(released["verts"], count, len(frames), f"{folder}.txt")

    return cached_index(root, cache, f"ho3d-{folder}", [root / f"{folder}.txt", *released.values()], build)


def _blank() -> dict[str, np.ndarray]:
    sizes = {"joints": (21, 3), "K": (3, 3), "box": (4,), "pose": (48,), "trans": (3,), "shape": (10,)}
    blank = {name: np.zeros(shape) for name, shape in sizes.items()}
    return {**blank, "joints_known": np.zeros(21, bool), "fitted": np.zeros((), bool)}


def _read(path: Path) -> tuple[dict[str, np.ndarray], int]:
    """One frame's labels, and whether it has any."""
    try:
        content = pickles.load(read_bytes(path), path)
        if not isinstance(content, dict):
            raise DataError(f"{path} should hold a mapping")
        if content.get("handJoints3D") is None:
            return _blank(), UNLABELLED
        values = _blank()

        def take(key: str, shape: tuple[int, ...]) -> np.ndarray:
            return array(pickles.to_array(content[key], f"{path}: {key}"), shape, f"{path}: {key}")

        joints = np.asarray(pickles.to_array(content["handJoints3D"], f"{path}: handJoints3D"), float)
        values["K"] = take("camMat", (3, 3))
        if joints.size == 3:  # the wrist alone, in the evaluation part
            values["joints"][0], values["joints_known"][0] = joints.reshape(3), True
        else:
            values["joints"], values["joints_known"] = (
                array(joints, (21, 3), f"{path}: handJoints3D"),
                np.ones(21, bool),
            )
        if content.get("handBoundingBox") is not None:
            values["box"] = take("handBoundingBox", (4,))
        if content.get("handPose") is not None:
            parts = (("pose", "handPose", (48,)), ("trans", "handTrans", (3,)), ("shape", "handBeta", (10,)))
            values.update({name: take(key, shape) for name, key, shape in parts})
            values["fitted"] = np.ones((), bool)
        return values, LABELLED
    except HandFileError as error:
        raise DataError(str(error)) from None
    except KeyError as error:
        raise DataError(f"{path} has no {error.args[0]}") from None


build = Ho3d.build
