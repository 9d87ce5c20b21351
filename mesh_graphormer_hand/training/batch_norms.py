"""Batch norms in training: frozen, not counted twice, put back after a bad step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool
from torch import Tensor, nn


def batch_norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Every batch norm in `module`."""
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def train_mode(model: nn.Module, frozen_norms: bool) -> None:
    """Training mode; with `frozen_norms`, batch norms use and keep the statistics that they have."""
    model.train()
    if frozen_norms:
        for norm in batch_norms(model):
            norm.eval()


@contextmanager
def uncounted(module: nn.Module) -> Iterator[None]:
    """Batch norms inside `module` leave their running statistics as they are: a moving average with momentum 0.
    (Without statistics they would save other tensors for the backward pass than in the first pass.)"""
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


class BatchNormSnapshot:
    """The running statistics of all batch norms, kept and restored without reading anything from the device."""

    def __init__(self, model: nn.Module) -> None:
        found = [b for norm in batch_norms(model) for b in norm.buffers(recurse=False)]
        kinds = {b.dtype for b in found}
        self.groups = [[b for b in found if b.dtype == kind] for kind in kinds]
        self.kept: list[Tensor] = []

    def keep(self) -> None:
        """Remember the present values."""
        self.kept = [torch.cat([b.flatten() for b in group]) for group in self.groups]

    @torch.no_grad()
    def restore_where(self, bad: Bool[Tensor, ""]) -> None:
        """Put the kept values back if the scalar `bad` is true."""
        for group, old in zip(self.groups, self.kept, strict=True):
            now = torch.cat([b.flatten() for b in group])
            parts = torch.where(bad, old, now).split([b.numel() for b in group])
            torch._foreach_copy_(group, [part.view_as(b) for part, b in zip(parts, group, strict=True)])
