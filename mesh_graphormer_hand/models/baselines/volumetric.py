"""Coarse-to-fine volumetric prediction: 3D joints by heat maps with a depth axis that grows finer stack by stack.
Pavlakos, Zhou, Derpanis, Daniilidis, "Coarse-to-Fine Volumetric Prediction for Single-Image 3D Human Pose", CVPR 2017.
Written from the paper.

Four stacked hourglasses with three residuals at each place; stack i gives 21 x (1, 2, 4, 64) maps, so many bins of
depth for each joint; every stack learns (`volumes`). 37.3 M parameters.
Here depth is relative to the joints' mean, in crop units, over [-0.8, 0.8], and metres come from the template's palm
(published: 2 m round a known root).
Deviations: the place is read by the mean over 5 cells each way round the largest one, not by that cell; Gaussians stand
at the exact place; the loss is the cross-entropy of the volume's softmax, which learns sooner at this size, or the
published squared error (`loss: mse`); samples without 3D labels teach the volume's sum over the depth.
Published: Human3.6M 71.9 mm.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...config import ConfigError, parse
from ...contracts import HandBatch, HandInputs, HandPrediction, HandTargets
from ...geometry.heatmaps import HeatmapCodec, inside_crop
from ...geometry.masked import masked_mean
from ...geometry.relative_depth import crop_camera, joints_from_25d
from ...layers.camera_head import at_least_float32
from ...layers.hourglass import HourglassConfig, StackedHourglasses
from ...mano.hand import Hand
from ...mano.template import hand_template
from ...skeleton import NUM_JOINTS, PALM
from ..base import HandModel, HandModelConfig

DEPTH_RANGE = 0.8  # crop units: depths lie within it
AROUND = 2  # cells on each side of the largest that the mean is taken over
LEAST_SIGMA = 0.5  # bins


@dataclass
class Config(HourglassConfig):
    residuals: int = 3
    bins: list[int] = field(default_factory=lambda: [1, 2, 4, 64])  # of depth, for each stack
    loss: str = "cross_entropy"  # cross_entropy | mse
    sigma: float = 2.0  # cells, of the target Gaussians, along depth as long
    CHOICES = {"loss": ("cross_entropy", "mse")}


class Volumetric(HandModel):
    """Image -> volumes of every stack, and the 3D joints read from the last."""

    produces = ("heatmaps", "joints_25d", "joints", "joints_2d", "camera")
    private_terms = ("volumes",)

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """
        Raises:
            ConfigError: a stack without a bin.
        """
        super().__init__(config, hand)
        self.options = options = parse(Config, config.options, where="model")
        if min(options.bins, default=0) < 1:
            raise ConfigError("model: `bins` gives every stack 1 bin of depth or more")
        self.codec = HeatmapCodec(options.sigma)
        self.network = StackedHourglasses(options, [NUM_JOINTS * count for count in options.bins])
        self.output_layers = tuple(f"network.stacks.{i}.maps" for i in range(len(options.bins)))

    def constants(self, hand: Hand) -> dict[str, Tensor]:
        """The palm of the template."""
        return {"palm": hand_template(hand).joints[list(PALM)], "fingerprint": torch.tensor(hand.fingerprint)}

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, whose sides are multiples of 4 x 2^order."""
        maps = self.network(self.normalise(inputs.image))
        volumes = [m.unflatten(1, (NUM_JOINTS, -1)) for m in maps]
        with torch.autocast(maps[-1].device.type, enabled=False):
            last = at_least_float32(volumes[-1])
            responses = self.options.loss == "mse"
            uvz = read_volume(last, responses)
            joints, camera = joints_from_25d(uvz, self.palm)
            heatmaps = last.amax(2) if responses else last.logsumexp(2)
        return HandPrediction(
            joints=joints,
            joints_2d=(uvz[..., :2] + 1) * (inputs.image.shape[-1] / 2),
            joints_25d=uvz,
            camera=camera,
            heatmaps=heatmaps,
            hand=self.fingerprint.expand(uvz.shape[0]),
            aux={"volumes": torch.cat(volumes, 2)},
        )

    def private_losses(self, prediction: HandPrediction, batch: HandBatch) -> dict[str, Float[Tensor, "b"]]:
        """The loss of all stacks' volumes together."""
        targets = batch.targets
        if targets.joints_2d is None:
            return {}
        volumes = at_least_float32(prediction.aux["volumes"])
        depth, deep = relative_depths(targets)
        valid = targets.joints_2d_valid & inside_crop(targets.joints_2d, targets.crop_size)
        joints_2d = targets.joints_2d.masked_fill(~valid[..., None], 0).to(volumes.dtype)
        shape = tuple(volumes.shape[-2:])
        flat = self.codec.encode(joints_2d, targets.crop_size, shape)
        sigma = self.options.sigma * 2 / shape[-1]  # crop units
        total = volumes.new_zeros(volumes.shape[:2])
        for volume in volumes.split(self.options.bins, 2):
            column = depth_column(depth.to(volume.dtype), volume.shape[2], sigma)
            column = torch.where(deep[..., None], column, 1.0)
            total = total + (_cross_entropy if self.options.loss == "cross_entropy" else _squared)(
                volume, flat, column, deep
            )
        return {"volumes": masked_mean(total, valid)}


