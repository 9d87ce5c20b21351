"""Errors of labels that may be missing: means over the labelled ones, without a gradient from the others."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def masked_mean(error: Float[Tensor, "b n"], valid: Bool[Tensor, "b n"]) -> Float[Tensor, "b"]:
    """The mean over the valid entries of each sample, 0 where there are none; nothing invalid has a gradient."""
    kept = torch.where(valid, error, torch.zeros_like(error))  # a product would turn an invalid NaN into NaN
    return kept.sum(-1) / valid.sum(-1).clamp_min(1)


def masked(error: Float[Tensor, "b"], valid: Bool[Tensor, "b"]) -> Float[Tensor, "b"]:
    """The error of the valid samples, 0 without a gradient for the others."""
    return torch.where(valid, error, torch.zeros_like(error))
