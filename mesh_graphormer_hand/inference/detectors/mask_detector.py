"""One hand by a network that gives the hand's mask, such as HandSegNet (Zimmermann and Brox, ICCV 2017).

The likeliest pixel of the hand seeds a region that grows, 10 px of the network's image at a time, over the pixels that
are more likely hand than not; its box is the detection. With a chain of PoseNet and PosePrior as the model it is the
whole system of that paper: HandSegNet, crop, PoseNet, PosePrior.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import nn

from ... import assembly
from ...config import ConfigError
from ...contracts import HandInputs
from .base import Detection
from .hand_detector import fit_in

GROWTH = 21  # px of the network's image, side of the square by which a region grows at a time
MIN_PIXELS = 16  # of a region that is a hand


class MaskDetector:
    """The network and how its mask becomes a box."""

    name = "mask"

    def __init__(self, weights: str | Path | nn.Module, device: str | torch.device = "cpu") -> None:
        """`weights`: a model that gives masks, or a run, a folder or the name of shipped weights of one.

        Raises:
            ConfigError: no such weights, or weights of another kind of model.
        """
        model = weights if isinstance(weights, nn.Module) else assembly.load_model(assembly.find_model(weights))
        if "mask" not in model.produces:
            raise ConfigError(f"{model.config.name} gives no mask of a hand")
        self.model, self.device = model.to(device).eval(), torch.device(device)

    @torch.inference_mode()
    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """The hand, or none."""
        image, scale = fit_in(photo, self.model.config.image_size)
        odds = self.model(HandInputs(image=image[None].to(self.device))).mask[0].float().cpu()
        height, width = (round(float(s * n)) for s, n in zip(scale[[1, 0]], photo.shape[:2], strict=True))
        odds = odds[:height, :width]  # what is beyond them is padding
        region = grow(odds.numpy())
        if region.sum() < MIN_PIXELS:
            return []
        rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32) / scale.numpy()
        return [Detection(box.astype(np.float32), float(odds.max().sigmoid()))]


def grow(odds: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The region of positive log-odds round the likeliest pixel; gaps of 10 px do not end it."""
    foreground = (odds > 0).astype(np.uint8)
    region = np.zeros_like(foreground)
    region[np.unravel_index(odds.argmax(), odds.shape)] = 1
    region &= foreground
    kernel = np.ones((GROWTH, GROWTH), np.uint8)
    while True:
        larger = cv2.dilate(region, kernel) & foreground
        if (larger == region).all():
            return region
        region = larger
