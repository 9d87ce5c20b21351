"""A model plug-in for tests of training, with what makes resuming hard: dropout, batch norm and a convolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mesh_graphormer_hand.contracts import HandInputs, HandPrediction
from mesh_graphormer_hand.mano.hand import Hand
from mesh_graphormer_hand.models.base import HandModel, HandModelConfig


@dataclass
class Config:
    """`norm`: batch norm, which makes a batch more than the sum of its parts."""

    dropout: float = 0.1
    norm: bool = True


class Toy(HandModel):
    """Image -> 21 joints."""

    produces = ("joints",)

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        super().__init__(config, hand)
        options = Config(**config.options)
        norm = nn.BatchNorm2d(4) if options.norm else nn.Identity()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), norm, nn.ReLU(), nn.Dropout(options.dropout))
        self.head = nn.Linear(4 * config.image_size**2, 63)

    def forward(self, inputs: HandInputs) -> HandPrediction:
        joints = 0.01 * self.head(self.body(inputs.image).flatten(1)).unflatten(1, (21, 3))
        return HandPrediction(joints=joints - joints[:, :1], hand=torch.zeros(len(joints), dtype=torch.int64))


def build(config: HandModelConfig, hand: Hand) -> Toy:
    """A toy with fresh weights."""
    return Toy(config, hand)
