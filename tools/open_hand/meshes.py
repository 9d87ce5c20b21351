"""The two meshes: the template (778 vertices in MANO's layout) and the finer render mesh."""

from __future__ import annotations

from dataclasses import dataclass

import fast_simplification
import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.spatial import cKDTree

from mesh_graphormer_hand.skeleton import NUM_VERTICES

from . import detail
from .anatomy import CHAINS, DIGIT_OF, TIP_VERTICES, WRIST_PLANE
from .primitives import Points, Values
from .remesh import Goal, remesh
from .surface import Hand, triangulate

WRIST_EDGES, RENDER_WRIST_EDGES, RENDER_VERTICES = 16, 44, 11500
PALM_SIZE, FINGER_SIZE, LITTLE_SIZE = 9.2, 5.5, 4.9  # relative edge lengths of the template
PART_ORDER = ("index", "middle", "ring", "little", "thumb")  # after the palm, in the template's vertex order


@dataclass
class Mesh:
    """A mesh of the hand at rest, hand frame, mm."""

    vertices: Float[np.ndarray, "v 3"]
    faces: Int64[np.ndarray, "f 3"]
    rim: Bool[np.ndarray, "v"]  # on the open wrist


def template(hand: Hand) -> tuple[Mesh, list[int], dict[str, int]]:
    """The 778-vertex mesh in no particular order, its wrist loop, and digit -> its tip's vertex."""
    dense = triangulate(hand, 1.5)
    vertices, faces = _decimate(*dense, 3200)

    def project(p: Points) -> Points:
        p = hand.project(p, iterations=3)
        p[:, 0] = np.where(p[:, 0] < WRIST_PLANE + 0.5, WRIST_PLANE + 0.5, p[:, 0])
        return p

    tips = [hand.project(hand.tips[digit][None], iterations=12)[0] for digit in CHAINS]
    goal = Goal(_template_sizes(hand), project, _onto_rim(hand, 4), WRIST_EDGES, NUM_VERTICES, tips)
    vertices, faces, loop, locked = remesh(vertices, faces, goal)
    return Mesh(vertices, faces, _mask(len(vertices), loop)), loop, dict(zip(CHAINS, locked, strict=True))


def render_mesh(hand: Hand) -> Mesh:
    """About 11,400 vertices that follow nails, creases, tendons and veins."""
    dense, dense_faces = triangulate(hand, 0.8, relief=True)
    wanted, tree = _wanted_edge(hand, dense), cKDTree(dense)
    vertices, faces = _decimate(dense, dense_faces, int(2.15 * RENDER_VERTICES))
    vertices[open_vertices(vertices, faces), 0] = WRIST_PLANE

    def project(p: Points) -> Points:
        p = hand.project(p, 1, relief=True, max_step=0.6)
        p[:, 0] = np.maximum(p[:, 0], WRIST_PLANE + 0.2)
        return p

    def size(p: Points) -> Values:
        return wanted[tree.query(p)[1]]

    rim = _onto_rim(hand, 2, relief=True)
    goal = Goal(size, project, rim, RENDER_WRIST_EDGES, RENDER_VERTICES, rounds=5, exact=False)
    vertices, faces, _, _ = remesh(vertices, faces, goal)
    rim_vertices = open_vertices(vertices, faces)
    vertices[~rim_vertices] = hand.project(vertices[~rim_vertices], 2, relief=True, max_step=0.4)
    return Mesh(vertices, faces, rim_vertices)


def order(
    mesh: Mesh, weights: Float[np.ndarray, "v 16"], tips: dict[str, int]
) -> tuple[Int64[np.ndarray, "v"], Int64[np.ndarray, "v"], Int64[np.ndarray, "f 3"]]:
    """Number the vertices by body part, distal first, with the fingertips at MANO's ids.

    Returns:
        new -> old vertex, old -> new vertex, and the faces in new numbers and canonical order.
    """
    owner = [0 if w[0] > 0.5 else 1 + PART_ORDER.index(DIGIT_OF[int(np.argmax(np.r_[0, w[1:]]))]) for w in weights]
    slots = {TIP_VERTICES[digit]: v for digit, v in tips.items()}
    taken = set(slots.values())
    rest = (v for v in np.lexsort((-mesh.vertices[:, 0], np.array(owner))) if v not in taken)
    old = np.array([slots[i] if i in slots else next(rest) for i in range(len(mesh.vertices))])
    new = np.empty_like(old)
    new[old] = np.arange(len(old))
    faces = np.stack([np.roll(f, -k) for f, k in zip(new[mesh.faces], new[mesh.faces].argmin(1), strict=True)])
    return old, new, faces[np.lexsort((faces[:, 2], faces[:, 1], faces[:, 0]))]


