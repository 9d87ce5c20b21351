"""The parts that the drawn mesh is made of: the hand, its forearm and sleeve, what it holds and wears, occluders.

A scene is one list of `MeshPart`; `imaging.render_mesh` joins them into one mesh. A part is
found by its name, and its shape names the label of its pixels: the order of the list means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from ...contracts import SEGMENTATION_CLASSES
from ..records import Shared

ABSENT = 0.0  # m: a part that a sample does not have shrinks to a point inside the wrist, which is never drawn


@dataclass(frozen=True, eq=False)
class PartShape(Shared):
    """What a part of the mesh has in all samples. One object a part: meshes are cached by its identity."""

    name: str
    label: str  # class of the part's pixels, of contracts.SEGMENTATION_CLASSES
    faces: Int64[np.ndarray, "f 3"]  # outward counter-clockwise
    uv: Float[np.ndarray, "v 2"]  # m along and across the surface, for grain, hair and weave
    grain: Float[np.ndarray, "v"]  # how hairy skin is, how strong the weave of cloth is, 0 to 1
    palm: Float[np.ndarray, "v"] | None = None  # of skin: 0 on the back of the hand, 1 on the palm; None: no skin
    casts_shadow: bool = True

    def __post_init__(self) -> None:
        if self.label not in SEGMENTATION_CLASSES:
            known = ", ".join(SEGMENTATION_CLASSES)
            raise ValueError(f"part {self.name!r}: no class {self.label!r} (there are: {known})")
        if len(self.faces) and self.faces.max() >= len(self.uv):
            raise ValueError(f"part {self.name!r}: a face names vertex {self.faces.max()} of {len(self.uv)}")

    @property
    def size(self) -> int:
        """Number of vertices."""
        return len(self.uv)


@dataclass(frozen=True, eq=False)
class MeshPart:
    """One part of b samples: where its vertices stand and what they look like."""

    shape: PartShape
    vertices: Float[np.ndarray, "b v 3"]  # m, the hand's rest frame, relative to the wrist; ABSENT where there is none
    colours: Float[np.ndarray, "b v 3"]  # linear RGB; of skin: a factor on the skin's own colour
    shine: Float[np.ndarray, "b v"]  # factor on the strength of the skin's highlights

    @property
    def name(self) -> str:
        """The part's name."""
        return self.shape.name
