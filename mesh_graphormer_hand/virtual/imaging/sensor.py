"""What a camera does to the picture: occluders in front of it, blur, few pixels, exposure, colour, noise, JPEG."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from ..config import VirtualConfig
from ..rng import Streams
from ..scene.background import Picture, texture

LUMA = np.array([0.299, 0.587, 0.114])
EDGE_STEP_M = 0.006  # m
GAP_DEPTH_M = 0.015  # m behind the surroundings at which a gap is darkest
REDDISH = np.array([0.86, 1.0, 1.04])  # skin lights its own gaps
AREA = cv2.INTER_AREA
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
NOISE_TILE_PX = 512  # px, side of the noise that all samples cut from


def occlude(
    rng: np.random.Generator, config: VirtualConfig, picture: Picture
) -> tuple[Picture, Bool[np.ndarray, "h w"] | None]:
    """With some probability a scrap of another surface in front, and where it lies."""
    if rng.random() >= config.occluder:
        return picture, None
    size = len(picture)
    mask = np.zeros((size, size), np.float32)
    corners = rng.uniform(0.1, 0.9, 2) + rng.uniform(-0.22, 0.22, (int(rng.integers(3, 8)), 2))
    cv2.fillConvexPoly(mask, cv2.convexHull((corners * size).astype(np.int32)), 1.0, cv2.LINE_AA)
    front = texture(rng, config, size)
    return picture + (front - picture) * mask[..., None], mask > 0.5


def darken_gaps(rng: np.random.Generator, picture: Picture, depth: Float[np.ndarray, "h w"]) -> Picture:
    """Less ambient light where the surface lies behind what surrounds it, as between fingers. Linear colours."""
    size = len(picture)
    smooth = cv2.resize(cv2.merge([depth, (depth > 0).astype(np.float32)]), (size // 4, size // 4), interpolation=AREA)
    for _ in range(2):  # twice a box is near enough a smooth kernel
        smooth = cv2.blur(smooth, (max(3, size // 64 | 1),) * 2)
    around = cv2.resize(smooth[..., 0] / np.maximum(smooth[..., 1], 1e-6), (size, size))
    behind = np.clip((depth - around) * np.float32(1 / GAP_DEPTH_M), 0, 1)
    darkest = rng.uniform(0.25, 0.7)
    return cv2.multiply(picture, cv2.transform(behind, np.stack([-darkest * REDDISH, np.ones(3)], 1)))


def cast_shadow(
    rng: np.random.Generator,
    picture: Picture,
    depth: Float[np.ndarray, "h w"],
    focal: float,
    light: Float[np.ndarray, "3"],
    share: float,
) -> Picture:
    """The shadow of all that is drawn on a wall or table some way behind it. Linear colours.

    Args:
        focal: px that a metre at the hand's distance spans.
        light: direction towards the light, camera axes.
        share: of the background's light that comes from there.
    """
    if light[2] > -0.25:  # from behind: the shadow falls towards the camera
        return picture
    gap = np.exp(rng.uniform(np.log(0.008), np.log(0.25)))  # m
    size, step = len(picture), max(1, len(picture) // 96)
    small = cv2.resize((depth > 0).astype(np.float32), None, fx=1 / step, fy=1 / step, interpolation=AREA)
    shift = light[:2] / light[2] * gap * focal / step
    affine = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    small = cv2.warpAffine(small, affine, small.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    sigma = max(0.6, rng.uniform(0.06, 0.4) * gap * focal / step)
    small = cv2.GaussianBlur(small, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    dark = cv2.resize(small, (size, size)) * (depth == 0) * np.float32(min(0.85, 0.25 + share))
    return cv2.multiply(picture, cv2.transform(dark, np.tile([-1.0, 1.0], (3, 1))))


def soften_edges(picture: Picture, depth: Float[np.ndarray, "h w"]) -> Picture:
    """Smooth what one sample a pixel leaves jagged: outlines and steps of more than `EDGE_STEP_M` m inside the hand.

    Cheaper than supersampling, and inner edges come out as smooth as the silhouette.
    """
    step = cv2.dilate(depth, CROSS) - cv2.erode(depth, CROSS)
    return cv2.copyTo(cv2.GaussianBlur(picture, (3, 3), 0.85), (step > EDGE_STEP_M).view(np.uint8), picture.copy())


def expose(streams: Streams, config: VirtualConfig, picture: Picture) -> UInt8[np.ndarray, "h w 3"]:
    """The picture as a camera stores it. Every fault has a stream of its own: switching one off leaves the others."""
    picture = _optics(streams, config, picture)
    exposure, noise, jpeg = (streams[topic] for topic in ("sensor", "noise", "jpeg"))
    picture = cv2.transform(picture, _colour_matrix(exposure, config.photometric))
    if noise.random() < config.noise:
        picture += _noise(noise, len(picture)) * np.float32(noise.uniform(0.05, 0.17) ** 2)
    stored = cv2.convertScaleAbs(np.clip(picture, 0, 1, out=picture), alpha=255)
    gamma = np.exp(0.12 * config.photometric * exposure.standard_normal())
    stored = cv2.LUT(stored, _curve(gamma))
    if jpeg.random() < config.jpeg:
        quality = int(jpeg.integers(40, 97))
        stored = cv2.imdecode(cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return stored


def _optics(streams: Streams, config: VirtualConfig, picture: Picture) -> Picture:
    size = len(picture)
    resolution, blur, motion = (streams[topic] for topic in ("resolution", "blur", "motion"))
    if resolution.random() < config.low_resolution:
        few = int(size * resolution.uniform(0.35, 0.85))
        picture = cv2.resize(picture, (few, few), interpolation=cv2.INTER_AREA)
        how = cv2.INTER_LINEAR if resolution.random() < 0.6 else cv2.INTER_CUBIC
        picture = cv2.resize(picture, (size, size), interpolation=how)
    if blur.random() < config.blur:
        picture = cv2.GaussianBlur(picture, (0, 0), size / 160 * blur.uniform(0.35, 1.4))
    else:  # no lens and no mosaic of colours is as sharp as a rendering
        picture = cv2.GaussianBlur(picture, (3, 3), blur.uniform(0.3, 0.6))
    if motion.random() < config.motion_blur:
        picture = cv2.filter2D(picture, -1, _streak(motion, size))
    return picture


def _streak(rng: np.random.Generator, size: int) -> Float[np.ndarray, "k k"]:
    """Kernel of a motion of up to a twentieth of the picture."""
    half = max(1, int(size * rng.uniform(0.01, 0.025)))
    angle = rng.uniform(0, np.pi)
    dx, dy = half * np.cos(angle), half * np.sin(angle)
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    cv2.line(kernel, (round(half - dx), round(half - dy)), (round(half + dx), round(half + dy)), 1.0)
    return kernel / kernel.sum()


def _colour_matrix(rng: np.random.Generator, strength: float) -> Float[np.ndarray, "3 4"]:
    """Exposure, contrast, brightness, white balance and saturation are one affine map of RGB."""
    exposure, contrast, brightness, saturation, *balance = strength * rng.standard_normal(7)
    gain = np.exp(0.09 * exposure) * (1 + 0.03 * np.array(balance))
    kept = np.clip(0.97 + 0.11 * saturation, 0, 1.4)
    mix = kept * np.eye(3) + (1 - kept) * LUMA
    steep = np.exp(0.05 + 0.1 * contrast)
    return np.column_stack([steep * mix * gain, np.full(3, 0.5 * (1 - steep) + 0.025 * brightness)])


def _noise(rng: np.random.Generator, size: int) -> Float[np.ndarray, "h w 3"]:
    """Standard normal noise cut from a shared tile at random, at one of two grains."""
    tile = _tile(bool(rng.random() < 0.4))
    if size > NOISE_TILE_PX:
        tile = np.tile(tile, (size // NOISE_TILE_PX + 2, size // NOISE_TILE_PX + 2, 1))
    y, x = (int(v) for v in rng.integers(0, len(tile) - size + 1, 2))
    step = int(rng.choice((-1, 1)))
    return tile[y : y + size, x : x + size][:, ::step, :: int(rng.choice((-1, 1)))]


@lru_cache(maxsize=2)
def _tile(coarse: bool) -> Float[np.ndarray, "tile tile 3"]:
    noise = np.random.Generator(np.random.Philox(key=7)).standard_normal((NOISE_TILE_PX, NOISE_TILE_PX, 3), np.float32)
    if coarse:
        noise = cv2.GaussianBlur(noise, (0, 0), 0.8)
    return noise / noise.std()


def _curve(gamma: float) -> UInt8[np.ndarray, "256"]:
    return np.round(255 * np.linspace(0, 1, 256) ** gamma).astype(np.uint8)
