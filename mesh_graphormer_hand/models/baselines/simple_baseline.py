"""SimpleBaseline: 2D keypoints by heat maps. Xiao, Wu, Wei, "Simple Baselines for Human Pose Estimation and Tracking",
ECCV 2018. Written from the paper.

A ResNet trunk, three deconvolutions (4 x 4, stride 2, 256 channels, batch norm, ReLU), a 1 x 1 convolution to 21 maps
at a quarter of the image's size. Targets are Gaussians of 2 cells, the loss is `heatmaps_mse` (or the cross-entropy
`heatmaps`, then `readout: softmax`), decoding takes the largest cell and a quarter-cell offset. ResNet-50: 34.0 M
parameters. Deviations: Gaussians stand at the exact keypoint, not at the nearest cell; nothing is pretrained; no flip
test. The decoded keypoints carry no gradient, so only the heat-map losses train it.
Published for hands (mmpose, 256 x 256): FreiHAND PCK@0.2 .999, AUC .868, EPE 3.27 px on mmpose's own split.
"""

from dataclasses import dataclass, field

from torch import nn

from ...backbones.base import BackboneConfig, build_backbone
from ...config import parse
from ...contracts import HandInputs, HandPrediction
from ...geometry.heatmaps import HeatmapCodec
from ...layers.response_maps import read_responses
from ...mano.hand import Hand
from ...skeleton import NUM_JOINTS
from ..base import HandModel, HandModelConfig


@dataclass
class Config:
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig("resnet_50"))
    channels: int = 256  # of each deconvolution
    deconvolutions: int = 3  # the maps' stride is 32 / 2^deconvolutions
    sigma: float = 2.0  # heat-map cells, of the target Gaussians
    readout: str = "response"  # of the confidence: response (trained by heatmaps_mse) | softmax (trained by heatmaps)
    CHOICES = {"readout": ("response", "softmax")}


class SimpleBaseline(HandModel):
    """Image -> heat maps, and the 2D joints decoded from them."""

    output_layers = ("head",)
    produces = ("heatmaps", "joints_2d", "confidence")

    def __init__(self, config: HandModelConfig, hand: Hand | None = None):
        super().__init__(config, hand)
        options = parse(Config, config.options, where="model")
        self.codec = HeatmapCodec(options.sigma)
        self.readout = options.readout
        self.backbone = build_backbone(options.backbone)
        channels = self.backbone.dims[-1]
        layers: list[nn.Module] = []
        for index in range(options.deconvolutions):
            layers += [
                nn.ConvTranspose2d(options.channels if index else channels, options.channels, 4, 2, 1, bias=False),
                nn.BatchNorm2d(options.channels),
                nn.ReLU(inplace=True),
            ]
        self.deconvolutions = nn.Sequential(*layers)
        self.head = nn.Conv2d(options.channels if options.deconvolutions else channels, NUM_JOINTS, 1)
        for module in (*self.deconvolutions, self.head):
            if isinstance(module, nn.ConvTranspose2d | nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, any size that is a multiple of 32."""
        maps = self.head(self.deconvolutions(self.backbone(self.normalise(inputs.image))[-1]))
        return HandPrediction(**read_responses(maps, self.codec, float(inputs.image.shape[-1]), self.readout))


def build(config: HandModelConfig, hand: Hand) -> SimpleBaseline:
    """The network with fresh weights."""
    return SimpleBaseline(config, hand)
