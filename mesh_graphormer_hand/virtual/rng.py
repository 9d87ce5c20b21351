"""Random numbers of (seed, split, index, topic) and nothing else: counter-based streams, drawn on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from zlib import crc32

import numpy as np
from jaxtyping import Bool, Float, Int64

from .config import SPLITS, VirtualConfig

# A stream of its own for each topic, so that a new knob in one leaves the others' numbers alone. Append, never reorder.
TOPICS = (
    "pose",
    "camera",
    "skin",
    "light",
    "arm",
    "held_object",
    "background",
    "sensor",
    "block",
    "accessories",
    "frame",
    "second_hand",
    "ground",
    "side",
    "view",
    "sequence",
    "objects",
    "gaps",
    "occluder",
    "resolution",
    "blur",
    "motion",
    "noise",
    "jpeg",
)


def generator(config: VirtualConfig, index: int, topic: str) -> np.random.Generator:
    """The stream of one sample and topic; "objects/pen" is a stream of its own within the topic "objects"."""
    topic, _, part = topic.partition("/")
    key = np.array([config.seed * len(SPLITS) + SPLITS.index(config.split), index], np.uint64)
    counter = np.array([0, 0, crc32(part.encode()), TOPICS.index(topic)], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


class Streams:
    """The streams of one sample by topic, each made when it is first used and then read on."""

    def __init__(self, config: VirtualConfig, index: int) -> None:
        self._config, self._index, self._made = config, index, dict[str, np.random.Generator]()

    def __getitem__(self, topic: str) -> np.random.Generator:
        if topic not in self._made:
            self._made[topic] = generator(self._config, self._index, topic)
        return self._made[topic]


class Draws:
    """Arrays for a block of samples (first axis), each row from its sample's own stream."""

    def __init__(self, config: VirtualConfig, indices: Sequence[int], topic: str) -> None:
        self.streams = [generator(config, index, topic) for index in indices]

    def take(self, rows: Sequence[int]) -> Draws:
        """Draws for some of the samples; they continue the same streams."""
        part = copy(self)
        part.streams = [self.streams[k] for k in rows]
        return part

    def uniform(self, *shape: int, low: float | int = 0, high: float | int = 1) -> Float[np.ndarray, "b *shape"]:
        """Uniform in [low, high)."""
        return low + (high - low) * np.array([s.random(shape) for s in self.streams])

    def normal(self, *shape: int) -> Float[np.ndarray, "b *shape"]:
        """Standard normal."""
        return np.array([s.standard_normal(shape) for s in self.streams])

    def chance(self, probability: float, *shape: int) -> Bool[np.ndarray, "b *shape"]:
        """True with `probability`."""
        return self.uniform(*shape) < probability

    def choice(self, weights: Sequence[float | int], *shape: int) -> Int64[np.ndarray, "b *shape"]:
        """Positions in `weights`, drawn in proportion to them."""
        edges = np.cumsum(weights)[:-1] / np.sum(weights)
        return np.searchsorted(edges, self.uniform(*shape), side="right")

    def log_uniform(self, low: float | int, high: float | int, *shape: int) -> Float[np.ndarray, "b *shape"]:
        """Uniform in the logarithm."""
        return np.exp(self.uniform(*shape, low=np.log(low), high=np.log(high)))
