"""Terms of the mesh (metres, L1) and of the camera's rotation.

Each term takes (prediction, targets, context), gives one value per sample and is 0 without gradient where nothing is
labelled.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..contracts import HandPrediction, HandTargets
from ..geometry.masked import masked
from ..geometry.normals import edge_lengths, edge_vectors, face_normals
from .common import Context, in_hand_frame, same_mesh, wrist_rotation

_SHORT_EDGE = 1e-4  # m; shorter predicted edges have no direction worth a gradient


def vertices(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the full mesh."""
    return _mesh(p, t, (p.vertices - t.vertices).abs().mean((-1, -2)))


def vertices_coarse(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the coarse mesh against the target vertices down-sampled by the hand's own matrix."""
    target = context.template.downsample.to(t.vertices) @ t.vertices
    return _mesh(p, t, (p.vertices_coarse - target).abs().mean((-1, -2)))


def edge_length(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Mean difference of the edges' lengths, as in Pose2Mesh (ECCV 2020)."""
    edges = context.template.edges.to(p.vertices.device)
    return _mesh(p, t, (edge_lengths(p.vertices, edges) - edge_lengths(t.vertices, edges)).abs().mean(-1))


def normal(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Mean |cosine| between a face's predicted edges and its target normal (Pixel2Mesh, ECCV 2018; Pose2Mesh)."""
    faces = context.template.faces.to(p.vertices.device)
    normals = face_normals(t.vertices, faces)  # b f 3
    cosines = [
        (F.normalize(edge_vectors(p.vertices, faces[:, corners]), dim=-1, eps=_SHORT_EDGE) * normals).sum(-1).abs()
        for corners in ([0, 1], [1, 2], [2, 0])
    ]
    return _mesh(p, t, torch.cat(cosines, -1).mean(-1))


def rotation(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """1 - cos(angle) between the learned camera rotation and the wrist's known one: a quarter of the squared
    Frobenius norm of their difference. Of the same hand only: another's rest pose turns its wrist's frame."""
    return masked((p.rotation - wrist_rotation(t)).square().sum((-1, -2)) / 4, t.mano_valid & same_mesh(p, t))


def vertices_local(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the full mesh in the hand's own frame, whatever the rotation: the pose can be learned before the view."""
    error = (in_hand_frame(p.vertices, p.rotation) - in_hand_frame(t.vertices, wrist_rotation(t))).abs().mean((-1, -2))
    return masked(error, t.vertices_valid & t.mano_valid & same_mesh(p, t))


def _mesh(p: HandPrediction, t: HandTargets, error: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    return masked(error, t.vertices_valid & same_mesh(p, t))
