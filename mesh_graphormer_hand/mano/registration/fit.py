"""Fits `registration.Registration`: the first hand's pose and shape, then smooth displacements, onto the second hand.

Works in metres and float64 on the CPU; a few seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import sparse
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree

from ...geometry.rotations import axis_angle_to_matrix
from ...skeleton import PERMUTATIONS
from ..hand import NUM_BETAS, Hand
from ..layer import skin, skin_tensors
from ..nearest import nearest_shares
from ..template import joint_regressor
from .map import HandMap, Registration

logger = logging.getLogger(__name__)

MM_PER_M = 1000.0
NEAREST_TRIANGLES = 24  # triangles looked at for the closest point, by their centroids
STIFFNESS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.1)  # of displacements, from nearly rigid to loose
LANDMARK = 5.0  # weight of a fingertip, the wrist's open edge counts in full
BETA_UNIT, MOVE_UNIT = 20.0, 0.05  # m
SKIN_ROUNDS = 6  # of closest points while posing
JOINTS_BESIDE_SKIN = 0.05  # weight of the joints then
SLIDING = 0.1  # weight of the distance along the surface, beside that from it
FACING = 0.5  # cosine below which two surfaces do not face the same way
POSES = 256  # random poses for the joints' map
RIDGE = 1e-4  # of the joints' spread: how strongly the map stays near the identity

Points = Float[np.ndarray, "_ 3"]  # of a length of its own
Faces = Int64[np.ndarray, "_ 3"]


def fit(first: Hand, second: Hand, seed: int = 0) -> Registration:
    """Register two hands of one side.

    The qualities, mm: `surface` and `surface_max`, the distance of the bent first hand's vertices from the second's
    surface; `joints`, what the 21 x 21 map leaves of the joints' difference over random poses, root mean square;
    `joint_offset`, that difference before.

    Raises:
        ValueError: a right and a left hand.
    """
    if first.side != second.side:
        raise ValueError(f"a {first.side} hand cannot be registered with a {second.side} one")
    target = second.v_template.astype(np.float64)
    bent = bend(match(first, second), first, target, second)
    _, onto, shares = closest_points(bent, target, second.faces)
    distance = np.linalg.norm((target[second.faces[onto]] * shares[..., None]).sum(1) - bent, axis=1)
    backward = _surface_map(bent, target, second.faces)
    forward = _surface_map(target, bent, first.faces)
    joints, quality = {}, {}
    for name, source, goal, (triangles, weights) in (
        ("forward", first, second, forward),
        ("backward", second, first, backward),
    ):
        joints[name], offset, left = joint_map(source, goal, triangles, weights, seed)
        quality |= {f"joint_offset_{name}": offset, f"joints_{name}": left}
    quality |= {"surface": MM_PER_M * distance.mean(), "surface_max": MM_PER_M * distance.max()}
    return Registration(
        _hand_map(first, second, forward, joints["forward"]),
        _hand_map(second, first, backward, joints["backward"]),
        {name: float(value) for name, value in quality.items()},
    )


def match(first: Hand, second: Hand) -> Points:
    """The first hand's vertices (m), posed and shaped like the second in its rest pose: joints first, then the skin,
    since the two may define their joints otherwise."""
    mesh = skin_tensors(first, dtype=torch.float64)
    order, tips = list(PERMUTATIONS["mano"]), list(first.tip_vertices)
    goal = joint_regressor(second) @ torch.from_numpy(second.v_template.astype(np.float64))
    pose = torch.zeros(16, 3, dtype=torch.float64, requires_grad=True)
    shape = torch.zeros(1, NUM_BETAS, dtype=torch.float64, requires_grad=True)  # a unit of each moves the hand alike
    move = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    target = second.v_template.astype(np.float64)
    pairs: tuple[torch.Tensor, ...] | None = None

    def posed() -> tuple[torch.Tensor, torch.Tensor]:
        vertices, joints = skin(mesh, axis_angle_to_matrix(pose)[None], BETA_UNIT * shape)
        joints = torch.cat([joints, vertices[:, tips]], 1)[0, order]
        return vertices[0] + MOVE_UNIT * move, joints + MOVE_UNIT * move

    def loss() -> torch.Tensor:
        vertices, joints = posed()
        error = (MM_PER_M * (joints - goal)).square().sum(-1).mean() * (1.0 if pairs is None else JOINTS_BESIDE_SKIN)
        if pairs is not None:
            rows, goals, weights, normals = pairs
            apart = MM_PER_M * (rows @ vertices - goals)
            along = (apart * normals).sum(-1).square() + SLIDING * apart.square().sum(-1)
            error = error + (weights * along).sum() / weights.sum()
        return error + 0.5 * pose[1:].square().sum() + 0.02 * (BETA_UNIT * shape).square().sum()

    for _ in range(1 + SKIN_ROUNDS):
        optimiser = torch.optim.LBFGS([pose, shape, move], max_iter=20, line_search_fn="strong_wolfe")
        _minimise(optimiser, loss)
        with torch.no_grad():
            vertices = posed()[0].numpy()
        rows, *others = _pairs(vertices, first, target, second)
        pairs = torch.from_numpy(rows.toarray()), *map(torch.from_numpy, others)
    distance = closest_points(vertices, target, second.faces)[0]
    logger.info("posed and shaped: %.2f mm from the surface in the mean", MM_PER_M * distance.mean())
    return vertices


def _minimise(optimiser: torch.optim.Optimizer, loss: Callable[[], torch.Tensor]) -> None:
    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)


def bend(start: Points, first: Hand, target: Points, second: Hand) -> Points:
    """The first hand's vertices moved from `start` onto the second's surface by displacements that are smooth."""
    laplacian = _laplacian(first.faces, len(start))
    tips = np.array(first.tip_vertices), np.array(second.tip_vertices)
    points = start.copy()
    for stiffness in STIFFNESS:
        rows, goals, weights, _ = _pairs(points, first, target, second)
        tip_rows = sparse.csr_matrix((np.ones(5), (np.arange(5), tips[0])), (5, len(start)))
        system = sparse.vstack([rows, tip_rows]).tocsr()
        wanted = np.concatenate([goals, target[tips[1]]])
        weight = sparse.diags(np.concatenate([weights, np.full(5, LANDMARK)]))
        normal = system.T @ weight @ system + stiffness * (laplacian.T @ laplacian)
        right = system.T @ weight @ (wanted - system @ start)
        points = start + spsolve(normal.tocsc(), right)
    return points


def closest_points(
    points: Points, vertices: Points, faces: Faces
) -> tuple[Float[np.ndarray, "n"], Int64[np.ndarray, "n"], Float[np.ndarray, "n 3"]]:
    """Distance (m), triangle and barycentric coordinates of the nearest point of a mesh, for each point."""
    corners = vertices[faces]
    count = min(NEAREST_TRIANGLES, len(faces))
    candidates = cKDTree(corners.mean(1)).query(points, count)[1].reshape(len(points), count)
    shares = nearest_shares(points[:, None], corners[candidates])  # n k 3
    found = (shares[..., None] * corners[candidates]).sum(-2)
    distance = np.linalg.norm(found - points[:, None], axis=-1)
    best = distance.argmin(1)
    row = np.arange(len(points))
    return distance[row, best], candidates[row, best], shares[row, best]


def joint_map(
    first: Hand, second: Hand, triangles: Int64[np.ndarray, "778 3"], weights: Float[np.ndarray, "778 3"], seed: int
) -> tuple[Float[np.ndarray, "21 21"], float, float]:
    """The second hand's joints as combinations of the first's (rows sum to 1), fitted over random poses of the first;
    the root mean square difference before and after, mm."""
    vertices = random_poses(first, POSES, seed)
    mine = joint_regressor(first).numpy() @ vertices
    mapped = (vertices[:, triangles] * weights[..., None]).sum(2)
    theirs = joint_regressor(second).numpy() @ mapped
    x = (mine - mine[:, :1])[:, 1:].transpose(0, 2, 1).reshape(-1, 20)
    y = (theirs - mine).transpose(0, 2, 1).reshape(-1, 21)
    ridge = RIDGE * np.eye(20) * np.trace(x.T @ x) / 20
    solved = np.linalg.solve(x.T @ x + ridge, x.T @ y).T  # 21 20
    matrix = np.eye(21)
    matrix[:, 1:] += solved
    matrix[:, 0] -= solved.sum(1)
    rms = [MM_PER_M * float(np.sqrt(np.square(d).sum(-1).mean())) for d in (theirs - mine, theirs - matrix @ mine)]
    return matrix, rms[0], rms[1]


def random_poses(hand: Hand, count: int, seed: int) -> Float[np.ndarray, "b 778 3"]:
    """Vertices (m) of plausible random poses and shapes."""
    rng = np.random.default_rng(seed)
    scale = np.ones(45) if hand.hands_std is None else hand.hands_std
    coefficients = rng.standard_normal((count, 45)) * scale * (np.arange(45) < 15)
    fingers = hand.hands_mean + coefficients @ hand.hands_components
    pose = np.concatenate([np.zeros((count, 3)), fingers], 1).reshape(count, 16, 3)
    betas = rng.standard_normal((count, NUM_BETAS))
    mesh = skin_tensors(hand, dtype=torch.float64)
    return skin(mesh, axis_angle_to_matrix(torch.from_numpy(pose)), torch.from_numpy(betas))[0].numpy()


def _pairs(
    points: Points, first: Hand, target: Points, second: Hand
) -> tuple[sparse.csr_matrix, Points, Float[np.ndarray, "m"], Points]:
    """Closest points both ways as linear equations in the first hand's vertices: rows, goals (m), weights, and the
    second's normals there."""
    normals = _normals(points, first.faces), _normals(target, second.faces)
    _, onto, shares = closest_points(points, target, second.faces)
    goals = (target[second.faces[onto]] * shares[..., None]).sum(1)
    there = _face_normals(target, second.faces)[onto]
    facing = (there * normals[0]).sum(1) > FACING
    own = sparse.identity(len(points), format="csr")
    _, back, parts = closest_points(target, points, first.faces)
    columns = first.faces[back]
    rows = np.repeat(np.arange(len(target)), 3)
    other = sparse.csr_matrix((parts.ravel(), (rows, columns.ravel())), (len(target), len(points)))
    agree = (_face_normals(points, first.faces)[back] * normals[1]).sum(1) > FACING
    weights = np.concatenate([facing, agree]).astype(np.float64)
    if len(first.wrist_loop) and len(second.wrist_loop):  # an edge belongs on the edge
        _onto_loop(goals, weights, points, first, target, second)
    return (
        sparse.vstack([own, other]).tocsr(),
        np.concatenate([goals, target]),
        weights,
        np.concatenate([there, normals[1]]),
    )


