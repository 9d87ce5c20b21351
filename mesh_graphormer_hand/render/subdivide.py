"""Rounder meshes for pictures: split triangles in four and lift the new vertices off the facets.

Phong tessellation (Boubekeur and Alexa 2008): a midpoint is pulled towards its projections on the tangent planes of the
edge's ends. The old vertices stay where they are, so a smoothed hand is still the hand that was predicted.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .shading import Topology, vertex_normals

PULL = 0.7  # between 0, flat, and 1


def smooth(
    vertices: Float[Tensor, "b v 3"],
    faces: Int64[Tensor, "f 3"],
    attributes: Float[Tensor, "v c"],
    levels: int = 1,
) -> tuple[Float[Tensor, "b v2 3"], Int64[Tensor, "f2 3"], Float[Tensor, "v2 c"]]:
    """`vertices` followed by the new ones, `faces` split in four, and vertex `attributes`, `levels` times."""
    for _ in range(levels):
        edges, finer = split(faces, vertices.shape[1])
        vertices = torch.cat((vertices, _midpoints(vertices, edges, faces)), 1)
        attributes = torch.cat((attributes, attributes[edges].mean(1)))
        faces = finer
    return vertices, faces, attributes


def split(faces: Int64[Tensor, "f 3"], n_vertices: int) -> tuple[Int64[Tensor, "e 2"], Int64[Tensor, "f4 3"]]:
    """The edges that get a new vertex (number `n_vertices` + edge), and the faces over old and new vertices."""
    a, b, c = faces.unbind(1)
    pairs = torch.cat([torch.stack(p, 1).sort(1).values for p in ((a, b), (b, c), (c, a))])
    edges, middle = pairs.unique(dim=0, return_inverse=True)
    ab, bc, ca = (middle + n_vertices).view(3, -1)
    quarters = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
    return edges, torch.cat([torch.stack(corner, 1) for corner in quarters])


def _midpoints(
    vertices: Float[Tensor, "b v 3"], edges: Int64[Tensor, "e 2"], faces: Int64[Tensor, "f 3"]
) -> Float[Tensor, "b e 3"]:
    normals = vertex_normals(vertices, Topology.build(faces, vertices.shape[1]))
    a, b = (vertices.index_select(1, e) for e in edges.unbind(1))
    na, nb = (normals.index_select(1, e) for e in edges.unbind(1))
    half = (b - a) / 2
    # Projecting the midpoint m on the plane at a moves it by -(m - a, n) n; the mean of both ends' moves.
    lift = ((half * nb).sum(-1, keepdim=True) * nb - (half * na).sum(-1, keepdim=True) * na) / 2
    return (a + b) / 2 + PULL * lift
