"""Photo in, hands out, in the photo's own frame: the mirror, the crop and the camera are undone here.

    predictor = HandPredictor.from_pretrained()          # the shipped weights, or a run's folder
    for hand in predictor.predict("photo.jpg"):          # or an RGB array; boxes=, sides=, K= where known
        hand.side, hand.joints_2d                        # (21, 2) pixels of the photo
        hand.vertices + hand.translation                 # (778, 3) metres before the camera

A detector (`detectors`) says where hands are and whether they are left or right ones; a photo without hands gives an
empty list. Left hands are shown to the model mirrored, and mirrored back (`handedness`). What the model takes for no
hand is dropped (`Detection.least_presence`). Where hands stand is `geometry.metric`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from .. import assembly
from ..config import ConfigError, nearest
from ..contracts import HandInputs, HandPrediction
from ..data import headers, plausibility
from ..data.images import DataError, as_photo, cut_view, decode_image, paste_mask, read_bytes, to_tensor
from ..geometry.cameras import crop_to_pixels, weak_perspective
from ..geometry.crops import (
    apply_homography,
    box_to_square,
    compose_affine,
    crop_affine,
    linearised,
    mirror_affine,
    tight_box,
)
from ..geometry.metric import default_intrinsics, photo_camera, reference_length
from ..geometry.placement import place_wrist, read_places
from ..geometry.viewing import photo_from_crop
from ..mano import hand as hands
from ..mano.fit import ManoFit, fit_mano, posed_mesh
from ..mano.hand import Hand
from . import handedness
from .detectors import choose
from .detectors.base import Detection, Detector, Side, otherwise
from .detectors.whole import Whole
from .fused import optimise
from .result import HandResult, confidence_of, is_believed

DEFAULT_WEIGHTS = "graphormer_lite"
DEFAULT_DETECTOR = "auto"
BOX_SCALE = 1.2  # side of the crop: longer side of a given box times this
JOINTS_SCALE = 1.35  # the same for the box around 21 predicted joints, which has no flesh around it
SANE_SIDE = (0.12, 1.6)  # of the first crop's side, for a second look
FOCAL = (1e-1, 1e7)  # px: beyond, nothing of a photo can be said in float32
BONE_LENGTH = (1e-3, 1.0)  # m: from a doll's to a statue's
TOGETHER = 32  # crops that the model sees at once
MESHES = ("regressed", "mano")
FIT_NOISE = 0.01  # m: how far regressed vertices lie from any posed hand; of 1 to 30 mm the best on virtual hands
SAME_JOINTS = 0.02  # m: joints farther from the mesh's are not the mesh's
LEAST_SIZE = 0.6  # of a hand drawn by its camera, of its size in the heat maps; smaller ones are a fit gone wrong


class HandPredictor:
    """A trained model, its hand, and a detector. Without one the whole photo is looked at, then once more the place
    where the hand seems to be."""

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
        self.mesh = _check_mesh(mesh)
        self.model, self.device = model.to(device).eval(), torch.device(device)
        self.hand = hand or hands.find(model.config.hand)
        self.image_size = model.config.image_size
        self.weights = model.config.name  # how messages call them
        self.detector: Detector = detector or Whole()

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        device: str | torch.device = "cpu",
        detector: str | Detector | None = DEFAULT_DETECTOR,
        backend: str = "torch",
        mesh: str = "regressed",
    ) -> HandPredictor:
        """The model in `path`: a run's folder, its name under runs/, what save_pretrained wrote, or the name of shipped
        weights (the default). `detector`: a name of `detectors.choose.NAMES`, a detector, or None for "whole".
        `backend`: "torch", or "onnx" for a folder that tools/export.py wrote. `mesh`: "regressed" or "mano".

        Raises:
            ConfigError: no model there, or its plug-in or hand is not on this machine; a detector that cannot work.
        """
        if backend == "torch":
            model = optimise(assembly.load_model(assembly.find_model(path or DEFAULT_WEIGHTS)).to(device))
        else:
            from . import onnx as portable  # brings the exporters along

            model = portable.load(path or DEFAULT_WEIGHTS, backend)
        if isinstance(detector, str):
            detector = choose.choose(detector, device=device)
        predictor = cls(model, device=device, detector=detector, mesh=mesh)
        predictor.weights = str(path or DEFAULT_WEIGHTS)
        return predictor

    def predict(
        self,
        image: np.ndarray | str | Path,
        boxes: Sequence[Sequence[float | int] | np.ndarray] | np.ndarray | None = None,
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
            boxes: x0, y0, x1, y1 around each hand, px; None: the detector looks for them.
            sides: "right" or "left" for each box, or one for all hands that the detector finds; None: what the
                detector and the model say together. A model without a handedness head has no say where the detector
                tells the side; else it looks both ways, and the way with the sharper heat maps is taken (right of
                models without heat maps).
            K: the camera's intrinsics (3, 3), px.
            focal: the focal length, px, where K is not known. None: the file's EXIF, or else the longer side.
            bone_length: m, of the middle finger's proximal phalanx (FreiHAND's scale), the same for all hands; None:
                hands have the size that the model sees.
            mesh: "regressed" or "mano", instead of the predictor's own.

        Raises:
            DataError: an image, box, side, K or length that cannot be used.
            ConfigError: a model whose answer is not finite, or no such kind of mesh.
        """
        mesh = self.mesh if mesh is None else _check_mesh(mesh)
        photo, K, source = self._camera(image, K, focal)
        _check_positive("bone_length", bone_length, BONE_LENGTH)
        about = {"intrinsics_from": source, "bone_length": bone_length, "mesh": mesh}
        if boxes is not None:
            given = [Detection(box) for box in _check_boxes(boxes, photo.shape[:2])]
            return [replace(r, detection=None) for r in self._predict(photo, given, K, sides, "boxes", **about)]
        name = self.detector.name
        found = self._predict(photo, self.detector.detect(photo), K, sides, name, **about)
        found = found or self._predict(photo, otherwise(self.detector, photo), K, sides, name, **about)
        return sorted(found, key=lambda result: -(result.confidence or 0))

    def _predict(
        self,
        photo: np.ndarray,
        detections: list[Detection],
        K: Float[np.ndarray, "3 3"],
        sides: Sequence[str] | None,
        detector: str,
        *,
        intrinsics_from: str,
        bone_length: float | None,
        mesh: str,
    ) -> list[HandResult]:
        """The hands among the detections: those that the model believes in as much as each detection asks for."""
        detections = _with_sides(detections, sides, "boxes" if detector == "boxes" else "hands")
        results = []
        for detection, result in zip(detections, self.look(photo, detections, K, sides is not None), strict=True):
            if not is_believed(result.presence, detection.least_presence):
                continue
            if mesh == "mano":
                result = as_mano(result, self.hand)
            result = replace(
                bring_to_size(result, bone_length),
                intrinsics_from=intrinsics_from,
                detector=detection.detector or detector,
                detection=detection,
                confidence=confidence_of(result, detection.score),
            )
            results.append(result)
        return results

    @torch.inference_mode()
    def look(
        self, photo: np.ndarray, detections: Sequence[Detection], K: Float[np.ndarray, "3 3"], told: bool = False
    ) -> list[HandResult]:
        """What the model says of each place of an RGB uint8 photo, whether it believes in a hand there or not; rough
        places are looked at twice. `told`: the sides of the detections are the caller's, and stand."""
        if not detections:
            return []
        shape = photo.shape[:2]
        squares = [_square(d, shape) for d in detections]
        sides, scores, placed, prediction = self._look_both_ways(photo, squares, detections, told, K)
        again = []
        for i, detection in enumerate(detections):
            if detection.rough and prediction.joints_2d is not None:
                second = _second_look(apply_homography(prediction.joints_2d[i], placed[i]), squares[i])
                if second is not None:
                    squares[i] = second
                    again.append(i)
        if again:
            sides, scores, placed, prediction = self._look_both_ways(photo, squares, detections, told, K)
        found = [self._result(prediction[i], placed[i], squares[i], side, K, shape) for i, side in enumerate(sides)]
        odds, presence = prediction.left_logit, prediction.presence_logit
        odds = [None] * len(found) if odds is None else handedness.own_side(odds, sides).tolist()
        presence = [None] * len(found) if presence is None else presence.sigmoid().tolist()
        opinions = zip(found, scores, odds, presence, strict=True)
        return [replace(r, side_score=score, left_odds=left, presence=p) for r, score, left, p in opinions]

    def _camera(
        self, image: np.ndarray | str | Path, K: np.ndarray | None, focal: float | None
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """The photo, its intrinsics, and who said so."""
        _check_positive("focal", focal, FOCAL)
        exif = None
        if isinstance(image, str | Path):
            data = read_bytes(image)
            photo = decode_image(data, image)
            exif = headers.focal_length(data, photo.shape[1], photo.shape[0])
        else:
            photo = as_photo(image)
        height, width = photo.shape[:2]
        if K is not None:
            return photo, plausibility.told_camera(_check_intrinsics(K), (width, height)), "given"
        source = "given" if focal is not None else "exif" if exif is not None else "assumed"
        return photo, default_intrinsics(width, height, focal if focal is not None else exif), source

    def _look_both_ways(
        self, photo: np.ndarray, squares: list[Tensor], detections: Sequence[Detection], told: bool, K: np.ndarray
    ) -> tuple[list[Side], list[float | None], Tensor, HandPrediction]:
        """`_look`, and the side of each hand and how sure it is (0.5 to 1; None: told, or nobody can say). Hands whose
        side is not surely the one that they were shown as are looked at once more, mirrored, and both looks count."""
        sides: list[Side] = [d.side or "right" for d in detections]
        scores = [None if told else d.side_score if d.side else None for d in detections]
        placed, prediction = self._look(photo, squares, sides, K)
        has_head = prediction.left_logit is not None
        turned: list[int] = []
        if has_head and not told:
            odds = handedness.combine(prediction.left_logit, sides, detections)
            scores = [handedness.score(left) for left in odds]
            turned = [i for i, left in enumerate(odds) if not handedness.agrees(left, sides[i])]
        elif prediction.heatmaps is not None:
            turned = [i for i, d in enumerate(detections) if d.side is None]
        if not turned:
            return sides, scores, placed, prediction
        mirrored = [handedness.OTHER[sides[i]] for i in turned]
        placed_again, again = self._look(photo, [squares[i] for i in turned], mirrored, K)
        rows = list(range(len(sides)))
        if has_head:
            second = handedness.combine(again.left_logit, mirrored, [detections[i] for i in turned])
        for k, i in enumerate(turned):
            if has_head:
                left = (odds[i] + second[k]) / 2
                other = (left > 0) == (mirrored[k] == "left")
            else:
                left = handedness.SIDE_SLOPE * float(
                    handedness.sharpness(torch.stack([prediction.heatmaps[i], again.heatmaps[k]])).diff()
                )
                other = left > 0
            scores[i] = handedness.score(left)
            if other:
                sides[i], rows[i] = mirrored[k], len(sides) + k
        placed, prediction = torch.cat([placed, placed_again]), HandPrediction.cat([prediction, again])
        return sides, scores, placed[rows], prediction[torch.tensor(rows)]

    def _look(
        self, photo: np.ndarray, squares: list[Tensor], sides: list[Side], K: np.ndarray
    ) -> tuple[Tensor, HandPrediction]:
        """photo_from_crop (b, 3, 3) of each square and what the model says about these crops, on the CPU."""
        placed = []
        for square, side in zip(squares, sides, strict=True):
            placement = crop_affine(square[:2], square[2], self.image_size)
            if side == "left":
                placement = compose_affine(placement, mirror_affine(self.image_size, placement))
            placed.append(photo_from_crop(placement, torch.from_numpy(K), self.image_size))
        parts = []
        for start in range(0, len(placed), TOGETHER):
            some = placed[start : start + TOGETHER]
            crops = torch.stack([to_tensor(cut_view(photo, p, self.image_size)) for p in some])
            part = self.model(HandInputs(image=crops.to(self.device)))
            parts.append(part.map(lambda t: t.cpu().float() if t.is_floating_point() else t.cpu()))
        prediction = parts[0] if len(parts) == 1 else HandPrediction.cat(parts)
        for name in ("joints", "joints_2d", "vertices", "camera", "mask", "left_logit", "presence_logit"):
            if (values := getattr(prediction, name)) is not None and not values.isfinite().all():
                raise ConfigError(f"the model {self.model.config.name} gives {name} that are not finite: train it anew")
        return torch.stack(placed), prediction

    def _result(
        self,
        prediction: HandPrediction,
        photo_from_crop: Float[Tensor, "3 3"],
        square: Float[Tensor, "3"],
        side: Side,
        K: np.ndarray,
        shape: tuple[int, int],
    ) -> HandResult:
        """One sample's prediction, taken from its crop to the photo."""
        mirror = _mirror(side)
        centre, half = square[:2].numpy(), float(square[2]) / 2
        result = HandResult(side, np.concatenate([centre - half, centre + half]), K, model=self.model.config.name)
        turn = result.camera_from_crop.T
        for name in ("joints", "vertices"):
            if (points := getattr(prediction, name)) is not None:
                result = replace(result, **{name: points.numpy() * mirror @ turn, "hand": self.hand.fingerprint_hex})
        if prediction.vertices is not None:
            faces = self.hand.faces
            result = replace(result, faces=np.ascontiguousarray(faces[:, ::-1]) if side == "left" else faces)
        seen = read_places(prediction, float(self.image_size))
        prediction = mend_camera(prediction, seen, float(self.image_size))
        if prediction.joints_2d is not None:
            result = replace(result, joints_2d=apply_homography(prediction.joints_2d, photo_from_crop).numpy())
        if prediction.camera is not None:
            near = linearised(photo_from_crop, torch.full((2,), self.image_size / 2))
            result = replace(result, camera=photo_camera(prediction.camera, near, self.image_size))
        wrist = place_wrist(prediction, result.joints, photo_from_crop, K, self.image_size)
        result = replace(result, translation=wrist)
        if prediction.mask is not None:
            result = replace(result, mask=paste_mask(prediction.mask, photo_from_crop, self.image_size, shape))
        if prediction.confidence is not None:
            result = replace(result, confidence=float(prediction.confidence.mean()))
        return result


def mend_camera(
    prediction: HandPrediction, seen: tuple[Float[Tensor, "21 2"], Float[Tensor, "21"]] | None, size: float
) -> HandPrediction:
    """One sample's prediction with a camera that draws the hand no smaller than the heat maps show it.

    A pose that is turned the wrong way makes a least-squares fit shrink the hand towards a dot. Such a camera is
    replaced by the one that gives the joints the size and the middle of their places.
    """
    if prediction.camera is None or prediction.joints is None or prediction.heatmaps is None or seen is None:
        return prediction
    uv, share = seen[0] / size * 2 - 1, (seen[1] / seen[1].sum())[:, None]
    xy = prediction.joints[:, :2]
    middle, centre = (share * uv).sum(0), (share * xy).sum(0)
    spread, extent = ((share * v.square()).sum().sqrt() for v in (uv - middle, xy - centre))
    if not 0 < LEAST_SIZE * float(spread) > float(prediction.camera[0] * extent):
        return prediction
    scale = spread / extent.clamp_min(1e-3)
    camera = torch.cat([scale[None], middle / scale - centre])
    joints_2d = crop_to_pixels(weak_perspective(prediction.joints, camera), size)
    return replace(prediction, camera=camera, joints_2d=joints_2d)


def bring_to_size(result: HandResult, bone_length: float | None) -> HandResult:
    """The hand with a middle finger's proximal phalanx of `bone_length` m, as far away as it then must be; its picture
    stays the same. Unchanged for None, and where the model gives no joints."""
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
    """The result with the posed hand that is nearest to its mesh, and that hand's pose and shape. A regressed mesh may
    be crumpled, at fingertips above all; this one is as smooth as MANO's. Unchanged where there is no mesh."""
    if result.vertices is None:
        return result
    fitted = explain(result, hand)
    return posed(result, hand, fitted.pose, fitted.shape)


def explain(
    result: HandResult, hand: Hand, shape: Float[Tensor, "1 10"] | None = None, steps: int = 3, noise: float = FIT_NOISE
) -> ManoFit:
    """`mano.fit` of a result's mesh, as a right hand."""
    vertices = torch.from_numpy(np.ascontiguousarray(result.vertices * _mirror(result.side)))[None]
    return fit_mano(hand, vertices, shape=shape, steps=steps, noise=noise)


def posed(result: HandResult, hand: Hand, pose: Float[Tensor, "1 16 3"], shape: Float[Tensor, "1 10"]) -> HandResult:
    """The result with the mesh of MANO's layer and, unless they came from elsewhere than the mesh, its joints."""
    vertices, joints = (points[0].numpy() * _mirror(result.side) for points in posed_mesh(hand, pose, shape))
    changed = {"vertices": vertices, "pose": pose[0].numpy(), "shape": shape[0].numpy()}
    if result.joints is not None and np.abs(joints - result.joints).mean() < SAME_JOINTS:
        changed["joints"] = joints
        if result.translation is not None and result.joints_2d is not None:  # they move as the 3D joints' pictures do
            before, after = (_pixels(p + result.translation, result.intrinsics) for p in (result.joints, joints))
            changed["joints_2d"] = result.joints_2d + after - before
    return replace(result, **changed)


def _pixels(points: Float[np.ndarray, "n 3"], K: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "n 2"]:
    seen = points @ K.T
    return seen[:, :2] / np.maximum(seen[:, 2:], 1e-6)


def _mirror(side: Side) -> Float[np.ndarray, "3"]:
    return np.float32([-1 if side == "left" else 1, 1, 1])


def _second_look(joints: Float[Tensor, "21 2"], first: Float[Tensor, "3"]) -> Tensor | None:
    """The square around the predicted joints (px of the photo), None where it makes no sense."""
    centre, side = box_to_square(tight_box(joints), JOINTS_SCALE)
    low, high = SANE_SIDE
    inside = ((centre - first[:2]).abs() < first[2] / 2).all()
    return torch.cat([centre, side[None]]) if inside and low * first[2] < side < high * first[2] else None


def _square(detection: Detection, shape: tuple[int, int]) -> Float[Tensor, "3"]:
    """Centre and side (px) of the crop for a detection in a photo of `shape`, which it may reach out of."""
    if detection.rough:
        x0, y0, x1, y1 = detection.box.tolist()
        return torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0)])
    centre, side = box_to_square(torch.from_numpy(np.asarray(detection.box, np.float32)), BOX_SCALE)
    return torch.cat([centre, side[None]])


