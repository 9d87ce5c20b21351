"""Tars as `tools/generate.py` writes them (WebDataset): generated hands with every label, read back to train on.

    NUMBER.jpg (or .png)  NUMBER.mask.png  NUMBER.depth.png  NUMBER.parts.png  NUMBER.normals.png  NUMBER.npz

Only the picture and the npz are required; the npz holds fields of HandTargets and `intrinsics`. Pictures of left hands
are pictures of left hands in the tar, and mirrored here; the npz has the mirrored, right hand already. A sample is read
in one piece, so that tars may lie on a slow or remote disk. Nothing in a tar is executed. Labels that cannot be true
are refused by name when a process first reads them (`plausibility`).

Splits: all that `files` names, or, with split_by=sample or sequence, 70/15/15 of runs of 16 samples or of whole tars.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from ...contracts import DEPTH_UNIT, IMAGE_LABELS, LABELS, HandBatch, HandInputs, HandTargets, sample_kind, sample_shape
from ...files import read_arrays
from ...mano import hand as hands
from ...mano.hand import Hand, HandFileError, fingerprint_to_hex
from ..axes import look_along_crops
from ..base import HandDataset
from ..images import DataError, decode_image, decode_raw
from ..readers import plausibility
from ..readers.annotation import Annotation, check, completed
from ..readers.fits import Fitter
from ..readers.splits import SplitConfig, check_split, in_split

PICTURE_ENDINGS = ("jpg", "jpeg", "png")
UNKNOWN_DEPTH_M = 0.5  # m, for labels that do not say where the wrist is
BLOCK = 16  # samples that a generated tar has one after another; the reader is quickest on such runs


OLD_NAMES = {  # of labels in tars of format 4 and before
    "joints_share": "joint_visibility",
    "joints_share_valid": "joint_visibility_valid",
    "look_valid": "appearance_valid",
}


@dataclass
class Config(SplitConfig):
    # split_by: official: all of the tars | sample: by runs of BLOCK samples of a tar | sequence: by tars
    root: str = ""  # the folder
    files: str = "*.tar"  # which tars of it


class WebDataset(HandDataset):
    """The samples of all tars, in the order of the tars' names, or those of them that are in the split."""

    block = BLOCK

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        """
        Raises:
            DataError: no such folder, no tar, a damaged or an empty one, or a split without samples.
        """
        self.root, self.image_size = Path(config.root), image_size
        if not config.root or not self.root.is_dir():
            raise DataError(f"data set webdataset: `root` names no folder: {config.root!r}")
        self.tars = sorted(self.root.glob(config.files))
        if not self.tars:
            raise DataError(f"{self.root}: no tar matches files={config.files!r}; tools/generate.py writes such")
        self._starts: dict[int, Int64[np.ndarray, "n"]] = {}
        self.counts = np.cumsum([0, *self._sizes()])
        self.rows = np.arange(self.counts[-1])
        self._checked = np.zeros(len(self.rows), bool)
        if config.split_by != "official":
            self.rows = self._part(config, config.split or split)
        self.hand = int(self.load([0]).targets.hand[0])

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, indices: list[int], device: str | torch.device = "cpu") -> HandBatch:
        """The samples with these numbers.

        Raises:
            DataError: a sample that cannot be read or whose labels cannot be true, named with its tar and key.
        """
        rows = self.rows[indices]
        tars = np.searchsorted(self.counts, rows, side="right") - 1
        samples = [self._sample(int(t), int(i - self.counts[t])) for t, i in zip(tars, rows, strict=True)]
        self._check(rows, samples)
        return look_along_crops(HandBatch.stack(samples)).to(device)

    def _check(self, rows: Int64[np.ndarray, "n"], samples: list[HandBatch]) -> None:
        """Refuse labels that cannot be true, of each sample once, and samples that do not have the same labels."""
        for row, sample in zip(rows, samples, strict=True):
            if not self._checked[row]:
                check_labels(sample, f"{self.root}/{sample.keys[0]}.npz")
                self._checked[row] = True
        for part in ("inputs", "targets"):
            records = [getattr(sample, part) for sample in samples]
            for f in fields(records[0]):
                lack = [getattr(record, f.name) is None for record in records]
                if any(lack) and not all(lack):
                    key = samples[lack.index(True)].keys[0]
                    raise DataError(f"{self.root}/{key} has no {f.name}, which other samples have")

    def _part(self, config: Config, part: str) -> Int64[np.ndarray, "n"]:
        """The samples of a split; runs of BLOCK stay together, since they are quickest to read so."""
        tars = np.repeat(np.arange(len(self.tars)), np.diff(self.counts))
        runs = (self.rows - self.counts[tars]) // BLOCK
        groups = {"sample": tars * (runs.max() + 1) + runs, "sequence": tars}
        mine = self.rows[in_split(groups, config, part, "webdataset")]
        if not len(mine):
            raise DataError(
                f"{self.root}: split_by={config.split_by} leaves nothing for {part}: there are "
                f"{len(self.rows)} samples in {len(self.tars)} tars; split_by=sample divides runs of {BLOCK} samples, "
                "sequence tars"
            )
        return mine

    def _sizes(self) -> list[int]:
        """Samples of each tar: by the manifest where it tells, else by looking into every one."""
        first = len(self._index(0)) - 1
        try:
            manifest = json.loads((self.root / "manifest.json").read_text(encoding="utf-8"))
            count = int(manifest["count"])
        except (OSError, ValueError, KeyError, TypeError):
            count = 0
        last = count - first * (len(self.tars) - 1)
        if 0 < last <= first:
            return [first] * (len(self.tars) - 1) + [last]
        return [len(self._index(t)) - 1 for t in range(len(self.tars))]

    def _index(self, number: int) -> Int64[np.ndarray, "n"]:
        """Where each sample of a tar starts, and where the last one ends, in bytes."""
        if number not in self._starts:
            path, starts, last, end = self.tars[number], [], None, 0
            with path.open("rb") as file:
                for name, _, begin, following in _members(file, path):
                    end = following
                    if (key := name.partition(".")[0]) != last:
                        starts.append(begin)
                        last = key
            if not starts:
                raise DataError(f"{path} holds no samples")
            self._starts[number] = np.array([*starts, end], np.int64)
        return self._starts[number]

    def _sample(self, tar: int, position: int) -> HandBatch:
        path, starts = self.tars[tar], self._index(tar)
        if position >= len(starts) - 1:
            raise DataError(f"{path} has {len(starts) - 1} samples, fewer than manifest.json says")
        with path.open("rb") as file:
            file.seek(starts[position])
            content = file.read(int(starts[position + 1] - starts[position]))
        files: dict[str, bytes] = {}
        for name, at, _, _ in _members(io.BytesIO(content), path):
            key, _, suffix = name.partition(".")
            files[suffix] = content[at[0] : at[1]]
        return decode(files, self.image_size, f"{path}: {key}")


