"""2.5D heat maps: 3D joints from an image by what a convolution can say. Iqbal, Molchanov, Breuel, Gall, Kautz, "Hand
Pose Estimation via Latent 2.5D Heatmap Regression", ECCV 2018. Written from the paper.

Each joint has a heat map, whose mean is its place in the image, and a map of depths, read under the heat map. Places
and depths share one scale (depths are metres times the weak-perspective scale), so together they are the hand up to a
similarity. The paper recovers the scale from the known length of one bone, we from the six joints of the palm, which
move as one: the template's palm is fitted to theirs. Other deviations: an HRNet trunk with a top-down head instead of
two stacked hourglasses; heat maps are trained by cross-entropy, too; a map of the surface (`losses.surface`) trains the
features. As graphormer_lite's trunk and head, which start from it: 1.5 M parameters.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...backbones.base import BackboneConfig, build_backbone
from ...config import parse
from ...contracts import HandInputs, HandPrediction
from ...geometry.heatmaps import HeatmapCodec
from ...geometry.relative_depth import joints_from_25d
from ...layers.keypoint_head import KeypointHead, keypoints_from_heatmaps
from ...mano.hand import Hand
from ...mano.template import hand_template
from ...skeleton import NUM_JOINTS, PALM
from ..base import HandModel, HandModelConfig


@dataclass
class Config:
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig("hrnet_w18_small"))
    channels: int = 64  # of the head
    stride: int = 4  # px of the image for a cell of the maps: 4 | 8
    sigma: float = 1.5  # cells, of the Gaussians that the maps are trained on


class Heatmaps25D(HandModel):
    """Image -> heat maps and depth maps, and the joints read from them."""

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


def build(config: HandModelConfig, hand: Hand) -> Heatmaps25D:
    """The network with fresh weights."""
    return Heatmaps25D(config, hand)