def _onto_loop(
    goals: Points, weights: Float[np.ndarray, "v"], points: Points, first: Hand, target: Points, second: Hand
) -> None:
    loop = target[second.wrist_loop]
    after = np.roll(loop, -1, 0)
    for vertex in first.wrist_loop:
        along = after - loop
        t = (((points[vertex] - loop) * along).sum(1) / np.maximum((along**2).sum(1), 1e-12)).clip(0, 1)
        nearest = loop + t[:, None] * along
        goals[vertex] = nearest[np.linalg.norm(nearest - points[vertex], axis=1).argmin()]
        weights[vertex] = 1.0


def _surface_map(points: Points, vertices: Points, faces: Faces) -> tuple[np.ndarray, np.ndarray]:
    _, onto, shares = closest_points(points, vertices, faces)
    return faces[onto], shares


def _hand_map(first: Hand, second: Hand, surface: tuple[np.ndarray, np.ndarray], joints: np.ndarray) -> HandMap:
    return HandMap(
        source=first.fingerprint,
        target=second.fingerprint,
        triangles=torch.from_numpy(np.ascontiguousarray(surface[0])),
        weights=torch.from_numpy(surface[1]).float(),
        joints=torch.from_numpy(joints).float(),
        regressor=joint_regressor(second).float(),
    )


def _laplacian(faces: Faces, count: int) -> sparse.csr_matrix:
    """Each vertex minus the mean of its neighbours."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    adjacency = sparse.csr_matrix((np.ones(len(edges)), edges.T), (count, count))
    adjacency.data[:] = 1.0
    degree = np.asarray(adjacency.sum(1)).ravel()
    return (sparse.identity(count) - sparse.diags(1 / np.maximum(degree, 1)) @ adjacency).tocsr()


def _face_normals(vertices: Points, faces: Faces) -> Points:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)


def _normals(vertices: Points, faces: Faces) -> Points:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    out = np.zeros_like(vertices)
    for i in range(3):
        np.add.at(out, faces[:, i], np.cross(b - a, c - a))
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-20)
