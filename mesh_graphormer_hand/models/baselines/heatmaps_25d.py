"""2.5D heat maps: 3D joints from an image by what a convolution can say. Iqbal, Molchanov, Breuel, Gall, Kautz, "Hand
Pose Estimation via Latent 2.5D Heatmap Regression", ECCV 2018. Written from the paper.

Each joint has a heat map, whose mean is its place in the image, and a map of depths, read under the heat map. Places
and depths share one scale, so together they are the hand up to a similarity.

`variant: iqbal` is the paper's: two stacked hourglasses give 42 maps; heat maps are latent (no loss of their own), with
a learned temperature each; depths are relative to the wrist, in lengths of the bone from wrist to index MCP; with the
camera's intrinsics that bone's length gives the wrist's depth (geometry/relative_depth.py) and, times the template's
length, metres. Losses: L1 of places (`joints_2d_l1`) and depths (`depth_25d_l1`). Deviations: crops without intrinsics
are read with a lens of four crop sides; only the last stack is read.

`variant: ours` shares trunk and head with graphormer_lite, which starts from it: an HRNet trunk with a top-down head;
heat maps are trained by cross-entropy, too, at a fixed sharpness; depths are metres times the weak-perspective scale,
less the joints' mean; the template's palm, whose six joints move as one, gives the scale, so that no camera is needed;
a map of the surface (`losses.surface`) trains the features. 1.5 M parameters.
Published: STB AUC(20-50 mm) .99.
"""

from dataclasses import dataclass, field
from math import exp, log

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ...backbones.base import BackboneConfig, build_backbone
from ...config import parse
from ...contracts import HandBatch, HandInputs, HandPrediction
from ...geometry.fitting import fit_weak_perspective
from ...geometry.heatmaps import HeatmapCodec, expectation
from ...geometry.masked import masked_mean
from ...geometry.relative_depth import joints_from_25d, root_depth
from ...layers.camera_head import at_least_float32
from ...layers.hourglass import HourglassConfig, StackedHourglasses
from ...layers.keypoint_head import KeypointHead, keypoints_from_heatmaps
from ...mano.hand import Hand
from ...mano.template import hand_template
from ...skeleton import NUM_JOINTS, PALM, WRIST
from ..base import HandModel, HandModelConfig

BONE = (5, WRIST)  # index MCP and wrist
ROOT_LIMITS = (2.0, 60.0)  # lengths of the bone, 0.09 m: 0.2 to 5.4 m
LENS = 4.0  # focal length in sides of the crop, where it is not known
INITIAL_TEMPERATURE = log(exp(1.0) - 1)  # softplus of it is 1


@dataclass
class Config:
    variant: str = "ours"  # ours | iqbal
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig("hrnet_w18_small"))
    channels: int = 64  # of the head
    stride: int = 4  # px of the image for a cell of the maps: 4 | 8
    sigma: float = 1.5  # cells, of the Gaussians that the maps are trained on
    hourglass: HourglassConfig = field(default_factory=HourglassConfig)  # of iqbal
    stacks: int = 2  # of iqbal
    CHOICES = {"variant": ("ours", "iqbal")}


class LatentHeatmaps25D(HandModel):
    """The paper's network: image -> latent heat maps and depth maps, and the joints read from them."""

    produces = ("heatmaps", "joints_25d", "joints", "joints_2d", "camera")
    private_terms = ("depth_25d_l1",)

    def __init__(self, config: HandModelConfig, hand: Hand | None = None):
        super().__init__(config, hand)
        options = parse(Config, config.options, where="model")
        self.codec = HeatmapCodec(options.sigma)
        self.network = StackedHourglasses(options.hourglass, options.stacks * [2 * NUM_JOINTS])
        self.temperature = nn.Parameter(torch.full((NUM_JOINTS,), INITIAL_TEMPERATURE))
        self.output_layers = tuple(f"network.stacks.{i}.maps" for i in range(options.stacks))

    def constants(self, hand: Hand) -> dict[str, Tensor]:
        """The length of the template's bone."""
        joints = hand_template(hand).joints
        return {
            "bone_length": (joints[BONE[0]] - joints[BONE[1]]).norm(),
            "fingerprint": torch.tensor(hand.fingerprint),
        }

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, whose sides are multiples of 4 x 2^order, and its intrinsics, if known."""
        maps = at_least_float32(self.network(self.normalise(inputs.image))[-1])
        with torch.autocast(maps.device.type, enabled=False):
            heat = maps[:, :NUM_JOINTS] * F.softplus(self.temperature)[:, None, None]
            share, uv, _ = expectation(heat)
            depth = (share * maps[:, NUM_JOINTS:].flatten(2)).sum(-1)
            depth = depth - depth[:, WRIST, None]
            pixels = (uv + 1) * (inputs.image.shape[-1] / 2)
            joints = self.bone_length * in_bone_lengths(rays_of(pixels, inputs), depth)
            camera = fit_weak_perspective(joints, uv, torch.ones_like(depth))
            flat = camera[:, :1] * (joints[..., 2] - joints[..., 2].mean(1, keepdim=True))
        return HandPrediction(
            joints=joints,
            joints_2d=pixels,
            joints_25d=torch.cat([uv, flat[..., None]], -1),
            camera=camera,
            heatmaps=heat,
            hand=self.fingerprint.expand(joints.shape[0]),
            aux={"depth": depth},
        )

    def private_losses(self, prediction: HandPrediction, batch: HandBatch) -> dict[str, Float[Tensor, "b"]]:
        """L1 of the joints' depths less the wrist's, in lengths of each hand's own bone."""
        targets = batch.targets
        if targets.joints is None:
            return {}
        joints = targets.joints.masked_fill(~targets.joints_valid[..., None], 0)
        length = (joints[:, BONE[0]] - joints[:, BONE[1]]).norm(dim=-1, keepdim=True)
        known = targets.joints_valid & targets.joints_valid[:, list(BONE)].all(-1, keepdim=True) & (length > 0)
        wanted = (joints[..., 2] - joints[:, WRIST, None, 2]) / length.clamp_min(1e-3)
        return {"depth_25d_l1": masked_mean((prediction.aux["depth"] - wanted).abs(), known)}


