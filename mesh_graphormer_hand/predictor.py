"""Photo in, hands out, in the photo's own frame: the mirror, the crop and the camera are undone here.

    predictor = HandPredictor.from_pretrained()          # the shipped weights, or a run's folder
    hand, = predictor.predict("photo.jpg")               # or an RGB uint8 array; boxes=, sides=, K= where known
    hand.joints_2d                                       # (21, 2) pixels of the photo

There is no detector: without a box the whole photo is looked at, then once more the place where the hand seems to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from . import assembly
from .config import ConfigError
from .contracts import HandInputs, HandPrediction
from .data.images import DataError, cut_crop, read_image, to_tensor
from .geometry.crops import (
    apply_affine,
    box_to_square,
    compose_affine,
    crop_affine,
    homogeneous,
    invert_affine,
    mirror_affine,
    tight_box,
)
from .mano import hand as hands
from .mano.hand import Hand

Side = Literal["right", "left"]
DEFAULT_WEIGHTS = "graphormer_lite"
BOX_SCALE = 1.2  # side of the crop: longer side of a given box times this
JOINTS_SCALE = 1.35  # the same for the box around 21 predicted joints, which has no flesh around it
SANE_SIDE = (0.12, 1.6)  # of the first crop's side, for a second look


@dataclass(frozen=True)
class HandResult:
    """One hand. Camera axes are OpenCV's (x right, y down, z forward); None: this model does not produce it."""

    side: Side  # the person's own hand
    box: Float[np.ndarray, "4"]  # x0, y0, x1, y1: the square that was looked at, px of the photo
    intrinsics: Float[np.ndarray, "3 3"]  # px of the photo: as given, or assumed
    model: str  # name of the architecture
    joints: Float[np.ndarray, "21 3"] | None = None  # m, relative to the wrist
    joints_2d: Float[np.ndarray, "21 2"] | None = None  # px of the photo
    vertices: Float[np.ndarray, "778 3"] | None = None  # m, relative to the wrist
    faces: Int64[np.ndarray, "1538 3"] | None = None  # outwards, for this side
    camera: Float[np.ndarray, "3"] | None = None  # s (px of the photo per m), x, y (px): photo = s xy + (x, y)
    translation: Float[np.ndarray, "3"] | None = None  # m, the wrist before the camera of `intrinsics`
    mask: Bool[np.ndarray, "h w"] | None = None  # of the photo
    confidence: float | None = None  # 0 to 1
    hand: str | None = None  # fingerprint of the hand of vertices and joints, hexadecimal

    @property
    def vertices_cam(self) -> Float[np.ndarray, "778 3"] | None:
        """Vertices before the camera (m), for rendering onto the photo."""
        return None if self.vertices is None or self.translation is None else self.vertices + self.translation


class HandPredictor:
    """A trained model and its hand."""

    def __init__(self, model: nn.Module, hand: Hand | None = None, device: str | torch.device = "cpu") -> None:
        """`model`: a HandModel; `hand`: of its vertices, by default found by its config's fingerprint."""
        self.model, self.device = model.to(device).eval(), torch.device(device)
        self.hand = hand or hands.find(model.config.hand)
        self.image_size = model.config.image_size

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None, device: str | torch.device = "cpu") -> HandPredictor:
        """The model in `path`: a run's folder, its name under runs/, what save_pretrained wrote, or the name of shipped
        weights (the default).

        Raises:
            ConfigError: no model there, or its plug-in or hand is not on this machine.
        """
        model = assembly.load_model(assembly.find_model(path or DEFAULT_WEIGHTS))
        return cls(model, device=device)

    @torch.inference_mode()
    def predict(
        self,
        image: np.ndarray | str | Path,
        boxes: Sequence[Sequence[float | int]] | np.ndarray | None = None,
        sides: Sequence[str] | None = None,
        K: np.ndarray | None = None,
    ) -> list[HandResult]:
        """One result per box.

        Args:
            image: the photo, RGB uint8 (h, w, 3), or its file.
            boxes: x0, y0, x1, y1 around each hand, px; None: one hand, somewhere.
            sides: "right" or "left" for each box; None: right hands.
            K: the camera's intrinsics (3, 3), px; None: a focal length of the photo's longer side.

        Raises:
            DataError: an image, box, side or K that cannot be used.
            ConfigError: a model whose answer is not finite.
        """
        photo = read_image(image) if isinstance(image, str | Path) else _check_photo(image)
        height, width = photo.shape[:2]
        K = default_intrinsics(width, height) if K is None else _check_intrinsics(K)
        squares = _squares(boxes, width, height)
        sides = ["right"] * len(squares) if sides is None else list(sides)
        if len(sides) != len(squares) or not set(sides) <= {"right", "left"}:
            raise DataError(f'sides should be "right" or "left" for each of {len(squares)} boxes, not {sides}')
        if not squares:
            return []
        placed, prediction = self._look(photo, squares, sides)
        if boxes is None and prediction.joints_2d is not None:
            joints = apply_affine(prediction.joints_2d[0], placed[0])
            second = _second_look(joints, squares[0])
            if second is not None:
                squares = [second]
                placed, prediction = self._look(photo, squares, sides)
        return [
            self._result(prediction[i], placed[i], squares[i], side, K, (height, width)) for i, side in enumerate(sides)
        ]

    def _look(self, photo: np.ndarray, squares: list[Tensor], sides: list[Side]) -> tuple[Tensor, HandPrediction]:
        """image_from_crop (b, 2, 3) of each square and what the model says about these crops, on the CPU."""
        placed = []
        for square, side in zip(squares, sides, strict=True):
            placement = crop_affine(square[:2], square[2], self.image_size)
            if side == "left":
                placement = compose_affine(placement, mirror_affine(self.image_size, placement))
            placed.append(placement)
        crops = torch.stack([to_tensor(cut_crop(photo, p, self.image_size)) for p in placed])
        prediction = self.model(HandInputs(image=crops.to(self.device)))
        prediction = prediction.map(lambda t: t.cpu().float() if t.is_floating_point() else t.cpu())
        for name in ("joints", "joints_2d", "vertices", "camera", "mask"):
            if (values := getattr(prediction, name)) is not None and not values.isfinite().all():
                raise ConfigError(f"the model {self.model.config.name} gives {name} that are not finite: train it anew")
        return torch.stack(placed), prediction

    def _result(
        self,
        prediction: HandPrediction,
        image_from_crop: Float[Tensor, "2 3"],
        square: Float[Tensor, "3"],
        side: Side,
        K: np.ndarray,
        shape: tuple[int, int],
    ) -> HandResult:
        """One sample's prediction, taken from its crop to the photo."""
        mirror = np.float32([-1 if side == "left" else 1, 1, 1])
        centre, half = square[:2].numpy(), float(square[2]) / 2
        result = HandResult(side, np.concatenate([centre - half, centre + half]), K, model=self.model.config.name)
        for name in ("joints", "vertices"):
            if (points := getattr(prediction, name)) is not None:
                result = replace(result, **{name: points.numpy() * mirror, "hand": self.hand.fingerprint_hex})
        if prediction.vertices is not None:
            faces = self.hand.faces
            result = replace(result, faces=np.ascontiguousarray(faces[:, ::-1]) if side == "left" else faces)
        if prediction.joints_2d is not None:
            result = replace(result, joints_2d=apply_affine(prediction.joints_2d, image_from_crop).numpy())
        if prediction.camera is not None:
            camera = photo_camera(prediction.camera, image_from_crop, self.image_size)
            result = replace(result, camera=camera, translation=perspective_translation(camera, K))
        if prediction.mask is not None:
            result = replace(result, mask=_mask_in_photo(prediction.mask, image_from_crop, self.image_size, shape))
        if prediction.confidence is not None:
            result = replace(result, confidence=float(prediction.confidence.mean()))
        return result


