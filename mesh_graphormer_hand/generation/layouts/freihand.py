"""FreiHAND's own files (github.com/lmb-freiburg/freihand, its README and utils), so that code for it trains on ours.

    training/rgb/00000000.jpg  training/mask/00000000.jpg
    training_K.json      3 x 3, pixels from the crop's corner
    training_xyz.json    21 x 3, m, camera axes
    training_verts.json  778 x 3, m, camera axes
    training_mano.json   1 x 61: 48 axis-angles less the mean pose, 10 betas, middle MCP in pixels, focal length / its z
    training_scale.json  norm of xyz[9] - xyz[10], m

The test split is called `evaluation`. Beyond FreiHAND: training/depth/00000000.png (16 bit, steps of 0.1 mm) and
training_visible.json (21 booleans). Fingertips are the vertices of the hand's own convention (skeleton.FINGERTIPS).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from jaxtyping import Shaped

from ...config import ConfigError
from ...contracts import HandBatch
from ...mano.hand import Hand
from .base import Block, Encoding, Layout, Samples, jpeg, numbers, png, to_json

TABLES = ("K", "xyz", "verts", "mano", "scale", "visible")
ROOT, NEXT = 9, 10  # FreiHAND's root, the middle finger's MCP, and its PIP: the bone between them is `scale`
MASK_QUALITY = 95  # masks are JPEGs there: above and below 128


@dataclass(frozen=True, eq=False)
class FreiHand(Layout):
    """Part: the rows of every table, one JSON text each."""

    encoding: Encoding
    split: str
    hands_mean: np.ndarray
    span: int = 0
    about: str = (
        "FreiHAND's files. Code that expects its 32,560 annotations, or takes a picture's number modulo 32,560, wants "
        "`--count 32560`. Beyond FreiHAND: `depth/` (16 bit, steps of 0.1 mm) and `*_visible.json`"
    )

    @property
    def name(self) -> str:
        """FreiHAND's word for the split."""
        return "evaluation" if self.split == "test" else "training"

    def encode(self, batch: HandBatch, indices: list[int]) -> Block:
        """See `Layout`."""
        samples, files = Samples.of(batch), {}
        rows: dict[str, list[str]] = {table: [] for table in TABLES}
        for k, index in enumerate(indices):
            files[f"{self.name}/rgb/{index:08d}.jpg"] = self.encoding.encode(samples.images[k])
            files[f"{self.name}/mask/{index:08d}.jpg"] = jpeg(samples.mask[k], MASK_QUALITY)
            files[f"{self.name}/depth/{index:08d}.png"] = png(samples.depth[k])
            for table, value in self._rows(samples.arrays(k)).items():
                rows[table].append(to_json(value))
        return Block(files, to_json(rows).encode())

    def _rows(self, row: dict[str, Shaped[np.ndarray, "..."]]) -> dict[str, object]:
        root = row["root"].astype(np.float64)
        xyz, intrinsics = row["joints"] + root, row["intrinsics"]
        pose = row["pose"].astype(np.float64).reshape(-1)
        pose[3:] -= self.hands_mean
        focal = (float(intrinsics[0, 0]) + float(intrinsics[1, 1])) / 2
        mano = [
            *numbers(pose, "rad"),
            *numbers(row["shape"], "rad"),
            *numbers(row["joints_2d"][ROOT], "px"),
            round(focal / float(xyz[ROOT, 2]), 5),
        ]
        return {
            "K": numbers(intrinsics, "px"),
            "xyz": numbers(xyz, "m"),
            "verts": numbers(row["vertices"] + root, "m"),
            "mano": [mano],
            "scale": round(float(np.linalg.norm(xyz[ROOT] - xyz[NEXT])), 8),
            "visible": row["joints_visible"].tolist(),
        }

    def outputs(self, group: int) -> list[str]:
        """See `Layout`."""
        return [f"{self.name}_{table}.json" for table in TABLES]

    def assemble(self, parts: Iterable[bytes], sinks: list[BinaryIO]) -> None:
        """See `Layout`."""
        before = b"["
        for part in parts:
            rows = json.loads(part)
            for table, sink in zip(TABLES, sinks, strict=True):
                sink.write(before + ",\n".join(rows[table]).encode())
            before = b",\n"
        for sink in sinks:
            sink.write(b"]\n")


def build(encoding: Encoding, split: str, hand: Hand) -> FreiHand:
    """The layout for one split.

    Raises:
        ConfigError: lossless pictures, which FreiHAND's names do not allow.
    """
    if encoding.lossless:
        raise ConfigError("--lossless: FreiHAND's pictures are JPEGs; take --quality 100 or another layout")
    return FreiHand(encoding, split, np.asarray(hand.hands_mean, np.float64))
