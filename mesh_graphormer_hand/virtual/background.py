"""What is behind the hand: gradients, noise, weaves, edges, clutter, some of it of the skin's colour; or photographs.

Pictures are float32 RGB screen values in [0, 1], drawn with OpenCV at the crop's size.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from ..config import ConfigError
from .config import VirtualConfig

Picture = Float[np.ndarray, "h w 3"]
PHOTOGRAPH_SIDE = 512  # px, longer side that photographs are kept at
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def paint(rng: np.random.Generator, config: VirtualConfig, skin: Float[np.ndarray, "3"], size: int) -> Picture:
    """A background; `skin`: the hand's own colour, which some of the clutter shares."""
    picture = surface(rng, config, size)
    if rng.random() < 0.4:
        picture = _edge(rng, picture, surface(rng, config, size))
    coarse = rng.uniform(0.15, 1)  # a few large things, or many small ones
    for _ in range(int(rng.choice((0, 1, 2, 4, 8)) / coarse)):
        _clutter(rng, picture, skin, coarse)
    if rng.random() < 0.45:
        grain = _speckle(rng, size)
        picture *= (1 + np.float32(rng.uniform(0.05, 0.5)) * (grain - 0.5))[..., None]
    if rng.random() < 0.4:  # out of focus
        sigma = size / 160 * rng.uniform(0.4, 3)
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    picture *= np.float32(rng.uniform(0.6, 1.4))
    return np.clip(picture, 0, 1, out=picture)


def surface(rng: np.random.Generator, config: VirtualConfig, size: int) -> Picture:
    """One wall, cloth, or photograph that fills the picture."""
    if config.photographs and rng.random() < config.photograph:
        return _photograph(rng, config.photographs, size)
    dark, light = _two_colours(rng)
    kind = rng.choice(6, p=(0.14, 0.2, 0.24, 0.14, 0.14, 0.14))
    if kind == 0:
        return np.full((size, size, 3), dark, np.float32)
    pattern = (_gradient, _cloud, _waves, _checks, _speckle)[kind - 1](rng, size)
    return cv2.transform(pattern.astype(np.float32, copy=False), np.stack([light - dark, dark], 1))


def _two_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two screen colours, rarely saturated, often alike."""
    colours = rng.random((2, 3)).astype(np.float32)
    colours += (colours.mean(1, keepdims=True) - colours) * np.float32(rng.random() ** 0.4)
    if rng.random() < 0.55:
        colours[1] = colours[0] + 0.1 * rng.standard_normal(3)
    return colours[0], colours[1].clip(0, 1)


def _resize(small: np.ndarray, size: int, how: int = cv2.INTER_LINEAR) -> np.ndarray:
    return cv2.resize(small, (size, size), interpolation=how)


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    return _resize(rng.random((2, 2), np.float32), size)


def _cloud(rng: np.random.Generator, size: int) -> np.ndarray:
    """Fractal noise."""
    side = int(rng.integers(2, 5))
    picture, gain = rng.random((side, side), np.float32), float(rng.uniform(0.35, 0.75))
    for octave in range(1, 5):
        side = picture.shape[0] * 2
        picture = _resize(picture, side, cv2.INTER_CUBIC)
        picture += np.float32(gain**octave) * (rng.random((side, side), np.float32) - 0.5)
    return _resize(np.clip(picture, 0, 1), size)


def _waves(rng: np.random.Generator, size: int) -> np.ndarray:
    """Stripes and weaves."""
    line = np.arange(size, dtype=np.float32) / size
    angle, frequency = rng.uniform(0, np.pi), 2 * np.pi * np.exp(rng.uniform(0.7, 3.9))
    x, y = np.float32(frequency * np.cos(angle)) * line, np.float32(frequency * np.sin(angle)) * line[:, None]
    pattern = np.sin(x) * np.cos(y) + np.cos(x) * np.sin(y)  # sin(x + y) by two short sines
    if rng.random() < 0.4:
        pattern = pattern * (np.cos(x) * np.cos(y) + np.sin(x) * np.sin(y))
    if rng.random() < 0.5:
        pattern = np.clip(pattern * 6, -1, 1)
    return 0.5 + 0.5 * pattern


def _checks(rng: np.random.Generator, size: int) -> np.ndarray:
    """Tiles, shelves, books: a grid of plain cells, turned."""
    rows, columns = (int(rng.integers(2, 14)) for _ in range(2))
    cells = cv2.resize(rng.random((rows, columns), np.float32), (size, size), interpolation=cv2.INTER_NEAREST)
    turn = rng.choice((0.0, 0.0, rng.uniform(-180, 180)))
    if turn == 0:
        return cells
    affine = cv2.getRotationMatrix2D((size / 2, size / 2), float(turn), 1.5)
    return cv2.warpAffine(cells, affine, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _speckle(rng: np.random.Generator, size: int) -> np.ndarray:
    """Gravel, grass, fabric: noise of one scale."""
    side = int(rng.integers(8, max(size // 2, 9)))
    picture = _resize(rng.random((side, side), np.float32), size, cv2.INTER_CUBIC)
    return np.clip((picture - 0.5) * np.float32(rng.uniform(0.4, 1.8)) + 0.5, 0, 1)


def _edge(rng: np.random.Generator, picture: Picture, other: Picture) -> Picture:
    """Two surfaces that meet in a straight line: a table's edge, a door, a corner."""
    size = len(picture)
    mask = np.zeros((size, size), np.float32)
    angle, point = rng.uniform(0, 2 * np.pi), rng.uniform(0, size, 2)
    along = 3 * size * np.array([np.cos(angle), np.sin(angle)])
    beside = np.array([-along[1], along[0]])
    corners = np.array([point - along, point + along, point + along + beside, point - along + beside])
    cv2.fillConvexPoly(mask, corners.astype(np.int32), 1.0, cv2.LINE_AA)
    return picture + (other - picture) * mask[..., None]


