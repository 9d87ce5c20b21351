"""Mesh Graphormer: image tokens and mesh queries through a transformer with graph convolutions, to a hand's mesh.

Lin, Wang, Liu, "Mesh Graphormer", ICCV 2021. Written from the paper; with the published sizes (the defaults) its
outputs equal the published implementation's. Deviations: parameters that the published network never uses are absent,
every set of points is given relative to its own wrist, the image size, the trunk and the coarse mesh are free.

    HRNet -> grid map and pooled feature
    tokens = [21 joints | coarse vertices: template xyz + pooled feature] + [grid cells: linear(grid feature)]
    three encoders of falling width, the last with graph convolutions on the vertex tokens -> xyz of joints, vertices
    linear map over the vertex axis -> 778 vertices; joint regressor -> the joints that count; linear -> camera

Published, 224 px, HRNet-W64: 168.8 M parameters here (the published file holds 44.9 M more that no forward pass reads),
PA-MPJPE 6.3 mm on FreiHAND trained with FreiHAND's own images. Options that the published network does not have:
`camera.rotation: learned` regresses the mesh in the hand's own frame and a rotation (6D, Zhou et al., CVPR 2019) into
the camera. `keypoints: N` adds heat maps of the joints, whose expected places and features join the joint and vertex
queries; `camera.source: heatmaps` then fits (s, t) to those places instead of regressing it. `camera.rotation: fitted`
adds depth maps (2.5D, Iqbal et al., ECCV 2018) and regresses no camera at all: the similarity between the template's
palm and the 2.5D palm brings what the image says of the joints into the hand's own frame, where the queries start from
it; the one between the regressed joints and all 2.5D joints gives the rotation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..backbones.hrnet import VARIANTS, Features, Head, HRNet
from ..config import ConfigError, nearest, parse
from ..contracts import HandInputs, HandPrediction
from ..geometry.cameras import LearnedCamera
from ..geometry.fitting import fit_similarity, fit_weak_perspective
from ..geometry.heatmaps import HeatmapCodec
from ..geometry.joint_skinning import Binding, bind, pose, with_lengths
from ..geometry.rotations import rotation_6d_to_matrix
from ..layers.crop_head import CropHead
from ..layers.graph_conv import adjacency_edges
from ..layers.keypoint_head import KeypointHead
from ..layers.token_masking import hide_tokens
from ..layers.transformer import MAX_TOKENS, Encoder, Graph
from ..mano import hand as hands
from ..mano.hand import Hand, fingerprint_to_hex
from ..mano.template import HandTemplate, hand_template
from ..skeleton import NUM_JOINTS, NUM_VERTICES, PALM, WRIST
from ._keypoints import Keypoints, read
from .base import HandModel, HandModelConfig

XYZ = 3
SCALE_INIT = 8.0  # 1/m: a hand of 0.19 m on three quarters of the crop
POSITION_STD = 0.5  # of positions on a network that starts on the mesh; embedded features are about as large
LEAST_SPREAD = 0.02  # crop units: no joint is known better than that
SCALES = (3.0, 60.0)  # 1/m, within which a camera is fitted: a hand of 0.19 m on between a quarter and all of the crop
FOLLOW_STEPS = 2  # of moving the mesh towards the heat maps: each leaves what the skin between joints smooths away
FARTHEST = 0.3  # m that a query may be moved from the template
NEIGHBOURHOOD = 0.012  # m: how far what the image says of a joint reaches over the template's skin


@dataclass
class CameraConfig:
    rotation: str = "identity"  # identity (mesh regressed in camera axes, as published) | learned | fitted (2.5D)
    source: str = "tokens"  # of (s, tx, ty): tokens (regressed, as published) | heatmaps (fitted, needs keypoints)
    hidden: int = 150
    backend: str = "auto"  # of the projection: auto (PyTorch3D where it is installed) | pytorch3d | builtin


@dataclass
class Config:
    backbone: str = "w64"  # w18_small | w18 | w32 | w40 | w64
    head_planes: list[int] = field(default_factory=lambda: [32, 64, 128, 256])  # of the trunk's four branches
    feature: int = 2048  # of the pooled feature
    coarse: int = 195  # vertices of the coarse mesh
    grid_tokens: bool = True
    widths: list[int] = field(default_factory=lambda: [1024, 256, 64])  # of the encoders
    outputs: list[int] = field(default_factory=lambda: [512, 128])  # of all encoders but the last, which gives xyz
    layers: int = 4  # of each encoder
    heads: int = 4
    dropout: float = 0.1
    masked: float = 0.0  # largest share of the joint and vertex tokens that training hides; published: none
    graph: list[bool] = field(default_factory=lambda: [False, False, True])  # which encoders convolve over the mesh
    camera: CameraConfig = field(default_factory=CameraConfig)
    keypoints: int = 0  # channels of the heat-map head, 0: none
    keypoint_stride: int = 4  # 4 | 8
    start: str = "published"  # of fresh weights: published | mesh (`MeshGraphormer.start_on_mesh`)
    keypoint_sigma: float = 1.5  # heat-map cells, of the Gaussians that the maps are trained on
    follow_heatmaps: float = 0.0  # crop units: a joint whose heat map is this wide is moved half-way there, 0: none is
    crop_head: int = 0  # hidden width of the head that tells sides and whether there is a hand, 0: none


class MeshGraphormer(HandModel):
    """The network; see the module."""

    supports_gradient_checkpointing = True
    output_layers = ("upsample", "keypoint_head.maps")

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """
        Raises:
            ConfigError: options that do not fit together, or a hand that is not the config's.
        """
        self.options = options = check(parse(Config, config.options, where="model"))
        super().__init__(config, hand)
        self.fitted = options.camera.rotation == "fitted"
        extras = ("rotation",) * (options.camera.rotation != "identity") + ("heatmaps",) * bool(options.keypoints)
        self.produces = PRODUCES + extras + ("joints_25d", "surface") * self.fitted
        self.coarse = options.coarse
        self.backbone = HRNet(options.backbone, Head(tuple(options.head_planes), options.feature))
        # of the keypoints: feature, place, spread; depth
        token = XYZ + options.feature + (options.keypoints + 3 if options.keypoints else 0) + self.fitted
        if options.keypoints:
            self.codec = HeatmapCodec(options.keypoint_sigma)
            dims = self.backbone.dims[options.keypoint_stride // 8 :]
            self.keypoint_head = KeypointHead(dims, options.keypoints, NUM_JOINTS, depth=self.fitted)
        if options.grid_tokens:
            self.grid_embed = nn.Linear(self.backbone.grid_dim, token)
        cells = (config.image_size // self.backbone.STRIDE) ** 2 if options.grid_tokens else 0
        positions = max(MAX_TOKENS, len(self.queries) + cells)
        shared = options.layers, options.heads, options.dropout
        sizes = [token, *options.outputs, XYZ]
        self.encoders = nn.ModuleList(
            Encoder(sizes[i], width, sizes[i + 1], *shared, graph=options.graph[i], max_tokens=positions)
            for i, width in enumerate(options.widths)
        )
        self.upsample = nn.Linear(options.coarse, NUM_VERTICES)
        if options.camera.source == "tokens":
            self.camera = CameraHead(NUM_JOINTS + options.coarse, options.camera)
        if options.camera.rotation == "learned":
            self.rotation = RotationHead(NUM_JOINTS, sizes[-2], options.camera.hidden)
        if options.crop_head:
            known = NUM_JOINTS * (3 + self.fitted) if options.keypoints else 0  # place, spread; depth
            self.crop_head = CropHead(options.feature, known, options.crop_head)
            self.produces += ("left_logit", "presence_logit")
        if options.start == "mesh":
            self.start_on_mesh(hand_template(hand or hands.find(self.config.hand), options.coarse))

    @torch.no_grad()
    def start_on_mesh(self, template: HandTemplate) -> None:
        """Fresh weights that learn sooner: positions that tell the tokens apart from the first step on, the template's
        xyz passed on by the skips, the mesh's own up-sampling. Not for a licensed hand: its matrix would be saved."""
        for encoder in self.encoders:
            encoder.positions.weight.normal_(std=POSITION_STD)
            encoder.head.weight[:XYZ] *= 0.02
            encoder.skip.weight[:XYZ] = torch.eye(XYZ, encoder.skip.in_features)
        self.upsample.weight.copy_(template.upsample)
        self.upsample.bias.zero_()

    def constants(self, hand: Hand) -> dict[str, Tensor]:
        """Template queries, joint regressor, graph and joint neighbourhoods of the hand."""
        template = hand_template(hand, self.options.coarse)
        edges, weights = adjacency_edges(template.adjacency)
        binding = bind(template.coarse_vertices, template.joints)
        queries = torch.cat([template.joints, template.coarse_vertices])
        near, skin = (
            torch.softmax(-0.5 * (torch.cdist(vertices, template.joints) / NEIGHBOURHOOD) ** 2, -1)
            for vertices in (template.coarse_vertices, template.vertices)
        )
        return {
            "queries": queries,
            "joint_regressor": template.joint_regressor,
            "graph_edges": edges,
            "graph_weights": weights,
            "skin_joints": skin,
            "near_joints": torch.cat([torch.eye(NUM_JOINTS, device=near.device), near]),
            **{f"bind_{name}": value for name, value in vars(binding).items()},
            "fingerprint": torch.tensor(hand.fingerprint),
        }

    def coarse_mesh(self, hand: Hand) -> str:
        """The fingerprint of the coarse mesh, as 16 hexadecimal digits."""
        return fingerprint_to_hex(hand_template(hand, self.options.coarse).coarse_fingerprint)

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, whose sides are multiples of 32."""
        features, keypoints = self.extract(self.normalise(inputs.image))
        points, camera = self.regress_points(features, keypoints)
        prediction = self.interpret(points, camera, keypoints, float(inputs.image.shape[-1]))
        if self.options.follow_heatmaps:
            prediction = self.follow(prediction, keypoints, float(inputs.image.shape[-1]))
        if not self.options.crop_head:
            return prediction
        left, presence = self.crop_head(features.pooled, self._flat(keypoints, features.pooled))
        return replace(prediction, left_logit=left, presence_logit=presence)

    def extract(self, image: Float[Tensor, "b 3 h w"]) -> tuple[Features, Keypoints | None]:
        """Normalised image -> the trunk's features and what its heat maps say of the joints."""
        features = self.backbone(image.contiguous(memory_format=torch.channels_last))
        if not self.options.keypoints:
            return features, None
        branches = features.branches[self.options.keypoint_stride // 8 :]
        return features, read(*self.keypoint_head(branches), NUM_JOINTS)

    def regress(
        self, image: Float[Tensor, "b 3 h w"]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "b c"], Keypoints | None]:
        """Normalised image -> raw points and camera as of `regress_points`; the keypoints."""
        features, keypoints = self.extract(image)
        return (*self.regress_points(features, keypoints), keypoints)

    def regress_points(
        self, features: Features, keypoints: Keypoints | None
    ) -> tuple[dict[str, Tensor], Float[Tensor, "b c"]]:
        """Raw xyz of "joints", "coarse" and "vertices"; what the config wants regressed of the camera: (s, tx, ty),
        then six numbers of a rotation."""
        tokens = self.tokenize(*self.token_parts(features.pooled, features.grid, keypoints))
        graph = Graph(NUM_JOINTS, len(self.queries), self.graph_edges, self.graph_weights)
        raw = []
        for index, encoder in enumerate(self.encoders, start=1):
            if index == len(self.encoders) and self.options.camera.rotation == "learned":
                raw.append(self.rotation(tokens[:, :NUM_JOINTS]))
            tokens = encoder(tokens, graph)
        xyz = tokens[:, : len(self.queries)]
        joints, coarse = xyz[:, :NUM_JOINTS], xyz[:, NUM_JOINTS:]
        vertices = self.upsample(coarse.transpose(1, 2)).transpose(1, 2)
        if self.options.camera.source == "tokens":
            raw.insert(0, self.camera(xyz))
        raw = torch.cat(raw, -1) if raw else xyz.new_zeros(xyz.shape[0], 0)
        return {"joints": joints, "coarse": coarse, "vertices": vertices}, raw

    def _flat(self, keypoints: Keypoints | None, like: Tensor) -> Float[Tensor, "b k"]:
        """The keypoints' places, spreads and depths, one row an image."""
        if keypoints is None:
            return like.new_zeros(len(like), 0)
        known = [keypoints.uv, keypoints.spread] + [keypoints.depth] * self.fitted
        return torch.cat(known, -1).flatten(1)

    def token_parts(
        self, pooled: Float[Tensor, "b f"], grid: Float[Tensor, "b g h w"], keypoints: Keypoints | None
    ) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b f"], Float[Tensor, "b 21 l"] | None, Tensor | None]:
        """What tokens are made of: queries, pooled feature, joints' features, and the grid's cells row by row."""
        queries = self._posed(keypoints) if self.fitted else self.queries.expand(pooled.shape[0], -1, -1)
        local = None
        if keypoints is not None:
            known = [keypoints.features, keypoints.uv, keypoints.spread]
            local = torch.cat(known + [keypoints.depth] * self.fitted, -1)
        cells = rearrange(grid, "b g h w -> b (h w) g") if self.options.grid_tokens else None
        return queries, pooled, local, cells

    def tokenize(
        self,
        queries: Float[Tensor, "b n 3"],
        pooled: Float[Tensor, "b f"],
        local: Float[Tensor, "b 21 l"] | None,
        cells: Float[Tensor, "b c g"] | None,
    ) -> Float[Tensor, "b m t"]:
        """Joint and vertex queries, each with the pooled feature and its joints' features; then the cells."""
        parts = [queries, pooled[:, None].expand(*queries.shape[:2], -1)]
        if local is not None:
            parts.append(self.near_joints @ local)
        tokens = torch.cat([p.to(pooled.dtype) for p in parts], -1)
        if self.training and self.options.masked:
            tokens = hide_tokens(tokens, self.options.masked)
        return tokens if cells is None else torch.cat([tokens, self.grid_embed(cells)], 1)

    def _rotation(
        self, points: dict[str, Tensor], raw: Float[Tensor, "b c"], keypoints: Keypoints | None
    ) -> Float[Tensor, "b 3 3"] | None:
        """Camera from the hand's own frame, None where the mesh is regressed in camera axes."""
        if self.options.camera.rotation == "learned":
            return rotation_6d_to_matrix(raw[:, -6:])
        if not self.fitted:
            return None
        joints = (self.joint_regressor @ points["vertices"]).detach()
        return fit_similarity(joints, keypoints.uvz.detach(), _confidence(keypoints))[1]

    def _posed(self, keypoints: Keypoints) -> Float[Tensor, "b n 3"]:
        """The queries where the 2.5D joints put them, in the hand's own frame (m), in float32."""
        with torch.autocast(keypoints.uv.device.type, enabled=False):
            joints, uvz = self.queries[:NUM_JOINTS], keypoints.uvz
            palm = uvz[:, list(PALM)].detach()
            rest = joints[list(PALM)].expand_as(palm)
            scale, rotation, shift = fit_similarity(rest, palm, torch.ones_like(palm[..., 0]))
            seen = (uvz - shift[:, None]) @ rotation / scale[:, None, None]
            seen = joints + (seen - joints).clamp(-FARTHEST, FARTHEST)
            binding = Binding(self.bind_start, self.bind_along, self.bind_offset, self.bind_bones)
            seen = with_lengths(seen, self.bind_bones)
            return torch.cat([seen, pose(binding, seen)], 1)

    def interpret(
        self, points: dict[str, Tensor], raw: Float[Tensor, "b c"], keypoints: Keypoints | None, side: float
    ) -> HandPrediction:
        """Raw outputs -> wrist-relative points in camera axes, 2D joints in px of a crop of `side` px (float32)."""
        with torch.autocast(raw.device.type, enabled=False):
            dtype = self.queries.dtype
            points, raw = {name: value.to(dtype) for name, value in points.items()}, raw.to(dtype)
            rotation = self._rotation(points, raw, keypoints)
            if rotation is not None:
                points = {name: value @ rotation.transpose(-1, -2) for name, value in points.items()}
            joints = self.joint_regressor @ points["vertices"]
            wrist, token_wrist = (j[:, WRIST : WRIST + 1] for j in (joints, points["joints"]))
            joints, joints_token = joints - wrist, points["joints"] - token_wrist
            camera = raw[:, :3]
            if self.options.camera.source == "heatmaps":
                camera = fit_weak_perspective(joints, keypoints.uv, _confidence(keypoints), SCALES)
            view = LearnedCamera.from_weak_perspective(camera, backend=self.options.camera.backend)
            return HandPrediction(
                joints=joints,
                joints_token=joints_token,
                joints_2d=view.project_pixels(joints, side),
                joints_token_2d=view.project_pixels(joints_token, side),
                vertices=points["vertices"] - wrist,
                vertices_coarse=points["coarse"] - wrist,
                camera=camera,
                rotation=rotation,
                heatmaps=None if keypoints is None else keypoints.heatmaps,
                joints_25d=keypoints.uvz if self.fitted else None,
                surface=keypoints.surface if self.fitted else None,
                hand=self.fingerprint.expand(raw.shape[0]),
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
            joints = joints - wrist
            view = LearnedCamera.from_weak_perspective(camera, backend=self.options.camera.backend)
            return replace(
                prediction,
                joints=joints,
                joints_2d=view.project_pixels(joints, side),
                vertices=vertices - wrist,
                vertices_coarse=prediction.vertices_coarse - wrist,
                camera=camera,
            )


PRODUCES = ("joints", "joints_token", "joints_2d", "joints_token_2d", "vertices", "vertices_coarse", "camera")


def _confidence(keypoints: Keypoints) -> Float[Tensor, "b k"]:
    """Weights of fits to keypoints. Not something to train: their slope is without bound where a map is sharp."""
    return 1 / (keypoints.spread[..., 0].detach().square() + LEAST_SPREAD**2)


class CameraHead(nn.Module):
    """All tokens' xyz -> (s, tx, ty)."""

    def __init__(self, tokens: int, config: CameraConfig) -> None:
        super().__init__()
        self.reduce = nn.Linear(XYZ, 1)
        self.hidden = nn.Linear(tokens, config.hidden)
        self.out = nn.Linear(config.hidden, 3)
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor([SCALE_INIT, 0.0, 0.0]))

    def forward(self, xyz: Float[Tensor, "b n 3"]) -> Float[Tensor, "b 3"]:
        return self.out(self.hidden(self.reduce(xyz)[..., 0]))


