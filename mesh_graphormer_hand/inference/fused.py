"""The same network, sooner: a copy for inference whose outputs equal the model's but for rounding.

Batch norms are folded into the convolutions before them, sums and ReLUs are done as these write (`_packed`), maps of
several resolutions are added up from coarse to fine, the three projections of an attention become one, the graph
convolution a dense product, and what the tokens of an image share goes through the first encoder once an image. Works
on every network here, as far as it has such parts; the copy is for looking only: it is neither trained on nor saved.
"""

from __future__ import annotations

import copy
import re

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones import hrnet
from ..layers.graph_conv import GraphResidualBlock
from ..layers.transformer import EncoderLayer, Graph, SelfAttention
from ..models.base import HandModel
from .onednn_ops import Kit, can_pack

CONV = re.compile(r"conv(\d*)")  # attributes of which the batch norm bn\1 is the very next step


@torch.no_grad()
def optimise(model: HandModel, dtype: torch.dtype | None = None, portable: bool = False) -> HandModel:
    """A faster copy for inference, on the model's own device.

    Args:
        model: any network of ours.
        dtype: that convolutions and large products compute in, such as torch.bfloat16; None: the model's own.
        portable: by torch's public operators alone, which exporters know.
    """
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    like = next(model.parameters())
    dtype = dtype or like.dtype
    kit = Kit(not portable and like.device.type == "cpu" and can_pack(dtype), dtype)
    _replace(fast, kit)
    for block in [m for m in fast.modules() if isinstance(m, GraphResidualBlock)]:
        block.conv = DenseGraphConv(block.conv, _operator(fast.graph_edges, fast.graph_weights))
    return fast


def _replace(module: nn.Module, kit: Kit) -> None:
    """Put the fast twins in their places, at any depth."""
    children = dict(module.named_children())
    for name, child in children.items():
        if getattr(module, name) is not child:
            continue  # a norm that went into its convolution
        if isinstance(child, nn.Sequential):
            child = _sequence(child, kit)
        elif isinstance(child, nn.Conv2d):
            match = CONV.fullmatch(name)
            norm = children.get(f"bn{match[1]}") if match else None
            child = kit.convolution(child, norm if isinstance(norm, nn.BatchNorm2d) else None)
            if isinstance(norm, nn.BatchNorm2d):
                setattr(module, f"bn{match[1]}", nn.Identity())
        elif type(child) in TWINS:
            child = TWINS[type(child)](child, kit)
        setattr(module, name, child)
        _replace(child, kit)


def _sequence(slow: nn.Sequential, kit: Kit) -> nn.Sequential:
    """A Sequential with each run of convolution, batch norm and ReLU as one step."""
    steps, rest = [], list(slow)
    while rest:
        step = rest.pop(0)
        if isinstance(step, nn.Conv2d):
            norm = rest.pop(0) if rest and isinstance(rest[0], nn.BatchNorm2d) else None
            relu = bool(rest) and isinstance(rest[0], nn.ReLU)
            rest = rest[relu:]
            step = kit.convolution(step, norm, relu)
        elif type(step) in TWINS:
            step = TWINS[type(step)](step, kit)
            step.inplace = bool(steps) and isinstance(steps[-1], Block)
        steps.append(step)
    return nn.Sequential(*steps)


class Block(nn.Module):
    """HRNet's residual block of two convolutions."""

    inplace = False  # what comes in is nobody else's

    def __init__(self, slow: hrnet.BasicBlock, kit: Kit) -> None:
        super().__init__()
        self.first = kit.convolution(slow.conv1, slow.bn1, relu=True)
        self.second = kit.convolution(slow.conv2, slow.bn2, relu=True)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.second(self.first(x), x, self.inplace)


class Bottleneck(nn.Module):
    """HRNet's residual block of three convolutions."""

    def __init__(self, slow: hrnet.Bottleneck, kit: Kit) -> None:
        super().__init__()
        self.first = kit.convolution(slow.conv1, slow.bn1, relu=True)
        self.second = kit.convolution(slow.conv2, slow.bn2, relu=True)
        self.third = kit.convolution(slow.conv3, slow.bn3, relu=True)
        self.skip = nn.Identity() if slow.downsample is None else slow.downsample

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        return self.third(self.second(self.first(x)), self.skip(x))


