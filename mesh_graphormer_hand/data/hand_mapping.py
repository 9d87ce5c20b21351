"""Data sets whose labels are of another hand than the model's: seen through the registered map, or without their 3D."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..contracts import HAND_MASKS, HandBatch
from ..mano.registration.map import HandMap
from . import labels
from .base import HandDataset


class Registered(HandDataset):
    """`dataset` with its vertices and joints said of the model's hand (`HandMap.targets`)."""

    def __init__(self, dataset: HandDataset, to_model: HandMap) -> None:
        self.dataset, self.to_model, self.hand = dataset, to_model, to_model.target
        self.block, self.repeat, self.spacing = dataset.block, dataset.repeat, dataset.spacing

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # unpickling asks before it is there
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, indices: list[int], device: str | torch.device = "cpu") -> HandBatch:
        """The samples with these indices."""
        batch = self.dataset.load(indices, device)
        return replace(batch, targets=self.to_model.to(device).targets(batch.targets))


class OnlyImage(HandDataset):
    """`dataset` with the 3D labels of other hands than `hand` masked: nothing can be compared with them."""

    def __init__(self, dataset: HandDataset, hand: int) -> None:
        self.dataset, self.hand = dataset, hand
        self.block, self.repeat, self.spacing = dataset.block, dataset.repeat, dataset.spacing

    __getattr__ = Registered.__getattr__

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, indices: list[int], device: str | torch.device = "cpu") -> HandBatch:
        """The samples with these indices."""
        batch = self.dataset.load(indices, device)
        targets = batch.targets
        if targets.hand is None:
            return batch
        foreign = (targets.hand != 0) & (targets.hand != self.hand)
        return replace(batch, targets=replace(targets, **labels.hide(targets, HAND_MASKS, foreign)))
