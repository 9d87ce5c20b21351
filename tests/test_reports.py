"""Values that other projects' public bug reports ask for, each pinned here; docs/reports.md lists them all."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mesh_graphormer_hand.geometry.alignment import procrustes
from mesh_graphormer_hand.geometry.heatmaps import HeatmapCodec, expectation
from mesh_graphormer_hand.geometry.metric import place_hand
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.mano.layer import ManoLayer

SIDE = torch.tensor([224.0])


@pytest.fixture(scope="module")
def keypoints():
    """Somewhere between the cells of 56 x 56 maps."""
    return 30 + 164 * torch.rand(1, 21, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("skew", [0.0, 5.0])
def test_focal_lengths_may_differ(skew):
    """hamer#117: fx is twice fy, and the wrist comes out where it stands."""
    joints = np.random.default_rng(0).normal(0, 0.05, (21, 3))
    joints[0] = 0
    wrist, K = np.array([0.2, -0.1, 0.7]), np.array([[900, skew, 300], [0, 450, 200], [0, 0, 1]])
    seen = (joints + wrist) @ K.T
    np.testing.assert_allclose(place_hand(joints, seen[:, :2] / seen[:, 2:], K), wrist, atol=1e-6)


def test_all_45_components_are_components():
    """smplx#192: ncomps=45 is no silent way of saying axis-angle."""
    hand = load("open")
    layers = [ManoLayer(use_pca=pca, ncomps=45, flat_hand_mean=False, hand=hand) for pca in (True, False)]
    coefficients = 0.3 * torch.randn(2, 45, generator=torch.Generator().manual_seed(0))
    wrist = torch.zeros(2, 3)
    angles = coefficients @ torch.from_numpy(hand.hands_components)
    found = layers[0](torch.cat([wrist, coefficients], 1))[0]
    assert_close(found, layers[1](torch.cat([wrist, angles], 1))[0])
    assert (found - layers[1](torch.cat([wrist, coefficients], 1))[0]).abs().max() > 0.01


def test_maps_turn_over_with_the_picture(keypoints):
    """deep-high-resolution-net.pytorch#22: a mirrored map needs no shift by a cell before it is averaged."""
    codec = HeatmapCodec()
    maps = codec.encode(keypoints, SIDE, (56, 56))
    mirrored = keypoints * torch.tensor([-1.0, 1.0]) + torch.tensor([224.0, 0.0])
    assert_close(maps.flip(-1), codec.encode(mirrored, SIDE, (56, 56)), atol=1e-4, rtol=0)
    turned = codec.decode(maps, SIDE) * torch.tensor([-1.0, 1.0]) + torch.tensor([224.0, 0.0])
    assert_close(codec.decode(maps.flip(-1), SIDE), turned)


def test_targets_stand_between_cells(keypoints):
    """tf-cpn#4: places are not rounded to cells, so a map's own mean gives them back to a hundredth of a pixel."""
    maps = HeatmapCodec().encode(keypoints, SIDE, (56, 56))
    assert_close((expectation(maps.clamp_min(1e-30).log())[1] + 1) * 112, keypoints, atol=0.01, rtol=0)


def test_three_points_are_no_transposed_matrix():
    """mmpose#157: 3 x 3 coordinates are three points, too."""
    points, turn = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0)).unbind()
    moved = points @ axis_angle_to_matrix(turn[0]).T * 2 + 1
    assert_close(procrustes(moved, points), points, atol=1e-5, rtol=0)
