"""Muon: hidden matrices move by orthogonal steps, all other parameters by AdamW's.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); steps are scaled to the size of AdamW's
as in Liu et al., "Muon is scalable for LLM training" (arXiv 2502.16982, 2025). torch.optim.Muon takes no convolutions
and goes matrix by matrix, which a network of hundreds of small filters would wait for: here like sizes go together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..config import ConfigError
from ..models.base import HandModel
from .precision import choose

MIN_SIDE = 8  # of a matrix that is worth an orthogonal step
ADAM_RMS = 0.2  # of AdamW's steps, in learning rates (Liu et al.)
QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's: drives singular values to about 1 in few iterations
ITERATIONS = 5
EPSILON = 1e-7


class Muon(torch.optim.Optimizer):
    """Groups with `hidden` true hold the matrices and filters for Muon, the others what AdamW takes."""

    def __init__(
        self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], fused: bool, momentum: float = 0.95
    ) -> None:
        """
        Raises:
            ConfigError: the parameters are sharded: no process has a whole matrix.
        """
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "hidden": False})
        if any(isinstance(p, DTensor) for group in self.param_groups for p in group["params"]):
            raise ConfigError("train.optimizer.name=muon needs whole matrices: train.shard=false, or adamw")
        self.momentum = momentum
        others = self._adamw_groups()
        self.adamw = torch.optim.AdamW(others, lr=lr, betas=betas, fused=fused) if others else None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step of every parameter that has a gradient."""
        for group in self.param_groups:
            if group["hidden"]:
                self._step_hidden(group)
        if self.adamw is not None:
            self.adamw.state = self.state  # one state, whoever loads it
            for own, group in zip(self.adamw.param_groups, self._adamw_groups(), strict=True):
                own["lr"] = group["lr"]
            self.adamw.step()

    def _adamw_groups(self) -> list[dict[str, Any]]:
        return [group for group in self.param_groups if not group["hidden"]]

    def _step_hidden(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        rate = group["lr"]
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        for bucket in buckets(parameters):
            steps = orthogonal(pack([self._moved(p).flatten(1) for p in bucket]))
            for parameter, step in zip(bucket, steps, strict=True):
                rows, columns = parameter.shape[0], parameter.shape[1:].numel()
                step = (step.mT if rows > columns else step)[:rows, :columns]
                size = rate * ADAM_RMS * math.sqrt(max(rows, columns))
                parameter.sub_(step.reshape(parameter.shape), alpha=size)

    def _moved(self, parameter: Float[Tensor, "out *inner"]) -> Tensor:
        """The gradient with Nesterov's momentum."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - self.momentum)
        return parameter.grad.lerp(state["momentum"], self.momentum)


def buckets(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    """Parameters whose matrices fit the same powers of two, whichever way they lie."""
    found = defaultdict(list)
    for parameter in parameters:
        sides = parameter.shape[0], parameter.shape[1:].numel()
        found[tuple((side - 1).bit_length() for side in sorted(sides))].append(parameter)
    return list(found.values())


def pack(matrices: list[Float[Tensor, "_ _"]]) -> Float[Tensor, "n r c"]:
    """The matrices, none upright, with zeros around them: their singular values and vectors stay what they are."""
    wide = [m.mT if m.shape[0] > m.shape[1] else m for m in matrices]
    rows, columns = (max(m.shape[side] for m in wide) for side in (0, 1))
    packed = wide[0].new_zeros(len(wide), rows, columns)
    for place, matrix in zip(packed, wide, strict=True):
        place[: matrix.shape[0], : matrix.shape[1]] = matrix
    return packed


def orthogonal(x: Float[Tensor, "n r c"]) -> Float[Tensor, "n r c"]:
    """About U V^T of each matrix U S V^T by Newton-Schulz iterations: singular values end near 1 (0.7 to 1.2), but for
    those under a thousandth of the largest. In bfloat16, which is enough, or float32 where that would be emulated."""
    dtype = x.dtype
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + EPSILON)).to(choose(x.device).dtype)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(dtype)


def hidden(model: nn.Module) -> list[nn.Parameter]:
    """What Muon takes of a model: matrices and filters, but no embeddings and none of the layers that give outputs."""
    outputs: Sequence[str] = model.output_layers if isinstance(model, HandModel) else ()
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return [
        p
        for name, p in model.named_parameters()
        if p.requires_grad
        and p.ndim > 1
        and min(p.shape[0], p.shape[1:].numel()) >= MIN_SIDE
        and id(p) not in tables
        and not name.startswith(tuple(outputs))
    ]
