"""The same network, sooner: a copy for inference whose outputs equal the model's but for rounding.

Batch norms are folded into the convolutions before them, the three projections of an attention become one, the graph
convolution becomes a dense product with its fixed operator, and convolutions lie channels-last. Works on every network
here, as far as it has such parts; the copy is for looking only: it can be neither trained on nor saved.
"""

from __future__ import annotations

import copy
import re

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_geometric.nn import GCNConv

from ..layers.encoder import SelfAttention, attend
from .base import HandModel

CONV = re.compile(r"conv(\d*)")  # attributes of which the batch norm bn\1 is the very next step


class FusedAttention(nn.Module):
    """`SelfAttention` in evaluation mode with query, key and value from one product."""

    def __init__(self, slow: SelfAttention) -> None:
        super().__init__()
        parts = slow.query, slow.key, slow.value
        self.heads, self.out, self.norm = slow.heads, slow.out, slow.norm
        self.project = nn.Linear(slow.query.in_features, 3 * slow.query.out_features, device="meta")
        self.project.weight = nn.Parameter(torch.cat([p.weight for p in parts]), requires_grad=False)
        self.project.bias = nn.Parameter(torch.cat([p.bias for p in parts]), requires_grad=False)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        q, k, v = rearrange(self.project(x), "b n (t h d) -> t b h n d", t=3, h=self.heads)
        return self.norm(x + self.out(rearrange(attend(q, k, v, 0.0), "b h n d -> b n (h d)")))


class DenseGraphConv(nn.Module):
    """`GCNConv` over one fixed graph: A x W + b. Few nodes: a dense product beats gathering and scattering."""

    def __init__(self, slow: GCNConv, operator: Float[Tensor, "v v"]) -> None:
        super().__init__()
        self.lin, self.bias = slow.lin, slow.bias
        self.register_buffer("operator", operator, persistent=False)

    def forward(
        self, x: Float[Tensor, "b v c"], edges: Int64[Tensor, "2 e"], weights: Float[Tensor, "e"]
    ) -> Float[Tensor, "b v c"]:
        """`edges` and `weights` are known already."""
        return self.operator.to(x.dtype) @ self.lin(x) + self.bias


@torch.no_grad()
def optimise(model: HandModel) -> HandModel:
    """A faster copy for inference, on the model's own device and in its type."""
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    _fold_batch_norms(fast)
    edges = getattr(fast, "graph_edges", None)
    for parent in list(fast.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SelfAttention):
                setattr(parent, name, FusedAttention(child))
            elif isinstance(child, GCNConv) and edges is not None:
                setattr(parent, name, DenseGraphConv(child, _operator(edges, fast.graph_weights)))
    return fast.to(memory_format=torch.channels_last)


def _operator(edges: Int64[Tensor, "2 e"], weights: Float[Tensor, "e"]) -> Float[Tensor, "v v"]:
    """The matrix A with (A x)[i] = sum over edges (j, i) of weight x[j]."""
    size = int(edges.max()) + 1
    operator = weights.new_zeros(size, size)
    operator.index_put_((edges[1], edges[0]), weights, accumulate=True)
    return operator


def _fold_batch_norms(model: nn.Module) -> None:
    """Fold them where they follow a convolution: next in a Sequential, or named bn, bn1, ... beside conv, conv1, ..."""
    for module in list(model.modules()):
        children = dict(module.named_children())
        if isinstance(module, nn.Sequential):
            names = list(children)
            pairs = list(zip(names[:-1], names[1:], strict=True))
        else:
            pairs = [(n, f"bn{m[1]}") for n in children if (m := CONV.fullmatch(n)) and f"bn{m[1]}" in children]
        for before, after in pairs:
            if isinstance(children[before], nn.Conv2d) and isinstance(children[after], nn.BatchNorm2d):
                setattr(module, before, fuse_conv_bn_eval(children[before], children[after]))
                setattr(module, after, nn.Identity())
