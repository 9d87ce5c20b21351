"""What the meshes of a photo say pixel by pixel: depth, normals, whose they are; and quick pictures made of them.

All meshes stand in one z-buffer, so hands hide each other. Vertices are metres in camera axes, pixels are measured from
the photo's corner. For pictures that people look at closely there is `overlay`; these are for numbers and for video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int8, Int64, UInt8, UInt16

from ..contracts import DEPTH_UNIT
from .rasterizer.raster import interpolate, rasterize
from .rasterizer.triangles import Settings

Mesh = tuple[Float[np.ndarray, "v 3"], Int64[np.ndarray, "f 3"]]
MIN_DRAWN_DEPTH_M = 0.02  # m: what is nearer, or behind the camera, is not drawn
# of hand 1, 2, ...: porcelain first
HAND_COLOURS = ((158, 186, 226), (226, 178, 150), (168, 208, 160), (214, 168, 210))
LIGHT = np.array([-0.42, -0.56, -0.71])  # towards the light: upper left, from the camera's side
AMBIENT, OPACITY = 0.42, 0.92


@dataclass(frozen=True, eq=False)
class SurfaceMaps:
    """Of a photo of h x w px; empty where there is no mesh."""

    depth: Float[np.ndarray, "h w"]  # m along z, 0 where empty
    normals: Float[np.ndarray, "h w 3"]  # unit, camera axes, 0 where empty
    owner: Int8[np.ndarray, "h w"]  # number of the mesh, from 0; -1 where empty


def surface_maps(meshes: Sequence[Mesh], intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]) -> SurfaceMaps:
    """The visible surface of `meshes` in a photo of `size` (height, width) px."""
    height, width = size
    out = SurfaceMaps(
        np.zeros((height, width), np.float32),
        np.zeros((height, width, 3), np.float32),
        np.full((height, width), -1, np.int8),
    )
    window = _window(meshes, intrinsics, size)
    if window is None:
        return out
    part, depth, normals, owner = _draw(meshes, intrinsics, window)
    out.depth[part], out.normals[part], out.owner[part] = depth, normals, owner
    return out


def draw_quickly(
    photo: UInt8[np.ndarray, "h w 3"], meshes: Sequence[Mesh], intrinsics: Float[np.ndarray, "3 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The meshes over the photo, each in its own colour under one lamp: a few milliseconds a hand, for video."""
    window = _window(meshes, intrinsics, photo.shape[:2])
    out = photo.copy()
    if window is None:
        return out
    part, _, normals, owner = _draw(meshes, intrinsics, window)
    lamp = np.float32(AMBIENT + (1 - AMBIENT) * np.clip(normals @ LIGHT.astype(np.float32), 0, 1))[..., None]
    colour = np.array(HAND_COLOURS, np.float32)[owner % len(HAND_COLOURS)] * np.clip(lamp * 1.15, 0, 1.1)
    alpha = cv2.GaussianBlur(np.float32(owner >= 0), (3, 3), 0.7)[..., None]
    # a pixel at the outline has no colour of its own where the mesh just misses it: its neighbours' will do
    spread = cv2.GaussianBlur(np.where(owner[..., None] >= 0, colour, 0).astype(np.float32), (3, 3), 0.7)
    colour = np.where(owner[..., None] >= 0, colour, spread / np.maximum(alpha, 1e-3))
    behind = out[part].astype(np.float32)
    out[part] = np.rint(behind + (np.clip(colour, 0, 255) - behind) * (alpha * OPACITY)).astype(np.uint8)
    return out


def depth_image(depth: Float[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
    """16 bits, in steps of DEPTH_UNIT; 0 where empty, 65535 beyond what 16 bits reach."""
    return np.clip(np.rint(depth / DEPTH_UNIT), 0, 65535).astype(np.uint16)


def depth_picture(depth: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """RGB for people: near is warm, far is cold, over the depths that occur; black where empty."""
    hit = depth > 0
    if not hit.any():
        return np.zeros((*depth.shape, 3), np.uint8)
    low, high = float(depth[hit].min()), float(depth[hit].max())
    near = np.where(hit, 1 - (depth - low) / max(high - low, 1e-6), 0)
    colour = cv2.applyColorMap(np.rint(25 + 215 * near).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(hit[..., None], colour, 0).astype(np.uint8)


def normals_picture(normals: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """RGB: x right is red, y up is green, towards the camera is blue, from -1 at 0 to 1 at 255; black where empty."""
    hit = (normals != 0).any(-1, keepdims=True)
    colour = (normals * [1, -1, -1] + 1) * 127.5
    return np.where(hit, np.rint(colour), 0).astype(np.uint8)


def _window(
    meshes: Sequence[Mesh], intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """left, top, right, bottom (px) of what the meshes may cover, None where that is nothing."""
    points = np.concatenate([v for v, _ in meshes]) if meshes else np.zeros((0, 3))
    points = points[points[:, 2] > MIN_DRAWN_DEPTH_M].astype(np.float64)
    if not len(points):
        return None
    uv = points @ np.asarray(intrinsics, np.float64).T
    uv = np.clip(uv[:, :2] / uv[:, 2:], -1e6, 1e6)
    low = np.maximum(np.floor(uv.min(0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(uv.max(0)).astype(int) + 2, size[::-1])
    return (*low.tolist(), *high.tolist()) if (low < high).all() else None


def _draw(
    meshes: Sequence[Mesh], intrinsics: Float[np.ndarray, "3 3"], window: tuple[int, int, int, int]
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray, np.ndarray]:
    """Where the window is; in it depth, normals and owner."""
    left, top, right, bottom = window
    starts = np.cumsum([0, *(len(v) for v, _ in meshes)])
    vertices = np.concatenate([v for v, _ in meshes]).astype(np.float32)
    faces = np.concatenate([f + start for (_, f), start in zip(meshes, starts, strict=False)])
    ends = np.cumsum([len(f) for _, f in meshes])
    K = np.asarray(intrinsics, np.float64)
    camera = torch.tensor([[K[0, 0], K[1, 1], K[0, 2] - left, K[1, 2] - top]], dtype=torch.float32)
    corners, triangles = torch.from_numpy(vertices)[None], torch.from_numpy(faces)
    with torch.inference_mode():
        raster = rasterize(corners, triangles, camera, (bottom - top, right - left), Settings())
        normal = torch.from_numpy(_vertex_normals(vertices, faces))[None]
        normals = torch.nn.functional.normalize(interpolate(raster, triangles, normal)[:, 0], dim=-1)
        depth = raster.scatter(raster.depth[:, 0])[0].numpy()
        owner = torch.bucketize(raster.face[:, 0], torch.from_numpy(ends), right=True).to(torch.int8)
        return (
            (slice(top, bottom), slice(left, right)),
            depth,
            raster.scatter(normals)[0].numpy(),
            raster.scatter(owner, -1)[0].numpy(),
        )


def _vertex_normals(vertices: Float[np.ndarray, "v 3"], faces: Int64[np.ndarray, "f 3"]) -> Float[np.ndarray, "v 3"]:
    """Outward, weighted by the faces' areas, not normalised."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    corners = [np.bincount(faces[:, k], face[:, i], len(vertices)) for i in range(3) for k in range(3)]
    return np.stack([sum(corners[3 * i : 3 * i + 3]) for i in range(3)], -1).astype(np.float32)
