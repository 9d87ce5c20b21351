"""Where the first open hand's vertices lay, from which the shipped one was made (`python -m tools.open_hand --again`).

first_places.npz has them as differences to the shipped hand's: of every coordinate how many float32 numbers lie
between the two, in four planes of bytes, most of which are 0. Triangles and skin weights are the same in both hands.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

PLACES = Path(__file__).with_name("first_places.npz")
MOVED = ("v_template", "hi_v")  # what differs, of all that building on an earlier hand reads


class OtherHandError(ValueError):
    """The places are told from another hand."""


def places(first: Mapping[str, np.ndarray], shipped: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The content of first_places.npz."""
    planes = {name: _planes(_rank(first[name]) - _rank(shipped[name])) for name in MOVED}
    return {**planes, "told_from": _checksum(shipped)}


def restored(shipped: Mapping[str, np.ndarray], told: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The shipped hand's arrays with the vertices of the first one, to the bit.

    Raises:
        OtherHandError: `told` is about another hand than `shipped`.
    """
    if not np.array_equal(told["told_from"], _checksum(shipped)):
        raise OtherHandError(f"{PLACES.name} was made for another hand than this one: take the shipped open_hand.npz")
    return {**shipped, **{name: _moved(shipped[name], _differences(told[name])) for name in MOVED}}


def _rank(values: np.ndarray) -> np.ndarray:
    """Where each float32 number stands among all of them, from -2^31 on."""
    bits = values.astype(np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _moved(values: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    rank = _rank(values) + ranks.reshape(values.shape)
    bits = np.where(rank < 0, -rank | 0x80000000, rank)
    return bits.astype(np.uint32).view(np.float32)


def _planes(differences: np.ndarray) -> np.ndarray:
    """Small whole numbers, of either sign, as four rows of bytes, the last ones mostly 0."""
    folded = (differences << 1 ^ differences >> 63).ravel()
    return np.stack([folded >> shift & 255 for shift in (0, 8, 16, 24)]).astype(np.uint8)


def _differences(planes: np.ndarray) -> np.ndarray:
    folded = sum(plane.astype(np.int64) << 8 * k for k, plane in enumerate(planes))
    return folded >> 1 ^ -(folded & 1)


def _checksum(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """A number for the hand's places, wherever it is computed."""
    return np.array([_rank(arrays[name]).sum() for name in MOVED])
