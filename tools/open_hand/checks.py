"""What must hold of the open hand's arrays, whoever built them. Needs no more than the package itself.

`failures(arrays)` names everything that does not hold; an empty list is a good hand.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from mesh_graphormer_hand.skeleton import MODEL_PARENTS, NUM_VERTICES

from . import forearm, volumes
from .anatomy import BONE_FRACTIONS, CHAINS, FINGERS, HAND_LENGTH, TIP_VERTICES

Arrays = dict[str, np.ndarray]
Faces = Int64[np.ndarray, "f 3"]
SHAPES = {
    "v_template": (NUM_VERTICES, 3),
    "faces": (1538, 3),
    "weights": (NUM_VERTICES, 16),
    "J_regressor": (16, NUM_VERTICES),
    "kintree_parents": (16,),
    "shapedirs": (NUM_VERTICES, 3, 10),
    "posedirs": (NUM_VERTICES, 3, 135),
    "hands_components": (45, 45),
    "hands_mean": (45,),
    "hands_std": (45,),
    "J": (16, 3),
    "wrist_loop": (16,),
}
WRIST = np.array([0.096, 0.006, 0.006])  # m, MANO's right hand at rest
LENGTH_TOLERANCE, JOINT_TOLERANCE, TIP_TOLERANCE = 0.3, 0.1, 3.0  # mm
VOLUME = (250.0, 450.0)  # cm3, of an adult's hand
ARM_VOLUME = (900.0, 2000.0)  # cm3, with its forearm
KNUCKLE_REACH = {"thumb": 0.118, **{finger: BONE_FRACTIONS[finger][0] for finger in FINGERS}}  # Buchholz et al.
BREADTH = (75.0, 95.0)  # mm across the knuckles
PALM_TOLERANCE = 5.0  # mm: the joint at the thumb's base is not where Buchholz et al. put it
PHALANX, BESIDE = 0.10, 0.12  # of its volume that a phalanx of a bent digit may gain or lose, and one beside it
ARM_LENGTH = (230.0, 300.0)  # mm, wrist to elbow


def failures(arrays: Arrays) -> list[str]:
    """Sentences, one for each thing that does not hold."""
    wrong = [
        f"{name} has shape {arrays[name].shape if name in arrays else 'none'}, {shape} expected"
        for name, shape in SHAPES.items()
        if name not in arrays or arrays[name].shape != shape
    ]
    wrong += [f"{name} is not finite" for name, a in arrays.items() if not np.isfinite(a.astype(float)).all()]
    if wrong:
        return wrong
    template, render = arrays["v_template"], arrays["hi_v"]
    wrong += [f"template: {x}" for x in surface_failures(template, arrays["faces"], arrays["wrist_loop"])]
    wrong += [f"render mesh: {x}" for x in surface_failures(render, arrays["hi_faces"])]
    if "arm_v" in arrays:
        wrong += [f"render mesh with forearm: {x}" for x in arm_failures(arrays)]
    return wrong + [*skeleton_failures(arrays), *rig_failures(arrays), *flesh_failures(arrays)]


def surface_failures(
    vertices: Float[np.ndarray, "v 3"],
    faces: Faces,
    wrist_loop: Int64[np.ndarray, "n"] | None = None,
    volume: tuple[float, float] = VOLUME,
) -> Iterator[str]:
    """A connected manifold with one open loop, facing outward, of a hand's volume, that does not cut itself."""
    vertices, faces = vertices.astype(float), faces.astype(np.int64)
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges, count = np.unique(np.sort(directed, 1), axis=0, return_counts=True)
    if count.max() > 2:
        yield f"{(count > 2).sum()} edges with more than two faces"
    if len(np.unique(directed, axis=0)) != len(directed):
        yield "neighbouring faces turn opposite ways"
    if len(np.unique(faces)) != len(vertices):
        yield "vertices without a face"
    loops = _loops(directed)
    if len(loops) != 1:
        yield f"{len(loops)} open boundaries, one expected"
        return
    if wrist_loop is not None and not _same_cycle(loops[0], wrist_loop.tolist()):
        yield f"the open boundary has {len(loops[0])} edges and is not the wrist loop"
    if len(vertices) - len(edges) + len(faces) != 1 or _components(edges, len(vertices)) != 1:
        yield "not one surface with one hole"
    enclosed = enclosed_volume(vertices, faces, np.array(loops[0])) * 1e6
    if not volume[0] < enclosed < volume[1]:
        yield f"encloses {enclosed:.0f} cm3 (negative: it is inside out), {volume} expected"
    if (crossing := self_intersections(vertices, faces)) > 0:
        yield f"{crossing} pairs of triangles cut each other"


