"""A crumpled mesh becomes the posed hand that is nearest to it, on either side, with its parameters."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.two_dots import TwoDots, photo
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.inference.postprocess import as_mano
from mesh_graphormer_hand.inference.predictor import HandPredictor
from mesh_graphormer_hand.inference.result import HandResult
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.mano.layer import ManoLayer

K = np.array([[400.0, 0, 150], [0, 400, 100], [0, 0, 1]], np.float32)
CAMERA = np.float32([900, 150, 100])
WRIST = np.float32([0, 0, 400 / 900])


@pytest.fixture(scope="module")
def hand():
    return hands.load("open")


@pytest.fixture(scope="module")
def truth(hand):
    """Vertices and joints of a bent hand, relative to its wrist."""
    torch.manual_seed(0)
    layer = ManoLayer(use_pca=False, flat_hand_mean=True, hand=hand)
    vertices, joints = layer(0.3 * torch.randn(1, 48), 0.5 * torch.randn(1, 10))[:2]
    return (vertices - joints[:, :1])[0].numpy(), (joints - joints[:, :1])[0].numpy()


def result(vertices: np.ndarray, joints: np.ndarray, side: str = "right") -> HandResult:
    mirror = np.float32([-1 if side == "left" else 1, 1, 1])
    joints = joints * mirror
    seen = CAMERA[0] * joints[:, :2] + CAMERA[1:]
    return HandResult(
        side,
        np.float32([60, 20, 260, 220]),
        K,
        "stub",
        joints,
        seen,
        vertices * mirror,
        camera=CAMERA,
        translation=WRIST,
    )


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_crumpled_mesh_is_smoothed_towards_the_hand_that_it_was(hand, truth, side):
    vertices, joints = truth
    crumpled = vertices + np.random.default_rng(0).normal(0, 0.003, vertices.shape).astype(np.float32)
    mirror = np.float32([-1 if side == "left" else 1, 1, 1])
    smooth = as_mano(result(crumpled, joints, side), hand)
    before = np.linalg.norm(crumpled - vertices, axis=1).mean()
    assert np.linalg.norm(smooth.vertices * mirror - vertices, axis=1).mean() < 0.25 * before
    np.testing.assert_allclose(smooth.joints * mirror, joints, atol=2e-3)
    before, after = ((p + WRIST) @ K.T for p in (joints * mirror, smooth.joints))  # the 2D joints move as these do
    moved = after[:, :2] / after[:, 2:] - before[:, :2] / before[:, 2:]
    np.testing.assert_allclose(smooth.joints_2d, CAMERA[0] * joints[:, :2] * mirror[:2] + CAMERA[1:] + moved, atol=1e-3)
    layer = ManoLayer(use_pca=False, flat_hand_mean=True, hand=hand)
    again, wrist = (
        v[0].numpy() for v in layer(torch.tensor(smooth.pose).reshape(1, 48), torch.tensor(smooth.shape[None]))[:2]
    )
    np.testing.assert_allclose((again - wrist[0]) * mirror, smooth.vertices, atol=1e-6)


def test_joints_that_are_not_the_meshs_stay(hand, truth):
    vertices, joints = truth
    other = joints + np.float32([0, 0.2, 0])
    kept = as_mano(result(vertices, other), hand)
    np.testing.assert_array_equal(kept.joints, other)
    assert kept.pose is not None


def test_the_predictor_takes_its_own_kind_of_mesh_or_the_callers():
    image = photo((130.0, 90.0), (210.0, 150.0), height=240, width=400, sigma=8)
    predictor = HandPredictor(TwoDots(), mesh="mano")
    assert predictor.predict(image)[0].pose.shape == (16, 3)
    assert predictor.predict(image, mesh="regressed")[0].pose is None
    with pytest.raises(ConfigError, match="did you mean 'mano'"):
        HandPredictor(TwoDots(), mesh="mani")
    with pytest.raises(ConfigError, match="did you mean 'mano'"):
        predictor.predict(image, mesh="mani")


def test_without_a_mesh_nothing_changes(hand, truth):
    flat = replace(result(*truth), vertices=None)
    assert as_mano(flat, hand) is flat
