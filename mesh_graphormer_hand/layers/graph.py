"""Graph convolution over a fixed mesh, and the residual block that Mesh Graphormer puts into its encoder layers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class GraphConv(nn.Module):
    """A x W + b over one graph (Kipf and Welling, ICLR 2017), with the parameters of torch_geometric's `GCNConv`.

    A is dense: for the two hundred vertices of a coarse hand one product beats gathering and scattering along the edges
    on every device, adds up in float32 whatever the type, and gives equal bits in every run on a GPU, too.
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.lin = nn.Linear(dim_in, dim_out, bias=False)
        self.bias = nn.Parameter(torch.zeros(dim_out))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh weights, as `GCNConv` draws them."""
        nn.init.xavier_uniform_(self.lin.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Float[Tensor, "b v c"], operator: Float[Tensor, "v v"]) -> Float[Tensor, "b v d"]:
        """`operator`: A, normalised, with self-loops."""
        y = self.lin(x)
        return operator.to(y.dtype) @ y + self.bias


class GraphResidualBlock(nn.Module):
    """x + W2 relu(n2(A (W relu(n1(W1 relu(n0(x))))) + b)): Mesh Graphormer's residual block (ICCV 2021), after the
    bottleneck of Kolotouros et al. (CVPR 2019), at half the width."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        half = width // 2
        self.norm_in = nn.LayerNorm(width, eps=eps)
        self.reduce = nn.Linear(width, half)
        self.norm_reduced = nn.LayerNorm(half, eps=eps)
        self.conv = GraphConv(half, half)
        self.norm_mixed = nn.LayerNorm(half, eps=eps)
        self.expand = nn.Linear(half, width)

    def forward(self, x: Float[Tensor, "b v c"], operator: Float[Tensor, "v v"]) -> Float[Tensor, "b v c"]:
        """`operator`: of a graph over the v nodes."""
        y = self.reduce(torch.relu(self.norm_in(x)))
        y = self.conv(torch.relu(self.norm_reduced(y)), operator)
        return x + self.expand(torch.relu(self.norm_mixed(y)))
