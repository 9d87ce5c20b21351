"""Terms of heat maps of the joints.

Each term takes (prediction, targets, context), gives one value per sample and is 0 without gradient where nothing is
labelled.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..contracts import HandPrediction, HandTargets
from ..geometry.heatmaps import inside_crop
from ..geometry.masked import masked_mean
from .common import Context


def heatmaps(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Cross-entropy (nats) between each map's spatial softmax and a normalised Gaussian, less the Gaussian's own
    entropy, so that 0 is perfect."""
    shape = tuple(p.heatmaps.shape[-2:])
    target = context.codec.encode_distribution(t.joints_2d, t.crop_size, shape).flatten(-2)  # b j cells
    log_q = p.heatmaps.flatten(-2).log_softmax(-1)
    divergence = (torch.xlogy(target, target) - target * log_q).sum(-1)
    return masked_mean(divergence, t.joints_2d_valid & inside_crop(t.joints_2d, t.crop_size))


def heatmaps_mse(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Half the squared error to Gaussians of height 1, mean over the cells (SimpleBaseline, ECCV 2018)."""
    target = context.codec.encode(t.joints_2d, t.crop_size, tuple(p.heatmaps.shape[-2:]))
    error = 0.5 * (p.heatmaps - target).square().mean((-1, -2))  # b j
    return masked_mean(error, t.joints_2d_valid & inside_crop(t.joints_2d, t.crop_size))
