"""PoseNet: 2D keypoints by heat maps. Zimmermann and Brox, "Learning to Estimate 3D Hand Pose from Single RGB Images",
ICCV 2017, the second of its networks. Written from the paper.

Blocks of 2, 2, 4 and 2 convolutions (3 x 3; 64, 128, 256, 512 channels; leaky ReLU of 0.01), the first three followed
by a 2 x 2 max-pool; then four of 256 and one of 128, the encoding; 1 x 1 to 512, 1 x 1 to 21 maps. Two refinements read
maps and encoding by five 7 x 7 convolutions of 128, 1 x 1 to 128, 1 x 1 to 21. Targets fall as exp(-d^2 / 25^2), d in
px of 256; the loss of every stage is the root of each joint's mean squared error (`stages`). 17.5 M parameters.
Deviations: nothing is pretrained (the published one starts from a body-pose network): weights start by He's rule, the
last convolutions at 0.01; blocks 1 to 3 have HandSegNet's shapes and can start from it (`train.init`). The loss is
taken on the maps as they are; `full_size` raises them to the image's size first, as published. All joints have their
own place; the published code replaces the wrist by the palm's centre.
Published: RHD, cropped by the true box: mean error 9.1 px, median 5.0, AUC .724.
"""

from dataclasses import dataclass, field
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ...config import parse
from ...contracts import HandBatch, HandInputs, HandPrediction
from ...geometry.heatmaps import HeatmapCodec
from ...layers.plain import convolutions, initialise, trunk
from ...layers.response_maps import read_responses, stage_loss
from ...mano.hand import Hand
from ...skeleton import NUM_JOINTS
from ..base import HandModel, HandModelConfig

MEAN = 0.5  # the published normalisation: image - 0.5
CELL_PX = 8  # px of the image for a cell of the maps


@dataclass
class Config:
    convolutions: list[int] = field(default_factory=lambda: [2, 2, 4, 2])  # per block; a max-pool between blocks
    channels: list[int] = field(default_factory=lambda: [64, 128, 256, 512])  # per block
    middle: list[int] = field(default_factory=lambda: [256, 256, 256, 256])  # channels of the layers after the blocks
    encoding: int = 128  # channels of what the refinements read
    head: int = 512  # channels before the first maps
    refinements: int = 2
    refinement_layers: int = 5
    refinement_kernel: int = 7
    refinement_width: int = 128
    spread: float = 25 / 256  # of the targets exp(-d^2 / spread^2), as a share of the image's side
    full_size: bool = False  # the loss is taken on maps raised to the image's size


class PoseNet(HandModel):
    """Image -> heat maps of every stage, and the 2D joints decoded from the last."""

    produces = ("heatmaps", "joints_2d", "confidence")
    private_terms = ("stages",)

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """
        Raises:
            ConfigError: not one width for each block.
        """
        super().__init__(config, hand)
        self.options = options = parse(Config, config.options, where="model")
        cells = config.image_size / (1 if options.full_size else CELL_PX)
        self.codec = HeatmapCodec(options.spread * cells / sqrt(2))
        self.network = trunk(options.convolutions, options.channels)
        self.encoding = convolutions(options.channels[-1], [*options.middle, options.encoding], 3)
        self.head = convolutions(options.encoding, [options.head], 1)
        self.maps = nn.Conv2d(options.head, NUM_JOINTS, 1)
        self.refinements = nn.ModuleList(self._refinement() for _ in range(options.refinements))
        last = [self.maps, *(r.maps for r in self.refinements)]
        initialise(self, last)
        self.output_layers = ("maps", *(f"refinements.{i}.maps" for i in range(options.refinements)))

    def _refinement(self) -> nn.Sequential:
        options = self.options
        widths = options.refinement_layers * [options.refinement_width]
        refine = convolutions(NUM_JOINTS + options.encoding, widths, options.refinement_kernel)
        refine.extend(convolutions(widths[-1], [options.refinement_width], 1))
        refine.add_module("maps", nn.Conv2d(options.refinement_width, NUM_JOINTS, 1))
        return refine

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, any size that is a multiple of 8."""
        encoding = self.encoding(self.network(inputs.image - MEAN))
        maps = [self.maps(self.head(encoding))]
        for refine in self.refinements:
            maps.append(refine(torch.cat([maps[-1], encoding], 1)))
        found = read_responses(maps[-1], self.codec, float(inputs.image.shape[-1]))
        return HandPrediction(**found, aux={"stages": torch.stack(maps, 1)})

    def private_losses(self, prediction: HandPrediction, batch: HandBatch) -> dict[str, Float[Tensor, "b"]]:
        """The root of the mean squared error of all stages together."""
        if batch.targets.joints_2d is None:
            return {}
        maps = prediction.aux["stages"]
        if self.options.full_size:
            size = batch.inputs.image.shape[-2:]
            raised = F.interpolate(maps.flatten(0, 1), size, mode="bilinear", align_corners=False)
            maps = raised.unflatten(0, maps.shape[:2])
        return {"stages": stage_loss(maps, batch.targets, self.codec, root=True)}


def build(config: HandModelConfig, hand: Hand) -> PoseNet:
    """The network with fresh weights."""
    return PoseNet(config, hand)
