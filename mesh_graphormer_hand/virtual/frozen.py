"""What freezes a split: a hash of all its random numbers, and thumbnails of 16 of its images.

Random numbers are equal on every machine once they are rounded, so a hash decides. Pixels are not: processors differ in
the last bits of a sum, and a value next to a rounding edge falls on either side, however coarse the steps. (Of 16
images' 6,144 numbers some always lie next to an edge.) So thumbnails are compared to stored ones within a tolerance.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8

from ..mano.hand import Hand
from .config import VirtualConfig
from .generator import VirtualHands
from .hand.anatomy import Anatomy
from .parameters import draw
from .records import arrays
from .rng import TOPICS, generator
from .scene import second_hand

HASH_STEP = 1e-4  # numbers are rounded to this before hashing: machines differ in the last bits of a sine
FIRST_NUMBERS = 4  # of each stream
THUMBNAILS = (*range(14), 19, 23)  # samples of the shipped test split; the last two have an occluder, which is rare
THUMBNAIL_PX, IMAGE_PX = 8, 96
TOLERANCE = 3  # of 255: one pixel of another colour moves the mean of its block by at most 1.8


def split_hash(config: VirtualConfig, hand: Hand) -> str:
    """16 hexadecimal digits of all random numbers of a split of finite length: equal on every machine.

    The hash covers what `draw` gives for every sample and every second hand, and the first numbers of every other
    stream (background, occluder, the camera's faults, ...). What those streams are turned into, `thumbnails` shows.

    Raises:
        ValueError: the split has more than a million samples.
    """
    if config.count > 1_000_000:
        raise ValueError(f"a split of {config.count} samples is not for hashing: set `count`")
    anatomy, digest = Anatomy.of(hand), hashlib.sha256()
    for start in range(0, config.count, 16):
        indices = range(start, min(start + 16, config.count))
        block = draw(config, anatomy, indices)
        rows, other = second_hand.sample(config, anatomy, indices, block)
        first = [generator(config, index, topic).random(FIRST_NUMBERS) for index in indices for topic in TOPICS]
        for array in (*arrays(block), rows, *arrays(other), np.stack(first)):
            digest.update(np.round(array / HASH_STEP).astype("<i8").tobytes())
    return digest.hexdigest()[:16]


def thumbnails(config: VirtualConfig, hand: Hand) -> UInt8[np.ndarray, "16 16 8 3"]:
    """Of the images `THUMBNAILS` (RGB, in steps of 1/255) the means of 8 x 8 blocks and, below them, their deviations.

    Means show what is drawn and how it is lit, deviations also blur and noise.
    """
    images = VirtualHands(config, hand).render(THUMBNAILS, image_size=IMAGE_PX).inputs.image.double()
    side = IMAGE_PX // THUMBNAIL_PX
    mean = F.avg_pool2d(images, side)
    deviation = (F.avg_pool2d(images**2, side) - mean**2).clamp_min(0).sqrt()
    both = torch.cat([mean, deviation], 2).permute(0, 2, 3, 1)
    return (255 * both).round().byte().numpy()


def differ(a: UInt8[np.ndarray, "16 16 8 3"], b: UInt8[np.ndarray, "16 16 8 3"]) -> list[int]:
    """Numbers of the images whose thumbnails are further apart than TOLERANCE."""
    return np.flatnonzero(np.abs(a.astype(int) - b).max((1, 2, 3)) > TOLERANCE).tolist()
