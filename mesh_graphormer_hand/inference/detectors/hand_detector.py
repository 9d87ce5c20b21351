"""Our own detector: the network `models/hand_detector.py` with the shipped weights.

The network sees the photo at two scales: with a longer side of `size` px, at which it finds hands from about a
twentieth of that on, and at half of it, at which a hand that fills the photo has a size that the network knows well. Of
two boxes of one hand the surer one stays. Boxes reach from the wrist to the fingertips, without the forearm.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ...config import ConfigError
from ...contracts import HandInputs
from ...data.images import to_tensor
from ...geometry.boxes import BoxCodec, calibrate, suppress
from ..network import load_network
from .base import Detection, Side

DETECTOR_WEIGHTS = "hand_detector"
MIN_SCORE = 0.5  # likelihood of a hand; what else scores as much is left to the model's presence
SIZES_PX = (384, 640)  # least and greatest longer side of the photo as the network sees it first: its own, if between
MIN_SIDE_LIKELIHOOD = 0.55  # likelihood from which a side is given
SIDE_SLOPE_RATIO = 0.1  # of the log-odds of a side: on photos of an unseen set it errs often, and where the model errs
# By the model, which overrules a detection below it. Not above result.UNKNOWN: a model without a presence head would
# overrule all.
LEAST_PRESENCE = 0.5
MAX_BOX_IOU = 0.45  # of two boxes of different hands
STRIDE_PX = 32  # the network's sides are multiples of it
PADDING_GREY = 0.5  # of the pixels that fill up to such a multiple


class HandDetector:
    """The network and how its maps become detections."""

    name = "ours"

    def __init__(
        self,
        weights: str | Path | None = None,
        device: str | torch.device = "cpu",
        threshold: float | None = None,
        size: int | None = None,
    ) -> None:
        """`weights`: a run, a folder or the name of shipped weights; `threshold`: least score of a hand; `size`: px,
        longer side of the photo as the network sees it first, by default the photo's own within SIZES_PX.

        Raises:
            ConfigError: no such weights, or weights of another kind of model.
        """
        self.model = load_network(weights or DETECTOR_WEIGHTS, device)
        if "box_maps" not in self.model.produces:
            raise ConfigError(f"{weights}: the model {self.model.config.name} is no hand detector")
        self.codec, self.device = BoxCodec(), torch.device(device)
        options = self.model.config.options
        self.calibration = options.get("slope", 1.0), options.get("shift", 0.0)
        self.threshold = MIN_SCORE if threshold is None else threshold
        self.size = size

    @torch.inference_mode()
    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """Hands whose score is at least the threshold, the surest first."""
        size = self.size or int(np.clip(max(photo.shape[:2]), *SIZES_PX))
        scales = [self._detect_at(photo, each) for each in (size, size // 2)]
        boxes, scores, left = (torch.cat(values) for values in zip(*scales, strict=True))
        kept = scores >= self.threshold
        boxes, scores, left = boxes[kept], scores[kept], left[kept]
        limit = torch.tensor(photo.shape[1::-1], dtype=torch.float32).repeat(2)
        boxes = torch.minimum(boxes.clamp_min(0), limit)
        whole = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)  # of at least a pixel of the photo
        boxes, scores, left = boxes[whole], scores[whole], left[whole]
        kept = suppress(boxes, scores, MAX_BOX_IOU)
        found = [Detection(boxes[i].numpy(), float(scores[i]), *_side(float(left[i]))) for i in kept]
        return [replace(d, least_presence=LEAST_PRESENCE) for d in found]

    def _detect_at(
        self, photo: UInt8[np.ndarray, "h w 3"], size: int
    ) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n"], Float[Tensor, "n"]]:
        """Boxes (px of the photo), the likelihood of a hand and of a left hand in each, with the photo at `size` px."""
        image, scale = fit_in(photo, size)
        image = image[None].to(self.device, memory_format=torch.channels_last)
        maps = self.model(HandInputs(image=image)).box_maps.float().cpu()
        boxes, heat, left = (v[0] for v in self.codec.decode(maps))
        return boxes / scale, calibrate(heat, *self.calibration), calibrate(left, SIDE_SLOPE_RATIO, 0.0)


def _side(left: float) -> tuple[Side | None, float | None]:
    """The side and its likelihood, from the likelihood `left` of a left hand; None where neither side is sure."""
    sure = max(left, 1 - left)
    return ("left" if left > 0.5 else "right", sure) if sure >= MIN_SIDE_LIKELIHOOD else (None, None)


def fit_in(photo: UInt8[np.ndarray, "h w 3"], size: int) -> tuple[Float[Tensor, "3 rows columns"], Float[Tensor, "4"]]:
    """The photo with a longer side of `size` px, filled up below and on the right to multiples of STRIDE_PX, and the
    scale in x, y, x, y: its px per px of the photo."""
    shape = np.array(photo.shape[1::-1])
    target = np.maximum(np.round(shape * size / shape.max()), 1).astype(int)
    method = cv2.INTER_AREA if target.max() < shape.max() else cv2.INTER_LINEAR
    small = to_tensor(cv2.resize(photo, target.tolist(), interpolation=method))
    width, height = (-target % STRIDE_PX).tolist()
    padded = torch.nn.functional.pad(small, (0, width, 0, height), value=PADDING_GREY)
    return padded, torch.from_numpy(target / shape).float().repeat(2)
