"""Poses of virtual hands, second sampler: limits, couplings, named poses, coverage, nothing through anything."""

import numpy as np
import pytest

from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.virtual.config import VirtualConfig
from mesh_graphormer_hand.virtual.hand import gestures, poses
from mesh_graphormer_hand.virtual.hand.anatomy import Anatomy
from mesh_graphormer_hand.virtual.parameters import draw_hands
from mesh_graphormer_hand.virtual.rng import Draws

COUNT = 400
CONFIG = VirtualConfig()


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return Anatomy.of(load("open"))


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    return poses.angles(Draws(CONFIG, range(COUNT), "pose"), CONFIG)


def test_there_are_forty_named_poses_and_all_of_them_differ():
    flat = np.concatenate([gestures.FINGER_ANGLES.reshape(len(gestures.GESTURES), -1), gestures.THUMBS], 1)
    assert len(flat) >= 40
    apart = np.abs(flat[:, None] - flat).max(-1) + 99 * np.eye(len(flat))
    assert apart.min() >= 2  # degrees in some joint
    kinds = ("asl_", "feix_", "pinch")
    assert all(sum(name.startswith(kind) for name in gestures.GESTURES) >= 2 for kind in kinds)


def test_named_poses_keep_the_limits():
    for k, (low, high) in enumerate((poses.BASE, poses.SPREAD_LIMITS, poses.MIDDLE, poses.END)):
        assert low <= gestures.FINGER_ANGLES[..., k].min() and gestures.FINGER_ANGLES[..., k].max() <= high
    assert (gestures.THUMBS >= poses.THUMB_LOW).all() and (gestures.THUMBS <= poses.THUMB_HIGH).all()


def test_named_poses_do_not_pass_through_themselves(anatomy):
    """Flesh gives way by a few millimetres where fingers rest on each other, and no more."""
    overlap = 1e3 * poses.penetration(anatomy.pose(anatomy.rotations(gestures.FINGER_ANGLES, gestures.THUMBS)))
    names = np.array(list(gestures.GESTURES))
    assert overlap.max() < 8, dict(zip(names[overlap > 8], overlap[overlap > 8].round(1), strict=True))
    assert np.mean(overlap < 5.1) > 0.75


def test_a_pinch_touches_and_an_open_hand_does_not(anatomy):
    joints = 1e3 * np.stack([anatomy.pose(poses.named(name, anatomy)) for name in ("pinch", "ok", "open_spread")])
    gap = np.linalg.norm(joints[:, 4] - joints[:, 8], axis=1)
    assert gap[0] < 22 and gap[1] < 22 and gap[2] > 60  # mm between skin points of thumb and index


def test_an_unknown_name_is_an_error(anatomy):
    with pytest.raises(KeyError, match="vulcan"):
        poses.named("vulcan", anatomy)


def test_drawn_angles_keep_limits_and_couplings(drawn):
    fingers, thumb = drawn
    for k, (low, high) in enumerate((poses.BASE, poses.SPREAD_LIMITS, poses.MIDDLE, poses.END)):
        assert fingers[..., k].min() >= low and fingers[..., k].max() <= high
    assert (thumb >= poses.THUMB_LOW).all() and (thumb <= poses.THUMB_HIGH).all()
    base, spread, middle, end = np.moveaxis(fingers, -1, 0)
    assert np.abs(spread[base > 85]).max() <= 4  # a bent knuckle hardly spreads
    between = 0.5 * (base[..., 1] + base[..., 3])
    assert np.abs(base[..., 2] - between).max() <= poses.RING_BEHIND + 1e-9
    bent = middle > 60
    assert 0.5 < np.median(end[bent] / middle[bent]) < 0.8  # about two thirds


def test_joints_are_covered_everywhere(drawn):
    """Knuckle and middle joint of every finger: no empty cell of a 6 by 6 grid over their ranges."""
    fingers, _ = drawn
    for finger in range(4):
        base, middle = fingers[..., finger, 0].ravel(), fingers[..., finger, 2].ravel()
        count, _, _ = np.histogram2d(base, middle, 6, (poses.BASE, poses.MIDDLE))
        assert count.min() > 0 and count.max() < 0.25 * len(base)


def test_digits_do_not_pass_through_each_other(anatomy):
    shape, rotations = draw_hands(Draws(CONFIG, range(COUNT), "pose"), CONFIG, anatomy)
    overlap = poses.penetration(anatomy.pose(rotations, shape), anatomy.thickness(shape))
    assert np.mean(overlap > CONFIG.penetration) < 0.01
    assert np.mean(overlap > 0) > 0.1  # they do touch


def test_opening_ends_at_a_free_pose(anatomy):
    """A hopeless pose becomes the open hand, which is free; a free one stays as it is."""
    fingers = np.stack([gestures.FINGER_ANGLES[0], poses.OPEN_FINGERS])
    fingers[0, 0, 1], fingers[0, 1, 1] = -20, 18
    thumb = np.stack([np.array(poses.THUMB_HIGH, float), poses.OPEN_THUMB])
    opened, opened_thumb = poses._opened(fingers, thumb, 0.001, anatomy, np.zeros((2, 10)))
    assert (poses.penetration(anatomy.pose(anatomy.rotations(opened, opened_thumb))) <= 0.001).all()
    np.testing.assert_allclose(opened[1], poses.OPEN_FINGERS)
    assert np.abs(opened[0] - fingers[0]).max() > 5


def test_a_sample_is_its_own_whatever_it_is_drawn_with(anatomy):
    together = draw_hands(Draws(CONFIG, range(32), "pose"), CONFIG, anatomy)
    alone = draw_hands(Draws(CONFIG, [17], "pose"), CONFIG, anatomy)
    for one, all_ in zip(alone, together, strict=True):
        np.testing.assert_allclose(one[0], all_[17], atol=1e-12)
