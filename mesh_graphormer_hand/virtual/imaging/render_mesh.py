"""The mesh that is drawn: the hand's skin (as fine as the picture needs), forearm, sleeve and object in one topology.

The hand's own 778 vertices ride along in front of the drawn ones, so that labels and picture come out of one skinning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import fast_simplification
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.spatial import cKDTree
from torch import Tensor

from ...mano.hand import Hand, RenderMesh
from ...mano.layer import SkinTensors, skin_tensors
from ...render.shading import Topology
from ...skeleton import MODEL_PARENTS, NUM_VERTICES
from ..hand import skin_relief as detail
from ..hand.anatomy import Anatomy
from ..hand.skin_texture import Texels
from ..hand.skin_tone import Skin
from ..parameters import Parameters
from ..scene import accessories as worn
from ..scene import forearm
from ..scene import held_object as prop
from . import noise
from .shading import Coat

PARTS = ("hand", "forearm", "sleeve", "prop", "worn", "other")
HAND, FOREARM, SLEEVE, PROP, WORN, OTHER = range(6)  # other: all of a second hand, its arm, and what it holds
BENT = {detail.WRINKLE: -0.85, detail.CREASE: 0.5, detail.BLUSH: -0.4}  # what bending a joint does to its skin
PLAIN = np.array([0.72, 0.53, 0.45], np.float32)  # colour of a hand that brings none
FIXED = ("hair", "u", "v")  # of every drawn vertex in all images: hair (or a cloth's grain), m along and across the arm


@dataclass(frozen=True, eq=False)
class Surface:
    skin: SkinTensors  # 778 + v vertices
    topology: Topology  # of the drawn vertices: v of the hand, then forearm, sleeve, prop, worn
    casters: Int64[
        Tensor, "f 3"
    ]  # coarser faces that cast shadows: over 778 vertices, then forearm, sleeve, prop, worn
    texels: Texels
    size: int  # v
    skin_faces: int  # of hand and forearm, the first ones
    rest: Float[Tensor, "v 3"]  # m
    wrist: Float[Tensor, "3"]  # m, at rest
    palm: Float[Tensor, "va 1"]  # 0 on the back of the hand, 1 on the palm's side; of the hand, then the forearm
    knuckles: Float[Tensor, "v 16"]  # how near to each joint
    girths: Int64[Tensor, "4 n"]  # vertices round each finger, index to little, where a ring sits
    fixed: Float[Tensor, "all 3"]  # of all drawn vertices, see FIXED

    @classmethod
    def of(cls, hand: Hand, faces: int) -> Surface:
        """The surface of `hand` with about `faces` faces (all that its render mesh has if that is fewer)."""
        mesh = thin(hand.render or _plain(hand), faces)
        v, anatomy, normals = len(mesh.vertices), Anatomy.of(hand), _normals(mesh)
        both = _join(_plain(hand), mesh)
        palm = np.clip(0.5 - 0.9 * normals[:, 1:2], 0, 1)
        palm = np.concatenate([palm, forearm.palm_side().reshape(-1, 1)])
        wrist = hand.joint_regressor[0] @ hand.v_template
        fixed = _fixed(mesh, palm, wrist)
        arrays = (mesh.vertices, wrist, palm, detail.knuckles(anatomy, mesh.vertices.astype(np.float64)), fixed)
        tensors = [torch.from_numpy(np.ascontiguousarray(a, np.float32)) for a in arrays]
        casters = torch.from_numpy(np.concatenate(_faces(hand.faces, NUM_VERTICES)))
        texels = Texels.of(anatomy, mesh, normals)
        girths = torch.from_numpy(worn.girths(anatomy, mesh))
        skin_faces = len(mesh.faces) + len(forearm.faces())
        return cls(
            skin_tensors(hand, both), _topology(mesh), casters, texels, v, skin_faces, *tensors[:4], girths, tensors[4]
        )

    def to(self, device: torch.device | str) -> Surface:
        """The surface on `device`."""
        names = [f.name for f in dataclasses.fields(self) if f.name not in ("size", "skin_faces")]
        return dataclasses.replace(self, **{name: getattr(self, name).to(device) for name in names})


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


def coat(surface: Surface, p: Parameters, rotations: Float[Tensor, "b 16 3 3"], pixel: Float[np.ndarray, "b"]) -> Coat:
    """What hands with `rotations` of their joints are covered with, in images whose pixels are `pixel` m wide there."""
    device, s = surface.rest.device, p.skin

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)

    return Coat(
        vertices=_vertex_looks(surface, p, rotations, tensor),
        tangents=surface.texels.pose(world(rotations)),
        start=torch.from_numpy(surface.texels.start(pixel, s.variant)).to(device),
        detail=tensor(_detail(s)),
        noise=tensor(s.noise),
        shift=tensor(s.shift),
        texel=tensor(np.maximum(noise.FINEST, 0.7 * pixel)),
        nail=tensor(np.concatenate([s.nail, s.nail_gloss], 1)),
        grain=tensor(p.forearm.grain),
        ink=tensor(s.ink),
    )


def world(rotations: Float[Tensor, "b 16 3 3"]) -> Float[Tensor, "b 16 3 3"]:
    """Rotations of the joints in the camera from rotations relative to their parents."""
    out = [rotations[:, 0]]
    for joint in range(1, 16):
        out.append(out[MODEL_PARENTS[joint]] @ rotations[:, joint])
    return torch.stack(out, 1)


def _vertex_looks(
    surface: Surface, p: Parameters, rotations: Tensor, tensor: Callable[[np.ndarray], Tensor]
) -> Float[Tensor, "b all looks"]:
    """Of every drawn vertex: linear colour, shine, how bent the nearest joint is, then FIXED."""
    s = p.skin
    tone, palm, waves = tensor(s.tone)[:, None], tensor(s.palm)[:, None], tensor(s.waves)
    b, v = len(tone), surface.size
    rest = torch.cat([surface.rest.expand(b, v, 3), tensor(p.forearm.bare).view(b, -1, 3) + surface.wrist], 1)
    blotch = torch.sin(torch.baddbmm(waves[:, None, :, 3], rest, waves[..., :3].transpose(1, 2))).sum(-1, keepdim=True)
    blotch = blotch * (tensor(s.blotch)[:, None, None] * blotch.new_tensor([0.5, 1.0, 1.0]))
    skin = torch.lerp(tone, palm, surface.palm) * blotch.exp_()
    arm = (skin[:, v:] * tensor(p.forearm.shade).view(b, -1, 1)).view(b, -1, 3)
    colours = [skin[:, :v], arm, tensor(p.forearm.cloth).view(b, -1, 3), tensor(p.prop.colours), tensor(p.worn.colours)]
    looks = torch.ones(b, surface.fixed.shape[0], 5 + surface.fixed.shape[1], device=tone.device)
    torch.cat(colours, 1, out=looks[..., :3])
    looks[..., :3].clamp_(0.004, 1)
    shine = tensor(np.concatenate([p.prop.shine, p.worn.shine], 1))
    looks[:, -shine.shape[1] :, 3] = shine
    sleeve = forearm.RINGS * forearm.AROUND
    looks[:, v + sleeve : v + 2 * sleeve, 3] = 0.25
    cosine = (rotations.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    bent = (1 - cosine).clamp_(0, 1)  # 1 at a right angle
    looks[..., 4] = 0
    looks[:, :v, 4] = (bent @ surface.knuckles.T).clamp_(max=1)
    looks[..., 5:] = surface.fixed
    return looks


def _detail(s: Skin) -> Float[np.ndarray, "b channels 10"]:
    """What a texel adds to the logarithm of colour and, negated, to the normal along two tangents; then how much of it
    comes or goes where a joint is bent to a right angle."""
    b, paint, relief = len(s.tone), len(detail.PAINT), len(detail.RELIEF)
    out = np.zeros((b, paint + 2 * relief, 10))
    out[:, :paint, :3] = s.paint
    out[:, paint : paint + relief, 3] = -s.relief
    out[:, paint + relief :, 4] = -s.relief
    bent = np.zeros(paint + 2 * relief)
    for channel, change in BENT.items():
        bent[channel] = change
    for half in range(2):
        bent[paint + half * relief + detail.R_WRINKLE] = -0.8
    out[..., 5:] = bent[:, None] * out[..., :5]
    return out


def extra_vertices(p: Parameters) -> Float[np.ndarray, "b v 3"]:
    """Forearm, sleeve, prop and what is worn in the hand's rest frame, m, relative to the wrist."""
    b = len(p.shape)
    arm = (p.forearm.bare.reshape(b, -1, 3), p.forearm.sleeve.reshape(b, -1, 3))
    return np.concatenate([*arm, p.prop.vertices, p.worn.vertices], 1)


