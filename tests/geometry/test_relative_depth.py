"""2.5D joints: the way back to metres, and the camera of labelled samples."""

import torch
from torch.testing import assert_close

from helpers.turned_hands import turned_hands
from mesh_graphormer_hand.geometry.relative_depth import crop_camera, joints_from_25d, root_depth
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.mano.template import hand_template
from mesh_graphormer_hand.skeleton import PALM


def test_25d_joints_give_back_the_hand_and_its_camera():
    """A turned hand, whatever its mean depth; the palm is known at rest only."""
    rest = hand_template(load("open")).joints.double()
    turn = axis_angle_to_matrix(torch.tensor([[0.3, -1.1, 0.5], [2.0, 0.1, -0.4]], dtype=torch.float64))
    joints, camera = rest @ turn.mT, torch.tensor([[5.0, 0.02, -0.03], [9.0, 0.0, 0.01]], dtype=torch.float64)
    uvz = camera[:, None, :1] * (joints + torch.nn.functional.pad(camera[:, 1:], (0, 1))[:, None])
    found, view = joints_from_25d(uvz + torch.tensor([0.0, 0.0, 0.7]), rest[list(PALM)])
    assert_close(found, joints, atol=1e-4, rtol=0)
    assert_close(view, camera, atol=1e-3, rtol=1e-3)


def test_the_crops_camera_projects_the_labelled_joints():
    targets = turned_hands(load("open"))
    uv, camera, labelled = crop_camera(targets)
    assert_close(camera[:, :1] * (targets.joints[:, 5, :2] + camera[:, 1:]), uv[:, 5], atol=5e-3, rtol=0)
    assert labelled.all()


def test_the_length_of_a_bone_gives_the_depth_of_the_root():
    """Exact on points that were projected; finite where the bone points at the camera."""
    draw = torch.Generator().manual_seed(0)
    points = torch.randn(5, 21, 3, generator=draw, dtype=torch.float64) + torch.tensor([0.5, -1.0, 9.0])
    points = points / (points[:, 5] - points[:, 0]).norm(dim=-1)[:, None, None]
    rays, depth = points[..., :2] / points[..., 2:], points[..., 2] - points[:, :1, 2]
    assert_close(root_depth(rays, depth, (5, 0), (1.0, 500.0)), points[:, 0, 2], atol=1e-6, rtol=0)
    same = torch.zeros(1, 21, 2, requires_grad=True)
    root_depth(same, torch.zeros(1, 21), (5, 0), (4.0, 50.0)).sum().backward()
    assert same.grad.isfinite().all()
