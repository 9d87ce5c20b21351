"""One network on many devices, or in less memory: sharded weights (FSDP), layers computed twice, frozen statistics.

Sharding is torch's `fully_shard`: every parameter becomes a DTensor of which each process holds a part. Whatever acts
on parameters one by one (averages, copies) acts on the local part; checkpoints hold whole tensors (`full`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint

from ..config import ConfigError
from ..contracts import HandInputs, HandPrediction

SMALL = (
    1_000_000  # parameters: smaller blocks are not sharded on their own, gathering them would cost more than it saves
)
CONTAINERS = (nn.ModuleList, nn.ModuleDict)  # never called themselves


class Network(nn.Module):
    """A hand model whose outputs are a dict: what torch's wrappers look through for tensors to hook."""

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
    """Shard blocks of more than SMALL parameters, innermost first, then the rest."""
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


def blocks(model: nn.Module, small: int = SMALL) -> list[nn.Module]:
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


def local(value: Tensor) -> Tensor:
    """This process's part of a sharded tensor (sharing its memory); a plain tensor as it is."""
    return value.to_local() if isinstance(value, DTensor) else value


def full(value: Tensor) -> Tensor:
    """The whole of a sharded tensor, in every process; a plain tensor as it is. All processes have to call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def like(value: Tensor, example: Tensor) -> Tensor:
    """A copy of the whole tensor `value`, sharded, placed and laid out as `example` is."""
    if isinstance(example, DTensor):
        moved = value.to(example.device)
        return distribute_tensor(moved, example.device_mesh, example.placements, src_data_rank=None)
    made = torch.empty_like(example, memory_format=torch.preserve_format, dtype=value.dtype)
    return made.copy_(value).detach()


def recompute(model: nn.Module) -> int:
    """Keep no activations inside the model's layers: the backward pass computes them again. Returns how many layers.

    Layers of the transformer know how (`gradient_checkpointing`); of the trunk, the elements of its nn.Sequentials that
    have children are taken. Statistics of batch norms are not counted twice.

    Raises:
        ConfigError: there is nothing to take.
    """
    count = 0
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing") and module is not model:
            module.gradient_checkpointing = True
            count += 1
    own = [m for m in model.modules() if hasattr(m, "gradient_checkpointing") and m is not model]
    inside = {id(m) for layer in own for m in layer.modules()}
    for module in _outermost(model, inside):
        module.forward = _Twice(module, module.forward)
        count += 1
    if not count:
        raise ConfigError("train.gradient_checkpointing: this model has no layers that could be computed twice")
    return count


def recomputed(model: nn.Module) -> list[nn.Module]:
    """The layers that are computed twice: of each of them, the inputs are kept."""
    own = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False) is True and m is not model]
    wrapped = [m for m in model.modules() if isinstance(vars(m).get("forward"), _Twice)]
    return wrapped + [layer for m in own for layer in getattr(m, "layers", [])]


class _Twice:
    """`forward` of a layer that is computed again in the backward pass."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        self.module, self.forward = module, forward

    def __call__(self, *args: Any) -> Any:
        if not (self.module.training and torch.is_grad_enabled()):
            return self.forward(*args)
        contexts = lambda: (nullcontext(), _uncounted(self.module))  # noqa: E731
        return checkpoint(self.forward, *args, use_reentrant=False, context_fn=contexts)


def _outermost(model: nn.Module, taken: set[int]) -> list[nn.Module]:
    """The elements with children of every outermost nn.Sequential outside `taken` that holds more than one module."""
    found: list[nn.Module] = []

    def visit(module: nn.Module) -> None:
        for child in module.children():
            if id(child) in taken:
                continue
            if isinstance(module, nn.Sequential) and list(child.children()):
                found.append(child)
            else:
                visit(child)

    visit(model)
    return found


@contextmanager
def _uncounted(module: nn.Module) -> Iterator[None]:
    """Batch norms inside `module` leave their running statistics as they are: a moving average with momentum 0.
    (Without statistics they would save other tensors for the backward pass than the first time.)"""
    norms = [(m, m.momentum, m.num_batches_tracked) for m in batch_norms(module) if m.track_running_stats]
    counts = [count.clone() for _, _, count in norms]
    for norm, _, _ in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for (norm, momentum, count), old in zip(norms, counts, strict=True):
            norm.momentum = momentum
            count.copy_(old)


def batch_norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Every batch norm in `module`."""
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def train_mode(model: nn.Module, frozen_norms: bool) -> None:
    """Training mode; with `frozen_norms`, batch norms use and keep the statistics that they have."""
    model.train()
    if frozen_norms:
        for norm in batch_norms(model):
            norm.eval()