def _check_boxes(
    boxes: Sequence[Sequence[float | int] | np.ndarray] | np.ndarray, shape: tuple[int, int]
) -> list[np.ndarray]:
    height, width = shape
    checked = []
    for box in boxes:
        edges = _numbers(box)
        if edges.shape != (4,) or not np.isfinite(edges).all() or not (edges[2:] > edges[:2]).all():
            raise DataError(f"box {_plain(box)} should be x0, y0, x1, y1 in pixels with x0 < x1 and y0 < y1")
        if edges[0] >= width or edges[1] >= height or edges[2] <= 0 or edges[3] <= 0:
            raise DataError(f"box {_plain(box)} lies outside the photo, which is {width} x {height} pixels")
        checked.append(edges)
    return checked


def _with_sides(detections: list[Detection], sides: Sequence[str] | None, where: str) -> list[Detection]:
    """The detections with the caller's sides: one for each, or one for all."""
    if sides is None:
        return detections
    if not set(sides) <= {"right", "left"} or len(sides) not in (1, len(detections)):
        raise DataError(f'sides should be "right" or "left" for each of {len(detections)} {where}, not {list(sides)}')
    each = list(sides) * (len(detections) if len(sides) == 1 else 1)
    return [replace(d, side=side) for d, side in zip(detections, each, strict=True)]


