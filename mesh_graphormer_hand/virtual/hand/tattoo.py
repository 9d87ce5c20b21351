"""Tattoos on the back of the hand and the forearm: a sheet of drawings, and where one of them lies on a skin."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..rng import Draws

SIDE, DRAWINGS = 96, 8  # texels of a drawing, drawings of the sheet
COLOUR = np.array([1.25, 1.05, 0.9])  # what fresh ink takes from the logarithm of linear red, green, blue
PLACES = (-0.13, 0.075), (-0.02, 0.02)  # m along the arm from the wrist (fingers beyond 0), m across
HAIRY = 3.0  # palms and fingertips, which have no hair, take no ink either


def sample(rng: Draws, share: float) -> Float[np.ndarray, "b 7"]:
    """For each hand the strength (0: none), place along and across (m), 1/size (1/m), cosine and sine of the turn, and
    the drawing's number."""
    strength = rng.uniform(low=0.4, high=1.0) * rng.chance(share)
    place = [rng.uniform(low=low, high=high) for low, high in PLACES]
    angle = rng.uniform(high=2 * np.pi)
    size = rng.log_uniform(0.018, 0.07)
    drawing = rng.choice([1] * DRAWINGS)
    return np.stack([strength, *place, 1 / size, np.cos(angle), np.sin(angle), drawing], 1)


@lru_cache(maxsize=2)
def sheet(device: torch.device) -> Float[Tensor, "texels"]:
    """The drawings one after another, row by row: how much ink there is, 0 to 1."""
    rng = np.random.Generator(np.random.Philox(key=23))
    drawings = [_drawing(rng) for _ in range(DRAWINGS)]
    return torch.from_numpy(np.stack(drawings).reshape(-1)).to(device)


def cover(uv: Float[Tensor, "p 2"], hair: Float[Tensor, "p 1"], tattoo: Float[Tensor, "#p 7"]) -> Float[Tensor, "p 1"]:
    """How much ink there is at `uv` (m along and across), where as much `hair` grows; `tattoo` as `sample` gives it."""
    strength, at, scale, cosine, sine, drawing = tattoo.split([1, 2, 1, 1, 1, 1], -1)
    x, y = ((uv - at) * scale).split(1, -1)
    place = torch.cat([cosine * x - sine * y, sine * x + cosine * y], -1) + 0.5  # of the drawing's side
    inside = ((place >= 0) & (place < 1)).all(-1, keepdim=True)
    column, row = (place.clamp(0, 1 - 1e-6) * SIDE).long().unbind(-1)
    texel = (drawing[..., 0].long() * SIDE + row) * SIDE + column
    shown = sheet(uv.device).index_select(0, texel)[:, None]
    return shown * inside * strength * (HAIRY * hair).clamp(max=1)


def _drawing(rng: np.random.Generator) -> Float[np.ndarray, "side side"]:
    """Rings, rays and curls round a common middle, or lines of strokes as of writing; softened as ink spreads."""
    sheet, middle = np.zeros((SIDE, SIDE), np.float32), SIDE / 2

    def polar(radius: Float[np.ndarray, "n"], angle: Float[np.ndarray, "n"]) -> np.ndarray:
        return middle + SIDE * np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)

    def line(points: Float[np.ndarray, "n 2"], closed: bool = False) -> None:
        width = int(rng.integers(1, 5))
        cv2.polylines(sheet, [np.round(16 * points).astype(np.int32)], closed, 1.0, width, cv2.LINE_AA, 4)

    if rng.random() < 0.3:  # writing
        for y in np.linspace(0.25, 0.75, int(rng.integers(1, 4))):
            x = np.linspace(0.1, 0.9, 40)
            line(SIDE * np.stack([x, y + 0.06 * rng.standard_normal(40)], -1))
    else:
        petals, turns = int(rng.integers(3, 9)), np.linspace(0, 2 * np.pi, 120, endpoint=False)
        for radius in rng.uniform(0.12, 0.45, int(rng.integers(1, 4))):
            wave = 1 + rng.uniform(0, 0.35) * np.cos(petals * turns + rng.uniform(0, 6))
            line(polar(radius * wave / 1.35, turns), closed=True)
        for angle in np.arange(petals) * 2 * np.pi / petals:
            reach = np.linspace(0.05, rng.uniform(0.2, 0.45), 20)
            line(polar(reach, angle + rng.uniform(-2, 2) * reach))
    return cv2.GaussianBlur(sheet, (0, 0), 0.8)
