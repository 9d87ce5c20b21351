"""The last stage of the predictor: a known bone length sets the size, a posed MANO hand replaces the regressed mesh,
and a hand that was found twice is given once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.metric import reference_length
from ..mano.fit import ManoFit, fit_mano, posed_mesh
from ..mano.hand import Hand
from .result import HandResult, mirror_of

FIT_NOISE_M = 0.01  # distance of regressed vertices from any posed hand; of 1 to 30 mm the best on virtual hands
SAME_JOINTS_M = 0.02  # mean distance above which joints are not those of the mesh
SAME_HAND_RATIO = 0.2  # mean distance of the 2D joints of one hand found twice, at most, of the hand's size


def scale_to_bone_length(result: HandResult, bone_length: float | None) -> HandResult:
    """The hand with a middle finger's proximal phalanx of `bone_length` m, at the distance that keeps its picture.

    Returns the result itself where `bone_length` is None or the model gives no joints.
    """
    if bone_length is None or result.joints is None:
        return result
    factor = np.float32(bone_length / max(reference_length(result.joints), 1e-6))
    scaled = {
        n: getattr(result, n) * factor for n in ("joints", "vertices", "translation") if getattr(result, n) is not None
    }
    if result.camera is not None:
        scaled["camera"] = result.camera / np.array([factor, 1, 1], np.float32)
    return replace(result, **scaled, bone_length=float(bone_length))


def as_mano(result: HandResult, hand: Hand) -> HandResult:
    """The result with the posed hand that is nearest to its mesh, and that hand's pose and shape.

    A regressed mesh may be crumpled, at fingertips above all; this one is as smooth as MANO's. Returns the result
    itself where it has no mesh.
    """
    if result.vertices is None:
        return result
    fitted = fit_mano_to_result(result, hand)
    return with_mano_mesh(result, hand, fitted.pose, fitted.shape)


def fit_mano_to_result(
    result: HandResult,
    hand: Hand,
    shape: Float[Tensor, "1 10"] | None = None,
    steps: int = 3,
    noise: float = FIT_NOISE_M,
) -> ManoFit:
    """Pose and shape of the right hand that is nearest to the result's mesh (`mano.fit`); left meshes are mirrored."""
    vertices = torch.from_numpy(np.ascontiguousarray(result.vertices * mirror_of(result.side)))[None]
    return fit_mano(hand, vertices, shape=shape, steps=steps, noise=noise)


def with_mano_mesh(
    result: HandResult, hand: Hand, pose: Float[Tensor, "1 16 3"], shape: Float[Tensor, "1 10"]
) -> HandResult:
    """The result with the vertices that MANO's layer gives for `pose` (rad) and `shape`.

    The joints become the layer's, too, unless they lie too far from them to be those of the mesh.
    """
    vertices, joints = (points[0].numpy() * mirror_of(result.side) for points in posed_mesh(hand, pose, shape))
    changed = {"vertices": vertices, "pose": pose[0].numpy(), "shape": shape[0].numpy()}
    if result.joints is not None and np.abs(joints - result.joints).mean() < SAME_JOINTS_M:
        changed["joints"] = joints
        if result.translation is not None and result.joints_2d is not None:  # moved as the joints' projections move
            before, after = (_project(p + result.translation, result.intrinsics) for p in (result.joints, joints))
            changed["joints_2d"] = result.joints_2d + after - before
    return replace(result, **changed)


def _project(points: Float[np.ndarray, "n 3"], K: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "n 2"]:
    projected = points @ K.T
    return projected[:, :2] / np.maximum(projected[:, 2:], 1e-6)


def without_duplicates(results: list[HandResult]) -> list[HandResult]:
    """The hands, the surest first, without those whose 2D joints lie on a surer one's: two boxes held one hand."""
    kept: list[HandResult] = []
    for result in sorted(results, key=lambda r: -(r.confidence or 0)):
        if not any(_is_same_hand(result, other) for other in kept):
            kept.append(result)
    return kept


def _is_same_hand(a: HandResult, b: HandResult) -> bool:
    if a.joints_2d is None or b.joints_2d is None:
        return False
    apart = np.linalg.norm(a.joints_2d - b.joints_2d, axis=-1).mean()
    return bool(apart < SAME_HAND_RATIO * np.ptp(b.joints_2d, axis=0).max())
