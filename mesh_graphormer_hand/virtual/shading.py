"""Lights the hand at its vertices and draws it: a fraction of the work of lighting every pixel.

The drawn mesh has a vertex every two pixels or so, so the difference from `render.shade` hardly shows; that renderer is
for pictures that people look at, this one for millions that a network sees once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..render.effects import dot, shadow, unit
from ..render.raster import Raster, Settings, interpolate, rasterize
from ..render.shade import Lights, Topology, sh_irradiance, vertex_normals

CHUNK = {"cpu": 4}  # images at a time: few enough for a CPU's cache
SHADOW_SIDE, SHADOW_BIAS = 128, 0.004  # px, m


@dataclass(frozen=True, eq=False)
class Drawn:
    colour: Float[Tensor, "b h w 3"]  # linear
    depth: Float[Tensor, "b h w"]  # m along z, 0 where empty
    part: Int64[Tensor, "b h w"]  # see `surface.PARTS`, -1 where empty


def draw(
    vertices: Float[Tensor, "b v 3"],
    topology: Topology,
    colours: Float[Tensor, "b v 4"],
    cameras: Float[Tensor, "b 4"],
    lights: Lights,
    background: Float[Tensor, "b h w 3"],
    casters: tuple[Float[Tensor, "b q 3"], Int64[Tensor, "g 3"]] | None = None,
) -> Drawn:
    """Draw meshes (m, camera axes) into `background`, which is overwritten.

    Args:
        vertices: of the drawn meshes.
        topology: their faces and parts.
        colours: linear RGB and the share of the highlights.
        cameras: fx, fy, cx, cy in px.
        lights: one set an image.
        background: linear RGB.
        casters: vertices and faces of the (coarser) meshes that cast shadows, None for no shadows.
    """
    b, height, width = background.shape[:3]
    out = Drawn(background, background.new_zeros(b, height, width), topology.parts.new_full((b, height, width), -1))
    step = CHUNK.get(vertices.device.type, b)
    for start in range(0, b, step):
        rows = slice(start, start + step)
        shadows = casters and (casters[0][rows], casters[1])
        lit = light_vertices(vertices[rows], topology, colours[rows], lights[rows], shadows)
        raster = rasterize(vertices[rows], topology.faces, cameras[rows], (height, width), Settings(cull="back"))
        _fill(out, rows, raster, topology, lit)
    return out


def light_vertices(
    vertices: Float[Tensor, "b v 3"],
    topology: Topology,
    colours: Float[Tensor, "b v 4"],
    lights: Lights,
    casters: tuple[Float[Tensor, "b q 3"], Int64[Tensor, "g 3"]] | None = None,
) -> Float[Tensor, "b v 3"]:
    """Ambient + diffuse + Blinn-Phong light that leaves each vertex towards the camera."""
    normal = vertex_normals(vertices, topology)
    direction = lights.direction[:, None]
    towards = dot(normal, direction).clamp_min_(0)
    sun = lights.colour[:, None] * towards.sign()
    if casters is not None:
        b, v = vertices.shape[:2]
        image = torch.arange(b, device=vertices.device).repeat_interleave(v)
        points = vertices.reshape(-1, 3)
        seen = shadow(*casters, lights.direction, SHADOW_SIDE, SHADOW_BIAS, points, image)
        sun = sun * seen.view(b, v, 1)
    half = unit(direction - unit(vertices))
    highlight = torch.exp2(dot(normal, half).clamp_min_(1e-4).log2_() * lights.shininess[:, None, None])
    highlight *= lights.specular[:, None, None] * colours[..., 3:]
    diffuse = torch.addcmul(sh_irradiance(normal, lights.sh).clamp_min_(0), sun, towards)
    return torch.addcmul(sun * highlight, colours[..., :3], diffuse)


def _fill(out: Drawn, rows: slice, raster: Raster, topology: Topology, lit: Float[Tensor, "b v 3"]) -> None:
    """Write the covered pixels of a chunk."""
    colour = interpolate(raster, topology.faces, lit)[:, 0]
    out.colour[rows].view(-1, 3).index_copy_(0, raster.pixel, colour)
    out.depth[rows].view(-1).index_copy_(0, raster.pixel, raster.depth[:, 0])
    out.part[rows].view(-1).index_copy_(0, raster.pixel, topology.parts.index_select(0, raster.face[:, 0]))
