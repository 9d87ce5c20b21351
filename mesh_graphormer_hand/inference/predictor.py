"""Photo in, hands out, in the photo's own frame.

    predictor = HandPredictor.from_pretrained()          # the shipped weights, or a run's folder
    for hand in predictor.predict("photo.jpg"):          # or an RGB array; boxes=, sides=, K= where known
        hand.side, hand.joints_2d                        # (21, 2) pixels of the photo
        hand.vertices + hand.translation                 # (778, 3) metres before the camera

Six stages, a module each: the arguments are checked (`validation`), a detector finds hands (`detectors`), squares are
cut (`crops`), the network predicts on them (`forward`), a hand of an unsure side twice (`handedness`), predictions are
placed in the photo (`place`) and brought to the size and the mesh that the caller wants (`postprocess`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..config import CropSpec
from ..geometry.crops import apply_homography
from ..mano import hand as hands
from ..mano.hand import Hand
from .crops import square_around_joints, square_of
from .detectors.base import Detection, Detector, WholeImage, fallback_detections
from .detectors.options import choose
from .forward import PhotoNetwork
from .handedness import SidedPredictions, infer_handedness, own_side
from .network import load_network
from .place import place_in_photo
from .postprocess import as_mano, scale_to_bone_length, without_duplicates
from .result import HandResult, confidence_of, is_believed, is_small
from .validation import BONE_LENGTH_M, Boxes, Photo, check_boxes, check_mesh, check_range, open_photo, with_sides

DEFAULT_WEIGHTS = "graphormer_lite"
DEFAULT_DETECTOR = "auto"


class HandPredictor:
    """A trained model, its hand and a detector; without one the whole photo is one hand's first crop."""

    def __init__(
        self,
        model: nn.Module,
        hand: Hand | None = None,
        device: str | torch.device = "cpu",
        detector: Detector | None = None,
        mesh: str = "regressed",
    ) -> None:
        """`model`: a HandModel; `hand`: of its vertices, by default found by its config's fingerprint; `mesh`: as the
        model "regressed" it, or the posed hand that is nearest to it ("mano", see `as_mano`).

        Raises:
            ConfigError: no such kind of mesh.
        """
        self.mesh = check_mesh(mesh)
        self.model, self.device = model.to(device).eval(), torch.device(device)
        self.crop: CropSpec = model.config.crop_spec  # what its crops show
        self.hand = hand or hands.find(model.config.hand)
        self.weights = model.config.name  # as messages call them
        self.detector: Detector = detector or WholeImage()

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        device: str | torch.device = "cpu",
        detector: str | Detector | None = DEFAULT_DETECTOR,
        backend: str = "auto",
        mesh: str = "regressed",
    ) -> HandPredictor:
        """The model in `path`: a run's folder, its name under runs/, what save_pretrained wrote, or the name of shipped
        weights (the default). `detector`: a name of `detectors.options.NAMES`, a detector, or None for "whole".
        `backend`: "auto", "onnx" or "torch", see `load_network`. `mesh`: "regressed" or "mano".

        Raises:
            ConfigError: no model there, or its plug-in or hand is not on this machine; a detector that cannot work.
        """
        model = load_network(path or DEFAULT_WEIGHTS, device, backend)
        if isinstance(detector, str):
            detector = choose(detector, device=device)
        predictor = cls(model, device=device, detector=detector, mesh=mesh)
        predictor.weights = str(path or DEFAULT_WEIGHTS)
        return predictor

    def predict(
        self,
        image: np.ndarray | str | Path,
        boxes: Boxes | None = None,
        sides: Sequence[str] | None = None,
        K: np.ndarray | None = None,
        *,
        focal: float | None = None,
        bone_length: float | None = None,
        mesh: str | None = None,
    ) -> list[HandResult]:
        """One result per hand, the surest first, or per given box, in their order; an empty list: no hand is seen.

        Args:
            image: the photo, RGB uint8 (h, w, 3), or its file. Grey, RGBA and uint16 arrays are taken, too.
            boxes: x0, y0, x1, y1 around each hand, px; None: the detector finds them.
            sides: "right" or "left" for each box, or one for all hands that the detector finds; None: the detector
                and the model infer them (`handedness`).
            K: the camera's intrinsics (3, 3), px.
            focal: the focal length, px, where K is not known. None: the file's EXIF, or else the longer side.
            bone_length: m, of the middle finger's proximal phalanx (FreiHAND's scale), the same for all hands; None:
                hands have the size that the model sees.
            mesh: "regressed" or "mano", instead of the predictor's own.

        Raises:
            DataError: an image, box, side, K or length that cannot be used.
            ConfigError: a model whose answer is not finite, or no such kind of mesh.
        """
        mesh = self.mesh if mesh is None else check_mesh(mesh)
        photo = open_photo(image, K, focal)
        check_range("bone_length", bone_length, BONE_LENGTH_M)
        if boxes is not None:
            given = with_sides(check_boxes(boxes, photo.shape), sides, "boxes")
            results = self._predict_believed(photo, given, sides is not None, bone_length, mesh)
            return [replace(r, detection=None, detector="boxes") for r in results]
        for find in (self.detector.detect, partial(fallback_detections, self.detector)):
            found = with_sides(find(photo.pixels), sides, "hands")
            if results := self._predict_believed(photo, found, sides is not None, bone_length, mesh):
                return without_duplicates(results)
        return []

    def _predict_believed(
        self, photo: Photo, detections: list[Detection], sides_given: bool, bone_length: float | None, mesh: str
    ) -> list[HandResult]:
        """The hands among the detections in which the model believes as much as each detection demands."""
        kept = []
        results = self.predict_crops(photo, detections, sides_given)
        for detection, result in zip(detections, results, strict=True):
            if not is_believed(result.presence, detection.least_presence) or is_small(result, detection.least_extent):
                continue
            result = as_mano(result, self.hand) if mesh == "mano" else result
            finder = detection.detector or self.detector.name
            confidence = confidence_of(result, detection.score)
            result = scale_to_bone_length(result, bone_length)
            kept.append(replace(result, detector=finder, detection=detection, confidence=confidence))
        return kept

    @torch.inference_mode()
    def predict_crops(
        self, photo: Photo, detections: Sequence[Detection], sides_given: bool = False
    ) -> list[HandResult]:
        """One result per detection, whether the model believes in a hand there or not. A proposal is cropped twice, the
        second time around the joints of the first. `sides_given`: the detections' sides are the caller's, and stay."""
        if not detections:
            return []
        network = PhotoNetwork(self.model, self.device, photo.pixels, photo.intrinsics)
        squares = [square_of(d, self.crop) for d in detections]
        sided = infer_handedness(network, squares, detections, sides_given)
        closer = _closer_squares(squares, detections, sided, self.crop)
        if any(square is not None for square in closer):
            squares = [old if new is None else new for old, new in zip(squares, closer, strict=True)]
            sided = infer_handedness(network, squares, detections, sides_given)
        about = {"image_size": self.model.config.image_size, "hand": self.hand, "model": self.model.config.name}
        rows = enumerate(zip(sided.photo_from_crop, squares, sided.sides, strict=True))
        return _with_opinions([place_in_photo(sided.prediction[i], *row, photo, **about) for i, row in rows], sided)


def _closer_squares(
    squares: list[Float[Tensor, "3"]], detections: Sequence[Detection], sided: SidedPredictions, crop: CropSpec
) -> list[Float[Tensor, "3"] | None]:
    """For each proposal the square around its predicted joints; None for other detections and implausible joints."""
    if sided.prediction.joints_2d is None:
        return [None] * len(squares)
    rows = zip(sided.prediction.joints_2d, sided.photo_from_crop, squares, detections, strict=True)
    return [
        square_around_joints(apply_homography(joints, placed), square, crop) if d.is_proposal else None
        for joints, placed, square, d in rows
    ]


def _with_opinions(results: list[HandResult], sided: SidedPredictions) -> list[HandResult]:
    """The results with what the model and the detector think of their sides and of their being hands."""
    odds, presence = sided.prediction.left_logit, sided.prediction.presence_logit
    odds = [None] * len(results) if odds is None else own_side(odds, sided.sides).tolist()
    presence = [None] * len(results) if presence is None else presence.sigmoid().tolist()
    opinions = zip(results, sided.scores, odds, presence, strict=True)
    return [replace(r, side_score=score, left_odds=left, presence=p) for r, score, left, p in opinions]
