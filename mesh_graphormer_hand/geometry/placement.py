"""Where the wrist of a predicted hand stands: one rule for the predictor and for evaluation's files."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..contracts import HandPrediction
from .crops import apply_homography, linearised
from .heatmaps import expectation
from .metric import perspective_translation, photo_camera, place_hand

LEAST_SPREAD = 0.02  # crop units: no joint's place is known better than that
BLURRED = 0.4  # crop units: of heat maps that are wider than this, nobody can read a place


def place_wrist(
    prediction: HandPrediction,
    joints: Float[np.ndarray, "21 3"] | None,
    photo_from_crop: Float[Tensor, "3 3"],
    K: Float[np.ndarray, "3 3"],
    size: int,
) -> Float[np.ndarray, "3"] | None:
    """The wrist (m) before the photo's camera `K`: by the joints' places (`metric.place_hand`), or for a model without
    joints by its weak-perspective camera. None: nothing says where.

    Args:
        prediction: one sample's, on the CPU, of a crop of `size` px.
        joints: its joints in the photo's camera axes, unmirrored (m, relative to the wrist).
    """
    seen = read_places(prediction, float(size))
    if joints is not None and seen is not None:
        places = apply_homography(seen[0], photo_from_crop).double().numpy()
        return place_hand(joints, places, K, seen[1].numpy())
    if prediction.camera is None:
        return None
    near = linearised(photo_from_crop, photo_from_crop.new_full((2,), size / 2))
    return perspective_translation(photo_camera(prediction.camera, near, size), K)


def read_places(prediction: HandPrediction, size: float) -> tuple[Float[Tensor, "21 2"], Float[Tensor, "21"]] | None:
    """Where one sample's joints lie in its crop of `size` px, and how much each place is worth: heat maps where they
    are sharp enough to tell, else the 2D joints."""
    if prediction.heatmaps is not None:
        _, uv, spread = expectation(prediction.heatmaps)
        if prediction.joints_25d is not None:
            uv = prediction.joints_25d[:, :2]  # the model's own reading of the same maps
        if float(spread.median()) < BLURRED:
            return (uv + 1) / 2 * size, 1 / (spread[:, 0].square() + LEAST_SPREAD**2)
    if prediction.joints_2d is not None:
        return prediction.joints_2d, torch.ones(len(prediction.joints_2d))
    return None