def _check_positive(name: str, value: float | None, limits: tuple[float, float]) -> None:
    low, high = limits
    if value is not None and not (np.isfinite(value) and low <= value <= high):
        raise DataError(f"{name} should be a positive number from {low:g} to {high:g}, not {value}")


def _check_mesh(mesh: str) -> str:
    if mesh not in MESHES:
        raise ConfigError(f"mesh={mesh!r}{nearest(mesh, MESHES)} (there are: {', '.join(MESHES)})")
    return mesh


def _check_intrinsics(K: np.ndarray) -> np.ndarray:
    matrix = _numbers(K)
    if (
        matrix.shape != (3, 3)
        or not np.isfinite(matrix).all()
        or not all(FOCAL[0] <= f <= FOCAL[1] for f in (matrix[0, 0], matrix[1, 1]))
        or np.abs(matrix[:2, 2]).max() > FOCAL[1]
        or not np.allclose(matrix[2], [0, 0, 1])
    ):
        raise DataError(f"K should be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels, not {_plain(K)}")
    return matrix


def _plain(values: object) -> object:
    return values.tolist() if isinstance(values, np.ndarray) else values


def _numbers(values: object) -> np.ndarray:
    """Anything as float32; no numbers at all where it holds none, or rows of several lengths."""
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError):
        return np.zeros(0, np.float32)
