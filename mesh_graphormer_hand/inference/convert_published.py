"""Names of the published Mesh Graphormer hand network -> ours, so that its weights load into `mesh_graphormer`.

The published file holds 43 M numbers that no forward pass reads: the encoders' BERT embeddings (the live position table
lies beside them), their poolers, the graph blocks' `skip_conv` and the trunk's classifier. Exactly these are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ..config import ConfigError

DEAD = re.compile(
    r"backbone\.classifier\.(weight|bias)"
    r"|trans_encoder\.\d+\.bert\.(embeddings|pooler)\..+"
    r"|trans_encoder\.\d+\.bert\.encoder\.layer\.\d+\.graph_conv\.skip_conv\.[Wb]"
)
# The first rule that fits a name is the only one used; the trunk keeps its names.
RULES = (
    (r"backbone\.((?:incre_modules|downsamp_modules|final_layer)\..+)", r"neck.\1"),
    (r"backbone\.(.+)", r"backbone.\1"),
    (r"trans_encoder\.(\d+)\.bert\.img_embedding\.(.+)", r"encoders.\1.embed.\2"),
    (r"trans_encoder\.(\d+)\.bert\.position_embeddings\.weight", r"encoders.\1.positions.weight"),
    (r"trans_encoder\.(\d+)\.cls_head\.(.+)", r"encoders.\1.head.\2"),
    (r"trans_encoder\.(\d+)\.residual\.(.+)", r"encoders.\1.skip.\2"),
    (r"upsampling\.(.+)", r"upsample.\1"),
    (r"cam_param_fc\.(.+)", r"camera.reduce.\1"),
    (r"cam_param_fc2\.(.+)", r"camera.hidden.\1"),
    (r"cam_param_fc3\.(.+)", r"camera.out.\1"),
    (r"grid_feat_dim\.(.+)", r"grid_embed.\1"),
)
LAYER = re.compile(r"trans_encoder\.(\d+)\.bert\.encoder\.layer\.(\d+)\.(.+)\.(\w+)")
IN_LAYER = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "attention.norm",
    "graph_conv.pre_norm": "graph.norm_in",
    "graph_conv.lin1": "graph.reduce",
    "graph_conv.norm1": "graph.norm_reduced",
    "graph_conv.conv": "graph.conv",
    "graph_conv.norm2": "graph.norm_mixed",
    "graph_conv.lin2": "graph.expand",
    "intermediate.dense": "feed_forward.0",
    "output.dense": "feed_forward.2",
    "output.LayerNorm": "norm",
}
LEAVES = {"W": "weight", "b": "bias"}


def our_name(published: str) -> str | None:
    """Our name of a published parameter or buffer; None where it is a dead one.

    Raises:
        ConfigError: a name that the published network does not have.
    """
    if DEAD.fullmatch(published):
        return None
    for pattern, ours in RULES:
        if re.fullmatch(pattern, published):
            return re.sub(pattern, ours, published)
    layer = LAYER.fullmatch(published)
    if layer is None or layer[3] not in IN_LAYER:
        raise ConfigError(f"{published!r} is no parameter of the published Mesh Graphormer")
    leaf = "lin.weight" if (layer[3], layer[4]) == ("graph_conv.conv", "weight") else LEAVES.get(layer[4], layer[4])
    return f"encoders.{layer[1]}.layers.{layer[2]}.{IN_LAYER[layer[3]]}.{leaf}"


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict under our names and in our layout, ready for a strict `load_state_dict`.

    Raises:
        ConfigError: a name that the published network does not have.
    """
    ours = {}
    for name, value in state.items():
        target = our_name(name)
        if target is not None:  # the published graph convolution multiplies from the left: X W, a linear layer X W^T
            ours[target] = value.T if target.endswith("graph.conv.lin.weight") else value
    return ours
