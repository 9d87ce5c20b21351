"""DeepPose: 2D joints by regression, then corrected at higher resolution joint by joint. Toshev, Szegedy, "DeepPose:
Human Pose Estimation via Deep Neural Networks", CVPR 2014. Written from the paper; no official code is public.

Stage 1 sees the whole crop: the network of Krizhevsky et al. (11 x 11 convolution of 96 with stride 4, LRN, pool; 5 x 5
of 256, LRN, pool; 3 x 3 of 384, 384, 256, pool; two layers of 4096, dropout) and a linear layer to 42 numbers, each
joint's place less the crop's centre, in sides of the crop. A later stage looks, for each joint, at a window of the
image round the estimate, as large as the hand's diameter, and regresses the correction; a stage's weights are the same
for all joints, whose output slots tell them apart. The squared error is the loss of every stage (`stages`). 46.9 M
parameters a stage at 220 px.
Deviations: the diameter is twice the distance from the wrist to the middle finger's MCP (the paper's torso has no
meaning here); later stages learn together with the first one, from its present estimates moved by a Gaussian of
`jitter` diameters (published: stage by stage, from 40 draws of the previous stage's residuals); Adam instead of
AdaGrad; `trunk: backbone` with any backbone and a linear layer on its mean feature. With `stages: 1` it is direct
regression.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ...backbones.base import BackboneConfig, build_backbone
from ...config import ConfigError, parse
from ...contracts import HandBatch, HandInputs, HandPrediction
from ...geometry.masked import masked_mean
from ...layers.camera_head import at_least_float32
from ...mano.hand import Hand
from ...skeleton import NUM_JOINTS, WRIST
from ..base import HandModel, HandModelConfig

MIDDLE_MCP = 9
LEAST_DIAMETER = 0.1  # sides of the crop


@dataclass
class Config:
    stages: int = 3
    trunk: str = "published"  # of the first stage: published | backbone
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig("resnet_lite"))
    norm: str = "lrn"  # of the published trunk: lrn | batch
    window: int = 220  # px, side of what later stages see of each joint
    window_trunk: str = "published"  # of the later stages: published | small
    jitter: float = 0.1  # diameters, of the estimates that later stages learn from
    dropout: float = 0.6
    CHOICES = {
        "trunk": ("published", "backbone"),
        "norm": ("lrn", "batch"),
        "window_trunk": ("published", "small"),
    }


class DeepPose(HandModel):
    """Image -> 2D joints, and their estimates after each stage."""

    produces = ("joints_2d",)
    private_terms = ("stages",)

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """
        Raises:
            ConfigError: no stage, or windows without a pixel.
        """
        super().__init__(config, hand)
        self.options = options = parse(Config, config.options, where="model")
        if options.stages < 1 or options.window < 1:
            raise ConfigError("model: `stages` and `window` are 1 or more")
        if options.trunk == "published":
            self.first = published_trunk(options)
        else:
            self.first = PooledBackbone(options.backbone)
        small = options.window_trunk == "small"
        self.later = nn.ModuleList(
            small_trunk() if small else published_trunk(options) for _ in range(options.stages - 1)
        )
        for stage in self.later:
            nn.init.normal_(stage.out.weight, std=1e-3)

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, of any size that the trunk takes."""
        image = self.normalise(inputs.image)
        estimate = at_least_float32(self.first(image)).unflatten(
            -1, (NUM_JOINTS, 2)
        )  # sides of the crop, from its centre
        estimates = [estimate]
        for stage in self.later:
            estimate = self._refine(stage, image, estimate.detach())
            estimates.append(estimate)
        side = float(inputs.image.shape[-1])
        stages = (torch.stack(estimates, 1) + 0.5) * side
        return HandPrediction(joints_2d=stages[:, -1], aux={"stages": stages})

    def _refine(
        self, stage: nn.Module, image: Float[Tensor, "b 3 h w"], estimate: Float[Tensor, "b 21 2"]
    ) -> Float[Tensor, "b 21 2"]:
        """The estimate, each joint corrected by what its window shows."""
        diameter = 2 * (estimate[:, MIDDLE_MCP] - estimate[:, WRIST]).norm(dim=-1).clamp_min(LEAST_DIAMETER / 2)
        diameter = diameter[:, None, None]
        if self.training:
            estimate = estimate + self.options.jitter * diameter * torch.randn_like(estimate)
        windows = cut_windows(image, estimate, diameter, self.options.window)
        moved = at_least_float32(stage(windows)).unflatten(-1, (NUM_JOINTS, 2))  # (b 21) 21 2
        moved = moved.unflatten(0, (-1, NUM_JOINTS))
        own = torch.eye(NUM_JOINTS, dtype=moved.dtype, device=moved.device)[..., None]
        return estimate + diameter * (moved * own).sum(2)

    def private_losses(self, prediction: HandPrediction, batch: HandBatch) -> dict[str, Float[Tensor, "b"]]:
        """Squared distance in crop units, mean over the labelled joints, of all stages together."""
        targets = batch.targets
        if targets.joints_2d is None:
            return {}
        valid = targets.joints_2d_valid
        wanted = targets.joints_2d.masked_fill(~valid[..., None], 0)
        apart = (prediction.aux["stages"] - wanted[:, None]) * (2 / targets.crop_size[:, None, None, None])
        return {"stages": masked_mean(apart.square().sum(-1).sum(1), valid)}


