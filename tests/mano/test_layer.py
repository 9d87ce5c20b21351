"""The hand layer: manopth's and smplx's numbers, a slow twin, and the properties that skinning must have."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.autograd import gradcheck

from helpers.mano_reference import CASES, VERTICES, invented_hand, tensor
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.mano.hand import load, mirrored
from mesh_graphormer_hand.mano.layer import ManoLayer, skin, skin_tensors
from mesh_graphormer_hand.skeleton import FINGERTIPS, MODEL_PARENTS, PERMUTATIONS

ATOL = 1e-6  # m: 1e-3 mm


@pytest.fixture(scope="module")
def hand():
    return load("open")


@pytest.fixture(scope="module")
def layer(hand):
    return ManoLayer(use_pca=False, flat_hand_mean=True, hand=hand)


def some_pose(count=4, size=48):
    return torch.randn(count, size) * 0.5


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_manopth(case):
    """Every argument of manopth's that the layer takes, within 1e-3 mm in float32."""
    arguments, columns, translated = CASES[case]
    layer = ManoLayer(hand=invented_hand(), **arguments)
    pose = tensor("rot6d_pose") if case == "rot6d" else tensor("pose")[:, :columns]
    vertices, joints = layer(pose, tensor("betas"), tensor("trans") if translated else None)
    torch.testing.assert_close(vertices[:, VERTICES], tensor(f"{case}_vertices_mm") / 1000, atol=ATOL, rtol=0)
    torch.testing.assert_close(joints, tensor(f"{case}_joints_mm") / 1000, atol=ATOL, rtol=0)


def test_agrees_with_smplx():
    layer = ManoLayer(hand=invented_hand(), use_pca=False, flat_hand_mean=False)
    vertices, joints = layer(tensor("pose"), tensor("betas"), tensor("trans"))
    torch.testing.assert_close(vertices[:, VERTICES], tensor("smplx_vertices_m"), atol=ATOL, rtol=0)
    model_joints = joints[:, np.argsort(PERMUTATIONS["mano"])[:16]]
    torch.testing.assert_close(model_joints, tensor("smplx_joints_m"), atol=ATOL, rtol=0)


