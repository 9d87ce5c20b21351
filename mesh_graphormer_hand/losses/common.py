"""What the terms share: the context, and which samples' hands may be compared."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Bool, Float
from torch import Tensor

from ..contracts import HandPrediction, HandTargets
from ..geometry.heatmaps import HeatmapCodec
from ..geometry.rotations import axis_angle_to_matrix
from ..mano.template import HandTemplate
from ..skeleton import WRIST


@dataclass(frozen=True)
class Context:
    """What some terms need besides a prediction and its targets."""

    template: HandTemplate | None = None  # the hand of the predicted vertices: faces, edges, down-sampling
    codec: HeatmapCodec = field(default_factory=HeatmapCodec)  # how keypoints become heat maps


def same_mesh(prediction: HandPrediction, targets: HandTargets) -> Bool[Tensor, "b"]:
    """Samples whose target vertices belong to the predicted vertices' own hand (fingerprints are equal and not 0)."""
    if prediction.hand is None or targets.hand is None:
        side = "prediction" if prediction.hand is None else "targets"
        raise ValueError(f"vertices without a hand: set {side}.hand to the fingerprint of the hand they belong to")
    return (prediction.hand == targets.hand) & (targets.hand != 0)


def same_joints(prediction: HandPrediction, targets: HandTargets) -> Bool[Tensor, "b"] | bool:
    """Samples whose joints may be compared: of the same hand, or of no parametric hand on either side."""
    if prediction.hand is None or targets.hand is None:
        return True
    return (prediction.hand == targets.hand) | (prediction.hand == 0) | (targets.hand == 0)


def in_hand_frame(points: Float[Tensor, "b n 3"], rotation: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b n 3"]:
    """Points in camera axes, turned back by `rotation` (camera from the hand's own frame)."""
    return points @ rotation


def wrist_rotation(targets: HandTargets) -> Float[Tensor, "b 3 3"]:
    """The labelled rotation of the wrist: camera from the hand's own frame."""
    return axis_angle_to_matrix(targets.pose[..., WRIST, :])
