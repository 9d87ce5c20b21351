"""Masked modelling of queries: in training, some joints and vertices have to be told from the others."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

HIDDEN = 0.01  # every number of a hidden token, as published


def hide_tokens(tokens: Float[Tensor, "b n c"], most: float) -> Float[Tensor, "b n c"]:
    """Each sample with a share of its tokens hidden that is drawn between 0 and `most` (METRO, CVPR 2021)."""
    share = most * torch.rand(len(tokens), 1, device=tokens.device)
    hidden = torch.rand(tokens.shape[:2], device=tokens.device) < share
    return tokens.masked_fill(hidden[..., None], HIDDEN)
