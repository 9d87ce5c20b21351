"""Skinning from joint positions alone."""

import torch
from torch.testing import assert_close

from mesh_graphormer_hand.geometry.joint_skinning import bind, pose, smallest_rotation, turns, with_lengths
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.mano.layer import ManoLayer
from mesh_graphormer_hand.mano.template import hand_template

PIP_OF_INDEX, TIP_OF_INDEX = 6, 8


def test_smallest_rotation_turns_one_direction_into_the_other_and_nothing_else():
    a, b = torch.randn(50, 3, dtype=torch.float64), torch.randn(50, 3, dtype=torch.float64)
    b = torch.where((a * b).sum(-1, keepdim=True) < 0, -b, b)  # not straight back
    turn = smallest_rotation(a, b)
    assert_close(torch.linalg.det(turn), torch.ones(50).double())
    turned = (turn @ a[..., None])[..., 0]
    assert_close(turned / turned.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True))
    axis = torch.linalg.cross(a, b)
    assert_close((turn @ axis[..., None])[..., 0], axis)


def test_a_hand_at_rest_stays_and_lengths_stretch():
    template = hand_template(load("open"))
    binding = bind(template.vertices, template.joints)
    assert_close(pose(binding, template.joints[None])[0], template.vertices, atol=1e-6, rtol=0)
    longer = template.joints.clone()
    tip, last = TIP_OF_INDEX, TIP_OF_INDEX - 1
    longer[tip] += 0.5 * (longer[tip] - longer[last])
    moved = (pose(binding, longer[None])[0] - template.vertices).norm(dim=-1)
    assert moved.max() > 0.009 and (moved < 1e-6).float().mean() > 0.8  # only the end of one finger


def test_a_finger_that_curls_by_more_than_half_a_turn_keeps_its_nail_outside():
    """Each bone turns on from its parent's turn: a half turn or more is never taken the short way round."""
    rest = torch.tensor([[0.0, 1, 0]]).repeat(20, 1)
    bends = torch.tensor([0.0, 80, 190, 250]).deg2rad().repeat(5)  # of a finger's bones, added up
    axis = torch.tensor([1.0, 0, 0])
    true = axis_angle_to_matrix(bends[:, None] * axis)
    assert_close(turns(rest, (true @ rest[..., None])[..., 0][None])[0], true, atol=1e-5, rtol=0)


def test_posed_hands_come_out_close_to_the_layers_own():
    """From exact joints alone, all fingers bent: within 3 mm on average, where the rest hand is 20 mm away."""
    hand = load("open")
    layer, template = ManoLayer(use_pca=False, flat_hand_mean=False, hand=hand), hand_template(hand)
    bend = torch.zeros(1, 16, 3)
    bend[:, 1:13, 2] = torch.tensor([0.9, 0.7, 0.4]).repeat(4)
    bend[:, 13:, 1] = 0.2
    vertices, joints = layer(bend.flatten(1))
    vertices, joints = vertices - joints[:, :1], joints - joints[:, :1]
    posed = pose(bind(template.vertices, template.joints), joints)
    error, still = ((v - vertices).norm(dim=-1).mean() for v in (posed, template.vertices))
    assert still > 0.012 and error < 0.003


def test_bones_get_their_lengths_back_and_keep_their_directions():
    template = hand_template(load("open"))
    rest = template.joints
    bones = bind(template.vertices, rest).bones
    short = rest.clone()
    for tip in (4, 8, 12, 16, 20):  # each finger shrunk towards its first joint, whose place is known
        short[tip - 2 : tip + 1] = rest[tip - 3] + 0.7 * (rest[tip - 2 : tip + 1] - rest[tip - 3])
    assert_close(with_lengths(short[None], bones)[0], rest, atol=1e-6, rtol=0)
    together = with_lengths(torch.zeros(1, 21, 3, requires_grad=True), bones)
    together.sum().backward()
    assert together.isfinite().all()
