"""Pose correctives of joints that turn together: the knuckles of a fist share the skin between them.

Correctives that were fitted to one joint at a time add up: with all four fingers bent, the first phalanges lost a
fifth of their volume. Here the same linear directions are fitted anew to whole poses. The wanted surface is that of
dual quaternions (Kavan et al., "Geometric skinning with approximate dual quaternion blending", ACM TOG 2008) with the
flesh that each bent joint pushes aside; the correctives of single joints are what the fit is pulled towards.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from mesh_graphormer_hand.skeleton import MODEL_PARENTS

from . import poses
from .anatomy import ASSET_FROM_HAND, FINGERS
from .correctives import MAX_CORRECTION, REACH, descendants, swelling
from .primitives import Points
from .surface import Hand

POSES, SEED = 150, 0
PULL = 3.0  # ridge towards the correctives of single joints


def refine(
    hand: Hand, x: Points, normals: Points, weights: Float[np.ndarray, "v 16"], single: Float[np.ndarray, "v 3 135"]
) -> Float[np.ndarray, "v 3 135"]:
    """`single` (mm, hand frame) fitted anew to whole poses; a vertex knows only the joints that move it."""
    rotations = _training_poses(hand)
    entries = (rotations[:, 1:] - np.eye(3)).reshape(len(rotations), 135)
    wanted = _wanted(hand, x, normals, weights, rotations)
    left = wanted - np.einsum("vce,pe->pvc", single, entries)
    out = single.copy()
    mask = _mask(hand, x, weights)
    for pattern in np.unique(mask, axis=0):
        rows = np.flatnonzero((mask == pattern).all(1))
        if not pattern.any():
            continue
        columns = np.flatnonzero(pattern.repeat(9))
        a = entries[:, columns]
        right = left[:, rows].reshape(len(a), -1)
        fit = np.linalg.solve(a.T @ a + PULL * np.eye(len(columns)), a.T @ right)
        out[np.ix_(rows, range(3), columns)] += fit.reshape(len(columns), len(rows), 3).transpose(1, 2, 0)
    return out


def dual_quaternions(
    x: Points, weights: Float[np.ndarray, "v 16"], turn: Float[np.ndarray, "16 3 3"], shift: Float[np.ndarray, "16 3"]
) -> Points:
    """Points carried by blended screw motions instead of blended matrices."""
    real = Rotation.from_matrix(turn).as_quat()
    for joint in range(1, 16):  # neighbours on one side of the sphere
        if real[joint] @ real[MODEL_PARENTS[joint]] < 0:
            real[joint] *= -1
    dual = 0.5 * _product(np.concatenate([shift, np.zeros((16, 1))], 1), real)
    b, e = weights @ real, weights @ dual
    length = np.linalg.norm(b, axis=1, keepdims=True)
    b, e = b / length, e / length
    return Rotation.from_quat(b).apply(x) + 2 * _product(e, b * [-1, -1, -1, 1])[:, :3]


def placed(joints: Float[np.ndarray, "16 3"], rotations: Float[np.ndarray, "16 3 3"]):
    """Each joint's rotation and shift in the hand's frame from rotations relative to the parents."""
    turn, shift = np.empty((16, 3, 3)), np.empty((16, 3))
    turn[0], shift[0] = rotations[0], joints[0] - rotations[0] @ joints[0]
    for j in range(1, 16):
        parent = MODEL_PARENTS[j]
        turn[j] = turn[parent] @ rotations[j]
        shift[j] = turn[parent] @ joints[j] + shift[parent] - turn[j] @ joints[j]
    return turn, shift


def _training_poses(hand: Hand) -> Float[np.ndarray, "p 16 3 3"]:
    """Sampled hands, fists of every degree with some fingers left out, and single fingers."""
    rng = np.random.default_rng(SEED)
    drawn = [poses.sample(rng) for _ in range(POSES // 2)]
    for _ in range(POSES - len(drawn)):
        base, middle = rng.uniform(30, 95), rng.uniform(0, 105)
        alone = rng.random() < 0.5
        bent = np.arange(4) == rng.integers(4) if alone else rng.random(4) < 0.8
        base = base + 15 * alone * (base < 75)
        drawn.append(
            {
                f: (base, 0, middle, 0.6 * middle) if b else (rng.uniform(-15, 20), 0, 5, 3)
                for f, b in zip(FINGERS, bent, strict=True)
            }
        )
    vectors = np.stack([poses.axis_angles(hand, pose) for pose in drawn]) @ ASSET_FROM_HAND
    return Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(-1, 16, 3, 3)


def _wanted(
    hand: Hand, x: Points, normals: Points, weights: Float[np.ndarray, "v 16"], rotations: Float[np.ndarray, "p 16 3 3"]
) -> Float[np.ndarray, "p v 3"]:
    """Offsets at rest after which blend skinning gives the wanted surface of each pose, mm."""
    flesh = np.stack([swelling(hand, j, x, normals, weights[:, descendants(j)].sum(1)) for j in range(1, 16)])
    across = np.stack([hand.frames[j][1] for j in range(1, 16)])
    out = np.empty((len(rotations), len(x), 3))
    for k, rotation in enumerate(rotations):
        vectors = Rotation.from_matrix(rotation[1:]).as_rotvec()
        flexion = np.einsum("jc,jc->j", vectors, across).clip(0, 2.0)
        swollen = x + np.einsum("j,jvc->vc", 1 - np.cos(flexion), flesh)
        turn, shift = placed(hand.joints, rotation)
        wanted = dual_quaternions(swollen, weights, turn, shift)
        blend = np.einsum("vj,jab->vab", weights, turn)
        offset = np.linalg.solve(blend, (wanted - weights @ shift)[..., None])[..., 0] - x
        length = np.linalg.norm(offset, axis=1, keepdims=True)
        out[k] = offset * np.minimum(1, 1.5 * MAX_CORRECTION / np.maximum(length, 1e-9))
    return out


def _mask(hand: Hand, x: Points, weights: Float[np.ndarray, "v 16"]) -> Bool[np.ndarray, "v 15"]:
    """Which joints correct a vertex: those that move it, near by."""
    moved = np.stack([weights[:, descendants(j)].sum(1) for j in range(1, 16)], 1)
    distance = np.linalg.norm(x[:, None] - hand.joints[None, 1:], axis=2)
    return (moved > 1e-3) & (distance < REACH)


def _product(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    """Of quaternions (x, y, z, w)."""
    w = a[:, 3] * b[:, 3] - (a[:, :3] * b[:, :3]).sum(1)
    return np.concatenate([a[:, 3:] * b[:, :3] + b[:, 3:] * a[:, :3] + np.cross(a[:, :3], b[:, :3]), w[:, None]], 1)
