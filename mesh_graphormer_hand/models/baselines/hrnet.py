"""HRNet as a keypoint network: 2D joints by heat maps, or 3D joints by regression. Sun, Xiao, Liu, Wang, "Deep
High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019. Written from the paper.

`output: 2d`: a 1 x 1 convolution gives 21 maps at a quarter of the image's size, from the finest branch (`head:
finest`, the pose network; 28.5 M parameters with hrnet_w32) or from all branches brought to its size (`head: all`, as
HRNetV2, which is used for hands; 9.7 M with hrnet_w18). Gaussians of 2 cells, squared error (`heatmaps_mse`). `output:
3d`: the head of HRNet's classifier (backbones/neck.py) and a linear layer to 21 joints (m) and a weak-perspective
camera: the plainest 3D network, which the others should beat. No paper describes it; the losses are L1 of 3D and
projected joints.
Deviations: nothing is pretrained; Gaussians stand at the exact keypoint; no flip test.
Published for hands (mmpose, HRNetV2-W18, 256 px): RHD PCK@0.2 .992, AUC .902, EPE 2.21 px.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...backbones.base import BackboneConfig, build_backbone
from ...backbones.neck import ClassificationNeck
from ...config import parse
from ...contracts import HandInputs, HandPrediction
from ...geometry.heatmaps import HeatmapCodec
from ...layers.camera_head import at_least_float32, camera_from, project
from ...layers.response_maps import read_responses
from ...mano.hand import Hand
from ...skeleton import NUM_JOINTS, WRIST
from ..base import XYZ, HandModel, HandModelConfig

UNIT = 0.1  # m, of the regressed joints: about a hand's size


@dataclass
class Config:
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig("hrnet_w32"))
    output: str = "2d"  # 2d | 3d
    head: str = "finest"  # of 2d: finest | all
    sigma: float = 2.0  # cells, of the target Gaussians
    head_planes: list[int] = field(default_factory=lambda: [32, 64, 128, 256])  # of 3d: of the neck, one for each map
    feature: int = 2048  # of 3d: channels of the global feature
    CHOICES = {"output": ("2d", "3d"), "head": ("finest", "all")}


class HRNetKeypoints(HandModel):
    """Image -> 2D joints by heat maps, or 3D joints and a camera."""

    produces = ("heatmaps", "joints_2d", "confidence")
    output_layers = ("maps", "linear")

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        super().__init__(config, hand)
        self.options = options = parse(Config, config.options, where="model")
        self.backbone = build_backbone(options.backbone)
        dims = self.backbone.dims
        if options.output == "3d":
            self.produces = ("joints", "joints_2d", "camera")
            self.neck = ClassificationNeck(dims, options.head_planes, options.feature)
            self.linear = nn.Linear(options.feature, NUM_JOINTS * XYZ + XYZ)
            nn.init.normal_(self.linear.weight, std=1e-3)
            return
        self.codec = HeatmapCodec(options.sigma)
        channels = dims[0] if options.head == "finest" else sum(dims)
        self.mix = None
        if options.head == "finest":  # the last module's other branches would go nowhere
            self.backbone.stage4[-1].fuse_layers = self.backbone.stage4[-1].fuse_layers[:1]
        else:
            self.mix = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.maps = nn.Conv2d(channels, NUM_JOINTS, 1)
        nn.init.normal_(self.maps.weight, std=0.001)

    def constants(self, hand: Hand) -> dict[str, Tensor]:
        """The hand's fingerprint."""
        return {"fingerprint": torch.tensor(hand.fingerprint)}

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, whose sides are multiples of 32."""
        maps = self.backbone(self.normalise(inputs.image).contiguous(memory_format=torch.channels_last))
        side = float(inputs.image.shape[-1])
        if self.options.output == "3d":
            return self._regress(maps, side)
        x = maps[0]
        if self.mix is not None:
            size = maps[0].shape[-2:]
            raised = [F.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps[1:]]
            x = self.mix(torch.cat([x, *raised], 1))
        return HandPrediction(**read_responses(self.maps(x), self.codec, side))

    def _regress(self, maps: list[Tensor], side: float) -> HandPrediction:
        numbers = at_least_float32(self.linear(self.neck(maps)[1]))
        joints = UNIT * numbers[:, :-XYZ].unflatten(-1, (NUM_JOINTS, XYZ))
        joints = joints - joints[:, WRIST : WRIST + 1]
        camera = camera_from(numbers[:, -XYZ:])
        return HandPrediction(
            joints=joints,
            joints_2d=project(joints, camera, side),
            camera=camera,
            hand=self.fingerprint.expand(joints.shape[0]),
        )


def build(config: HandModelConfig, hand: Hand) -> HRNetKeypoints:
    """The network with fresh weights."""
    return HRNetKeypoints(config, hand)
