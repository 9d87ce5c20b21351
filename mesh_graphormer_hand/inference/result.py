"""One hand of a photo as the predictor gives it, and how sure the model and the detector are of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from ..geometry.viewing import camera_from_crop
from .detectors.base import Detection, Side

SURE_SIDE = 0.75  # side_score below which a side is called unsure
BELIEVED = 0.5  # presence from which a model takes something for a hand
UNKNOWN = 0.5  # presence that stands for the one of a model without a presence head


@dataclass(frozen=True)
class HandResult:
    """One hand. Camera axes are OpenCV's (x right, y down, z forward); None: this model does not produce it."""

    side: Side  # the person's own hand
    box: Float[np.ndarray, "4"]  # x0, y0, x1, y1: the square that the network saw, px of the photo
    intrinsics: Float[np.ndarray, "3 3"]  # px of the photo: as given, or assumed
    model: str  # name of the architecture
    joints: Float[np.ndarray, "21 3"] | None = None  # m, relative to the wrist
    joints_2d: Float[np.ndarray, "21 2"] | None = None  # px of the photo
    vertices: Float[np.ndarray, "778 3"] | None = None  # m, relative to the wrist
    faces: Int64[np.ndarray, "1538 3"] | None = None  # outwards, for this side
    camera: Float[np.ndarray, "3"] | None = None  # s (px per m), x, y (px): photo = s xy + (x, y) in crop's axes
    translation: Float[np.ndarray, "3"] | None = None  # m, the wrist before the camera of `intrinsics`
    mask: Bool[np.ndarray, "h w"] | None = None  # of the photo
    confidence: float | None = None  # 0 to 1, that a hand is there: see `confidence_of`; None: unknown
    hand: str | None = None  # fingerprint of the hand of vertices and joints, hexadecimal
    detector: str = "boxes"  # name of the detector that found the hand
    detection: Detection | None = None  # what it found; None: the caller gave the box
    side_score: float | None = None  # 0.5 to 1: probability of `side` by model and detector; None: the caller's side
    left_odds: float | None = None  # log-odds of a left hand by the model alone; None: it has no handedness head
    presence: float | None = None  # probability of a hand by the model alone; None: it has no presence head
    intrinsics_from: str = "assumed"  # given | exif | assumed
    bone_length: float | None = None  # m, where the caller gave one and the hand was brought to it
    pose: Float[np.ndarray, "16 3"] | None = None  # rad: MANO's, of the right hand that a left one mirrors (`as_mano`)
    shape: Float[np.ndarray, "10"] | None = None  # betas that go with it
    track: int | None = None  # of a video: equal in all frames of one hand

    @property
    def side_unsure(self) -> bool:
        """Whether the hand may well be of the other side."""
        return self.side_score is not None and self.side_score < SURE_SIDE

    @property
    def believed(self) -> bool:
        """Whether the model takes this for a hand."""
        return is_believed(self.presence, BELIEVED)

    @property
    def camera_from_crop(self) -> Float[np.ndarray, "3 3"]:
        """Rotation from the axes of the crop's own camera to the photo's (`geometry.viewing`); `joints @
        camera_from_crop` are the joints in the crop's axes."""
        centre = torch.from_numpy(self.box[:2] + self.box[2:]).double() / 2
        return camera_from_crop(torch.from_numpy(self.intrinsics).double(), centre).float().numpy()

    @property
    def vertices_cam(self) -> Float[np.ndarray, "778 3"] | None:
        """Vertices before the camera (m), for rendering onto the photo."""
        return None if self.vertices is None or self.translation is None else self.vertices + self.translation

    @property
    def joints_cam(self) -> Float[np.ndarray, "21 3"] | None:
        """Joints before the camera (m)."""
        return None if self.joints is None or self.translation is None else self.joints + self.translation


def is_believed(presence: float | None, least: float) -> bool:
    """Whether a model's probability of a hand is at least `least`; None (no presence head) counts as UNKNOWN."""
    return (UNKNOWN if presence is None else presence) >= least


def is_small(result: HandResult, extent: float) -> bool:
    """Whether the 2D joints spread less than `extent` px."""
    return result.joints_2d is not None and float(np.ptp(result.joints_2d, axis=0).max()) < extent


def confidence_of(result: HandResult, score: float | None) -> float | None:
    """Probability that a hand is there: the smaller one of the model's presence and the detector's `score`; the one of
    them that is known; else the confidence of the model's joints; None: unknown."""
    if result.presence is None:
        return score if result.confidence is None else result.confidence
    return result.presence if score is None else min(result.presence, score)


def mirror_of(side: Side) -> Float[np.ndarray, "3"]:
    """What a right hand's points are multiplied by to become those of a hand of `side`."""
    return np.float32([-1 if side == "left" else 1, 1, 1])
