"""Normals, edges and edge lengths of triangle meshes. Faces are counter-clockwise seen from outside."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def face_normals(
    vertices: Float[Tensor, "*b v 3"], faces: Int64[Tensor, "f 3"], unit: bool = True
) -> Float[Tensor, "*b f 3"]:
    """Outward normals of the faces: of length 1, or (unit=False) of twice the face's area. Flat faces give 0."""
    a, b, c = (vertices[..., faces[:, i], :] for i in range(3))
    normals = torch.linalg.cross(b - a, c - a)
    return F.normalize(normals, dim=-1, eps=1e-20) if unit else normals


def vertex_normals(vertices: Float[Tensor, "*b v 3"], faces: Int64[Tensor, "f 3"]) -> Float[Tensor, "*b v 3"]:
    """Unit normals of the vertices: the mean of their faces' normals weighted by area."""
    normals = face_normals(vertices, faces, unit=False)
    summed = torch.zeros_like(vertices)
    for corner in range(3):
        summed = summed.index_add(-2, faces[:, corner], normals)
    return F.normalize(summed, dim=-1, eps=1e-20)


def edge_vectors(vertices: Float[Tensor, "*b v 3"], edges: Int64[Tensor, "e 2"]) -> Float[Tensor, "*b e 3"]:
    """From each edge's first vertex to its second."""
    return vertices[..., edges[:, 1], :] - vertices[..., edges[:, 0], :]


def edge_lengths(vertices: Float[Tensor, "*b v 3"], edges: Int64[Tensor, "e 2"]) -> Float[Tensor, "*b e"]:
    """Lengths of the edges, with gradient 0 (not NaN) at length 0."""
    return torch.linalg.vector_norm(edge_vectors(vertices, edges), dim=-1)
