"""Terms of what the crop shows: the hand's mask, its side, whether it is there.

Each term takes (prediction, targets, context), gives one value per sample and is 0 without gradient where nothing is
labelled.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..contracts import HandPrediction, HandTargets
from ..geometry.heatmaps import inside_crop
from ..geometry.masked import masked
from .common import Context


def mask(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Binary cross-entropy of the mask's logits, mean over the pixels."""
    if p.mask.shape != t.mask.shape:
        raise ValueError(f"the predicted mask has shape {tuple(p.mask.shape)}, the target's {tuple(t.mask.shape)}")
    error = F.binary_cross_entropy_with_logits(p.mask, t.mask.to(p.mask), reduction="none").mean((-1, -2))
    return masked(error, t.mask_valid)


def handedness(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Binary cross-entropy of "the crop shows a left hand", where enough of a hand is in it."""
    left = torch.zeros_like(p.left_logit) if t.shows_left is None else t.shows_left.to(p.left_logit)
    return masked(F.binary_cross_entropy_with_logits(p.left_logit, left, reduction="none"), _shows_hand(t))


def presence(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Binary cross-entropy of "the crop shows a hand"; a crop that shows a scrap of one is neither."""
    hand = _shows_hand(t)
    error = F.binary_cross_entropy_with_logits(p.presence_logit, hand.to(p.presence_logit), reduction="none")
    return masked(error, hand if t.no_hand is None else hand | t.no_hand)


def _shows_hand(t: HandTargets) -> Bool[Tensor, "b"]:
    """Whether at least half of the labelled joints lie in the crop."""
    inside = (t.joints_2d_valid & inside_crop(t.joints_2d, t.crop_size)).sum(-1)
    return (inside > 0) & (2 * inside >= t.joints_2d_valid.sum(-1))
