"""Brushes on 8-bit RGB screens: shapes, fractal noise, shading. Lengths are in shares of the screen's side."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8

Screen = UInt8[np.ndarray, "h w 3"]
Random = np.random.Generator
Number = float | int
AA = cv2.LINE_AA
FRACTAL_TILE_PX = 512  # of the shared fractal noise
SUBPIXEL_BITS = 3


def fill(screen: UInt8[np.ndarray, "h w *c"], corners, paint) -> None:
    """A convex polygon."""
    points = np.maximum(np.minimum(np.asarray(corners, np.float64), 20), -20) * (len(screen) << SUBPIXEL_BITS)
    cv2.fillConvexPoly(screen, points.astype(np.int32), _bytes_of(paint), AA, SUBPIXEL_BITS)


def rectangle(screen: UInt8[np.ndarray, "h w *c"], x: Number, y: Number, w: Number, h: Number, paint) -> None:
    """Upright, from its top left corner."""
    n = len(screen)
    cv2.rectangle(screen, (int(n * x), int(n * y)), (int(n * (x + w)), int(n * (y + h))), _bytes_of(paint), -1)


def line(screen: UInt8[np.ndarray, "h w *c"], start, stop, paint, width: int) -> None:
    """A stroke of `width` px."""
    n = len(screen)
    a, b = ((int(n * min(max(p[0], -20), 20)), int(n * min(max(p[1], -20), 20))) for p in (start, stop))
    cv2.line(screen, a, b, _bytes_of(paint), max(1, width), AA)


def ellipse(screen: UInt8[np.ndarray, "h w *c"], centre, half, turn: Number, paint) -> None:
    """A filled ellipse, turned by degrees."""
    n = len(screen)
    axes = max(1, int(n * half[0])), max(1, int(n * half[1]))
    cv2.ellipse(screen, (int(n * centre[0]), int(n * centre[1])), axes, float(turn), 0, 360, _bytes_of(paint), -1, AA)


def box(
    screen: UInt8[np.ndarray, "h w *c"],
    centre: Float[np.ndarray, "2"],
    half: Float[np.ndarray, "2"],
    turn: Number,
    paint,
) -> None:
    """A filled rectangle of half sizes `half`, turned by degrees."""
    corners = cv2.boxPoints(
        (tuple((centre * len(screen)).tolist()), tuple((2 * half * len(screen)).tolist()), float(turn))
    )
    cv2.fillConvexPoly(screen, (corners * (1 << SUBPIXEL_BITS)).astype(np.int32), _bytes_of(paint), AA, SUBPIXEL_BITS)


def noise(rng: Random, size: int, scale: Number) -> Float[np.ndarray, "size size"]:
    """Fractal noise in [0, 1], `scale` times as fine as its tile, from anywhere in it."""
    window = int(np.clip(size * scale, 16, FRACTAL_TILE_PX))
    y, x = rng.integers(0, FRACTAL_TILE_PX - window + 1, 2)
    part = _fractal()[y : y + window, x : x + window]
    part = part[:: int(rng.choice((-1, 1))), :: int(rng.choice((-1, 1)))]
    return cv2.resize(np.ascontiguousarray(part), (size, size), interpolation=cv2.INTER_LINEAR)


@lru_cache(maxsize=1)
def _fractal() -> Float[np.ndarray, "tile tile"]:
    rng = np.random.Generator(np.random.Philox(key=5))
    total = np.zeros((FRACTAL_TILE_PX, FRACTAL_TILE_PX), np.float32)
    for octave in range(1, 9):
        field = rng.standard_normal((2**octave, 2**octave)).astype(np.float32)
        total += 0.62**octave * cv2.resize(field, (FRACTAL_TILE_PX, FRACTAL_TILE_PX), interpolation=cv2.INTER_CUBIC)
    return np.clip(0.5 + 0.2 * (total - total.mean()) / total.std(), 0, 1).astype(np.float32)


def to_bytes(values: Float[np.ndarray, "*s"]) -> np.ndarray:
    """Values in [0, 1] as bytes."""
    return np.maximum(np.minimum(values * np.float32(255), 255), 0).astype(np.uint8)


def shaded(paint: Float[np.ndarray, "3"], low: Number, gain: Number, light: Float[np.ndarray, "h w"]) -> Screen:
    """One colour under a pattern of light (low + gain x light)."""
    rows = np.stack([gain * paint, low * paint], 1) * 255
    return cv2.convertScaleAbs(cv2.transform(light, rows))


def _bytes_of(paint) -> tuple[float, ...] | float:
    if isinstance(paint, int):  # of a mask
        return float(paint)
    return tuple(255 * min(max(float(v), 0.0), 1.0) for v in paint)
