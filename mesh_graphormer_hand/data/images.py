"""Photos from files, and square crops cut out of them. The only reader of image files."""

from __future__ import annotations

import io
import logging
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor

from ..config import ConfigError
from ..geometry.crops import compose_affine, homogeneous, linearised
from . import headers, heif

logger = logging.getLogger(__name__)

MAX_FILE_PIXELS = 250_000_000  # of an image file; the largest phone cameras have 200 million
READABLE_FORMATS = "JPEG, PNG, WebP, BMP or TIFF"
READ_COLOUR = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
JPEG_END = b"\xff\xd9"
# bytes that a scan does not end with, and their complement, for the first may happen to end a block; then the same
# behind each of the markers that divide a scan: where one of them is due, bytes without it are skipped
FOREIGN_BYTES = [
    bytes4 * 64 + b"".join(bytes([0xFF, 0xD0 + n]) + bytes4 * 64 for n in range(8))
    for bytes4 in (b"\x5a\xa5\x13\xc7", b"\xa5\x5a\xec\x38")
]


class DataError(ConfigError):
    """A file of data that cannot be used; the message names the file, the place in it and the remedy."""


def read_image(path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """The photo in RGB, upright (by EXIF, or an AVIF's own turns); grey, 16 bit and alpha become plain colour of 8.

    Raises:
        DataError: no such file, a folder, empty, cut short, no image, too large, or several images in one.
    """
    return decode_image(read_bytes(path), path)


def read_raw(path: str | Path) -> np.ndarray:
    """The numbers of a label image (mask, depth) as they are stored: any depth; colours come as BGR.

    Raises:
        DataError: as `read_image`.
    """
    return decode_raw(read_bytes(path), path)


def read_bytes(path: str | Path) -> bytes:
    """The content of an image file.

    Raises:
        DataError: no such file, a folder, no permission, or empty.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder; give an image file ({READABLE_FORMATS})")
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is a device or a pipe; give an image file ({READABLE_FORMATS})")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if not data:
        raise DataError(f"{path} is empty (0 bytes); copy it again")
    return data


def decode_image(data: bytes, path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """`read_image` of a file's content; `path` is the name in messages. Raises the same."""
    if heif.is_avif(data):
        image = heif.upright(_decode(data, path, READ_COLOUR | cv2.IMREAD_IGNORE_ORIENTATION), data)
    else:
        image = _decode(data, path, READ_COLOUR)
    if image.dtype not in (np.uint8, np.uint16):  # a TIFF of floats and the like: OpenCV's own way to 8 bits
        image = _decode(data, path, cv2.IMREAD_COLOR)
    if (count := headers.count_pictures(data)) > 1:
        raise DataError(f"{path} holds {count} pictures; give one of them, or make a video file of them")
    return np.ascontiguousarray(_in_8_bits(image, str(Path(path).parent))[..., ::-1])


def decode_raw(data: bytes, path: str | Path) -> np.ndarray:
    """`read_raw` of a file's content; `path` is the name in messages. Raises the same."""
    return _decode(data, path, cv2.IMREAD_UNCHANGED)


def _decode(data: bytes, path: str | Path, how: int) -> np.ndarray:
    claimed = headers.image_size(data)
    if claimed and claimed[0] * claimed[1] > MAX_FILE_PIXELS:
        raise DataError(
            f"{path} says that it is {claimed[0]} x {claimed[1]} pixels, more than {MAX_FILE_PIXELS // 10**6} million; "
            "make it smaller"
        )
    data = _with_its_end(data)
    if headers.is_cut_short(data):
        raise DataError(f"{path} is an image that was cut short ({len(data)} bytes); copy it again")
    if headers.is_heic(data):
        return _decode_heic(data, path)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), how) if data else None
    except cv2.error as error:
        raise DataError(f"{path} cannot be decoded: {error.err or error}") from None
    if image is None:
        raise DataError(f"{path} is not an image that can be read, or is damaged; give a {READABLE_FORMATS}")
    return image


def _with_its_end(data: bytes) -> bytes:
    """The file; a JPEG that lacks nothing but its end marker, as some cameras write it, with that marker. Such a one
    holds all pixels: what is appended to its scan changes none of them."""
    if data[:2] != b"\xff\xd8" or not headers.is_cut_short(data) or not headers.has_all_scans(data):
        return data
    scan = data.rstrip(b"\xff")
    whole, *longer = (
        cv2.imdecode(np.frombuffer(scan + more + JPEG_END, np.uint8), cv2.IMREAD_COLOR)
        for more in (b"", *FOREIGN_BYTES)
    )
    return scan + JPEG_END if whole is not None and all(np.array_equal(whole, other) for other in longer) else data


