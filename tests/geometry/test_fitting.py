"""The fitted weak-perspective camera and similarity."""

import torch
from torch.testing import assert_close

from mesh_graphormer_hand.geometry.alignment import procrustes
from mesh_graphormer_hand.geometry.cameras import weak_perspective
from mesh_graphormer_hand.geometry.fitting import fit_similarity, fit_weak_perspective
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix

CAMERAS = torch.tensor([[7.0, 0.02, -0.03], [12.0, -0.01, 0.0]], dtype=torch.float64)
TOLERANCE = 1e-3  # what keeps the fit finite costs 4e-4 of the scale on points of this size


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


def test_similarity_is_recovered_for_any_turn():
    """Half turns too, and points in one plane."""
    axis_angle = torch.tensor([[0.3, -2.0, 1.0], [torch.pi, 0, 0], [0, 0, 0], [1e-3, 3.1, -0.4]], dtype=torch.float64)
    turn, points = axis_angle_to_matrix(axis_angle), 0.05 * torch.randn(4, 6, 3, dtype=torch.float64)
    points[1, :, 2] = 0
    scales, shift = torch.tensor([4.0, 7.0, 9.0, 20.0]).double(), torch.randn(4, 3, dtype=torch.float64)
    target = scales[:, None, None] * points @ turn.mT + shift[:, None]
    scale, rotation, translation = fit_similarity(points, target, torch.rand(4, 6).double() + 0.1)
    assert_close(rotation, turn, atol=1e-6, rtol=0)
    assert_close(scale, scales, rtol=TOLERANCE, atol=0)
    assert_close(translation, shift, atol=1e-2, rtol=0)


def test_similarity_never_mirrors_and_survives_points_in_one_place():
    points = 0.05 * torch.randn(3, 8, 3)
    _, rotation, _ = fit_similarity(points, 5 * points * torch.tensor([1.0, 1.0, -1.0]), torch.ones(3, 8))
    assert_close(torch.linalg.det(rotation), torch.ones(3))
    still = torch.zeros(2, 8, 3, requires_grad=True)
    scale, rotation, shift = fit_similarity(still, still, torch.ones(2, 8))
    assert_close(rotation, torch.eye(3).expand(2, 3, 3))
    (scale.sum() + rotation.sum() + shift.sum()).backward()
    assert still.grad.isfinite().all()


def test_similarity_is_the_best_of_noisy_points():
    """Its squared error is that of the singular value decomposition's answer (Umeyama)."""
    points = 0.05 * torch.randn(5, 21, 3, dtype=torch.float64)
    target = 6 * points + 0.1 * torch.randn(5, 21, 3, dtype=torch.float64)
    scale, rotation, shift = fit_similarity(points, target, torch.ones(5, 21).double())
    ours = scale[:, None, None] * points @ rotation.mT + shift[:, None]
    best = procrustes(points, target)
    assert_close((ours - target).square().sum((1, 2)), (best - target).square().sum((1, 2)), rtol=1e-5, atol=0)
