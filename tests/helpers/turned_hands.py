"""Labels of hands that differ by a rotation alone."""

import torch

from mesh_graphormer_hand.contracts import HandTargets
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.mano.template import hand_template


def turned_hands(hand, count: int = 4) -> HandTargets:
    """Labels of the rest hand, turned about the view axis by a different angle in every sample."""
    template = hand_template(hand)
    angles = torch.linspace(0, 2, count)[:, None] * torch.tensor([[0.0, 0.0, 1.0]])
    turn = axis_angle_to_matrix(angles).transpose(1, 2)
    valid = torch.ones(count, dtype=torch.bool)
    joints, vertices = template.joints @ turn, template.vertices @ turn
    return HandTargets(
        joints=joints,
        joints_valid=valid[:, None].expand(count, 21),
        joints_2d=(6 * joints[..., :2] + 1) * 32,
        joints_2d_valid=valid[:, None].expand(count, 21),
        vertices=vertices,
        vertices_valid=valid,
        crop_size=torch.full((count,), 64.0),
        hand=torch.full((count,), hand.fingerprint),
    )
