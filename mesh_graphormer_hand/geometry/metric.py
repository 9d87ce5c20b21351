"""The metric camera: where a hand stands, in metres, before the camera that took the photo.

A photo alone does not tell a small hand that is near from a large one that is far. Two things settle it:

* the camera: intrinsics K (px), a focal length, or the one that the photo's EXIF gives; without any of them
  f = the photo's longer side is assumed, and depth is off by the factor true f / assumed f;
* the hand's size: the model's own (it has learned what hands measure), or one length that the user knows, by FreiHAND's
  convention: the proximal phalanx of the middle finger, |J9 - J10| in metres (the `*_scale.json` of that data set). All
  of the hand, and its distance, are multiplied by given / predicted length.

Placement (`place_hand`). With joints X_i (m, relative to the wrist, camera axes), their places u_i in the photo and
n_i = K^-1 (u_i, 1), the wrist t = (tx, ty, tz) is chosen so that the projections q_i = (X_i + t)_xy / (X_i + t)_z have
the mean and the spread of the n_i:

    mean_i q_i = mean_i n_i        sqrt(sum_i w_i |q_i - mean q|^2) = sqrt(sum_i w_i |n_i - mean n|^2)

which for a hand that is flat along z is tz = f * spread(X) / spread(u), FreiHAND's weak perspective depth. For joints
that fit their places exactly the answer is the true t. Least squares would be as good there, but where the predicted
pose is wrong (turned the wrong way, say) it trades the mismatch for distance and shrinks the hand to a dot.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .crops import apply_affine

REFERENCE_BONE = (9, 10)  # joints whose distance is FreiHAND's scale
STEPS = 20  # of the fixed point; five give a millimetre
MIN_DEPTH_M = 0.05  # m: no joint is nearer to the lens
FURTHEST = 100.0  # m
LEAST = 1e-7  # of spreads that say anything: m, or tangents of angles


def default_intrinsics(width: int, height: int, focal: float | int | None = None) -> Float[np.ndarray, "3 3"]:
    """A camera with its axis in the photo's middle and a `focal` length in px; without one the longer side, which is a
    field of view of 53 degrees along it: phones' are like that."""
    focal = float(max(width, height)) if focal is None else float(focal)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)


def reference_length(joints: Float[np.ndarray, "21 3"]) -> float:
    """The middle finger's proximal phalanx, m: FreiHAND's scale of a hand."""
    a, b = REFERENCE_BONE
    return float(np.linalg.norm(joints[a] - joints[b]))


def place_hand(
    joints: Float[np.ndarray, "n 3"],
    pixels: Float[np.ndarray, "n 2"],
    K: Float[np.ndarray, "3 3"],
    weights: Float[np.ndarray, "n"] | None = None,
) -> Float[np.ndarray, "3"] | None:
    """Where (m) the wrist stands; see the module.

    Args:
        joints: m, relative to the wrist, camera axes.
        pixels: the joints' places in the photo of the camera `K`, px from its corner.
        weights: how much each place counts; equally by default.

    Returns:
        The wrist in the camera; None where the places all coincide, or are not finite.
    """
    X, w = np.asarray(joints, np.float64), np.ones(len(joints)) if weights is None else np.asarray(weights, np.float64)
    places = np.column_stack([np.asarray(pixels, np.float64), np.ones(len(X))])
    n = np.linalg.solve(np.asarray(K, np.float64), places.T).T[:, :2]
    w = w / w.sum()
    middle, spread = _moments(n, w)
    flat = _moments(X[:, :2], w)
    if not (np.isfinite(spread) and np.isfinite(flat[1]) and min(spread, flat[1]) > LEAST):
        return None
    ahead = float(w @ X[:, 2])  # of the wrist, the joints' mean
    limits = max(MIN_DEPTH_M - (X[:, 2].min() - ahead), MIN_DEPTH_M), FURTHEST
    depth = float(np.clip(flat[1] / spread, *limits))  # of the joints' mean
    t = np.array([*(middle * depth - flat[0]), depth - ahead])
    for _ in range(STEPS):
        seen = X + t
        _, extent = _moments(seen[:, :2] / seen[:, 2:], w)
        depth = float(np.clip((t[2] + ahead) * extent / spread, *limits))
        t[2] = depth - ahead
        seen = X + t
        share = w / seen[:, 2]
        # the shift that takes the mean projection to the mean place at this depth
        t[:2] += (middle - w @ (seen[:, :2] / seen[:, 2:])) / share.sum()
    return t.astype(np.float32)


def _moments(points: Float[np.ndarray, "n 2"], w: Float[np.ndarray, "n"]) -> tuple[np.ndarray, float]:
    """Weighted mean and root of the summed squared distances from it."""
    mean = w @ points
    return mean, float(np.sqrt(w @ np.square(points - mean).sum(-1)))


def photo_camera(
    camera: Float[Tensor, "3"], image_from_crop: Float[Tensor, "2 3"], size: int
) -> Float[np.ndarray, "3"]:
    """The crop's camera (crop in [-1, 1] = s (xy + t)) for the photo: px = s' xy + (x, y), xy in the photo's axes.

    A mirrored crop's camera speaks of mirrored points; the mirror turns both, so the scale stays positive.
    """
    scale = float(camera[0]) * size / 2 * float(torch.linalg.vector_norm(image_from_crop[:, 1]))
    origin = apply_affine((camera[None, 0] * camera[None, 1:] + 1) / 2 * size, image_from_crop)[0]
    return np.array([scale, *origin.tolist()], np.float32)


def perspective_translation(camera: Float[np.ndarray, "3"], K: Float[np.ndarray, "3 3"]) -> np.ndarray | None:
    """Where (m) the wrist is before the camera `K` so that the hand looks as large and stands where `camera` has it.

    `camera` is `photo_camera`'s. None for a scale that is not positive: no place looks like that.
    """
    scale, x, y = (float(c) for c in camera)
    depth = float(np.sqrt(K[0, 0] * K[1, 1])) / scale if scale > 0 else np.inf
    if not np.isfinite(depth):
        return None
    return (np.linalg.inv(K.astype(np.float64)) @ [x, y, 1.0] * depth).astype(np.float32)
