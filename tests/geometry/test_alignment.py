"""Procrustes, normals and heat maps: properties and hand-computed values."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.testing import assert_close

from mesh_graphormer_hand.geometry.alignment import procrustes
from mesh_graphormer_hand.geometry.heatmaps import HeatmapCodec, inside_crop
from mesh_graphormer_hand.geometry.normals import edge_lengths, face_normals, vertex_normals

TETRAHEDRON = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
CORNERS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)


def points(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_rotation(seed: int) -> torch.Tensor:
    q, _ = torch.linalg.qr(points(3, 3, seed=seed))
    return q * torch.linalg.det(q)


@pytest.mark.parametrize("allow_reflection", [False, True])
def test_undoes_any_similarity(allow_reflection):
    target = points(4, 21, 3)
    source = 3.7 * target @ random_rotation(1).T + torch.tensor([1.0, -2, 3])
    assert_close(procrustes(source, target, allow_reflection), target)


def test_undoes_a_reflection_only_when_allowed():
    target = 0.04 * points(4, 21, 3)
    mirrored = target * torch.tensor([-1.0, 1, 1])
    assert_close(procrustes(mirrored, target, allow_reflection=True), target)
    assert (procrustes(mirrored, target) - target).norm(dim=-1).mean() > 0.02


def test_is_idempotent_and_never_increases_the_squared_error():
    source, target = points(50, 21, 3, seed=2), points(50, 21, 3, seed=3)
    aligned = procrustes(source, target)
    assert_close(procrustes(aligned, target), aligned)
    assert ((aligned - target).square().sum((1, 2)) <= (source - target).square().sum((1, 2))).all()


def test_equals_scipy_where_reflections_are_allowed():
    """The algebra of the established hand evaluations: centre, divide by the Frobenius norm, orthogonal Procrustes."""
    for seed in range(5):
        source, target = points(21, 3, seed=seed).numpy(), points(21, 3, seed=seed + 9).numpy()
        s, t = source - source.mean(0), target - target.mean(0)
        norm_s, norm_t = np.linalg.norm(s), np.linalg.norm(t)
        rotation, scale = scipy.linalg.orthogonal_procrustes(t / norm_t, s / norm_s)
        expected = (s / norm_s) @ rotation.T * scale * norm_t + target.mean(0)
        actual = procrustes(torch.from_numpy(source), torch.from_numpy(target), allow_reflection=True)
        assert_close(actual, torch.from_numpy(expected))


def test_aligned_mean_distance_may_exceed_the_unaligned_one():
    """Procrustes minimises squares: one joint 20 cm off drags twenty perfect ones along (so nobody 'fixes' this)."""
    target = 0.04 * points(1, 21, 3, seed=5)
    source = target.clone()
    source[0, 20, 0] += 0.2
    before = (source - target).norm(dim=-1).mean()
    assert (procrustes(source, target) - target).norm(dim=-1).mean() > before


def test_invalid_points_do_not_move_the_fit():
    target = points(2, 21, 3)
    source = 0.5 * target @ random_rotation(4).T + 1
    source[:, 3] += 100
    valid = torch.ones(2, 21, dtype=torch.bool)
    valid[:, 3] = False
    aligned = procrustes(source, target, valid=valid)
    assert_close(aligned[valid], target[valid])


def test_a_collapsed_source_lands_on_the_centroid():
    target = points(1, 21, 3)
    assert_close(procrustes(torch.zeros_like(target), target), target.mean(1, keepdim=True).expand_as(target))


def test_face_normals_point_outward_and_have_length_one():
    normals = face_normals(CORNERS, TETRAHEDRON)
    assert_close(normals[0], torch.tensor([0.0, 0, -1], dtype=torch.float64))
    assert_close(normals[3], torch.full((3,), 3**-0.5, dtype=torch.float64))
    assert_close(face_normals(CORNERS, TETRAHEDRON, unit=False)[3].norm() / 2, torch.tensor(3**0.5 / 2).double())
    assert face_normals(torch.zeros(4, 3), TETRAHEDRON).eq(0).all(), "flat faces must give 0, not NaN"


def test_vertex_normals_turn_with_the_mesh():
    rotation = random_rotation(7)
    assert_close(vertex_normals(CORNERS @ rotation.T, TETRAHEDRON), vertex_normals(CORNERS, TETRAHEDRON) @ rotation.T)
    assert_close(vertex_normals(CORNERS[None], TETRAHEDRON)[0, 0], torch.full((3,), -(3**-0.5), dtype=torch.float64))


def test_edge_lengths_have_a_finite_gradient_at_zero():
    vertices = torch.zeros(1, 2, 3, requires_grad=True)
    edge_lengths(vertices, torch.tensor([[0, 1]])).sum().backward()
    assert vertices.grad.eq(0).all()
    assert_close(edge_lengths(CORNERS, torch.tensor([[1, 2]])), torch.tensor([2**0.5]).double())


@pytest.mark.parametrize("distribution", [False, True])
def test_heat_maps_decode_to_where_they_were_encoded(distribution):
    """Argmax and a quarter offset leave at most a quarter cell of error, in rows and columns alike."""
    codec, side = HeatmapCodec(), torch.tensor([256.0, 256.0])
    joints = 10 + 236 * torch.rand(2, 21, 2, generator=torch.Generator().manual_seed(0))
    encode = codec.encode_distribution if distribution else codec.encode
    maps = encode(joints, side, (64, 64))
    error = (codec.decode(maps, side) - joints).abs()
    assert error.max() <= 1.0 + 1e-3, "a quarter of a 4 px cell"
    assert error.mean() < 0.55
    assert_close(codec.decode(maps, 256.0), codec.decode(maps, side))


def test_a_heat_map_peaks_at_the_cell_that_holds_the_keypoint():
    maps = HeatmapCodec(sigma=1.0).encode(torch.tensor([[[42.0, 10.0]]]), torch.tensor([64.0]), (16, 16))
    assert (maps[0, 0] == maps.max()).nonzero().tolist() == [[2, 10]], (
        "x is the column; px 42 / 4 = cell 10.5, its centre"
    )
    assert_close(maps[0, 0, 2, 10], torch.tensor(1.0))
    assert_close(maps[0, 0, 3, 10], torch.tensor(np.exp(-0.5), dtype=torch.float32))


def test_decoding_at_the_border_stays_in_the_map():
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0, 0, 7] = 1
    assert_close(HeatmapCodec().decode(maps, 80.0), torch.tensor([[[75.0, 5.0]]]))


def test_inside_crop_is_half_open():
    joints = torch.tensor([[[0.0, 0.0], [64.0, 3.0], [-0.1, 3.0], [63.9, 63.9]]])
    assert inside_crop(joints, torch.tensor([64.0])).tolist() == [[True, False, False, True]]
