"""The map between two hands: surfaces, joints, predictions, labels, and that nothing is compared without it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from helpers.remeshed_hand import remeshed
from mesh_graphormer_hand.cli import register_hand as cli
from mesh_graphormer_hand.contracts import HandBatch, HandInputs, HandPrediction, HandTargets
from mesh_graphormer_hand.data.base import HandDataset
from mesh_graphormer_hand.data.hand_mapping import RemappedDataset, Without3D
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.mano import io as files
from mesh_graphormer_hand.mano.layer import skin, skin_tensors
from mesh_graphormer_hand.mano.registration import fit as registration_fit
from mesh_graphormer_hand.mano.registration import map as registration
from mesh_graphormer_hand.mano.template import joint_regressor
from mesh_graphormer_hand.metrics import HandMismatchError, per_sample

BETAS = np.array([1.5, -1.0, 0.5, *[0.0] * 7])


@pytest.fixture(scope="module")
def first() -> hands.Hand:
    return hands.load("open")


@pytest.fixture(scope="module")
def second(first) -> hands.Hand:
    """The same surface in another topology, shaped otherwise at rest."""
    return remeshed(first, betas=BETAS)


@pytest.fixture(scope="module")
def made(first, second) -> registration.Registration:
    return registration_fit.fit(first, second)


def posed(first, second, count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices (m) of both hands in the same poses and shapes."""
    rng = np.random.default_rng(5)
    fingers = first.hands_mean + rng.standard_normal((count, 45)) * first.hands_std @ first.hands_components
    pose = np.concatenate([rng.standard_normal((count, 3)), fingers], 1).reshape(count, 16, 3)
    rotations, betas = axis_angle_to_matrix(torch.from_numpy(pose)), torch.from_numpy(rng.standard_normal((count, 10)))
    a = skin(skin_tensors(first, dtype=torch.float64), rotations, betas + torch.from_numpy(BETAS))[0]
    b = skin(skin_tensors(second, dtype=torch.float64), rotations, betas)[0]
    return a, b


def test_the_other_version_is_another_hand(first, second):
    """No triangle survives, no vertex but the tips keeps its number, and the joints mean the same places."""
    old, new = ({tuple(sorted(f)) for f in h.faces.tolist()} for h in (first, second))
    assert len(old & new) < 10 and first.fingerprint != second.fingerprint
    assert np.abs(second.joint_regressor.sum(1) - 1).max() < 1e-4
    rest = first.v_template + first.shapedirs @ BETAS.astype(np.float32)
    joints = second.joint_regressor @ second.v_template
    assert np.abs(joints - first.joint_regressor @ rest).max() < 1e-5
    assert len(second.wrist_loop) == len(first.wrist_loop) == 16


def test_surfaces_agree_within_half_a_millimetre(first, second, made):
    """In poses and shapes that the fit has never seen, both ways; vertices, which also slide, within a millimetre."""
    a, b = posed(first, second)
    for way, x, y, hand in ((made.forward, a, b, second), (made.backward, b, a, first)):
        mapped = way.map_vertices(x)
        pairs = zip(mapped.numpy(), y.numpy(), strict=True)
        apart = [registration_fit.closest_points(p, q, hand.faces)[0] for p, q in pairs]
        assert 1000 * np.mean(apart) < 0.5
        assert 1000 * (mapped - y).norm(dim=-1).mean() < 1.0
    assert made.quality["surface"] < 0.5 and made.quality["joints_forward"] < 0.1


def test_joints_defined_otherwise_are_mapped(first):
    """Joints moved by millimetres towards the skin: the 21 x 21 map takes most of the offset out."""
    other = remeshed(first, joint_shift=0.3)
    surface = registration_fit._surface_map(other.v_template.astype(float), first.v_template.astype(float), first.faces)
    matrix, before, after = registration_fit.joint_map(first, other, *surface, seed=1)
    assert before > 2 and after < 0.25 * before
    assert np.abs(matrix.sum(1) - 1).max() < 1e-9


def test_closest_points_are_the_closest(first):
    """Against the slow way: sampling every triangle densely."""
    rng = np.random.default_rng(0)
    vertices, faces = first.v_template.astype(np.float64), first.faces
    points = vertices[rng.integers(0, 778, 5)] + 0.004 * rng.standard_normal((5, 3))
    distance, _, shares = registration_fit.closest_points(points, vertices, faces)
    grid = np.array([(i, j, 20 - i - j) for i in range(21) for j in range(21 - i)]) / 20
    dense = (grid @ vertices[faces]).reshape(-1, 3)
    slow = np.linalg.norm(points[:, None] - dense, axis=-1).min(1)
    assert (distance <= slow + 1e-12).all() and (slow - distance).max() < 1e-4
    assert (shares >= 0).all() and np.allclose(shares.sum(1), 1)


def as_prediction(hand, vertices) -> HandPrediction:
    joints = joint_regressor(hand) @ vertices
    root = joints[:, :1]
    camera = torch.tensor([[5.0, 0.01, -0.02]]).double().expand(len(vertices), 3)
    crop = camera[:, None, :1] * ((joints - root)[..., :2] + camera[:, None, 1:])
    return HandPrediction(
        joints=joints - root,
        vertices=vertices - root,
        joints_2d=crop,
        camera=camera,
        pose=torch.zeros(len(vertices), 16, 3),
        hand=torch.full((len(vertices),), hand.fingerprint),
    )


