"""What virtual hands look like: detail stays in its place, things fit grasps, second hands and shadows are seen."""

import dataclasses

import numpy as np
import pytest
import torch

from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.virtual import config as configs
from mesh_graphormer_hand.virtual import parameters
from mesh_graphormer_hand.virtual.config import VirtualConfig
from mesh_graphormer_hand.virtual.generator import VirtualHands
from mesh_graphormer_hand.virtual.hand import skin_relief
from mesh_graphormer_hand.virtual.hand.anatomy import Anatomy
from mesh_graphormer_hand.virtual.hand.skin_texture import CELLS, SIDE, Texels
from mesh_graphormer_hand.virtual.imaging import sensor
from mesh_graphormer_hand.virtual.imaging.hand_mesh import decimate, vertex_normals
from mesh_graphormer_hand.virtual.imaging.render_mesh import LABEL, joint_rotations
from mesh_graphormer_hand.virtual.rng import Draws, generator
from mesh_graphormer_hand.virtual.scene import background, grasp, scenery, second_hand

FACES = 2000


@pytest.fixture(scope="module")
def hand():
    return load("open")


@pytest.fixture(scope="module")
def skinned(hand):
    mesh = decimate(hand.render, FACES)
    return mesh, skin_relief.Skinned(mesh.vertices.astype(np.float64), vertex_normals(mesh), mesh.weights)


@pytest.fixture(scope="module")
def texels(hand, skinned):
    return Texels.of(Anatomy.of(hand), skinned[0], skinned[1].normals)


def test_detail_lies_where_anatomy_has_it(hand, skinned):
    """Nails on the back of finger ends, the palm's lines on the palm, wrinkles on the back, whatever the mesh."""
    anatomy, skin = Anatomy.of(hand), skinned[1]
    nails = skin_relief.find_nails(anatomy, skin, np.zeros(len(skin.points)))  # a mesh that marks none
    made = skin_relief.evaluate(anatomy, nails, skin, 0.001, 0)
    ends = skin.weights[:, [3, 6, 9, 12, 15]].sum(1)
    plate = made.paint[:, skin_relief.PLATE]
    assert 5 <= (plate > 0.5).sum() and (ends[plate > 0.5] > 0.3).all()
    up, hand_itself = skin.normals[:, 1], skin.weights[:, 0] > 0.6
    lines, veins = made.paint[hand_itself, skin_relief.CREASE], made.paint[hand_itself, skin_relief.VEIN]
    assert lines[up[hand_itself] < -0.5].mean() > 10 * max(lines[up[hand_itself] > 0.3].mean(), 1e-6)
    assert veins[up[hand_itself] > 0.7].mean() > 0.02 and veins[up[hand_itself] < -0.2].max() == 0
    assert np.isfinite(made.slope).all() and np.abs(made.slope).max() <= 1.2


def test_nails_are_found_where_the_mesh_shines(hand, skinned):
    mesh, skin = skinned
    shine = (mesh.gloss - np.median(mesh.gloss)) / np.ptp(mesh.gloss)
    for nail in skin_relief.find_nails(Anatomy.of(hand), skin, shine):
        assert 0.006 < nail.length < 0.022 and 0.003 < nail.half < 0.012
        np.testing.assert_allclose(nail.frame @ nail.frame.T, np.eye(3), atol=1e-9)


def test_a_wider_footprint_blurs(hand, skinned):
    anatomy, skin = Anatomy.of(hand), skinned[1]
    sharp, blurred = (skin_relief.evaluate(anatomy, [], skin, f, 0).slope for f in (0.0003, 0.004))
    assert np.abs(blurred).max() < 0.6 * np.abs(sharp).max()


def test_every_barycentric_place_has_its_texel(texels):
    """Cells tile a face: each is found from its own centre, and faces that are not the hand's find the empty one."""
    centres = [((i + 0.3) / SIDE, (j + 0.3) / SIDE) for i in range(SIDE) for j in range(SIDE - i)]
    bary = torch.tensor([(a, b, 1 - a - b) for a, b in centres])
    face = torch.full((CELLS,), 7)
    rows = texels.rows(face, bary, torch.tensor([0]))
    assert rows.tolist() == list(range(7 * CELLS, 8 * CELLS))
    corners = texels.rows(face[:3], torch.eye(3), torch.tensor([0]))
    assert ((corners >= 7 * CELLS) & (corners < 8 * CELLS)).all()
    beyond = texels.rows(torch.tensor([texels.faces]), bary[:1], torch.tensor([0]))
    assert beyond.item() == len(texels.table) - 1 and not texels.table[-1].any()


