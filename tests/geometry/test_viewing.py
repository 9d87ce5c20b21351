"""The axes of a crop: the least rotation to its ray, labels that turn with it, and answers that are turned back."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.two_dots import TwoDots, photo
from mesh_graphormer_hand.config import CropSpec
from mesh_graphormer_hand.contracts import HandBatch, HandInputs, HandPrediction
from mesh_graphormer_hand.data.axes import look_along_crops, photo_cameras
from mesh_graphormer_hand.data.datasets.virtual import Config, build
from mesh_graphormer_hand.data.images import cut_view
from mesh_graphormer_hand.data.readers.annotation import Annotation, completed, placement, to_sample
from mesh_graphormer_hand.data.transforms import move
from mesh_graphormer_hand.evaluation import predictions
from mesh_graphormer_hand.geometry.cameras import perspective_project
from mesh_graphormer_hand.geometry.crops import (
    apply_affine,
    apply_homography,
    compose_affine,
    crop_affine,
    homogeneous,
    linearised,
    mirror_affine,
)
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.geometry.viewing import camera_from_crop, photo_from_crop, split_intrinsics, viewing_rays
from mesh_graphormer_hand.inference.predictor import HandPredictor
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.virtual.config import VirtualConfig
from mesh_graphormer_hand.virtual.generator import VirtualHands

K = np.array([[600.0, 0, 700], [0, 600, 700], [0, 0, 1]], np.float32)  # of photos of 1400 px
SIZE = 96


def about_y(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def pixels(points: np.ndarray, k: np.ndarray = K) -> np.ndarray:
    seen = points @ k.T
    return seen[..., :2] / seen[..., 2:]


@pytest.fixture(scope="module")
def hand():
    return hands.load("open")


@pytest.fixture(scope="module")
def virtual(hand):
    return VirtualHands(VirtualConfig(split="test"), hand).render(range(9), image_size=SIZE)


def test_the_rotation_takes_the_axis_to_the_ray_and_rolls_nothing():
    k = torch.tensor([[500.0, 2, 300], [0, 450, 200], [0, 0, 1]], dtype=torch.float64)
    centre = torch.tensor([[900.0, -50], [300, 200], [10, 700]], dtype=torch.float64)
    r = camera_from_crop(k.expand(3, 3, 3), centre)
    torch.testing.assert_close(r @ r.transpose(1, 2), torch.eye(3).double().expand(3, 3, 3))
    assert (torch.linalg.det(r) > 0.999).all()
    ray = torch.linalg.solve(k, torch.cat([centre, torch.ones(3, 1)], 1).T).T
    torch.testing.assert_close(r[:, :, 2], ray / ray.norm(dim=1, keepdim=True))
    torch.testing.assert_close(viewing_rays(k, centre), r[:, :, 2])
    torch.testing.assert_close(r[1], torch.eye(3).double())
    twist = torch.stack([r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]], 1)
    assert twist[:, 2].abs().max() < 1e-12  # the axis lies in the image


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_intrinsics_are_taken_apart_again(mirror):
    k = torch.tensor([[500.0, 3, 300], [0, 450, 200], [0, 0, 1]], dtype=torch.float64)
    r = axis_angle_to_matrix(torch.tensor([0.3, -0.5, 1.2]).double())
    r = torch.diag(torch.tensor([mirror, 1.0, 1.0]).double()) @ r
    found = split_intrinsics(2.5 * k @ r)
    torch.testing.assert_close(found[0], k)
    torch.testing.assert_close(found[1], r)


def test_labels_are_what_the_crops_own_camera_sees(virtual):
    """Without the turn the ray through the crop's centre is no axis, and a shifted crop keeps its old labels."""
    shift = torch.tensor([[1.0, 0, 25], [0, 1, -15]]).expand(9, 2, 3)
    shifted = move(virtual, shift, torch.zeros(9), -torch.ones(9, 3))
    turned = move(virtual, torch.tensor([[0.0, -1, SIZE], [1, 0, 0]]).expand(9, 2, 3), torch.full((9,), np.pi / 2),
                  -torch.ones(9, 3))  # fmt: skip
    for batch in (look_along_crops(virtual), shifted, turned):
        t, k = batch.targets, batch.inputs.intrinsics
        middle = viewing_rays(k, torch.full((9, 1, 2), SIZE / 2))[:, 0]
        torch.testing.assert_close(middle, torch.tensor([0.0, 0, 1]).expand(9, 3), atol=1e-5, rtol=0)
        projected = perspective_project(t.joints + t.root[:, None], k)
        assert (projected - t.joints_2d).norm(dim=-1).max() < 0.02
    # one rotation turned everything
    before, after = virtual.targets, shifted.targets
    turn = torch.linalg.lstsq(before.vertices, after.vertices).solution.transpose(1, 2)
    angle = torch.rad2deg(torch.acos((turn.diagonal(dim1=1, dim2=2).sum(1) - 1).clamp(max=2) / 2))
    assert angle.median() > 4
    for name in ("joints", "root"):
        old, new = (getattr(t, name).reshape(9, -1, 3) for t in (before, after))
        torch.testing.assert_close(old @ turn.transpose(1, 2), new, atol=1e-5, rtol=0)
    wrists = [axis_angle_to_matrix(t.pose[:, 0]) for t in (before, after)]
    torch.testing.assert_close(turn @ wrists[0], wrists[1], atol=1e-4, rtol=0)
    assert torch.equal(before.pose[:, 1:], after.pose[:, 1:])


