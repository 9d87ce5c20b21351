"""Where hands are in a whole photo: a centre heat map, box sizes and sides. Small enough to ship and to run anywhere.

After Zhou, Wang, Kraehenbuehl, "Objects as Points", 2019; written anew and shrunk. A residual trunk down to stride 32,
three levels joined top-down, one 3 x 3 head at stride 8 with the six channels of `geometry.boxes`. 1.8 M parameters.
Trained on whole frames (data sets `hand_frames` and `virtual_frames`), left and right hands told apart, so frames must
not be mirrored without their labels. Any image size that is a multiple of 32. Losses, private to it, one value per
frame: `box_centre` (focal, penalty-reduced; not where nobody has said whether a hand is there), `box_extent` (L1 of
places in cells and of logarithmic sizes), `box_side` (cross-entropy, of the hands whose side is known).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..config import ConfigError, parse
from ..contracts import HandBatch, HandInputs, HandPrediction
from ..geometry import boxes as box_maps
from ..geometry.boxes import BoxCodec, BoxTargets
from ..mano.hand import Hand
from .base import HandModel, HandModelConfig

PRIVATE_TERMS = ("box_centre", "box_extent", "box_side")
RARE = -4.0  # logit of a centre before training: most cells hold none
NEAR = 0.3  # heat from which a cell is trained to tell the box


@dataclass
class Config:
    channels: list[int] = field(default_factory=lambda: [16, 32, 64, 128, 192])  # at strides 2, 4, 8, 16, 32
    blocks: list[int] = field(default_factory=lambda: [0, 1, 1, 2, 1])  # residual blocks after each halving
    neck: int = 64  # channels of the joined levels
    # of `geometry.boxes.calibrate`, for prediction: fitted on photos that no training saw, see benchmarks/detector.py
    # --calibrate
    slope: float = 1.0
    shift: float = 0.0


class Residual(nn.Module):
    """Two 3 x 3 convolutions added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(channels, channels), *_conv(channels, channels)[:2])

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The block's output."""
        return F.relu(x + self.body(x))


class HandDetector(HandModel):
    """Frame -> maps of centres, boxes and sides."""

    produces = ("box_maps",)
    any_size = True
    private_terms = PRIVATE_TERMS

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """
        Raises:
            ConfigError: options that do not fit together.
        """
        super().__init__(config, hand)
        options = parse(Config, config.options, where="model")
        if len(options.channels) != 5 or len(options.blocks) != 5:
            raise ConfigError("model: `channels` and `blocks` need a number for each of the strides 2, 4, 8, 16, 32")
        self.box_codec = BoxCodec()
        stages, before = [], 3
        for width, count in zip(options.channels, options.blocks, strict=True):
            stages.append(nn.Sequential(*_conv(before, width, stride=2), *(Residual(width) for _ in range(count))))
            before = width
        self.stages = nn.ModuleList(stages)
        self.lateral = nn.ModuleList(nn.Conv2d(width, options.neck, 1) for width in options.channels[2:])
        self.join = nn.ModuleList(nn.Sequential(*_conv(options.neck, options.neck)) for _ in range(2))
        self.head = nn.Sequential(*_conv(options.neck, options.neck), nn.Conv2d(options.neck, box_maps.CHANNELS, 1))
        with torch.no_grad():
            self.head[-1].weight.mul_(0.1)
            self.head[-1].bias.zero_()
            self.head[-1].bias[box_maps.CENTRE] = RARE

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, whose sides are multiples of 32."""
        x, levels = self.normalise(inputs.image), []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        y = self.lateral[-1](levels[-1])
        for lateral, join, level in zip(self.lateral[1::-1], self.join, levels[3:1:-1], strict=True):
            y = join(lateral(level) + F.interpolate(y, scale_factor=2, mode="nearest"))
        return HandPrediction(box_maps=self.head(y))

    def private_losses(self, prediction: HandPrediction, batch: HandBatch) -> dict[str, Float[Tensor, "b"]]:
        """The three terms of the module's docstring; 0 for a frame that does not say where its hands are."""
        targets = batch.targets
        if targets.boxes is None:
            raise ConfigError("the hand detector learns from boxes, which these data sets do not have")
        maps = prediction.box_maps
        wanted = self.box_codec.encode(
            targets.boxes.to(maps.dtype),
            targets.boxes_valid,
            targets.boxes_left,
            tuple(maps.shape[-2:]),
            targets.boxes_unsure,
            targets.boxes_left_valid,
        )
        known = targets.boxes_known.to(maps.dtype)
        return {name: value * known for name, value in box_losses(maps, wanted, self.box_codec).items()}


def box_losses(maps: Float[Tensor, "b 6 h w"], wanted: BoxTargets, codec: BoxCodec) -> dict[str, Float[Tensor, "b"]]:
    """The terms of one value per frame each. Pure functions."""
    logit = maps[:, box_maps.CENTRE]
    p, centre = logit.sigmoid(), wanted.heat >= 1
    hit = F.logsigmoid(logit) * (1 - p).square()
    miss = F.logsigmoid(-logit) * p.square() * (1 - wanted.heat).pow(4) * ~wanted.ignored
    count = centre.sum((-1, -2)).clamp_min(1)
    focal = -torch.where(centre, hit, miss).sum((-1, -2)) / count
    weight = wanted.heat * (wanted.heat > NEAR)

    def near(error: Float[Tensor, "b h w"], known: Bool[Tensor, "b h w"] | float = 1.0) -> Float[Tensor, "b"]:
        return (error * weight * known).sum((-1, -2)) / (weight * known).sum((-1, -2)).clamp_min(1e-3)

    # a place is as wrong as it moves the box: cells count by the box's size
    cells = wanted.extent.exp() * codec.unit / codec.stride
    shift = ((maps[:, box_maps.SHIFT].movedim(1, -1) - wanted.shift) / cells).abs().sum(-1)
    extent = (maps[:, box_maps.EXTENT].movedim(1, -1) - wanted.extent).abs().sum(-1)
    side_error = F.binary_cross_entropy_with_logits(maps[:, box_maps.LEFT], wanted.left, reduction="none")
    side = near(side_error, wanted.left_valid)
    return {"box_centre": focal, "box_extent": near(2 * shift + extent), "box_side": side}


def _conv(channels: int, out: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


def build(config: HandModelConfig, hand: Hand) -> HandDetector:
    """The network with fresh weights."""
    return HandDetector(config, hand)
