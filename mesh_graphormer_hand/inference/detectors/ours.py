"""Our own detector: the network `models/hand_detector.py` with the weights in the box.

The photo is looked at twice: brought to a longer side of `size` px, so that hands from about a twentieth of it on are
found, and to half of that, which makes of a hand that fills the picture one of a size that the network knows well.
The surer of two boxes of one hand stays. Boxes are the hand's own (wrist to fingertips), not the forearm's.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ... import assembly
from ...config import ConfigError
from ...contracts import HandInputs
from ...data.images import to_tensor
from ...geometry.boxes import suppress
from ...models.base import HandModel
from .base import Detection, Side

WEIGHTS = "hand_detector"
THRESHOLD = 0.65  # of scores, which say how likely a hand is; faces and tools score up to 0.6 and more
LARGER = 4 / 3  # than the frames that the network was trained on, photos are looked at
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
        """`size`: px, longer side that photos are brought to first, by default LARGER times what the network knows.

        Raises:
            ConfigError: no such weights, or weights of another kind of model.
        """
        model = assembly.load_model(assembly.find_model(weights or WEIGHTS)).eval()
        self.model = _folded(model).to(device, memory_format=torch.channels_last)
        if "box_maps" not in self.model.produces:
            raise ConfigError(f"{weights}: the model {self.model.config.name} is no hand detector")
        self.device = torch.device(device)
        self.threshold = THRESHOLD if threshold is None else threshold
        self.sizes = [size or round(LARGER * self.model.config.image_size)]
        self.sizes.append(self.sizes[0] // 2)

    @torch.inference_mode()
    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """Hands whose score is above the threshold, the surest first."""
        boxes, scores, left = (torch.cat(v) for v in zip(*(self._look(photo, s) for s in self.sizes), strict=True))
        kept = scores >= self.threshold
        boxes, scores, left = boxes[kept], scores[kept], left[kept]
        limit = torch.tensor(photo.shape[1::-1], dtype=torch.float32).repeat(2)
        boxes = torch.minimum(boxes.clamp_min(0), limit)
        whole = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)  # of at least a pixel of the photo
        boxes, scores, left = boxes[whole], scores[whole], left[whole]
        kept = suppress(boxes, scores, OVERLAP)
        found = [Detection(boxes[i].numpy(), float(scores[i]), *_side(float(left[i]))) for i in kept]
        return [replace(d, least_presence=DOUBTED) for d in found]

    def _look(
        self, photo: UInt8[np.ndarray, "h w 3"], size: int
    ) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n"], Float[Tensor, "n"]]:
        """Boxes (px of the photo), how likely each is a hand and how likely a left one, seen at `size` px."""
        image, scale = fit_in(photo, size)
        image = image[None].to(self.device, memory_format=torch.channels_last)
        maps = self.model(HandInputs(image=image)).box_maps.float().cpu()
        boxes, heat, left = (v[0] for v in self.model.box_codec.decode(maps))
        return boxes / scale, self.model.likelihood(heat), left


def _folded(model: HandModel) -> HandModel:
    """The network with its batch norms inside the convolutions before them: the same answers, sooner."""
    for block in (m for m in model.modules() if isinstance(m, nn.Sequential)):
        for k, (layer, following) in enumerate(itertools.pairwise(list(block))):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                block[k], block[k + 1] = fuse_conv_bn_eval(layer, following), nn.Identity()
    return model


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