def test_to_look_along_a_crop_twice_is_once(virtual):
    once = look_along_crops(virtual)
    twice = look_along_crops(once)
    for name in ("joints", "vertices", "root", "pose", "depth"):
        torch.testing.assert_close(getattr(once.targets, name), getattr(twice.targets, name), atol=2e-5, rtol=1e-5)


def test_depth_is_measured_along_the_crops_own_axis(virtual):
    batch = look_along_crops(virtual)
    seen = batch.targets.mask & (batch.targets.depth > 0)
    row, column = seen[0].nonzero().unbind(1)
    places = torch.stack([column, row], 1) + 0.5
    for k, depth, reference in (
        (virtual.inputs.intrinsics[0], virtual.targets.depth[0], None),
        (batch.inputs.intrinsics[0], batch.targets.depth[0], True),
    ):
        rays = viewing_rays(k, places)
        points = rays / rays[:, 2:] * depth[row, column][:, None]
        if reference is None:
            first = points
    turn = camera_from_crop(virtual.inputs.intrinsics[0], torch.full((2,), SIZE / 2))
    torch.testing.assert_close(points @ turn.T, first, atol=1e-5, rtol=0)


def test_the_data_set_looks_along_and_the_generator_does_not(hand, virtual):
    data = build(Config(), "test", hand, SIZE)
    made, drawn = data.load([0, 1]), VirtualHands(data.generator, hand).render([0, 1], image_size=SIZE)
    assert torch.equal(made.inputs.image, drawn.inputs.image) and torch.equal(made.targets.shape, drawn.targets.shape)
    torch.testing.assert_close(made.targets.joints, look_along_crops(drawn).targets.joints)
    assert (made.targets.joints - drawn.targets.joints).abs().max() > 1e-4
    assert drawn.inputs.intrinsics[:, 2].tolist() == [[0, 0, 1]] * 2


class Knows(TwoDots):
    """Answers every crop with the joints and places (px of the crop) that it was given."""

    def __init__(self, joints: torch.Tensor, places: torch.Tensor) -> None:
        super().__init__(SIZE)
        self.joints, self.places = joints, places

    def forward(self, inputs: HandInputs) -> HandPrediction:
        count = len(inputs.image)
        known = {"joints": self.joints.expand(count, -1, -1), "joints_2d": self.places.expand(count, -1, -1)}
        return dataclasses.replace(super().forward(inputs), **known)


def answer(joints: np.ndarray, side: str, own: np.ndarray | None = None):
    """The predictor's answer on the hand `joints` before the camera K (m), of a network that says of the crop what a
    reader would label it with, or `own` (of the photo's side)."""
    seen = pixels(joints)
    box = np.concatenate([seen.min(0), seen.max(0)])
    a = Annotation("a", "a", Path("a"), is_left=side == "left", box=box, joints=joints, intrinsics=K)
    a = completed(a)
    place = placement(a, 1400, 1400, CropSpec().over("box"), SIZE)
    inputs, targets = to_sample(a, place, SIZE, mesh=False)
    inputs = dataclasses.replace(inputs, image=torch.zeros(3, SIZE, SIZE))
    labelled = look_along_crops(HandBatch.stack([HandBatch(inputs, targets, ["a"], place)])).targets
    said = labelled.joints if own is None else torch.from_numpy(np.float32(own * [1 - 2 * a.is_left, 1, 1]))
    shown = torch.linalg.inv(photo_from_crop(place.double(), torch.from_numpy(K), SIZE))
    predictor = HandPredictor(Knows(said, apply_homography(torch.from_numpy(seen).double(), shown).float()[None]))
    return predictor.predict(np.zeros((1400, 1400, 3), np.uint8), [box], [side], K=K)[0]


