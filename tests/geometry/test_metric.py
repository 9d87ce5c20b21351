"""The metric camera against known truth: made-up hands, and virtual images with their own labels."""

import numpy as np
import pytest

from mesh_graphormer_hand.geometry import metric
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.virtual.config import VirtualConfig
from mesh_graphormer_hand.virtual.generator import VirtualHands

K = np.array([[900.0, 0, 320], [0, 920, 260], [0, 0, 1]])


def project(points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    uvw = points @ intrinsics.T
    return uvw[:, :2] / uvw[:, 2:]


@pytest.fixture(scope="module")
def joints():
    return np.random.default_rng(0).normal(size=(21, 3)) * [0.05, 0.04, 0.04] * (np.arange(21) > 0)[:, None]


@pytest.mark.parametrize("wrist", [[0.0, 0.0, 0.3], [0.2, -0.1, 0.6], [-0.5, 0.3, 1.5]])
def test_exact_places_give_the_exact_wrist(joints, wrist):
    found = metric.place_hand(joints, project(joints + wrist, K), K)
    np.testing.assert_allclose(found, wrist, atol=2e-4)


def test_weights_leave_a_wrong_place_out(joints):
    pixels = project(joints + [0, 0, 0.6], K)
    pixels[4] += 300
    weights = np.ones(21)
    weights[4] = 0
    np.testing.assert_allclose(metric.place_hand(joints, pixels, K, weights), [0, 0, 0.6], atol=2e-4)


def test_a_hand_turned_the_wrong_way_is_no_dot(joints):
    """Least squares would push it to the horizon: places and joints do not go together at all."""
    pixels = project(joints * [-1, -1, 1] + [0, 0, 0.6], K)
    found = metric.place_hand(joints, pixels, K)
    assert 0.5 < found[2] < 0.72


def test_depth_follows_the_focal_length_and_the_size(joints):
    pixels = project(joints + [0.1, 0, 0.9], K)
    twice = metric.place_hand(joints * [2, 2, 2], pixels, K)
    np.testing.assert_allclose(twice, [0.2, 0, 1.8], atol=1e-3)


@pytest.mark.parametrize("pixels", [np.full((21, 2), 100.0), np.full((21, 2), np.nan)])
def test_places_that_say_nothing_give_none(joints, pixels):
    assert metric.place_hand(joints, pixels, K) is None


def test_no_joint_comes_behind_the_lens(joints):
    pixels = (joints[:, :2] * 1e6) + 300  # as if the hand were at the lens
    found = metric.place_hand(joints, pixels, K)
    assert (joints[:, 2] + found[2]).min() > 0.04


def test_default_camera():
    assert metric.default_intrinsics(400, 300)[0].tolist() == [400, 0, 200]
    assert metric.default_intrinsics(400, 300, 777)[1].tolist() == [0, 777, 150]


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_virtual_images_have_their_hand_where_the_labels_say(noise):
    """16 rendered samples: their own intrinsics, joints and places give back the wrist; a pixel of noise costs 3 %."""
    batch = VirtualHands(VirtualConfig(split="test"), load("open")).render(range(16), image_size=128)
    t, draw = batch.targets, np.random.default_rng(1)
    share = []
    for i in range(16):
        pixels = t.joints_2d[i].numpy() + noise * draw.normal(size=(21, 2))
        found = metric.place_hand(t.joints[i].numpy(), pixels, batch.inputs.intrinsics[i].numpy())
        share.append(np.linalg.norm(found - t.root[i].numpy()) / t.root[i].numpy()[2])
    assert np.mean(share) < (5e-4 if noise == 0 else 0.03)
    assert metric.reference_length(t.joints[0].numpy()) == pytest.approx(
        float((t.joints[0, 9] - t.joints[0, 10]).norm()), rel=1e-5
    )
