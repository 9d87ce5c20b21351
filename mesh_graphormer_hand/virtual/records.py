"""Records of arrays with one row a sample: select or repeat their rows, list their arrays.

A record is a dataclass whose fields are numpy arrays, other records, or tuples of records. A `Shared` record holds what
all samples have in common and passes through unchanged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

Record = TypeVar("Record")


class Shared:
    """Base of records whose arrays have no row a sample."""


def take(record: Record, rows: Sequence[int] | np.ndarray) -> Record:
    """The record of the samples `rows`."""
    return map_arrays(record, lambda array: array[rows])


def repeat(record: Record, count: int) -> Record:
    """Every sample `count` times in a row."""
    return map_arrays(record, lambda array: array.repeat(count, 0))


def map_arrays(record: Record, function: Callable[[np.ndarray], np.ndarray]) -> Record:
    """The record with `function` applied to every array that has a row a sample, at any depth."""
    if isinstance(record, np.ndarray):
        return function(record)
    if isinstance(record, tuple):
        return tuple(map_arrays(item, function) for item in record)
    if isinstance(record, Shared) or not dataclasses.is_dataclass(record):
        return record
    changed = {f.name: map_arrays(getattr(record, f.name), function) for f in dataclasses.fields(record)}
    return dataclasses.replace(record, **changed)


def arrays(record: object) -> list[np.ndarray]:
    """All arrays with a row a sample, in the order of the fields."""
    found: list[np.ndarray] = []

    def note(array: Shaped[np.ndarray, "*s"]) -> np.ndarray:
        found.append(array)
        return array

    map_arrays(record, note)
    return found


def float_tensor(array: Shaped[np.ndarray, "*s"], device: torch.device) -> Float32[Tensor, "*s"]:
    """The array on `device`, in single precision."""
    return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)
