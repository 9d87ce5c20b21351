"""Batch norms folded into the convolutions before them, for evaluation: the same outputs but for rounding, sooner."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from ..models.base import HandModel

CONV = re.compile(r"conv(\d*)")  # attributes of which the batch norm bn\1 is the very next step


@torch.no_grad()
def fold_batch_norms(model: HandModel) -> HandModel:
    """A copy in evaluation mode without the batch norms that directly follow a convolution: in a Sequential the next
    step, elsewhere the attributes conv, bn and conv1, bn1 and so on. The copy shares no weights with the model."""
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(folded.modules()):
        for name, norm_name in list(_pairs(module)):
            conv, norm = getattr(module, name), getattr(module, norm_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    return folded


def _pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of children of which the second is computed on the first's output."""
    names = [name for name, _ in module.named_children()]
    if isinstance(module, nn.Sequential):
        yield from itertools.pairwise(names)
        return
    for name in names:
        match = CONV.fullmatch(name)
        if match and f"bn{match[1]}" in names:
            yield name, f"bn{match[1]}"
