"""Mesh Graphormer (Lin, Wang, Liu, ICCV 2021): image tokens and mesh queries through transformer encoders with graph
convolutions, to the mesh of a hand.

    features   backbone -> maps -> neck -> grid features (7 x 7) and one global feature
    tokens     21 joint and 195 vertex queries (template xyz + global feature), 49 grid tokens (section 3.1)
    encoders   three of falling width; in the last, graph convolutions over the vertex tokens (3.2, 3.3) -> xyz
    mesh       linear upsampling of 195 vertices to 778; the joint regressor gives the joints that count
    camera     from all xyz: scale and translation (and, where it is learned, the hand's rotation)

Written from the paper. With the published sizes (the defaults) the outputs equal the published program's. Deviations:
parameters that the published network never uses are absent, every set of points is relative to its own wrist, and the
backbone, the image size and the coarse mesh are free. `camera.rotation: learned` is not in the paper: the mesh is
regressed in the hand's own frame and a rotation (6D, Zhou et al., CVPR 2019) turns it into camera axes.

Published, 224 px, HRNet-W64: 168.8 M parameters here (the published file holds 44.9 M more that no forward pass reads),
PA-MPJPE 6.3 mm on FreiHAND trained with FreiHAND's own images.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..backbones.base import BackboneConfig, build_backbone
from ..backbones.neck import ClassificationNeck
from ..config import parse
from ..contracts import HandInputs, HandPrediction
from ..geometry.cameras import PROJECTIONS, LearnedCamera
from ..geometry.rotations import rotation_6d_to_matrix
from ..layers.token_masking import mask_tokens
from ..layers.transformer import EncoderConfig, encoder_stack
from ..mano.hand import Hand
from ..skeleton import NUM_JOINTS, NUM_VERTICES
from .base import INITS, XYZ, HandModel, HandModelConfig, MeshModel, MeshPoints

SCALE_INIT = 8.0  # 1/m: a hand of 0.19 m on three quarters of the crop


@dataclass
class CameraConfig:
    rotation: str = "identity"  # identity (mesh regressed in camera axes, as published) | learned
    hidden: int = 150
    projection: str = "auto"  # auto (PyTorch3D where it is installed) | pytorch3d | builtin
    CHOICES = {"rotation": ("identity", "learned"), "projection": PROJECTIONS}


@dataclass
class Config(EncoderConfig):
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head_planes: list[int] = field(default_factory=lambda: [32, 64, 128, 256])  # of the neck, one for each map
    feature: int = 2048  # channels of the global feature
    coarse: int = 195  # vertices of the coarse mesh
    grid_tokens: bool = True
    mask_ratio: float = 0.0  # largest share of the joint and vertex tokens that training masks; published: none
    init: str = "published"  # of fresh weights: published | mesh (`MeshModel.start_on_mesh`)
    camera: CameraConfig = field(default_factory=CameraConfig)
    CHOICES = {"init": INITS}


class MeshGraphormer(MeshModel):
    """The network; see the module."""

    supports_gradient_checkpointing = True
    output_layers = ("upsample",)

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """
        Raises:
            ConfigError: options that do not fit together, or a hand that is not the config's.
        """
        options = parse(Config, config.options, where="model")
        self.coarse, self.mask_ratio, self.projection = options.coarse, options.mask_ratio, options.camera.projection
        super().__init__(config, hand)
        self.backbone = build_backbone(options.backbone)
        self.neck = ClassificationNeck(self.backbone.dims, options.head_planes, options.feature)
        token = XYZ + options.feature
        self.grid_embed = nn.Linear(self.neck.grid_dim, token) if options.grid_tokens else None
        cells = (config.image_size // self.backbone.strides[-1]) ** 2
        self.encoders = encoder_stack(options, token, XYZ, len(self.queries) + cells)
        self.upsample = nn.Linear(options.coarse, NUM_VERTICES)
        self.camera = CameraHead(NUM_JOINTS + options.coarse, options.camera.hidden)
        self.rotation = None
        if options.camera.rotation == "learned":
            self.rotation = RotationHead(NUM_JOINTS, options.outputs[-1], options.camera.hidden)
            self.produces = (*MeshModel.produces, "rotation")
        if options.init == "mesh":
            self.start_on_mesh(self.hand_of(hand))

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, whose sides are multiples of 32."""
        points, camera, rotation = self.regress(self.normalise(inputs.image))
        return self.to_camera_axes(points, camera, rotation, float(inputs.image.shape[-1]))

    def regress(
        self, image: Float[Tensor, "b 3 h w"]
    ) -> tuple[MeshPoints, Float[Tensor, "b 3"], Float[Tensor, "b 6"] | None]:
        """Normalised image -> points (m, in camera axes or, with a learned rotation, in the hand's own frame), camera
        (s, tx, ty), six numbers of the rotation."""
        grid, feature = self.neck(self.backbone(image.contiguous(memory_format=torch.channels_last)))
        tokens = self.tokenize(grid, feature)
        for encoder in self.encoders[:-1]:
            tokens = encoder(tokens, self.graph)
        rotation = None if self.rotation is None else self.rotation(tokens[:, :NUM_JOINTS])
        xyz = self.encoders[-1](tokens, self.graph)[:, : len(self.queries)]
        return self.split(xyz), self.camera(xyz), rotation

    def tokenize(self, grid: Float[Tensor, "b g h w"], feature: Float[Tensor, "b f"]) -> Float[Tensor, "b n t"]:
        """Joint and vertex tokens: a query's template xyz and the global feature; then the grid's cells, row by row."""
        queries = self.queries.to(feature.dtype).expand(feature.shape[0], -1, -1)
        tokens = torch.cat([queries, feature[:, None].expand(-1, queries.shape[1], -1)], -1)
        if self.training and self.mask_ratio:
            tokens = mask_tokens(tokens, self.mask_ratio)
        if self.grid_embed is None:
            return tokens
        return torch.cat([tokens, self.grid_embed(rearrange(grid, "b g h w -> b (h w) g"))], 1)

    def to_camera_axes(
        self,
        points: MeshPoints,
        camera: Float[Tensor, "b 3"],
        rotation_6d: Float[Tensor, "b 6"] | None,
        side: float,
    ) -> HandPrediction:
        """Wrist-relative points in camera axes and their projection on a crop of `side` px, in float32."""
        with torch.autocast(camera.device.type, enabled=False):
            dtype = self.queries.dtype
            points, camera, rotation = points.map(lambda p: p.to(dtype)), camera.to(dtype), None
            if rotation_6d is not None:
                rotation = rotation_6d_to_matrix(rotation_6d.to(dtype))
                points = points.map(lambda p: p @ rotation.mT)
            relative = points.relative(self.joint_regressor)
            view = LearnedCamera.from_weak_perspective(camera, backend=self.projection)
            return HandPrediction(
                **relative,
                joints_2d=view.project_pixels(relative["joints"], side),
                joints_token_2d=view.project_pixels(relative["joints_token"], side),
                camera=camera,
                rotation=rotation,
                hand=self.fingerprint.expand(camera.shape[0]),
            )


