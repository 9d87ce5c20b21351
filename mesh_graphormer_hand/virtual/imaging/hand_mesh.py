"""The hand's own share of the drawn mesh: its skin, as fine as the picture needs, with all that depends on it alone.

The hand's own 778 vertices ride along in front of the drawn ones, so that labels and picture come out of one skinning.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache

import fast_simplification
import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.spatial import cKDTree
from torch import Tensor

from ...mano.hand import Hand, RenderMesh
from ...mano.layer import SkinTensors, skin_tensors
from ...skeleton import NUM_VERTICES
from ..hand import skin_relief
from ..hand.anatomy import Anatomy
from ..hand.skin_texture import Texels
from ..scene import accessories
from ..scene.parts import PartShape

PLAIN_COLOUR = np.array([0.72, 0.53, 0.45], np.float32)  # colour of a hand that brings none
FAR_JOINTS = [2, 3, 5, 6, 8, 9, 11, 12, 14, 15]  # model joints beyond the first phalanges, where no hair grows


@dataclass(frozen=True, eq=False)
class HandMesh:
    """A hand's skin in one resolution, on one device."""

    skin: SkinTensors  # 778 + v vertices
    shape: PartShape  # of the v drawn vertices
    outline: Int64[np.ndarray, "f 3"]  # faces of the 778 vertices, which cast the shadow
    texels: Texels
    rest_positions: Float[Tensor, "v 3"]  # m
    wrist: Float[Tensor, "3"]  # m, at rest
    knuckles: Float[Tensor, "v 16"]  # how near to each joint
    girths: Int64[Tensor, "4 n"]  # vertices round each finger, index to little, where a ring sits

    def to(self, device: torch.device | str) -> HandMesh:
        """The mesh on `device`."""
        names = ("skin", "texels", "rest_positions", "wrist", "knuckles", "girths")
        return dataclasses.replace(self, **{name: getattr(self, name).to(device) for name in names})


@lru_cache(maxsize=8)
def hand_mesh(hand: Hand, faces: int, device: torch.device) -> HandMesh:
    """The mesh of `hand` with about `faces` faces (all that its render mesh has if that is fewer), made once."""
    mesh = decimate(hand.render or _plain(hand), faces)
    anatomy, normals = Anatomy.of(hand), vertex_normals(mesh)
    wrist = hand.joint_regressor[0] @ hand.v_template
    arrays = (mesh.vertices, wrist, skin_relief.knuckles(anatomy, mesh.vertices.astype(np.float64)))
    tensors = [torch.from_numpy(np.ascontiguousarray(a, np.float32)) for a in arrays]
    girths = torch.from_numpy(accessories.girths(anatomy, mesh))
    skin = skin_tensors(hand, _join(_plain(hand), mesh))
    texels = Texels.of(anatomy, mesh, normals)
    return HandMesh(skin, _shape(mesh, normals, wrist), hand.faces, texels, *tensors, girths).to(device)


def _shape(mesh: RenderMesh, normals: Float[np.ndarray, "v 3"], wrist: Float[np.ndarray, "3"]) -> PartShape:
    palm = np.clip(0.5 - 0.9 * normals[:, 1], 0, 1)
    hair = 0.45 * (1 - palm) * (1 - mesh.weights[:, FAR_JOINTS].sum(1)).clip(0)
    across = mesh.vertices[:, 2] + 0.7 * mesh.vertices[:, 1]
    uv = np.stack([mesh.vertices[:, 0] - wrist[0], across], 1)
    return PartShape("hand", "hand", mesh.faces, uv, hair, palm)


def decimate(mesh: RenderMesh, faces: int) -> RenderMesh:
    """`mesh` with at most about `faces` faces, its vertices a subset of the old ones."""
    if len(mesh.faces) <= faces * 1.1:
        return mesh
    points, triangles = fast_simplification.simplify(
        mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32), target_count=faces
    )
    nearest = cKDTree(mesh.vertices).query(points)[1]
    kept, renumbered = np.unique(nearest, return_inverse=True)
    triangles = renumbered.reshape(-1)[triangles.astype(np.int64)]
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (c != a)]
    return RenderMesh(
        mesh.vertices[kept],
        triangles,
        mesh.weights[kept],
        mesh.shapedirs[kept],
        mesh.posedirs[kept],
        mesh.colours[kept],
        mesh.gloss[kept],
    )


def vertex_normals(mesh: RenderMesh) -> Float[np.ndarray, "v 3"]:
    """Area-weighted unit normals, outward."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    face = np.cross(b - a, c - a)
    out = np.zeros((len(mesh.vertices), 3))
    for k in range(3):
        np.add.at(out, mesh.faces[:, k], face)
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-20)


def _plain(hand: Hand) -> RenderMesh:
    """A render mesh for a hand without one: its own skin in one colour."""
    n = NUM_VERTICES
    colours, gloss = np.tile(PLAIN_COLOUR, (n, 1)), np.full(n, 0.08, np.float32)
    return RenderMesh(hand.v_template, hand.faces, hand.weights, hand.shapedirs, hand.posedirs, colours, gloss)


def _join(a: RenderMesh, b: RenderMesh) -> RenderMesh:
    """Two meshes on one skeleton as one."""
    faces = np.concatenate([a.faces, b.faces + len(a.vertices)])
    names = ("vertices", "weights", "shapedirs", "posedirs", "colours", "gloss")
    joined = {name: np.concatenate([getattr(a, name), getattr(b, name)]).astype(np.float32) for name in names}
    return RenderMesh(faces=faces, **joined)