def _in_8_bits(image: Shaped[np.ndarray, "h w *c"], where: str) -> UInt8[np.ndarray, "..."]:
    """The image; of 16 bits the upper 8 of those that its brightest pixel uses, since sensors give 10, 12 or 14."""
    if image.dtype == np.uint8:
        return image
    bits = max(int(image.max()).bit_length(), 8)
    if bits < 16:
        _tell_stretched(bits, where)
    return (image >> (bits - 8)).astype(np.uint8)


@lru_cache(maxsize=64)  # once for each folder: sensors give thousands of pictures
def _tell_stretched(bits: int, where: str) -> None:
    logger.warning("%s: 16-bit pictures of which %d bits are used are taken as %d-bit ones", where, bits, bits)


def _decode_heic(data: bytes, path: str | Path) -> np.ndarray:
    """BGR, upright, of 8 bits."""
    try:
        import pillow_heif
    except ImportError:
        raise DataError(
            f"{path} is a HEIC picture, as iPhones take them; to read it: pip install pillow-heif; or save it as JPEG"
        ) from None
    try:
        picture = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True, bgr_mode=True)
        width, height = picture.size
        image = np.asarray(picture) if width * height <= MAX_FILE_PIXELS else None
    except (ValueError, OSError, RuntimeError, SyntaxError) as error:
        raise DataError(f"{path} is a HEIC picture that is damaged ({error}); copy it again") from None
    if image is None:
        raise DataError(
            f"{path} has {width} x {height} pixels, more than {MAX_FILE_PIXELS // 10**6} million; make it smaller"
        )
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image[..., :3]


def as_photo(image: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, "h w 3"]:
    """An array as a plain photo: RGB uint8 as it stands; grey, one channel, RGBA and uint16 as `read_image` does.

    Raises:
        DataError: no array, no such shape, other numbers (floats have no agreed range), or no pixels.
    """
    kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16):
        raise DataError(f"an image should be a file or an RGB uint8 array (height, width, 3), this is {kind}")
    shape_is_right = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4))
    if not shape_is_right:
        raise DataError(f"an image should be (height, width) or (height, width, 1, 3 or 4), this is {kind}")
    if not image.size:
        raise DataError(f"the image has no pixels: {image.shape}")
    image = _in_8_bits(image, "arrays")
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(image[..., :3])


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


def cut_view(
    image: UInt8[np.ndarray, "h w 3"], photo_from_crop: Float[Tensor, "3 3"], size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """`cut_crop` of any `geometry.viewing.photo_from_crop`: twice as much round it and twice as fine, then turned."""
    if not photo_from_crop[2, :2].any():
        return cut_crop(image, photo_from_crop[:2], size)
    place = linearised(photo_from_crop, photo_from_crop.new_full((2,), size / 2))
    around = compose_affine(place, place.new_tensor([[0.5, 0, -size / 2], [0, 0.5, -size / 2]]))
    fine_from_around = torch.linalg.inv(homogeneous(around).double()) @ photo_from_crop.double()
    matrix = fine_from_around.numpy() @ np.diag([0.5, 0.5, 1.0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    wide = cut_crop(image, around, 4 * size)
    fine = cv2.warpPerspective(
        wide, _from_centres(matrix), (2 * size, 2 * size), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)


def paste_mask(
    logits: Float[Tensor, "rows columns"], photo_from_crop: Float[Tensor, "3 3"], size: int, shape: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """The mask of a crop of `size` px where it lies in a photo of `shape`; outside the crop there is none."""
    map_from_crop = np.diag([logits.shape[1] / size, logits.shape[0] / size, 1.0])
    matrix = map_from_crop @ torch.linalg.inv(photo_from_crop.double()).numpy()
    matrix /= matrix[2] @ [*photo_from_crop[:2, 2].tolist(), 1.0]  # above 0 where the crop's camera looks forward
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    logits = logits.clamp(-50, 50).numpy()
    pasted = cv2.warpPerspective(logits, _from_centres(matrix), shape[::-1], flags=flags, borderValue=-50.0)
    forward = matrix[2, 0] * np.arange(shape[1]) + (matrix[2, 1] * np.arange(shape[0]))[:, None] + matrix[2, 2]
    return (pasted > 0) & (forward > 0)


def _from_centres(matrix: Float[np.ndarray, "3 3"]) -> np.ndarray:
    """A map of pixels for OpenCV, which measures from the first pixel's centre."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return np.linalg.inv(half) @ matrix @ half


def to_tensor(image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "3 h w"]:
    """RGB in [0, 1], channels first."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float().div_(255)
