"""A data set plug-in for tests of training: a noisy 16 x 16 image whose colour says where the 21 joints are."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mesh_graphormer_hand.contracts import HandBatch, HandInputs, HandTargets
from mesh_graphormer_hand.data.base import HandDataset
from mesh_graphormer_hand.mano.hand import Hand

SIZE = 16  # px


@dataclass
class Config:
    """`poison`: the sample whose image is not a number, -1: none."""

    samples: int = 64
    poison: int = -1


class ToyData(HandDataset):
    """Sample i is a function of i alone."""

    def __init__(self, config: Config, split: str) -> None:
        self.config, self.offset = config, 0 if split == "train" else 10_000

    def __len__(self) -> int:
        return self.config.samples

    def load(self, indices: list[int], device: str | torch.device = "cpu") -> HandBatch:
        samples = [self._sample(i) for i in indices]
        images, joints = (torch.stack(parts).to(device) for parts in zip(*samples, strict=True))
        known = torch.ones(joints.shape[:2], dtype=torch.bool, device=device)
        targets = HandTargets(joints=joints, joints_valid=known, crop_size=joints.new_full((len(indices),), SIZE))
        return HandBatch(HandInputs(image=images), targets, [f"toy/{i}" for i in indices])

    def _sample(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(self.offset + index)
        colour = torch.rand(3, generator=generator)
        image = 0.9 * colour[:, None, None] + 0.1 * torch.rand(3, SIZE, SIZE, generator=generator)
        joints = 0.005 * torch.arange(21.0)[:, None] * colour
        return (image * float("nan") if index == self.config.poison else image), joints


def build(config: Config, split: str, hand: Hand, image_size: int) -> ToyData:
    """The data set of one split."""
    return ToyData(config, split)
