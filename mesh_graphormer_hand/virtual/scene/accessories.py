"""What is worn: a watch or bracelet round the wrist, and a ring on a finger (placed once the skin is posed).

Positions of band and watch are in the hand's rest frame, m, relative to the wrist.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ...mano.hand import RenderMesh
from ...render.effects import unit
from ..config import VirtualConfig
from ..hand.anatomy import FINGER_CHAINS, Anatomy
from ..rng import Draws
from . import forearm
from .forearm import AROUND
from .held_object import FACES, SPHERE, superellipsoid
from .parts import ABSENT, MeshPart, PartShape

BAND = 4  # rings of a band
DORSAL_POINT = AROUND // 4  # the point of a ring on the back of the arm
RING_AROUND, RING_TUBE = 18, 6
SIZES = (BAND * AROUND, len(SPHERE), RING_AROUND * RING_TUBE)
ACCESSORY_VERTICES = sum(SIZES)
RING = slice(ACCESSORY_VERTICES - SIZES[2], ACCESSORY_VERTICES)  # the ring among the vertices
RING_PLACE, GIRTH_VERTICES = (
    0.64,
    40,
)  # of the first phalanx: beyond the web; vertices that measure the finger's girth there
METALS = np.array([(0.62, 0.45, 0.17), (0.60, 0.60, 0.60), (0.62, 0.40, 0.30), (0.05, 0.05, 0.055)])


@dataclass(frozen=True, eq=False)
class Accessories:
    """Band, watch and ring; the ring's vertices are ABSENT until `place_rings` puts them round a finger."""

    part: MeshPart
    ring: Float[np.ndarray, "b 4"]  # present, finger (0 index to 3 little), width m, thickness m


def _faces() -> Int64[np.ndarray, "f 3"]:
    """Faces of band, watch and ring, outward counter-clockwise."""
    around, ring = np.arange(AROUND), np.arange(BAND - 1)
    band = _quads(ring[:, None] * AROUND + around, ring[:, None] * AROUND + (around + 1) % AROUND, AROUND)
    tube, turn = np.arange(RING_TUBE), np.arange(RING_AROUND)
    a = turn[:, None] * RING_TUBE + tube
    b = turn[:, None] * RING_TUBE + (tube + 1) % RING_TUBE
    jump = (turn[:, None] + 1) % RING_AROUND * RING_TUBE - turn[:, None] * RING_TUBE
    torus = _quads(a, b, jump)
    return np.concatenate([band, FACES + SIZES[0], torus + SIZES[0] + SIZES[1]]).astype(np.int64)


def _quads(a: Int64[np.ndarray, "n around"], b: Int64[np.ndarray, "n around"], step: int | np.ndarray) -> np.ndarray:
    c, d = (a + step).ravel(), (b + step).ravel()
    a, b = a.ravel(), b.ravel()
    return np.concatenate([np.stack([a, c, b], -1), np.stack([b, c, d], -1)])


def _uv() -> Float[np.ndarray, "v 2"]:
    """m along and around the band, for the grain of straps."""
    along, angle = (m.ravel() for m in np.meshgrid(0.01 * np.arange(BAND), forearm.ANGLES_RAD, indexing="ij"))
    plain = np.zeros((SIZES[1] + SIZES[2], 2))
    return np.concatenate([np.stack([along, 0.03 * angle], 1), plain])


ACCESSORIES = PartShape("accessories", "worn", _faces(), _uv(), np.zeros(ACCESSORY_VERTICES))


