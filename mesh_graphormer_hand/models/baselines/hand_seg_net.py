"""HandSegNet: where the hand is. Zimmermann and Brox, "Learning to Estimate 3D Hand Pose from Single RGB Images", ICCV
2017, the first of its networks. Written from the paper.

Blocks of 2, 2, 4 and 4 convolutions (3 x 3; 64, 128, 256 and 512 channels; leaky ReLU of 0.01), the first three
followed by a 2 x 2 max-pool; then 3 x 3 to 512, 3 x 3 to 128, 1 x 1 to 512, 1 x 1 to two logits, raised bilinearly to
the image's size. The softmax of two logits is the sigmoid of their difference: the difference is the mask's logit here
and the published softmax cross-entropy is the loss `mask`. 13.6 M parameters.
Deviations: nothing is pretrained (the published one starts from a body-pose network), so weights start from He's rule;
the mask holds the bare forearm too, as the virtual images label it.
"""

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import nn

from ...config import ConfigError, parse
from ...contracts import HandInputs, HandPrediction
from ...layers.plain import convolutions, initialise, trunk
from ...mano.hand import Hand
from ..base import HandModel, HandModelConfig

MEAN = 0.5  # the published normalisation: image - 0.5


@dataclass
class Config:
    convolutions: list[int] = field(default_factory=lambda: [2, 2, 4, 4])  # per block; a max-pool between blocks
    channels: list[int] = field(default_factory=lambda: [64, 128, 256, 512])  # per block
    head: list[int] = field(default_factory=lambda: [512, 128, 512])  # channels of conv5_1, conv5_2, conv6_1


class HandSegNet(HandModel):
    """Image -> logits of the hand's mask; no joints at all."""

    produces = ("mask",)

    def __init__(self, config: HandModelConfig, hand: Hand | None = None):
        super().__init__(config, hand)
        options = parse(Config, config.options, where="model")
        if len(options.head) != 3:
            raise ConfigError("model: `head` needs three numbers")
        layers = [*trunk(options.convolutions, options.channels)]
        channels = options.channels[-1]
        for width, size in zip(options.head, (3, 3, 1), strict=True):
            layers += convolutions(channels, [width], size)
            channels = width
        self.network = nn.Sequential(*layers)
        self.logits = nn.Conv2d(channels, 2, 1)
        initialise(self.network)

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, any size that is a multiple of 8."""
        background_hand = self.logits(self.network(inputs.image - MEAN))  # b 2 h/8 w/8
        logits = background_hand[:, 1:] - background_hand[:, :1]
        size = inputs.image.shape[-2:]
        return HandPrediction(mask=F.interpolate(logits, size, mode="bilinear", align_corners=False)[:, 0])


def build(config: HandModelConfig, hand: Hand) -> HandSegNet:
    """The network with fresh weights."""
    return HandSegNet(config, hand)
