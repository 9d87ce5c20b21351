"""What light does between surfaces: shadow maps for the directional light, ambient occlusion, depth darkening."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from .rasterizer.raster import Raster, Settings, rasterize

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))  # rad: turns that never repeat, for even discs of points
LIGHT_DISTANCE = 3.0  # m: far enough for rays to be near parallel, near enough for float32 depths


def dot(a: Float[Tensor, "..."], b: Float[Tensor, "..."], dim: int = -1) -> Tensor:
    """Dot product over an axis of length 3, kept as length 1 (faster than a reduction over so short an axis)."""
    p = a * b
    return p.narrow(dim, 0, 1) + p.narrow(dim, 1, 1) + p.narrow(dim, 2, 1)


def unit(v: Float[Tensor, "..."], dim: int = -1) -> Tensor:
    """Vectors of length 3 along `dim` scaled to length 1 (zero stays zero)."""
    return v * dot(v, v, dim).clamp_min(1e-30).rsqrt()


def camera_points(
    pixel: Int64[Tensor, "p"], depth: Float[Tensor, "p"], cameras: Float[Tensor, "b 4"], height: int, width: int
) -> Float[Tensor, "p 3"]:
    """Camera-space points in m at the centres of pixels (numbered as in `Raster.pixel`) at `depth` m."""
    image = pixel.div(height * width, rounding_mode="floor")
    inside = pixel - image * (height * width)
    row = inside.div(width, rounding_mode="floor")
    fx, fy, cx, cy = (c.index_select(0, image) for c in cameras.unbind(1))
    x = ((inside - row * width) + 0.5 - cx) / fx
    y = (row + 0.5 - cy) / fy
    return torch.stack((x * depth, y * depth, depth), -1)


def shadow(
    vertices: Float[Tensor, "b v 3"],
    faces: Int64[Tensor, "f 3"],
    direction: Float[Tensor, "b 3"],
    side: int,
    bias: float,
    points: Float[Tensor, "p 3"],
    image: Int64[Tensor, "p"],
) -> Float[Tensor, "p"]:
    """Share of the light from `direction` (towards it) that reaches `points` m of images `image`.

    A `side` x `side` depth map seen from the light, compared at a 3 x 3 tent of texels with `bias` m.
    """
    centre = vertices.mean(1, keepdim=True)
    radius = (vertices - centre).norm(dim=-1).amax(1)
    frame = _light_frame(direction)
    focal = 0.48 * side * (LIGHT_DISTANCE - radius) / radius
    half = torch.full_like(focal, side / 2)
    seen = (vertices - centre) @ frame + vertices.new_tensor([0, 0, LIGHT_DISTANCE])
    cameras = torch.stack((focal, focal, half, half), -1)
    # Back faces cast the shadow, so that front faces do not darken themselves.
    depth = rasterize(seen, faces, cameras, (side, side), Settings(cull="front"))
    depth = depth.scatter(depth.depth[:, 0], float("inf")).flatten()

    def at(v: Shaped[Tensor, "b *c"]) -> Tensor:
        return v.index_select(0, image)

    p = torch.bmm((points - at(centre[:, 0]))[:, None], at(frame))[:, 0] + vertices.new_tensor([0, 0, LIGHT_DISTANCE])
    scale = at(focal) / p[:, 2]
    return _tent(depth, image, p[:, 0] * scale + side / 2, p[:, 1] * scale + side / 2, p[:, 2] - bias, side)


def soft_shadow(
    vertices: Float[Tensor, "b v 3"],
    faces: Int64[Tensor, "f 3"],
    direction: Float[Tensor, "b 3"],
    side: int,
    bias: float,
    points: Float[Tensor, "p 3"],
    image: Int64[Tensor, "p"],
    radius: float,
    samples: int,
) -> Float[Tensor, "p"]:
    """`shadow` averaged over `samples` directions in a disc of `radius` rad around `direction`."""
    frame = _light_frame(direction)
    total = torch.zeros_like(points[:, 0])
    for x, y in disc(samples):
        jittered = unit(unit(direction) + radius * (x * frame[..., 0] + y * frame[..., 1]))
        total += shadow(vertices, faces, jittered, side, bias, points, image)
    return total / samples


def disc(samples: int) -> list[tuple[float, float]]:
    """Points spread evenly over the unit disc (a sunflower's spiral)."""
    polar = [(math.sqrt((k + 0.5) / samples), k * GOLDEN_ANGLE) for k in range(samples)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in polar]


def ambient_occlusion(
    raster: Raster,
    points: Float[Tensor, "p 3"],
    normals: Float[Tensor, "p 3"],
    cameras: Float[Tensor, "b 4"],
    radius: float,
    samples: int = 32,
) -> Float[Tensor, "p"]:
    """Share of the sky, in [0, 1], that the visible surface within `radius` m leaves open to each covered pixel.

    Screen-space: what stands above the tangent plane at points sampled around the pixel blocks its part of the sky.
    """
    image = raster.image
    pixel = raster.pixel - image * (raster.height * raster.width)
    row = pixel.div(raster.width, rounding_mode="floor")
    column = pixel - row * raster.width
    surface = raster.scatter(points).reshape(-1, 3)  # z 0 where empty
    reach = cameras[:, 0].index_select(0, image) * radius / points[:, 2]  # px
    blocked = torch.zeros_like(reach)
    for x, y in disc(samples):
        u, v = column + (x * reach).round().long(), row + (y * reach).round().long()
        inside = (u >= 0) & (u < raster.width) & (v >= 0) & (v < raster.height)
        at = (image * raster.height + v.clamp(0, raster.height - 1)) * raster.width + u.clamp(0, raster.width - 1)
        other = surface.index_select(0, at)
        offset = other - points
        distance = dot(offset, offset)[:, 0].clamp_min(1e-12).sqrt()
        rise = dot(offset, normals)[:, 0] / distance
        fade = (1 - distance / (1.5 * radius)).clamp_min(0)  # what is far in depth does not touch the sky here
        blocked += (rise - 0.1).clamp_min(0) * fade * (inside & (other[:, 2] > 0))
    return (1 - 2.5 * blocked / samples).clamp(0, 1)


def _light_frame(direction: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 3"]:
    """Rotation whose columns are the light's x, y and viewing axes."""
    z = -unit(direction)
    up = torch.where(z[:, 1:2].abs() > 0.9, z.new_tensor([[1.0, 0, 0]]), z.new_tensor([[0, 1.0, 0]]))
    x = unit(torch.linalg.cross(up, z))
    return torch.stack((x, torch.linalg.cross(z, x), z), -1)


def _tent(
    depth: Float[Tensor, "texels"],
    image: Int64[Tensor, "p"],
    u: Float[Tensor, "p"],
    v: Float[Tensor, "p"],
    limit: Float[Tensor, "p"],
    side: int,
) -> Float[Tensor, "p"]:
    """Share of the 3 x 3 texels around (u, v), tent-weighted, whose depth is at least `limit`."""
    u0, v0 = u.floor().clamp(1, side - 2), v.floor().clamp(1, side - 2)
    base = image * (side * side) + (v0 * side + u0).long()
    fu, fv = (u - u0).clamp(0, 1), (v - v0).clamp(0, 1)
    wu, wv = (((1 - f) * 0.5, torch.full_like(f, 0.5), f * 0.5) for f in (fu, fv))
    return sum(
        (depth.index_select(0, base + (j - 1) * side + i - 1) >= limit) * (wu[i] * wv[j])
        for i in range(3)
        for j in range(3)
    )


def depth_darkening(
    raster: Raster, depth: Float[Tensor, "p"], strength: float, reach_px: int, reach_m: float
) -> Float[Tensor, "p"]:
    """Factor in [1 - strength, 1] that darkens pixels behind the mean depth (m) of what surrounds them."""
    dense = raster.scatter(torch.stack((depth, torch.ones_like(depth)), -1)).permute(0, 3, 1, 2)
    small = F.avg_pool2d(dense, 4, ceil_mode=True)
    kernel = max(1, reach_px // 4) // 2 * 2 + 1
    for _ in range(2):  # twice a box is near enough a smooth kernel
        small = F.avg_pool2d(small, kernel, 1, kernel // 2)
    mean = small[:, :1] / small[:, 1:].clamp_min(1e-6)
    mean = F.interpolate(mean, dense.shape[-2:], mode="bilinear").flatten()
    behind = (depth - mean.index_select(0, raster.pixel)) / reach_m
    return 1 - strength * behind.clamp(0, 1)
