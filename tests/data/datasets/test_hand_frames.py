"""Whole photos as frames for the detector: zooms, mosaics, regions that nobody has marked, and what is held out."""

import pickle

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from helpers import photo_sets
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.data.base import join
from mesh_graphormer_hand.data.stream import Stream
from mesh_graphormer_hand.data.transforms import Augmentation
from mesh_graphormer_hand.mano.hand import load

SIZE = 64


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    for name, write in (("people", photo_sets.frames), ("empty", photo_sets.backgrounds), ("virtual", photo_sets.coco)):
        (folder / name).mkdir()
        write(folder / name)
    (folder / "listed").mkdir()
    photo_sets.frames(folder / "listed", drawn=False)
    return folder


def build(root, split="train", **options):
    options = {"root": str(root), "sets": ["people"], "backgrounds": "empty", **options}
    return assembly.build_dataset("hand_frames", options, split, load("open"), SIZE)


def test_boxes_stand_round_hands(root):
    """Hands are white, all else is not: a box that was scaled or shifted wrongly shows other pixels."""
    batch = build(root, empty=0.0, smallest=12.0, boxes="drawn").load(list(range(40)))
    t, shares = batch.targets, []
    for image, boxes, sure in zip(batch.inputs.image, t.boxes, t.boxes_valid & ~t.boxes_unsure, strict=True):
        for x0, y0, x1, y1 in boxes[sure].round().int().tolist():
            shares.append(float((image[:, y0:y1, x0:x1] > 0.9).float().mean()))
    assert len(shares) > 30 and min(shares) > 0.7
    sizes = (t.boxes[..., 2:] - t.boxes[..., :2]).amax(-1)[t.boxes_valid & ~t.boxes_unsure]
    assert sizes.min() < 20 and sizes.max() > 50 and (t.boxes >= 0).all() and (t.boxes <= SIZE).all()
    assert t.boxes_left_valid.any() and not t.boxes_left[~t.boxes_left_valid].any()


def test_frames_without_hands(root):
    batch = build(root, empty=1.0, mosaic=0.0).load(list(range(12)))
    assert not batch.targets.boxes_valid.any() and batch.targets.boxes_known.all()
    colours = batch.inputs.image.flatten(2).mean(-1)
    assert colours.std() > 0.05 and (batch.inputs.image.amax((1, 2, 3)) < 0.9).float().mean() > 0.5


def test_distractors_lie_clear_of_the_hands(root, tmp_path):
    """They are blue, which nothing else is; the hands keep their pixels and boxes."""
    cv2.imwrite(str(tmp_path / "face.png"), np.full((30, 20, 3), (255, 0, 0), np.uint8))
    options = {"empty": 0.0, "mosaic": 0.0, "smallest": 12.0, "boxes": "drawn"}
    plain = build(root, **options).load(list(range(24)))
    shown = build(root, distractors=str(tmp_path), distracted=1.0, **options).load(list(range(24)))
    blue = (shown.inputs.image[:, 2] > 0.9) & (shown.inputs.image[:, :2] < 0.1).all(1)
    assert blue.flatten(1).any(1).float().mean() > 0.3
    assert_close(shown.targets.boxes, plain.targets.boxes)
    same = ~blue[:, None].expand_as(plain.inputs.image)
    assert_close(shown.inputs.image[same], plain.inputs.image[same])
    sure = shown.targets.boxes_valid & ~shown.targets.boxes_unsure
    for mask, boxes in zip(blue, [b[s] for b, s in zip(shown.targets.boxes, sure, strict=True)], strict=True):
        for x0, y0, x1, y1 in boxes.int().tolist():
            assert not mask[y0 + 1 : y1, x0 + 1 : x1].any()


def test_what_nobody_marked_is_unsure(root):
    t = build(root, sets=["listed"], empty=0.0, mosaic=0.0).load(list(range(8))).targets
    assert (t.boxes_valid & t.boxes_unsure).any(1).all() and (t.boxes_valid & ~t.boxes_unsure).any()


def test_a_frame_is_the_same_wherever_it_is_loaded(root):
    frames = build(root)
    again = pickle.loads(pickle.dumps(frames)).load([7])
    assert_close(frames.load([3, 7]).inputs.image[1], again.inputs.image[0])


def test_the_last_photos_are_held_out(root):
    options = {"hold_out": [1], "hold_out_backgrounds": 2}
    train, test = build(root, **options), build(root, "test", **options)
    assert [len(photos) for photos in train.sets] == [3] and len(train.empty) == 1 and len(test) == 3
    assert {name: len(photos) for name, photos in test.held.items()} == {"people": 1, "empty": 2}
    t = test.load([0, 1]).targets
    assert t.boxes_valid.sum(1).tolist() == [2, 0]
    assert_close(t.boxes[0, 1], torch.tensor([60, 5, 75, 20]) * SIZE / 80)


def test_they_mix_with_virtual_frames(root):
    """Sets with room for other numbers of hands, and without a word on sides, in one batch."""
    options = {"frames": {"side": [0.2, 0.5]}, "close": 0}
    virtual = assembly.build_dataset("virtual_frames", options, "train", load("open"), SIZE)
    batch = join([build(root).load([0, 1]), virtual.load([0, 1])])
    t = batch.targets
    assert t.boxes.shape[:2] == t.boxes_unsure.shape == t.boxes_left_valid.shape == t.boxes_valid.shape
    assert t.boxes_left_valid[2:].all() and not t.boxes_unsure[2:].any()


def test_the_detector_trains_on_them(root):
    from helpers import tiny

    model = tiny.build({"name": "hand_detector", "channels": [4, 6, 8, 8, 8], "blocks": [0, 0, 0, 0, 0], "neck": 8})
    frames = build(root, sets=["people", "listed", "virtual"], shares=[1.0, 1.0, 0.5])
    batch = Stream([frames], batch_size=6, augmentation=Augmentation(mirror=0.5))[0]
    losses = model.private_losses(model(batch.inputs), batch)
    total = sum(v.mean() for v in losses.values())
    total.backward()
    assert total.isfinite() and all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": "/nowhere"}, "is no folder"),
        ({"sets": []}, "`sets` is empty"),
        ({"sets": ["peple"]}, "no folder"),
        ({"shares": [1.0, 2.0]}, "shares .* should be 1 numbers"),
        ({"hold_out": [-1]}, "none negative"),
        ({"hold_out": [9]}, "leaves no photo"),
        ({"boxes": "draw"}, "did you mean 'drawn'"),
        ({"smallest": 0.0}, "smallest is 1 or more"),
        ({"empty": 2.0}, "probabilities"),
    ],
)
def test_options_that_mean_nothing(root, options, message):
    with pytest.raises(ConfigError, match=message):
        build(**{"root": root, **options})
