"""Skinning weights: which flesh follows which bone.

Membership (palm or which digit) is harmonic: Laplace's equation in the hand's volume with the bones as fixed values, so
that influence spreads through flesh and never jumps the air gap between two fingers. Along a digit, smooth ramps across
its two inner joints share the membership out among its bones.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy import sparse
from scipy.sparse.linalg import cg
from scipy.spatial import cKDTree

from .anatomy import CHAINS, FINGERS, WRIST_PLANE, unit
from .primitives import Points, Values
from .surface import Hand

Weights = Float[np.ndarray, "v 16"]
Membership = Callable[[Points], Float[np.ndarray, "n 6"]]  # palm, then the digits in the order of CHAINS
MAX_INFLUENCES = 4
VOXEL = 2.0  # mm
# half widths (mm) of the ramps at the middle and the last joint: narrower ones folded triangles at 90 degrees
FINGER_RAMPS, THUMB_RAMPS = (10.8, 8.4), (11.5, 10.5)


def membership(hand: Hand, voxel: float = VOXEL) -> Membership:
    """How much any point near the hand belongs to the palm and to each digit; sums to 1."""
    low, high = np.array([WRIST_PLANE - 4, -62, -60.0]), np.array([204, 100, 30.0])
    count = np.ceil((high - low) / voxel).astype(int)
    axes = [low[i] + voxel * np.arange(count[i]) for i in range(3)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    inside = hand(grid) < 0.6 * voxel
    points = grid[inside]
    share = _solve(_laplacian(inside.reshape(count)), _bone_labels(hand, points))
    tree = cKDTree(points)

    def sample(x: Points) -> Float[np.ndarray, "n 6"]:
        distance, nearest = tree.query(x, k=8)
        w = np.exp(-((distance / voxel) ** 2)) + 1e-12
        return (share[nearest] * w[..., None]).sum(1) / w.sum(1, keepdims=True)

    return sample


def _bone_labels(hand: Hand, points: Points) -> Int64[np.ndarray, "n"]:
    """-1, or 0 in the bones of the palm, 1 + k in those of the k-th digit."""
    labels = -np.ones(len(points), int)
    g = hand.scale

    def paint(a: np.ndarray, b: np.ndarray, radius: float, label: int) -> None:
        axis = b - a
        t = np.clip((points - a) @ axis / (axis @ axis), 0, 1)
        labels[np.linalg.norm(points - a - t[:, None] * axis, axis=1) < radius] = label

    for finger in FINGERS:
        knuckle = hand.joints[CHAINS[finger][0]]
        base = np.array([8, 0.35 * knuckle[1], 0])
        paint(base, knuckle - unit(knuckle - base) * 10 * g, 4.5, 0)
    paint(np.array([-20.0, 0, 0]), np.array([12.0, 0, 0]), 10, 0)
    paint(np.array([12.0, -12, -4]), np.array([58.0, -26.0, -5]), 6, 0)
    for k, (digit, chain) in enumerate(CHAINS.items()):
        start = hand.joints[chain[0]] + hand.frames[chain[0]][0] * (13 if digit == "thumb" else 9) * g
        paint(start, hand.joints[chain[1]], 4.0, k + 1)
        paint(hand.joints[chain[1]], hand.tips[digit], 4.0, k + 1)
    return labels


def _laplacian(inside: Bool[np.ndarray, "x y z"]) -> sparse.spmatrix:
    """Of the graph that joins each voxel inside to its six neighbours."""
    number = -np.ones(inside.shape, int)
    number[inside] = np.arange(inside.sum())
    rows, columns = [], []
    for axis in range(3):
        along = np.moveaxis(number, axis, 0)
        p, q = along[:-1].ravel(), along[1:].ravel()
        both = (p >= 0) & (q >= 0)
        rows += [p[both], q[both]]
        columns += [q[both], p[both]]
    rows, columns = np.concatenate(rows), np.concatenate(columns)
    n = int(inside.sum())
    adjacency = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n, n))
    return sparse.diags(np.asarray(adjacency.sum(1)).ravel() + 1e-6) - adjacency


def _solve(laplacian: sparse.spmatrix, labels: Int64[np.ndarray, "n"]) -> Float[np.ndarray, "n 6"]:
    """The six harmonic functions that are 1 on their own bones and 0 on the others."""
    free = labels < 0
    inner, outer = laplacian[free][:, free].tocsr(), laplacian[free][:, ~free].tocsr()
    preconditioner = sparse.diags(1 / inner.diagonal())
    share = np.zeros((len(labels), 6))
    for k in range(6):
        share[:, k] = labels == k
        right = -outer @ (labels[~free] == k).astype(float)
        share[free, k] = cg(inner, right, rtol=1e-4, M=preconditioner, maxiter=800)[0]
    return share / np.maximum(share.sum(1, keepdims=True), 1e-9)


def skin_weights(hand: Hand, x: Points, member: Membership) -> Weights:
    """Weights of points on or near the skin: rows sum to 1, at most four influences."""
    weights = np.zeros((len(x), 16))
    m = np.clip((member(x) - 0.04) / 0.92, 0, 1)  # a little sharper, so that the knuckle bends in a definite place
    m /= m.sum(1, keepdims=True)
    weights[:, 0] = m[:, 0]
    for k, (digit, chain) in enumerate(CHAINS.items()):
        t = hand.digit[digit].local(x)[0]
        g = hand.scale * (0.88 if digit == "little" else 1)
        halves = THUMB_RAMPS if digit == "thumb" else FINGER_RAMPS
        second, third = (_ramp(t - hand.stations[digit][i + 1], half * g) for i, half in enumerate(halves))
        weights[:, chain[0]] = m[:, k + 1] * (1 - second)
        weights[:, chain[1]] = m[:, k + 1] * second * (1 - third)
        weights[:, chain[2]] = m[:, k + 1] * second * third
    return _strongest(weights)


def smooth(weights: Weights, faces: Int64[np.ndarray, "f 3"], times: int, rate: float) -> Weights:
    """Average each row with its neighbours'."""
    n = len(weights)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    rows, columns = np.r_[edges[:, 0], edges[:, 1]], np.r_[edges[:, 1], edges[:, 0]]
    adjacency = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(n, n)).tocsr()
    adjacency.data[:] = 1
    mean = sparse.diags(1 / np.asarray(adjacency.sum(1)).ravel()) @ adjacency
    for _ in range(times):
        weights = (1 - rate) * weights + rate * (mean @ weights)
    return _strongest(weights)


def _ramp(x: Values, half: float) -> Values:
    """0 to 1 over [-half, half], nearly linear with rounded ends."""
    y = np.clip((x + half) / (2 * half), 0, 1)
    return 0.65 * y + 0.35 * y * y * (3 - 2 * y)


def _strongest(weights: Weights) -> Weights:
    weights = weights.copy()
    weights[weights < np.sort(weights, 1)[:, -MAX_INFLUENCES][:, None]] = 0
    weights[weights < 2e-3] = 0
    return weights / weights.sum(1, keepdims=True)
