"""Pictures that belong together: the views of a moment, or a sequence in its order. Each group has a folder.

    keypoints.json                    of every picture 21 joints (px, and m in its camera's axes) and K, as the data set
                                      `folder` reads them
    images/0000/00000000/00000.jpg    group 0, its first picture; 10,000 groups in each subfolder
    masks/ depth/ parts/ normals/     likewise, as in the layout `folder`
    labels/0000/00000000.npz          of group 0: all of HandTargets and `intrinsics` in float32, pictures first

Of views the npz has the calibration, too: `extrinsics` (views x 4 x 4, camera from world: [R | t], m), and what all
views share, `joints_world` (21 x 3) and `vertices_world` (778 x 3): m, in the first camera's axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...contracts import HandBatch
from ...mano.hand import Hand
from .base import Block, Encoding, Samples, npz
from .folder import SUBFOLDER, Folder


@dataclass(frozen=True)
class Groups(Folder):
    """Part: as of `Folder`."""

    about: str = (
        "Each has a folder of pictures, `images/0000/NUMBER/`, by view or in time, with `masks/` (0 or 255), `depth/` "
        "(16 bit, steps of 0.1 mm), `parts/`, `normals/` (127 (n + 1), x in red); `keypoints.json` for the data set "
        "`folder`; `labels/0000/NUMBER.npz` (every label, float32, pictures first; of views also `extrinsics`, camera "
        "from world, and `joints_world`, `vertices_world` in the first camera's axes)"
    )

    def encode(self, batches: list[HandBatch], indices: list[int]) -> Block:
        """See `Layout`; the rows of a batch are the pictures of one group."""
        files, entries = {}, []
        for batch, index in zip(batches, indices, strict=True):
            samples, name = Samples.of(batch), f"{index // SUBFOLDER:04d}/{index:08d}"
            for k in range(len(batch)):
                files |= self.pictures(samples, k, f"{name}/{k:05d}")
                entries.append(self.entry(samples, k, f"{name}/{k:05d}"))
            files[f"labels/{name}.npz"] = npz(samples.labels | calibration(batch))
        return Block(files, ",\n".join(entries).encode())


def calibration(batch: HandBatch) -> dict[str, np.ndarray]:
    """Where the cameras of a moment stand, and the hand in the world's axes: the first camera's. Nothing of others."""
    if batch.inputs.extrinsics is None:
        return {}
    first = {name: getattr(batch.targets, name)[0] + batch.targets.root[0] for name in ("joints", "vertices")}
    shared = {f"{name}_world": points.cpu().numpy() for name, points in first.items()}
    return {"extrinsics": batch.inputs.extrinsics.cpu().numpy(), **shared}


def build(encoding: Encoding, split: str, hand: Hand) -> Groups:
    """The layout; every split has the same names."""
    return Groups(encoding)
