"""Photos from files, and square crops cut out of them. The only reader of image files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..config import ConfigError

FORMATS = "JPEG, PNG, WebP, BMP or TIFF"
ENTROPY_CODED = {0x00, *range(0xD0, 0xD8)}  # what follows 0xFF inside a JPEG scan: a stuffed byte, restart markers


class DataError(ConfigError):
    """A file of data that cannot be used; the message names the file, the place in it and the remedy."""


def read_image(path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """The photo in RGB, upright (EXIF applied); grey, 16 bit and alpha become plain 8-bit colour.

    Raises:
        DataError: no such file, a folder, empty, cut short, or no image.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder; give an image file ({FORMATS})")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if not data:
        raise DataError(f"{path} is empty (0 bytes); copy it again")
    if data[:2] == b"\xff\xd8" and not _jpeg_is_complete(data):
        raise DataError(f"{path} is a JPEG that was cut short ({len(data)} bytes); copy it again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DataError(f"{path} cannot be decoded: {error.err or error}") from None
    if image is None:
        raise DataError(f"{path} is not an image that can be read, or is damaged; give a {FORMATS}")
    return np.ascontiguousarray(image[..., ::-1])


def cut_crop(
    image: UInt8[np.ndarray, "h w 3"], image_from_crop: Float[Tensor, "2 3"], size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """The crop of `size` x `size` pixels that `image_from_crop` places in the photo; a mirroring map mirrors it.

    A crop larger than `size` in the photo is averaged down, not sampled; beyond the photo its edge is repeated.
    """
    matrix = image_from_crop.double().cpu().numpy()
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) @ matrix[:, :2].T + matrix[:, 2]
    height, width = image.shape[:2]
    margin = 2 + np.linalg.norm(matrix[:, 0])  # photo px: a crop's pixel and a bit
    x0, y0 = np.clip(np.floor(corners.min(0) - margin), 0, [width - 1, height - 1]).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(0) + margin), [x0 + 1, y0 + 1], [width, height]).astype(int)
    region = image[y0:y1, x0:x1]
    matrix[:, 2] -= (x0, y0)
    shrink = np.linalg.norm(matrix[:, 0])
    if shrink > 1:
        target = np.maximum(np.round(np.array(region.shape[1::-1]) / shrink), 1).astype(int)
        matrix *= (target / region.shape[1::-1])[:, None]
        region = cv2.resize(region, target.tolist(), interpolation=cv2.INTER_AREA)
    matrix[:, 2] += matrix[:, :2].sum(-1) / 2 - 0.5  # OpenCV measures from the first pixel's centre
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(region, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def to_tensor(image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "3 h w"]:
    """RGB in [0, 1], channels first."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float().div_(255)


def _jpeg_is_complete(data: bytes) -> bool:
    """Whether the JPEG at the start of `data` has its end marker (decoders fill what is missing with grey).

    Walks the markers: a thumbnail inside, or a film behind the image as phones write it, has markers of its own.
    """
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return True  # not a marker: odd, but for the decoder to judge
        marker = data[at + 1]
        if marker == 0xD9:
            return True
        if marker == 0xFF or 0xD0 <= marker <= 0xD7 or marker == 0x01:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            at = data.find(b"\xff", at)
            while 0 <= at < len(data) - 1 and data[at + 1] in ENTROPY_CODED:
                at = data.find(b"\xff", at + 2)
            if at < 0:
                return False
    return data[at : at + 2] == b"\xff\xd9"
