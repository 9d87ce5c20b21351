"""Texture without unwrapping: every face of the hand carries a small grid of texels, found by barycentric coordinates.

A table holds `detail`'s colour and slope of each texel, once for each footprint (pixel width on the skin) and each
variant of the lines of the hand. Nothing has seams, and any triangulation will do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ...mano.hand import RenderMesh
from . import skin_relief
from .anatomy import Anatomy

SIDE = 5  # texels along a face's edge
CELLS = SIDE * (SIDE + 1) // 2
FOOTPRINTS = (0.0006, 0.0011, 0.002)  # m
TEXTURE_VARIANTS = 3
PAINT, CHANNELS = len(skin_relief.PAINT), len(skin_relief.PAINT) + 2 * len(skin_relief.RELIEF)


@dataclass(frozen=True, eq=False)
class Texels:
    table: Float[Tensor, "rows channels"]  # half precision; the last row is zero: no detail
    tangents: Float[Tensor, "f 2 3"]  # two unit vectors in the plane of each face at rest
    carried: Float[Tensor, "48 f2"]  # the same, split into what each of the 16 joints' three axes carry of them
    bake: Callable[[int], Float[np.ndarray, "rows channels"]]  # of a part of the table: one footprint and variant
    baked: set[int] = field(default_factory=set)  # which parts are there

    @classmethod
    def of(cls, anatomy: Anatomy, mesh: RenderMesh, normals: Float[np.ndarray, "v 3"]) -> Texels:
        """Texels of every face of a hand's mesh, filled in when an image first needs them."""
        skin = skin_relief.Skinned(mesh.vertices.astype(np.float64), normals, mesh.weights)
        shine = mesh.gloss - np.median(mesh.gloss)
        nails = skin_relief.find_nails(anatomy, skin, shine / max(shine.max(), 0.03))
        tangents = _tangents(skin, mesh.faces)
        n = len(mesh.faces)
        table = torch.zeros(len(FOOTPRINTS) * TEXTURE_VARIANTS * n * CELLS + 1, CHANNELS, dtype=torch.float16)
        bake = partial(_bake, anatomy, nails, skin, mesh.faces, tangents)
        both = np.stack(tangents, 1).astype(np.float32)
        carried = np.einsum("fj,fsk->jkfs", mesh.weights[mesh.faces[:, 0]], both).reshape(48, -1)
        return cls(table, torch.from_numpy(both), torch.from_numpy(np.ascontiguousarray(carried, np.float32)), bake)

    @property
    def faces(self) -> int:
        """How many faces have texels."""
        return len(self.tangents)

    def to(self, device: torch.device | str) -> Texels:
        """The texels on `device`."""
        moved = {name: getattr(self, name).to(device) for name in ("table", "tangents", "carried")}
        return dataclasses.replace(self, **moved, baked=set(self.baked))

    def start(self, pixel: Float[np.ndarray, "b"], variant: Int64[np.ndarray, "b"]) -> Int64[np.ndarray, "b"]:
        """Where in the table the texels of images begin whose pixels are `pixel` m wide on the skin."""
        level = np.abs(np.log(pixel)[:, None] - np.log(FOOTPRINTS)).argmin(1)
        parts, length = level * TEXTURE_VARIANTS + variant % TEXTURE_VARIANTS, self.faces * CELLS
        for part in set(parts.tolist()) - self.baked:
            self.table[part * length : (part + 1) * length] = torch.from_numpy(self.bake(part)).to(self.table)
            self.baked.add(part)
        return parts * length

    def rows(
        self, face: Int64[Tensor, "p"], bary: Float[Tensor, "p 3"], start: Int64[Tensor, "#p"]
    ) -> Int64[Tensor, "p"]:
        """Row of the table for a point on each face; faces beyond the hand's get the empty one."""
        i = (bary[:, 0] * SIDE).long().clamp_(0, SIDE - 1)
        j = torch.minimum((bary[:, 1] * SIDE).long().clamp_(min=0), SIDE - 1 - i)
        row = start + face * CELLS + i * SIDE - (i * (i - 1)).bitwise_right_shift(1) + j
        return torch.where(face < self.faces, row, len(self.table) - 1)

    def pose(self, world: Float[Tensor, "b 16 3 3"]) -> Float[Tensor, "b f 6"]:
        """Both tangents of every face of posed hands."""
        axes = world.permute(0, 2, 1, 3).flatten(2)  # b 3 48
        return (axes @ self.carried).view(len(world), 3, self.faces, 2).permute(0, 2, 3, 1).flatten(2)


def _bake(
    anatomy: Anatomy,
    nails: list[skin_relief.Nail],
    skin: skin_relief.Skinned,
    faces: Int64[np.ndarray, "f 3"],
    tangents: tuple[np.ndarray, np.ndarray],
    part: int,
) -> Float[np.ndarray, "rows channels"]:
    cells = _on_faces(skin, faces)
    made = skin_relief.evaluate(anatomy, nails, cells, FOOTPRINTS[part // TEXTURE_VARIANTS], part % TEXTURE_VARIANTS)
    slope = made.slope.reshape(len(faces), -1, 3)
    slopes = [np.einsum("fcd,fd->fc", slope, t).reshape(len(cells.points), -1) for t in tangents]
    return np.concatenate([made.paint, *slopes], 1)


def _on_faces(skin: skin_relief.Skinned, faces: Int64[np.ndarray, "f 3"]) -> skin_relief.Skinned:
    """The texels' centres on the skin, in the table's order."""
    bary = []
    for i in range(SIDE):
        for j in range(SIDE - i):
            inset = 1 / 3 if i + j == SIDE - 1 else 0.5  # half of a cell on the third edge lies outside the face
            bary.append(((i + inset) / SIDE, (j + inset) / SIDE))
    bary = np.array(bary)
    bary = np.concatenate([bary, 1 - bary.sum(1, keepdims=True)], 1)

    def spread(values: Float[np.ndarray, "v c"]) -> np.ndarray:
        return np.einsum("ck,fkd->fcd", bary, values[faces], optimize=True).reshape(-1, values.shape[1])

    normals = spread(skin.normals)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return skin_relief.Skinned(spread(skin.points), normals, spread(skin.weights))


def _tangents(
    skin: skin_relief.Skinned, faces: Int64[np.ndarray, "f 3"]
) -> tuple[Float[np.ndarray, "f 3"], Float[np.ndarray, "f 3"]]:
    a, b, c = (skin.points[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    along = b - a
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-12)
    across = np.cross(normal, along)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
    return along, across
