"""The virtual data set in the stream: splits apart, labels complete, replay saves rendering and changes nothing."""

import pytest
import torch

from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.data.base import ENDLESS
from mesh_graphormer_hand.data.stream import LANES, Stream
from mesh_graphormer_hand.data.transforms import Augmentation
from mesh_graphormer_hand.geometry.cameras import perspective_project
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.virtual import config as virtual

SIZE = 64


@pytest.fixture(scope="module")
def hand():
    return hands.load("open")


def build(hand, split: str = "train", **options):
    return assembly.build_dataset("virtual", options, split, hand, SIZE)


def test_splits_do_not_share_samples(hand):
    train, test = build(hand), build(hand, "test")
    assert len(train) == ENDLESS and len(test) == 2000 and train.block == 16
    assert len(build(hand, "test", count=32)) == 32
    assert build(hand, "test").generator == virtual.read("virtual_test.yaml")
    a, b = train.load([0, 1]), test.load([0, 1])
    assert not set(a.keys) & set(b.keys) and not torch.equal(a.targets.joints, b.targets.joints)
    assert a.targets.hand.tolist() == [hand.fingerprint] * 2


def test_augmented_batches_keep_every_label_true(hand):
    """In the real data set, too: 3D projects onto 2D, masks and joints stay in step with the image."""
    stream = Stream([build(hand)], batch_size=16, augmentation=Augmentation(rotation_off=0.0, translation=0.05))
    batch = stream[3]
    targets = batch.targets
    projected = perspective_project(targets.joints + targets.root[:, None], batch.inputs.intrinsics)
    torch.testing.assert_close(projected, targets.joints_2d, atol=1e-2, rtol=0)
    column, row = targets.joints_2d.long().clamp(0, SIZE - 1).unbind(-1)
    rows = torch.arange(16)[:, None].expand(16, 21)
    assert targets.mask[rows, row, column][targets.joints_visible].float().mean() > 0.9
    assert batch.inputs.image.shape == (16, 3, SIZE, SIZE)


def test_replay_renders_less_and_resumes(hand):
    fresh, again = build(hand, repeat=2, spacing=1), build(hand, repeat=2, spacing=1)
    made = []
    load = fresh.load
    fresh.load = lambda indices, device: made.extend(indices) or load(indices, device)
    one, other = Stream([fresh], batch_size=16), Stream([again], batch_size=16)
    lane = [one[i * LANES] for i in range(5)]  # five turns of the first lane
    assert len(made) == 4 * 16  # blocks 1, 0, 2, 1 again, 3
    assert torch.equal(other[4 * LANES].inputs.image, lane[4].inputs.image)
    assert lane[3].keys == lane[0].keys


@pytest.mark.parametrize("options", [{"repeat": 0}, {"spacing": 0}, {"count": 0}, {"split": "tset"}, {"fil": [0, 1]}])
def test_bad_options_are_refused(hand, options):
    with pytest.raises(ConfigError):
        build(hand, **options)
