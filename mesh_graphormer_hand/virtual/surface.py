"""The mesh that is drawn: the hand's skin (as fine as the picture needs), forearm, sleeve and object in one topology.

The hand's own 778 vertices ride along in front of the drawn ones, so that labels and picture come out of one skinning.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import fast_simplification
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.spatial import cKDTree
from torch import Tensor

from ..mano.hand import Hand, RenderMesh
from ..mano.layer import SkinTensors, skin_tensors
from ..render.shade import Topology
from ..skeleton import NUM_VERTICES
from . import forearm, prop
from .parameters import Parameters

FADE = 0.012  # m from the open end over which the hand's own details give way to the plain forearm
PARTS = ("hand", "forearm", "sleeve", "prop")
HAND, FOREARM, SLEEVE, PROP = range(4)
NAIL_GLOSS = 2.5  # how much more nails shine than skin
PLAIN = np.array([0.72, 0.53, 0.45], np.float32)  # colour of a hand that brings none


@dataclass(frozen=True, eq=False)
class Surface:
    skin: SkinTensors  # 778 + v vertices
    topology: Topology  # of the drawn vertices: v of the hand, then forearm, sleeve, prop
    casters: Int64[Tensor, "f 3"]  # coarser faces that cast shadows: over 778 vertices, then forearm, sleeve, prop
    size: int  # v
    rest: Float[Tensor, "v 3"]  # m
    wrist: Float[Tensor, "3"]  # m, at rest
    palm: Float[Tensor, "va 1"]  # 0 on the back of the hand, 1 on the palm's side; of the hand, then the forearm
    broad: Float[Tensor, "v 3"]  # logarithm of slow colour changes
    fine: Float[Tensor, "v 3"]  # logarithm of creases and spots
    nail: Float[Tensor, "v 1"]
    gloss: Float[Tensor, "all 1"]  # of all drawn vertices, 1: as the skin

    @classmethod
    def of(cls, hand: Hand, faces: int) -> Surface:
        """The surface of `hand` with about `faces` faces (all that its render mesh has if that is fewer)."""
        mesh = thin(hand.render or _plain(hand), faces)
        v = len(mesh.vertices)
        both = _join(_plain(hand), mesh)
        palm, broad, fine, nail = _colours(mesh)
        palm = np.concatenate([palm, forearm.palm_side().reshape(-1, 1)])
        others = 2 * forearm.RINGS * forearm.AROUND + len(prop.SPHERE)
        gloss = np.concatenate([1 + NAIL_GLOSS * nail, np.ones((others, 1))])
        wrist = hand.joint_regressor[0] @ hand.v_template
        arrays = (mesh.vertices, wrist, palm, broad, fine, nail, gloss)
        tensors = (torch.from_numpy(np.ascontiguousarray(a, np.float32)) for a in arrays)
        casters = torch.from_numpy(np.concatenate(_faces(hand.faces, NUM_VERTICES)))
        return cls(skin_tensors(hand, both), _topology(mesh), casters, v, *tensors)

    def to(self, device: torch.device | str) -> Surface:
        """The surface on `device`."""
        moved = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "size"}
        return dataclasses.replace(self, **{name: value.to(device) for name, value in moved.items()})


def thin(mesh: RenderMesh, faces: int) -> RenderMesh:
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


def skin_colours(surface: Surface, p: Parameters) -> Float[Tensor, "b v 4"]:
    """Linear colour of every drawn vertex (hand, forearm, sleeve, prop) and how much it shines."""
    device = surface.rest.device

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.float32)).to(device)

    s = p.skin
    tone, palm = tensor(s.tone)[:, None], tensor(s.palm)[:, None]
    waves = tensor(s.waves)
    b, v = len(tone), surface.size
    rest = torch.cat([surface.rest.expand(b, v, 3), tensor(p.forearm.bare).view(b, -1, 3) + surface.wrist], 1)
    blotch = torch.sin(torch.baddbmm(waves[:, None, :, 3], rest, waves[..., :3].transpose(1, 2))).sum(-1, keepdim=True)
    detail = blotch * (tensor(s.blotch)[:, None, None] * blotch.new_tensor([0.5, 1.0, 1.0]))
    detail[:, :v] += tensor(s.broad)[:, None, None] * surface.broad + tensor(s.fine)[:, None, None] * surface.fine
    skin = torch.lerp(tone, palm, surface.palm) * detail.exp_()
    nail = tensor(s.nail)[:, None]
    hand = torch.lerp(skin[:, :v], nail[..., :3], surface.nail * nail[..., 3:])
    band = tensor(p.forearm.band)[:, :, None]
    arm = (skin[:, v:] * tensor(p.forearm.shade).view(b, -1, 1)).view(b, forearm.RINGS, -1, 3)
    arm = torch.lerp(arm, band[..., :3], band[..., 3:]).view(b, -1, 3)
    colours = torch.cat([hand, arm, tensor(p.forearm.cloth).view(b, -1, 3), tensor(p.prop.colours)], 1).clamp_(0.004, 1)
    return torch.cat([colours, surface.gloss.expand(b, -1, 1)], 2)


def extra_vertices(p: Parameters) -> Float[np.ndarray, "b v 3"]:
    """Forearm, sleeve and prop in the hand's rest frame, m, relative to the wrist."""
    b = len(p.shape)
    return np.concatenate([p.forearm.bare.reshape(b, -1, 3), p.forearm.sleeve.reshape(b, -1, 3), p.prop.vertices], 1)


