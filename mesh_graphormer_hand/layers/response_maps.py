"""Heat maps that are responses (trained by squared error to Gaussians): the loss of all stages, and reading the last.

Networks that refine their maps stage by stage supervise every stage; the last one's maps are their answer.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..contracts import HandTargets
from ..geometry.heatmaps import HeatmapCodec, inside_crop
from ..geometry.masked import masked_mean

MIN_SQUARE = 1e-12  # under a root whose slope should stay finite


def stage_loss(
    maps: Float[Tensor, "b s k h w"], targets: HandTargets, codec: HeatmapCodec, root: bool = False
) -> Float[Tensor, "b"]:
    """Sum over the stages of half the squared error to Gaussians, mean over the cells and over the labelled joints in
    the crop, as the term `heatmaps_mse` has it for one stage.

    Args:
        maps: of the 21 joints; a 22nd is the background's, whose target is 1 less the largest of the Gaussians.
        root: the root of the mean squared error of each map instead (Zimmermann and Brox, ICCV 2017).
    """
    valid = targets.joints_2d_valid
    joints_2d = targets.joints_2d.masked_fill(~valid[..., None], 0).to(maps.dtype)
    wanted = codec.encode(joints_2d, targets.crop_size, tuple(maps.shape[-2:]))
    valid = valid & inside_crop(joints_2d, targets.crop_size)
    if maps.shape[2] > wanted.shape[1]:
        known = targets.joints_2d_valid.all(-1, keepdim=True)  # a joint without a label may be anywhere
        wanted = torch.cat([wanted, 1 - wanted.amax(1, keepdim=True)], 1)
        valid = torch.cat([valid, known], -1)
    error = (maps - wanted[:, None]).square().mean((-1, -2))
    error = (error + MIN_SQUARE).sqrt() if root else error / 2
    return masked_mean(error.sum(1), valid)


def read_responses(
    maps: Float[Tensor, "b 21 h w"], codec: HeatmapCodec, side: float, readout: str = "response"
) -> dict[str, Tensor]:
    """Fields of a HandPrediction: the maps, the joints in px of a crop of `side` px, and their confidence. Decoded
    joints carry no gradient.

    Args:
        readout: of the confidence: the largest "response", or the largest share of the map's "softmax".
    """
    values = maps.detach().float() if maps.dtype in (torch.float16, torch.bfloat16) else maps.detach()
    cells = values.flatten(-2)
    confidence = (cells.softmax(-1) if readout == "softmax" else cells.clamp(0, 1)).amax(-1)
    return {"heatmaps": maps, "joints_2d": codec.decode(values, side), "confidence": confidence}
