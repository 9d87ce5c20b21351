"""The same rasteriser through PyTorch3D, where it is installed: our conventions in, our `Raster` out.

PyTorch3D's axes point left and up, so x and y change sign (a rotation about z: outsides stay outsides). One difference
remains: a sample exactly on an edge belongs to no face in PyTorch3D, where ours has a half-open rule.
`shade.render(..., rasterizer=pytorch3d_backend.rasterize)` draws through it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from ..geometry.cameras import pytorch3d_renderer
from .rasterizer.raster import Raster
from .rasterizer.triangles import Settings


def rasterize(
    vertices: Float[Tensor, "b v 3"],
    faces: Int64[Tensor, "f 3"],
    cameras: Float[Tensor, "b 4"],
    size: tuple[int, int],
    settings: Settings | None = None,
) -> Raster:
    """Visible surface of b meshes that share `faces`, as `raster.rasterize` gives it.

    Raises:
        ImportError: PyTorch3D is not installed.
        ValueError: settings that PyTorch3D has no equivalent of: culling of front faces, supersampling.
    """
    s = settings or Settings()
    if s.cull == "front" or s.supersample > 1:
        raise ValueError(f"PyTorch3D's rasteriser knows no cull={s.cull!r} with supersample={s.supersample}")
    fragments = _fragments(vertices, faces, cameras, size, s)
    face = fragments.pix_to_face[..., 0]  # numbered through the whole batch
    pixel = (face.flatten() >= 0).nonzero().squeeze(1)

    def covered(v: Shaped[Tensor, "b h w 1 *c"]) -> Tensor:
        return v.reshape(face.numel(), *v.shape[3:]).index_select(0, pixel)

    depth = covered(fragments.zbuf)
    return Raster(
        pixel=pixel,
        face=covered(fragments.pix_to_face) % faces.shape[0],
        depth=depth,
        bary=covered(fragments.bary_coords),
        coverage=torch.ones_like(depth[:, 0]),
        batch=vertices.shape[0],
        height=size[0],
        width=size[1],
    )


def _fragments(
    vertices: Float[Tensor, "b v 3"],
    faces: Int64[Tensor, "f 3"],
    cameras: Float[Tensor, "b 4"],
    size: tuple[int, int],
    s: Settings,
) -> Any:
    """What PyTorch3D's MeshRasterizer says, (b, h, w, 1 ...)."""
    renderer = pytorch3d_renderer()
    if renderer is None:
        raise ImportError("PyTorch3D is not installed: use the conda route of environment.yml, or render.raster")
    from pytorch3d.structures import Meshes

    batch = vertices.shape[0]
    camera = renderer.PerspectiveCameras(
        focal_length=cameras[:, :2],
        principal_point=cameras[:, 2:],
        in_ndc=False,
        image_size=torch.tensor(size, device=vertices.device).expand(batch, 2),
        device=vertices.device,
    )
    settings = renderer.RasterizationSettings(
        image_size=size,
        blur_radius=0.0,
        faces_per_pixel=1,
        perspective_correct=True,
        cull_backfaces=s.cull == "back",
        z_clip_value=s.near if s.clip else None,
    )
    meshes = Meshes(vertices * vertices.new_tensor([-1, -1, 1]), faces.expand(batch, -1, -1))
    return renderer.MeshRasterizer(camera, settings)(meshes)