def cut_windows(
    image: Float[Tensor, "b 3 h w"], centre: Float[Tensor, "b 21 2"], side: Float[Tensor, "b 1 1"], size: int
) -> Float[Tensor, "b*21 3 s s"]:
    """Squares of the image round each joint, zeros outside; `centre` from the image's centre and `side` in sides of the
    image."""
    cells = (torch.arange(size, device=image.device, dtype=centre.dtype) + 0.5) / size - 0.5
    offsets = torch.stack([cells.expand(size, size), cells[:, None].expand(size, size)], -1).flatten(0, 1)
    grid = 2 * (centre[:, :, None] + side[..., None] * offsets)  # b 21 cells 2
    found = F.grid_sample(image, grid.to(image.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)
    return found.permute(0, 2, 1, 3).flatten(0, 1).unflatten(-1, (size, size))


class PooledBackbone(nn.Module):
    """The mean of a backbone's coarsest map, and a linear layer."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.backbone = build_backbone(config)
        self.out = nn.Linear(self.backbone.dims[-1], 2 * NUM_JOINTS)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 42"]:
        return self.out(self.backbone(image)[-1].mean((-1, -2)))


def published_trunk(options: Config) -> nn.Sequential:
    """Krizhevsky's network with 42 outputs; the last pooling gives 5 x 5 cells whatever the image's size."""
    norm = (lambda _: nn.LocalResponseNorm(5, k=2.0)) if options.norm == "lrn" else nn.BatchNorm2d
    network = nn.Sequential(
        *(nn.Conv2d(3, 96, 11, 4), nn.ReLU(), norm(96), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(), norm(256), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.AdaptiveAvgPool2d(5), nn.Flatten()),
        *(nn.Linear(25 * 256, 4096), nn.ReLU(), nn.Dropout(options.dropout)),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(options.dropout)),
    )
    network.add_module("out", nn.Linear(4096, 2 * NUM_JOINTS))
    return network


def small_trunk() -> nn.Sequential:
    """Three strided convolutions and a hidden layer, for windows of 32 px."""
    layers: list[nn.Module] = []
    for channels, out in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(channels, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * 64, 128), nn.ReLU())
    network.add_module("out", nn.Linear(128, 2 * NUM_JOINTS))
    return network


def build(config: HandModelConfig, hand: Hand) -> DeepPose:
    """The network with fresh weights."""
    return DeepPose(config, hand)