def _plain(hand: Hand) -> RenderMesh:
    """A render mesh for a hand without one: its own skin in one colour."""
    n = NUM_VERTICES
    colours, gloss = np.tile(PLAIN, (n, 1)), np.full(n, 0.08, np.float32)
    return RenderMesh(hand.v_template, hand.faces, hand.weights, hand.shapedirs, hand.posedirs, colours, gloss)


def _join(a: RenderMesh, b: RenderMesh) -> RenderMesh:
    """Two meshes on one skeleton as one."""
    faces = np.concatenate([a.faces, b.faces + len(a.vertices)])
    names = ("vertices", "weights", "shapedirs", "posedirs", "colours", "gloss")
    joined = {name: np.concatenate([getattr(a, name), getattr(b, name)]).astype(np.float32) for name in names}
    return RenderMesh(faces=faces, **joined)


def _topology(mesh: RenderMesh) -> Topology:
    blocks = _faces(mesh.faces, len(mesh.vertices))
    parts = np.repeat(np.arange(4), [len(b) for b in blocks])
    total = len(mesh.vertices) + 2 * forearm.RINGS * forearm.AROUND + len(prop.SPHERE)
    return Topology.build(torch.from_numpy(np.concatenate(blocks)), total, torch.from_numpy(parts))


def _faces(hand: Int64[np.ndarray, "f 3"], v: int) -> list[np.ndarray]:
    """Faces of each part, for a hand of `v` vertices with the others behind it."""
    tube, rings = forearm.faces(), forearm.RINGS * forearm.AROUND
    return [hand, tube + v, tube + v + rings, prop.faces() + v + 2 * rings]


def _colours(mesh: RenderMesh) -> tuple[np.ndarray, ...]:
    """What is palm, what changes slowly, what changes fast, what is nail: (v 1), (v 3), (v 3), (v 1)."""
    palm = np.clip(0.5 - 0.9 * _normals(mesh)[:, 1:2], 0, 1)
    gloss = mesh.gloss - np.median(mesh.gloss)
    nail = np.clip(gloss / max(gloss.max(), 1e-6), 0, 1)[:, None] * (gloss.max() > 0.03)
    colour = 2 * np.log(np.clip(mesh.colours, 0.02, 1))  # of linear light
    skin = nail[:, 0] < 0.3
    base = np.stack([np.ones(len(palm)), palm[:, 0]], 1)
    colour = colour - base @ np.linalg.lstsq(base[skin], colour[skin], rcond=None)[0]
    colour = colour * (1 - nail)
    broad = _smooth(colour, mesh.faces, 12)
    fade = np.clip((mesh.vertices[:, :1].max() - mesh.vertices[:, :1]) / FADE, 0, 1)
    return palm, broad * fade, (colour - broad) * fade, nail


def _normals(mesh: RenderMesh) -> Float[np.ndarray, "v 3"]:
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    face = np.cross(b - a, c - a)
    out = np.zeros((len(mesh.vertices), 3))
    for k in range(3):
        np.add.at(out, mesh.faces[:, k], face)
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-20)


def _smooth(values: np.ndarray, faces: Int64[np.ndarray, "f 3"], steps: int) -> np.ndarray:
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    degree = np.bincount(edges[:, 0], minlength=len(values))[:, None].clip(1)
    for _ in range(steps):
        total = np.stack([np.bincount(edges[:, 0], values[edges[:, 1], k], len(values)) for k in range(3)], 1)
        values = 0.5 * values + 0.5 * total / degree
    return values


def is_skin(part: Int64[Tensor, "b h w"]) -> Bool[Tensor, "b h w"]:
    """Pixels of the hand and the bare forearm."""
    return part.bitwise_right_shift(1) == 0  # parts 0 and 1; -1 is empty