def default_intrinsics(width: int, height: int) -> Float[np.ndarray, "3 3"]:
    """A camera with a field of view of 53 degrees along the photo's longer side: phones' are like that."""
    focal = float(max(width, height))
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)


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


def _second_look(joints: Float[Tensor, "21 2"], first: Float[Tensor, "3"]) -> Tensor | None:
    """The square around the predicted joints (px of the photo), None where it makes no sense."""
    centre, side = box_to_square(tight_box(joints), JOINTS_SCALE)
    low, high = SANE_SIDE
    inside = ((centre - first[:2]).abs() < first[2] / 2).all()
    return torch.cat([centre, side[None]]) if inside and low * first[2] < side < high * first[2] else None


def _squares(boxes: Sequence[Sequence[float | int]] | np.ndarray | None, width: int, height: int) -> list[Tensor]:
    """Centre and side (px) of the crop for each box."""
    if boxes is None:
        return [torch.tensor([width / 2, height / 2, max(width, height)])]
    squares = []
    for box in boxes:
        edges = np.asarray(box, np.float32)
        if edges.shape != (4,) or not np.isfinite(edges).all() or not (edges[2:] > edges[:2]).all():
            raise DataError(f"box {list(box)} should be x0, y0, x1, y1 in pixels with x0 < x1 and y0 < y1")
        if edges[0] >= width or edges[1] >= height or edges[2] <= 0 or edges[3] <= 0:
            raise DataError(f"box {list(box)} lies outside the photo, which is {width} x {height} pixels")
        centre, side = box_to_square(torch.from_numpy(edges), BOX_SCALE)
        squares.append(torch.cat([centre, side[None]]))
    return squares


def _mask_in_photo(
    logits: Float[Tensor, "rows columns"], image_from_crop: Float[Tensor, "2 3"], size: int, shape: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """The crop's mask where it lies in the photo; outside the crop there is none."""
    map_from_crop = torch.diag(torch.tensor([logits.shape[1] / size, logits.shape[0] / size, 1.0]))
    map_from_image = (map_from_crop @ homogeneous(invert_affine(image_from_crop)))[:2].double().numpy()
    map_from_image[:, 2] += map_from_image[:, :2].sum(-1) / 2 - 0.5  # OpenCV measures from the first pixel's centre
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    logits = logits.clamp(-50, 50).numpy()
    return cv2.warpAffine(logits, map_from_image, shape[::-1], flags=flags, borderValue=-50.0) > 0


def _check_photo(image: np.ndarray) -> np.ndarray:
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise DataError(f"an image should be a file or an RGB uint8 array (height, width, 3), this is {kind}")
    if not image.size:
        raise DataError(f"the image has no pixels: {image.shape}")
    return image


def _check_intrinsics(K: np.ndarray) -> np.ndarray:
    K = np.asarray(K, np.float32)
    if (
        K.shape != (3, 3)
        or not np.isfinite(K).all()
        or K[0, 0] <= 0
        or K[1, 1] <= 0
        or not np.allclose(K[2], [0, 0, 1])
    ):
        raise DataError(f"K should be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels, not {K.tolist()}")
    return K
