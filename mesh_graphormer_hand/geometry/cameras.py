"""Cameras: from 3D points to pixels and to crop coordinates, and back where that is possible.

Frames:

* camera axes, OpenCV's: x right, y down, z forward, metres;
* pixels from the image's top-left CORNER: the centre of pixel (row, column) lies at (column + 0.5, row + 0.5);
* crop coordinates: the square crop as [-1, 1] x [-1, 1], x right, y down, -1 and 1 on its borders.

PyTorch3D points x left and y up, multiplies row vectors and so holds rotations transposed; `LearnedCamera` alone
crosses that border in this module. Worked example: a hand turned by the column rotation R, moved by t, at scale s:

    ours         crop = s (R x + t) [0:2]
    PyTorch3D    world-to-view R' = R^T diag(-1, -1, 1), T' = t diag(-1, -1, 1), focal length s, so that its
                 normalised coordinates s (x R' + T') [0:2] are our crop coordinates with both signs turned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

Number = float | int
PROJECTIONS = ("auto", "pytorch3d", "builtin")


def intrinsics(focal: Float[Tensor, "..."], centre: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 3 3"]:
    """Pinhole matrices from focal lengths (*b), or (*b, 2) for x and y, and principal points, all in px."""
    focal = focal[..., None] if focal.dim() < centre.dim() else focal
    k = centre.new_zeros(*centre.shape[:-1], 3, 3)
    k[..., 0, 0], k[..., 1, 1] = focal[..., 0], focal[..., -1]
    k[..., :2, 2] = centre
    k[..., 2, 2] = 1
    return k


def perspective_project(
    points: Float[Tensor, "*b n 3"], intrinsics: Float[Tensor, "*b 3 3"]
) -> Float[Tensor, "*b n 2"]:
    """Pixels of points (m, camera axes) that lie in front of the camera."""
    uvw = points @ intrinsics.transpose(-1, -2)
    return uvw[..., :2] / uvw[..., 2:]


def weak_perspective(points: Float[Tensor, "*b n 3"], camera: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b n 2"]:
    """Crop coordinates s (xy + t) of points (m, camera axes) under camera (s, tx, ty), s in 1/m and t in m."""
    return camera[..., None, :1] * (points[..., :2] + camera[..., None, 1:])


def crop_to_pixels(uv: Float[Tensor, "*b n 2"], crop_size: Float[Tensor, "*b"] | Number) -> Float[Tensor, "*b n 2"]:
    """Crop coordinates in [-1, 1] -> px of a square crop of side `crop_size` px."""
    return (uv + 1) * 0.5 * _per_point(crop_size)


def _per_point(size: Tensor | Number) -> Tensor | Number:
    return size[..., None, None] if isinstance(size, Tensor) and size.dim() else size


@dataclass(frozen=True)
class LearnedCamera:
    """The camera (R, t, s) that a network learns: crop coordinates = s (R x + t) [0:2] of a point x of the hand.

    Raises:
        ValueError: a backend that is none.
        ImportError: PyTorch3D is asked for and absent.
    """

    rotation: Float[Tensor, "*b 3 3"]  # camera from the hand's own frame, for column vectors
    translation: Float[Tensor, "*b 3"]  # m, camera axes; its z moves nothing in the crop
    scale: Float[Tensor, "*b"]  # crop half-sides per m
    backend: str = "auto"  # auto (PyTorch3D where it is installed) | pytorch3d | builtin

    def __post_init__(self) -> None:
        if self.backend not in PROJECTIONS:
            raise ValueError(f"camera backend is {self.backend!r}, should be one of {', '.join(PROJECTIONS)}")
        if self.backend == "pytorch3d" and pytorch3d_renderer() is None:
            raise ImportError(
                "camera backend 'pytorch3d' needs PyTorch3D, which is not installed: use the conda route of "
                "environment.yml, or the backend 'builtin', which gives the same numbers"
            )

    @classmethod
    def from_weak_perspective(
        cls, camera: Float[Tensor, "*b 3"], rotation: Float[Tensor, "*b 3 3"] | None = None, backend: str = "auto"
    ) -> Self:
        """From (s, tx, ty); no rotation: the points stand in camera axes already."""
        if rotation is None:
            rotation = torch.eye(3, dtype=camera.dtype, device=camera.device).expand(*camera.shape[:-1], 3, 3)
        translation = torch.cat((camera[..., 1:], torch.zeros_like(camera[..., :1])), -1)
        return cls(rotation, translation, camera[..., 0], backend)

    def view(self, points: Float[Tensor, "*b n 3"]) -> Float[Tensor, "*b n 3"]:
        """The points (m, the hand's own frame) in camera axes, m."""
        with torch.autocast(points.device.type, enabled=False):  # half precision would cost a pixel
            points, rotation, translation, _ = self._same_type(points)
            return points @ rotation.transpose(-1, -2) + translation[..., None, :]

    def project(self, points: Float[Tensor, "*b n 3"]) -> Float[Tensor, "*b n 2"]:
        """Crop coordinates in [-1, 1] of points (m, the hand's own frame)."""
        renderer = None if self.backend == "builtin" else pytorch3d_renderer()
        if renderer is None:
            return self._same_type(points)[3][..., None, None] * self.view(points)[..., :2]
        with torch.autocast(points.device.type, enabled=False):
            return -self._pytorch3d_ndc(renderer, *self._same_type(points))

    def project_pixels(
        self, points: Float[Tensor, "*b n 3"], crop_size: Float[Tensor, "*b"] | Number
    ) -> Float[Tensor, "*b n 2"]:
        """Px of a square crop of side `crop_size` px."""
        return crop_to_pixels(self.project(points), crop_size)

    def _same_type(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Points, rotation, translation, scale in one type of at least 32 bits."""
        dtype = torch.promote_types(torch.promote_types(points.dtype, self.rotation.dtype), torch.float32)
        return tuple(v.to(dtype) for v in (points, self.rotation, self.translation, self.scale))

    @staticmethod
    def _pytorch3d_ndc(
        renderer: ModuleType,
        points: Float[Tensor, "*b n 3"],
        rotation: Float[Tensor, "*b 3 3"],
        translation: Float[Tensor, "*b 3"],
        scale: Float[Tensor, "*b"],
    ) -> Float[Tensor, "*b n 2"]:
        flip = points.new_tensor([-1, -1, 1])
        camera = renderer.OrthographicCameras(
            focal_length=scale.reshape(-1, 1).expand(-1, 2),
            R=(rotation.transpose(-1, -2) * flip).reshape(-1, 3, 3),
            T=(translation * flip).reshape(-1, 3),
            device=points.device,
        )
        flat = points.expand(*rotation.shape[:-2], *points.shape[-2:]).reshape(-1, *points.shape[-2:])
        ndc = camera.transform_points_ndc(flat)[..., :2]
        return ndc.reshape(*rotation.shape[:-2], *ndc.shape[-2:])


@lru_cache(maxsize=1)
def pytorch3d_renderer() -> ModuleType | None:
    """PyTorch3D's renderer package, or None where it cannot be imported."""
    try:
        import pytorch3d.renderer as renderer
    except (ImportError, OSError):  # OSError: built for another torch, its library cannot be loaded
        return None
    return renderer