def angle_about_y(before: np.ndarray, after: np.ndarray) -> float:
    u, _, vt = np.linalg.svd((before - before.mean(0)).T @ (after - after.mean(0)))
    q = vt.T @ np.diag([1, 1, np.sign(np.linalg.det(vt.T @ u.T))]) @ u.T
    return float(np.degrees(np.arctan2(q[0, 2] - q[2, 0], q[0, 0] + q[2, 2])))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("degrees", [0, 15, 30, 40])
def test_what_readers_label_is_what_the_predictor_undoes(virtual, side, degrees):
    """9 virtual hands before a turned camera, a network that answers with their labels: the hand itself comes out."""
    turn = about_y(degrees)
    for own, root in zip(virtual.targets.joints.numpy(), virtual.targets.root.numpy(), strict=True):
        joints = (own + root) @ turn.T
        found = answer(joints, side)
        np.testing.assert_allclose(found.joints, joints - joints[0], atol=1e-5)
        np.testing.assert_allclose(found.joints_cam, joints, atol=2e-3)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("degrees", [15, 30, 40])
def test_a_turned_camera_turns_the_answer(virtual, side, degrees):
    """Whoever sees the same hand in both crops says the same of both (the labels' own joints)."""
    turn, got = about_y(degrees), []
    for own, root in zip(virtual.targets.joints.numpy(), virtual.targets.root.numpy(), strict=True):
        before, after = (answer(p, side, own) for p in (own + root, (own + root) @ turn.T))
        got.append(angle_about_y(before.joints, after.joints))
    assert np.abs(np.median(got) - degrees) < 1 and np.abs(np.array(got) - degrees).max() < 2.5, got


def test_moving_the_principal_point_moves_the_answer(virtual):
    own, root = virtual.targets.joints[0].numpy(), virtual.targets.root[0].numpy()
    moved = K.copy()
    moved[0, 2] -= 600
    seen = pixels(own + root)
    predictor = HandPredictor(Knows(torch.from_numpy(own), torch.zeros(21, 2)))
    photo, box = np.zeros((1400, 1400, 3), np.uint8), np.concatenate([seen.min(0), seen.max(0)])
    a, b = (predictor.predict(photo, [box], ["right"], K=k, mesh="mano")[0] for k in (K, moved))
    assert angle_about_y(a.joints, b.joints) == pytest.approx(45, abs=3)
    assert angle_about_y(a.vertices, b.vertices) == pytest.approx(45, abs=3)
    wrist = [axis_angle_to_matrix(torch.from_numpy(r.pose[0])).numpy() for r in (a, b)]
    turn = b.camera_from_crop @ a.camera_from_crop.T
    np.testing.assert_allclose(turn @ wrist[0], wrist[1], atol=0.02)


def test_exports_are_in_the_photos_axes_with_the_predictors_wrist(virtual):
    """A crop far off the axis, and a left hand: what the labels know of the photo comes out again."""
    batch = dataclasses.replace(virtual, targets=dataclasses.replace(virtual.targets, is_left=torch.arange(9) % 2 > 0))
    mirror = torch.where(batch.targets.is_left, -1.0, 1.0)[:, None] * torch.tensor([1.0, 0, 0]) + torch.tensor(
        [0, 1.0, 1]
    )
    place = torch.tensor([[3.0, 0, 900], [0, 3, 50]]).expand(9, 2, 3).clone()
    place[batch.targets.is_left] = torch.tensor([[-3.0, 0, 900], [0, 3, 50]])
    k = batch.inputs.intrinsics
    photo_k = torch.cat([place, torch.tensor([0, 0, 1.0]).expand(9, 1, 3)], 1) @ k * mirror[:, None]
    photo = (batch.targets.joints + batch.targets.root[:, None]) * mirror[:, None]
    batch = look_along_crops(dataclasses.replace(batch, image_from_crop=place))
    found_k, axes, known = photo_cameras(batch)
    torch.testing.assert_close(found_k, photo_k, atol=0.05, rtol=1e-4)
    assert known.all() and ((torch.linalg.det(axes) < 0) == batch.targets.is_left).all()
    t = batch.targets
    found, placed = predictions.in_photo(HandPrediction(joints=t.joints, joints_2d=t.joints_2d), batch)
    assert placed
    torch.testing.assert_close(found["joints"], photo, atol=1e-3, rtol=0)


