"""What a layout of files is, and the encoding that layouts share.

A block of samples becomes files that are final at once, and one part. The parts of a group of blocks are put together
(a tar, JSON files for all samples) when the last of them is there.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, BinaryIO, Protocol

import cv2
import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8, UInt16
from torch import Tensor

from ...contracts import DEPTH_UNIT, IMAGE_LABELS, HandBatch
from ...mano.hand import fingerprint_to_hex

PNG_LEVEL = 2  # of compression: higher ones save a few per cent and take twice the time
DIGITS = {"px": 5, "m": 8, "rad": 8}  # decimals in JSON: float32 knows no more of a crop's pixel or of an arm's length


class WriteError(RuntimeError):
    """Files that cannot be written; the message names the path, the cause and what stays."""


@dataclass(frozen=True)
class Encoding:
    """How pictures are stored. `quality` is JPEG's, 1 to 100; `lossless`: PNG instead."""

    quality: int = 95
    lossless: bool = False

    @property
    def suffix(self) -> str:
        """Of the picture's file name, without a dot."""
        return "png" if self.lossless else "jpg"

    def encode(self, bgr: UInt8[np.ndarray, "h w 3"]) -> bytes:
        """The picture's file."""
        return png(bgr) if self.lossless else jpeg(bgr, self.quality)


@dataclass(frozen=True)
class Block:
    """The files of some samples, by their path in the folder, and what is kept until their group is complete."""

    files: dict[str, bytes]
    part: bytes


class Layout(Protocol):
    """One way to lay samples out as files.

    `span`: blocks whose parts make one group, 0: all blocks of the job. `about`: a line for the folder's card.
    """

    span: int
    about: str

    def encode(self, batch: Any, indices: list[int]) -> Block:
        """The files of the samples `indices`: the rows of a HandBatch, or what else the layout takes."""
        ...

    def outputs(self, group: int) -> list[str]:
        """Paths of the files that the parts of a group make."""
        ...

    def assemble(self, parts: Iterable[bytes], sinks: list[BinaryIO]) -> None:
        """Write the outputs of one group from its parts, in order, one at a time in memory."""
        ...


