"""One tile of noise for every surface: mottling, grain, freckles and hair, drawn once and cut from at random."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

TILE_TEXELS = 512  # texels; a power of two
MIN_TEXEL_M = 0.0005  # m a texel, at least


@lru_cache(maxsize=2)
def tile(device: torch.device) -> Float[Tensor, "texels 4"]:
    """Mottling and grain (mean 0, deviation 1), freckles (0 to 1), hair (0 to 1), as rows."""
    rng = np.random.Generator(np.random.Philox(key=11))

    def blurred(sigma: float | int) -> np.ndarray:
        edge = int(4 * sigma) + 1
        field = np.pad(rng.standard_normal((TILE_TEXELS, TILE_TEXELS)), edge, mode="wrap")
        field = cv2.GaussianBlur(field, (0, 0), sigma)[edge:-edge, edge:-edge]
        return (field - field.mean()) / field.std()

    mottle = 0.7 * blurred(7) + 0.6 * blurred(2.5)
    grain = 0.75 * blurred(0.9) + 0.65 * rng.standard_normal((TILE_TEXELS, TILE_TEXELS))
    spots = np.clip(2.2 * (blurred(1.3) - 1.7), 0, 1) * np.clip(0.5 + blurred(30), 0, 1)
    channels = [c.astype(np.float32).reshape(-1) for c in (mottle, grain, spots, _hair(rng))]
    return torch.from_numpy(np.stack(channels, 1)).to(device)


def _hair(rng: np.random.Generator) -> Float[np.ndarray, "side side"]:
    """Short strokes, mostly towards the little finger's side of the arm."""
    sheet = np.zeros((TILE_TEXELS, TILE_TEXELS), np.float32)
    for _ in range(1500):
        x, y = rng.uniform(0, TILE_TEXELS, 2)
        angle, length = 1.1 + 0.35 * rng.standard_normal(), rng.uniform(8, 22)
        stroke = np.array([[x, y], [x + 0.5 * length * np.cos(angle), y + 0.5 * length * np.sin(angle)]])
        bent = angle + 0.3 * rng.standard_normal()
        end = stroke[1] + 0.5 * length * np.array([np.cos(bent), np.sin(bent)])
        points = np.round(16 * np.vstack([stroke, end])).astype(np.int32)
        cv2.polylines(sheet, [points], False, float(rng.uniform(0.4, 1)), 1, cv2.LINE_AA, 4)
    return sheet


def rows(uv: Float[Tensor, "p 2"], shift: Float[Tensor, "#p 2"], texel: Float[Tensor, "#p 1"]) -> Int64[Tensor, "p"]:
    """Rows of the tile at `uv` m with texels of `texel` m, from `shift` (in tiles) on."""
    place = (uv / texel + shift * TILE_TEXELS).long().bitwise_and_(TILE_TEXELS - 1)
    return place[:, 1] * TILE_TEXELS + place[:, 0]