def skeleton_failures(arrays: Arrays) -> Iterator[str]:
    """Joints at their anthropometric distances, in MANO's frame, fingertips at MANO's vertices."""
    vertices = arrays["v_template"].astype(float)
    joints = arrays["J_regressor"].astype(float) @ vertices
    if tuple(arrays["kintree_parents"]) != MODEL_PARENTS:
        yield "the kinematic tree is not MANO's"
    if (gap := 1e3 * np.abs(joints - arrays["J"]).max()) > JOINT_TOLERANCE:
        yield f"the regressor puts a joint {gap:.2f} mm from its place"
    if np.abs(joints[0] - WRIST).max() > 1e-3:
        yield f"the wrist lies at {joints[0].round(4)}, {WRIST} expected"
    for digit, chain in CHAINS.items():
        fractions = BONE_FRACTIONS[digit][0 if digit == "thumb" else 1 :]
        for one, other, fraction in zip(chain, chain[1:], fractions, strict=False):
            length = 1e3 * np.linalg.norm(joints[other] - joints[one])
            if abs(length - fraction * HAND_LENGTH) > LENGTH_TOLERANCE:
                yield f"{digit}: bone of {length:.1f} mm, {fraction * HAND_LENGTH:.1f} expected"
        reach, expected = 1e3 * np.linalg.norm(joints[chain[0]] - joints[0]), KNUCKLE_REACH[digit] * HAND_LENGTH
        if abs(reach - expected) > PALM_TOLERANCE:
            yield f"{digit}: first joint {reach:.1f} mm from the wrist, {expected:.1f} expected"
        own = vertices[arrays["weights"][:, chain[2]] > 0.5]
        farthest = own[np.linalg.norm(own - joints[chain[2]], axis=1).argmax()]
        if 1e3 * np.linalg.norm(vertices[TIP_VERTICES[digit]] - farthest) > TIP_TOLERANCE:
            yield f"{digit}: vertex {TIP_VERTICES[digit]} is not its tip"
    wrong_way = [digit for digit in FINGERS if vertices[TIP_VERTICES[digit], 0] > joints[0, 0] - 0.1]
    if wrong_way or vertices[TIP_VERTICES["thumb"], 2] < joints[0, 2] + 0.05:
        yield "not MANO's rest frame: fingers towards -x and thumb towards +z expected"
    knuckles = vertices[[_beside_knuckle(arrays, joints, finger) for finger in ("index", "little")]]
    breadth = 1e3 * abs(knuckles[0, 2] - knuckles[1, 2])
    if not BREADTH[0] < breadth < BREADTH[1]:
        yield f"{breadth:.0f} mm across the knuckles, {BREADTH} expected"


def arm_failures(arrays: Arrays) -> Iterator[str]:
    """The forearm goes on from the hand's skin to the elbow without a seam."""
    vertices, faces = forearm.whole(arrays)
    if not 8000 <= len(vertices) <= 15000:
        yield f"{len(vertices)} vertices, 8000 to 15000 expected"
    length = 1e3 * (vertices[:, 0].max() - arrays["J"][0, 0])
    if not ARM_LENGTH[0] < length < ARM_LENGTH[1]:
        yield f"an arm of {length:.0f} mm, {ARM_LENGTH} expected"
    yield from surface_failures(vertices, faces, volume=ARM_VOLUME)


def flesh_failures(arrays: Arrays) -> Iterator[str]:
    """No phalanx collapses or swells where joints bend."""
    for prefix in ("", "hi_") if len(arrays["hi_v"]) > NUM_VERTICES else ("",):
        for pose, change in volumes.changes(arrays, prefix).items():
            bent = np.isin(volumes.DIGITS, list(volumes.BENT[pose]))
            for rows, limit, which in ((bent, PHALANX, "bent"), (~bent, BESIDE, "neighbouring")):
                worst = np.abs(change[rows]).max(initial=0)
                if worst > limit:
                    mesh = "render mesh" if prefix else "template"
                    yield f"{pose}: a {which} phalanx changes its volume by {100 * worst:.0f} % ({mesh})"


