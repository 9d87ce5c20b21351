"""RealNVP (Dinh et al., ICLR 2017): the density of small vectors by invertible couplings.

The parameters are one flat vector, so that a network can hand them on as an output of its forward pass and a loss can
evaluate the density as a pure function: distributed training sees them used where it looks for that.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

MASKS = {2: ((0, 1), (1, 0)), 3: ((0, 0, 1), (1, 1, 0))}  # what couplings leave alone, in turn, by the vectors' size
SLOPE = 0.01  # of the leaky ReLU
LAYERS = 3  # of each net


class RealNVP(nn.Module):
    """Couplings x -> mask x + (1 - mask) (x - t(mask x)) exp(-s(mask x)), from data to a standard normal."""

    def __init__(self, size: int, couplings: int = 6, width: int = 64) -> None:
        super().__init__()
        self.size, self.couplings, self.width = size, couplings, width
        sizes = [(size, width), (width, width), (width, size)]
        layers = [nn.Linear(*pair) for _ in range(2 * couplings) for pair in sizes]  # s, t of each coupling
        for last in layers[LAYERS - 1 :: LAYERS]:
            nn.init.zeros_(last.weight)  # starts as the normal itself
            nn.init.zeros_(last.bias)
        with torch.no_grad():
            self.weights = nn.Parameter(torch.cat([p.reshape(-1) for layer in layers for p in layer.parameters()]))

    def log_prob(self, weights: Float[Tensor, "p"], x: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """The log density of `x` under the flow with these weights."""
        layers = self._layers(weights)
        total = x.new_zeros(x.shape[0])
        for index in reversed(range(self.couplings)):
            mask = x.new_tensor(MASKS[self.size][index % 2])
            kept = mask * x
            scale = (1 - mask) * torch.tanh(_net(layers[2 * index], kept))
            shift = (1 - mask) * _net(layers[2 * index + 1], kept)
            x = kept + (1 - mask) * (x - shift) * torch.exp(-scale)
            total = total - scale.sum(-1)
        normal = -0.5 * x.square().sum(-1) - 0.5 * self.size * math.log(2 * math.pi)
        return normal + total

    def _layers(self, weights: Float[Tensor, "p"]) -> list[list[tuple[Tensor, Tensor]]]:
        """Matrix and bias of each layer of each net."""
        nets, start = [], 0
        for _ in range(2 * self.couplings):
            net = []
            for rows, columns in ((self.width, self.size), (self.width, self.width), (self.size, self.width)):
                matrix = weights[start : start + rows * columns].view(rows, columns)
                start += rows * columns
                net.append((matrix, weights[start : start + rows]))
                start += rows
            nets.append(net)
        return nets


def _net(layers: list[tuple[Tensor, Tensor]], x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    for matrix, bias in layers[:-1]:
        x = F.leaky_relu(F.linear(x, matrix, bias), SLOPE)
    return F.linear(x, *layers[-1])
