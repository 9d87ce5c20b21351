"""Virtual hands: labels agree with each other and with the picture, and a sample is what its index says, always."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.generation.contact_sheet import sheet
from mesh_graphormer_hand.geometry.alignment import procrustes
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.mano.layer import ManoLayer
from mesh_graphormer_hand.render.rasterizer.raster import rasterize
from mesh_graphormer_hand.virtual import config as configs
from mesh_graphormer_hand.virtual import frozen, parameters
from mesh_graphormer_hand.virtual.config import EXTRA_LABELS, VirtualConfig
from mesh_graphormer_hand.virtual.generator import VirtualHands
from mesh_graphormer_hand.virtual.hand import poses, tattoo
from mesh_graphormer_hand.virtual.hand.anatomy import Anatomy
from mesh_graphormer_hand.virtual.rng import Draws
from mesh_graphormer_hand.virtual.scene import camera

SIZE = 96
TEST_THUMBNAILS = Path(__file__).parent / "virtual_test_thumbnails.png"  # by virtual.frozen.thumbnails
TEST_SPLIT_HASH = "0edea6f9eaa6dbff"


@pytest.fixture(scope="module")
def hand():
    return load("open")


@pytest.fixture(scope="module")
def batch(hand):
    return VirtualHands(VirtualConfig(), hand, EXTRA_LABELS).render(list(range(32)), image_size=SIZE)


def images(config, hand, indices):
    return VirtualHands(config, hand).render(indices, image_size=SIZE).inputs.image


def test_every_label_is_there_and_finite(batch):
    targets = batch.targets
    for field in dataclasses.fields(targets):
        value = getattr(targets, field.name)
        if value is None:
            # of whole frames only; of photographs without a hand; of crops that augmentation mirrored
            assert field.name.startswith("boxes") or field.name in ("no_hand", "shows_left"), field.name
            continue
        assert len(value) == 32, field.name
        assert torch.isfinite(value.double()).all(), field.name
    image = batch.inputs.image
    assert image.shape == (32, 3, SIZE, SIZE) and image.dtype == torch.float32
    assert 0 <= image.min() and image.max() <= 1
    assert batch.keys[7] == "virtual/train/000007" and len(set(batch.keys)) == 32


def test_joints_reproject_to_their_pixels(batch):
    t = batch.targets
    seen = (t.joints + t.root[:, None]).double() @ batch.inputs.intrinsics.double().transpose(1, 2)
    torch.testing.assert_close(seen[..., :2] / seen[..., 2:], t.joints_2d.double(), atol=0.01, rtol=0)


def test_pose_and_shape_give_the_vertices_and_joints(batch, hand):
    """The MANO parameters are complete: the hand layer rebuilds every label from them."""
    t = batch.targets
    layer = ManoLayer(hand=hand, use_pca=False, flat_hand_mean=True, center_idx=0)
    vertices, joints = layer(t.pose.flatten(1), t.shape)
    torch.testing.assert_close(vertices, t.vertices, atol=2e-6, rtol=0)
    torch.testing.assert_close(joints, t.joints, atol=2e-6, rtol=0)
    assert (t.hand == hand.fingerprint).all()


def test_mask_is_the_hand_drawn_at_its_place(hand):
    """Without objects and occluders the mask covers the rasterised hand, at its depth."""
    bare = {"held_object": 0.0, "occluder": 0.0}
    t = VirtualHands(VirtualConfig(**bare), hand).render(list(range(16)), image_size=SIZE)
    k = t.inputs.intrinsics
    cameras = torch.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], 1)
    faces = torch.from_numpy(hand.faces)
    vertices = t.targets.vertices + t.targets.root[:, None]
    drawn = rasterize(vertices, faces, cameras, (SIZE, SIZE))
    pixel, image = drawn.pixel, drawn.image
    covered = t.targets.mask.flatten()[pixel]
    share = torch.zeros(16).index_add(0, image, covered.float()) / torch.bincount(image, minlength=16)
    assert share.min() > 0.94, share  # the drawn skin is finer than the 778 vertices, and a sleeve may hide the wrist
    gap = (t.targets.depth.flatten()[pixel] - drawn.depth[:, 0]).abs()[covered]
    assert gap.median() < 0.002


def test_joints_in_sight_are_not_behind_the_surface(batch):
    t = batch.targets
    share = t.joints_visible.float().mean()
    assert 0.5 < share < 0.95
    z = (t.joints + t.root[:, None])[..., 2]
    column, row = t.joints_2d.floor().long().clamp(0, SIZE - 1).unbind(-1)
    surface = t.depth[torch.arange(32)[:, None], row, column]
    assert ((z - surface)[t.joints_visible & (surface > 0)] < 0.04).all()


@pytest.mark.parametrize("indices", [[5], [5, 21, 2], [31, 5], list(range(16))])
def test_same_bytes_alone_and_in_any_batch(batch, hand, indices):
    alone = VirtualHands(VirtualConfig(), hand, EXTRA_LABELS).render(indices, image_size=SIZE)
    rows = torch.tensor(indices)
    assert torch.equal(alone.inputs.image, batch.inputs.image[rows])
    for field in dataclasses.fields(alone.targets):
        value = getattr(alone.targets, field.name)
        assert value is None or torch.equal(value, getattr(batch.targets, field.name)[rows]), field.name
    assert alone.keys == [batch.keys[i] for i in indices]


def test_results_can_be_changed_without_changing_the_next(hand):
    hands = VirtualHands(VirtualConfig(), hand)
    first = hands.render(list(range(16)), image_size=SIZE)
    kept = first.inputs.image.clone()
    first.inputs.image.zero_()
    assert torch.equal(hands.render(list(range(16)), image_size=SIZE).inputs.image, kept)


def test_splits_and_seeds_share_nothing(hand):
    anatomy = Anatomy.of(hand)
    shapes = [
        parameters.draw(VirtualConfig(seed=seed, split=split), anatomy, range(16)).shape
        for seed in range(4)
        for split in configs.SPLITS
    ]
    rows = np.concatenate(shapes).round(9)
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_an_index_outside_the_split_is_an_error(hand):
    with pytest.raises(IndexError, match="1999"):
        VirtualHands(VirtualConfig(count=2000), hand).render([3, 2000], image_size=SIZE)


def test_the_test_split_is_frozen(hand):
    """Changing what it draws makes every published number incomparable: change the hash only on purpose."""
    config = configs.read("virtual_test.yaml")
    assert (config.split, config.count) == ("test", 2000)
    assert frozen.split_hash(config, hand) == TEST_SPLIT_HASH
    stored = cv2.imread(str(TEST_THUMBNAILS))[..., ::-1].reshape(16, 16, 8, 3)
    made = frozen.thumbnails(config, hand)
    assert not frozen.differ(made, stored)
    assert frozen.differ(np.roll(made, 1, 0), stored), "other images would be seen"


def test_thumbnails_see_an_effect_that_goes(hand):
    """Whoever changes an effect's drawing changes no random number: only the images can tell."""
    config = configs.read("virtual_test.yaml")
    stored = cv2.imread(str(TEST_THUMBNAILS))[..., ::-1].reshape(16, 16, 8, 3)
    assert frozen.differ(frozen.thumbnails(dataclasses.replace(config, occluder=0.0), hand), stored) == [14, 15]


