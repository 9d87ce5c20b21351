"""Deferred shading: only covered samples are lit, then averaged and laid over a background.

Colours are linear and nominally in [0, 1]; directions and normals are unit vectors in OpenCV camera axes. Letters in
shapes are those of `triangles`. RGB is differentiable in albedo and lights, and in vertices at fixed visibility.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from ..contracts import Record
from .effects import ambient_occlusion, camera_points, depth_darkening, dot, soft_shadow, unit
from .rasterizer.raster import Raster, Settings, interpolate, nearest, rasterize

Rasterizer = Callable[[Tensor, Tensor, Tensor, tuple[int, int], Settings], Raster]
# antialias -> samples a pixel along one axis, whether one of them is shaded for all
ANTIALIAS = {"none": (1, False), "coverage": (2, True), "coverage4": (4, True), "ssaa": (2, False), "ssaa4": (4, False)}


@dataclass(frozen=True)
class Topology(Record):
    """Faces with what depends on them only."""

    faces: Int64[Tensor, "f 3"]
    parts: Int64[Tensor, "f"]  # what each face belongs to, for segmentation
    incident: Int64[Tensor, "f3"]  # faces of each vertex, one list after another, as embedding_bag takes them
    offsets: Int64[Tensor, "v"]  # where each vertex's list starts

    @classmethod
    def build(cls, faces: Int64[Tensor, "f 3"], n_vertices: int, parts: Int64[Tensor, "f"] | None = None) -> Self:
        """Topology of `faces` over `n_vertices` vertices; part 0 everywhere by default."""
        order = faces.flatten().argsort(stable=True)
        counts = torch.bincount(faces.flatten(), minlength=n_vertices)
        parts = torch.zeros(len(faces), dtype=torch.long, device=faces.device) if parts is None else parts
        return cls(faces, parts, order.div(3, rounding_mode="floor"), counts.cumsum(0) - counts)


@dataclass(frozen=True)
class Lights(Record):
    """One environment and one directional light for each image."""

    sh: Float[Tensor, "b 9 3"]  # radiance, real spherical harmonics to order 2: (0,0) (1,-1) (1,0) (1,1) (2,-2) ...
    direction: Float[Tensor, "b 3"]  # towards the light
    colour: Float[Tensor, "b 3"]  # the directional light's irradiance / pi
    specular: Float[Tensor, "b"]  # Blinn-Phong strength
    shininess: Float[Tensor, "b"]  # Blinn-Phong exponent


@dataclass(frozen=True)
class Look:
    """How well to draw.

    `antialias`: "none"; "coverage" (2 x 2 samples of visibility, one shaded) and "coverage4" (4 x 4); "ssaa" (2 x 2
    shaded) and "ssaa4". `occlusion`: strength in [0, 1] of depth darkening over `occlusion_px` pixels and `occlusion_m`
    metres. `ambient_occlusion`: strength in [0, 1] over `ambient_radius` m. `shadow`: side in px of a shadow map of the
    directional light, 0 for none; `shadow_samples` of them spread over `shadow_radius` rad. `shadow_bias`: m.
    """

    antialias: str = "none"
    occlusion: float = 0.0
    occlusion_px: int = 12
    occlusion_m: float = 0.015
    ambient_occlusion: float = 0.0
    ambient_radius: float = 0.02
    shadow: int = 0
    shadow_bias: float = 0.004
    shadow_samples: int = 1
    shadow_radius: float = 0.1
    images_per_chunk: int | None = None

    def __post_init__(self) -> None:
        if self.antialias not in ANTIALIAS:
            raise ValueError(f"antialias is {self.antialias!r}, should be one of {', '.join(ANTIALIAS)}")


@dataclass(frozen=True)
class Render(Record):
    """Pictures and maps of b images; channels last in memory."""

    rgb: Float[Tensor, "b 3 h w"]
    alpha: Float[Tensor, "b 1 h w"]  # share of the pixel that the mesh covers
    depth: Float[Tensor, "b 1 h w"]  # m along z, 0 where empty
    normal: Float[Tensor, "b 3 h w"]  # unit, 0 where empty
    part: Int64[Tensor, "b h w"]  # -1 where empty


def render(
    vertices: Float[Tensor, "b v 3"],
    topology: Topology,
    albedo: Float[Tensor, "b v c"] | Float[Tensor, "v c"],
    cameras: Float[Tensor, "b 4"],
    lights: Lights,
    background: Float[Tensor, "b 3 h w"],
    style: Look | None = None,
    cull: str = "back",
    rasterizer: Rasterizer = rasterize,
) -> Render:
    """Draw b meshes (vertices in m, camera axes) over `background`; cameras are fx, fy, cx, cy in px.

    `albedo` has 3 channels, or a fourth that scales the highlights.
    `rasterizer` finds what is visible: ours, or `pytorch3d_backend.rasterize` (with antialias "none").
    """
    style = style or Look()
    out = _empty(background)
    step = style.images_per_chunk or (4 if vertices.device.type == "cpu" else 128)  # on a CPU: few enough for its cache
    for start in range(0, len(vertices), step):
        part = slice(start, start + step)
        colours = albedo if albedo.dim() == 2 else albedo[part]
        _render_chunk(
            vertices[part], topology, colours, cameras[part], lights[part], out[part], style, cull, rasterizer
        )
    return out


def vertex_normals(vertices: Float[Tensor, "b v 3"], topology: Topology) -> Float[Tensor, "b v 3"]:
    """Area-weighted unit normals, outward for counter-clockwise faces."""
    batch, count = vertices.shape[:2]
    v = vertices.permute(1, 2, 0).reshape(count, -1)  # v 3*b: one row per vertex for all images
    a, b, c = (v.index_select(0, topology.faces[:, k]) for k in range(3))
    (ux, uy, uz), (wx, wy, wz) = ((e - a).view(-1, 3, batch).unbind(1) for e in (b, c))
    n = torch.cat((uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx), 1)
    n = F.embedding_bag(topology.incident, n, topology.offsets, mode="sum").view(count, 3, batch)
    return unit(n, 1).permute(2, 0, 1).contiguous()


def sh_irradiance(normals: Float[Tensor, "b v 3"], sh: Float[Tensor, "b 9 3"]) -> Float[Tensor, "b v 3"]:
    """Irradiance / pi at unit `normals` under radiance `sh`.

    Ramamoorthi and Hanrahan 2001: the cosine lobe scales order l by 1, 2/3, 1/4 once divided by pi.
    """
    x, y, z = normals.unbind(-1)
    basis = torch.stack(
        (
            torch.full_like(x, 0.282095),
            *(0.488603 * y, 0.488603 * z, 0.488603 * x),
            *(1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3 * z * z - 1)),
            *(1.092548 * x * z, 0.546274 * (x * x - y * y)),
        ),
        -1,
    )
    band = torch.tensor([1.0] + [2 / 3] * 3 + [0.25] * 5, device=sh.device, dtype=sh.dtype)
    return basis @ (sh * band[:, None])


def _empty(background: Float[Tensor, "b 3 h w"]) -> Render:
    """Outputs before anything is drawn: the background and empty maps."""
    b, _, h, w = background.shape

    def zeros(channels: int) -> Tensor:
        return background.new_zeros(b, h, w, channels).permute(0, 3, 1, 2)

    rgb = background.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).permute(0, 3, 1, 2)
    part = torch.full((b, h, w), -1, dtype=torch.long, device=background.device)
    return Render(rgb, zeros(1), zeros(1), zeros(3), part)


def _pixels(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "bhw c"]:
    """The same memory (channels last) as one row per pixel."""
    return image.permute(0, 2, 3, 1).view(-1, image.shape[1])


def _render_chunk(
    vertices: Float[Tensor, "b v 3"],
    topology: Topology,
    albedo: Float[Tensor, "*b v a"],
    cameras: Float[Tensor, "b 4"],
    lights: Lights,
    out: Render,
    style: Look,
    cull: str,
    rasterizer: Rasterizer,
) -> None:
    """Draw into `out`."""
    size = (out.rgb.shape[2], out.rgb.shape[3])
    supersample, one_surface = ANTIALIAS[style.antialias]
    settings = Settings(cull=cull, supersample=supersample, one_surface=one_surface)
    r = rasterizer(vertices, topology.faces, cameras, size, settings)
    attributes = interpolate(r, topology.faces, _vertex_attributes(vertices, topology, albedo, lights))
    depth, face = _front(r)
    points, hit = camera_points(r.pixel, depth, cameras, *size), r.face >= 0
    if style.ambient_occlusion:
        up = unit(_average(attributes[..., :3], hit))
        sky = ambient_occlusion(r, points, up, cameras, style.ambient_radius)
        attributes[..., 6:9] *= torch.lerp(torch.ones_like(sky), sky, style.ambient_occlusion)[:, None, None]
    lit = _lit(vertices, topology.faces, lights, points, r.image, style)
    colour, normal = _light_samples(attributes, points, lit, r.image, lights)
    colour, normal = _average(colour, hit), _average(normal, hit)
    if style.occlusion:
        colour = colour * depth_darkening(r, depth, style.occlusion, style.occlusion_px, style.occlusion_m)[:, None]
    alpha = r.coverage[:, None]
    rgb = _pixels(out.rgb)
    rgb.index_copy_(0, r.pixel, torch.lerp(rgb.index_select(0, r.pixel), colour, alpha))
    _pixels(out.alpha).index_copy_(0, r.pixel, alpha)
    _pixels(out.depth).index_copy_(0, r.pixel, depth[:, None])
    _pixels(out.normal).index_copy_(0, r.pixel, unit(normal))
    out.part.view(-1).index_copy_(0, r.pixel, topology.parts.index_select(0, face))


def _lit(
    vertices: Float[Tensor, "b v 3"],
    faces: Int64[Tensor, "f 3"],
    lights: Lights,
    points: Float[Tensor, "p 3"],
    image: Int64[Tensor, "p"],
    style: Look,
) -> Float[Tensor, "p"] | None:
    """Share of the directional light that reaches each point, None for all of it everywhere."""
    if not style.shadow:
        return None
    side, bias, samples = style.shadow, style.shadow_bias, style.shadow_samples
    radius = style.shadow_radius if samples > 1 else 0.0
    return soft_shadow(vertices, faces, lights.direction, side, bias, points, image, radius, samples)


def _vertex_attributes(
    vertices: Float[Tensor, "b v 3"], topology: Topology, albedo: Float[Tensor, "*#b v a"], lights: Lights
) -> Float[Tensor, "b v c"]:
    """What is interpolated: normal, albedo, ambient irradiance / pi, share of the highlights where albedo brings it.

    Ambient light is smooth by nature, so it is evaluated at vertices; the directional light, its highlight and its
    shadow are per sample.
    """
    normal = vertex_normals(vertices, topology)
    ambient = sh_irradiance(normal, lights.sh).clamp_min(0)
    albedo = albedo.expand(len(vertices), -1, -1)
    return torch.cat((normal, albedo[..., :3], ambient, albedo[..., 3:]), -1)


def _light_samples(
    attributes: Float[Tensor, "p s c"],
    points: Float[Tensor, "p 3"],
    lit: Float[Tensor, "p"] | None,
    image: Int64[Tensor, "p"],
    lights: Lights,
) -> tuple[Float[Tensor, "p s 3"], Float[Tensor, "p s 3"]]:
    """Ambient + diffuse + Blinn-Phong: colour and unit normal of every sample; `lit`: share of unshadowed light."""

    def at(v: Shaped[Tensor, "b *c"]) -> Tensor:
        return v.index_select(0, image)[:, None]

    normal = unit(attributes[..., :3])
    direction = at(lights.direction)
    half = unit(direction - unit(points)[:, None])
    colour = at(lights.colour) if lit is None else at(lights.colour) * lit[:, None, None]
    nl = dot(normal, direction).clamp_min(0)
    nh = dot(normal, half).clamp_min(1e-4)
    gloss = at(lights.specular[:, None]) * torch.exp2(nh.log2() * at(lights.shininess[:, None])) * (nl > 0)
    if attributes.shape[-1] > 9:
        gloss = gloss * attributes[..., 9:]
    diffuse = attributes[..., 6:9] + nl * colour
    return attributes[..., 3:6] * diffuse + gloss * colour, normal


def _average(values: Float[Tensor, "p s c"], hit: Bool[Tensor, "p s"]) -> Float[Tensor, "p c"]:
    """Mean over the covered samples."""
    if values.shape[1] == 1:
        return values[:, 0]
    weight = hit.to(values.dtype)
    weight = weight / weight.sum(1, keepdim=True)
    return torch.bmm(weight[:, None], values)[:, 0]


def _front(raster: Raster) -> tuple[Float[Tensor, "p"], Int64[Tensor, "p"]]:
    """Depth m and face of each pixel's nearest covered sample."""
    if raster.face.shape[1] == 1:
        return raster.depth[:, 0], raster.face[:, 0]
    depth, column = nearest(torch.where(raster.face >= 0, raster.depth, float("inf")))
    return depth, raster.face.gather(1, column[:, None])[:, 0]
