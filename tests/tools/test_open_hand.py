"""The shipped open hand, the checks that its builder ends with, and the parts of the builder that need no extra."""

import hashlib

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mesh_graphormer_hand import paths
from mesh_graphormer_hand.mano.io import read_npz
from mesh_graphormer_hand.mano.layer import ManoLayer
from mesh_graphormer_hand.skeleton import FINGERTIPS
from tools.open_hand import (
    anatomy,
    build,
    checks,
    correctives,
    editmesh,
    first,
    population,
    poses,
    primitives,
    surface,
    volumes,
)
from tools.open_hand.__main__ import main

FINGERPRINT = "ac1156e1b7b3eaf4"


@pytest.fixture(scope="module")
def shipped() -> dict[str, np.ndarray]:
    with np.load(paths.MANO_ASSETS / "open_hand.npz") as file:
        return dict(file)


@pytest.fixture
def arrays(shipped) -> dict[str, np.ndarray]:
    """A copy to damage."""
    return {name: array.copy() for name, array in shipped.items()}


def test_the_shipped_hand_passes_every_check(shipped):
    assert checks.failures(shipped) == []


def test_fingerprint_is_the_one_that_weights_were_trained_on():
    """A rebuilt hand with other bytes is another hand: every shipped checkpoint would refuse it."""
    assert read_npz(paths.MANO_ASSETS / "open_hand.npz").fingerprint_hex == FINGERPRINT


def test_the_first_hand_is_told_to_the_bit(shipped):
    """What the shipped hand was made of; the hashes are of the file that git's history has."""
    with np.load(first.PLACES) as told:
        places = dict(told)
    old = first.restored(shipped, places)
    hashes = [hashlib.sha256(old[name].tobytes()).hexdigest()[:12] for name in first.MOVED]
    assert hashes == ["506550c13462", "bb5c531d7319"]
    again = first.places(old, shipped)
    assert all(np.array_equal(again[name], places[name]) for name in places)
    moved = {**shipped, "hi_v": np.nextafter(shipped["hi_v"], 1)}
    with pytest.raises(first.OtherHandError, match=r"take the shipped open_hand\.npz"):
        first.restored(moved, places)


def test_phalanges_keep_their_volume(shipped):
    """The first hand's correctives were fitted joint by joint: in a fist its first phalanges lost a quarter."""
    fist = volumes.changes(shipped, "")["fist"]
    assert np.abs(fist).max() < checks.PHALANX
    damaged = {**shipped, "posedirs": np.zeros_like(shipped["posedirs"])}
    assert any("changes its volume" in failure for failure in checks.flesh_failures(damaged))


def test_the_forearm_is_sewn_on(arrays):
    assert list(checks.arm_failures(arrays)) == []
    arrays["arm_faces"] = arrays["arm_faces"][1:]
    assert any("open boundaries" in failure for failure in checks.arm_failures(arrays))


def test_the_population_is_that_of_the_tables():
    """Adults' hand lengths and breadths as in ANSUR II; the shape space covers a child of ten and the largest man."""
    people = population.sample()
    length = people[:, population.CONTROLS.index("hand_length")]
    breadth = people[:, population.CONTROLS.index("palm_width")]
    assert 180 < length.mean() < 187 and 13 < length.std() < 18
    assert abs(breadth.mean() - 1) < 0.01 and 0.04 < breadth.std() < 0.07
    assert np.corrcoef(length, people[:, population.CONTROLS.index("thumb_girth")])[0, 1] > 0.1


def test_shape_directions_are_principal_components(shipped):
    """Orthogonal over the template, in falling order, the first one size: from a child's hand to a large man's."""
    d = shipped["shapedirs"].reshape(-1, 10).astype(float)
    gram = d.T @ d
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-3 * gram[0, 0]
    assert (np.diff(np.diag(gram)) < 0).all()
    tip, wrist = shipped["shapedirs"][444, 0, 0], shipped["shapedirs"][shipped["wrist_loop"], 0, 0].mean()
    per_deviation = -1e3 * (tip - wrist)  # mm of hand length
    assert 12 < per_deviation < 20


def test_a_pierced_mesh_is_found(arrays):
    arrays["v_template"][317] += np.array([0.05, 0, -0.02], np.float32)  # the index tip through the middle finger
    assert checks.self_intersections(arrays["v_template"].astype(float), arrays["faces"]) > 10


def test_a_mesh_inside_out_is_found(arrays):
    arrays["faces"] = arrays["faces"][:, ::-1].copy()
    found = " ".join(checks.surface_failures(arrays["v_template"], arrays["faces"], arrays["wrist_loop"]))
    assert "inside out" in found and "not the wrist loop" in found