def relative_depths(targets: HandTargets) -> tuple[Float[Tensor, "b 21"], Bool[Tensor, "b 21"]]:
    """Depths less the joints' mean, in crop units, and where they are known."""
    if targets.joints is None:
        return torch.zeros_like(targets.joints_2d[..., 0]), torch.zeros_like(targets.joints_2d_valid)
    _, camera, deep = crop_camera(targets)
    z = camera[:, :1] * targets.joints[..., 2]
    return torch.where(deep, z - masked_mean(z, deep)[:, None], 0.0), deep


def depth_column(depth: Float[Tensor, "b 21"], bins: int, sigma: float) -> Float[Tensor, "b 21 z"]:
    """Gaussians along the bins round depths in crop units; all of the one bin where there is no other."""
    size = 2 * DEPTH_RANGE / bins
    centres = (torch.arange(bins, device=depth.device, dtype=depth.dtype) + 0.5) * size - DEPTH_RANGE
    apart = (centres - depth.clamp(-DEPTH_RANGE, DEPTH_RANGE)[..., None]) / max(sigma, LEAST_SIGMA * size)
    return torch.exp(-0.5 * apart.square()) if bins > 1 else torch.ones_like(apart)


def _cross_entropy(
    volume: Float[Tensor, "b k z h w"],
    flat: Float[Tensor, "b k h w"],
    column: Float[Tensor, "b k z"],
    deep: Bool[Tensor, "b k"],
) -> Float[Tensor, "b k"]:
    """Nats of the volume's softmax, less the target's own entropy; of its sum over the depth where none is known."""
    log_q = volume.flatten(2).log_softmax(-1).view_as(volume)
    flat = flat / flat.sum((-1, -2), keepdim=True).clamp_min(1e-12)
    column = column / column.sum(-1, keepdim=True)
    entropy = torch.xlogy(flat, flat).sum((-1, -2))
    whole = torch.einsum("bkzhw,bkhw,bkz->bk", log_q, flat, column)
    flat_only = (log_q.logsumexp(2) * flat).sum((-1, -2))
    return torch.where(deep, entropy + torch.xlogy(column, column).sum(-1) - whole, entropy - flat_only)


def _squared(
    volume: Float[Tensor, "b k z h w"],
    flat: Float[Tensor, "b k h w"],
    column: Float[Tensor, "b k z"],
    deep: Bool[Tensor, "b k"],
) -> Float[Tensor, "b k"]:
    """Half the squared error, mean over the cells; of the largest along the depth where none is known."""
    whole = (volume - flat[:, :, None] * column[..., None, None]).square().mean((-1, -2, -3))
    return torch.where(deep, whole, (volume.amax(2) - flat).square().mean((-1, -2))) / 2


def read_volume(volume: Float[Tensor, "b k z h w"], responses: bool) -> Float[Tensor, "b k 3"]:
    """Places in crop units and depths less their mean: the means over the cells near the largest one, weighed by
    themselves (`responses`) or by their softmax."""
    weights = volume.clamp_min(0) + 1e-9 if responses else volume.flatten(2).softmax(-1).view_as(volume)
    bins, height, width = volume.shape[2:]
    peak = volume.flatten(2).argmax(-1)
    at = (peak // (height * width), peak // width % height, peak % width)
    for axis, (count, index) in enumerate(zip((bins, height, width), at, strict=True)):
        cells = torch.arange(count, device=volume.device)
        near = (cells - index[..., None]).abs() <= AROUND  # b k count
        shape = [*near.shape[:2], 1, 1, 1]
        shape[2 + axis] = count
        weights = weights * near.view(shape)
    weights = weights / weights.sum((-1, -2, -3), keepdim=True)
    found = []
    for axis, (count, reach) in enumerate(((bins, DEPTH_RANGE), (height, 1.0), (width, 1.0))):
        others = [2 + other for other in range(3) if other != axis]
        centres = (torch.arange(count, device=volume.device, dtype=volume.dtype) + 0.5) * (2 * reach / count) - reach
        found.append((weights.sum(others) * centres).sum(-1))
    z, v, u = found
    return torch.stack([u, v, z - z.mean(1, keepdim=True)], -1)


def build(config: HandModelConfig, hand: Hand) -> Volumetric:
    """The network with fresh weights."""
    return Volumetric(config, hand)
