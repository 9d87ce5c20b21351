"""Activation checkpointing: layers whose activations are computed again in the backward pass instead of being kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..config import ConfigError
from .batch_norms import uncounted


def checkpoint_activations(model: nn.Module) -> int:
    """Keep no activations inside the model's layers: the backward pass computes them again. Returns how many layers.

    Transformer layers do it themselves (`gradient_checkpointing`); of the backbone, the elements with children of each
    nn.Sequential are wrapped. Statistics of batch norms are not counted twice.

    Raises:
        ConfigError: the model has no such layers.
    """
    count = 0
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing") and module is not model:
            module.gradient_checkpointing = True
            count += 1
    own = [m for m in model.modules() if hasattr(m, "gradient_checkpointing") and m is not model]
    inside = {id(m) for layer in own for m in layer.modules()}
    for module in _outermost(model, inside):
        module.forward = CheckpointedForward(module, module.forward)
        count += 1
    if not count:
        raise ConfigError("train.gradient_checkpointing: this model has no layers that could be computed twice")
    return count


def checkpointed_layers(model: nn.Module) -> list[nn.Module]:
    """The layers that are computed twice: the inputs of each are kept."""
    own = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False) is True and m is not model]
    wrapped = [m for m in model.modules() if isinstance(vars(m).get("forward"), CheckpointedForward)]
    return wrapped + [layer for m in own for layer in getattr(m, "layers", [])]


class CheckpointedForward:
    """The `forward` of a layer, computed again in the backward pass."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        self.module, self.forward = module, forward

    def __call__(self, *args: Any) -> Any:
        if not (self.module.training and torch.is_grad_enabled()):
            return self.forward(*args)
        contexts = lambda: (nullcontext(), uncounted(self.module))  # noqa: E731
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