def test_a_hole_is_found(shipped):
    away_from_the_rim = np.delete(shipped["faces"], 800, 0)
    found = list(checks.surface_failures(shipped["v_template"], away_from_the_rim, shipped["wrist_loop"]))
    assert found == ["2 open boundaries, one expected"]


def test_a_stretched_hand_is_found(arrays):
    """5 % longer along the fingers: bones off their anthropometric lengths."""
    for name in ("v_template", "J"):
        arrays[name][:, 0] = 0.096 + 1.05 * (arrays[name][:, 0] - 0.096)
    assert sum("bone of" in failure for failure in checks.skeleton_failures(arrays)) >= 8


def test_a_mirrored_hand_is_found(arrays):
    for name in ("v_template", "J", "hi_v"):
        arrays[name][:, 2] = 0.012 - arrays[name][:, 2]
    assert any("rest frame" in failure for failure in checks.skeleton_failures(arrays))


@pytest.mark.parametrize("digit", anatomy.CHAINS)
def test_a_shifted_fingertip_is_found(arrays, digit):
    tip = anatomy.TIP_VERTICES[digit]
    arrays["v_template"][tip] = arrays["J"][anatomy.CHAINS[digit][2]]
    assert any(f"{digit}: vertex {tip}" in failure for failure in checks.skeleton_failures(arrays))


def test_a_missing_or_misshapen_array_is_named(arrays):
    del arrays["shapedirs"]
    arrays["weights"] = arrays["weights"][:, :15]
    found = checks.failures(arrays)
    assert len(found) == 2 and "weights" in found[0] and "shapedirs" in found[1]


def test_tips_are_manos():
    """Code written for MANO finds the fingertips of the open hand where it looks for them."""
    assert tuple(anatomy.TIP_VERTICES[digit] for digit in ("thumb", "index", "middle", "ring", "little")) == (
        745,
        317,
        444,
        556,
        673,
    )
    assert tuple(anatomy.TIP_VERTICES.values()) == FINGERTIPS["manopth"]


@pytest.mark.parametrize("finger", anatomy.FINGERS)
def test_flexion_moves_the_fingertip_to_the_palm_side(finger):
    """60 degrees at the knuckle, straight finger: the tip goes down (-y) by about the finger's length times sin 60."""
    layer = ManoLayer(mano_root="open", use_pca=False, flat_hand_mean=True)
    pose = poses.axis_angles(anatomy.Skeleton(), {finger: (60, 0, 0, 0)}).reshape(1, 48)
    tip = anatomy.TIP_VERTICES[finger]
    rest, bent = (layer(torch.from_numpy(p).float())[0][0, tip] for p in (0 * pose, pose))
    assert -0.095 < bent[1] - rest[1] < -0.055
    assert bent[0] - rest[0] > 0.02


def test_pinch_brings_the_fingertips_together():
    layer = ManoLayer(mano_root="open", use_pca=False, flat_hand_mean=True)
    pose = poses.axis_angles(anatomy.Skeleton(), poses.NAMED["pinch"]).reshape(1, 48)
    tips = layer(torch.from_numpy(pose).float())[0][0, list(FINGERTIPS["manopth"])]
    assert torch.dist(tips[0], tips[1]) < 0.02
    assert torch.dist(tips[0], tips[4]) > 0.04


def test_sampled_poses_keep_the_joint_limits():
    rng = np.random.default_rng(0)
    drawn = [poses.sample(rng) for _ in range(200)]
    fingers = np.array([[pose[finger] for finger in anatomy.FINGERS] for pose in drawn])
    for angles, (low, high) in zip(
        np.moveaxis(fingers, 2, 0), (poses.KNUCKLE, poses.ABDUCTION, poses.MIDDLE, poses.LAST), strict=True
    ):
        assert low <= angles.min() and angles.max() <= high
    assert np.ptp(fingers[..., 0]) > 80  # from open to closed
    bent = fingers[fingers[..., 0] > 80]
    assert np.abs(bent[:, 1]).max() < 4  # a flexed knuckle cannot spread


def test_posedirs_keep_their_meaning_in_the_asset_frame():
    """Offsets computed in the hand frame and turned equal offsets computed from the turned rotation."""
    rng = np.random.default_rng(0)
    m = anatomy.ASSET_FROM_HAND
    directions = rng.normal(size=(4, 3, 135))
    rotations = Rotation.random(15, random_state=0).as_matrix()
    offset = directions @ (rotations - np.eye(3)).reshape(-1)
    turned = m @ rotations @ m.T
    there = correctives.to_asset_frame(directions) @ (turned - np.eye(3)).reshape(-1)
    np.testing.assert_allclose(there, offset @ m.T * 1e-3, atol=1e-12)