def test_defaults_are_those_of_the_shipped_files():
    assert configs.read("virtual.yaml") == VirtualConfig()
    assert configs.read("virtual_test.yaml") == VirtualConfig(split="test", count=2000)


def test_mean_pose_is_no_answer_to_the_test_split(hand):
    """PA-MPJPE of always answering the mean of the training poses: at least 18 mm, so that skill shows."""

    def joints(split, count):
        config, anatomy = VirtualConfig(split=split), Anatomy.of(hand)
        blocks = [parameters.draw(config, anatomy, range(k, k + 16)) for k in range(0, count, 16)]
        eye = np.eye(3)[None, None].repeat(16, 0)
        return np.concatenate([anatomy.pose(np.concatenate([eye, b.fingers], 1), b.shape) for b in blocks])

    mean, test = joints("train", 256).mean(0), torch.from_numpy(joints("test", 256))
    aligned = procrustes(torch.from_numpy(mean).expand_as(test), test)
    assert (aligned - test).norm(dim=-1).mean() > 0.018


def test_views_cover_the_sphere_and_skins_their_range(hand):
    anatomy, config = Anatomy.of(hand), VirtualConfig()
    blocks = [parameters.draw(config, anatomy, range(k, k + 16)) for k in range(0, 512, 16)]
    rotation = np.concatenate([b.camera.rotation for b in blocks])
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.eye(3)[None].repeat(512, 0), atol=1e-12)
    assert (np.linalg.det(rotation) > 0).all()
    view = rotation[:, 2]  # the viewing axis in the hand's frame
    octants = np.unique(view > 0, axis=0)
    assert len(octants) == 8
    assert view[:, 0].min() > -0.9 and view[:, 0].max() > 0.9  # no arm in the lens; fingers at the lens are fine
    light = np.concatenate([b.skin.tone for b in blocks]) @ [0.2126, 0.7152, 0.0722]
    assert light.min() < 0.08 and light.max() > 0.45 and 0.15 < np.median(light) < 0.4
    shape = np.concatenate([b.shape for b in blocks])
    assert np.abs(shape).max() <= parameters.MAX_SHAPE_STD and 0.9 < shape.std() < 1.05


