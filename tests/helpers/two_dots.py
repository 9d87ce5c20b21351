"""A photo that a stub can understand: a red dot for the wrist, a green one 0.1 m away for the middle finger's base."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from mesh_graphormer_hand.config import CropSpec
from mesh_graphormer_hand.contracts import HandInputs, HandPrediction
from mesh_graphormer_hand.geometry.cameras import crop_to_pixels, weak_perspective
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.mano.layer import ManoLayer
from mesh_graphormer_hand.mano.template import hand_template

MIDDLE = 9  # the joint at the green dot
METRES = 0.1  # between the dots


def photo(red: tuple[float, float], green: tuple[float, float], height: int, width: int, sigma: float) -> np.ndarray:
    """RGB uint8; dots at (x, y) px from the corner."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    image = np.zeros((height, width, 3))
    for channel, (u, v) in enumerate((red, green)):
        image[..., channel] = 255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2))
    return np.rint(image).astype(np.uint8)


class TwoDots(nn.Module):
    """Finds the dots in each crop; the hand's template, turned to point from red to green, stands there."""

    def __init__(self, image_size: int = 96) -> None:
        super().__init__()
        hand = hands.load("open")
        self.template = hand_template(hand)
        self.config = SimpleNamespace(
            image_size=image_size, name="two_dots", hand=hand.fingerprint_hex, crop_spec=CropSpec()
        )
        self.looks = 0

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """See the class."""
        self.looks += 1
        image = inputs.image
        size = image.shape[-1]
        dots = torch.stack([centroid(image[:, c]) for c in (0, 1)], 1)  # b, (red, green), px
        step = dots * (2 / size) - 1
        along = step[:, 1] - step[:, 0]
        length = along.norm(dim=-1, keepdim=True).clamp_min(1e-3)
        camera = torch.cat([length / METRES, step[:, 0] / (length / METRES)], 1)
        bone = nn.functional.pad(along / length * METRES, (0, 1))  # b, xyz
        t = self.template
        share = (t.joints[:, 0] / t.joints[MIDDLE, 0])[:, None]
        joints = bone[:, None] * share + torch.tensor([0, 0, 0.02]) * share
        vertices = bone[:, None] * (t.vertices[:, :1] / t.joints[MIDDLE, 0]) + t.vertices * torch.tensor([0, 1.0, 1.0])
        return HandPrediction(
            joints=joints,
            joints_2d=crop_to_pixels(weak_perspective(joints, camera), float(size)),
            vertices=vertices,
            camera=camera,
            mask=image[:, 0] - 0.5,
            confidence=torch.full((len(image), 21), 0.75),
        )


class Judge(TwoDots):
    """And says what it sees: a right hand where green is on the right of red; no hand where the picture is blue."""

    def __init__(self, image_size: int = 96, side: float = 3.0, presence: float = 4.0) -> None:
        """`side`, `presence`: log-odds of what it says."""
        super().__init__(image_size)
        self.side, self.presence = side, presence

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """See the class."""
        red, green, blue = inputs.image.unbind(1)
        left = centroid(green)[:, 0] < centroid(red)[:, 0]
        hand = blue.mean((1, 2)) < 0.3
        odds = {"left_logit": self.side * (left * 2.0 - 1), "presence_logit": self.presence * (hand * 2.0 - 1)}
        return replace(super().forward(inputs), **odds)


def centroid(image: Tensor) -> Tensor:
    """Centre of mass (b, 2) in px of (b, h, w)."""
    places = torch.arange(image.shape[-1]) + 0.5
    weight = image.clamp_min(0.1) - 0.1
    total = weight.sum((1, 2)).clamp_min(1e-6)
    return torch.stack([(weight.sum(1) * places).sum(1) / total, (weight.sum(2) * places).sum(1) / total], 1)


def left_mesh(pose: list, shape: list) -> np.ndarray:
    """Vertices (778, 3) of the left open hand, m from the wrist, for 16 axis-angles and 10 betas."""
    layer = ManoLayer(use_pca=False, flat_hand_mean=True, side="left", hand=hands.mirrored(hands.load("open")))
    vertices, joints = layer(torch.tensor([pose]).flatten(1), torch.tensor([shape]))
    return (vertices - joints[:, :1])[0].numpy()


class Finder:
    """Finds what it was told to find."""

    name = "finder"

    def __init__(self, *found):
        self.found = list(found)

    def detect(self, photo):
        return self.found
