"""The template and its coarse mesh: shapes, sums, determinism, the published resampling file."""

import os
import time

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.spatial import cKDTree

from mesh_graphormer_hand.mano.coarse_mesh import CoarseMeshError, decimate, read_published
from mesh_graphormer_hand.mano.hand import HandFileError, load, mirrored
from mesh_graphormer_hand.mano.layer import ManoLayer
from mesh_graphormer_hand.mano.template import HandTemplate, hand_template, joint_regressor, unique_edges


@pytest.fixture(scope="module")
def hand():
    return load("open")


@pytest.fixture(scope="module")
def template(hand):
    return hand_template(hand)


def test_shapes(template):
    assert template.vertices.shape == (778, 3) and template.joints.shape == (21, 3)
    assert template.faces.shape == (1538, 3) and template.faces.dtype == torch.int64
    assert template.coarse_vertices.shape == (195, 3) and len(template.coarse_faces) in (379, 380)
    assert template.downsample.shape == (195, 778) and template.upsample.shape == (778, 195)
    assert template.edges.shape == (778 + 1538 - 1, 2)  # Euler's formula of an open hand
    for tensor in (template.vertices, template.downsample, template.upsample, template.adjacency):
        assert tensor.dtype == torch.float32 and torch.isfinite(tensor).all()


def test_rest_pose_is_the_zero_pose_with_the_mean(hand, template):
    """Like the published network's template: flat_hand_mean=False, wrist at the origin."""
    vertices, joints = ManoLayer(use_pca=False, flat_hand_mean=False, hand=hand)(torch.zeros(1, 48))
    wrist = template.joint_regressor[0] @ vertices[0]
    torch.testing.assert_close(template.vertices, vertices[0] - wrist, atol=1e-6, rtol=0)
    torch.testing.assert_close(template.joint_regressor @ template.vertices, template.joints, atol=1e-6, rtol=0)
    assert template.joints[0].norm() < 1e-7
    # joints regressed from a posed mesh are not exactly the joints that it was posed with
    assert (template.joints - (joints[0] - joints[0, 0])).norm(dim=1).max() < 0.003


def test_rows_are_averages(template):
    for matrix in (template.joint_regressor, template.downsample, template.upsample, template.adjacency):
        torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix)), atol=1e-5, rtol=0)
        assert matrix.min() >= -1e-6
    for joint, vertex in zip((4, 8, 12, 16, 20), (745, 317, 444, 556, 673), strict=True):
        assert template.joint_regressor[joint, vertex] == 1


def test_resampling_keeps_the_surface(template):
    """Coarse vertices lie on the skin, and come back: down and up again moves a vertex by less than 2 mm on average."""
    again = template.upsample @ template.coarse_vertices
    error = (again - template.vertices).norm(dim=1)
    assert error.mean() < 0.002 and error.max() < 0.010
    distance, _ = cKDTree(template.vertices.numpy()).query(template.coarse_vertices.numpy())
    assert distance.max() < 0.008
    assert (template.upsample.argmax(1).unique(return_counts=True)[1] > 0).all()
    assert (template.upsample.sum(0) > 0).all()  # no coarse vertex is without use


def test_adjacency_is_that_of_the_coarse_faces(template):
    """Against the obvious loop: itself and its neighbours, each with the same share."""
    expected = np.eye(195)
    for a, b, c in template.coarse_faces.tolist():
        for i, j in ((a, b), (b, c), (c, a)):
            expected[i, j] = expected[j, i] = 1
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(template.adjacency, expected, atol=1e-6)
    assert set(template.coarse_faces.unique().tolist()) == set(range(195))


def test_coarse_mesh_is_a_clean_open_surface(template):
    edges = unique_edges(template.coarse_faces)
    assert 195 - len(edges) + len(template.coarse_faces) == 1  # Euler: one piece with one hole at the wrist
    directed = torch.cat([template.coarse_faces[:, [k, (k + 1) % 3]] for k in range(3)])
    assert len(directed.unique(dim=0)) == len(directed)  # no edge runs the same way twice


@pytest.mark.parametrize("coarse", [49, 98, 256, 431])
def test_other_coarse_counts(hand, coarse):
    assert hand_template(hand, coarse).coarse_vertices.shape == (coarse, 3)


@pytest.mark.parametrize("coarse", [2, 778, 1000])
def test_impossible_coarse_counts(hand, coarse):
    with pytest.raises(CoarseMeshError, match=f"{coarse} vertices cannot be made"):
        hand_template(hand, coarse)


