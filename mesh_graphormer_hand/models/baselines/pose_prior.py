"""PosePrior and ViewPoint: 3D joints from 2D ones. Zimmermann and Brox, "Learning to Estimate 3D Hand Pose from Single
RGB Images", ICCV 2017, the third and fourth of its networks. Written from the paper.

The 2D joints are drawn as 21 maps of 32 x 32 cells, exp(-d^2 / 25^2), d in px of 256. Two networks of three times {3 x
3, 3 x 3 with stride 2} read them: PosePrior (32, 64, 128 channels; two layers of 512, dropout) gives the joints in the
hand's canonical frame (geometry/canonical_frame.py), ViewPoint (64, 128, 256 channels; layers of 256 and 128, dropout)
an axis-angle, the frame's rotation. Losses: MSE of canonical joints and of the rotation (`canonical`, `viewpoint`).
1.64 and 2.24 M parameters. The unit, the middle finger's proximal phalanx, is the template's, which gives metres. It
reads `inputs.joints_2d`: the labelled ones, in training moved by a Gaussian of `noise` (published: 2.5 px of the photo,
and the networks never see PoseNet's output); or, behind a 2D network, that one's (models/chain.py).
Deviations: no hand side as input, since all hands here are right ones (512 and 256 x 2 weights less); He's rule at the
start; the wrist keeps its place, where the published code puts the palm's centre; joints at the places of the 2D
network instead of its maps.
Published: RHD, from labelled 2D joints: median error 18.8 mm; the whole system: mean 35.6 mm.
"""

from dataclasses import dataclass, field
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...config import ConfigError, parse
from ...contracts import HandBatch, HandInputs, HandPrediction
from ...geometry.canonical_frame import anchored, canonical_axes, to_canonical, unit_length
from ...geometry.heatmaps import HeatmapCodec
from ...geometry.masked import masked, masked_mean
from ...geometry.rotations import axis_angle_to_matrix
from ...layers.plain import SLOPE, initialise
from ...mano.hand import Hand
from ...mano.template import hand_template
from ...skeleton import NUM_JOINTS, WRIST
from ..base import XYZ, HandModel, HandModelConfig

MAP_SPREAD = 25 / 256  # of the maps exp(-d^2 / spread^2), as a share of the crop's side


@dataclass
class Config:
    cells: int = 32  # side of the maps, a multiple of 8
    prior_channels: list[int] = field(default_factory=lambda: [32, 64, 128])
    prior_hidden: list[int] = field(default_factory=lambda: [512, 512])
    prior_dropout: float = 0.2
    view_channels: list[int] = field(default_factory=lambda: [64, 128, 256])
    view_hidden: list[int] = field(default_factory=lambda: [256, 128])
    view_dropout: float = 0.25
    noise: float = 0.01  # of the crop's side, of the 2D joints in training


class PosePrior(HandModel):
    """2D joints -> 3D joints and the hand's rotation."""

    reads = ("image", "joints_2d")
    produces = ("joints", "rotation")
    private_terms = ("canonical", "viewpoint")
    output_layers = ("prior.out", "view.out")

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """
        Raises:
            ConfigError: a side of the maps that three halvings do not leave whole.
        """
        super().__init__(config, hand)
        self.options = options = parse(Config, config.options, where="model")
        if options.cells < 8 or options.cells % 8:
            raise ConfigError(f"model.cells is {options.cells}, it should be a multiple of 8")
        self.codec = HeatmapCodec(MAP_SPREAD * options.cells / sqrt(2))
        prior = options.prior_channels, options.prior_hidden, options.prior_dropout
        view = options.view_channels, options.view_hidden, options.view_dropout
        self.prior = _lifter(options.cells, *prior, NUM_JOINTS * XYZ)
        self.view = _lifter(options.cells, *view, XYZ)
        initialise(self, [self.prior.out, self.view.out])

    def constants(self, hand: Hand) -> dict[str, Tensor]:
        """The template's unit, and how its canonical frame is turned against the hand's own."""
        joints = hand_template(hand).joints
        return {
            "unit": unit_length(joints),
            "canonical_from_hand": canonical_axes(joints).mT.contiguous(),
            "fingerprint": torch.tensor(hand.fingerprint),
        }

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.joints_2d`, px of a crop of the image's size.

        Raises:
            ConfigError: there are none.
        """
        if inputs.joints_2d is None or inputs.joints_2d_valid is None:
            raise ConfigError("pose_prior lifts 2D joints, and the inputs have none: put a 2D model before it (chain)")
        side = inputs.image.shape[-1]
        positions = inputs.joints_2d.masked_fill(~inputs.joints_2d_valid[..., None], 0)
        if self.training:
            positions = positions + self.options.noise * side * torch.randn_like(positions)
        cells = 2 * [self.options.cells]
        size = positions.new_full((positions.shape[0],), side)
        maps = self.codec.encode(positions, size, tuple(cells)) * inputs.joints_2d_valid[..., None, None]
        maps = maps.to(next(self.parameters()).dtype)
        numbers, turn = self.prior(maps), self.view(maps)
        with torch.autocast(maps.device.type, enabled=False):
            numbers, turn = (v.to(torch.promote_types(v.dtype, torch.float32)) for v in (numbers, turn))
            canonical = numbers.unflatten(-1, (NUM_JOINTS, XYZ))
            canonical = canonical - canonical[:, WRIST : WRIST + 1]
            rotation = axis_angle_to_matrix(turn)
            return HandPrediction(
                joints=self.unit * canonical @ rotation.mT,
                rotation=rotation @ self.canonical_from_hand,
                hand=self.fingerprint.expand(numbers.shape[0]),
                aux={"canonical": canonical, "viewpoint": rotation},
            )

    def private_losses(self, prediction: HandPrediction, batch: HandBatch) -> dict[str, Float[Tensor, "b"]]:
        """MSE of the canonical joints and of the rotation's entries."""
        targets = batch.targets
        if targets.joints is None:
            return {}
        valid = targets.joints_valid
        known = anchored(valid)
        wanted, axes = to_canonical(targets.joints.masked_fill(~valid[..., None], 0))
        error = (prediction.aux["canonical"] - wanted).square().mean(-1)
        turned = (prediction.aux["viewpoint"] - axes).square().mean((-1, -2))
        return {"canonical": masked_mean(error, valid & known[:, None]), "viewpoint": masked(turned, known)}


def _lifter(cells: int, channels: list[int], hidden: list[int], dropout: float, out: int) -> nn.Sequential:
    """Maps of 21 joints -> `out` numbers; three halvings, then layers with dropout."""
    layers: list[nn.Module] = []
    before = NUM_JOINTS
    for width in channels:
        for stride in (1, 2):
            layers += [nn.Conv2d(before, width, 3, stride, 1), nn.LeakyReLU(SLOPE)]
            before = width
    layers.append(nn.Flatten())
    before *= (cells // 2 ** len(channels)) ** 2
    for width in hidden:
        layers += [nn.Linear(before, width), nn.LeakyReLU(SLOPE), nn.Dropout(dropout)]
        before = width
    network = nn.Sequential(*layers)
    network.add_module("out", nn.Linear(before, out))
    return network


def build(config: HandModelConfig, hand: Hand) -> PosePrior:
    """The networks with fresh weights."""
    return PosePrior(config, hand)