def sample(rng: Draws, config: VirtualConfig, arm: Float[np.ndarray, "b rings around 3"]) -> Accessories:
    """What is worn on bare arms."""
    b = len(arm)
    kind = rng.choice((1 - config.watch - config.bracelet, config.watch, config.bracelet))  # nothing, watch, bracelet
    start = rng.uniform(low=0.012, high=0.05)
    wide = np.where(kind == 1, rng.uniform(low=0.012, high=0.024), rng.log_uniform(0.002, 0.02))
    thick = rng.uniform(low=0.0015, high=0.004)
    lift = np.stack([-0.001 + 0 * thick, thick, thick, -0.001 + 0 * thick], 1)
    along = start[:, None] + wide[:, None] * np.array([-0.5, -0.4, 0.4, 0.5])
    outline, centre, out = _sections(arm, along)
    band = outline + lift[..., None, None] * out
    case = _case(rng, outline[:, 1:3].mean(1), centre, out[:, 1:3].mean(1), thick)
    present = (kind > 0)[:, None, None]
    watch = (kind == 1)[:, None, None]
    band = np.where(present, band.reshape(b, -1, 3), ABSENT)
    vertices = np.concatenate([band, np.where(watch, case, ABSENT), np.full((b, SIZES[2], 3), ABSENT)], 1)
    ring = np.stack(
        [
            rng.chance(config.ring) * 1.0,
            rng.choice((0.15, 0.2, 0.5, 0.15)) * 1.0,
            rng.uniform(low=0.002, high=0.006),
            rng.uniform(low=0.001, high=0.0022),
        ],
        1,
    )
    colours, shine = _materials(rng, kind)
    return Accessories(MeshPart(ACCESSORIES, vertices, colours, shine), ring)


def girths(anatomy: Anatomy, mesh: RenderMesh) -> Int64[np.ndarray, "4 n"]:
    """The vertices nearest to where a ring sits on each finger, index to little."""
    found = []
    for chain in FINGER_CHAINS:
        base, middle = chain.start, chain.start + 1
        q = (mesh.vertices - anatomy.joints[base]) @ anatomy.frames[base].T
        length = np.linalg.norm(anatomy.joints[middle] - anatomy.joints[base])
        far = np.abs(q[:, 0] - RING_PLACE * length) + 10 * (mesh.weights[:, chain].sum(1) < 0.5)
        found.append(np.argsort(far, kind="stable")[:GIRTH_VERTICES])
    return np.stack(found)


def place_rings(
    ring: Float[Tensor, "b 4"],
    girths: Int64[Tensor, "4 n"],
    skin: Float[Tensor, "b v 3"],
    joints: Float[Tensor, "b 21 3"],
    turned: Float[Tensor, "b 16 3 3"],
) -> Float[Tensor, "b r 3"]:
    """The rings' vertices, snug round the posed skin; all in one frame, m."""
    b, device = len(ring), skin.device
    finger, row = ring[:, 1].long(), torch.arange(b, device=device)
    near = skin[row[:, None], girths[finger]]
    base = joints[row, 5 + 4 * finger]
    along = unit(joints[row, 6 + 4 * finger] - base)
    bone = torch.tensor([f.start for f in FINGER_CHAINS], device=device)[finger]
    across = turned[row, bone][:, :, 2]  # the rest pose's z, which is across the fingers but for their spread
    across = unit(across - along * (across * along).sum(-1, keepdim=True))
    frame = torch.stack([across, torch.linalg.cross(along, across), along], -1)
    q = (near - base[:, None]) @ frame
    low, high = q.amin(1), q.amax(1)
    half, centre = (high - low)[:, :2] / 2, (high + low) / 2
    turn = torch.linspace(0, 2 * torch.pi, RING_AROUND + 1, device=device)[:-1]
    tube = torch.linspace(0, 2 * torch.pi, RING_TUBE + 1, device=device)[:-1]
    swell = (half[:, None, None] + 0.4 * ring[:, None, None, 3:]) + 0.6 * ring[:, None, None, 3:] * tube.cos()[:, None]
    round_ = torch.stack([turn.cos(), turn.sin()], -1)[:, None]
    flat = swell * round_
    height = (0.5 * ring[:, None, None, 2:3] * tube.sin()[:, None]).expand(b, RING_AROUND, RING_TUBE, 1)
    points = (
        torch.cat([flat, height], -1).flatten(1, 2)
        + torch.cat([centre[:, :2], q[..., 2].mean(1, keepdim=True)], 1)[:, None]
    )
    return points @ frame.transpose(1, 2) + base[:, None]


