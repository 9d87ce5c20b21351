"""Convolutional Pose Machine: 2D keypoints by a chain of predictors with ever larger receptive fields. Wei,
Ramakrishna, Kanade, Sheikh, "Convolutional Pose Machines", CVPR 2016; for hands Simon et al., CVPR 2017. Written from
the paper.

Stage 1: three times {9 x 9 convolution of 128, pooling by 2}, 5 x 5 to 32, 9 x 9 to 512, 1 x 1 to 512, 1 x 1 to the
maps. Later stages share a second trunk of the same three blocks; each has its own 5 x 5 to 32 and reads it beside the
maps of the stage before by three 11 x 11 convolutions of 128, 1 x 1 to 128, 1 x 1 to the maps. Six stages, ReLU, no
norms, maps of 21 joints and the background at an eighth of the image's size; the squared error is the loss of every
stage (`stages`). 31.6 M parameters.
Deviations: no centre map, since a crop shows one hand; the squared error is a mean over the cells (published: a sum, so
that the published learning rate of 8e-5 has no meaning here); half the receptive field and batch norms in the small
configuration (`norm`), which is trained from nothing.
Published: MPII PCKh@0.5 88.5.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...config import ConfigError, parse
from ...contracts import HandBatch, HandInputs, HandPrediction
from ...geometry.heatmaps import HeatmapCodec
from ...layers.response_maps import read_responses, stage_loss
from ...mano.hand import Hand
from ...skeleton import NUM_JOINTS
from ..base import HandModel, HandModelConfig


@dataclass
class Config:
    stages: int = 6
    trunk: list[int] = field(default_factory=lambda: [9, 9, 9])  # kernels of its three convolutions
    width: int = 128  # channels of trunk and stages
    context: int = 32  # channels of the trunk that a stage reads
    wide: int = 512  # channels of the first stage's last layers
    kernel: int = 11  # of the later stages' three convolutions
    background: bool = True  # a 22nd map: where no joint is
    norm: bool = False  # batch norms after convolutions
    dropout: float = 0.5  # of the first stage's last layers
    sigma: float = 0.875  # cells, of the target Gaussians: 7 px of 368


class PoseMachine(HandModel):
    """Image -> heat maps of every stage, and the 2D joints decoded from the last."""

    produces = ("heatmaps", "joints_2d", "confidence")
    private_terms = ("stages",)

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """
        Raises:
            ConfigError: numbers that make no network.
        """
        super().__init__(config, hand)
        self.options = options = parse(Config, config.options, where="model")
        if len(options.trunk) != 3 or options.stages < 1:
            raise ConfigError("model: `trunk` is three kernels' sizes, `stages` is 1 or more")
        self.codec = HeatmapCodec(options.sigma)
        self.count = NUM_JOINTS + options.background  # of a stage's maps
        width, context = options.width, options.context
        self.first = nn.Sequential(
            *self._trunk(),
            *self._convolution(width, context, 5),
            *self._convolution(context, options.wide, 9),
            nn.Dropout2d(options.dropout),
            *self._convolution(options.wide, options.wide, 1),
            nn.Dropout2d(options.dropout),
            nn.Conv2d(options.wide, self.count, 1),
        )
        later = options.stages - 1
        self.trunk = nn.Sequential(*self._trunk()) if later else None
        self.contexts = nn.ModuleList(nn.Sequential(*self._convolution(width, context, 5)) for _ in range(later))
        self.refinements = nn.ModuleList(self._refinement() for _ in range(later))
        self.output_layers = (f"first.{len(self.first) - 1}", *(f"refinements.{i}.maps" for i in range(later)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        for stage in (self.first[-1], *(r.maps for r in self.refinements)):
            nn.init.normal_(stage.weight, std=0.01)

    def _convolution(self, channels: int, out: int, kernel: int) -> list[nn.Module]:
        norms = [nn.BatchNorm2d(out)] if self.options.norm else []
        return [nn.Conv2d(channels, out, kernel, padding=kernel // 2), *norms, nn.ReLU()]

    def _trunk(self) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for index, kernel in enumerate(self.options.trunk):
            channels = self.options.width if index else 3
            layers += [*self._convolution(channels, self.options.width, kernel), nn.MaxPool2d(3, 2, 1)]
        return layers

    def _refinement(self) -> nn.Sequential:
        width, kernel = self.options.width, self.options.kernel
        stage = nn.Sequential(
            *self._convolution(self.count + self.options.context, width, kernel),
            *self._convolution(width, width, kernel),
            *self._convolution(width, width, kernel),
            *self._convolution(width, width, 1),
        )
        stage.add_module("maps", nn.Conv2d(width, self.count, 1))
        return stage

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, any size that is a multiple of 8."""
        image = self.normalise(inputs.image)
        maps = [self.first(image)]
        features = self.trunk(image) if self.trunk is not None else None
        for context, refine in zip(self.contexts, self.refinements, strict=True):
            maps.append(refine(torch.cat([context(features), maps[-1]], 1)))
        found = read_responses(maps[-1][:, :NUM_JOINTS], self.codec, float(inputs.image.shape[-1]))
        return HandPrediction(**found, aux={"stages": torch.stack(maps, 1)})

    def private_losses(self, prediction: HandPrediction, batch: HandBatch) -> dict[str, Float[Tensor, "b"]]:
        """The heat-map loss of all stages together."""
        if batch.targets.joints_2d is None:
            return {}
        return {"stages": stage_loss(prediction.aux["stages"], batch.targets, self.codec)}


def build(config: HandModelConfig, hand: Hand) -> PoseMachine:
    """The network with fresh weights."""
    return PoseMachine(config, hand)
