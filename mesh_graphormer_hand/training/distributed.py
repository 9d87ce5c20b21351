"""One network on many devices: weights sharded over all processes (FSDP).

Sharding is torch's `fully_shard`: every parameter becomes a DTensor of which each process holds a shard. Whatever acts
on parameters one by one (averages, copies) acts on the local shard; checkpoints hold full tensors (`full_tensor`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ..config import ConfigError
from ..contracts import HandInputs, HandPrediction

MIN_PARAMETERS = 1_000_000  # parameters: to gather a smaller block by itself would cost more than it saves
CONTAINERS = (nn.ModuleList, nn.ModuleDict)  # never called themselves


class Network(nn.Module):
    """A hand model whose output is a dict: torch's wrappers look in it for tensors to hook."""

    def __init__(self, model: nn.Module, autocast: Callable[[], AbstractContextManager]) -> None:
        super().__init__()
        self.model, self.autocast = model, autocast

    def forward(self, inputs: HandInputs) -> dict[str, Any]:
        """The prediction's fields."""
        with self.autocast():
            prediction = self.model(inputs)
        # A view would lose the hook that gathers the weights for the backward pass if somebody changed it in place.
        prediction = prediction.map(lambda t: t.clone() if t._is_view() else t)
        return {f.name: getattr(prediction, f.name) for f in fields(prediction)}


class Sharded:
    """A model whose weights are spread over all processes; call it like the model itself."""

    def __init__(self, model: nn.Module, accelerator: Accelerator) -> None:
        self.network = Network(model, accelerator.autocast)
        _shard(self.network, accelerator)

    def __call__(self, inputs: HandInputs) -> HandPrediction:
        return HandPrediction(**self.network(inputs))

    def sync(self, on: bool) -> None:
        """Whether the next backward pass adds up the gradients of all processes."""
        self.network.set_requires_gradient_sync(on)


def _shard(network: nn.Module, accelerator: Accelerator) -> None:
    """Shard blocks of more than MIN_PARAMETERS parameters, innermost first, then the rest."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if accelerator.num_processes < 2:
        raise ConfigError(
            "train.shard needs several processes: accelerate launch --num_processes 2 (or torchrun) tools/train.py ..."
        )
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for block in blocks(network.model):
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def blocks(model: nn.Module, small: int = MIN_PARAMETERS) -> list[nn.Module]:
    """The modules below `model` that are worth sharding: with children of their own, called as a whole, and with more
    than `small` parameters that no module inside them has claimed. Innermost first."""
    found: list[nn.Module] = []

    def visit(module: nn.Module) -> int:
        left = sum(p.numel() for p in module.parameters(recurse=False))
        left += sum(visit(child) for child in module.children())
        if left <= small or isinstance(module, CONTAINERS) or not list(module.children()):
            return left
        found.append(module)
        return 0

    for child in model.children():
        visit(child)
    return found


def local_shard(value: Shaped[Tensor, "..."]) -> Tensor:
    """This process's shard of a sharded tensor (sharing its memory); a plain tensor as it is."""
    return value.to_local() if isinstance(value, DTensor) else value


def full_tensor(value: Shaped[Tensor, "..."]) -> Tensor:
    """The whole of a sharded tensor, in every process; a plain tensor as it is. All processes have to call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def shard_like(value: Shaped[Tensor, "*s"], example: Shaped[Tensor, "*s"]) -> Tensor:
    """A copy of the whole tensor `value`, sharded, placed and laid out as `example` is."""
    if isinstance(example, DTensor):
        moved = value.to(example.device)
        return distribute_tensor(moved, example.device_mesh, example.placements, src_data_rank=None)
    made = torch.empty_like(example, memory_format=torch.preserve_format, dtype=value.dtype)
    return made.copy_(value).detach()
