"""What an object's file has, and how objects are drawn.

    SHAPE: PartShape                                             of one mesh for all samples, label "object"
    sample(draws: Draws, joints: Float["b 21 3"]) -> MeshPart    the object at b posed hands, in their rest frame

`config.objects` maps names to probabilities. Every object has a random stream of its own, so that adding one changes
no other number of a sample.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

import numpy as np
from jaxtyping import Float

from ...config import VirtualConfig
from ...rng import Draws
from ..parts import ABSENT, MeshPart


def draw_objects(
    config: VirtualConfig, indices: Sequence[int], joints: Float[np.ndarray, "b 21 3"]
) -> tuple[MeshPart, ...]:
    """All objects that the samples `indices` may have, by name.

    Args:
        config: `objects` has their probabilities.
        indices: of the samples.
        joints: of the posed hands, m, wrist-relative, rest frame.
    """
    wanted = {name: config.objects[name] for name in sorted(config.objects) if config.objects[name] > 0}
    return tuple(_draw(_file(name), Draws(config, indices, f"objects/{name}"), p, joints) for name, p in wanted.items())


def _file(name: str) -> ModuleType:
    return importlib.import_module(f".{name}", __package__)


def _draw(module: ModuleType, draws: Draws, probability: float, joints: Float[np.ndarray, "b 21 3"]) -> MeshPart:
    """The object where its probability has it, ABSENT elsewhere."""
    b, v = len(joints), module.SHAPE.size
    out = MeshPart(module.SHAPE, np.full((b, v, 3), ABSENT), np.full((b, v, 3), 0.5), np.ones((b, v)))
    rows = np.flatnonzero(draws.chance(probability))
    if len(rows):
        made = module.sample(draws.take(rows.tolist()), joints[rows])
        out.vertices[rows], out.colours[rows], out.shine[rows] = made.vertices, made.colours, made.shine
    return out
