"""Stacked Hourglass: 2D keypoints by heat maps that are refined stack by stack. Newell, Yang, Deng, "Stacked Hourglass
Networks for Human Pose Estimation", ECCV 2016. Written from the paper.

Stem to a quarter of the image's size; hourglasses of order 4 with one pre-activation bottleneck of 256 channels at each
place; 21 maps after each, which the next stack reads. The squared error to Gaussians is the loss of every stack
(`stages`). 3.43 M parameters with 1 stack, 6.57 M with 2, 25.45 M with 8 (21 joints).
Deviations: Gaussians of 1.5 cells stand at the exact keypoint (published: a patch of 7 x 7 cells round the nearest
cell, whose spread by Torch's default is 1.75); half the squared error, mean over the cells; no flip test, since a
mirrored right hand is a left one. Maps have odd sides where the image's are not multiples of 4 x 2^order: an error.
Published: MPII PCKh@0.5 90.9 with 8 stacks; COCO-WholeBody hands (mmpose) PCK@0.2 .804, AUC .835, EPE 4.54 px.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ...config import parse
from ...contracts import HandBatch, HandInputs, HandPrediction
from ...geometry.heatmaps import HeatmapCodec
from ...layers.hourglass import HourglassConfig, StackedHourglasses
from ...layers.response_maps import read_responses, stage_loss
from ...mano.hand import Hand
from ...skeleton import NUM_JOINTS
from ..base import HandModel, HandModelConfig


@dataclass
class Config(HourglassConfig):
    stacks: int = 2
    sigma: float = 1.5  # cells, of the target Gaussians


class StackedHourglass(HandModel):
    """Image -> heat maps of every stack, and the 2D joints decoded from the last."""

    produces = ("heatmaps", "joints_2d", "confidence")
    private_terms = ("stages",)

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        super().__init__(config, hand)
        options = parse(Config, config.options, where="model")
        self.codec = HeatmapCodec(options.sigma)
        self.network = StackedHourglasses(options, options.stacks * [NUM_JOINTS])
        self.output_layers = tuple(f"network.stacks.{i}.maps" for i in range(options.stacks))

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, whose sides are multiples of 4 x 2^order."""
        maps = self.network(self.normalise(inputs.image))
        found = read_responses(maps[-1], self.codec, float(inputs.image.shape[-1]))
        return HandPrediction(**found, aux={"stages": torch.stack(maps, 1)})

    def private_losses(self, prediction: HandPrediction, batch: HandBatch) -> dict[str, Float[Tensor, "b"]]:
        """The heat-map loss of all stacks together."""
        if batch.targets.joints_2d is None:
            return {}
        return {"stages": stage_loss(prediction.aux["stages"], batch.targets, self.codec)}


def build(config: HandModelConfig, hand: Hand) -> StackedHourglass:
    """The network with fresh weights."""
    return StackedHourglass(config, hand)