def test_far_off_the_axis_the_crop_is_its_own_cameras_picture(virtual):
    """40 degrees off, a photo is stretched by 1.3: the crop undoes that, keeps centre and area, and mirrors."""
    own, root = virtual.targets.joints[1].numpy(), virtual.targets.root[1].numpy()
    k, middle = torch.from_numpy(K).double(), torch.tensor([SIZE / 2, SIZE / 2]).double()
    seen = pixels((own + root) @ about_y(40).T)
    centre = torch.from_numpy((seen.min(0) + seen.max(0)) / 2)
    for mirrored in (False, True):
        place = crop_affine(centre, torch.tensor(300.0).double(), SIZE)
        place = compose_affine(place, mirror_affine(SIZE, place)) if mirrored else place
        photo = photo_from_crop(place, k, SIZE)
        near = linearised(photo, middle)
        torch.testing.assert_close(apply_affine(middle[None], near)[0], centre)
        torch.testing.assert_close(torch.linalg.det(near[:, :2]), torch.linalg.det(place[:, :2]))
        stretch = torch.linalg.svdvals(near[:, :2])
        assert stretch[0] / stretch[1] == pytest.approx(1 / float(camera_from_crop(k, centre)[2, 2]), rel=1e-4)
        # what its own camera projects, up to one scale and shift
        turn = camera_from_crop(k, centre).numpy()
        ideal = pixels((own + root) @ about_y(40).T @ turn, np.eye(3)) * [-1 if mirrored else 1, 1]
        shown = apply_homography(torch.from_numpy(seen), torch.linalg.inv(photo)).numpy() - SIZE / 2
        np.testing.assert_allclose(shown / shown.std(), ideal / ideal.std(), atol=1e-3)
    near_axis = crop_affine(torch.tensor([750.0, 650]), torch.tensor(300.0), SIZE)
    assert torch.equal(photo_from_crop(near_axis, k.float(), SIZE), homogeneous(near_axis))


def test_the_picture_of_such_a_crop_shows_what_its_map_says():
    photo = np.zeros((1400, 1400, 3), np.uint8)
    place = crop_affine(torch.tensor([1250.0, 600]), torch.tensor(300.0), SIZE)
    h = photo_from_crop(place, torch.from_numpy(K), SIZE)
    x, y = apply_homography(torch.tensor([[20.0, 70.0]]), h)[0].tolist()
    columns, rows = np.meshgrid(np.arange(1400) + 0.5, np.arange(1400) + 0.5)
    photo[:] = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2 / 9**2)[..., None]
    view = cut_view(photo, h, SIZE)[..., 0].astype(float)
    places = np.arange(SIZE) + 0.5
    found = [(view.sum(0) * places).sum() / view.sum(), (view.sum(1) * places).sum() / view.sum()]
    np.testing.assert_allclose(found, [20, 70], atol=0.15)


def test_the_mask_and_joints_of_a_crop_far_off_the_axis_lie_on_the_hand():
    k = np.array([[400.0, 0, -150], [0, 400, 120], [0, 0, 1]], np.float32)
    image = photo((130.0, 90.0), (210.0, 150.0), height=240, width=400, sigma=8)
    (hand,) = HandPredictor(TwoDots()).predict(image, [[110, 70, 240, 170]], ["left"], K=k)
    np.testing.assert_allclose(hand.joints_2d[[0, 9]], [[130, 90], [210, 150]], atol=1.0)
    rows, columns = hand.mask.nonzero()
    np.testing.assert_allclose([columns.mean() + 0.5, rows.mean() + 0.5], [130, 90], atol=0.7)