@dataclass(frozen=True)
class Samples:
    """A batch as numpy arrays, ready to be encoded."""

    images: UInt8[np.ndarray, "b h w 3"]  # BGR
    mask: UInt8[np.ndarray, "b h w"]  # 0 or 255
    depth: UInt16[np.ndarray, "b h w"]  # in steps of DEPTH_UNIT
    maps: dict[str, np.ndarray]  # label images on request: parts (b h w), normals (b h w 3, BGR)
    labels: dict[str, np.ndarray]  # every other field of HandTargets, and `intrinsics`
    keys: list[str]

    @classmethod
    def of(cls, batch: HandBatch) -> Samples:
        """Every label of a batch that has images, masks, depth and intrinsics.

        Left hands are pictures of left hands here, as a camera would see them; `labels` are the contracts', mirrored.
        """
        targets, left = batch.targets, batch.targets.is_left.cpu().numpy()

        def photo(pictures: Shaped[np.ndarray, "b h w *c"]) -> np.ndarray:
            pictures[left] = pictures[left, :, ::-1]
            return pictures

        images = photo((batch.inputs.image * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy().copy())
        depth = (targets.depth.double() / DEPTH_UNIT).round().clamp(0, 65535).cpu().numpy().astype(np.uint16)
        maps = {}
        if targets.parts is not None:
            maps["parts"] = photo(targets.parts.cpu().numpy().copy())
        if targets.normals is not None:
            maps["normals"] = photo(encode_normals(targets.normals.permute(0, 2, 3, 1).cpu().numpy(), left))
        known = {f.name: getattr(targets, f.name) for f in fields(targets) if f.name not in IMAGE_LABELS}
        labels = {name: value.cpu().numpy() for name, value in known.items() if isinstance(value, Tensor)}
        labels["intrinsics"] = batch.inputs.intrinsics.cpu().numpy()
        mask = photo(targets.mask.cpu().numpy().astype(np.uint8) * 255)
        return cls(images[..., ::-1], mask, photo(depth), maps, labels, batch.keys)

    def arrays(self, k: int) -> dict[str, np.ndarray]:
        """The labels of one sample, under the names, units and frames of HandTargets."""
        return {name: np.asarray(value[k]) for name, value in self.labels.items()}

    def photo_labels(self, k: int) -> dict[str, object]:
        """What the data set `folder` reads about a hand."""
        row = self.arrays(k)
        pixels, joints = row["joints_2d"].astype(np.float64), row["joints"].astype(np.float64) + row["root"]
        camera = row["intrinsics"].astype(np.float64)
        if row["is_left"]:  # in the picture's own frame
            width = self.images.shape[2]
            pixels, joints = [width, 0] + pixels * [-1, 1], joints * [-1, 1, 1]
            camera = np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]]) @ camera * [-1, 1, 1]
        return {
            "keypoints_px": numbers(pixels, "px"),
            "joints_m": numbers(joints, "m"),
            "K": numbers(camera, "px"),
            "handedness": "left" if row["is_left"] else "right",
        }

    def readable(self, k: int) -> dict[str, object]:
        """`photo_labels`, and the rest of the labels but the mesh. The pose is a right hand's."""
        row = self.arrays(k)
        also = ("joint_visibility", "skin_tone", "light_direction")
        return {
            "key": self.keys[k],
            **self.photo_labels(k),
            "box": self._box(row),
            "visible": row["joints_visible"].tolist(),
            **{name: np.round(row[name].astype(float), 4).tolist() for name in also if name in row},
            "pose": numbers(row["pose"], "rad"),
            "shape": numbers(row["shape"], "rad"),
            "hand": fingerprint_to_hex(int(row["hand"])),
        }

    def _box(self, row: dict[str, Shaped[np.ndarray, "..."]]) -> list[float]:
        """px, x0, y0, x1, y1 round the hand without its arm, cut off at the picture and in its own frame."""
        width = self.images.shape[2]
        seen = (row["vertices"].astype(np.float64) + row["root"]) @ row["intrinsics"].T
        outline = (seen[:, :2] / seen[:, 2:]).clip(0, width)
        if row["is_left"]:
            outline = [width, 0] + outline * [-1, 1]
        return numbers(np.concatenate([outline.min(0), outline.max(0)]), "px")


def encode_normals(normals: Float[np.ndarray, "b h w 3"], left: Bool[np.ndarray, "b"]) -> UInt8[np.ndarray, "b h w 3"]:
    """Normals as pictures: 127 (n + 1) rounded, x in red, black where there is none; x is mirrored for left hands."""
    sign = np.where(left[:, None], [-1.0, 1, 1], 1.0)[:, None, None].astype(np.float32)
    coded = np.round((normals * sign + 1) * 127).astype(np.uint8)
    coded[~normals.any(-1)] = 0
    return coded[..., ::-1].copy()


def numbers(values: Shaped[np.ndarray, "*s"], unit: str) -> list:
    """Nested lists for JSON, with as many decimals as the unit deserves."""
    return np.round(values.astype(np.float64), DIGITS[unit]).tolist()


def to_json(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def npz(arrays: dict[str, Shaped[np.ndarray, "..."]]) -> bytes:
    """An uncompressed .npz file, which carries no time."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def jpeg(image: UInt8[np.ndarray, "h w *c"], quality: int) -> bytes:
    """A JPEG file of a BGR or grey image. Colours are not halved: that costs a model more than all the rest of JPEG."""
    full = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality, *full])


def png(image: Shaped[np.ndarray, "h w *c"]) -> bytes:
    """A PNG file of a BGR, grey or 16-bit grey image."""
    return _encode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])


def _encode(suffix: str, image: Shaped[np.ndarray, "h w *c"], options: list[int]) -> bytes:
    return cv2.imencode(suffix, np.ascontiguousarray(image), options)[1].tobytes()