def _members(file: Any, path: Path) -> Iterator[tuple[str, tuple[int, int], int, int]]:
    """Of every file in a tar: its name without folders, its bytes' place, where its header starts and the next one.

    Raises:
        DataError: not a tar, or one that was cut short.
    """
    begin = 0
    while True:
        file.seek(begin)
        header = file.read(tarfile.BLOCKSIZE)
        if not header or not header.strip(b"\0"):
            return
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise DataError(f"{path} is no tar, or a damaged one ({error}); make or copy it again") from None
        if info.size < 0:
            raise DataError(f"{path} is a damaged tar: a file of {info.size} bytes; make or copy it again")
        data = begin + tarfile.BLOCKSIZE
        begin, before = data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, begin
        if info.isreg():
            yield info.name.rpartition("/")[2], (data, data + info.size), before, begin


def decode(files: dict[str, bytes], image_size: int, where: str) -> HandBatch:
    """One sample (no batch dimension) from the contents of its files by suffix, at `image_size` px.

    Raises:
        DataError: a file is missing or wrong; the message begins with `where`.
    """
    suffix = next((s for s in PICTURE_ENDINGS if s in files), None)
    if suffix is None or "npz" not in files:
        raise DataError(f"{where} lacks its {'npz' if suffix else 'picture (' + ', '.join(PICTURE_ENDINGS) + ')'}")
    rows = _arrays(files["npz"], where)
    picture = decode_image(files[suffix], f"{where}.{suffix}")
    scale = image_size / picture.shape[1]
    if picture.shape[0] != picture.shape[1]:
        raise DataError(f"{where}.{suffix} is {picture.shape[1]} x {picture.shape[0]} px, should be square")
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    mirrored = bool(rows.get("is_left", torch.tensor(False)))

    def fit(image: Shaped[np.ndarray, "h w *c"], how: int) -> np.ndarray:
        image = image if scale == 1 else cv2.resize(image, (image_size, image_size), interpolation=how)
        return np.ascontiguousarray(image[:, ::-1] if mirrored else image)

    image = torch.from_numpy(fit(picture, smooth)).permute(2, 0, 1).float() / 255
    for name in IMAGE_LABELS:
        if f"{name}.png" in files:
            raw = decode_raw(files[f"{name}.png"], f"{where}.{name}.png")
            if raw.shape[:2] != picture.shape[:2]:
                raise DataError(f"{where}.{name}.png has another size than the picture")
            rows[name] = _label(name, fit(raw, cv2.INTER_NEAREST), mirrored)
            rows[f"{name}_valid"] = torch.tensor(True)
    if (side := float(rows.get("crop_size", picture.shape[1]))) != picture.shape[1]:
        raise DataError(f"{where}: the labels are of a picture of {side:g} px, this one has {picture.shape[1]}")
    intrinsics = rows.pop("intrinsics", None)
    if scale != 1:
        for name in rows.keys() & LABELS.keys():
            if LABELS[name].unit == "px":
                rows[name] = rows[name] * scale
        if intrinsics is not None:
            intrinsics = intrinsics * torch.tensor([[scale], [scale], [1.0]])
    known = None if intrinsics is None else torch.tensor(True)
    inputs = HandInputs(image=image, intrinsics=intrinsics, intrinsics_valid=known)
    return HandBatch(inputs, HandTargets(**rows), [where.rpartition("/")[2]])