def rays_of(pixels: Float[Tensor, "b 21 2"], inputs: HandInputs) -> Float[Tensor, "b 21 2"]:
    """x, y at depth 1 of places in px: by the intrinsics, or for a lens of LENS sides of the crop."""
    side = inputs.image.shape[-1]
    focal, centre = pixels.new_full((pixels.shape[0], 2), LENS * side), pixels.new_full((pixels.shape[0], 2), side / 2)
    if inputs.intrinsics is not None:
        known = inputs.intrinsics.to(pixels.dtype)
        valid = known[:, 0, 0] > 0 if inputs.intrinsics_valid is None else inputs.intrinsics_valid
        focal = torch.where(valid[:, None], torch.stack([known[:, 0, 0], known[:, 1, 1]], -1), focal)
        centre = torch.where(valid[:, None], known[:, :2, 2], centre)
    return (pixels - centre[:, None]) / focal[:, None]


def in_bone_lengths(rays: Float[Tensor, "b 21 2"], depth: Float[Tensor, "b 21"]) -> Float[Tensor, "b 21 3"]:
    """Joints relative to the wrist, in lengths of BONE, of rays and depths relative to the wrist."""
    z = root_depth(rays.detach(), depth.detach(), BONE, ROOT_LIMITS)[:, None] + depth
    points = torch.cat([rays * z[..., None], z[..., None]], -1)
    return points - points[:, WRIST : WRIST + 1]


class Heatmaps25D(HandModel):
    """Our variant: image -> heat maps and depth maps, and the joints read from them."""

    output_layers = ("keypoint_head.maps",)
    produces = ("heatmaps", "joints_25d", "surface", "joints", "joints_2d", "camera")

    def __init__(self, config: HandModelConfig, hand: Hand | None = None):
        super().__init__(config, hand)
        options = parse(Config, config.options, where="model")
        self.codec = HeatmapCodec(options.sigma)
        self.first = options.stride // 8
        self.backbone = build_backbone(options.backbone)
        self.keypoint_head = KeypointHead(self.backbone.dims[self.first :], options.channels, NUM_JOINTS, depth=True)

    def constants(self, hand: Hand) -> dict[str, Tensor]:
        """The palm of the template."""
        return {"palm": hand_template(hand).joints[list(PALM)], "fingerprint": torch.tensor(hand.fingerprint)}

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, whose sides are multiples of 32."""
        image = self.normalise(inputs.image).contiguous(memory_format=torch.channels_last)
        keypoints = keypoints_from_heatmaps(*self.keypoint_head(self.backbone(image)[self.first :]), NUM_JOINTS)
        uvz = keypoints.uvz.float()
        joints, camera = joints_from_25d(uvz, self.palm)
        return HandPrediction(
            joints=joints,
            joints_2d=(uvz[..., :2] + 1) * (inputs.image.shape[-1] / 2),
            joints_25d=uvz,
            camera=camera,
            heatmaps=keypoints.heatmaps,
            surface=keypoints.surface,
            hand=self.fingerprint.expand(uvz.shape[0]),
        )


def build(config: HandModelConfig, hand: Hand) -> HandModel:
    """The network with fresh weights."""
    variant = parse(Config, config.options, where="model").variant
    return LatentHeatmaps25D(config, hand) if variant == "iqbal" else Heatmaps25D(config, hand)
