"""What an AVIF says of its picture before it is decoded: quarter turns, mirrors (ISO/IEC 23008-12, 6.5).

OpenCV decodes the picture as it was coded; viewers turn it by the properties `irot` and `imir` of the primary item, and
pass over the orientation that its EXIF may hold, as the standard says. Of a damaged file nothing is known.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from jaxtyping import Shaped

BRANDS = (b"avif", b"avis")


def is_avif(data: bytes) -> bool:
    """Whether the file says that it is one."""
    return data[4:8] == b"ftyp" and any(brand in data[8:64] for brand in BRANDS)


def upright(image: Shaped[np.ndarray, "h w *c"], data: bytes) -> np.ndarray:
    """The decoded picture (h, w, ...) as its file says that it is to be seen."""
    for kind, payload in _properties(data):
        if kind == b"irot":
            image = np.rot90(image, payload[0] & 3)  # anti-clockwise
        elif kind == b"imir":
            image = image[:, ::-1] if payload[0] & 1 else image[::-1]
    return image


def _properties(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and payload of each property of the primary item, in the order in which they apply."""
    try:
        meta = _first(data, b"meta")[4:]
        properties = _first(meta, b"iprp")
        wanted = _number(_first(meta, b"pitm"))
        there = list(_boxes(_first(properties, b"ipco")))
        numbers = _association(_first(properties, b"ipma"), wanted)
        return [there[n - 1] for n in numbers if 1 <= n <= len(there) and there[n - 1][1]]
    except (struct.error, IndexError, KeyError):
        return []


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and payload of each box."""
    at = 0
    while at + 8 <= len(data):
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        end = at + size if size else len(data)
        if end < at + head:
            return
        yield data[at + 4 : at + 8], data[at + head : end]
        at = end


def _first(data: bytes, wanted: bytes) -> bytes:
    for kind, payload in _boxes(data):
        if kind == wanted:
            return payload
    raise KeyError(wanted)


def _number(pitm: bytes) -> int:
    return struct.unpack(">I" if pitm[0] else ">H", pitm[4 : 8 if pitm[0] else 6])[0]


def _association(ipma: bytes, wanted: int) -> list[int]:
    """Numbers, from 1, of the properties of item `wanted`."""
    (count,) = struct.unpack(">I", ipma[4:8])
    item, entry = (4 if ipma[0] else 2), (2 if ipma[3] & 1 else 1)  # bytes
    at = 8
    for _ in range(count):
        number, length = int.from_bytes(ipma[at : at + item], "big"), ipma[at + item]
        at += item + 1
        entries = [int.from_bytes(ipma[k : k + entry], "big") for k in range(at, at + length * entry, entry)]
        if number == wanted:
            return [value & (0x7FFF if entry == 2 else 0x7F) for value in entries]
        at += length * entry
    return []