def straddle(
    hand: Hand, vertices: Points, faces: np.ndarray, frozen: Bool[np.ndarray, "v"], rounds: int = 12
) -> Points:
    """Push vertices out a little, so that flat triangles straddle the smooth surface and keep its volume."""
    vertices, free = vertices.copy(), ~frozen
    for _ in range(rounds):
        following = vertices[np.roll(faces, -1, 1).reshape(-1, 3)].reshape(len(faces), 3, 3)
        middles = 0.5 * (vertices[faces] + following)
        samples = np.concatenate([middles, vertices[faces].mean(1, keepdims=True)], 1)
        on_faces = hand(samples.reshape(-1, 3)).reshape(len(faces), 4).mean(1)
        total, count = np.zeros(len(vertices)), np.zeros(len(vertices))
        for k in range(3):
            np.add.at(total, faces[:, k], on_faces)
            np.add.at(count, faces[:, k], 1)
        residual = 0.62 * total / count + 0.38 * hand(vertices)
        vertices[free] -= 0.5 * np.clip(residual, -0.4, 0.4)[free, None] * hand.normals(vertices[free])
    return vertices


def _decimate(vertices: np.ndarray, faces: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Quadric edge collapse to about `count` faces."""
    coarse = fast_simplification.simplify(vertices.astype(np.float32), faces.astype(np.int32), target_count=count)
    return coarse[0].astype(float), coarse[1]


def _onto_rim(hand: Hand, iterations: int, relief: bool = False):
    """Points -> points of the skin in the wrist plane."""

    def project(p: Points) -> Points:
        p = np.array(p)
        p[:, 0] = WRIST_PLANE
        return hand.project(p, iterations, relief, in_plane=np.ones(len(p), bool))

    return project


def _template_sizes(hand: Hand):
    """Points -> relative edge length: fine on the digits, finer around their joints and tips, coarse on the palm."""
    g = hand.scale

    def size(x: Points) -> Values:
        x = np.asarray(x, float)
        best = np.full(len(x), PALM_SIZE)
        for name, sweep in hand.digit.items():
            t, s, n = sweep.local(x)
            first = -4.0 if name == "thumb" else 12.0
            base = FINGER_SIZE if name != "little" else LITTLE_SIZE
            places = [first - 26, first - 5, sweep.tip - 12, sweep.tip]
            own = np.interp(t, places, [PALM_SIZE, base, base * 0.95, base * 0.78])
            away = np.clip((np.sqrt(s**2 + n**2) - 14 * g) / (8 * g), 0, 1)
            best = np.minimum(best, own * (1 - away) + PALM_SIZE * away)
        return best

    return size


def _wanted_edge(hand: Hand, x: Points) -> Values:
    """Edge length (mm) of the render mesh: short where there is relief (nails, creases), longer on smooth skin."""
    step = 1.2
    here = detail.displacement(hand, x)
    activity = np.zeros(len(x))
    for k in range(3):
        offset = np.zeros(3)
        offset[k] = step
        ahead, behind = detail.displacement(hand, x + offset), detail.displacement(hand, x - offset)
        activity = np.maximum(activity, np.abs(ahead - behind) / (2 * step))
        activity = np.maximum(activity, np.abs(ahead + behind - 2 * here) / step)
    edge = 2.9 - 1.7 * detail.smoothstep(activity, 0.01, 0.16)
    for name, at in detail.digit_fields(hand, x).items():
        edge = np.minimum(edge, 2.9 - at.near * 0.9)
        outline, up, _ = detail.nail(hand, name, at)
        ring = detail.smoothstep(outline, 1.6, 1.25) * detail.smoothstep(outline, 0.55, 0.8)
        edge = np.minimum(edge, 2.9 - at.near * up * 1.85 * ring)
    return edge


def open_vertices(vertices: np.ndarray, faces: np.ndarray) -> Bool[np.ndarray, "v"]:
    """Vertices on edges with one face."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    return _mask(len(vertices), np.unique(unique[count == 1]))


def _mask(length: int, indices) -> Bool[np.ndarray, "n"]:
    mask = np.zeros(length, bool)
    mask[indices] = True
    return mask
