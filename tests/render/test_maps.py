"""Depth, normals and owners of meshes in a photo, and the quick pictures made of them."""

import numpy as np
import pytest

from mesh_graphormer_hand.render import maps

K = np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])


def square(z: float, half: float = 0.1, x: float = 0.0) -> maps.Mesh:
    """Two triangles that face the camera at depth z."""
    corners = np.array([[-half, -half], [half, -half], [half, half], [-half, half]]) + [x, 0]
    vertices = np.column_stack([corners, np.full(4, z)]).astype(np.float32)
    return vertices, np.array([[0, 2, 1], [0, 3, 2]])


def test_the_nearer_mesh_hides_the_further_one():
    made = maps.surface_maps([square(1.0), square(0.5, 0.02)], K, (48, 64))
    assert made.owner[24, 32] == 1 and made.owner[16, 24] == 0 and made.owner[2, 2] == -1
    assert made.depth[24, 32] == pytest.approx(0.5) and made.depth[16, 24] == pytest.approx(1.0)
    assert made.depth[2, 2] == 0 and (made.owner >= 0).sum() == 400
    np.testing.assert_allclose(made.normals[24, 32], [0, 0, -1], atol=1e-5)


def test_a_hand_outside_the_photo_is_nothing():
    for meshes in ([], [square(1.0, x=5.0)], [square(-1.0)]):
        made = maps.surface_maps(meshes, K, (48, 64))
        assert (made.owner == -1).all() and (made.depth == 0).all()
        photo = np.full((48, 64, 3), 7, np.uint8)
        np.testing.assert_array_equal(maps.draw_quickly(photo, meshes, K), photo)


def test_depth_images_say_tenths_of_millimetres():
    made = maps.surface_maps([square(0.5)], K, (48, 64))
    stored = maps.depth_image(made.depth)
    assert stored.dtype == np.uint16 and stored[24, 32] == 5000 and stored[0, 0] == 0
    assert maps.depth_image(np.float32([[9.0]]))[0, 0] == 65535
    shown = maps.depth_picture(made.depth)
    assert shown.dtype == np.uint8 and shown[24, 32].any() and not shown[0, 0].any()
    assert not maps.depth_picture(made.depth * 0).any()


def test_normals_are_blue_where_they_face_the_camera():
    shown = maps.normals_picture(maps.surface_maps([square(0.5)], K, (48, 64)).normals)
    assert shown[24, 32].tolist() == [128, 128, 255] and not shown[0, 0].any()


def test_quick_pictures_change_the_hand_and_nothing_else():
    photo = np.full((48, 64, 3), 7, np.uint8)
    drawn = maps.draw_quickly(photo, [square(0.5, 0.05)], K)
    changed = (drawn != photo).any(-1)
    assert changed[24, 32] and 400 <= changed.sum() <= 500 and (photo == 7).all()
