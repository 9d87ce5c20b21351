"""Whole frames: boxes hold their hands, left and right, alone or together; a frame is what its index says."""

import pytest
import torch

from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.virtual.config import VirtualConfig
from mesh_graphormer_hand.virtual.frames import FrameOptions, Scene, VirtualFrames

SIZE = 160
TIPS = [4, 8, 12, 16, 20]
MIXED = FrameOptions(hands=[0.3, 0.3, 0.2, 0.1, 0.1])


@pytest.fixture(scope="module")
def hand():
    return load("open")


@pytest.fixture(scope="module")
def frames(hand):
    return VirtualFrames(VirtualConfig(), hand, MIXED).render(range(12), size=SIZE)


def test_boxes_hold_their_joints_and_lie_in_the_frame(frames):
    assert frames.images.shape == (12, 3, SIZE, SIZE) and 0 <= frames.images.min() and frames.images.max() <= 1
    assert len(frames.hands) == 12 and frames.keys[3] == "frames/train/000003"
    found = [h for h in frames.hands if len(h.boxes)]
    assert len(found) >= 6 and any(not len(h.boxes) for h in frames.hands)
    for k, hands in enumerate(frames.hands):
        low, high = hands.boxes[:, None, :2], hands.boxes[:, None, 2:]
        assert (low >= 0).all() and (high <= SIZE).all() and (high > low).all()
        inside = ((hands.joints_2d >= 0) & (hands.joints_2d < SIZE)).all(-1)
        held = ((hands.joints_2d >= low - 1) & (hands.joints_2d <= high + 1)).all(-1)
        assert held[inside].all() and not (hands.visible & ~inside).any() and (hands.clear >= 0.3).all()
        seen = hands.joints.double() @ frames.intrinsics[k].double().T
        torch.testing.assert_close(seen[..., :2] / seen[..., 2:], hands.joints_2d.double(), atol=0.01, rtol=0)


def test_hands_are_drawn_where_their_joints_are(hand, monkeypatch):
    """Left ones, too: without people and clutter the nearest thing at a joint is that hand's own skin."""
    alone = FrameOptions(hands=[0.0, 1.0], bystanders=[1.0], bodies=0.0, side=[0.4, 0.5])
    scenes, lay = {}, Scene.lay
    monkeypatch.setattr(Scene, "lay", lambda scene, *layer: scenes.setdefault(id(scene), scene) and lay(scene, *layer))
    made = VirtualFrames(VirtualConfig(occluder=0.0, held_object=0.0), hand, alone).render(range(8), size=SIZE)
    left, own, visible = [], [], []
    for scene, hands in zip(scenes.values(), made.hands, strict=True):
        inside = ((hands.joints_2d >= 0) & (hands.joints_2d < SIZE)).all(-1)
        inside[:, TIPS] = False  # they lie on the skin, often on its outline: next to the pixels of the hand
        column, row = hands.joints_2d[inside].long().unbind(-1)
        before = hands.joints[inside][:, 2] - scene.depth[row, column]  # m
        own.append((scene.owner[row, column] == 0) & (before > 0) & (before < 0.2))
        visible.append(hands.visible[inside])
        left.append(hands.is_left.expand(int(inside.sum())))
    left, own, visible = (torch.cat(parts) for parts in (left, own, visible))
    for side in (left, ~left):
        assert side.any() and own[side].float().mean() > 0.97 and visible[side].float().mean() > 0.5


def test_same_bytes_alone_and_together(frames, hand):
    alone = VirtualFrames(VirtualConfig(), hand, MIXED).render([7, 2], size=SIZE)
    for row, index in enumerate((7, 2)):
        assert torch.equal(alone.images[row], frames.images[index])
        assert torch.equal(alone.hands[row].boxes, frames.hands[index].boxes)


def test_batches_have_room_for_every_hand(frames):
    batch = frames.batch(capacity=4)
    assert len(batch) == 12 and batch.targets.boxes_known.all()
    counts = torch.tensor([len(h.boxes) for h in frames.hands])
    assert torch.equal(batch.targets.boxes_valid.sum(1), counts)
    for k, hands in enumerate(frames.hands):
        assert torch.equal(batch.targets.boxes[k, : len(hands.boxes)], hands.boxes)
        assert torch.equal(batch.targets.boxes_left[k, : len(hands.boxes)], hands.is_left)
    assert len(batch[torch.tensor([2, 5])].targets.boxes) == 2


def test_an_index_outside_is_an_error(hand):
    with pytest.raises(IndexError, match="30"):
        VirtualFrames(VirtualConfig(count=30), hand).render([30], size=SIZE)
