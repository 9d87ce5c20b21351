"""DexYCB (Chao et al., CVPR 2021), as it is unpacked.

    20200709-subject-01/20200709_141754/836212060125/color_000000.jpg   (in it: labels_000000.npz,
                                                     aligned_depth_to_color_000000.png)
    20200709-subject-01/20200709_141754/meta.yml
    calibration/intrinsics/836212060125_640x480.yml    calibration/mano_20200709-subject-01_right/mano.yml

Licence: data CC BY-NC 4.0 (its toolkit: GPLv3, not used here). Counts: 10 subjects x 100 sequences x 8 cameras, 582,000
frames of 640 x 480; split s0 trains on 465,504.
Labels: joint_3d 1 x 21 x 3, joint_2d 1 x 21 x 2, pose_m 1 x 51 (3 axis-angle, 45 principal components less the mean
pose, 3 translation), seg (255: hand). Joints: the canonical order. Units and frame: metres, camera axes, px.
Left hands: by sequence (`mano_sides` in meta.yml), mirrored here.
Label errors: frames without a hand have -1 everywhere: they are left out (in training replaced), and counted. A hand
that other cameras see may be labelled outside the picture: training replaces it, and evaluation has it answered blind,
for the official scores count it.

Splits (`setup`): s0 seen subjects, cameras and objects | s1 new subjects | s2 new cameras | s3 new objects; samples run
over subject, sequence, camera, frame, as the toolkit counts them. By sequence or sample (moments) all frames are cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from omegaconf import OmegaConf

from ...files import ArchiveError, read_arrays
from ..images import DataError, read_raw
from ..readers.annotation import Annotation, pinhole
from ..readers.file_dataset import FileDataset, NoHandError, ReaderConfig, log_selection
from ..readers.fits import UNKNOWN_MANO, Fitter, mano
from ..readers.index import array

HAND_LABEL = 255  # in `seg`
DEPTH_STEP_M = 1e-3  # m
# setup -> part -> what it takes, of subjects (s1), cameras (s2), grasped objects (s3)
SPLIT_MEMBERS = {
    "s1": {"train": (0, 1, 2, 3, 4, 5, 9), "val": (6,), "test": (7, 8)},
    "s2": {"train": (0, 1, 2, 3, 4, 5), "val": (6,), "test": (7,)},
    "s3": {"val": (3, 19), "test": (7, 11, 15)},
}


@dataclass
class Config(ReaderConfig):
    setup: str = "s0"
    sequences_per_subject: int = 100  # fewer: a part of the data; the splits are by position, so be careful
    mano: str = "auto"  # MANO for the meshes: auto | none | MANO_RIGHT.pkl or its folder
    depth: bool = False  # read the depth images (as an input)
    CHOICES = ReaderConfig.CHOICES | {"setup": ("s0", "s1", "s2", "s3")}


class DexYcb(FileDataset):
    """One sample per frame and camera. `table`: per sample sequence, camera and frame."""

    protocol = "dexycb"
    mesh = True
    mask = True

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        self.depth = "sensor" if config.depth else ""
        self.mano = mano(config.mano)
        self.fitter = None if self.mano is None else Fitter(self.mano, flat=False, components=45)
        self.hand = UNKNOWN_MANO if self.mano is None else self.mano.fingerprint
        self.sequences = _sequences(self.root, config.sequences_per_subject)
        parts = []
        for number, sequence in enumerate(self.sequences):
            for camera, _ in enumerate(sequence["serials"]):
                if not self.official or _in_official(config.setup, self.split, sequence, camera):
                    frames = np.arange(sequence["num_frames"])
                    parts.append(np.stack([np.full_like(frames, number), np.full_like(frames, camera), frames], 1))
        table = np.concatenate(parts) if parts else np.zeros((0, 3), int)
        if not self.official:
            groups = {"sequence": table[:, 0], "sample": table[:, 0] * 10**6 + table[:, 2]}
            table = table[self.in_split(groups)]
        self.table, self.rows = table.astype(np.int32), np.arange(len(table))
        log_selection(f"{self.name} {config.setup} {self.split}", len(self.rows), {})

    def protocol_options(self) -> dict[str, Any]:
        """See `HandDataset`."""
        return super().protocol_options() | {
            "setup": self.config.setup,
            "split": self.split,
            "sequences": self.config.sequences_per_subject,
        }

    def annotation(self, index: int) -> Annotation:
        """See `FileDataset`."""
        number, camera, frame = (int(n) for n in self.table[self.rows[index]])
        sequence = self.sequences[number]
        serial = str(sequence["serials"][camera])
        folder = self.root / sequence["path"] / serial
        where = folder / f"labels_{frame:06d}.npz"
        content = read_npz(where)
        joints = array(content.get("joint_3d"), (21, 3), f"{where}: joint_3d")
        if (joints == -1).all():
            raise NoHandError(f"{where}: no hand is labelled in this frame")
        is_left = sequence["mano_sides"][0] == "left"
        pose = array(content.get("pose_m"), (51,), f"{where}: pose_m")
        mesh = self._mesh(pose, str(sequence["mano_calib"][0]), is_left)
        seg = content.get("seg")
        return Annotation(
            key=f"{sequence['path']}/{serial}/{frame:06d}",
            where=str(where),
            image=folder / f"color_{frame:06d}.jpg",
            is_left=is_left,
            elsewhere=True,
            points=array(content.get("joint_2d"), (21, 2), f"{where}: joint_2d"),
            joints=joints,
            intrinsics=_intrinsics(self.root, serial),
            hand=self.hand if mesh else 0,
            mask=None if seg is None else lambda: seg == HAND_LABEL,
            depth=lambda: read_raw(folder / f"aligned_depth_to_color_{frame:06d}.png") * DEPTH_STEP_M,
            **mesh,
        )

    def _mesh(self, pose: Float[np.ndarray, "51"], calibration: str, is_left: bool) -> dict[str, np.ndarray]:
        if self.fitter is None or not pose.any():
            return {}
        shape = _betas(self.root, calibration)
        full = self.fitter.full_pose(pose[:48], is_left)
        vertices, joints, full = self.fitter.mesh(full, shape, pose[48:], is_left)
        return {"vertices": vertices, "mesh_joints": joints, "pose": full, "shape": shape}


def _in_official(setup: str, part: str, sequence: dict[str, Any], camera: int) -> bool:
    """Whether the toolkit's split has this camera of this sequence."""
    subject, place = sequence["subject"], sequence["place"]
    if setup == "s0":
        if place % 5 != 4:
            return part == "train"
        return part == ("val" if subject in (0, 1) else "test")
    if setup == "s3":
        taken, kind = SPLIT_MEMBERS["s3"], place // 5
        return kind in taken[part] if part in taken else kind not in (*taken["val"], *taken["test"])
    return (subject if setup == "s1" else camera) in SPLIT_MEMBERS[setup][part]


