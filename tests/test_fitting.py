"""The fitted weak-perspective camera."""

import torch
from torch.testing import assert_close

from mesh_graphormer_hand.geometry.cameras import weak_perspective
from mesh_graphormer_hand.geometry.fitting import fit_weak_perspective

CAMERAS = torch.tensor([[7.0, 0.02, -0.03], [12.0, -0.01, 0.0]], dtype=torch.float64)
TOLERANCE = 5e-3  # what keeps the fit finite costs a quarter of a per cent of the scale on points of this size


def hand_points() -> torch.Tensor:
    return 0.05 * torch.randn(2, 21, 3, dtype=torch.float64)


def test_recovers_the_camera_whatever_the_weights():
    points = hand_points()
    uv = weak_perspective(points, CAMERAS)
    for weights in (torch.ones(2, 21), torch.rand(2, 21) + 0.1):
        assert_close(fit_weak_perspective(points, uv, weights.double()), CAMERAS, atol=1e-3, rtol=TOLERANCE)


def test_a_point_without_weight_has_no_say():
    points = hand_points()
    uv = weak_perspective(points, CAMERAS)
    uv[:, 4] += 3.0
    weights = torch.ones(2, 21, dtype=torch.float64)
    weights[:, 4] = 0
    assert_close(fit_weak_perspective(points, uv, weights), CAMERAS, atol=1e-3, rtol=TOLERANCE)


def test_is_finite_in_value_and_gradient_for_points_in_one_place():
    points = torch.zeros(1, 21, 3, requires_grad=True)
    uv = torch.zeros(1, 21, 2, requires_grad=True)
    fit_weak_perspective(points, uv, torch.ones(1, 21)).sum().backward()
    assert points.grad.isfinite().all() and uv.grad.isfinite().all()


def test_scale_stays_within_its_bounds():
    points = hand_points()
    uv = weak_perspective(points, torch.tensor([[-9.0, 0, 0], [900.0, 0, 0]], dtype=torch.float64))
    scale = fit_weak_perspective(points, uv, torch.ones(2, 21, dtype=torch.float64), scales=(1.0, 60.0))[:, 0]
    assert_close(scale, torch.tensor([1.0, 60.0], dtype=torch.float64))
