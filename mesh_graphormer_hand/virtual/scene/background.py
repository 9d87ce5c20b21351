"""What is behind the hand: rooms, tables, gardens, materials, clutter, some of it of the skin's colour; or photographs.

Pictures are float32 RGB screen values in [0, 1], drawn with OpenCV at the crop's size.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ...config import ConfigError
from ..config import VirtualConfig
from . import scenery

Picture = Float[np.ndarray, "h w 3"]
PHOTOGRAPH_SIDE_PX = 512  # px, longer side that photographs are kept at
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def paint(rng: np.random.Generator, config: VirtualConfig, skin: Float[np.ndarray, "3"], size: int) -> Picture:
    """A background; `skin`: the hand's own screen colour, which some of what is there shares."""
    if config.scenery < 1 and rng.random() >= config.scenery:
        return np.full((size, size, 3), rng.random(3), np.float32)
    if config.backgrounds and rng.random() < config.photograph:
        picture = _photograph(rng, config.backgrounds, size)
        return _lens(rng, picture, 0.3)
    kind = rng.choice(5, p=(0.36, 0.2, 0.14, 0.18, 0.12))
    if kind == 4:
        return _lens(rng, _abstract(rng, config, skin, size), 0.4)
    if kind == 3:
        picture = scenery.material(rng, size)
    else:
        picture = (scenery.room, scenery.table, scenery.outdoors)[kind](rng, size, skin)
    picture = _framed(rng, picture) if kind != 3 or rng.random() < 0.5 else picture
    bright = rng.uniform(0.8, 1.25) / 255
    picture = picture * np.float32(bright)
    if rng.random() < 0.7:  # uneven light
        light = cv2.resize(rng.uniform(1 - 0.6 * rng.random(), 1.1, (2, 2)).astype(np.float32), (size, size))
        picture = cv2.multiply(picture, cv2.merge([light] * 3))
    return _lens(rng, picture, 0.65 if kind in (0, 2) else 0.3)


def _framed(rng: np.random.Generator, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A turned and enlarged part of it: cameras tilt, and crops are parts of larger pictures."""
    size = len(picture)
    turn = rng.normal() * 6 if rng.random() < 0.6 else rng.uniform(-180, 180)
    affine = cv2.getRotationMatrix2D((size / 2, size / 2), float(turn), float(rng.uniform(1.0, 2.2)))
    affine[:, 2] += rng.uniform(-0.2, 0.2, 2) * size
    return cv2.warpAffine(picture, affine, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _lens(rng: np.random.Generator, picture: Picture, blurred: float | int) -> Picture:
    """Out of focus, often: the hand is what is looked at."""
    if rng.random() < blurred:
        sigma = len(picture) / 224 * rng.uniform(0.5, 4.0) ** rng.uniform(0.6, 1.3)
        picture = _soft(picture, sigma)
    return np.clip(picture, 0, 1, out=picture)


def _soft(picture: Picture, sigma: float | int) -> Picture:
    """Gaussian blur; a wide one on a smaller picture, which is much faster and looks the same."""
    if sigma < 2:
        return cv2.GaussianBlur(picture, (0, 0), sigma)
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / 2), (width, height), interpolation=cv2.INTER_LINEAR)


def _abstract(rng: np.random.Generator, config: VirtualConfig, skin: Float[np.ndarray, "3"], size: int) -> Picture:
    """Anything: patterns, edges, scraps and limbs."""
    picture = texture(rng, config, size)
    if rng.random() < 0.4:
        picture = _edge(rng, picture, texture(rng, config, size))
    coarse = rng.uniform(0.15, 1)  # a few large objects, or many small ones
    for _ in range(int(rng.choice((0, 1, 2, 4, 8)) / coarse)):
        _clutter(rng, picture, skin, coarse)
    if rng.random() < 0.45:
        grain = _speckle(rng, size)
        picture *= (1 + np.float32(rng.uniform(0.05, 0.5)) * (grain - 0.5))[..., None]
    return picture * np.float32(rng.uniform(0.7, 1.2))


def texture(rng: np.random.Generator, config: VirtualConfig, size: int) -> Picture:
    """One wall, cloth, or photograph that fills the picture."""
    if config.backgrounds and rng.random() < config.photograph:
        return _photograph(rng, config.backgrounds, size)
    if rng.random() < 0.5:
        return scenery.material(rng, size).astype(np.float32) / 255
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


def _resize(small: Float[np.ndarray, "h w"], size: int, how: int = cv2.INTER_LINEAR) -> np.ndarray:
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
    """Draw one object into `picture`: a bar, a box, a disc, a scrap, or a limb of skin."""
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
        raise ConfigError(f"backgrounds: {folder} holds no picture ({', '.join(SUFFIXES)})")
    return found


@lru_cache(maxsize=128)
def _read(path: str) -> np.ndarray:
    photo = cv2.imread(path, cv2.IMREAD_COLOR)
    if photo is None:
        raise ConfigError(f"backgrounds: {path} is not a picture that OpenCV reads")
    scale = PHOTOGRAPH_SIDE_PX / max(photo.shape)
    if scale < 1:
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(photo[..., ::-1])