def _sequences(root: Path, per_subject: int) -> list[dict[str, Any]]:
    """meta.yml of every sequence, with its path, its subject's number and its place among the subject's sequences."""
    subjects = sorted(p for p in root.iterdir() if p.is_dir() and "-subject-" in p.name)
    if not subjects:
        raise DataError(f"{root} has no folder like 20200709-subject-01; is it DexYCB as it is unpacked?")
    found = []
    for subject, folder in enumerate(subjects):
        sequences = sorted(p for p in folder.iterdir() if p.is_dir())
        if len(sequences) != per_subject:
            raise DataError(
                f"{folder} has {len(sequences)} sequences, not {per_subject}: the splits count them; "
                "copy it again, or set sequences_per_subject"
            )
        for place, path in enumerate(sequences):
            meta = read_yaml(path / "meta.yml")
            serials = meta.get("serials") or sorted(p.name for p in path.iterdir() if p.is_dir())
            for key in ("num_frames", "mano_sides", "mano_calib"):
                if key not in meta:
                    raise DataError(f"{path / 'meta.yml'} has no {key}")
            own = {"path": f"{folder.name}/{path.name}", "subject": subject, "place": place, "serials": serials}
            found.append({**{k: meta[k] for k in ("num_frames", "mano_sides", "mano_calib")}, **own})
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file of a mapping (no tags: nothing is executed).

    Raises:
        DataError: missing, or not such a file.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:  # YAML's own errors share no base class with OmegaConf's
        raise DataError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} should hold a mapping")
    return content


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file (no pickles in it).

    Raises:
        DataError: missing, cut short, or not such a file.
    """
    try:
        return read_arrays(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except ArchiveError as error:
        raise DataError(f"{path} is damaged or cut short ({error}); copy it again") from None


@lru_cache(maxsize=64)
def _intrinsics(root: Path, serial: str) -> np.ndarray:
    path = root / "calibration" / "intrinsics" / f"{serial}_640x480.yml"
    try:
        return pinhole(*(float(read_yaml(path)["color"][key]) for key in ("fx", "fy", "ppx", "ppy")))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: color should have fx, fy, ppx, ppy ({error})") from None


@lru_cache(maxsize=64)
def _betas(root: Path, calibration: str) -> np.ndarray:
    path = root / "calibration" / f"mano_{calibration}" / "mano.yml"
    return array(read_yaml(path).get("betas"), (10,), f"{path}: betas")


build = DexYcb.build