class Exchange(nn.Module):
    """HRNet's module: blocks on each branch, then each branch adds up all of them. Coarser ones are added up among
    themselves before they are enlarged, finer ones as their last convolution writes."""

    def __init__(self, slow: hrnet.Module, kit: Kit) -> None:
        super().__init__()
        self.branches = slow.branches
        self.coarser, self.finer, self.last = (nn.ModuleList() for _ in range(3))
        for target, steps in enumerate(slow.fuse_layers):
            finer, coarser = list(steps[:target]), list(steps[target + 1 :])
            self.coarser.append(nn.ModuleList(coarser))
            self.finer.append(nn.ModuleList(nn.Sequential(*chain[:-1]) for chain in finer))
            pairs = [chain[-1] for chain in finer]
            self.last.append(nn.ModuleList(kit.convolution(*pair, relu=pair is pairs[-1]) for pair in pairs))

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        """A map for each branch -> the same shapes."""
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        return [self._gather(target, xs) for target in range(len(self.last))]

    def _gather(self, target: int, xs: list[Tensor]) -> Tensor:
        total, steps = None, self.coarser[target]
        for step, x in zip(reversed(steps), reversed(xs[target + 1 :]), strict=True):
            total = step[0](x, None if total is None else F.interpolate(total, scale_factor=2.0))
        total = xs[target] if total is None else xs[target] + F.interpolate(total, scale_factor=2.0)
        for chain, last, x in zip(self.finer[target], self.last[target], xs, strict=False):
            total = last(chain(x), total, inplace=total is not xs[target])
        return total if target else F.relu(total, inplace=True)


class FusedAttention(nn.Module):
    """`SelfAttention` in evaluation mode with query, key and value from one product."""

    def __init__(self, slow: SelfAttention, kit: Kit) -> None:
        super().__init__()
        parts = slow.query, slow.key, slow.value
        self.heads, self.norm = slow.heads, slow.norm
        self.project = kit.linear(torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))
        self.out = kit.linear(slow.out.weight, slow.out.bias)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        q, k, v = rearrange(self.project(x), "b n (t h d) -> t b h n d", t=3, h=self.heads)
        y = rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")
        return self.norm(x + self.out(y))


class FusedLayer(nn.Module):
    """`EncoderLayer` in evaluation mode."""

    def __init__(self, slow: EncoderLayer, kit: Kit) -> None:
        super().__init__()
        wide, _, narrow = slow.feed_forward
        self.attention, self.graph, self.norm = FusedAttention(slow.attention, kit), slow.graph, slow.norm
        self.widen = kit.linear(wide.weight, wide.bias, gelu=True)
        self.narrow = kit.linear(narrow.weight, narrow.bias)

    def forward(self, x: Float[Tensor, "b n c"], graph: Graph | None = None) -> Float[Tensor, "b n c"]:
        x = self.attention(x)
        if self.graph is not None:
            nodes = self.graph(x[:, graph.start : graph.stop], graph.edges, graph.weights)
            x = torch.cat([x[:, : graph.start], nodes, x[:, graph.stop :]], 1)
        return self.norm(x + self.narrow(self.widen(x)))


class DenseGraphConv(nn.Module):
    """`GCNConv` over one fixed graph: A x W + b. Few nodes: a dense product beats gathering and scattering."""

    def __init__(self, slow: nn.Module, operator: Float[Tensor, "v v"]) -> None:
        super().__init__()
        self.lin, self.bias = slow.lin, slow.bias
        self.register_buffer("operator", operator, persistent=False)

    def forward(
        self, x: Float[Tensor, "b v c"], edges: Int64[Tensor, "2 e"], weights: Float[Tensor, "e"]
    ) -> Float[Tensor, "b v c"]:
        """`edges` and `weights` are known already."""
        return self.operator.to(x.dtype) @ self.lin(x) + self.bias


def _operator(edges: Int64[Tensor, "2 e"], weights: Float[Tensor, "e"]) -> Float[Tensor, "v v"]:
    """The matrix A with (A x)[i] = sum over edges (j, i) of weight x[j]."""
    size = int(edges.max()) + 1
    operator = weights.new_zeros(size, size)
    operator.index_put_((edges[1], edges[0]), weights, accumulate=True)
    return operator


TWINS = {
    hrnet.BasicBlock: Block,
    hrnet.Bottleneck: Bottleneck,
    hrnet.Module: Exchange,
    SelfAttention: FusedAttention,
    EncoderLayer: FusedLayer,
}
