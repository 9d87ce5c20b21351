"""Reading keypoints from heat maps: place, spread, feature."""

import math

import torch
from torch.testing import assert_close

from mesh_graphormer_hand.layers.keypoint_head import keypoints_from_heatmaps


def test_keypoints_read_the_feature_under_their_peak():
    """One sharp peak a map: the place is that cell's centre, the spread nearly nothing, the feature the cell's."""
    features = torch.randn(1, 5, 8, 8)
    maps = torch.full((1, 2, 8, 8), -100.0)
    maps[0, 0, 1, 6] = maps[0, 1, 7, 0] = 100.0
    found = keypoints_from_heatmaps(maps, features, 2)
    assert_close(found.uv[0], torch.tensor([[13 / 8 - 1, 3 / 8 - 1], [1 / 8 - 1, 15 / 8 - 1]]))
    assert_close(found.features[0], torch.stack([features[0, :, 1, 6], features[0, :, 7, 0]]))
    assert found.spread.max() < 2e-3


def test_spread_of_an_undecided_keypoint_is_the_crops():
    found = keypoints_from_heatmaps(torch.zeros(1, 1, 16, 16), torch.randn(1, 4, 16, 16), 1)
    assert_close(found.uv, torch.zeros(1, 1, 2), atol=1e-5, rtol=0)
    # the variance of 16 equal cells over [-1, 1] is (1 - 1/256) / 3 along each axis
    assert_close(found.spread, torch.full((1, 1, 1), math.sqrt(2 * (1 - 1 / 256) / 3)))