def rig_failures(arrays: Arrays) -> Iterator[str]:
    """Shares that sum to 1, orthonormal components, colours in range."""
    for name in ("weights", "hi_weights"):
        w = arrays[name]
        if w.min() < 0 or np.abs(w.sum(1) - 1).max() > 1e-5 or (w > 0).sum(1).max() > 4:
            yield f"{name}: rows should be at most four shares that sum to 1"
    regressor = arrays["J_regressor"]
    if regressor.min() < 0 or np.abs(regressor.sum(1) - 1).max() > 1e-5:
        yield "J_regressor: rows should be shares that sum to 1"
    components = arrays["hands_components"].astype(float)
    if np.abs(components @ components.T - np.eye(45)).max() > 1e-4:
        yield "hands_components: rows should be orthonormal"
    if arrays["hi_color"].min() < 0 or arrays["hi_color"].max() > 1:
        yield "hi_color: colours should lie in [0, 1]"


def enclosed_volume(vertices: Float[np.ndarray, "v 3"], faces: Faces, loop: Int64[np.ndarray, "n"]) -> float:
    """Signed volume with the open loop closed by a fan, positive where faces turn outward."""
    v = vertices - vertices.mean(0)
    volume = np.einsum("ni,ni->", v[faces[:, 0]], np.cross(v[faces[:, 1]], v[faces[:, 2]])) / 6
    middle = v[loop].mean(0)
    return volume - (np.cross(v[loop], np.roll(v[loop], -1, 0)) @ middle).sum() / 6


def self_intersections(vertices: Float[np.ndarray, "v 3"], faces: Faces) -> int:
    """Pairs of triangles without a common vertex of which one has an edge that pierces the other."""
    corners = vertices[faces]
    low, high = corners.min(1), corners.max(1)
    radius = np.linalg.norm(corners - corners.mean(1, keepdims=True), axis=2).max()
    pairs = cKDTree(corners.mean(1)).query_pairs(2 * radius, output_type="ndarray")
    i, j = pairs.T
    apart = (low[i] > high[j]).any(1) | (low[j] > high[i]).any(1)
    touching = (faces[i][:, :, None] == faces[j][:, None]).any((1, 2))
    i, j = pairs[~apart & ~touching].T
    cut = np.zeros(len(i), bool)
    for k in range(3):
        cut |= _pierces(corners[i, k], corners[i, (k + 1) % 3], corners[j])
        cut |= _pierces(corners[j, k], corners[j, (k + 1) % 3], corners[i])
    return int(cut.sum())


def _pierces(start: np.ndarray, end: np.ndarray, triangle: np.ndarray) -> Bool[np.ndarray, "n"]:
    """Whether each segment passes through the inside of its triangle (Moeller and Trumbore 1997)."""
    e1, e2, d = triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0], end - start
    h, s = np.cross(d, e2), start - triangle[:, 0]
    q = np.cross(s, e1)
    determinant = (e1 * h).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):  # parallel: comparisons with nan and inf are False
        u, v, t = ((x * y).sum(1) / determinant for x, y in ((s, h), (d, q), (e2, q)))
        return (u > 1e-9) & (v > 1e-9) & (u + v < 1 - 1e-9) & (t > 1e-9) & (t < 1 - 1e-9)


def _loops(directed: np.ndarray) -> list[list[int]]:
    """Open boundaries as vertices in order."""
    present = set(map(tuple, directed.tolist()))
    following = {a: b for a, b in sorted(present) if (b, a) not in present}
    loops = []
    while following:
        loop = [min(following)]
        while (vertex := following.pop(loop[-1], None)) is not None and vertex != loop[0]:
            loop.append(vertex)
        loops.append(loop)
    return loops


def _same_cycle(one: list[int], other: list[int]) -> bool:
    """Equal up to the start, in the same direction."""
    return len(one) == len(other) and one[0] in other and one == _rotated(other, other.index(one[0]))


def _rotated(items: list[int], start: int) -> list[int]:
    return items[start:] + items[:start]


def _components(edges: np.ndarray, count: int) -> int:
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[0]


def _beside_knuckle(arrays: Arrays, joints: np.ndarray, finger: str) -> int:
    """The vertex farthest out on the hand's side, level with a knuckle."""
    vertices, knuckle = arrays["v_template"], joints[CHAINS[finger][0]]
    level = np.abs(vertices[:, 0] - knuckle[0]) < 0.006
    if finger == "index":  # the thumb lies further out: stay with the palm and the finger
        level &= arrays["weights"][:, CHAINS["thumb"]].sum(1) < 0.2
    out = vertices[:, 2] * (1 if finger == "index" else -1)
    return int(np.where(level, out, -np.inf).argmax())