class RotationHead(nn.Module):
    """The joint tokens before the last encoder -> six numbers of the rotation from the hand's own frame (the xyz after
    it are in that frame and know nothing of the view). Starts near the identity."""

    def __init__(self, tokens: int, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(tokens * width, hidden)
        self.out = nn.Linear(hidden, 6)
        with torch.no_grad():
            self.out.weight.mul_(0.1)
            self.out.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]))

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b 6"]:
        return self.out(nn.functional.gelu(self.hidden(tokens.flatten(1))))


def check(options: Config) -> Config:
    """The options, if they fit together.

    Raises:
        ConfigError: naming the option and its choices.
    """
    choices = {
        "backbone": (options.backbone, tuple(VARIANTS)),
        "camera.rotation": (options.camera.rotation, ("identity", "learned", "fitted")),
        "camera.source": (options.camera.source, ("tokens", "heatmaps")),
        "camera.backend": (options.camera.backend, ("auto", "pytorch3d", "builtin")),
        "start": (options.start, ("published", "mesh")),
        "keypoint_stride": (options.keypoint_stride, (4, 8)),
    }
    for key, (value, known) in choices.items():
        if value not in known:
            raise ConfigError(f"model.{key} is {value!r}{nearest(str(value), [str(k) for k in known])} ({known})")
    if len(options.head_planes) != 4:
        raise ConfigError(f"model.head_planes: a number for each of the four branches, not {options.head_planes}")
    if not len(options.widths) == len(options.graph) == len(options.outputs) + 1:
        raise ConfigError("model.widths and model.graph name every encoder, model.outputs every encoder but the last")
    if options.camera.source == "heatmaps" and not options.keypoints:
        raise ConfigError("model.camera.source=heatmaps needs heat maps: set model.keypoints to their head's channels")
    if options.follow_heatmaps and not options.keypoints:
        raise ConfigError("model.follow_heatmaps needs heat maps: set model.keypoints to their head's channels")
    if options.follow_heatmaps < 0:
        raise ConfigError(f"model.follow_heatmaps is {options.follow_heatmaps:g}, it should be 0 or more")
    if options.camera.rotation == "fitted" and options.camera.source != "heatmaps":
        raise ConfigError("model.camera.rotation=fitted goes with model.camera.source=heatmaps")
    return options


def build(config: HandModelConfig, hand: Hand) -> MeshGraphormer:
    """The network with fresh weights."""
    return MeshGraphormer(config, hand)
