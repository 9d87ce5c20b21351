"""Pictures for people: they show what they should where they should, and leave their arguments alone."""

import inspect

import cv2
import numpy as np
import pytest

from helpers.render_scenes import slow_rasterize, sphere
from mesh_graphormer_hand import skeleton
from mesh_graphormer_hand.render.overlay import MATERIALS, draw_mesh, draw_skeleton, panel, side_view

K = np.array([[300.0, 0, 70.5], [0, 280.0, 44.25], [0, 0, 1]])


def photo(height=100, width=140):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def ball(level=2, **where):
    vertices, faces = sphere(level, **where)
    return vertices.numpy(), faces.numpy()


def open_joints(size=200):
    """A plain upright hand of 21 joints, px."""
    angles = np.deg2rad([-50, -20, -2, 14, 32])
    rays = np.stack((np.sin(angles), -np.cos(angles)), -1)
    reach = np.array([0.25, 0.4, 0.52, 0.62])
    fingers = rays[:, None] * reach[None, :, None] * size + [size / 2, 0.85 * size]
    return np.concatenate(([[size / 2, 0.85 * size]], fingers.reshape(20, 2)))


@pytest.mark.parametrize("quality", ["fine", "fast"])
def test_mesh_covers_its_own_pixels_and_no_others(quality):
    """Pixels wholly outside keep the photo's bytes, those wholly inside are the mesh's; unequal focal lengths."""
    image, (vertices, faces) = photo(), ball(2, radius=0.05, centre=(0.01, 0.02, 0.5))
    before = image.copy()
    drawn = draw_mesh(image, vertices, faces, K, opacity=1.0, quality=quality)
    camera = [K[0, 0], K[1, 1], K[0, 2], K[1, 2]]
    face, _, _, _ = slow_rasterize(vertices, faces, camera, image.shape[:2])
    inside = face >= 0
    grown, core = (f(inside.astype(np.uint8), np.ones((5, 5)), iterations=1) > 0 for f in (cv2.dilate, cv2.erode))
    assert inside.sum() > 2000 and np.array_equal(image, before)
    assert np.array_equal(drawn[~grown], image[~grown])
    r, _, b = np.moveaxis(drawn[core].astype(int), -1, 0)
    assert (b > r).all(), "porcelain is bluer than it is red, the noise of the photo is not"
    assert drawn[core].std() < 0.6 * image[core].std()


def test_mesh_is_anti_aliased_and_opacity_blends():
    image, (vertices, faces) = np.zeros((100, 140, 3), np.uint8), ball(3, radius=0.05, centre=(0.0, 0.0, 0.5))
    full = draw_mesh(image, vertices, faces, K, colour="clay", opacity=1.0)
    half = draw_mesh(image, vertices, faces, K, colour="clay", opacity=0.5)
    assert np.abs(full / 2.0 - half).max() <= 1
    row = full[44, :, 1].astype(int)
    edge = row[np.flatnonzero(row)[:2]]
    assert edge[0] < 0.9 * edge[1], "the first pixel of the row is covered in part"
    assert full[24:40].mean() > 1.2 * full[50:66].mean(), "the light comes from above"


def test_colours():
    image, (vertices, faces) = photo(), ball()
    means = {name: draw_mesh(image, vertices, faces, K, name)[40:50, 65:75].mean((0, 1)) for name in MATERIALS}
    assert means["skin"][0] > means["skin"][2] + 30 and means["porcelain"][2] > means["porcelain"][0] + 20
    left_red = np.where(vertices[:, :1] < 0, [[0.9, 0.1, 0.1]], [[0.1, 0.1, 0.9]])
    own = draw_mesh(image, vertices, faces, K, left_red)
    assert own[44, 55, 0] > own[44, 55, 2] and own[44, 86, 2] > own[44, 86, 0]


@pytest.mark.parametrize("centre", [(0.5, 0.0, 0.5), (0.0, 0.0, -0.5), (1e6, 0.0, 0.5)])
def test_mesh_out_of_the_picture_changes_nothing(centre):
    image, (vertices, faces) = photo(), ball(1, centre=centre)
    drawn = draw_mesh(image, vertices, faces, K)
    assert np.array_equal(drawn, image) and drawn is not image


def test_mesh_at_the_border_and_around_the_camera():
    image, (vertices, faces) = photo(), ball(1, centre=(-0.11, -0.07, 0.5))
    cut = draw_mesh(image, vertices, faces, K)
    wide = np.pad(image, ((50, 0), (50, 0), (0, 0)))
    shifted = K + np.array([[0, 0, 50], [0, 0, 50], [0, 0, 0]])
    assert not np.array_equal(cut[:20, :20], image[:20, :20])
    assert np.abs(draw_mesh(wide, vertices, faces, shifted)[50:, 50:].astype(int) - cut).max() <= 12  # occlusion is cut
    around, faces = ball(1, radius=0.3, centre=(0.0, 0.0, 0.1))
    assert draw_mesh(image, around, faces, K).shape == image.shape