def put_on(
    surface: Surface,
    p: Parameters,
    skin: Float[Tensor, "b v 3"],
    joints: Float[Tensor, "b 21 3"],
    turned: Float[Tensor, "b 16 3 3"],
    root: Float[Tensor, "b 3"],
    extra: Float[Tensor, "b e 3"],
) -> Float[Tensor, "b e 3"]:
    """`extra` (camera axes, m) with the rings on the fingers of posed hands; `skin` and `joints` relative to `root`."""
    ring = torch.from_numpy(p.worn.ring.astype(np.float32)).to(skin.device)
    points = worn.place(ring, surface.girths, skin, joints, turned)
    extra[:, -points.shape[1] :] = torch.where(ring[:, :1, None] > 0, points + root[:, None], extra[:, -1:])
    return extra


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
    parts = np.repeat(np.arange(len(blocks)), [len(b) for b in blocks])
    total = len(mesh.vertices) + 2 * forearm.RINGS * forearm.AROUND + prop.SIZE + worn.SIZE
    return Topology.build(torch.from_numpy(np.concatenate(blocks)), total, torch.from_numpy(parts))


def _faces(hand: Int64[np.ndarray, "f 3"], v: int) -> list[np.ndarray]:
    """Faces of each part, for a hand of `v` vertices with the others behind it."""
    tube, rings = forearm.faces(), forearm.RINGS * forearm.AROUND
    things = v + 2 * rings
    return [hand, tube + v, tube + v + rings, prop.faces() + things, worn.faces() + things + prop.SIZE]