def test_deterministic_quick_and_kept(hand, template):
    start = time.perf_counter()
    mesh = decimate(hand.v_template, hand.faces, 195)
    assert time.perf_counter() - start < 3  # a quarter of a second where nothing else runs
    assert np.array_equal(mesh.faces, template.coarse_faces)
    assert np.array_equal(mesh.upsample.astype(np.float32), template.upsample)
    assert hand_template(hand).vertices is template.vertices
    assert template.fingerprint == hand.fingerprint
    fingerprints = {hand_template(hand, n).coarse_fingerprint for n in (49, 98)} | {template.coarse_fingerprint}
    assert len(fingerprints) == 3


def test_any_surroundings_give_the_same_template(hand):
    """Models are built on the meta device, in half precision, in inference mode; the template must not notice."""
    expected = hand_template(hand, 195)
    other = mirrored(mirrored(hand))
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"), torch.inference_mode():
            made = hand_template(other, 195)
    finally:
        torch.set_default_dtype(torch.float32)
    for name, value in vars(expected).items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(getattr(made, name), value)
            assert not getattr(made, name).is_inference() and getattr(made, name).device.type == "cpu"


def test_moves_like_every_record(template):
    moved = template.map(torch.clone).to("cpu")
    assert isinstance(moved, HandTemplate) and moved.fingerprint == template.fingerprint
    assert torch.equal(moved.vertices, template.vertices) and moved.vertices is not template.vertices


def test_fingertip_convention_is_the_hands(hand):
    from dataclasses import replace

    regressor = joint_regressor(replace(hand, tips="freihand"))
    assert regressor[12].argmax() == 443 and joint_regressor(hand)[12].argmax() == 444


def published_file(path, hand, kind="csc", convert=float):
    """A file in the form of mano_downsampling.npz: lists of sparse matrices over two levels, pickled."""
    make = {"csc": sparse.csc_matrix, "csr": sparse.csr_matrix, "coo": sparse.coo_matrix}[kind]
    mesh = decimate(hand.v_template, hand.faces, 195)
    adjacency = np.zeros((195, 195))
    for k in range(3):
        a, b = mesh.faces[:, k], mesh.faces[:, (k + 1) % 3]
        adjacency[a, b] = adjacency[b, a] = 1

    def pack(matrix):
        packed = np.empty(2, object)
        packed[0], packed[1] = make(matrix.astype(convert)), make(np.eye(3))
        return packed

    np.savez(path, A=pack(adjacency), D=pack(mesh.downsample), U=pack(mesh.upsample))
    return mesh


@pytest.mark.parametrize("kind", ["csc", "csr", "coo"])
def test_published_resampling_is_read(hand, tmp_path, kind):
    path = tmp_path / "mano_downsampling.npz"
    mesh = published_file(path, hand, kind)
    read = read_published(path, hand.v_template, 195)
    assert np.array_equal(read.downsample, mesh.downsample) and np.array_equal(read.upsample, mesh.upsample)
    corners = lambda faces: {frozenset(f) for f in faces.tolist()}  # noqa: E731
    assert corners(mesh.faces) <= corners(read.faces)
    given = hand_template(hand, 195, published=path)
    torch.testing.assert_close(given.adjacency, hand_template(hand).adjacency)
    torch.testing.assert_close(given.upsample, hand_template(hand).upsample)


def test_published_resampling_of_another_hand(hand, tmp_path):
    path = tmp_path / "mano_downsampling.npz"
    published_file(path, hand)
    with pytest.raises(CoarseMeshError, match="no level of 49 vertices"):
        read_published(path, hand.v_template, 49)
    with pytest.raises(CoarseMeshError, match="belongs to another hand"):
        read_published(path, np.random.default_rng(0).permutation(hand.v_template), 195)


def test_published_resampling_executes_nothing(hand, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/executed",)

    path = tmp_path / "mano_downsampling.npz"
    packed = np.empty(1, object)
    packed[0] = Evil()
    np.savez(path, A=packed, D=packed, U=packed)
    with pytest.raises(HandFileError, match=r"mano_downsampling.npz: `A`: refused.*\.system"):
        read_published(path, hand.v_template, 195)
    assert not (tmp_path / "executed").exists()
    np.savez(path, A=np.eye(3))
    with pytest.raises(HandFileError, match="should be a list of matrices"):
        read_published(path, hand.v_template, 195)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(HandFileError, match="not a readable .npz"):
        read_published(path, hand.v_template, 195)
