"""The interface of data sets, and joining batches of data sets with different labels.

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

from ..config import CropSpec
from ..contracts import HandBatch, HandInputs, HandTargets, labels_of, sample_shape

ENDLESS = 2**40  # the length of a data set that never repeats itself

# fields with an entry for each hand of a frame
PER_HAND = tuple(n for n in HandTargets.__dataclass_fields__ if sample_shape(HandTargets, n)[:1] == ("n",))

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
    crop: CropSpec = CropSpec()  # of the model that the samples are for

    def __len__(self) -> int: ...

    def load(self, indices: list[int], device: str | torch.device = "cpu") -> HandBatch:
        """The samples with these indices, in this order, the same ones each time."""
        ...

    def fit_crop(self, crop: CropSpec) -> None:
        """Cut the samples as a model with this spec wants them, as far as the options leave that open."""
        self.crop = crop

    def protocol_options(self) -> dict[str, Any]:
        """Options of the protocol's Config under which this split is scored.

        Raises:
            ScoreError: the protocol is not about these samples.
        """
        return {}


def join(parts: Sequence[HandBatch]) -> HandBatch:
    """One batch from parts with different labels: a label that a part lacks becomes zeros with a False mask."""
    parts = [p for p in parts if len(p)]
    if len(parts) == 1:
        return parts[0]
    inputs = _complete([p.inputs for p in parts], [len(p) for p in parts])
    targets = _complete(_pad_hands([p.targets for p in parts]), [len(p) for p in parts])
    filled = [replace(p, inputs=i, targets=t) for p, i, t in zip(parts, inputs, targets, strict=True)]
    placed = next((p.image_from_crop for p in parts if p.image_from_crop is not None), None)
    if placed is not None:  # a sample without a photo is its own photo
        own = torch.eye(3, dtype=placed.dtype, device=placed.device)[:2]
        filled = [
            p if p.image_from_crop is not None else replace(p, image_from_crop=own.repeat(len(p), 1, 1)) for p in filled
        ]
    return HandBatch.cat(filled)


def _pad_hands(parts: list[HandTargets]) -> list[HandTargets]:
    """Pad the boxes of every part to the largest number of hands of any part."""
    most = max((p.boxes.shape[1] for p in parts if p.boxes is not None), default=0)
    grown = []
    for part in parts:
        names = [n for n in PER_HAND if getattr(part, n) is not None]
        more = {n: most - getattr(part, n).shape[1] for n in names}
        wider = {n: F.pad(getattr(part, n), (0, 0, 0, k) if n == "boxes" else (0, k)) for n, k in more.items() if k}
        grown.append(replace(part, **wider))
    return grown


def _complete(parts: list[Part], sizes: list[int]) -> list[Part]:
    """Fill the fields that a part lacks and another has: zeros, with a False mask."""
    known = {}
    for f in fields(parts[0]):
        known[f.name] = next((v for v in (getattr(p, f.name) for p in parts) if v is not None), None)
    filled = []
    for part, size in zip(parts, sizes, strict=True):
        values = {}
        for name, label in labels_of(type(part)).items():
            if known[name] is not None and label.mask is not None and getattr(part, label.mask) is None:
                inner = len(sample_shape(type(part), label.mask))  # a mask of joints or of hands
                shape = (size, *known[name].shape[1 : 1 + inner])
                values[label.mask] = known[name].new_full(shape, getattr(part, name) is not None, dtype=torch.bool)
        for name, example in known.items():
            if name not in values and isinstance(example, Tensor) and getattr(part, name) is None:
                values[name] = example.new_zeros((size, *example.shape[1:]))
        filled.append(replace(part, **values))
    return filled
