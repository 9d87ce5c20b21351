"""What a data set is, and how batches of data sets with different labels are joined.

A data set is one file `data/datasets/NAME.py` with a dataclass `Config` and
`build(config, split: "train" | "test", hand: Hand, image_size: int) -> HandDataset`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import HandBatch, HandInputs, HandTargets

ENDLESS = 2**40  # the length of a data set that never repeats itself

# label -> the mask that says where it is known
MASKS = {
    "joints": "joints_valid",
    "joints_2d": "joints_2d_valid",
    "vertices": "vertices_valid",
    "root": "root_valid",
    "pose": "mano_valid",
    "shape": "mano_valid",
    "mask": "mask_valid",
    "depth": "depth_valid",
    "parts": "parts_valid",
    "normals": "normals_valid",
    "joints_share": "joints_share_valid",
    "skin_tone": "look_valid",
    "light_sh": "look_valid",
    "light_direction": "look_valid",
    "light_colour": "look_valid",
    "boxes": "boxes_known",
    "boxes_left": "boxes_left_valid",
    "intrinsics": "intrinsics_valid",
}
PER_PLACE = ("joints_valid", "joints_2d_valid", "boxes_left_valid")  # masks of a label's second dimension, too
PLACES = ("boxes", "boxes_valid", "boxes_unsure", "boxes_left", "boxes_left_valid")  # one a hand of a frame

Part = TypeVar("Part", HandInputs, HandTargets)


class HandDataset(Protocol):
    """Samples by index. Inherit from it for the defaults.

    `block`: samples are cheapest in aligned runs of this many (a rendered block); 1 for files. `repeat` and `spacing`
    are for endless sets whose samples are dear: see `stream`. `protocol` names the official evaluation of its test
    split, a file of metrics/protocols, and `root` the folder whose labels that protocol reads.
    """

    hand: int = 0  # fingerprint of the labels' hand, 0: labels of no parametric hand
    block: int = 1
    repeat: int = 1
    spacing: int = 4
    protocol: str = ""  # empty: none
    root: Path | None = None

    def __len__(self) -> int: ...

    def load(self, indices: list[int], device: str | torch.device = "cpu") -> HandBatch:
        """The samples with these indices, in this order, the same ones each time."""
        ...

    def protocol_options(self) -> dict[str, Any]:
        """Options of the protocol's Config under which this split is scored.

        Raises:
            ScoreError: the protocol is not about these samples.
        """
        return {}


def join(parts: Sequence[HandBatch]) -> HandBatch:
    """One batch from parts that know different things: a label that a part lacks becomes zeros with a False mask."""
    parts = [p for p in parts if len(p)]
    if len(parts) == 1:
        return parts[0]
    inputs = _complete([p.inputs for p in parts], [len(p) for p in parts])
    targets = _complete(_same_places([p.targets for p in parts]), [len(p) for p in parts])
    filled = [replace(p, inputs=i, targets=t) for p, i, t in zip(parts, inputs, targets, strict=True)]
    placed = next((p.image_from_crop for p in parts if p.image_from_crop is not None), None)
    if placed is not None:  # a sample without a photo is its own photo
        own = torch.eye(3, dtype=placed.dtype, device=placed.device)[:2]
        filled = [
            p if p.image_from_crop is not None else replace(p, image_from_crop=own.repeat(len(p), 1, 1)) for p in filled
        ]
    return HandBatch.cat(filled)


def _same_places(parts: list[HandTargets]) -> list[HandTargets]:
    """The parts with room for the boxes of as many hands as any of them has."""
    most = max((p.boxes.shape[1] for p in parts if p.boxes is not None), default=0)
    grown = []
    for part in parts:
        names = [n for n in PLACES if getattr(part, n) is not None]
        more = {n: most - getattr(part, n).shape[1] for n in names}
        wider = {n: F.pad(getattr(part, n), (0, 0, 0, k) if n == "boxes" else (0, k)) for n, k in more.items() if k}
        grown.append(replace(part, **wider))
    return grown


def _complete(parts: list[Part], sizes: list[int]) -> list[Part]:
    """The parts with every field that any of them has."""
    known = {}
    for f in fields(parts[0]):
        known[f.name] = next((v for v in (getattr(p, f.name) for p in parts) if v is not None), None)
    filled = []
    for part, size in zip(parts, sizes, strict=True):
        values = {}
        for label, mask in MASKS.items():
            if known.get(label) is not None and getattr(part, mask) is None:
                shape = (size, *known[label].shape[1:2]) if mask in PER_PLACE else (size,)
                values[mask] = known[label].new_full(shape, getattr(part, label) is not None, dtype=torch.bool)
        for name, example in known.items():
            if name not in values and isinstance(example, Tensor) and getattr(part, name) is None:
                values[name] = example.new_zeros((size, *example.shape[1:]))
        filled.append(replace(part, **values))
    return filled