def _sections(
    arm: Float[np.ndarray, "b rings around 3"], along: Float[np.ndarray, "b n"]
) -> tuple[Float[np.ndarray, "b n around 3"], Float[np.ndarray, "b n 3"], Float[np.ndarray, "b n around 3"]]:
    """Outlines of an arm at stations m along it, their centres, and unit vectors outward."""
    k = np.clip(np.searchsorted(forearm.STATIONS_M, along, side="right") - 1, 0, len(forearm.STATIONS_M) - 2)
    low, high = forearm.STATIONS_M[k], forearm.STATIONS_M[k + 1]
    t = ((along - low) / (high - low))[..., None, None]
    row = np.arange(len(arm))[:, None]
    outline = arm[row, k] * (1 - t) + arm[row, k + 1] * t
    centre = outline.mean(2)
    out = outline - centre[:, :, None]
    return outline, centre, out / np.maximum(np.linalg.norm(out, axis=-1, keepdims=True), 1e-9)


def _case(
    rng: Draws,
    outline: Float[np.ndarray, "b around 3"],
    centre: Float[np.ndarray, "b n 3"],
    out: Float[np.ndarray, "b around 3"],
    thick: Float[np.ndarray, "b"],
) -> np.ndarray:
    """The watch on the back of the arm (sometimes on its inside): round or square, a little higher than its band."""
    b = len(outline)
    at = np.where(rng.chance(0.88), DORSAL_POINT, 3 * DORSAL_POINT)
    row = np.arange(b)
    up, place = out[row, at], outline[row, at]
    axis = centre[:, -1] - centre[:, 0]
    axis = axis / np.maximum(np.linalg.norm(axis, axis=-1, keepdims=True), 1e-9)
    up = up - axis * (up * axis).sum(-1, keepdims=True)
    up = up / np.maximum(np.linalg.norm(up, axis=-1, keepdims=True), 1e-9)
    half = rng.uniform(low=0.013, high=0.021)
    form = superellipsoid(np.where(rng.chance(0.65), 2.0, 5.0), np.full(b, 7.0))
    form = (
        form * np.stack([half, half * rng.uniform(low=0.9, high=1.15), rng.uniform(low=0.003, high=0.006)], 1)[:, None]
    )
    frame = np.stack([axis, np.cross(up, axis), up], -1)
    return (place + up * (thick + 0.001)[:, None])[:, None] + form @ frame.transpose(0, 2, 1)


def _materials(rng: Draws, kind: Int64[np.ndarray, "b"]) -> tuple[np.ndarray, np.ndarray]:
    b = len(kind)
    metal = METALS[rng.choice((0.3, 0.4, 0.1, 0.2), 3)]  # b 3 pieces 3
    metal = metal * rng.uniform(3, 1, low=0.8, high=1.1)
    strap = rng.uniform(1, 3) ** 2 * np.where(rng.chance(0.5)[:, None, None], 0.12, 0.7) + 0.015
    leather = rng.chance(0.6)[:, None, None]
    band = np.where(leather, strap, metal[:, :1])
    face = np.where(rng.chance(0.5)[:, None, None], 0.015, rng.uniform(1, 3))
    dial = (SPHERE[:, 2] > 0.75)[:, None]
    case = np.where(dial, face, metal[:, 1:2])
    colours = [np.broadcast_to(band, (b, SIZES[0], 3)), case, np.broadcast_to(metal[:, 2:], (b, SIZES[2], 3))]
    shine = [np.where(leather[:, 0], 0.4, 3.0) * np.ones(SIZES[0]), np.full((b, SIZES[1]), 3.0)]
    shine.append(np.full((b, SIZES[2]), 4.0))
    return np.concatenate(colours, 1), np.concatenate(shine, 1)
