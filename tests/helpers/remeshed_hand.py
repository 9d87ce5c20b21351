"""Another version of a hand: the same surface with other vertices and other triangles, and joints defined otherwise."""

from dataclasses import replace

import numpy as np

from mesh_graphormer_hand.mano.hand import Hand, boundary_loop


def remeshed(hand: Hand, seed: int = 0, betas: np.ndarray | None = None, joint_shift: float = 0.0) -> Hand:
    """`hand` with its vertices moved along its own surface, edges flipped and vertices renumbered.

    Fingertips keep their numbers and places, the wrist's edge its place. `betas`: shape of the new rest hand.
    `joint_shift`: share of a vertex near each joint mixed into the joint's definition.
    """
    rng = np.random.default_rng(seed)
    blend = _moved_along(hand, rng)
    faces = _flipped(hand.faces, hand.v_template, rng)
    order = _renumbered(hand, rng)  # new vertex i is the old vertex order[i]
    number = np.argsort(order)
    template = hand.v_template if betas is None else hand.v_template + hand.shapedirs @ betas.astype(np.float32)

    def resample(array: np.ndarray) -> np.ndarray:
        return np.tensordot(blend, array.astype(np.float64), 1)[order].astype(np.float32)

    regressor = hand.joint_regressor @ np.linalg.inv(blend)
    if joint_shift:
        nearest = np.linalg.norm((hand.joint_regressor @ template)[:, None] - template, axis=-1).argmin(1)
        regressor = (1 - joint_shift) * regressor
        regressor[np.arange(16), nearest] += joint_shift
    faces = number[faces]
    return replace(
        hand,
        v_template=resample(template),
        faces=faces,
        weights=resample(hand.weights),
        joint_regressor=regressor[:, order].astype(np.float32),
        shapedirs=resample(hand.shapedirs),
        posedirs=resample(hand.posedirs),
        wrist_loop=boundary_loop(faces),
        name="remeshed",
        render=None,
    )


def _moved_along(hand: Hand, rng: np.random.Generator) -> np.ndarray:
    """778 x 778: each new vertex as a point on one of the triangles around the old one."""
    fixed = {*hand.tip_vertices, *hand.wrist_loop.tolist()}
    blend = np.eye(len(hand.v_template))
    around: dict[int, list[int]] = {}
    for f, face in enumerate(hand.faces.tolist()):
        for vertex in face:
            around.setdefault(vertex, []).append(f)
    for vertex, faces in around.items():
        if vertex not in fixed:
            others = [v for v in hand.faces[rng.choice(faces)].tolist() if v != vertex]
            share = rng.uniform(0, 0.2, 2)
            blend[vertex, vertex] -= share.sum()
            blend[vertex, others] += share
    return blend


def _flipped(faces: np.ndarray, vertices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Triangles after flipping edges between nearly coplanar neighbours, each triangle at most once."""
    faces = faces.copy()
    edges = {(f[i], f[(i + 1) % 3]): n for n, f in enumerate(faces.tolist()) for i in range(3)}
    pairs = [edge for edge in edges if edge[::-1] in edges and edge[0] < edge[1]]
    touched: set[int] = set()
    for k in rng.permutation(len(pairs)).tolist():
        a, b = pairs[k]
        left, right = edges[a, b], edges[b, a]
        c, d = (next(v for v in faces[n].tolist() if v not in (a, b)) for n in (left, right))
        if touched & {left, right} or (c, d) in edges or (d, c) in edges:
            continue
        new = np.array([[c, d, b], [d, c, a]])
        before, after = (_normal(vertices, t) for t in (faces[[left, right]], new))
        if before[0] @ before[1] > 0.97 and (before.mean(0) @ after.T).min() > 0.97:
            faces[[left, right]] = new
            touched |= {left, right}
            edges[c, d] = edges[d, c] = -1  # taken: no other flip may make this edge again
    return faces


def _normal(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _renumbered(hand: Hand, rng: np.random.Generator) -> np.ndarray:
    kept = np.array(hand.tip_vertices)
    order = np.arange(len(hand.v_template))
    free = np.setdiff1d(order, kept)
    order[free] = rng.permutation(free)
    return order
