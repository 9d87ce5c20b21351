"""What one predictor says about a whole data set, and the pieces of the files that protocols write of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..files import replacing

DECIMALS = 6  # of numbers in files: micrometres and millionths of a pixel


@dataclass
class Predictions:
    """The predictions of one predictor in the frames of the photos: unmirrored, camera axes, in batches.

    Predictions of 3D hands are placed in front of the camera where the camera is known.
    """

    keys: list[str] = field(default_factory=list)  # of the samples
    joints: list[Float[np.ndarray, "b 21 3"]] = field(default_factory=list)  # m, canonical order
    vertices: list[Float[np.ndarray, "b 778 3"]] = field(default_factory=list)  # m
    joints_px: list[Float[np.ndarray, "b 21 2"]] = field(default_factory=list)  # px of the photo
    who: str = "model"  # the predictor's name
    total: int = 0  # samples of the whole test set

    def joined(self, name: str) -> Float[np.ndarray, "n p c"] | None:
        """All samples of the field `name`; None where the predictor does not produce it."""
        batches = getattr(self, name)
        return np.concatenate(batches) if batches else None

    @property
    def suffix(self) -> str:
        """End of a file name's stem: empty for the model itself, "_WHO" for another predictor."""
        return "" if self.who == "model" else f"_{self.who}"


def json_array(values: Float[np.ndarray, "..."]) -> str:
    """JSON of an array, rounded to DECIMALS."""
    return json.dumps(np.round(values.astype(np.float64), DECIMALS).tolist(), separators=(",", ":"))


def write_table(rows: Mapping[str, Mapping[str, Float[np.ndarray, "..."] | list[str]]], path: Path) -> Path:
    """Write our table of predictions (metrics/protocols/base.py), a sample a line; returns `path`.

    Args:
        rows: sample -> key of the table -> array or list of words.
    """

    def lines() -> Iterator[str]:
        yield "{\n"
        for i, (name, row) in enumerate(rows.items()):
            cells = (f'"{k}": {json.dumps(v) if isinstance(v, list) else json_array(v)}' for k, v in row.items())
            yield (",\n" if i else "") + f"{json.dumps(name)}: {{{', '.join(cells)}}}"
        yield "\n}\n"

    return write_pieces(lines(), path)


def table_rows(
    predictions: Predictions, names: list[str], fields: Iterable[str] = ("joints", "joints_px")
) -> dict[str, dict[str, Float[np.ndarray, "p c"]]]:
    """Rows of our table: `names` (one a sample) -> joints_m, joints_px, vertices_m, as far as they are predicted."""
    keys = {"joints": "joints_m", "joints_px": "joints_px", "vertices": "vertices_m"}
    columns = {keys[f]: values for f in fields if (values := predictions.joined(f)) is not None}
    return {name: {key: values[i] for key, values in columns.items()} for i, name in enumerate(names)}


def write_pieces(pieces: Iterable[str], path: Path) -> Path:
    """Write a text file, whole or not at all; returns `path`."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(pieces)
    return path
