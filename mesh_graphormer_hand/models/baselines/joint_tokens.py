"""Joint tokens: 3D joints by a transformer over the joints alone, with an auxiliary heat map and graph convolutions
over the skeleton. Lee et al., "Synthetic Hand Dataset Including a Forearm", Applied Intelligence 2024. Written from the
paper.

    features   backbone -> maps -> neck -> grid features and one global feature
    tokens     21 copies of the global feature, and the grid's cells; learned positions alone tell joints apart
    encoders   three of falling width (1024, 256, 64); the last one convolves over the skeleton's graph (`graph`)
    joints     the last encoder's xyz; camera: three numbers of the joints' own
    heat maps  a linear layer on each cell of the finest map (`heatmap`), trained beside the rest

It is Mesh Graphormer without the mesh: what a mesh brings is graphormer_lite's error against this one's. `heatmap` and
`graph` give the paper's table of four cells. Mesh Graphormer's parts are shared (layers/transformer.py).
Deviations: the skeleton's adjacency has self-loops and rows that sum to 1 (`adjacency: normalised`; published: 0 and 1,
without self-loops); the graph block is Mesh Graphormer's; encoders start by Xavier's rule (published: 0.02 whatever the
width); Gaussians stand at the exact keypoint; 2D joints are a loss.
Published: FreiHAND PA-MPJPE 5.3 mm with HRNet-W64 (5.36 without either part).
"""

from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor, nn

from ...backbones.base import BackboneConfig, build_backbone
from ...backbones.neck import ClassificationNeck
from ...config import parse
from ...contracts import HandInputs, HandPrediction
from ...geometry.heatmaps import HeatmapCodec
from ...layers.camera_head import at_least_float32, camera_from, project
from ...layers.graph_conv import adjacency_edges
from ...layers.transformer import EncoderConfig, Graph, encoder_stack
from ...mano.hand import Hand
from ...skeleton import BONES, NUM_JOINTS, WRIST
from ..base import POSITION_STD, XYZ, HandModel, HandModelConfig

ADJACENCIES = ("normalised", "published")
JOINT_UNIT = 0.05  # m: how far from the wrist joints begin


@dataclass
class Config(EncoderConfig):
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig("hrnet_w64"))
    head_planes: list[int] = field(default_factory=lambda: [32, 64, 128, 256])  # of the neck, one for each map
    feature: int = 2048  # channels of the global feature
    heatmap: bool = True  # the auxiliary heat maps
    adjacency: str = "normalised"  # of the skeleton: normalised | published
    sigma: float = 0.875  # cells, of the target Gaussians
    CHOICES = {"adjacency": ADJACENCIES}


class JointTokens(HandModel):
    """Image -> 3D joints, a camera, and heat maps beside them."""

    supports_gradient_checkpointing = True
    output_layers = ("maps", "camera_numbers")
    produces = ("joints", "joints_token", "joints_2d", "joints_token_2d", "camera", "heatmaps")

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """
        Raises:
            ConfigError: lists of encoders of different lengths.
        """
        self.options = options = parse(Config, config.options, where="model")
        super().__init__(config, hand)
        self.codec = HeatmapCodec(options.sigma)
        self.backbone = build_backbone(options.backbone)
        self.neck = ClassificationNeck(self.backbone.dims, options.head_planes, options.feature)
        self.grid_embed = nn.Linear(self.neck.grid_dim, options.feature)
        cells = (config.image_size // self.backbone.strides[-1]) ** 2
        self.encoders = encoder_stack(options, options.feature, XYZ, NUM_JOINTS + cells)
        start(self.encoders)
        self.camera_weights = nn.Linear(XYZ, 1)  # of each joint
        self.camera_numbers = nn.Linear(NUM_JOINTS, XYZ)
        self.maps = nn.Conv2d(self.backbone.dims[0], NUM_JOINTS, 1) if options.heatmap else None
        if self.maps is None:
            self.produces = tuple(name for name in JointTokens.produces if name != "heatmaps")

    def constants(self, hand: Hand) -> dict[str, Tensor]:
        """The skeleton's graph, and the hand's fingerprint."""
        edges, weights = adjacency_edges(skeleton_adjacency(self.options.adjacency))
        return {"graph_edges": edges, "graph_weights": weights, "fingerprint": torch.tensor(hand.fingerprint)}

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, whose sides are multiples of 32."""
        image = self.normalise(inputs.image).contiguous(memory_format=torch.channels_last)
        maps = self.backbone(image)
        grid, feature = self.neck(maps)
        cells = self.grid_embed(rearrange(grid, "b g h w -> b (h w) g"))
        tokens = torch.cat([feature[:, None].expand(-1, NUM_JOINTS, -1), cells], 1)
        graph = Graph(0, NUM_JOINTS, self.graph_edges, self.graph_weights)
        for encoder in self.encoders:
            tokens = encoder(tokens, graph)
        with torch.autocast(tokens.device.type, enabled=False):
            points = at_least_float32(tokens[:, :NUM_JOINTS])
            camera = camera_from(self.camera_numbers(self.camera_weights(points / JOINT_UNIT)[..., 0]))
            joints = points - points[:, WRIST : WRIST + 1]
            joints_2d = project(joints, camera, float(inputs.image.shape[-1]))
        return HandPrediction(
            joints=joints,
            joints_token=joints,
            joints_2d=joints_2d,
            joints_token_2d=joints_2d,
            camera=camera,
            heatmaps=None if self.maps is None else self.maps(maps[0]),
            hand=self.fingerprint.expand(joints.shape[0]),
        )


@torch.no_grad()
def start(encoders: nn.ModuleList) -> None:
    """Fresh weights by the layers' widths; positions weigh as much as features; joints begin near the wrist."""
    for encoder in encoders:
        for layer in encoder.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
        nn.init.normal_(encoder.positions.weight, std=POSITION_STD)
    for out in (encoders[-1].head, encoders[-1].skip):
        out.weight *= JOINT_UNIT


def skeleton_adjacency(kind: str) -> Tensor:
    """The 21 joints' graph over the bones: "published" has 0 and 1, "normalised" self-loops and rows that sum to 1."""
    with torch.device("cpu"):
        adjacency = torch.zeros(NUM_JOINTS, NUM_JOINTS)
        parents, children = torch.tensor(BONES).T
        adjacency[parents, children] = adjacency[children, parents] = 1
        if kind == "published":
            return adjacency
        adjacency = adjacency + torch.eye(NUM_JOINTS)
        return adjacency / adjacency.sum(1, keepdim=True)


def build(config: HandModelConfig, hand: Hand) -> JointTokens:
    """The network with fresh weights."""
    return JointTokens(config, hand)