def _clutter(rng: np.random.Generator, picture: Picture, skin: Float[np.ndarray, "3"], coarse: float) -> None:
    """Draw one thing into `picture`: a bar, a box, a disc, a scrap, or a limb of skin."""
    size = len(picture)
    limb = rng.random() < 0.2 * coarse
    colour = skin + 0.06 * rng.standard_normal(3) if limb else rng.random(3) * rng.uniform(0.3, 1)
    colour = tuple(float(c) for c in np.clip(colour, 0, 1))
    centre, reach = rng.uniform(-0.1, 1.1, 2) * size, coarse * size
    p, q = (tuple(int(v) for v in centre + sign * reach * rng.uniform(0.05, 0.7, 2)) for sign in (-1, 1))
    kind = 0 if limb else int(rng.integers(4))
    if kind == 0:
        q = q if rng.random() < 0.5 else (q[0], 2 * p[1] - q[1])
        cv2.line(picture, p, q, colour, max(1, int(reach * rng.uniform(0.01, 0.18))), cv2.LINE_AA)
    elif kind == 1:
        cv2.rectangle(picture, p, q, colour, -1 if rng.random() < 0.7 else max(1, size // 80))
    elif kind == 2:
        axes = tuple(int(1 + reach * v) for v in rng.uniform(0.02, 0.3, 2))
        cv2.ellipse(picture, p, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    else:
        corners = centre + reach * rng.uniform(-0.5, 0.5, (int(rng.integers(3, 6)), 2))
        cv2.fillPoly(picture, [corners.astype(np.int32)], colour, cv2.LINE_AA)


# --------------------------------------------------------------------------------------------------------- photographs


def _photograph(rng: np.random.Generator, folder: str, size: int) -> Picture:
    """A random crop, mirrored half of the time."""
    photographs = _photographs(folder)
    photo = _read(photographs[int(rng.integers(len(photographs)))])
    height, width = photo.shape[:2]
    side = min(height, width) * rng.uniform(0.35, 1)
    x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
    crop = photo[int(y) : int(y + side), int(x) : int(x + side)]
    crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    return np.ascontiguousarray(crop, np.float32) / 255


@lru_cache(maxsize=8)
def _photographs(folder: str) -> tuple[str, ...]:
    found = tuple(sorted(str(p) for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES))
    if not found:
        raise ConfigError(f"photographs: {folder} holds no picture ({', '.join(SUFFIXES)})")
    return found


@lru_cache(maxsize=128)
def _read(path: str) -> np.ndarray:
    photo = cv2.imread(path, cv2.IMREAD_COLOR)
    if photo is None:
        raise ConfigError(f"photographs: {path} is not a picture that OpenCV reads")
    scale = PHOTOGRAPH_SIDE / max(photo.shape)
    if scale < 1:
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(photo[..., ::-1])
