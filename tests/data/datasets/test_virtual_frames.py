"""Virtual frames as a data set: boxes round hands, crops that one hand fills among them, the same ones each time."""

import pytest
import torch
from torch.testing import assert_close

from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.mano.hand import load

SIZE = 64


@pytest.fixture(scope="module")
def frames():
    return assembly.build_dataset("virtual_frames", {"close": 2}, "train", load("open"), SIZE)


@pytest.fixture(scope="module")
def batch(frames):
    return frames.load([3, 16, 17, 4])  # two frames and, from the second block, two crops


def test_boxes_lie_in_the_frame(batch):
    t = batch.targets
    boxes = t.boxes[t.boxes_valid]
    assert len(boxes) and (boxes >= 0).all() and (boxes <= SIZE).all() and (boxes[:, 2:] > boxes[:, :2]).all()
    assert t.boxes_known.all() and (t.boxes[~t.boxes_valid] == 0).all() and not t.boxes_left[~t.boxes_valid].any()
    assert batch.inputs.image.shape == (4, 3, SIZE, SIZE)


def test_one_hand_fills_a_crop_and_every_other_is_left(batch):
    t = batch.targets
    assert t.boxes_valid[1:3].sum(1).tolist() == [1, 1] and t.boxes_left[1:3, 0].tolist() == [False, True]
    sides = (t.boxes[1:3, 0, 2:] - t.boxes[1:3, 0, :2]).amax(-1) / SIZE
    assert (sides > 0.35).all()


def test_a_sample_is_the_same_alone_and_in_another_order(frames, batch):
    alone = frames.load([4, 16])
    assert_close(alone.inputs.image[0], batch.inputs.image[3])
    assert_close(alone.inputs.image[1], batch.inputs.image[1])
    assert torch.equal(alone.targets.boxes[0], batch.targets.boxes[3]) and alone.keys == [batch.keys[3], batch.keys[1]]


def test_the_test_split_ends():
    test = assembly.build_dataset("virtual_frames", {}, "test", load("open"), SIZE)
    assert len(test) == 2000
    with pytest.raises(ConfigError, match="close is 0 or more"):
        assembly.build_dataset("virtual_frames", {"close": -1}, "test", load("open"), SIZE)
