"""Pictures of predictions: what the network sees, its prediction and the labels.

Images are RGB uint8. A mesh is drawn with the predicted weak-perspective camera, a skeleton where there is only that.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from ..contracts import HandBatch, HandPrediction
from ..mano.template import HandTemplate
from ..render import overlay
from .evaluate import Predictor, as_float

Image = UInt8[np.ndarray, "h w 3"]
AnyImage = UInt8[np.ndarray, "_ _ 3"]  # of a shape of its own
MESH_DISTANCE_M = 10.0  # m: how far away a mesh is put, so that perspective looks like the weak one
PICTURE_PX = 224  # px of one picture
SAMPLES_PER_ROW = 4  # samples in a row of a sheet
GAP_PX = 4  # px


@torch.no_grad()
def picture_sheet(
    shown: HandBatch | None, predict: Predictor, template: HandTemplate | None, device: torch.device
) -> AnyImage | None:
    """All of `shown` in one picture, each sample with its labels and with the prediction; None without samples."""
    if shown is None or not len(shown):
        return None
    prediction = as_float(predict(shown.to(device).inputs_for(predict))).to("cpu")
    return sheet(draw(shown.to("cpu"), prediction, template))


def draw(batch: HandBatch, prediction: HandPrediction, template: HandTemplate | None) -> list[Image]:
    """For every sample: the crop with its labelled joints, next to the crop with the prediction on it."""
    return [
        overlay.panel([_labels(batch, i), _answer(batch, prediction, i, template)], gap=GAP_PX)
        for i in range(len(batch))
    ]


def sheet(pictures: list[Image]) -> AnyImage:
    """Pictures of one size in rows."""
    blank = np.full_like(pictures[0], 255)
    rows = [pictures[i : i + SAMPLES_PER_ROW] for i in range(0, len(pictures), SAMPLES_PER_ROW)]
    rows = [row + [blank] * (min(SAMPLES_PER_ROW, len(pictures)) - len(row)) for row in rows]
    lines = [overlay.panel(row, gap=2 * GAP_PX) for row in rows]
    gap = np.full((2 * GAP_PX, lines[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for line in lines for part in (line, gap)][:-1])


def jpeg(image: AnyImage, quality: int = 85) -> bytes:
    """The picture as the bytes of a JPEG file."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _crop(batch: HandBatch, index: int) -> tuple[Image, float]:
    """The sample's crop, PICTURE_PX px high, and how many of its px one px of the sample's own has become."""
    values = batch.inputs.image[index].permute(1, 2, 0).nan_to_num().clamp(0, 1).mul(255).round()
    image = values.to(torch.uint8).numpy()
    return cv2.resize(image, (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_CUBIC), PICTURE_PX / image.shape[1]


def _labels(batch: HandBatch, index: int) -> Image:
    image, scale = _crop(batch, index)
    targets = batch.targets
    if targets.joints_2d is None:
        return image
    valid = None if targets.joints_2d_valid is None else targets.joints_2d_valid[index].numpy()
    return overlay.draw_skeleton(image, targets.joints_2d[index].double().numpy() * scale, valid)


def _answer(batch: HandBatch, prediction: HandPrediction, index: int, template: HandTemplate | None) -> Image:
    image, scale = _crop(batch, index)
    vertices, camera = prediction.vertices, prediction.camera
    if template is not None and vertices is not None and camera is not None:
        drawn = _mesh(image, vertices[index], camera[index], template)
        if drawn is not None:
            return drawn
    if prediction.joints_2d is None:
        return image if prediction.mask is None else overlay.draw_mask(image, prediction.mask[index].numpy() > 0)
    return overlay.draw_skeleton(image, prediction.joints_2d[index].double().numpy() * scale)


def _mesh(
    image: Image, vertices: Float[torch.Tensor, "778 3"], camera: Float[torch.Tensor, "3"], template: HandTemplate
) -> Image | None:
    """The mesh on the crop; None for one that is no mesh (yet): an untrained network says anything."""
    if not (vertices.isfinite().all() and camera.isfinite().all()) or float(camera[0]) <= 0:
        return None
    if float(vertices.abs().max()) > MESH_DISTANCE_M / 2 or float(camera[1:].abs().max()) > MESH_DISTANCE_M:
        return None
    placed = vertices + torch.cat([camera[1:], camera.new_tensor([MESH_DISTANCE_M])])
    half = image.shape[0] / 2
    focal = float(camera[0]) * half * MESH_DISTANCE_M
    intrinsics = np.array([[focal, 0, half], [0, focal, half], [0, 0, 1]])
    return overlay.draw_mesh(image, placed.numpy(), template.faces.cpu().numpy(), intrinsics, quality="fast")