class CameraHead(nn.Module):
    """The xyz of all joint and vertex tokens -> (s, tx, ty)."""

    def __init__(self, tokens: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(XYZ, 1)
        self.hidden = nn.Linear(tokens, hidden)
        self.out = nn.Linear(hidden, 3)
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor([SCALE_INIT, 0.0, 0.0]))

    def forward(self, xyz: Float[Tensor, "b n 3"]) -> Float[Tensor, "b 3"]:
        """s in 1/m; translations in m, added before the scale."""
        return self.out(self.hidden(self.reduce(xyz)[..., 0]))


class RotationHead(nn.Module):
    """The joint tokens before the last encoder -> six numbers of the rotation from the hand's own frame to camera axes
    (the xyz after it are in that frame and know nothing of the view). Starts near the identity."""

    def __init__(self, tokens: int, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(tokens * width, hidden)
        self.out = nn.Linear(hidden, 6)
        with torch.no_grad():
            self.out.weight.mul_(0.1)
            self.out.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]))

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b 6"]:
        """The first two columns of the rotation, before they are made orthonormal."""
        return self.out(nn.functional.gelu(self.hidden(tokens.flatten(1))))


def build(config: HandModelConfig, hand: Hand) -> HandModel:
    """The network with fresh weights."""
    return MeshGraphormer(config, hand)