def test_frames_are_right_handed_and_asset_points_come_back():
    skeleton = anatomy.Skeleton()
    for frame in skeleton.frames.values():
        np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(frame) > 0.999
    points = np.random.default_rng(0).normal(size=(5, 3))
    back = (anatomy.to_asset(points) - anatomy.WRIST_ASSET) @ anatomy.ASSET_FROM_HAND
    np.testing.assert_allclose(back, points, atol=1e-12)


def test_primitives_are_negative_inside_and_grow_outward():
    ball = primitives.Ellipsoid([1, 2, 3], [5, 5, 5])
    x = np.array([[1, 2, 3.1], [1, 2, 8.0], [1, 2, 10.0]])
    np.testing.assert_allclose(ball(x)[1:], [0, 2], atol=1e-9)
    assert ball(x)[0] < -4
    cone = primitives.RoundCone([0, 0, 0], [10, 0, 0], 2, 4)
    np.testing.assert_allclose(cone(np.array([[5.0, 0, 0], [0, 2, 0], [14, 0, 0]])), [-3, 0, 0], atol=1e-9)
    far = primitives.melt([np.array([1.0, 9.0]), np.array([9.0, 2.0])], 0.5)
    np.testing.assert_allclose(far, [1, 2], atol=1e-5)


def test_edits_keep_the_manifold():
    """Split, collapse and flip on a grid: still every edge on one or two faces, consistently turned."""
    x, y = np.meshgrid(np.arange(6.0), np.arange(6.0), indexing="ij")
    vertices = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1)
    corner = np.array([6 * i + j for i in range(5) for j in range(5)])
    lower, upper = np.stack([corner, corner + 6, corner + 7], 1), np.stack([corner, corner + 7, corner + 1], 1)
    faces = np.concatenate([lower, upper])
    mesh = editmesh.EditMesh(vertices, faces)
    mesh.boundary = mesh.find_boundary()
    new = mesh.split(14, 15, np.array([2.0, 2.5, 0]))
    assert mesh.collapse(21, 22, np.array([3.0, 3.5, 0]))
    assert not mesh.collapse(0, 5, np.zeros(3))  # no edge
    flips = sum(mesh.flip(a, b) for a, b in sorted(mesh.edges()))
    _, out, number = mesh.compact()
    directed = np.concatenate([out[:, [0, 1]], out[:, [1, 2]], out[:, [2, 0]]])
    assert flips > 0 and new in number and 22 not in number
    assert len(np.unique(directed, axis=0)) == len(directed)
    assert np.unique(np.sort(directed, 1), axis=0, return_counts=True)[1].max() == 2
    assert len(number) - len(np.unique(np.sort(directed, 1), axis=0)) + len(out) == 1
    assert len(mesh.boundary_loop()) == 20


@pytest.fixture
def ready_made(monkeypatch, arrays):
    """The builder hands out `arrays` without building anything."""

    def stages(hand, out, fast):
        out |= arrays
        yield from build.STAGES

    monkeypatch.setattr(build, "stages", stages)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)  # the extra is not needed for this


def test_another_hand_is_not_overwritten(ready_made, tmp_path, monkeypatch, arrays, capsys):
    """Weights know the hand that they were trained on: replacing its file takes an explicit word."""
    monkeypatch.setattr(checks, "failures", lambda arrays: [])
    path = tmp_path / "hand.npz"
    assert main(["--out", str(path)]) == 0
    assert main(["--out", str(path)]) == 0  # the same hand again
    arrays["v_template"][700] += np.float32(1e-6)
    assert main(["--out", str(path)]) == 1 and "another hand" in capsys.readouterr().err
    assert main(["--out", str(path), "--replace"]) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["hand.npz"]


def test_a_hand_that_fails_a_check_is_not_written(ready_made, tmp_path, arrays, capsys):
    arrays["hands_mean"][0] = np.nan
    assert main(["--out", str(tmp_path / "hand.npz")]) == 1
    assert "FAILED  hands_mean is not finite" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_template_lies_on_the_field_that_it_was_made_from(shipped):
    hand = surface.Hand()
    points = (shipped["v_template"].astype(float) * 1e3 - anatomy.WRIST_ASSET) @ anatomy.ASSET_FROM_HAND
    assert np.abs(hand(points)).max() < 1.5  # mm: flat triangles straddle the curved surface
    joints = (shipped["J"] * 1e3 - anatomy.WRIST_ASSET) @ anatomy.ASSET_FROM_HAND
    np.testing.assert_allclose(hand.joints, joints, atol=1e-4)
