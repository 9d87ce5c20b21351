"""PyTorch3D itself, where it is installed: our camera, rasteriser and rendering backend give its numbers."""

import pytest
import torch

from helpers.reference_cameras import FLIP, random_rotations, stored_camera
from helpers.render_scenes import blobs, reference, sphere
from mesh_graphormer_hand.geometry.cameras import LearnedCamera, intrinsics, perspective_project
from mesh_graphormer_hand.render import pytorch3d_backend
from mesh_graphormer_hand.render.rasterizer import raster
from mesh_graphormer_hand.render.shading import Lights, Topology, render

pytestmark = pytest.mark.pytorch3d


def stored():
    return {key: torch.as_tensor(value) for key, value in reference().items()}


def test_learned_camera_through_pytorch3d_equals_stored_and_builtin():
    d = stored()
    through, own = (stored_camera(d, backend).project(d["points"]) for backend in ("pytorch3d", "builtin"))
    assert torch.allclose(-through, d["orthographic_ndc"][..., :2], atol=1e-6)
    assert torch.allclose(through, own, atol=1e-6)
    assert torch.equal(stored_camera(d, "auto").project(d["points"]), through), "auto takes PyTorch3D where it is"


def test_learned_camera_gradients_equal():
    """What R, t and s learn does not depend on the backend."""
    pieces = random_rotations(6).view(2, 3, 3, 3), torch.randn(2, 3, 3) * 0.1, torch.rand(2, 3) + 4
    points, weight = torch.randn(2, 3, 21, 3) * 0.1, torch.randn(2, 3, 21, 2)
    found = []
    for backend in ("pytorch3d", "builtin"):
        leaves = [v.clone().requires_grad_() for v in (*pieces, points)]
        (LearnedCamera(*leaves[:3], backend).project(leaves[3]) * weight).sum().backward()
        found.append([v.grad for v in leaves])
    for through, own in zip(*found, strict=True):
        assert torch.allclose(through, own, atol=1e-4)


def test_perspective_camera_equals():
    from pytorch3d.renderer import PerspectiveCameras

    points = torch.randn(3, 21, 3) * 0.1 + torch.tensor([0.05, -0.02, 0.6])
    focal, centre = torch.tensor([[480.0, 470.0], [300, 310], [900, 880]]), torch.tensor([[112.3, 110.9]]).expand(3, 2)
    size = torch.tensor([[224, 224]]).expand(3, 2)
    camera = PerspectiveCameras(focal_length=focal, principal_point=centre, in_ndc=False, image_size=size)
    theirs = camera.transform_points_screen(points * FLIP)[..., :2]
    assert torch.allclose(perspective_project(points, intrinsics(focal, centre)), theirs, atol=1e-3)


def compare(vertices, faces, cameras, size, settings=None):
    """Share of pixels with another face; largest differences of depth (m) and barycentrics on the others."""
    own = raster.rasterize(vertices, faces, cameras, size, settings).dense()
    through = pytorch3d_backend.rasterize(vertices, faces, cameras, size, settings).dense()
    same = own[1] == through[1]
    assert float((own[1] >= 0).float().mean()) > 0.02
    return (
        float((~same).float().mean()),
        float((own[0] - through[0])[same].abs().max()),
        float((own[2] - through[2])[same].abs().max()),
    )


@pytest.mark.parametrize("cull", ["none", "back"])
def test_rasteriser_equals(cull):
    vertices, faces = blobs(4)
    cameras = torch.tensor([[260.0, 255, 61.3, 66.1]]).repeat(4, 1)
    share, depth, bary = compare(vertices, faces, cameras, (128, 120), raster.Settings(cull=cull))
    assert share < 1e-3 and depth < 1e-5 and bary < 1e-3


def test_rasteriser_equals_at_the_near_plane():
    vertices, faces = sphere(3, 0.3, (0.05, 0.02, 0.2))
    settings = raster.Settings(near=0.1)
    share, depth, _ = compare(vertices[None], faces, torch.tensor([[60.0, 60, 32, 32]]), (64, 64), settings)
    assert share < 1e-3 and depth < 1e-5


def test_backend_equals_stored_outputs():
    d = stored()
    cameras = torch.tensor([[480.0, 480, 112, 112]]).repeat(len(d["mesh_vertices"]), 1)
    depth, face, bary = pytorch3d_backend.rasterize(d["mesh_vertices"], d["mesh_faces"], cameras, (224, 224)).dense()
    same = face == d["pix_to_face"]
    assert float((~same).float().mean()) < 1e-4
    assert float((depth - d["zbuf"])[same].abs().max()) < 1e-6
    assert float((bary[:, ::8, ::8] - d["bary"])[same[:, ::8, ::8]].abs().max()) < 1e-5


def test_pictures_through_the_backend_equal():
    """Shading on top of PyTorch3D's visibility gives our pictures."""
    vertices, faces = blobs(2)
    topology = Topology.build(faces, vertices.shape[1])
    sh = torch.zeros(2, 9, 3)
    sh[:, 0], sh[:, 1] = 1.5, -0.5
    direction = torch.tensor([[0.0, -0.6, -0.8]]).expand(2, 3)
    lights = Lights(sh, direction, torch.full((2, 3), 0.5), torch.full((2,), 0.2), torch.full((2,), 20.0))
    albedo, background = torch.rand(vertices.shape[1], 3), torch.rand(2, 3, 96, 96)
    cameras = torch.tensor([[200.0, 200, 48, 48]]).repeat(2, 1)
    scene = vertices, topology, albedo, cameras, lights, background
    own, through = render(*scene), render(*scene, rasterizer=pytorch3d_backend.rasterize)
    differ = (own.rgb - through.rgb).abs().amax(1) > 1e-3
    assert float(differ.float().mean()) < 1e-3
    assert float((own.alpha != through.alpha).float().mean()) < 1e-3


def test_gradients_through_the_backend_equal():
    vertices, faces = blobs(2, 2)
    cameras = torch.tensor([[200.0, 200, 32, 32]]).repeat(2, 1)
    found = []
    for rasterize in (raster.rasterize, pytorch3d_backend.rasterize):
        leaf = vertices.clone().requires_grad_()
        r = rasterize(leaf, faces, cameras, (64, 64))
        inside = r.bary.amin(-1) > 0.02  # the same pixels, none of them on an edge
        (r.depth[inside] * (1 + r.pixel[:, None][inside] % 7)).sum().backward()
        found.append(leaf.grad)
    assert torch.allclose(*found, atol=2e-3 * float(found[0].abs().max()))


def test_settings_without_equivalent_are_refused():
    vertices, faces = blobs(1, 1)
    for settings in (raster.Settings(cull="front"), raster.Settings(supersample=2)):
        with pytest.raises(ValueError, match="PyTorch3D's rasteriser knows no"):
            pytorch3d_backend.rasterize(vertices, faces, torch.ones(1, 4), (8, 8), settings)
