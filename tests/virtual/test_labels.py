"""Labels that are made on request: parts, normals, visible shares, skin and light agree with depth, mask and mesh."""

import dataclasses

import pytest
import torch

from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import SEGMENTATION_CLASSES
from mesh_graphormer_hand.data.labels import turn_harmonics
from mesh_graphormer_hand.data.transforms import Augmentation, augment, mirror
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.render.rasterizer.raster import rasterize
from mesh_graphormer_hand.virtual.config import EXTRA_LABELS, RENAMED_LABELS, VirtualConfig
from mesh_graphormer_hand.virtual.generator import VirtualHands
from mesh_graphormer_hand.virtual.hand.anatomy import Anatomy
from mesh_graphormer_hand.virtual.parameters import draw
from mesh_graphormer_hand.virtual.views import turn_light

SIZE = 96


@pytest.fixture(scope="module")
def hand():
    return load("open")


@pytest.fixture(scope="module")
def batch(hand):
    return VirtualHands(VirtualConfig(occluder=0.4), hand, EXTRA_LABELS).render(range(16), image_size=SIZE)


def test_every_extra_label_is_there_and_changes_nothing_else(batch, hand):
    plain = VirtualHands(VirtualConfig(occluder=0.4), hand).render(range(16), image_size=SIZE)
    assert torch.equal(plain.inputs.image, batch.inputs.image)
    for field in dataclasses.fields(batch.targets):
        value, without = getattr(batch.targets, field.name), getattr(plain.targets, field.name)
        assert without is None or torch.equal(value, without), field.name
        absent = field.name.startswith(("boxes", "surface")) or field.name in ("no_hand", "shows_left")
        assert absent or value is not None, field.name
        assert value is None or torch.isfinite(value.double()).all(), field.name
    assert plain.targets.parts is None and plain.targets.normals is None
    with pytest.raises(ValueError, match="no label 'normal', did you mean 'normals'"):
        VirtualHands(VirtualConfig(), hand, ["normal"])
    for old, new in RENAMED_LABELS.items():
        with pytest.raises(ConfigError, match=f"no label '{old}', which is now '{new}'"):
            VirtualHands(VirtualConfig(), hand, [old])


def test_parts_agree_with_mask_and_depth(batch):
    t = batch.targets
    number = {name: k for k, name in enumerate(SEGMENTATION_CLASSES)}
    skin = (t.parts == number["hand"]) | (t.parts == number["forearm"])
    assert torch.equal(skin, t.mask)
    drawn = (t.parts != number["background"]) & (t.parts != number["in front"])
    assert torch.equal(drawn, t.depth > 0)
    assert (t.parts == number["in front"]).any() and (t.parts == number["sleeve"]).any()


def test_normals_are_those_of_the_depth(batch):
    """Unit, towards the camera, and across the slope of neighbouring depths."""
    t = batch.targets
    length = t.normals.norm(dim=1)
    torch.testing.assert_close(length[t.depth > 0], torch.ones(int((t.depth > 0).sum())), atol=1e-4, rtol=0)
    assert not length[t.depth == 0].any()
    k = batch.inputs.intrinsics[:, :, :, None, None]
    grid = torch.arange(SIZE) + 0.5
    x, y = (grid[None, :] - k[:, 0, 2]) / k[:, 0, 0], (grid[:, None] - k[:, 1, 2]) / k[:, 1, 1]
    points = torch.stack([x.expand_as(t.depth), y.expand_as(t.depth), torch.ones_like(t.depth)], 1) * t.depth[:, None]
    across, down = points[..., 1:-1, 2:] - points[..., 1:-1, :-2], points[..., 2:, 1:-1] - points[..., :-2, 1:-1]
    slope = torch.nn.functional.normalize(torch.linalg.cross(down, across, dim=1), dim=1)
    inner = (t.mask[:, 1:-1, 1:-1]) & (across[:, 2].abs() < 0.004) & (down[:, 2].abs() < 0.004)
    inner &= t.mask[:, 1:-1, 2:] & t.mask[:, 1:-1, :-2] & t.mask[:, 2:, 1:-1] & t.mask[:, :-2, 1:-1]
    alike = (slope * t.normals[..., 1:-1, 1:-1]).sum(1)[inner]
    assert alike.median() > 0.97, alike.median()


