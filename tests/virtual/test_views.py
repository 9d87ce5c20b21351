"""Views of one moment are calibrated, moments of a sequence follow smoothly, both are what their index says."""

import numpy as np
import pytest
import torch

from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.virtual.config import VirtualConfig
from mesh_graphormer_hand.virtual.hand.anatomy import Anatomy, turn
from mesh_graphormer_hand.virtual.parameters import draw
from mesh_graphormer_hand.virtual.scene.light import Light
from mesh_graphormer_hand.virtual.sequences import VirtualSequences, minimum_jerk
from mesh_graphormer_hand.virtual.views import VirtualViews, to_world, together, turn_light

SIZE = 64


@pytest.fixture(scope="module")
def hand():
    return load("open")


@pytest.fixture(scope="module")
def views(hand):
    return VirtualViews(VirtualConfig(), hand, views=3).render([4, 1], image_size=SIZE)


def test_views_see_the_same_hand_from_elsewhere(views):
    """In the world's axes joints and vertices of all views are the same points, and each camera's K projects them."""
    assert len(views) == 3 and views[2].keys == ["virtual/train/000004/2", "virtual/train/000001/2"]
    first = views[0]
    assert torch.equal(first.inputs.extrinsics, torch.eye(4).expand(2, 4, 4))
    for view in views:
        t, extrinsics = view.targets, view.inputs.extrinsics
        for name in ("joints", "vertices"):
            points = to_world(getattr(t, name) + t.root[:, None], extrinsics)
            wanted = getattr(first.targets, name) + first.targets.root[:, None]
            torch.testing.assert_close(points, wanted, atol=1e-5, rtol=0)
        seen = (t.joints + t.root[:, None]).double() @ view.inputs.intrinsics.double().transpose(1, 2)
        torch.testing.assert_close(seen[..., :2] / seen[..., 2:], t.joints_2d.double(), atol=0.01, rtol=0)
        assert t.mask.flatten(1).any(1).all()
        assert torch.equal(t.shape, first.targets.shape) and torch.equal(t.pose[:, 1:], first.targets.pose[:, 1:])
    turned = views[1].inputs.extrinsics[:, :3, :3]
    angle = torch.rad2deg(torch.arccos((turned.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2))
    assert ((angle > 14) & (angle < 151)).all()


def test_views_are_the_same_alone(views, hand):
    alone = VirtualViews(VirtualConfig(), hand, views=3).render([1], image_size=SIZE)
    for one, both in zip(alone, views, strict=True):
        assert torch.equal(one.inputs.image[0], both.inputs.image[1])


def test_views_join_for_models_of_several_cameras(views):
    batch = together(views)
    assert batch.inputs.image.shape == (2, 3, 3, SIZE, SIZE) and batch.inputs.view_valid.all()
    assert torch.equal(batch.targets.joints, views[0].targets.joints)


def test_turned_light_is_the_same_light(hand):
    """Radiance towards a turned direction in the turned light is that of the old ones."""
    rng = np.random.default_rng(0)
    light = draw(VirtualConfig(), Anatomy.of(hand), range(4)).light
    rotation = np.stack([turn(a / np.linalg.norm(a), np.array(1.3)) for a in rng.normal(size=(4, 3))])
    turned = turn_light(light, rotation)
    n = rng.normal(size=(50, 3))
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    np.testing.assert_allclose(radiance(turned, n @ rotation.swapaxes(1, 2)), radiance(light, n[None]), atol=1e-9)
    np.testing.assert_allclose(turned.direction[2], rotation[2] @ light.direction[2])


def radiance(light: Light, n: np.ndarray) -> np.ndarray:
    x, y, z = np.moveaxis(np.broadcast_to(n, (4, 50, 3)), -1, 0)
    basis = [0.282095 + 0 * x, 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y, 1.092548 * y * z]
    basis += [0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y)]
    return np.stack(basis, -1) @ light.harmonics


def test_a_sequence_moves_smoothly_before_one_camera(hand):
    sequences = VirtualSequences(VirtualConfig(), hand, length=8, rate=30)
    batch = sequences.render(3, image_size=SIZE)
    t, k = batch.targets, batch.inputs.intrinsics
    assert len(batch) == 8 and batch.keys[2] == "sequence/train/000003/00002"
    assert torch.equal(k, k[:1].expand_as(k)) and torch.equal(t.shape, t.shape[:1].expand_as(t.shape))
    joints = t.joints + t.root[:, None]
    seen = joints.double() @ k.double().transpose(1, 2)
    torch.testing.assert_close(seen[..., :2] / seen[..., 2:], t.joints_2d.double(), atol=0.01, rtol=0)
    speed = (joints[1:] - joints[:-1]).norm(dim=-1) * 30
    assert 0.001 < speed.mean() and speed.max() < 4, speed.max()  # m/s
    jump = (joints[2:] - 2 * joints[1:-1] + joints[:-2]).norm(dim=-1)
    assert jump.max() < 0.02  # m: no picture is out of line with its neighbours
    again = VirtualSequences(VirtualConfig(), hand, length=8, rate=30).render(3, image_size=SIZE)
    assert torch.equal(again.inputs.image, batch.inputs.image)


def test_long_paths_stay_clear_and_smooth(hand):
    """Without rendering: 4 s of motion, in fingers and place."""
    sequences = VirtualSequences(VirtualConfig(), hand, length=120, rate=30)
    p = sequences.parameters(5, np.random.default_rng(0))
    turns = p.fingers[1:] @ p.fingers[:-1].swapaxes(-1, -2)
    angle = np.degrees(np.arccos(np.clip((np.trace(turns, axis1=-2, axis2=-1) - 1) / 2, -1, 1)))
    assert angle.max() < 35 and np.median(angle.max(1)) > 0.1
    assert (p.camera.pinhole == p.camera.pinhole[0]).all()
    np.testing.assert_allclose(minimum_jerk(np.array([0, 0.5, 1.0])), [0, 0.5, 1])


@pytest.mark.parametrize("wrong", [{"views": 0}, {"views": 9}])
def test_impossible_numbers_are_refused(hand, wrong):
    with pytest.raises(ValueError):
        VirtualViews(VirtualConfig(), hand, **wrong)
    with pytest.raises(IndexError):
        VirtualSequences(VirtualConfig(count=2), hand).render(2)
