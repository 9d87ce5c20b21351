"""Graph convolution over a fixed mesh, and the residual block that Mesh Graphormer puts into its encoder layers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


def adjacency_edges(adjacency: Float[Tensor, "v v"]) -> tuple[Int64[Tensor, "2 e"], Float[Tensor, "e"]]:
    """An operator A as the edges and weights that torch_geometric multiplies by: (A x)[i] = sum over e = (j, i)."""
    edges = adjacency.T.nonzero().T
    return edges, adjacency.T[edges[0], edges[1]]


class GraphResidualBlock(nn.Module):
    """x + W2 relu(n2(A (W relu(n1(W1 relu(n0(x))))) + b)): Mesh Graphormer's residual block (ICCV 2021), after the
    bottleneck of Kolotouros et al. (CVPR 2019), at half the width."""

    def __init__(self, width: int, eps: float) -> None:
        from torch_geometric.nn import GCNConv  # takes a second: for those networks only that convolve over a mesh

        super().__init__()
        half = width // 2
        self.norm_in = nn.LayerNorm(width, eps=eps)
        self.reduce = nn.Linear(width, half)
        self.norm_reduced = nn.LayerNorm(half, eps=eps)
        self.conv = GCNConv(half, half, normalize=False, add_self_loops=False)  # A comes normalised, with self-loops
        self.norm_mixed = nn.LayerNorm(half, eps=eps)
        self.expand = nn.Linear(half, width)

    def forward(
        self, x: Float[Tensor, "b v c"], edges: Int64[Tensor, "2 e"], weights: Float[Tensor, "e"]
    ) -> Float[Tensor, "b v c"]:
        """`edges`, `weights`: from `adjacency_edges`, of a graph over the v nodes."""
        y = self.reduce(torch.relu(self.norm_in(x)))
        y = self.conv(torch.relu(self.norm_reduced(y)), edges, weights.to(y.dtype))
        return x + self.expand(torch.relu(self.norm_mixed(y)))