def test_the_box_fills_what_the_config_says(batch):
    points = batch.targets.joints_2d
    side = (points.amax(1) - points.amin(1)).amax(1) / SIZE
    assert side.max() <= 0.901 and side.median() > 0.5
    assert ((points >= 0) & (points < SIZE)).float().mean() > 0.97


def test_poses_keep_to_the_limits_and_out_of_each_other(hand):
    anatomy, config = Anatomy.of(hand), VirtualConfig()
    rng = Draws(config, range(512), "pose")
    fingers, thumb = poses.angles(rng, config)
    for k, (low, high) in enumerate((poses.BASE, poses.SPREAD_LIMITS, poses.MIDDLE, poses.END)):
        assert fingers[..., k].min() >= low and fingers[..., k].max() <= high
    assert (thumb >= poses.THUMB_LOW).all() and (thumb <= poses.THUMB_HIGH).all()
    shape, rotations = parameters.draw_hands(Draws(config, range(512), "pose"), config, anatomy)
    overlap = poses.penetration(anatomy.pose(rotations, shape), anatomy.thickness(shape))
    assert np.mean(overlap > config.penetration) < 0.05 and overlap.max() < 0.015


def test_penetration_sees_crossed_fingers(hand):
    anatomy = Anatomy.of(hand)
    fingers, thumb = np.zeros((2, 4, 4)), np.zeros((2, 5))
    fingers[1, 0, 1], fingers[1, 1, 1] = -12, 12  # index and middle finger through each other
    clear, crossed = poses.penetration(anatomy.pose(anatomy.rotations(fingers, thumb)))
    assert clear < 0.003 < 0.006 < crossed


def test_thick_hands_have_thick_digits(hand):
    """The linear thickness against the skin of the shaped hand itself, measured round the bones; no digit of a thick
    hand passes another one that a mean hand's would just clear."""
    anatomy, shape = Anatomy.of(hand), np.zeros((1, 10))
    shape[0, 0] = 2.0
    scale = anatomy.thickness(shape)[0]
    thick = hand.v_template + hand.shapedirs @ shape[0]
    girth = [np.ptp(v[hand.weights[:, 2] > 0.95], axis=0)[1:].mean() for v in (hand.v_template, thick)]
    assert scale > 1.1 and abs(girth[1] / girth[0] - scale) < 0.05
    joints = anatomy.pose(anatomy.rotations(np.zeros((1, 4, 4)), np.zeros((1, 5))))
    assert poses.penetration(joints, 1.3) > poses.penetration(joints)


def test_some_hands_are_cut_by_the_border_and_none_is_lost(hand):
    """`truncated` of the hands stick out at one border, by no more than `camera.MAX_CUT_FRACTION` of their box."""
    block = parameters.draw(VirtualConfig(truncated=1.0), Anatomy.of(hand), range(48))
    joints = Anatomy.of(hand).pose(np.concatenate([np.tile(np.eye(3), (48, 1, 1, 1)), block.fingers], 1), block.shape)
    seen = np.einsum("bij,bnj->bni", block.camera.rotation, joints) + block.camera.root[:, None]
    uv = seen[..., :2] / seen[..., 2:] * block.camera.pinhole[:, None, :2] + block.camera.pinhole[:, None, 2:]
    low, high = uv.min(1), uv.max(1)
    out = np.maximum(-low, high - 1).clip(0) / (high - low)
    assert (out.max(1) > 0.02).all() and out.max() < camera.MAX_CUT_FRACTION + 0.02 and (out.min(1) < 0.3).all()


