"""Joins a scene's parts into one mesh with one topology, and makes its material.

Parts of skin come first, since the skin's texture is looked up by face; beyond that the list's order means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ...contracts import SEGMENTATION_CLASSES
from ...mano.hand import Hand
from ...render.shading import Topology
from ...skeleton import MODEL_PARENTS, NUM_VERTICES
from ..hand import skin_relief
from ..hand.skin_tone import Skin
from ..parameters import Parameters
from ..records import float_tensor
from ..scene import accessories
from ..scene.parts import MeshPart, PartShape
from . import noise
from .hand_mesh import HandMesh, hand_mesh
from .shading import Channels, Material

LABEL = {name: k for k, name in enumerate(SEGMENTATION_CLASSES)}
SKIN = ("hand", "forearm")  # labels of the mask
BENT = {
    skin_relief.WRINKLE: -0.85,
    skin_relief.CREASE: 0.5,
    skin_relief.BLUSH: -0.4,
}  # what bending a joint does to its skin


@dataclass(frozen=True, eq=False)
class RenderMesh:
    """All parts of a scene as one mesh, on one device."""

    hand: HandMesh
    shapes: tuple[PartShape, ...]  # of all parts, the hand first
    rows: dict[str, slice]  # of each part's vertices among all drawn ones
    topology: Topology  # of the drawn vertices; `parts` are positions in contracts.SEGMENTATION_CLASSES
    casters: Int64[Tensor, "g 3"]  # faces that cast shadows, over the hand's 778 vertices and then the other parts
    skin_faces: int  # how many faces, the first ones, are skin
    palm: Float[Tensor, "s 1"]  # of the vertices of skin, the first ones: 0 on the back of the hand, 1 on the palm
    grain: Float[Tensor, "all 1"]
    uv: Float[Tensor, "all 2"]  # m

    @property
    def size(self) -> int:
        """Number of drawn vertices of the hand itself."""
        return self.hand.shape.size


@lru_cache(maxsize=16)
def render_mesh(hand: Hand, faces: int, others: tuple[PartShape, ...], device: torch.device) -> RenderMesh:
    """The mesh of `hand` with about `faces` faces and of the `others`, made once.

    Raises:
        ValueError: two parts of one name, or a part of skin behind one that is not.
    """
    mesh = hand_mesh(hand, faces, device)
    shapes = (mesh.shape, *others)
    names, skin = [s.name for s in shapes], [s for s in shapes if s.palm is not None]
    if len(set(names)) < len(names):
        raise ValueError(f"parts of a scene need names of their own: {', '.join(names)}")
    if tuple(skin) != shapes[: len(skin)]:
        raise ValueError(f"parts of skin come first: {', '.join(names)}")
    ends = np.cumsum([s.size for s in shapes])
    rows = {s.name: slice(int(end) - s.size, int(end)) for s, end in zip(shapes, ends, strict=True)}
    joined = np.concatenate([s.faces + rows[s.name].start for s in shapes])
    labels = np.repeat([LABEL[s.label] for s in shapes], [len(s.faces) for s in shapes])
    topology = Topology.build(torch.from_numpy(joined), int(ends[-1]), torch.from_numpy(labels))
    shift = NUM_VERTICES - mesh.shape.size
    casters = [mesh.outline, *(s.faces + rows[s.name].start + shift for s in others if s.casts_shadow)]

    def tensor(arrays: Sequence[np.ndarray]) -> Tensor:
        joined = np.concatenate([a.reshape(len(a), -1) for a in arrays])
        return torch.from_numpy(np.ascontiguousarray(joined, np.float32)).to(device)

    return RenderMesh(
        hand=mesh,
        shapes=shapes,
        rows=rows,
        topology=topology.to(device),
        casters=torch.from_numpy(np.concatenate(casters)).to(device),
        skin_faces=sum(len(s.faces) for s in skin),
        palm=tensor([s.palm for s in skin]),
        grain=tensor([s.grain for s in shapes]),
        uv=tensor([s.uv for s in shapes]),
    )


def is_skin(part: Int64[Tensor, "b h w"]) -> Bool[Tensor, "b h w"]:
    """Pixels of the hand and the bare forearm."""
    return (part == LABEL[SKIN[0]]) | (part == LABEL[SKIN[1]])


def joint_rotations(rotations: Float[Tensor, "b 16 3 3"]) -> Float[Tensor, "b 16 3 3"]:
    """Rotations of the joints in the camera from rotations relative to their parents."""
    out = [rotations[:, 0]]
    for joint in range(1, 16):
        out.append(out[MODEL_PARENTS[joint]] @ rotations[:, joint])
    return torch.stack(out, 1)


def rest_vertices(parts: Sequence[MeshPart]) -> Float[np.ndarray, "b e 3"]:
    """Vertices of all parts but the hand's own skin, in its rest frame, m, relative to the wrist."""
    return np.concatenate([part.vertices for part in parts], 1)