def slow_skin(mesh, hand, rotvecs, betas):
    """The formula of the paper, one joint and one vertex at a time, float64, rotations by SciPy."""
    rotations = Rotation.from_rotvec(rotvecs).as_matrix()
    joints = hand.joint_regressor.astype(float) @ (hand.v_template + hand.shapedirs @ betas)
    template = hand.v_template if mesh is hand else mesh.vertices
    rest = template + mesh.shapedirs @ betas + mesh.posedirs @ (rotations[1:] - np.eye(3)).ravel()
    world = []
    for joint, parent in enumerate(MODEL_PARENTS):
        local = np.eye(4)
        local[:3, :3] = rotations[joint]
        local[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
        world.append(local if parent < 0 else world[parent] @ local)
    vertices = np.zeros_like(rest)
    for v in range(len(rest)):
        for j in np.flatnonzero(mesh.weights[v]):
            vertices[v] += mesh.weights[v, j] * (world[j][:3, :3] @ (rest[v] - joints[j]) + world[j][:3, 3])
    return vertices, np.array([w[:3, 3] for w in world])


@pytest.mark.parametrize("which", ["hand", "render"])
def test_equals_its_slow_twin(hand, which):
    rng = np.random.default_rng(0)
    rotvecs, betas = rng.normal(0, 0.6, (16, 3)), rng.normal(0, 1.5, 10)
    mesh = hand if which == "hand" else hand.render
    expected, expected_joints = slow_skin(mesh, hand, rotvecs, betas)
    matrices = axis_angle_to_matrix(torch.from_numpy(rotvecs))[None]
    for dtype, tolerance in ((torch.float32, ATOL), (torch.float64, 1e-12)):
        tensors = skin_tensors(hand, None if which == "hand" else hand.render, dtype=dtype)
        vertices, joints = skin(tensors, matrices.to(dtype), torch.from_numpy(betas)[None].to(dtype))
        np.testing.assert_allclose(vertices[0], expected, atol=tolerance, rtol=0)
        np.testing.assert_allclose(joints[0], expected_joints, atol=tolerance, rtol=0)


def test_zero_pose_is_the_template(hand, layer):
    vertices, joints = layer(torch.zeros(1, 48))
    np.testing.assert_allclose(vertices[0], hand.v_template, atol=1e-7)
    np.testing.assert_allclose(joints[0, 0], hand.joint_regressor[0] @ hand.v_template, atol=1e-7)


def test_mean_pose_is_added(hand, layer):
    bent = ManoLayer(use_pca=False, flat_hand_mean=False, hand=hand)
    pose = some_pose()
    offset = torch.cat([torch.zeros(3), torch.from_numpy(hand.hands_mean)])
    torch.testing.assert_close(bent(pose)[0], layer(pose + offset)[0])


def test_fingertips_are_skin(layer):
    """Whether the middle tip is vertex 444 or 445 is a convention: manopth's right hand says 444, its left one 445."""
    vertices, joints = layer(some_pose())
    assert FINGERTIPS["manopth"] == (745, 317, 444, 556, 673)
    assert FINGERTIPS["manopth_left"] == (745, 317, 445, 556, 673)
    assert torch.equal(joints[:, [4, 8, 12, 16, 20]], vertices[:, [745, 317, 444, 556, 673]])


def test_global_rotation_turns_the_hand_about_its_wrist(layer):
    pose = some_pose()
    turn = axis_angle_to_matrix(pose[:, :3])
    flat = pose.clone()
    flat[:, :3] = 0
    (turned, turned_joints), (vertices, joints) = layer(pose), layer(flat)
    wrist = joints[:, :1]
    torch.testing.assert_close(turned, (vertices - wrist) @ turn.mT + wrist, atol=ATOL, rtol=0)
    torch.testing.assert_close(turned_joints, (joints - wrist) @ turn.mT + wrist, atol=ATOL, rtol=0)


def test_shape_is_linear_at_rest(layer):
    betas, pose = torch.randn(1, 10), torch.zeros(1, 48)
    rest, once, twice = (layer(pose, k * betas)[0] for k in (0, 1, 2))
    torch.testing.assert_close(twice - rest, 2 * (once - rest), atol=ATOL, rtol=0)


def test_translation_and_centre(hand, layer):
    """As in manopth: a translation is added at the end, and a hand that is translated is not centred."""
    centred = ManoLayer(use_pca=False, center_idx=9, hand=hand)
    pose, trans = some_pose(), torch.randn(4, 3)
    vertices, joints = layer(pose)
    torch.testing.assert_close(layer(pose, trans=trans)[0], vertices + trans[:, None])
    for absent in (None, torch.zeros(4, 3)):
        torch.testing.assert_close(centred(pose, trans=absent)[0], vertices - joints[:, 9:10])
        assert centred(pose, trans=absent)[1][:, 9].abs().max() == 0
    torch.testing.assert_close(centred(pose, trans=trans)[1], joints + trans[:, None])


def test_left_is_the_mirror_image(hand):
    """A mirrored hand in a mirrored pose is the mirror image, correctives and principal components included."""
    pose, betas = some_pose(), torch.randn(4, 10)
    mirror = torch.tensor([-1.0, 1, 1])
    right = ManoLayer(use_pca=False, flat_hand_mean=False, hand=hand)
    left = ManoLayer(use_pca=False, flat_hand_mean=False, side="left", mano_root="open")
    expected = right(pose, betas)[0] * mirror
    torch.testing.assert_close(left(pose * -mirror.repeat(16), betas)[0], expected, atol=ATOL, rtol=0)
    right, left = ManoLayer(hand=hand), ManoLayer(side="left", mano_root="open")
    pose = some_pose(size=9)
    flipped = torch.cat([pose[:, :3] * -mirror, pose[:, 3:]], 1)
    torch.testing.assert_close(left(flipped, betas)[0], right(pose, betas)[0] * mirror, atol=ATOL, rtol=0)
    for name in ("v_template", "faces", "posedirs", "wrist_loop"):
        assert np.array_equal(getattr(mirrored(mirrored(hand)), name), getattr(hand, name)), name


def test_batch_row_equals_batch_of_one(layer):
    pose, betas = some_pose(), torch.randn(4, 10)
    vertices, joints = layer(pose, betas)
    for row in range(4):
        alone = layer(pose[row : row + 1], betas[row : row + 1])
        torch.testing.assert_close(alone[0][0], vertices[row], atol=1e-7, rtol=0)
        torch.testing.assert_close(alone[1][0], joints[row], atol=1e-7, rtol=0)


def test_gradients(hand):
    layer = ManoLayer(use_pca=False, flat_hand_mean=False, hand=hand).double()
    pose = (some_pose(1) * 0.5).double()
    pose[:, 6:9] = 0  # where naive axis-angle formulas divide by zero
    inputs = (
        pose.requires_grad_(),
        torch.randn(1, 10).double().requires_grad_(),
        torch.randn(1, 3).double().requires_grad_(),
    )

    def probe(*given):
        vertices, joints = layer(*given)
        return torch.cat([vertices[:, ::97], joints], 1)

    assert gradcheck(probe, inputs, fast_mode=True)


def test_autocast_costs_no_precision(layer):
    pose = some_pose()
    expected = layer(pose)[0]
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(pose)[0], expected, atol=1e-7, rtol=0)


def test_keeps_nothing_on_another_device(hand):
    """On the meta device every tensor that stayed behind on the CPU is an error; so it is for CUDA."""
    layer = ManoLayer(ncomps=45, center_idx=0, root_rot_mode="rot6d", hand=hand).to("meta")
    vertices, joints = layer(torch.zeros(2, 51, device="meta"), trans=torch.zeros(2, 3, device="meta"))
    assert vertices.device.type == joints.device.type == "meta" and vertices.shape == (2, 778, 3)


def test_saves_nothing(layer):
    """No licensed number may get into a checkpoint."""
    assert not layer.state_dict() and not list(layer.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"root_rot_mode": "quaternion"}, "root_rot_mode"),
        ({"ncomps": 46}, "ncomps"),
        ({"center_idx": 21}, "center_idx"),
        ({"side": "left"}, "right hand"),
    ],
)
def test_bad_arguments_are_named(hand, arguments, message):
    with pytest.raises(ValueError, match=message):
        ManoLayer(hand=hand, **arguments)


def test_pose_of_the_wrong_length(hand):
    with pytest.raises(ValueError, match="48 numbers, this layer takes 9"):
        ManoLayer(hand=hand)(torch.zeros(1, 48))