def test_tattoos_are_where_they_are_wanted(hand):
    """Ink darkens skin, only the skin of tattooed hands, never the palm's."""
    quiet = dict.fromkeys(("sleeve", "second_hand", "photometric", "jpeg", "low_resolution"), 0.0)
    plain, inked = (VirtualHands(VirtualConfig(tattoo=share, **quiet), hand) for share in (0.0, 1.0))
    a, b = (v.render(range(16), image_size=SIZE) for v in (plain, inked))
    darker = (a.inputs.image - b.inputs.image).mean(1) > 0.02
    assert darker.flatten(1).any(1).float().mean() > 0.25
    same = ~a.targets.mask & ~torch.nn.functional.max_pool2d(a.targets.mask[:, None].float(), 21, 1, 10)[:, 0].bool()
    assert not darker[same].any()
    bare = tattoo.cover(torch.zeros(1, 2), torch.zeros(1, 1), torch.tensor([[1.0, 0, 0, 1, 1, 0, 0]]))
    assert float(bare) == 0.0


def test_flexion_bends_towards_the_palm_and_spread_towards_the_thumb(hand):
    anatomy = Anatomy.of(hand)
    fingers, thumb = np.zeros((3, 4, 4)), np.zeros((3, 5))
    fingers[1, :, 0], fingers[2, :, 1] = 60, 15
    rest, bent, spread = anatomy.pose(anatomy.rotations(fingers, thumb))
    tips = [8, 12, 16, 20]
    assert (bent[tips, 1] < rest[tips, 1] - 0.04).all() and (spread[tips, 2] > rest[tips, 2] + 0.01).all()


def test_numpy_joints_are_the_layers(batch, hand):
    """The sampler's own kinematics, which frame the crop, agree with the hand layer."""
    t, anatomy = batch.targets, Anatomy.of(hand)
    rotations = axis_angle_to_matrix(t.pose.double()).numpy()
    np.testing.assert_allclose(anatomy.pose(rotations, t.shape.double().numpy()), t.joints.numpy(), atol=2e-6)


def test_a_hand_without_render_mesh_or_wrist_loop_is_drawn_too(hand):
    plain = dataclasses.replace(hand, render=None, wrist_loop=np.zeros(0, np.int64))
    made = VirtualHands(VirtualConfig(), plain).render([0], image_size=SIZE)
    assert torch.isfinite(made.inputs.image).all() and made.targets.mask.any()


def test_photographs_become_backgrounds(hand, tmp_path):
    cv2.imwrite(str(tmp_path / "green.png"), np.full((40, 60, 3), (0, 255, 0), np.uint8))
    config = VirtualConfig(backgrounds=str(tmp_path), photograph=1.0)
    image = images(config, hand, list(range(16)))
    plain = images(VirtualConfig(), hand, list(range(16)))
    assert (image[:, 1] - image[:, 0]).mean() > (plain[:, 1] - plain[:, 0]).mean() + 0.1
    with pytest.raises(ConfigError, match="holds no picture"):
        images(VirtualConfig(backgrounds=str(tmp_path / "none"), photograph=1.0), hand, [0])


def test_misspelt_options_are_errors():
    with pytest.raises(ConfigError, match="did you mean 'test'"):
        VirtualConfig(split="tset")
    with pytest.raises(ConfigError, match="did you mean 'grasp'"):
        VirtualConfig(pose_weights={"grapse": 1.0})


def test_sheet_has_one_tile_a_sample(batch):
    picture = sheet(batch[:10], columns=4)
    assert picture.shape == (3 * SIZE, 4 * SIZE, 3) and picture.dtype == np.uint8
    first = (batch.inputs.image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    assert np.array_equal(picture[:SIZE, :SIZE], first)  # every second tile, from the first, is left plain
    assert not np.array_equal(picture[:SIZE, SIZE : 2 * SIZE], sheet(batch[1:2], 1, "none"))
