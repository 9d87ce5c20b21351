"""What an image file says of itself before it is decoded: how large it is, how many pictures it holds, its lens.

Bounds a decoder's appetite (a few bytes may claim gigabytes) and reads the focal length that phones write. Nothing here
fails on a damaged file: what cannot be read is None, and the decoder has the last word.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

from PIL import Image

JPEG_SIZE = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of frames
JPEG_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
ENTROPY_CODED = {0x00, *range(0xD0, 0xD8)}  # what follows 0xFF inside a JPEG scan: a stuffed byte, restart markers
FILM_DIAGONAL = math.hypot(36, 24)  # mm, of the 35 mm film that lenses are compared on
EXIF_POINTER, FOCAL_35MM = 0x8769, 0xA405
KINDS_READ = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "JPEG2000", "PPM", "AVIF")  # Pillow's names
KINDS_OF_SEVERAL = ("PNG", "WEBP", "TIFF", "GIF")
HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}  # brands
AVIF = {b"avif", b"avis"}


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that the file claims, px; None for kinds that are not known here and for damaged files."""
    picture = _opened(data)
    return None if picture is None else picture.size


def count_pictures(data: bytes) -> int:
    """How many pictures an animation or a file of pages holds; 1 for other kinds and for damaged files."""
    picture = _opened(data)
    if picture is None or picture.format not in KINDS_OF_SEVERAL:
        return 1
    try:
        return getattr(picture, "n_frames", 1)
    except Exception:  # a damaged frame raises almost anything
        return 1


def focal_length(data: bytes, width: int, height: int) -> float | None:
    """The focal length in px of a picture of `width` x `height` px as its EXIF gives it, None where it does not.

    From FocalLengthIn35mmFilm (CIPA DC-008), which compares diagonals: f = f35 / 43.27 mm * diagonal in px. For an
    image that was cut from a larger one and kept its EXIF the result is too short.
    """
    picture = _opened(data)
    if picture is None or data[:2] != b"\xff\xd8":
        return None
    try:
        value = picture.getexif().get_ifd(EXIF_POINTER).get(FOCAL_35MM)
        return float(value) / FILM_DIAGONAL * math.hypot(width, height) if value else None
    except Exception:  # damaged EXIF raises almost anything
        return None


def _opened(data: bytes) -> Image.Image | None:
    """The file as Pillow sees it, its pixels not decoded; None for other kinds and damaged files.

    Not by `Image.open`, which refuses more pixels than a setting of the whole program allows, and phones' photos have
    more.
    """
    Image.init()
    for kind in KINDS_READ:
        factory, accepts = Image.OPEN.get(kind, (None, None))
        if factory is not None and accepts is not None and accepts(data[:16]) is True:
            try:
                return factory(io.BytesIO(data), "")
            except Exception:  # damaged headers raise almost anything
                return None
    return None


def is_heic(data: bytes) -> bool:
    """Whether the file is a HEIF picture as iPhones take them: in HEVC, not in AV1."""
    if data[4:8] != b"ftyp":
        return False
    length = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[i : i + 4] for i in range(16, length, 4))}
    return bool(brands & HEIC) and not brands & AVIF


def is_cut_short(data: bytes) -> bool:
    """Whether a JPEG, PNG, WebP, GIF or BMP ends before it says so (decoders fill what is missing with grey)."""
    if data[:2] == b"\xff\xd8":
        return not _jpeg_is_complete(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return b"IEND" not in data[-4096:] and b"IEND" not in data
    if data[:4] == b"RIFF":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if data[:3] == b"GIF":
        return b"\x3b" not in data[-64:]
    return data[:2] == b"BM" and len(data) < int.from_bytes(data[2:6], "little")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers with a length and what stands in them, up to the first scan."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in JPEG_ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (0xD9, 0xDA) or length < 2:
            return
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def _jpeg_is_complete(data: bytes) -> bool:
    """Whether the JPEG at the start of `data` has its end marker.

    Walks the markers: a thumbnail inside, or a film behind the image as phones write it, has markers of its own.
    """
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return True  # not a marker: odd, but for the decoder to judge
        marker = data[at + 1]
        if marker == 0xD9:
            return True
        if marker == 0xFF or marker in JPEG_ALONE:
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


def has_all_scans(data: bytes) -> bool:
    """Whether the scans of a JPEG, the last of which may be cut, hold every coefficient of every colour to its last
    bit: a progressive one brings them bit by bit, and nothing else says how many scans there should be."""
    marker, frame = next((found for found in _jpeg_segments(data) if found[0] in JPEG_SIZE), (0, b""))
    if marker not in (0xC0, 0xC1, 0xC2):  # baseline, extended, progressive
        return False
    missing = {(colour, k) for colour in frame[6::3] for k in range(64)}
    at = data.find(b"\xff\xda", data.find(frame))  # behind the frame: a thumbnail has scans of its own
    while at >= 0:
        scan = data[at + 5 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
        if len(scan) >= 5 and not scan[-1] & 15:
            missing -= {(colour, k) for colour in scan[:-3:2] for k in range(scan[-3], scan[-2] + 1)}
        at = data.find(b"\xff\xda", at + 2)
    return not missing