def attach_rings(
    mesh: RenderMesh,
    p: Parameters,
    skin: Float[Tensor, "b v 3"],
    joints: Float[Tensor, "b 21 3"],
    rotations: Float[Tensor, "b 16 3 3"],
    root: Float[Tensor, "b 3"],
    others: Float[Tensor, "b e 3"],
) -> None:
    """Put rings round the fingers of posed hands: writes into `others`, the vertices of all parts but the hand (m).

    Args:
        mesh: the mesh that the vertices belong to.
        p: which samples have a ring, and on which finger.
        skin: drawn vertices of the hand, m, relative to `root`, camera axes.
        joints: m, relative to `root`, camera axes.
        rotations: of the joints, camera from rest frame.
        root: m, the wrist in the camera.
        others: m, camera axes.
    """
    ring = torch.from_numpy(p.accessories.ring.astype(np.float32)).to(skin.device)
    points = accessories.place_rings(ring, mesh.hand.girths, skin, joints, rotations)
    start = mesh.rows["accessories"].start - mesh.size + accessories.RING.start
    rows = slice(start, start + points.shape[1])
    absent = others[:, rows.stop - 1 : rows.stop]
    others[:, rows] = torch.where(ring[:, :1, None] > 0, points + root[:, None], absent)


def material(
    mesh: RenderMesh,
    p: Parameters,
    parts: Sequence[MeshPart],
    rotations: Float[Tensor, "b 16 3 3"],
    pixel: Float[np.ndarray, "b"],
) -> Material:
    """What the samples' meshes are covered with.

    Args:
        mesh: the mesh of the hand and `parts`.
        p: skins and cloth of the samples.
        parts: all parts but the hand, in the mesh's order.
        rotations: of the joints, relative to their parents.
        pixel: m on the hand that a pixel is wide.
    """
    device, s = mesh.palm.device, p.skin
    return Material(
        channels=_vertex_channels(mesh, s, parts, rotations),
        tangents=mesh.hand.texels.pose(joint_rotations(rotations)),
        start=torch.from_numpy(mesh.hand.texels.start(pixel, s.variant)).to(device),
        detail=float_tensor(_detail(s), device),
        noise=float_tensor(s.noise, device),
        shift=float_tensor(s.shift, device),
        texel=float_tensor(np.maximum(noise.MIN_TEXEL_M, 0.7 * pixel), device),
        nail=float_tensor(np.concatenate([s.nail, s.nail_gloss], 1), device),
        grain=float_tensor(p.forearm.grain, device),
        tattoo=float_tensor(s.tattoo, device),
    )


def _vertex_channels(
    mesh: RenderMesh, skin: Skin, parts: Sequence[MeshPart], rotations: Float[Tensor, "b 16 3 3"]
) -> Channels:
    """The material at every drawn vertex."""
    b, device = len(rotations), rotations.device
    covered = [part for part in parts if part.shape.palm is not None]
    own = _skin_colours(mesh, skin, covered)
    colours = [own[:, : mesh.size]]
    for part in parts:
        colour = float_tensor(part.colours, device)
        colours.append(own[:, mesh.rows[part.name]] * colour if part.shape.palm is not None else colour)
    out = Channels.ones(b, mesh.grain.shape[0], device)
    torch.cat(colours, 1, out=out.colour)
    out.colour.clamp_(0.004, 1)
    for part in parts:
        out.shine[:, mesh.rows[part.name], 0] = float_tensor(part.shine, device)
    cosine = (rotations.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    bent = (1 - cosine).clamp_(0, 1)  # 1 at a right angle
    out.bend[:] = 0
    out.bend[:, : mesh.size, 0] = (bent @ mesh.hand.knuckles.T).clamp_(max=1)
    out.grain[:], out.uv[:] = mesh.grain, mesh.uv
    return out


def _skin_colours(mesh: RenderMesh, skin: Skin, covered: Sequence[MeshPart]) -> Float[Tensor, "b s 3"]:
    """Linear colour of the hand's vertices and of the parts covered in skin: tone, paler palms, slow blotches."""
    device, hand = mesh.palm.device, mesh.hand
    tone, palm, waves = (float_tensor(a, device) for a in (skin.tone, skin.palm, skin.waves))
    b = len(tone)
    positions = torch.cat(
        [hand.rest_positions.expand(b, -1, 3), *(float_tensor(c.vertices, device) + hand.wrist for c in covered)], 1
    )
    blotch = torch.sin(torch.baddbmm(waves[:, None, :, 3], positions, waves[..., :3].transpose(1, 2))).sum(
        -1, keepdim=True
    )
    blotch = blotch * (float_tensor(skin.blotch, device)[:, None, None] * blotch.new_tensor([0.5, 1.0, 1.0]))
    return torch.lerp(tone[:, None], palm[:, None], mesh.palm) * blotch.exp_()


def _detail(s: Skin) -> Float[np.ndarray, "b channels 10"]:
    """What a texel adds to the logarithm of colour and, negated, to the normal along two tangents; then how much of it
    comes or goes where a joint is bent to a right angle."""
    b, paint, relief = len(s.tone), len(skin_relief.PAINT), len(skin_relief.RELIEF)
    out = np.zeros((b, paint + 2 * relief, 10))
    out[:, :paint, :3] = s.paint
    out[:, paint : paint + relief, 3] = -s.relief
    out[:, paint + relief :, 4] = -s.relief
    bent = np.zeros(paint + 2 * relief)
    for channel, change in BENT.items():
        bent[channel] = change
    for half in range(2):
        bent[paint + half * relief + skin_relief.R_WRINKLE] = -0.8
    out[..., 5:] = bent[:, None] * out[..., :5]
    return out