def as_targets(hand, vertices) -> HandTargets:
    joints = joint_regressor(hand) @ vertices
    known = torch.ones(len(vertices), 21, dtype=torch.bool)
    return HandTargets(
        joints=joints - joints[:, :1],
        joints_valid=known,
        vertices=vertices - joints[:, :1],
        vertices_valid=known[:, 0],
        root=joints[:, 0] + torch.tensor([0, 0, 0.5]),
        root_valid=known[:, 0],
        mano_valid=known[:, 0],
        hand=torch.full((len(vertices),), hand.fingerprint),
    )


def test_predictions_are_compared_through_the_map_and_never_without(first, second, made):
    a, b = posed(first, second)
    prediction, targets = as_prediction(first, a), as_targets(second, b)
    with pytest.raises(HandMismatchError, match="register_hand"):
        per_sample(prediction, targets)
    values = per_sample(made.forward.prediction(prediction), targets)
    assert values["mpjpe"].mean() < 1 and values["mpvpe"].mean() < 1 and values["f@5"].min() > 0.99


def test_camera_and_projected_joints_follow_the_wrist(first, second, made):
    """A camera that stayed would project the moved joints beside the moved 2D ones."""
    other = remeshed(first, joint_shift=0.3)
    surface = registration_fit._surface_map(other.v_template.astype(float), first.v_template.astype(float), first.faces)
    forward = registration_fit._hand_map(
        first, other, surface, registration_fit.joint_map(first, other, *surface, 0)[0]
    )
    prediction = as_prediction(first, posed(first, second)[0])
    moved = forward.prediction(prediction)
    again = moved.camera[:, None, :1] * (moved.joints[..., :2] + moved.camera[:, None, 1:])
    assert (moved.camera - prediction.camera).abs().max() > 1e-3
    assert_close(again, moved.joints_2d, atol=1e-2, rtol=0)  # 2 mm: the 2D ones go through the 21 x 21 map
    assert moved.pose is None and (moved.hand == other.fingerprint).all()
    assert_close(moved.joints[:, 0], torch.zeros_like(moved.joints[:, 0]))


def test_labels_of_a_mixture_are_mapped_to_the_models_hand(first, second, made):
    """Samples of the other hand are mapped, those of the model's hand stay; parameters are masked."""
    a, b = posed(first, second, 4)
    mixed = HandTargets.cat([as_targets(second, b[:2]), as_targets(first, a[2:])])
    mapped = made.backward.targets(mixed)
    assert (mapped.hand == first.fingerprint).all() and mapped.mano_valid.tolist() == [False, False, True, True]
    wanted = as_targets(first, a)
    assert 1000 * (mapped.vertices - wanted.vertices).norm(dim=-1).mean() < 1
    assert torch.equal(mapped.vertices[2:], wanted.vertices[2:]) and torch.equal(mapped.root[2:], wanted.root[2:])
    hidden = replace(mixed, joints_valid=mixed.joints_valid.clone(), vertices=None, vertices_valid=None)
    hidden.joints_valid[0, 3] = False
    assert made.backward.targets(hidden).joints_valid.any(-1).tolist() == [False, True, True, True]
    untouched = replace(mixed, hand=torch.zeros(4, dtype=torch.int64))
    assert made.backward.targets(untouched) is untouched


def test_a_data_set_of_the_other_hand_trains_with_the_models(first, second, made):
    class Others(HandDataset):
        def __len__(self) -> int:
            return 4

        def load(self, indices, device="cpu") -> HandBatch:
            targets = as_targets(second, posed(first, second, 4)[1])[torch.tensor(indices)]
            return HandBatch(HandInputs(), targets, [str(i) for i in indices])

    dataset = Others()
    seen = RemappedDataset(dataset, made.backward)
    batch = seen.load([0, 1])
    hidden = Without3D(dataset, first.fingerprint).load([0, 1]).targets
    assert not hidden.joints_valid.any() and not hidden.vertices_valid.any()
    assert Without3D(dataset, second.fingerprint).load([0, 1]).targets.vertices_valid.all()
    assert seen.hand == first.fingerprint and len(seen) == len(dataset)
    assert (batch.targets.hand == first.fingerprint).all() and batch.keys == dataset.load([0, 1]).keys


def test_saved_and_found_both_ways(first, second, made, tmp_path):
    path = registration.save(made, tmp_path)
    assert path.name == f"registration_{first.fingerprint_hex}_{second.fingerprint_hex}.npz"
    forward = registration.find(first.fingerprint, second.fingerprint, tmp_path)
    backward = registration.find(second.fingerprint, first.fingerprint, tmp_path)
    assert torch.equal(forward.weights, made.forward.weights) and backward.target == first.fingerprint
    assert registration.read(path).quality == pytest.approx(made.quality)
    assert registration.find(1, 2, tmp_path) is None
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(hands.HandFileError, match="register_hand"):
        registration.find(first.fingerprint, second.fingerprint, tmp_path)


def test_the_command_registers_a_pickle(first, second, tmp_path, capsys):
    """From a MANO_RIGHT.pkl as a user has it; the same hand twice is told."""
    (tmp_path / "mano").mkdir()
    files.write_mano(second, tmp_path / "mano" / "MANO_RIGHT.pkl")
    out = tmp_path / "maps"
    assert cli.main(["--mano", str(tmp_path), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "mm apart in the mean" in said and len(list(out.glob("registration_*.npz"))) == 1
    assert cli.main(["--mano", "open", "--out", str(out)]) == 2
    assert "same hand" in capsys.readouterr().err
    assert cli.main(["--mano", str(tmp_path / "nowhere")]) == 2
    assert "no such hand file" in capsys.readouterr().err
