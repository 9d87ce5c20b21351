"""Crops without a hand: they lie in their photos, clear of every hand, and are the same ones each time."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.data.base import join
from mesh_graphormer_hand.data.datasets.no_hands import _square
from mesh_graphormer_hand.geometry.crops import apply_affine
from mesh_graphormer_hand.mano import hand as hands

BOX = [60.0, 20.0, 100.0, 80.0]  # of the people's hand, which is red


def build(root, **options):
    return assembly.build_dataset("no_hands", {"root": str(root), **options}, "train", hands.load("open"), 32)


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "rooms").mkdir()
    for name in "abc":
        cv2.imwrite(str(tmp_path / "rooms" / f"{name}.png"), np.full((90, 120, 3), 70, np.uint8))
    (tmp_path / "people" / "whole").mkdir(parents=True)
    image = np.full((100, 160, 3), 70, np.uint8)
    image[20:80, 60:100] = (0, 0, 255)
    for name in ("p", "q"):
        cv2.imwrite(str(tmp_path / "people" / "whole" / f"{name}.png"), image)
    frames = {"whole/p.png": {"hands": [], "human_boxes": [BOX]}, "whole/q.png": {"hands": [], "human_boxes": None}}
    (tmp_path / "people" / "frames.json").write_text(json.dumps(frames))
    return tmp_path


def test_squares_show_no_hand_and_say_so(photos):
    dataset = build(photos, backgrounds=["rooms"], leave=1, sets=["people"], squares=6)
    assert len(dataset) == 6 * 3  # two rooms, and the photo whose boxes are known
    batch = dataset.load(list(range(18)))
    assert batch.targets.no_hand.all() and not batch.targets.joints_2d_valid.any()
    assert batch.inputs.image.std((1, 2, 3)).max() < 0.01  # grey all over: nothing of the hand, nothing outside
    corners = apply_affine(torch.tensor([[0.0, 0.0], [32, 32]]), batch.image_from_crop)
    assert len({tuple(c.flatten().tolist()) for c in corners}) == 18
    again = build(photos, backgrounds=["rooms"], leave=1, sets=["people"], squares=6).load([13])
    assert torch.equal(again.inputs.image[0], batch.inputs.image[13])


def test_a_photo_full_of_hands_gives_a_corner():
    whole = np.array([[0, 0, 100, 80]], np.float32)
    centre, side = _square(np.random.default_rng(0), (80, 120), whole)
    assert float(side) <= 24 and float(centre[0]) > 100


def test_no_hands_go_beside_hands(photos):
    """In a batch with others, those have the flag false."""
    batch = build(photos, backgrounds=["rooms"]).load([0, 1])
    other = batch.targets.map(lambda t: t)
    known = torch.ones(2, 21, dtype=torch.bool)
    hand = replace(batch, targets=replace(other, no_hand=None, joints_2d_valid=known))
    assert join([hand, batch]).targets.no_hand.tolist() == [False, False, True, True]


def test_mistakes_are_named(photos):
    with pytest.raises(ValueError, match="no photograph"):
        build(photos)
    (photos / "people" / "frames.json").write_text("[]")
    with pytest.raises(ValueError, match="frames.json"):
        build(photos, sets=["people"])
    for entry, message in (
        ({"hands": []}, "whole/p.png has no human_boxes"),
        ({"hands": [], "human_boxes": [[0.3, 0.2, 0.6, 0.8]]}, r"whole/p.png: human_boxes: the box lies in 0\.\.1"),
        ({"hands": [], "human_boxes": [[600, 20, 700, 80]]}, "p.png, hand 0: the box .* outside the 160 x 100 image"),
    ):
        (photos / "people" / "frames.json").write_text(json.dumps({"whole/p.png": entry}))
        with pytest.raises(ValueError, match=message):
            build(photos, sets=["people"]).load([0])