def test_tangents_turn_with_the_hand(texels):
    eye = torch.eye(3).expand(1, 16, 3, 3)
    turned = eye.clone()
    turned[:, 0] = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    rest = texels.pose(joint_rotations(eye)).view(-1, 2, 3)
    torch.testing.assert_close(rest, texels.tangents)
    torch.testing.assert_close(texels.pose(joint_rotations(turned)).view(-1, 2, 3), rest @ turned[0, 0].T)


def test_things_fit_into_grasps(hand):
    """Most closing hands hold something, flat-handed or not; nothing round goes deeper into flesh than it yields."""
    config, anatomy = VirtualConfig(pose_weights={"grasp": 1.0}), Anatomy.of(hand)
    p = parameters.draw(config, anatomy, range(128))
    eye = np.broadcast_to(np.eye(3), (128, 1, 3, 3))
    joints = anatomy.pose(np.concatenate([eye, p.fingers], 1), p.shape)
    fit = grasp.fit(Draws(config, range(128), "held_object"), joints)
    assert fit.held.mean() > 0.6
    np.testing.assert_allclose(fit.axes.transpose(0, 2, 1) @ fit.axes, np.eye(3)[None].repeat(128, 0), atol=1e-6)
    size = np.linalg.norm(joints[:, 9] - joints[:, 0], axis=1) / grasp.MEAN_PALM_M
    balls, flesh = grasp._balls(joints, size)
    offset = balls - fit.centre[:, None]
    along = np.einsum("bnk,bk->bn", offset, fit.axes[:, :, 2]) * (fit.kind != grasp.BALL)[:, None]
    gap = np.sqrt(((offset**2).sum(-1) - along**2).clip(0)) - flesh - fit.radius[:, None]
    held = fit.held & (fit.radius > grasp.MIN_RADIUS_M) & np.isin(fit.kind, (grasp.CYLINDER, grasp.BOX))
    assert held.sum() > 20 and gap[held].min() > -2 * grasp.FLESH_YIELD_M


def test_second_hands_come_and_mirror(hand):
    config, anatomy = VirtualConfig(second_hand=0.5), Anatomy.of(hand)
    p = parameters.draw(config, anatomy, range(32))
    rows, other = second_hand.sample(config, anatomy, range(32), p)
    assert 6 < len(rows) < 26
    np.testing.assert_allclose(np.linalg.det(other.camera.rotation), -1, atol=1e-9)
    np.testing.assert_array_equal(other.camera.pinhole, p.camera.pinhole[rows])
    assert second_hand.sample(VirtualConfig(second_hand=0.0), anatomy, range(32), p)[1] is None


def test_second_hands_are_seen_and_are_not_the_hand(hand):
    """Where a second hand covers the picture it changes, and the mask never grows by it."""
    options = {"mesh_faces": FACES, "occluder": 0.0}
    alone, both = (
        VirtualHands(VirtualConfig(second_hand=share, **options), hand).render(list(range(16)), image_size=64)
        for share in (0.0, 1.0)
    )
    changed = (alone.inputs.image != both.inputs.image).flatten(1).any(1)
    assert changed.sum() >= 12
    assert not (both.targets.mask & ~alone.targets.mask).any()
    assert torch.equal(alone.targets.joints_2d, both.targets.joints_2d)


@pytest.mark.parametrize("option", ["watch", "bracelet", "ring", "ground_shadow", "held_object"])
def test_every_ingredient_shows(hand, option):
    images = [
        VirtualHands(VirtualConfig(**{option: share}, mesh_faces=FACES), hand).render(list(range(16)), image_size=64)
        for share in (0.0, 1.0 if option != "watch" else 0.9)
    ]
    changed = (images[0].inputs.image != images[1].inputs.image).flatten(1).any(1)
    assert changed.sum() >= 4


