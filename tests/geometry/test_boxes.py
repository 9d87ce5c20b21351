"""Boxes: overlap, suppression, matching, and the maps that stand for them."""

import pytest
import torch
from torch.testing import assert_close

from mesh_graphormer_hand.geometry import boxes
from mesh_graphormer_hand.geometry.boxes import BoxCodec, box_iou, match, suppress

HANDS = torch.tensor([[[20.0, 30, 90, 120], [150, 100, 250, 230], [0, 0, 0, 0]]])
VALID = torch.tensor([[True, True, False]])
LEFT = torch.tensor([[True, False, False]])
SHAPE = (32, 40)  # 256 x 320 px


def perfect(codec: BoxCodec) -> torch.Tensor:
    """The maps that say exactly what the targets want."""
    t = codec.encode(HANDS, VALID, LEFT, SHAPE)
    maps = torch.zeros(1, boxes.CHANNELS, *SHAPE)
    maps[:, boxes.CENTRE] = torch.logit(t.heat.clamp(0.001, 0.999))
    maps[:, boxes.SHIFT], maps[:, boxes.EXTENT] = t.shift.movedim(-1, 1), t.extent.movedim(-1, 1)
    maps[:, boxes.LEFT] = (t.left - 0.5) * 10
    return maps


def test_boxes_survive_the_maps():
    """A swapped axis, a lost half cell or a forgotten stride: each moves a box."""
    found, score, left = BoxCodec().decode(perfect(BoxCodec()), count=4)
    best = score[0] > 0.9
    assert best.sum() == 2
    order = found[0][best][:, 0].argsort()
    assert_close(found[0][best][order], HANDS[0, :2], atol=1e-3, rtol=0)
    assert left[0][best][order].round().tolist() == [1, 0]


def test_every_warm_cell_tells_the_box():
    codec = BoxCodec()
    t = codec.encode(HANDS, VALID, LEFT, SHAPE)
    assert (t.heat >= 1).sum() == 2 and t.heat.max() == 1
    rows, columns = torch.nonzero(t.heat[0] > 0.5, as_tuple=True)
    assert len(rows) > 4
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        centre = (torch.tensor([column, row]) + 0.5 + t.shift[0, row, column]) * codec.stride
        half = t.extent[0, row, column].exp() * codec.unit / 2
        box = torch.cat([centre - half, centre + half])
        assert min((box - hand).abs().max() for hand in HANDS[0, :2]) < 1e-3


def test_a_frame_without_hands_is_cold():
    t = BoxCodec().encode(HANDS, VALID & False, LEFT, SHAPE)
    assert t.heat.max() == 0


def test_a_region_that_nobody_has_marked_is_neither_hand_nor_background():
    boxes = torch.tensor([[[20.0, 30, 90, 120], [0, 0, 160, 256]]])
    yes, unsure = torch.ones(1, 2, dtype=torch.bool), torch.tensor([[False, True]])
    t = BoxCodec().encode(boxes, yes, ~yes, SHAPE, unsure)
    assert (t.heat >= 1).sum() == 1 and t.ignored[0, :, 21:].sum() == 0 and t.ignored[0, 31, 0]
    centre = t.heat[0] >= 1
    assert not t.ignored[0][centre].any() and not t.ignored[0][t.heat[0] > 0.01].any()
    assert not BoxCodec().encode(boxes, yes, ~yes, SHAPE).ignored.any()


def test_a_side_that_nobody_knows_is_told_by_its_owner_cells():
    known = torch.tensor([[True, False, False]])
    t = BoxCodec().encode(HANDS, VALID, LEFT, SHAPE, None, known)
    assert t.left_valid[0, 9, 6] and not t.left_valid[0, 20, 25] and t.left[0, 9, 6] == 1


def test_losses_leave_out_what_nobody_knows():
    """A hand that the network sees in an unmarked region costs nothing, and a side that nobody knows neither."""
    from mesh_graphormer_hand.models.hand_detector import box_losses

    codec, yes = BoxCodec(), torch.ones(1, 2, dtype=torch.bool)
    hands = torch.tensor([[[20.0, 30, 90, 120], [150, 100, 320, 256]]])
    wanted = codec.encode(hands, yes, yes, SHAPE, torch.tensor([[False, True]]), ~yes)
    quiet = torch.zeros(1, boxes.CHANNELS, *SHAPE)
    quiet[:, boxes.CENTRE] = -4.0
    loud = quiet.clone()
    loud[:, boxes.CENTRE, 20, 28], loud[:, boxes.LEFT] = 5.0, -9.0
    before, after = box_losses(quiet, wanted, codec), box_losses(loud, wanted, codec)
    assert before["box_centre"] == after["box_centre"] and before["box_side"] == after["box_side"] == 0
    marked = codec.encode(hands[:, :1], yes[:, :1], yes[:, :1], SHAPE)
    before, after = box_losses(quiet, marked, codec), box_losses(loud, marked, codec)
    assert after["box_centre"] > before["box_centre"] + 1 and after["box_side"] > before["box_side"] + 1


def test_two_hands_in_one_cell_do_not_break():
    t = BoxCodec().encode(HANDS[:, [0, 0, 1]], VALID, LEFT, SHAPE)
    assert (t.heat >= 1).sum() == 1 and torch.isfinite(t.extent).all()


def test_untrained_maps_decode_to_finite_boxes():
    found, score, left = BoxCodec().decode(torch.randn(2, 6, 4, 4) * 1000, count=50)
    assert found.shape == (2, 16, 4) and all(v.isfinite().all() for v in (found, score, left))


def test_iou_by_hand():
    a = torch.tensor([[0.0, 0, 2, 2], [5, 5, 5, 5]])
    b = torch.tensor([[1.0, 0, 3, 2], [0, 0, 2, 2], [7, 7, 8, 8]])
    assert_close(box_iou(a, b), torch.tensor([[1 / 3, 1, 0], [0.0, 0, 0]]))


def test_suppression_keeps_the_best_of_those_that_overlap():
    found = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 0, 10, 4]])
    assert suppress(found, torch.tensor([0.5, 0.9, 0.3, 0.8])) == [1, 3, 2]
    assert suppress(torch.zeros(0, 4), torch.zeros(0)) == []


def test_matching_uses_each_box_once():
    wanted = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    found = torch.tensor([[0.0, 1, 10, 11], [1, 0, 11, 10], [50, 0, 60, 10]])
    assert match(found, wanted) == [(0, 0)]
    assert match(found, torch.zeros(0, 4)) == []


@pytest.mark.parametrize("shift", [0.0, 150.0])
def test_boxes_move_with_their_frame(shift):
    from mesh_graphormer_hand.data.transforms import _move_boxes

    affine = torch.tensor([[[0.5, 0.0, shift], [0.0, 0.5, 10.0]]])
    moved, left = _move_boxes(HANDS[:, :2], affine, 200)
    assert_close(moved[0, 0], torch.tensor([10 + shift, 25, min(45 + shift, 200), 70]))
    inside = 1.0 if not shift else 0.0
    assert left[0, 1] == pytest.approx(inside, abs=1e-6)