def check_labels(sample: HandBatch, where: str) -> None:
    """Refuse labels of one sample that cannot be true; `where` begins the message.

    Raises:
        DataError: NaN, another unit, other axes, another image size, parameters of another pose.
    """
    given = {f.name: getattr(sample.targets, f.name) for f in fields(HandTargets)}
    rows = {name: value.numpy() for name, value in given.items() if value is not None}
    for name, values in rows.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise DataError(f"{where}: {name} holds NaN or infinity")

    def known(name: str) -> np.ndarray | None:
        return rows[name] if name in rows and np.all(rows.get(LABELS[name].mask, True)) else None

    root, camera = known("root"), sample.inputs.intrinsics
    from_camera = root is not None
    root = root if from_camera else np.array([0.0, 0.0, UNKNOWN_DEPTH_M])
    joints, vertices, pose, shape = rows.get("joints"), known("vertices"), known("pose"), known("shape")
    annotation = Annotation(
        key="",
        where=where,
        image=Path(),
        whole=True,
        points=rows.get("joints_2d"),
        points_valid=rows.get("joints_2d_valid"),
        joints=None if joints is None else joints + root,
        joints_valid=rows.get("joints_valid"),
        intrinsics=camera.double().numpy() if camera is not None and from_camera else None,
        vertices=None if vertices is None else vertices + root,
        mesh_joints=_fitted(pose, shape, root, int(sample.targets.hand)),
        pose=pose,
        shape=shape,
    )
    check(completed(annotation), *sample.inputs.image.shape[-2:])


def _fitted(
    pose: np.ndarray | None, shape: np.ndarray | None, wrist: np.ndarray, fingerprint: int
) -> Float[np.ndarray, "21 3"] | None:
    """Joints of MANO's parameters with the wrist at `wrist`; None: there are none, or no such hand is here."""
    fitter = None if pose is None or shape is None else _fitter(fingerprint)
    if fitter is None or plausibility.of_parameters(pose, shape) is not None:
        return None
    joints = fitter.mesh(pose.astype(float), shape, np.zeros(3))[1]
    return joints - joints[0] + wrist


@lru_cache(maxsize=4)
def _fitter(fingerprint: int) -> Fitter | None:
    try:
        return Fitter(hands.find(fingerprint_to_hex(fingerprint)), flat=True)
    except HandFileError:
        return None


def _label(name: str, raw: Shaped[np.ndarray, "h w *c"], mirrored: bool) -> Tensor:
    """A label that is an image, from its file."""
    if name == "depth":
        return torch.from_numpy(raw.astype(np.float32) * np.float32(DEPTH_UNIT))
    if name == "mask":
        return torch.from_numpy(raw > 127)
    if name == "parts":
        return torch.from_numpy(raw.astype(np.uint8))
    normals = raw[..., ::-1].astype(np.float32) / 127 - 1
    normals[(raw == 0).all(-1)] = 0
    if mirrored:
        normals[..., 0] *= -1
    return torch.from_numpy(normals).permute(2, 0, 1).contiguous()


def _arrays(content: bytes, where: str) -> dict[str, Tensor]:
    names = {f.name for f in fields(HandTargets)} - set(IMAGE_LABELS) | {"intrinsics"} | set(OLD_NAMES)
    rows: dict[str, Tensor] = {}
    try:
        for name, array in read_arrays(io.BytesIO(content), names).items():
            rows[OLD_NAMES.get(name, name)] = torch.from_numpy(np.array(array))
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}.npz cannot be read ({error}); make or copy its tar again") from None
    for name, value in rows.items():
        record = HandInputs if name == "intrinsics" else HandTargets
        if value.shape != (wanted := sample_shape(record, name)):
            raise DataError(f"{where}.npz: {name} has the shape {tuple(value.shape)}, should have {wanted}")
        kind = sample_kind(record, name)
        if value.is_floating_point() != (kind == "Float") or (value.dtype == torch.bool) != (kind == "Bool"):
            raise DataError(f"{where}.npz: {name} has the type {value.dtype}, should have {kind}")
        if value.is_floating_point():
            rows[name] = value.float()
    for name, label in LABELS.items():
        if name in rows and label.mask and label.mask not in rows:
            count = len(sample_shape(HandTargets, label.mask))
            rows[label.mask] = torch.ones(rows[name].shape[:count], dtype=torch.bool)
    rows.setdefault("hand", torch.tensor(0))
    return rows


def build(config: Config, split: str, hand: Hand, image_size: int) -> WebDataset:
    """The data set; `files` chooses a split where a folder holds several.

    Raises:
        DataError: see `WebDataset`; or an unknown way of splitting.
    """
    check_split(config, split, "webdataset")
    return WebDataset(config, split, image_size)
