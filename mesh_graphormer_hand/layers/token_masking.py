"""Masked modelling of queries: in training, some joints and vertices have to be told from the others."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

MASKED_VALUE = 0.01  # every number of a masked token, as published


def mask_tokens(tokens: Float[Tensor, "b n c"], max_ratio: float) -> Float[Tensor, "b n c"]:
    """Each sample with a share of its tokens masked that is drawn between 0 and `max_ratio` (METRO, CVPR 2021)."""
    ratio = max_ratio * torch.rand(len(tokens), 1, device=tokens.device)
    masked = torch.rand(tokens.shape[:2], device=tokens.device) < ratio
    return tokens.masked_fill(masked[..., None], MASKED_VALUE)
