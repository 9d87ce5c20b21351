"""Cameras: stored outputs of PyTorch3D 0.7.9, round trips, agreement between kinds of cameras, gradients."""

import pytest
import torch

from helpers.reference_cameras import FLIP, random_rotations, stored_camera
from helpers.render_scenes import reference
from mesh_graphormer_hand.geometry.cameras import (
    LearnedCamera,
    crop_to_pixels,
    intrinsics,
    perspective_project,
    pytorch3d_renderer,
    weak_perspective,
)


@pytest.fixture(scope="module")
def stored():
    return {key: torch.as_tensor(value) for key, value in reference().items()}


def test_learned_camera_equals_pytorch3d(stored):
    """View, normalised and screen coordinates, for asymmetric rotations."""
    camera = stored_camera(stored)
    assert torch.allclose(camera.view(stored["points"]) * FLIP, stored["view_points"], atol=1e-6)
    assert torch.allclose(-camera.project(stored["points"]), stored["orthographic_ndc"][..., :2], atol=1e-6)
    pixels = camera.project_pixels(stored["points"], 224)
    assert torch.allclose(pixels / 224, stored["orthographic_screen_224"][..., :2] / 224, atol=1e-6)


def test_perspective_equals_pytorch3d(stored):
    points = (stored["points"] * FLIP + stored["t"][:, None]) * FLIP
    k = intrinsics(torch.tensor([480.0, 475.0]), torch.tensor([112.3, 110.9])).expand(4, 3, 3)
    assert torch.allclose(
        perspective_project(points, k) / 224, stored["perspective_screen_224"][..., :2] / 224, atol=1e-6
    )


def test_perspective_by_hand():
    """x right, y down: a point right of and below the axis has a pixel right of and below the principal point."""
    k = intrinsics(torch.tensor([100.0, 200.0]), torch.tensor([30.0, 40.0]))
    assert torch.equal(k, torch.tensor([[100.0, 0, 30], [0, 200, 40], [0, 0, 1]]))
    assert torch.allclose(perspective_project(torch.tensor([[0.1, 0.2, 0.5]]), k), torch.tensor([[50.0, 120.0]]))
    batch = intrinsics(torch.tensor([100.0, 300.0]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))  # one focal length each
    assert torch.equal(batch[:, [0, 1, 0, 1], [0, 1, 2, 2]], torch.tensor([[100.0, 100, 1, 2], [300, 300, 3, 4]]))


def test_crop_corners():
    uv = torch.tensor([[[-1.0, -1.0], [1.0, 1.0], [0.0, 0.5]]])
    assert torch.equal(crop_to_pixels(uv, 200), torch.tensor([[[0.0, 0], [200, 200], [100, 150]]]))
    sizes = torch.tensor([224.0, 64.0])
    assert torch.equal(crop_to_pixels(torch.ones(2, 21, 2), sizes), sizes[:, None, None].expand(2, 21, 2))


def test_weak_perspective_is_the_learned_camera_without_rotation():
    points, camera = torch.randn(4, 21, 3) * 0.1, torch.tensor([5.0, 0.02, -0.01]) + torch.rand(4, 3) * 0.01
    want = camera[:, None, :1] * (points[..., :2] + camera[:, None, 1:])
    assert torch.allclose(weak_perspective(points, camera), want)
    assert torch.allclose(LearnedCamera.from_weak_perspective(camera).project(points), want, atol=1e-6)
    rotation = random_rotations(4)
    turned = points @ rotation.transpose(-1, -2)
    learned = LearnedCamera.from_weak_perspective(camera, rotation).project(points)
    assert torch.allclose(learned, weak_perspective(turned, camera), atol=1e-6)


def test_learned_camera_gradients_and_types():
    """R, t and s all learn (t's depth moves nothing); double stays double; half points are projected in float32."""
    rotation, points = random_rotations(2).double(), torch.randn(2, 5, 3).double()
    leaves = [
        points.requires_grad_(),
        rotation.requires_grad_(),
        torch.randn(2, 3).double().requires_grad_(),
        torch.tensor([4.0, 5.0]).double().requires_grad_(),
    ]
    assert torch.autograd.gradcheck(lambda p, r, t, s: LearnedCamera(r, t, s, "builtin").project(p), leaves)
    camera = LearnedCamera(*(v.float() for v in leaves[1:]))
    assert camera.project(points.half()).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = camera.project(points.float())
    assert torch.equal(inside, camera.project(points.float()))


def test_unbatched():
    camera = LearnedCamera(torch.eye(3), torch.tensor([0.1, 0, 0]), torch.tensor(2.0))
    assert torch.allclose(camera.project(torch.tensor([[0.1, 0.2, 0.3]])), torch.tensor([[0.4, 0.4]]))


def test_backend_errors():
    pieces = torch.eye(3), torch.zeros(3), torch.tensor(1.0)
    with pytest.raises(ValueError, match="camera backend is 'pytorch4d'"):
        LearnedCamera(*pieces, "pytorch4d")
    if pytorch3d_renderer() is None:
        with pytest.raises(ImportError, match=r"environment\.yml"):
            LearnedCamera(*pieces, "pytorch3d")
