"""Shape space and joint regressor: how hands differ, and where the joints of each lie.

Directions are the principal components of a population (see `population`): central differences of one standard
deviation of each control, the vertices carried along with their bones and set back on the skin of the other hand, mixed
by the controls' covariance. A coefficient of 1 is one standard deviation of the population.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.optimize import nnls

from . import population
from .anatomy import CHAINS, DIGIT_OF, WRIST_PLANE
from .meshes import Mesh
from .primitives import Points
from .surface import Hand

COMPONENTS = 10


def shape_directions(
    hand: Hand, meshes: list[Mesh], weights: list[np.ndarray]
) -> tuple[list[Float[np.ndarray, "v 3 10"]], Float[np.ndarray, "16 3 10"]]:
    """Directions of each mesh and of the joints, mm per standard deviation.

    The PCA is that of the first mesh; the others and the joints move with the same coefficients.
    """
    moves = [[] for _ in meshes]
    joint_moves = []
    _, covariance = population.covariance()
    deviations = np.sqrt(np.diag(covariance))
    for control, deviation in zip(population.CONTROLS, deviations, strict=True):
        more, less = (
            Hand(replace(hand.params, **{control: getattr(hand.params, control) + sign * deviation}))
            for sign in (1, -1)
        )
        for k, (mesh, w) in enumerate(zip(meshes, weights, strict=True)):
            moves[k].append(0.5 * (_carried(hand, more, mesh, w) - _carried(hand, less, mesh, w)))
        joint_moves.append(0.5 * (more.joints - less.joints))
    values, vectors = np.linalg.eigh(covariance / np.outer(deviations, deviations))  # palm and fingers share a length
    root = vectors * np.sqrt(values.clip(0))
    own, _, _ = np.linalg.svd(root.T @ np.stack([m.ravel() for m in moves[0]]), full_matrices=False)
    controls = root @ own
    sign = np.sign(controls[0, :])  # positive: larger hands
    sign[sign == 0] = 1
    mix = (controls * sign)[:, :COMPONENTS]
    directions = [np.einsum("pk,pnc->nck", mix, np.stack(m)) for m in moves]
    return directions, np.einsum("pk,pnc->nck", mix, np.stack(joint_moves))


def joint_regressor(
    vertices: Points,
    joints: Float[np.ndarray, "16 3"],
    shape: Float[np.ndarray, "v 3 10"],
    joint_shape: Float[np.ndarray, "16 3 10"],
) -> Float[np.ndarray, "16 v"]:
    """Sparse convex weights that give the joints of the template and of every shape direction."""
    regressor = np.zeros((16, len(vertices)))
    for joint in range(16):
        wide = joint in (0, CHAINS["thumb"][0])
        near = np.argsort(np.linalg.norm(vertices - joints[joint], axis=1))[: 200 if wide else 90]
        rows = [vertices[near].T - joints[joint][:, None]]
        rows += [shape[near, :, k].T - joint_shape[joint, :, k][:, None] for k in range(shape.shape[2])]
        rows = np.concatenate(rows)
        system = np.concatenate([rows * 10, 1e3 * np.ones((1, len(near))), 0.05 * np.eye(len(near))])
        right = np.concatenate([np.zeros(len(rows)), [1e3], np.zeros(len(near))])
        w, _ = nnls(system, right, maxiter=2000)
        regressor[joint, near] = w / w.sum()
    return regressor


def _carried(hand: Hand, other: Hand, mesh: Mesh, weights: Float[np.ndarray, "v 16"]) -> Points:
    """The mesh on `other`: moved with its bones, then onto the skin, each vertex at its own distance from it."""
    x = _warp(hand, other, mesh.vertices, weights)
    x[mesh.rim, 0] = WRIST_PLANE * other.scale
    offset = hand(mesh.vertices)
    for _ in range(3 if len(mesh.vertices) < 2000 else 2):
        value = other(x)
        f, gradient = value - offset * other.scale / hand.scale, other.gradient(x, value=value)
        gradient[mesh.rim, 0] = 0
        step = -f[:, None] * gradient / np.maximum((gradient**2).sum(1, keepdims=True), 0.05)
        x = x + step * np.minimum(1, 1.0 / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9))
    return x


def _warp(hand: Hand, other: Hand, x: Points, weights: Float[np.ndarray, "v 16"]) -> Points:
    """Points carried by the scaled frames of their bones."""
    out, p, g = np.zeros_like(x), other.params, other.scale / hand.scale
    for joint in range(16):
        if joint == 0:
            palm = np.array([g * p.palm_len, g * p.palm_width, g * p.palm_depth])
            forearm = g * np.array([1, p.wrist, p.wrist])
            distal = np.clip(x[:, :1] / 40.0, 0, 1)
            y = x * (distal * palm + (1 - distal) * forearm)
        else:
            digit = DIGIT_OF[joint]
            bone = CHAINS[digit].index(joint)
            stretch = other.lengths[digit][bone] / hand.lengths[digit][bone]
            girth = g * (p.thumb_girth if digit == "thumb" else p.finger_girth)
            local = (x - hand.joints[joint]) @ hand.frames[joint].T * np.array([stretch, girth, girth])
            y = local @ other.frames[joint] + other.joints[joint]
        out += weights[:, joint : joint + 1] * y
    return out
