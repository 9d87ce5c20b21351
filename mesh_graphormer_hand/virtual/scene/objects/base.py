"""What an object's file has, and how objects are drawn.

    sample(rng: Draws, joints: Float["b 21 3"]) -> MeshPart    the object at b posed hands, in their rest frame

The part's shape is one object for all samples, made once with the file. Its name is the file's.

`config.objects` maps names to probabilities. Every object has a random stream of its own, so that adding one changes
no other number of a sample.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from ...config import VirtualConfig
from ...rng import Draws
from ..parts import ABSENT, MeshPart

Sample = Callable[[Draws, np.ndarray], MeshPart]


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
    return tuple(
        _draw(_sampler(name), Draws(config, indices, f"objects/{name}"), p, joints) for name, p in wanted.items()
    )


def _sampler(name: str) -> Sample:
    return importlib.import_module(f".{name}", __package__).sample


def _draw(sample: Sample, rng: Draws, probability: float, joints: Float[np.ndarray, "b 21 3"]) -> MeshPart:
    """The object where its probability has it, ABSENT elsewhere."""
    present = rng.chance(probability)
    made = sample(rng, joints)
    return dataclasses.replace(made, vertices=np.where(present[:, None, None], made.vertices, ABSENT))