def test_shares_follow_visibility(batch):
    t = batch.targets
    assert (t.joint_visibility >= 0).all() and (t.joint_visibility <= 1).all()
    assert t.joint_visibility[t.joints_visible].mean() > t.joint_visibility[~t.joints_visible].mean() + 0.25
    outside = ((t.joints_2d < -9) | (t.joints_2d > SIZE + 9)).any(-1)
    assert not outside.any() or t.joint_visibility[outside].mean() < 0.5


def test_shares_are_counted_right_for_a_hand_alone(hand):
    """Against the z-buffer of the 778 vertices themselves: what faces the camera and is not hidden."""
    made = VirtualHands(
        VirtualConfig(occluder=0.0, held_object=0.0, sleeve=0.0, forearm=0.0), hand, ["joint_visibility"]
    )
    batch = made.render(range(16), image_size=192)
    t, k = batch.targets, batch.inputs.intrinsics
    cameras = torch.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], 1)
    points = t.vertices + t.root[:, None]
    depth = rasterize(points, torch.from_numpy(hand.faces), cameras, (192, 192)).dense()[0]
    column, row = t.joints_2d.long().clamp(0, 191).unbind(-1)
    near = depth[torch.arange(16)[:, None], row, column]
    clear = (near > 0) & ((t.joints + t.root[:, None])[..., 2] - near < 0.012)
    assert t.joint_visibility[clear].mean() > 0.85


def test_look_is_in_range(batch):
    t = batch.targets
    assert ((t.skin_tone > 0) & (t.skin_tone < 1)).all() and t.appearance_valid.all()
    torch.testing.assert_close(t.light_direction.norm(dim=1), torch.ones(16))
    assert (t.light_colour >= 0).all() and t.light_sh.shape == (16, 9, 3)


def test_augmented_labels_move_with_their_picture(batch):
    """Parts stay in step with the mask, normals and light with the turned camera; two mirrors are none."""
    moved = augment(batch, Augmentation(rotation_off=0.0, translation=0.05, occlusion=0.5), 3).targets
    skin = (moved.parts == SEGMENTATION_CLASSES.index("hand")) | (moved.parts == SEGMENTATION_CLASSES.index("forearm"))
    assert torch.equal(skin, moved.mask)
    old = axis_angle_to_matrix(batch.targets.pose[:, 0])
    turn = axis_angle_to_matrix(moved.pose[:, 0]) @ old.transpose(1, 2)
    torch.testing.assert_close(
        moved.light_direction[..., None], turn @ batch.targets.light_direction[..., None], atol=1e-5, rtol=0
    )
    before, after = (mean_normal(t.normals) for t in (batch.targets, moved))
    gap = (after - (turn @ before[..., None])[..., 0]).norm(dim=1)
    assert gap.median() < 0.1, gap
    again = mirror(mirror(batch)).targets
    for name in ("parts", "normals", "light_sh", "light_direction"):
        torch.testing.assert_close(getattr(again, name), getattr(batch.targets, name))


def mean_normal(normals: torch.Tensor) -> torch.Tensor:
    return normals.flatten(2).sum(2) / (normals != 0).any(1).flatten(1).sum(1)[:, None]


def test_harmonics_turn_as_the_renderer_turns_them(hand):
    angle = torch.linspace(-3, 3, 8)
    turn = axis_angle_to_matrix(torch.stack([0.3 * angle, -0.5 * angle, angle], 1)).double()
    light = draw(VirtualConfig(), Anatomy.of(hand), range(8)).light
    wanted = torch.from_numpy(turn_light(light, turn.numpy()).harmonics)
    torch.testing.assert_close(turn_harmonics(torch.from_numpy(light.harmonics), turn), wanted, atol=1e-6, rtol=0)
