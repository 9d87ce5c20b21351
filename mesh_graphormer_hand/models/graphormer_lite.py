"""graphormer_lite: a small Mesh Graphormer that starts from what convolutions see. Ours.

    features   backbone -> maps -> neck -> grid features and one global feature
    keypoints  heat maps and depth maps of the joints, read as 2.5D keypoints (Iqbal et al., ECCV 2018)
    tokens     the template posed on the 2.5D keypoints, in the hand's own frame: a posed joint's or vertex's xyz, the
               global feature, what the image shows of the joints near it; grid tokens
    encoders   of falling width; in the last, graph convolutions over the vertex tokens -> xyz
    mesh       linear upsampling to 778 vertices; the joint regressor gives the joints that count
    camera     fitted, not regressed: the similarity between the regressed joints and the 2.5D keypoints gives the
               rotation, weak perspective between the joints and the keypoints' places gives scale and translation

Differs from models/mesh_graphormer.py by the keypoints, the posed queries and the fitted camera. `follow_heatmaps`
moves the mesh to sharp heat maps in the image plane; `crop_head` tells left hands and whether there is a hand at all.
3.8 M parameters with the defaults.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..backbones.base import BackboneConfig, build_backbone
from ..backbones.neck import ClassificationNeck
from ..config import parse
from ..contracts import HandInputs, HandPrediction
from ..geometry.cameras import PROJECTIONS, LearnedCamera
from ..geometry.fitting import fit_similarity, fit_weak_perspective
from ..geometry.heatmaps import HeatmapCodec
from ..geometry.joint_skinning import Binding, bind, pose, with_lengths
from ..layers.crop_head import CropHead
from ..layers.keypoint_head import KeypointHead, Keypoints, keypoints_from_heatmaps
from ..layers.token_masking import mask_tokens
from ..layers.transformer import EncoderConfig, encoder_stack
from ..mano.hand import Hand
from ..skeleton import NUM_JOINTS, NUM_VERTICES, PALM, WRIST
from .base import INITS, XYZ, HandModel, HandModelConfig, MeshModel, MeshPoints

KEYPOINT_NUMBERS = 4  # of a 2.5D keypoint: u, v, spread, depth
MIN_SPREAD = 0.02  # crop units: no joint is known better than that
SCALE_RANGE = (3.0, 60.0)  # 1/m, within which a camera is fitted: a hand of 0.19 m on a quarter to all of the crop
FOLLOW_STEPS = 2  # of moving the mesh towards the heat maps: each leaves what the skin between joints smooths away
MAX_OFFSET = 0.3  # m that a query may be moved from the template
SKIN_RADIUS = 0.012  # m: how far what the image says of a joint reaches over the template's skin


@dataclass
class Config(EncoderConfig):
    widths: list[int] = field(default_factory=lambda: [192, 96, 48])  # of the encoders
    outputs: list[int] = field(default_factory=lambda: [192, 96])  # of all encoders but the last
    layers: int = 2  # of each encoder
    dropout: float = 0.0
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig("hrnet_w18_small"))
    head_planes: list[int] = field(default_factory=lambda: [8, 16, 32, 64])  # of the neck, one for each map
    feature: int = 512  # channels of the global feature
    coarse: int = 98  # vertices of the coarse mesh
    grid_tokens: bool = True
    mask_ratio: float = 0.0  # largest share of the joint and vertex tokens that training masks
    init: str = "mesh"  # of fresh weights: published | mesh (`MeshModel.start_on_mesh`)
    keypoints: int = 64  # channels of the heat-map head
    keypoint_stride: int = 4  # px of the image for a cell of the heat maps: 4 | 8
    keypoint_sigma: float = 1.5  # heat-map cells, of the Gaussians that the maps are trained on
    follow_heatmaps: float = 0.0  # crop units: a joint whose heat map is this wide is moved half-way there, 0: none is
    crop_head: int = 0  # hidden width of the head that tells sides and whether there is a hand, 0: none
    projection: str = "auto"  # auto (PyTorch3D where it is installed) | pytorch3d | builtin
    CHOICES = {"projection": PROJECTIONS, "init": INITS, "keypoint_stride": (4, 8)}
    LIMITS = {"keypoints": (1, math.inf)}


class GraphormerLite(MeshModel):
    """The network; see the module."""

    supports_gradient_checkpointing = True
    output_layers = ("upsample", "keypoint_head.maps")
    produces = (*MeshModel.produces, "rotation", "heatmaps", "joints_25d", "surface")

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """
        Raises:
            ConfigError: options that do not fit together, or a hand that is not the config's.
        """
        self.options = options = parse(Config, config.options, where="model")
        self.coarse = options.coarse
        super().__init__(config, hand)
        self.codec = HeatmapCodec(options.keypoint_sigma)
        self.backbone = build_backbone(options.backbone)
        self.neck = ClassificationNeck(self.backbone.dims, options.head_planes, options.feature)
        self.first_map = options.keypoint_stride // 8  # of those that the heat maps are made from
        dims = self.backbone.dims[self.first_map :]
        self.keypoint_head = KeypointHead(dims, options.keypoints, NUM_JOINTS, depth=True)
        token = XYZ + options.feature + options.keypoints + KEYPOINT_NUMBERS
        self.grid_embed = nn.Linear(self.neck.grid_dim, token) if options.grid_tokens else None
        cells = (config.image_size // self.backbone.strides[-1]) ** 2
        self.encoders = encoder_stack(options, token, XYZ, len(self.queries) + cells)
        self.upsample = nn.Linear(options.coarse, NUM_VERTICES)
        self.crop_head = None
        if options.crop_head:
            self.crop_head = CropHead(options.feature, NUM_JOINTS * KEYPOINT_NUMBERS, options.crop_head)
            self.produces = (*GraphormerLite.produces, "left_logit", "presence_logit")
        if options.init == "mesh":
            self.start_on_mesh(self.hand_of(hand))

    def constants(self, hand: Hand) -> dict[str, Tensor]:
        """Those of MeshModel; the joints near each query and vertex, and how coarse vertices hang on the bones."""
        template = self.template(hand)
        near, skin = (
            torch.softmax(-0.5 * (torch.cdist(vertices, template.joints) / SKIN_RADIUS) ** 2, -1)
            for vertices in (template.coarse_vertices, template.vertices)
        )
        binding = bind(template.coarse_vertices, template.joints)
        return super().constants(hand) | {
            "skin_joints": skin,
            "near_joints": torch.cat([torch.eye(NUM_JOINTS, device=near.device), near]),
            **{f"bind_{name}": value for name, value in vars(binding).items()},
        }

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, whose sides are multiples of 32."""
        side = float(inputs.image.shape[-1])
        image = self.normalise(inputs.image).contiguous(memory_format=torch.channels_last)
        maps = self.backbone(image)
        keypoints = keypoints_from_heatmaps(*self.keypoint_head(maps[self.first_map :]), NUM_JOINTS)
        grid, feature = self.neck(maps)
        tokens = self.tokenize(grid, feature, keypoints)
        for encoder in self.encoders:
            tokens = encoder(tokens, self.graph)
        prediction = self.fit_camera(self.split(tokens), keypoints, side)
        if self.options.follow_heatmaps:
            prediction = self.follow(prediction, keypoints, side)
        if self.crop_head is None:
            return prediction
        known = torch.cat([keypoints.uv, keypoints.spread, keypoints.depth], -1).flatten(1)
        left, presence = self.crop_head(feature, known)
        return replace(prediction, left_logit=left, presence_logit=presence)

    def tokenize(
        self, grid: Float[Tensor, "b g h w"], feature: Float[Tensor, "b f"], keypoints: Keypoints
    ) -> Float[Tensor, "b n t"]:
        """Joint and vertex tokens: a posed query's xyz, the global feature, the keypoints near it; then the grid's
        cells, row by row."""
        queries = self.posed_queries(keypoints)
        local = torch.cat([keypoints.features, keypoints.uv, keypoints.spread, keypoints.depth], -1)
        parts = [queries, feature[:, None].expand(*queries.shape[:2], -1), self.near_joints @ local]
        tokens = torch.cat([p.to(feature.dtype) for p in parts], -1)
        if self.training and self.options.mask_ratio:
            tokens = mask_tokens(tokens, self.options.mask_ratio)
        if self.grid_embed is None:
            return tokens
        return torch.cat([tokens, self.grid_embed(rearrange(grid, "b g h w -> b (h w) g"))], 1)

    def posed_queries(self, keypoints: Keypoints) -> Float[Tensor, "b n 3"]:
        """Joints and coarse vertices of the template posed on the 2.5D keypoints, in the hand's own frame (m), in
        float32. The similarity between the template's palm and the keypoints' palm brings them there."""
        with torch.autocast(keypoints.uv.device.type, enabled=False):
            joints, uvz = self.queries[:NUM_JOINTS], keypoints.uvz
            palm = uvz[:, list(PALM)].detach()
            template_palm = joints[list(PALM)].expand_as(palm)
            scale, rotation, shift = fit_similarity(template_palm, palm, torch.ones_like(palm[..., 0]))
            posed = (uvz - shift[:, None]) @ rotation / scale[:, None, None]
            posed = joints + (posed - joints).clamp(-MAX_OFFSET, MAX_OFFSET)
            binding = Binding(self.bind_start, self.bind_along, self.bind_offset, self.bind_bones)
            posed = with_lengths(posed, self.bind_bones)
            return torch.cat([posed, pose(binding, posed)], 1)

    def fit_camera(self, points: MeshPoints, keypoints: Keypoints, side: float) -> HandPrediction:
        """Points in the hand's own frame -> wrist-relative points in camera axes, the camera, and their projection on a
        crop of `side` px, in float32."""
        with torch.autocast(points.vertices.device.type, enabled=False):
            points = points.map(lambda p: p.to(self.queries.dtype))
            joints, weights = (self.joint_regressor @ points.vertices).detach(), confidence(keypoints)
            rotation = fit_similarity(joints, keypoints.uvz.detach(), weights)[1]
            relative = points.map(lambda p: p @ rotation.mT).relative(self.joint_regressor)
            camera = fit_weak_perspective(relative["joints"], keypoints.uv, weights, SCALE_RANGE)
            view = LearnedCamera.from_weak_perspective(camera, backend=self.options.projection)
            return HandPrediction(
                **relative,
                joints_2d=view.project_pixels(relative["joints"], side),
                joints_token_2d=view.project_pixels(relative["joints_token"], side),
                camera=camera,
                rotation=rotation,
                heatmaps=keypoints.heatmaps,
                joints_25d=keypoints.uvz,
                surface=keypoints.surface,
                hand=self.fingerprint.expand(camera.shape[0]),
            )

    def follow(self, prediction: HandPrediction, keypoints: Keypoints, side: float) -> HandPrediction:
        """The mesh moved in the image plane to where sharp heat maps see its joints, in float32.

        Convolutions place joints more exactly than the regressed mesh does; depths stay. With w = 1 / (1 + (spread /
        `follow_heatmaps`)^2) each joint moves by w times what it lacks, and the skin with the joints near it.
        """
        with torch.autocast(keypoints.uv.device.type, enabled=False):
            camera, uv = prediction.camera, keypoints.uv.detach()
            scale, shift = camera[:, None, :1], camera[:, None, 1:]
            trust = 1 / (1 + (keypoints.spread.detach() / self.options.follow_heatmaps) ** 2)
            vertices = prediction.vertices
            for _ in range(FOLLOW_STEPS):
                joints = self.joint_regressor @ vertices
                lack = trust * (uv / scale - shift - joints[..., :2])
                vertices = vertices + nn.functional.pad(self.skin_joints @ lack, (0, 1))
            joints = self.joint_regressor @ vertices
            wrist = joints[:, WRIST : WRIST + 1]
            camera = torch.cat([camera[:, :1], camera[:, 1:] + wrist[:, 0, :2]], -1)
            view = LearnedCamera.from_weak_perspective(camera, backend=self.options.projection)
            return replace(
                prediction,
                joints=joints - wrist,
                joints_2d=view.project_pixels(joints - wrist, side),
                vertices=vertices - wrist,
                vertices_coarse=prediction.vertices_coarse - wrist,
                camera=camera,
            )


def confidence(keypoints: Keypoints) -> Float[Tensor, "b k"]:
    """Weights of fits to keypoints. They are not trained: their slope has no bound where a map is sharp."""
    return 1 / (keypoints.spread[..., 0].detach().square() + MIN_SPREAD**2)


def build(config: HandModelConfig, hand: Hand) -> HandModel:
    """The network with fresh weights."""
    return GraphormerLite(config, hand)