def _fixed(mesh: RenderMesh, palm: np.ndarray, wrist: np.ndarray) -> Float[np.ndarray, "all 3"]:
    v, ends = len(mesh.vertices), mesh.weights[:, [2, 3, 5, 6, 8, 9, 11, 12, 14, 15]].sum(1)
    hair = 0.45 * (1 - palm[:v, 0]) * (1 - ends).clip(0)
    across = mesh.vertices[:, 2] + 0.7 * mesh.vertices[:, 1]
    hand = np.stack([hair, mesh.vertices[:, 0] - wrist[0], across], 1)
    u, turn = (m.ravel() for m in np.meshgrid(forearm.STATIONS, forearm.ANGLES, indexing="ij"))
    arm = np.stack([1 - 0.8 * palm[v:, 0], u, 0.03 * turn], 1)
    cloth = np.stack([0 * u + 1, u, 0.04 * turn], 1)
    others = np.concatenate([prop.coordinates(), worn.coordinates()])
    return np.concatenate([hand, arm, cloth, np.insert(others, 0, 0, 1)])


def _normals(mesh: RenderMesh) -> Float[np.ndarray, "v 3"]:
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    face = np.cross(b - a, c - a)
    out = np.zeros((len(mesh.vertices), 3))
    for k in range(3):
        np.add.at(out, mesh.faces[:, k], face)
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-20)


def is_skin(part: Int64[Tensor, "b h w"]) -> Bool[Tensor, "b h w"]:
    """Pixels of the hand and the bare forearm."""
    return part.bitwise_right_shift(1) == 0  # parts 0 and 1; -1 is empty
