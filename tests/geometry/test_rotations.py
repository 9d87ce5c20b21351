"""Rotations agree with PyTorch3D's stored answers, undo each other, and have finite gradients everywhere."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from helpers.places import DATA
from mesh_graphormer_hand.geometry import rotations as r

REFERENCE = DATA / "rotations_pytorch3d.npz"


@pytest.fixture(scope="module")
def reference():
    return {key: torch.from_numpy(value) for key, value in np.load(REFERENCE).items()}


@pytest.mark.parametrize(
    ("function", "given", "expected"),
    [
        (r.axis_angle_to_matrix, "axis_angle", "matrix"),
        (r.matrix_to_axis_angle, "matrix", "matrix_to_axis_angle"),
        (r.matrix_to_quaternion, "matrix", "matrix_to_quaternion"),
        (r.rotation_6d_to_matrix, "rotation_6d", "rotation_6d_to_matrix"),
    ],
)
def test_agrees_with_pytorch3d(reference, function, given, expected):
    torch.testing.assert_close(function(reference[given]), reference[expected], atol=1e-5, rtol=0)


def test_conventions_at_an_asymmetric_angle():
    """30 degrees about z turns x towards y; the 6D form holds rows; the quaternion's real part is first."""
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    expected = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
    turn = torch.tensor([0, 0, math.pi / 6], dtype=torch.float64)
    torch.testing.assert_close(r.axis_angle_to_matrix(turn), expected)
    torch.testing.assert_close(r.rotation_6d_to_matrix(torch.tensor([c, -s, 0, s, c, 0]).double()), expected)
    quaternion = torch.tensor([math.cos(math.pi / 12), 0, 0, math.sin(math.pi / 12)], dtype=torch.float64)
    torch.testing.assert_close(r.matrix_to_quaternion(expected), quaternion)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.0099, 0.0101, 0.5, 2.0, 3.1, math.pi - 1e-4, math.pi])
def test_round_trips(angle):
    """There and back at every size of angle, at the seams between series and formula too."""
    axis = torch.nn.functional.normalize(torch.randn(64, 3, dtype=torch.float64), dim=-1)
    matrix = r.axis_angle_to_matrix(angle * axis)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).double().expand(64, 3, 3))
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(64).double())
    torch.testing.assert_close(
        matrix.diagonal(dim1=-2, dim2=-1).sum(-1), torch.full((64,), 1 + 2 * math.cos(angle)).double()
    )
    back = r.matrix_to_axis_angle(matrix)
    torch.testing.assert_close(r.axis_angle_to_matrix(back), matrix, atol=1e-9, rtol=0)
    torch.testing.assert_close(back.norm(dim=-1), torch.full((64,), angle).double(), atol=1e-7, rtol=0)
    torch.testing.assert_close(r.quaternion_to_matrix(r.matrix_to_quaternion(matrix)), matrix)
    torch.testing.assert_close(r.quaternion_to_matrix(-3 * r.matrix_to_quaternion(matrix)), matrix)
    torch.testing.assert_close(r.rotation_6d_to_matrix(matrix[..., :2, :].flatten(-2)), matrix)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("angle", [0.0, 1e-20, 1e-6, math.pi, 2 * math.pi])
def test_gradients_from_axis_angles_are_finite(angle, dtype):
    turn = torch.tensor([[angle, 0, 0], [0, -angle, 0], [0.6 * angle, 0, 0.8 * angle]], dtype=dtype, requires_grad=True)
    r.axis_angle_to_matrix(turn).square().sum().backward()
    (gradient,) = torch.autograd.grad(r.axis_angle_to_matrix(turn)[..., 1].sum(), turn)
    assert torch.isfinite(turn.grad).all() and torch.isfinite(gradient).all()


@pytest.mark.parametrize("axis", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0, 0.8], [-0.36, 0.48, -0.8]])
@pytest.mark.parametrize("angle", [0.0, 1e-6, math.pi])
@pytest.mark.parametrize("function", [r.matrix_to_axis_angle, r.matrix_to_quaternion])
def test_gradients_from_matrices_are_finite(function, angle, axis):
    matrix = r.axis_angle_to_matrix(angle * torch.tensor(axis)).requires_grad_()
    function(matrix)[..., -1].sum().backward()
    assert torch.isfinite(matrix.grad).all()


def test_gradients_are_right():
    turn = torch.cat([torch.randn(4, 3), 1e-3 * torch.randn(4, 3)]).double().requires_grad_()
    assert gradcheck(r.axis_angle_to_matrix, turn)
    assert gradcheck(lambda t: r.matrix_to_axis_angle(r.axis_angle_to_matrix(t)), turn)
    assert gradcheck(r.rotation_6d_to_matrix, torch.randn(4, 6).double().requires_grad_())


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_any_batch_shape(batch):
    matrix = r.axis_angle_to_matrix(torch.randn(*batch, 3))
    assert matrix.shape == (*batch, 3, 3)
    assert r.matrix_to_axis_angle(matrix).shape == (*batch, 3)
    assert r.rotation_6d_to_matrix(torch.randn(*batch, 6)).shape == (*batch, 3, 3)
    assert r.quaternion_to_matrix(torch.randn(*batch, 4)).shape == (*batch, 3, 3)
