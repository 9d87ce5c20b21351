"""What an image file says of itself before it is decoded: how large it is, how many pictures it holds, its lens.

Bounds a decoder's appetite (a few bytes may claim gigabytes) and reads the focal length that phones write. Nothing here
fails on a damaged file: what cannot be read is None, and the decoder has the last word.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator

from . import heif

JPEG_SIZE = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of frames
JPEG_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
ENTROPY_CODED = {0x00, *range(0xD0, 0xD8)}  # what follows 0xFF inside a JPEG scan: a stuffed byte, restart markers
FILM_DIAGONAL = math.hypot(36, 24)  # mm, of the 35 mm film that lenses are compared on
EXIF_POINTER, FOCAL_35MM = 0x8769, 0xA405
TIFF_WIDTH, TIFF_HEIGHT = 256, 257
PNM = re.compile(rb"P[1-7f]?(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)", re.IGNORECASE)
SHORT, LONG = 3, 4  # EXIF's types of numbers
HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}  # brands
AVIF = {b"avif", b"avis"}


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that the file claims; None for kinds that are not known here."""
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return struct.unpack(">II", data[16:24])
        if data[:3] == b"GIF":
            return struct.unpack("<HH", data[6:10])
        if data[:2] == b"BM":
            width, height = struct.unpack("<ii", data[18:26])
            return abs(width), abs(height)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_size(data)
        if data[:2] == b"\xff\xd8":
            return _jpeg_size(data)
        if data[:4] in (b"II*\x00", b"MM\x00*"):
            return _tiff_size(data)
        if data[4:8] == b"jP  " or data[:4] == b"\xff\x4f\xff\x51":
            return _jpeg_2000_size(data)
        if heif.is_avif(data):
            return heif.image_size(data)
        if pnm := PNM.match(data[:1024]):
            return int(pnm[1]), int(pnm[2])
    except struct.error:  # cut short
        return None
    return None


def is_heic(data: bytes) -> bool:
    """Whether the file is a HEIF picture as iPhones take them: in HEVC, not in AV1."""
    if data[4:8] != b"ftyp":
        return False
    length = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[i : i + 4] for i in range(16, length, 4))}
    return bool(brands & HEIC) and not brands & AVIF


def may_hold_several(data: bytes) -> bool:
    """Whether the file is of a kind that can hold several pictures, and says so or cannot tell cheaply."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return b"acTL" in data[8 : data.find(b"IDAT")]
    if data[:4] == b"RIFF":
        return b"ANIM" in data[:128]
    return data[:3] == b"GIF" or data[:4] in (b"II*\x00", b"MM\x00*")


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


def focal_length(data: bytes, width: int, height: int) -> float | None:
    """The focal length in px of a JPEG of `width` x `height` px as its EXIF gives it, None where it does not.

    From FocalLengthIn35mmFilm (CIPA DC-008), which compares diagonals: f = f35 / 43.27 mm * diagonal in px. For an
    image that was cut from a larger one and kept its EXIF the result is too short.
    """
    for marker, segment in _jpeg_segments(data):
        if marker == 0xE1 and segment[:6] == b"Exif\x00\x00":
            tiff = segment[6:]
            try:
                value = _focal_35mm(tiff)
            except struct.error:
                return None
            return value / FILM_DIAGONAL * math.hypot(width, height) if value else None
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _tiff_size(data: bytes) -> tuple[int, int] | None:
    """Of its first page."""
    order = "<" if data[:2] == b"II" else ">"
    (first,) = struct.unpack(order + "I", data[4:8])
    width, height = (_entry(data, order, first, tag) for tag in (TIFF_WIDTH, TIFF_HEIGHT))
    return None if width is None or height is None else (width, height)


def _jpeg_2000_size(data: bytes) -> tuple[int, int] | None:
    at = data[:4096].find(b"\xff\x4f\xff\x51")  # where its code stream begins
    if at < 0:
        return None
    x1, y1, x0, y0 = struct.unpack(">IIII", data[at + 8 : at + 24])
    return x1 - x0, y1 - y0


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    for marker, segment in _jpeg_segments(data):
        if marker in JPEG_SIZE:
            height, width = struct.unpack(">HH", segment[1:5])
            return width, height
    return None


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


def _focal_35mm(tiff: bytes) -> int | None:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    (first,) = struct.unpack(order + "I", tiff[4:8])
    pointer = _entry(tiff, order, first, EXIF_POINTER)
    return None if pointer is None else _entry(tiff, order, pointer, FOCAL_35MM)


def _entry(tiff: bytes, order: str, at: int, wanted: int) -> int | None:
    """The whole number under tag `wanted` of the directory at `at`."""
    (count,) = struct.unpack(order + "H", tiff[at : at + 2])
    for k in range(count):
        start = at + 2 + 12 * k
        tag, kind = struct.unpack(order + "HH", tiff[start : start + 4])
        if tag == wanted and kind in (SHORT, LONG):
            return struct.unpack(order + "HI"[kind == LONG], tiff[start + 8 : start + (12 if kind == LONG else 10)])[0]
    return None
