"""The fifth stage of the predictor: one prediction, taken from its crop to the photo and before the photo's camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..contracts import HandPrediction
from ..data.images import paste_mask
from ..geometry.cameras import crop_to_pixels, weak_perspective
from ..geometry.crops import apply_homography, linearised
from ..geometry.metric import photo_camera
from ..geometry.placement import place_wrist, read_places
from ..mano.hand import Hand
from .detectors.base import Side
from .result import HandResult, mirror_of
from .validation import Photo

LEAST_SIZE = 0.6  # of a hand as its camera draws it, over its size in the heat maps; below, the camera's fit failed


def place_in_photo(
    prediction: HandPrediction,
    photo_from_crop: Float[Tensor, "3 3"],
    square: Float[Tensor, "3"],
    side: Side,
    photo: Photo,
    *,
    image_size: int,
    hand: Hand,
    model: str,
) -> HandResult:
    """One sample's prediction as a result: mirror, crop and the crop's own camera are undone.

    Args:
        prediction: of one sample, in the crop's frame.
        square: the crop in the photo: centre x, y and side, px.
        side: of the hand that the network was shown, left ones mirrored.
        image_size: side of the crop, px.
        hand: whose vertices the network gives.
        model: name of the architecture.
    """
    mirror, K = mirror_of(side), photo.intrinsics
    centre, half = square[:2].numpy(), float(square[2]) / 2
    box = np.concatenate([centre - half, centre + half])
    result = HandResult(side, box, K, model=model, intrinsics_from=photo.intrinsics_from)
    turn = result.camera_from_crop.T
    for name in ("joints", "vertices"):
        if (points := getattr(prediction, name)) is not None:
            result = replace(result, **{name: points.numpy() * mirror @ turn, "hand": hand.fingerprint_hex})
    if prediction.vertices is not None:
        result = replace(result, faces=np.ascontiguousarray(hand.faces[:, ::-1]) if side == "left" else hand.faces)
    prediction = repair_camera_scale(prediction, image_size)
    if prediction.joints_2d is not None:
        result = replace(result, joints_2d=apply_homography(prediction.joints_2d, photo_from_crop).numpy())
    if prediction.camera is not None:
        near = linearised(photo_from_crop, torch.full((2,), image_size / 2))
        result = replace(result, camera=photo_camera(prediction.camera, near, image_size))
    wrist = place_wrist(prediction, result.joints, photo_from_crop, K, image_size)
    result = replace(result, translation=wrist)
    if prediction.mask is not None:
        result = replace(result, mask=paste_mask(prediction.mask, photo_from_crop, image_size, photo.shape))
    if prediction.confidence is not None:
        result = replace(result, confidence=float(prediction.confidence.mean()))
    return result


def repair_camera_scale(prediction: HandPrediction, size: int) -> HandPrediction:
    """One sample's prediction in a crop of `size` px, with a camera that draws the hand as large as its heat maps.

    A pose that is turned the wrong way makes a least-squares fit shrink the hand towards a dot. Such a camera is
    replaced by the one that gives the joints the spread and the mean of their keypoints.
    """
    keypoints = read_places(prediction, float(size))
    if prediction.camera is None or prediction.joints is None or prediction.heatmaps is None or keypoints is None:
        return prediction
    uv, weights = keypoints[0] / size * 2 - 1, (keypoints[1] / keypoints[1].sum())[:, None]
    xy = prediction.joints[:, :2]
    mean_uv, mean_xy = (weights * uv).sum(0), (weights * xy).sum(0)
    spread, extent = ((weights * v.square()).sum().sqrt() for v in (uv - mean_uv, xy - mean_xy))
    if not 0 < LEAST_SIZE * float(spread) > float(prediction.camera[0] * extent):
        return prediction
    scale = spread / extent.clamp_min(1e-3)
    camera = torch.cat([scale[None], mean_uv / scale - mean_xy])
    joints_2d = crop_to_pixels(weak_perspective(prediction.joints, camera), float(size))
    return replace(prediction, camera=camera, joints_2d=joints_2d)
