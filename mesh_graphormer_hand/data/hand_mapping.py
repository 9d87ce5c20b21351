"""Data sets whose labels are of another hand than the model's: with mapped labels, or without their 3D labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..contracts import HAND_MASKS, HandBatch, HandTargets
from ..mano.registration.map import HandMap
from . import labels
from .base import HandDataset


class _ChangedLabels(HandDataset):
    """`dataset` with other targets; everything else is its own."""

    def __init__(self, dataset: HandDataset, hand: int) -> None:
        """`hand`: fingerprint of the hand of the changed labels."""
        self.dataset, self.hand = dataset, hand
        self.block, self.repeat, self.spacing = dataset.block, dataset.repeat, dataset.spacing
        self.protocol, self.root, self.protocol_options = dataset.protocol, dataset.root, dataset.protocol_options

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # unpickling looks it up before it is there
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, indices: list[int], device: str | torch.device = "cpu") -> HandBatch:
        """The samples with these indices."""
        batch = self.dataset.load(indices, device)
        return replace(batch, targets=self.changed(batch.targets))

    def changed(self, targets: HandTargets) -> HandTargets:
        """The targets that stand in place of the data set's own."""
        raise NotImplementedError


class RemappedDataset(_ChangedLabels):
    """`dataset` with its vertices and joints mapped to the model's hand (`HandMap.targets`)."""

    def __init__(self, dataset: HandDataset, to_model: HandMap) -> None:
        super().__init__(dataset, to_model.target)
        self.to_model = to_model

    def changed(self, targets: HandTargets) -> HandTargets:
        """See `HandMap.targets`."""
        device = targets.hand.device if targets.hand is not None else "cpu"
        return self.to_model.to(device).targets(targets)


class Without3D(_ChangedLabels):
    """`dataset` with the 3D labels of other hands than `hand` masked: nothing can be compared with them."""

    def changed(self, targets: HandTargets) -> HandTargets:
        """The targets with False masks."""
        if targets.hand is None:
            return targets
        foreign = (targets.hand != 0) & (targets.hand != self.hand)
        return replace(targets, **labels.hide(targets, HAND_MASKS, foreign))