def test_side_view_turns_about_the_vertical_axis():
    """A bar along x is wide from the front and a dot from the side; up stays up; any place in space, same picture."""
    vertices, faces = ball(2, radius=1.0, centre=(0.0, 0.0, 0.0))
    bar = vertices * [0.09, 0.03, 0.02] + [0.3, -0.2, 0.9]

    def widths(picture):
        ground = side_view(bar * 1e-4 + bar[:1], faces, (120, 160))  # nearly nothing: the plain ground
        figure = np.abs(picture.astype(int) - ground).max(-1) > 40
        return figure.any(0).sum(), figure.any(1).sum()

    front, side = (widths(side_view(bar, faces, (120, 160), degrees=d)) for d in (0, 90))
    assert side[0] < 0.4 * front[0] and abs(side[1] - front[1]) <= 3
    assert np.array_equal(side_view(bar, faces, (120, 160)), side_view(bar, faces, (120, 160), degrees=90))
    moved = side_view(bar + [0.125, 0.25, 0.5], faces, (120, 160)).astype(int)
    assert np.abs(moved - side_view(bar, faces, (120, 160))).mean() < 0.1


def test_side_view_brings_the_right_hand_side_to_the_front():
    """Seen from +x the camera's right is what was nearest to the camera... so a bump towards the camera shows there."""
    vertices, faces = ball(2, radius=0.03, centre=(0.0, 0.0, 0.5))
    bump, _ = ball(2, radius=0.015, centre=(0.0, 0.0, 0.42))
    both = np.concatenate((vertices, bump)), np.concatenate((faces, faces + len(vertices)))
    red = np.concatenate((np.full_like(vertices, 0.3), np.tile([[0.9, 0.05, 0.05]], (len(bump), 1))))
    picture = side_view(*both, (100, 100), degrees=90, colour=red).astype(int)
    column = np.argwhere(picture[..., 0] - picture[..., 1] > 80)[:, 1].mean()
    assert column < 40, "looking along -x, what was near the camera lies on the left"


def test_skeleton_colours_positions_and_outline():
    image, joints = np.full((200, 200, 3), 128, np.uint8), open_joints()
    drawn = draw_skeleton(image, joints)
    assert (image == 128).all()
    for parent, child in skeleton.BONES:
        x, y = (joints[parent] + joints[child]) / 2
        pixel = drawn[int(y), int(x)].astype(int)
        assert np.abs(pixel - skeleton.FINGER_COLOURS[(child - 1) // 4]).max() < 60, skeleton.JOINT_NAMES[child]
    changed = (drawn != 128).any(-1)
    dark = changed & (drawn.max(-1) < 110)
    assert 0.02 < changed.mean() < 0.25 and dark.sum() > 100
    far = np.ones((200, 200), bool)
    y, x = np.mgrid[0:200, 0:200] + 0.5
    for joint in joints:
        far &= np.hypot(x - joint[0], y - joint[1]) > 40
    assert not changed[far].any()


def test_skeleton_is_sub_pixel_and_corner_based():
    """The centre of mass of a lone joint's disc follows the joint by fractions of a pixel."""
    for x, y in ((50.0, 60.0), (50.5, 60.5), (50.25, 60.75)):
        joints = np.full((21, 2), np.nan)
        joints[0] = x, y
        drawn = draw_skeleton(np.zeros((100, 100, 3), np.uint8), joints, thickness=4, outline=0.0).sum(-1).astype(float)
        rows, columns = np.mgrid[0:100, 0:100] + 0.5
        centre = (columns * drawn).sum() / drawn.sum(), (rows * drawn).sum() / drawn.sum()
        assert np.allclose(centre, (x, y), atol=0.15)


def test_skeleton_leaves_out_what_is_unknown():
    image, joints = np.zeros((200, 200, 3), np.uint8), open_joints()
    assert np.array_equal(draw_skeleton(image, np.full((21, 2), np.nan)), image)
    hidden = joints.copy()
    hidden[9:13] = np.nan, np.inf
    valid = np.ones(21, bool)
    valid[9:13] = False
    assert np.array_equal(draw_skeleton(image, hidden, thickness=4), draw_skeleton(image, joints, valid, thickness=4))
    assert not np.array_equal(draw_skeleton(image, joints, valid), draw_skeleton(image, joints))
    joints[20] = 1e9, -1e9
    assert draw_skeleton(image, joints).shape == image.shape


def test_skeleton_thickness_follows_the_hand():
    small, large = (
        (draw_skeleton(np.zeros((s, s, 3), np.uint8), open_joints(s)) > 0).any(-1).mean() for s in (200, 800)
    )
    assert 0.6 < large / small < 1.6


def test_panel():
    tall, wide = np.full((80, 40, 3), 10, np.uint8), np.full((40, 60, 3), 200, np.uint8)
    side_by_side = panel([tall, wide], gap=6)
    assert side_by_side.shape == (80, 40 + 6 + 120, 3)
    assert (side_by_side[:, :40] == 10).all() and (side_by_side[:, 40:46] == 255).all()
    assert (side_by_side[:, 46:] == 200).all()
    assert panel([tall, wide], height=20, gap=0).shape == (20, 40, 3)


# The functions themselves, without the check of annotations that only the tests have.
draw_unchecked, panel_unchecked = inspect.unwrap(draw_mesh), inspect.unwrap(panel)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda v, f: draw_unchecked(photo().astype(np.float32), v, f, K), "RGB uint8 array .* float32"),
        (lambda v, f: draw_unchecked(photo(), v * np.nan, f, K), "finite"),
        (lambda v, f: draw_unchecked(photo(), v, f, K, colour="chrome"), "'chrome', should be one of porcelain"),
        (lambda v, f: draw_unchecked(photo(), v, f, K, quality="best"), "'best', should be one of fine"),
        (lambda v, f: draw_unchecked(photo(), v, f, K, colour=np.ones((3, 3))), "colours have shape"),
        (lambda v, f: panel_unchecked([]), "at least one image"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(*ball(1))
