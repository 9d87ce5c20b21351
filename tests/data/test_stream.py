"""Training batches are a function of (seed, index) alone: the worker, the cache and the past must not show."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader

from mesh_graphormer_hand.contracts import HandBatch, HandInputs, HandTargets
from mesh_graphormer_hand.data.base import ENDLESS, HandDataset, join
from mesh_graphormer_hand.data.stream import LANES, Stream
from mesh_graphormer_hand.data.transforms import Augmentation

AUGMENT = Augmentation(noise=0.5, translation=0.1)


class Numbers(HandDataset):
    """Sample i is an image of brightness i, with 3D labels or without."""

    def __init__(self, length: int, block: int = 1, repeat: int = 1, spacing: int = 4, with_3d: bool = True) -> None:
        self.length, self.block, self.repeat, self.spacing, self.with_3d = length, block, repeat, spacing, with_3d
        self.made: list[int] = []

    def __len__(self) -> int:
        return self.length

    def load(self, indices, device="cpu"):
        self.made += indices
        values = torch.tensor([i % 251 for i in indices]) / 255
        image = values[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
        count = len(indices)
        targets = HandTargets(joints_2d=torch.full((count, 21, 2), 4.0), crop_size=torch.full((count,), 8.0))
        if self.with_3d:
            yes = torch.ones(count, dtype=torch.bool)
            targets = HandTargets(
                joints_2d=targets.joints_2d, crop_size=targets.crop_size, joints=torch.ones(count, 21, 3),
                joints_valid=torch.ones(count, 21, dtype=torch.bool), root=torch.ones(count, 3), root_valid=yes,
            )  # fmt: skip
        return HandBatch(HandInputs(image=image), targets, [str(i) for i in indices])


def make(**options) -> Stream:
    virtual = Numbers(ENDLESS, block=4, repeat=2, spacing=2)
    return Stream([virtual, Numbers(40, with_3d=False)], [3, 1], batch_size=8, augmentation=AUGMENT, **options)


def same(a: HandBatch, b: HandBatch) -> bool:
    return (
        a.keys == b.keys
        and torch.equal(a.inputs.image, b.inputs.image)
        and torch.equal(a.targets.joints_2d, b.targets.joints_2d)
    )  # fmt: skip


def test_pure_function_of_the_step():
    """Warm cache, cold cache, any order: the same batches; so a run that resumes goes on as if nothing had happened."""
    forward = make()
    batches = [forward[i] for i in range(40)]
    backward = make()
    for i in reversed(range(0, 40, 3)):
        assert same(backward[i], batches[i])
    assert not same(make(seed=1)[5], batches[5])
    assert all(len(b) == 8 for b in batches)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers):
    loader = DataLoader(make(), batch_size=None, sampler=range(3, 13), num_workers=workers)
    reference = make()
    for i, batch in zip(range(3, 13), loader, strict=True):
        assert same(batch, reference[i])


@pytest.mark.parametrize("weights", [[3, 1], [0.123, 0.7], [1, 0], [0, 1]])
def test_mixture_keeps_its_weights(weights):
    stream = Stream([Numbers(ENDLESS, block=4), Numbers(17)], weights, batch_size=5)
    counts = torch.tensor([[len(part) for part in stream.indices(i)] for i in range(160)])
    assert (counts.sum(1) == 5).all()
    share = counts.sum(0) / counts.sum()
    wanted = torch.tensor(weights, dtype=torch.float32) / sum(weights)
    assert (share - wanted).abs().max() < 0.02


def test_three_data_sets_share_small_batches():
    """A weight of less than one sample a batch is no weight of nothing."""
    stream = Stream([Numbers(ENDLESS, block=4), Numbers(5), Numbers(7)], [8, 1, 1], batch_size=2)
    counts = torch.tensor([[len(part) for part in stream.indices(i)] for i in range(400)])
    assert (counts.sum(1) == 2).all()
    assert counts.sum(0).tolist() == [640, 80, 80]


@pytest.mark.parametrize(("length", "block"), [(40, 1), (37, 1), (64, 16), (50, 16)])
def test_each_epoch_shows_every_sample_once_in_an_order_of_its_own(length, block):
    stream = Stream([Numbers(length, block)], batch_size=10)
    shown = itertools.chain.from_iterable(stream.indices(i)[0] for i in range(length))
    shown = list(shown)
    epochs = [shown[k : k + length] for k in range(0, len(shown) - length + 1, length)]
    assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("repeat", [1, 2])
@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_are_the_batch(parts, repeat):
    """However many processes and micro-batches share it: the same samples, augmented alike, each block made once."""
    options = {"batch_size": 8, "augmentation": replace(AUGMENT, occlusion=0.5, blur=0.5, constant_border=0.5)}
    data = lambda: [Numbers(ENDLESS, block=4, repeat=repeat, spacing=2), Numbers(40)]  # noqa: E731
    whole, cut = Stream(data(), [3, 1], **options), Stream(data(), [3, 1], micro_batches=parts, **options)
    for step in range(2 * LANES + 2):
        pieces = [cut[step * parts + part] for part in range(parts)]
        assert {len(p) for p in pieces} == {8 // parts}
        assert same(join(pieces), whole[step])
    made = cut.datasets[0].made
    assert len(made) == len(set(made)) > 0
    with pytest.raises(ValueError, match="does not split into 3"):
        Stream(data(), [3, 1], micro_batches=3, **options)


def test_replay_with_an_odd_spacing_keeps_blocks_in_their_process():
    """3 * 5 + 1 is a multiple of 2, 4, 8 and 16 blocks a batch: no process renders what another one has."""
    made = []
    for part in range(2):
        data = Numbers(ENDLESS, block=16, repeat=3, spacing=5)
        stream = Stream([data], batch_size=32, micro_batches=2)
        for step in range(9 * LANES):
            stream[2 * step + part]
        made.append(set(data.made))
        assert len(data.made) == len(set(data.made))
    assert not made[0] & made[1]


def test_replay_renders_each_block_once_and_shows_it_twice():
    data = Numbers(ENDLESS, block=4, repeat=2, spacing=2)
    stream = Stream([data], batch_size=8)
    shown = Counter()
    for i in range(10 * LANES):
        stream[i]
        shown.update(stream.indices(i)[0])
    assert max(Counter(data.made).values()) == 1  # nothing is rendered again while its block is in memory
    assert len(data.made) / shown.total() < 0.65  # half, and what fills the window at the start
    assert max(shown.values()) == 2 and Counter(shown.values())[2] > 0.7 * len(shown) / 2
    assert len(stream._cache) <= 5 * LANES


def test_replay_keeps_to_its_lane():
    """A worker of 1, 2, 4 or 8 meets every visit of the blocks that it renders."""
    stream = Stream([Numbers(ENDLESS, block=4, repeat=3, spacing=2)], batch_size=6)
    home = {}
    for i in range(12 * LANES):
        for sample in stream.indices(i)[0]:
            assert home.setdefault(sample, i % LANES) == i % LANES


def test_repeated_images_differ():
    """The same rendered block comes back turned and coloured otherwise."""
    stream = Stream([Numbers(64, block=16)], batch_size=64, augmentation=Augmentation(channel_gain=0.4))
    first, second = stream[0], stream[1]
    rows = [second.keys.index(k) for k in first.keys]
    assert sorted(first.keys) == sorted(second.keys)
    assert not torch.allclose(first.inputs.image, second.inputs.image[rows])


def test_join_marks_what_a_part_does_not_know():
    rich, poor = Numbers(4).load([0, 1]), Numbers(4, with_3d=False).load([2])
    both = join([rich, poor])
    assert both.keys == ["0", "1", "2"]
    assert both.targets.joints_valid.any(1).tolist() == [True, True, False]
    assert both.targets.root_valid.tolist() == [True, True, False]
    assert both.targets.joints[2].abs().max() == 0
    assert both.targets.joints_2d_valid.all()
    assert join([rich]) is rich


def test_bad_mixtures_are_refused():
    with pytest.raises(ValueError, match="weights"):
        Stream([Numbers(3)], [0.0])
    with pytest.raises(ValueError, match="weights"):
        Stream([Numbers(3)], [1.0, 2.0])
    with pytest.raises(ValueError, match="no samples"):
        Stream([Numbers(0)])
