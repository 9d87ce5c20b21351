"""The same network the obvious way: a copy that computes as the published program does, to measure and test against.

Attention by its formula with three projections and every intermediate written out, the graph convolution as a sparse
product for one sample after another, convolutions channels-first, batch norms by themselves. Parameters are shared with
the model, not copied.
"""

from __future__ import annotations

import copy
import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from mesh_graphormer_hand.layers.graph_conv import GraphResidualBlock
from mesh_graphormer_hand.layers.transformer import SelfAttention
from mesh_graphormer_hand.models.base import HandModel


class PlainAttention(nn.Module):
    """softmax(q k^T / sqrt(d)) v head by head, as in BERT's own code; evaluation only."""

    def __init__(self, module: SelfAttention) -> None:
        super().__init__()
        self.heads, self.query, self.key, self.value = module.heads, module.query, module.key, module.value
        self.out, self.norm = module.out, module.norm

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        q, k, v = (self._split(f(x)) for f in (self.query, self.key, self.value))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
        mixed = torch.matmul(torch.softmax(scores, -1), v)
        return self.norm(self.out(mixed.permute(0, 2, 1, 3).contiguous().flatten(2)) + x)

    def _split(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b h n d"]:
        return x.view(*x.shape[:2], self.heads, -1).permute(0, 2, 1, 3)


class SparseGraphConv(nn.Module):
    """A (x W) + b for each sample by itself, A a sparse matrix that is built anew each time."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.lin, self.bias = module.lin, module.bias

    def forward(
        self, x: Float[Tensor, "b v c"], edges: Int64[Tensor, "2 e"], weights: Float[Tensor, "e"]
    ) -> Float[Tensor, "b v c"]:
        """`edges` and `weights`: from `layers.graph.adjacency_edges`."""
        operator = torch.sparse_coo_tensor(edges.flip(0), weights, (x.shape[1], x.shape[1]), check_invariants=False)
        return torch.stack([torch.sparse.mm(operator, self.lin(sample)) for sample in x]) + self.bias


def published(model: HandModel) -> HandModel:
    """A copy that computes as published, in evaluation mode, with the model's own parameters."""
    shared = {id(value): value for value in (*model.parameters(), *model.buffers())}
    slow = copy.deepcopy(model, shared).eval()
    for parent in list(slow.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SelfAttention):
                setattr(parent, name, PlainAttention(child))
            elif isinstance(child, GraphResidualBlock):
                child.conv = SparseGraphConv(child.conv)
    if (trunk := getattr(slow, "backbone", None)) is not None:
        trunk.register_forward_pre_hook(lambda module, arguments: (arguments[0].contiguous(),))
    return slow