def test_a_shadow_falls_away_from_the_light():
    picture, depth = np.ones((64, 64, 3), np.float32), np.zeros((64, 64), np.float32)
    depth[24:40, 24:40] = 0.5
    light = np.array([-0.6, 0.0, -0.8])  # from the left and the camera: the shadow lies to the right
    made = sensor.cast_shadow(generator(VirtualConfig(), 3, "ground"), picture, depth, 300.0, light, 0.5)
    assert made[32, 40:60].min() < 0.9 and made[32, :20].min() > 0.97
    assert (made[depth > 0] == 1).all()
    behind = sensor.cast_shadow(generator(VirtualConfig(), 3, "ground"), picture, depth, 300.0, -light, 0.5)
    assert (behind == 1).all()


@pytest.mark.parametrize("size", [48, 224])
def test_backgrounds_of_any_size(size):
    config, skin = VirtualConfig(), np.array([0.8, 0.6, 0.5])
    made = [background.paint(generator(config, k, "background"), config, skin, size) for k in range(24)]
    assert all(m.shape == (size, size, 3) and m.dtype == np.float32 and 0 <= m.min() and m.max() <= 1 for m in made)
    assert np.std([m.mean() for m in made]) > 0.05  # they differ
    again = background.paint(generator(config, 5, "background"), config, skin, size)
    assert np.array_equal(again, made[5])


@pytest.mark.parametrize("place", [scenery.room, scenery.table, scenery.outdoors])
def test_places_are_not_plain(place):
    made = [place(generator(VirtualConfig(), k, "background"), 64, np.array([0.8, 0.6, 0.5])) for k in range(8)]
    assert all(m.dtype == np.uint8 and m.shape == (64, 64, 3) for m in made)
    assert np.mean([m.std() for m in made]) > 15


def test_mirrored_faces_are_drawn_from_outside(hand):
    """A second hand drawn inside out would show its far side, with normals that point away from the camera."""
    hands = VirtualHands(VirtualConfig(mesh_faces=FACES), hand)
    p = parameters.draw(hands.config, hands.anatomy, range(2))
    mirrored = dataclasses.replace(p.camera, rotation=p.camera.rotation @ second_hand.MIRROR)
    made = hands.render_scenes(
        dataclasses.replace(p, camera=mirrored), torch.zeros(2, 64, 64, 3), False, mirrored=True
    )[1]
    seen = made.part == LABEL["hand"]
    assert seen.any() and (made.normal[..., 2][seen] < 0.3).float().mean() > 0.98


def test_the_shipped_look_of_photographs_is_valid():
    """Every key of configs/virtual_like_real.yaml is an option, and it trains: the test split is not its business."""
    config = configs.read("virtual_like_real.yaml")
    assert config.split == "train" and config != VirtualConfig()


def test_ingredients_can_be_taken_away(hand):
    """Nothing behind the hand, one light: the hands, cameras and skins of the samples stay what they were."""
    anatomy, rows = Anatomy.of(hand), range(16)
    full = parameters.draw(VirtualConfig(), anatomy, rows)
    plain = parameters.draw(VirtualConfig(scenery=0.0, light_variety=0.0), anatomy, rows)
    assert np.array_equal(full.camera.rotation, plain.camera.rotation) and np.array_equal(full.fingers, plain.fingers)
    assert np.array_equal(full.skin.tone, plain.skin.tone)
    assert np.ptp(plain.light.direction, axis=0).max() == 0 and (np.ptp(full.light.direction, axis=0) > 1).all()
    assert (plain.light.harmonics[:, 1:] == 0).all() and np.ptp(plain.light.share()) < 1e-9
    exposed = plain.light.harmonics[:, 0].mean(1) * plain.skin.tone.mean(1) ** 0.275
    np.testing.assert_allclose(exposed, exposed[0])

    half = parameters.draw(VirtualConfig(light_variety=0.5), anatomy, rows).light
    np.testing.assert_allclose(half.harmonics, (full.light.harmonics + plain.light.harmonics) / 2)
    np.testing.assert_allclose(np.linalg.norm(half.direction, axis=1), 1)

    skin = np.array([0.8, 0.6, 0.5])

    def flat(scenery: float) -> list[bool]:
        config = VirtualConfig(scenery=scenery)
        made = [background.paint(generator(config, k, "background"), config, skin, 32) for k in range(48)]
        return [bool(np.ptp(m, (0, 1)).max() == 0) for m in made]

    assert all(flat(0.0)) and 8 < sum(flat(0.5)) < 40 and not any(flat(1.0))
