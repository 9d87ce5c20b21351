"""Terms that tie the image to the hand's surface and depth: 2.5D joints and dense correspondence to the template.

Both are in crop units through the weak-perspective camera that fits a sample's own 3D joints to its 2D ones, so every
data set with those labels has them, whatever its camera.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..contracts import HandPrediction, HandTargets
from ..geometry.heatmaps import inside_crop
from ..geometry.masked import masked_mean
from ..geometry.normals import vertex_normals
from ..geometry.relative_depth import crop_camera
from ..mano.template import HandTemplate
from .common import Context, same_joints, same_mesh

DECIMETRES = 10.0  # positions in dm and unit normals weigh about the same
_LEVELS = 1 << 20  # of depth in the z-buffer's keys


def joints_25d_l1(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of each joint's place (where it lies in the crop) and of its depth less the joints' mean (Iqbal et al., ECCV
    2018: scale-normalised 2.5D)."""
    uv, camera, labelled = crop_camera(t)
    place = (p.joints_25d[..., :2] - uv).abs().mean(-1)
    depth = _centred(p.joints_25d[..., 2], labelled) - _centred(camera[:, :1] * t.joints[..., 2], labelled)
    inside = t.joints_2d_valid & inside_crop(t.joints_2d, t.crop_size)
    compared = same_joints(p, t)
    if isinstance(compared, Tensor):
        labelled = labelled & compared[:, None]
    return masked_mean(place, inside) + masked_mean(depth.abs(), labelled)


def surface(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 between the map of the surface and the template's position and normal at the point that each cell shows
    (dense correspondence, as DensePose, CVPR 2018, and NOCS, CVPR 2019): which finger, which side."""
    height, width = p.surface.shape[-2:]
    _, camera, labelled = crop_camera(t)
    point, seen = nearest_points(t.vertices, camera, context.template, (height, width))
    target = template_points(context.template)[point].permute(0, 2, 1)  # b 6 cells
    error = (p.surface.flatten(-2) - target).abs().mean(1)
    known = t.vertices_valid & same_mesh(p, t) & labelled.any(-1)
    return masked_mean(error, seen & known[:, None])


def template_points(template: HandTemplate) -> Float[Tensor, "n 6"]:
    """Position (dm) and normal of the template's vertices, then of its faces' centres."""
    normals = vertex_normals(template.vertices[None], template.faces)[0]
    points = torch.cat([template.vertices * DECIMETRES, normals], -1)
    return torch.cat([points, points[template.faces].mean(1)])


def nearest_points(
    vertices: Float[Tensor, "b 778 3"], camera: Float[Tensor, "b 3"], template: HandTemplate, shape: tuple[int, int]
) -> tuple[Tensor, Bool[Tensor, "b cells"]]:
    """For each cell of a map of the crop, row by row: which of `template_points` it shows, and whether any.

    Points are splatted into a z-buffer: vertices and faces' centres that look towards the camera are dense enough for
    the cells of heat maps.
    """
    height, width = shape
    faces = template.faces
    points = torch.cat([vertices, vertices[:, faces].mean(2)], 1)
    normals = vertex_normals(vertices, faces)
    towards = torch.cat([normals[..., 2], normals[..., 2][:, faces].mean(2)], 1) < 0
    uv = (camera[:, None, :1] * (points[..., :2] + camera[:, None, 1:]) + 1) / 2
    column, row = (uv[..., 0] * width).floor().long(), (uv[..., 1] * height).floor().long()
    inside = towards & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    z = points[..., 2]
    low, high = z.amin(1, keepdim=True), z.amax(1, keepdim=True)
    level = ((z - low) / (high - low).clamp_min(1e-6) * (_LEVELS - 1)).long()
    count = points.shape[1]
    key = level * count + torch.arange(count, device=z.device)
    nothing = _LEVELS * count
    cell = (row * width + column).clamp(0, height * width - 1)
    buffer = key.new_full((len(z), height * width), nothing)
    buffer = buffer.scatter_reduce(1, cell, key.masked_fill(~inside, nothing), "amin")
    return buffer % count, buffer < nothing


def _centred(values: Float[Tensor, "b n"], valid: Bool[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    return values - masked_mean(values, valid)[:, None]
