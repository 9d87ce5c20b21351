"""Our own detector: the network `models/hand_detector.py` with the weights in the box.

The photo is brought to a longer side of the model's image size, so hands smaller than about a twelfth of that side are
too small for it. Boxes are the hand's own (wrist to fingertips), not the forearm's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from .. import assembly
from ..config import ConfigError
from ..contracts import HandInputs
from ..data.images import to_tensor
from ..geometry.boxes import suppress
from .base import Detection, Side

WEIGHTS = "hand_detector"
THRESHOLD = 0.35  # of scores
SURE = 0.6  # likelihood of a side from which it is told
DOUBTED = 0.2  # presence below which the model overrules a detection
OVERLAP = 0.45  # of two boxes, above which the worse one goes
MULTIPLE = 32  # px, of the network's sides
GREY = 0.5  # of what is added to make a multiple


class Ours:
    """The network and how it is read."""

    name = "ours"

    def __init__(
        self,
        weights: str | Path | None = None,
        device: str | torch.device = "cpu",
        threshold: float | None = None,
        size: int | None = None,
    ) -> None:
        """`size`: px, longer side that photos are brought to, by default what the network was trained on.

        Raises:
            ConfigError: no such weights, or weights of another kind of model.
        """
        self.model = assembly.load_model(assembly.find_model(weights or WEIGHTS)).to(device).eval()
        if "box_maps" not in self.model.produces:
            raise ConfigError(f"{weights}: the model {self.model.config.name} is no hand detector")
        self.device = torch.device(device)
        self.threshold = THRESHOLD if threshold is None else threshold
        self.size = size or self.model.config.image_size

    @torch.inference_mode()
    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """Hands whose score is above the threshold, the surest first."""
        image, scale = fit_in(photo, self.size)
        maps = self.model(HandInputs(image=image[None].to(self.device))).box_maps.float().cpu()
        boxes, scores, left = (v[0] for v in self.model.box_codec.decode(maps))
        kept = scores >= self.threshold
        boxes, scores, left = boxes[kept], scores[kept], left[kept]
        limit = torch.tensor(photo.shape[1::-1], dtype=torch.float32).repeat(2)
        boxes = torch.minimum((boxes / scale).clamp_min(0), limit)
        whole = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)  # of at least a pixel of the photo
        boxes, scores, left = boxes[whole], scores[whole], left[whole]
        kept = suppress(boxes, scores, OVERLAP)
        found = [Detection(boxes[i].numpy(), float(scores[i]), *_side(float(left[i]))) for i in kept]
        return [replace(d, least_presence=DOUBTED) for d in found]


def _side(left: float) -> tuple[Side | None, float | None]:
    """The side and how sure it is; None for a coin's flip."""
    sure = max(left, 1 - left)
    return ("left" if left > 0.5 else "right", sure) if sure >= SURE else (None, None)


def fit_in(photo: UInt8[np.ndarray, "h w 3"], size: int) -> tuple[Float[Tensor, "3 rows columns"], Float[Tensor, "4"]]:
    """The photo with a longer side of `size` px, grey below and on the right up to multiples of 32, and the scale in
    x, y, x, y: px of it per px of the photo."""
    shape = np.array(photo.shape[1::-1])
    target = np.maximum(np.round(shape * size / shape.max()), 1).astype(int)
    method = cv2.INTER_AREA if target.max() < shape.max() else cv2.INTER_LINEAR
    small = to_tensor(cv2.resize(photo, target.tolist(), interpolation=method))
    width, height = (-target % MULTIPLE).tolist()
    padded = torch.nn.functional.pad(small, (0, width, 0, height), value=GREY)
    return padded, torch.from_numpy(target / shape).float().repeat(2)
