"""Augmentation moves every label with the image. Image content is the judge: dots drawn at labels are found there."""

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mesh_graphormer_hand.contracts import SEGMENTATION_CLASSES, HandBatch, HandInputs, HandTargets
from mesh_graphormer_hand.data.axes import look_along_crops
from mesh_graphormer_hand.data.transforms import Augmentation, augment, generator, mirror, move
from mesh_graphormer_hand.geometry.cameras import intrinsics, perspective_project
from mesh_graphormer_hand.geometry.crops import apply_affine, compose_affine, crop_affine, homogeneous, invert_affine
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.geometry.viewing import split_intrinsics

SIZE = 96
MOVES = Augmentation(rotation_off=0.0, scale=0.25, translation=0.15, channel_gain=0.0)
EVERYTHING = Augmentation(
    rotation_off=0.2, translation=0.1, constant_border=0.5, brightness=0.2, contrast=0.3, blur=0.5, noise=0.5,
    low_resolution=0.5, occlusion=0.5,
)  # fmt: skip


def make_batch(count: int = 4) -> HandBatch:
    """Hands of random points before a camera with an off-centre principal point; a bright dot at every projection."""
    random = torch.Generator().manual_seed(3)
    joints = (torch.rand(count, 21, 3, generator=random) - 0.5) * 0.12
    joints = joints - joints[:, :1]
    root = torch.tensor([0.02, -0.03, 0.6]).expand(count, 3)
    camera = intrinsics(torch.full((count,), 160.0), torch.tensor([52.0, 41.0]).expand(count, 2))
    points = perspective_project(joints + root[:, None], camera)
    dots, mask = torch.zeros(count, 3, SIZE, SIZE), torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    centres = torch.arange(SIZE) + 0.5
    middle = points.mean(1)
    for b in range(count):
        for x, y in points[b].tolist():
            near = torch.exp(-((centres - x)[None] ** 2 + (centres - y)[:, None] ** 2) / 4)
            dots[b] = torch.maximum(dots[b], near)
        mask[b] = (centres - middle[b, 0])[None] ** 2 + (centres - middle[b, 1])[:, None] ** 2 < 15**2
    yes = torch.ones(count, dtype=torch.bool)
    all_joints = torch.ones(count, 21, dtype=torch.bool)
    depth = mask * 0.6
    targets = HandTargets(
        joints=joints, joints_valid=all_joints, joints_2d=points, joints_2d_valid=all_joints,
        joints_visible=all_joints, vertices=joints.repeat(1, 38, 1)[:, :778], vertices_valid=yes, root=root,
        root_valid=yes, pose=torch.randn(count, 16, 3, generator=random), shape=torch.zeros(count, 10),
        mano_valid=yes, mask=mask, mask_valid=yes, depth=depth, depth_valid=yes,
        crop_size=torch.full((count,), float(SIZE)), is_left=~yes, hand=torch.full((count,), 7),
    )  # fmt: skip
    inputs = HandInputs(
        image=dots, depth=depth[:, None], depth_valid=yes, intrinsics=camera, intrinsics_valid=yes
    )  # fmt: skip
    photo = crop_affine(torch.tensor([[300.0, 200.0]]), torch.tensor([150.0]), SIZE).expand(count, 2, 3)
    return HandBatch(inputs, targets, [str(i) for i in range(count)], photo)


def value_at(image: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """(b, n) of the first channel of (b, c, h, w) at points in px."""
    grid = (points / image.shape[-1] * 2 - 1)[:, None]
    return torch.nn.functional.grid_sample(image[:, :1], grid, align_corners=False)[:, 0, 0]


def equal(a, b) -> bool:
    """Whether two records are equal in every bit."""
    for f in fields(a):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if isinstance(x, torch.Tensor):
            if not torch.equal(x, y):
                return False
        elif hasattr(x, "map"):
            if not equal(x, y):
                return False
        elif x != y:
            return False
    return True


def test_image_content_follows_the_labels():
    """A turn the wrong way loses the dots."""
    batch = make_batch()
    assert value_at(batch.inputs.image, batch.targets.joints_2d).min() > 0.85
    for step in range(5):
        moved = augment(batch, MOVES, (0, step))
        points = moved.targets.joints_2d
        inside = ((points > 2) & (points < SIZE - 2)).all(-1)
        assert inside.float().mean() > 0.4
        assert value_at(moved.inputs.image, points)[inside].min() > 0.7
        assert not torch.equal(points, batch.targets.joints_2d)


def test_image_content_follows_the_labels_to_a_tenth_of_a_pixel():
    """A blot's centre of mass stays on its label: half a pixel off, the usual mistake, fails."""
    batch = make_batch(8)
    centres = torch.arange(SIZE) + 0.5
    blot = torch.exp(-((centres - 50.0)[None] ** 2 + (centres - 43.5)[:, None] ** 2) / 30)
    points = torch.tensor([50.0, 43.5]).expand(8, 21, 2)
    batch = replace(batch, inputs=replace(batch.inputs, image=blot.expand(8, 3, SIZE, SIZE)))
    batch = replace(batch, targets=replace(batch.targets, joints_2d=points))
    moved = augment(batch, MOVES, (8, 0))
    image, point = moved.inputs.image[:, 0], moved.targets.joints_2d[:, 0]
    found = torch.stack([(image.sum(1) * centres).sum(1), (image.sum(2) * centres).sum(1)], 1)
    found = found / image.sum((1, 2))[:, None]
    inside = ((point > 22) & (point < SIZE - 22)).all(-1)
    assert inside.sum() >= 4
    assert_close(found[inside], point[inside], atol=0.1, rtol=0)


def test_projected_3d_joints_stay_on_the_2d_ones():
    batch = make_batch()
    for step in range(5):
        moved = augment(batch, MOVES, (1, step))
        points = moved.targets.joints + moved.targets.root[:, None]
        projected = perspective_project(points, moved.inputs.intrinsics)
        assert_close(projected, moved.targets.joints_2d, atol=1e-3, rtol=0)
        assert_close(moved.targets.vertices[:, :21], moved.targets.joints)
        k, _ = split_intrinsics(homogeneous(moved.image_from_crop) @ moved.inputs.intrinsics)  # the photo's
        assert_close(k, homogeneous(batch.image_from_crop) @ batch.inputs.intrinsics, atol=0.02, rtol=0)


def test_wrist_rotation_turns_with_the_joints():
    """R(new wrist) = turn R(old wrist), the turn being the one of the joints."""
    batch = make_batch()
    moved = augment(batch, MOVES, (2, 0))
    turn = axis_angle_to_matrix(moved.targets.pose[:, 0]) @ axis_angle_to_matrix(batch.targets.pose[:, 0]).mT
    assert_close(batch.targets.joints @ turn.mT, moved.targets.joints, atol=1e-5, rtol=0)
    assert_close(moved.targets.pose[:, 1:], batch.targets.pose[:, 1:])


def test_mask_and_depth_move_with_the_image():
    batch = make_batch()
    moved = augment(batch, MOVES, (3, 1))
    middle = moved.targets.joints_2d.mean(1)
    for b in range(4):
        row, column = moved.targets.mask[b].nonzero().float().mean(0) + 0.5
        if ((middle[b] > 20) & (middle[b] < SIZE - 20)).all():  # the disc is whole
            assert_close(torch.stack([column, row]), middle[b], atol=0.6, rtol=0)
    assert torch.equal(moved.targets.depth > 0, moved.targets.mask)
    assert torch.equal(moved.inputs.depth[:, 0], moved.targets.depth)


def test_photo_pixels_of_a_label_do_not_change():
    batch = make_batch()
    moved = augment(batch, MOVES, (4, 0))
    before = apply_affine(batch.targets.joints_2d, batch.image_from_crop)
    assert_close(apply_affine(moved.targets.joints_2d, moved.image_from_crop), before, atol=1e-2, rtol=0)


def test_joints_outside_are_not_visible_but_known():
    batch = make_batch()
    shifted = move(
        batch, torch.tensor([[1.0, 0, 60], [0, 1, 0]]).expand(4, 2, 3), torch.zeros(4), -torch.ones(4, 3)
    )  # fmt: skip
    outside = shifted.targets.joints_2d[..., 0] >= SIZE
    assert outside.any() and not shifted.targets.joints_visible[outside].any()
    assert shifted.targets.joints_visible[~outside].all() and shifted.targets.joints_2d_valid.all()


def test_turn_is_clockwise_on_the_screen():
    """Convention pin: a quarter turn takes what points right to pointing down."""
    batch = look_along_crops(make_batch(1))
    right = replace(batch.targets, joints=torch.tensor([[[1.0, 0, 0]]]).expand(1, 21, 3))
    new_from_old = invert_affine(crop_affine(torch.tensor([[48.0, 48]]), torch.tensor([96.0]), SIZE, torch.pi / 2))
    moved = move(replace(batch, targets=right), new_from_old, torch.tensor([torch.pi / 2]), -torch.ones(1, 3))
    assert_close(moved.targets.joints[0, 0], torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0)


def test_border_is_repeated_or_one_colour():
    batch = make_batch(2)
    batch = replace(batch, inputs=replace(batch.inputs, image=torch.full((2, 3, SIZE, SIZE), 0.25)))
    border = torch.tensor([[-1.0, -1, -1], [0.5, 0.75, 1]])
    out = move(batch, torch.tensor([[1.0, 0, 60], [0, 1, 0]]).expand(2, 2, 3), torch.zeros(2), border).inputs.image
    assert_close(out[0], torch.full_like(out[0], 0.25))
    assert_close(out[1, :, 5, 5], border[1])
    assert_close(out[1, :, 5, 80], torch.full((3,), 0.25))


def test_mirrored_twice_is_the_same():
    batch = make_batch()
    once = mirror(batch)
    assert once.targets.is_left.all() and not torch.equal(once.inputs.image, batch.inputs.image)
    twice = mirror(once)
    for name in ("joints", "joints_2d", "vertices", "pose", "root"):
        assert_close(getattr(twice.targets, name), getattr(batch.targets, name), atol=1e-5, rtol=0)
    assert torch.equal(twice.inputs.image, batch.inputs.image)
    assert torch.equal(twice.targets.mask, batch.targets.mask)
    assert_close(twice.inputs.intrinsics, batch.inputs.intrinsics, atol=1e-4, rtol=0)
    assert_close(twice.image_from_crop, batch.image_from_crop, atol=1e-4, rtol=0)


def test_mirror_keeps_projection_and_content():
    once = mirror(make_batch())
    points = once.targets.joints + once.targets.root[:, None]
    assert_close(perspective_project(points, once.inputs.intrinsics), once.targets.joints_2d, atol=1e-3, rtol=0)
    assert value_at(once.inputs.image, once.targets.joints_2d).min() > 0.85
    turned = axis_angle_to_matrix(once.targets.pose)
    flip = torch.diag(torch.tensor([-1.0, 1, 1]))
    assert_close(turned, flip @ axis_angle_to_matrix(make_batch().targets.pose) @ flip, atol=1e-5, rtol=0)


def test_crop_then_inverse_is_the_original_pixel():
    random = generator(5)
    centre = torch.rand(6, 2, generator=random) * 500
    side, angle = torch.rand(6, generator=random) * 300 + 20, torch.rand(6, generator=random) * 6
    image_from_crop = crop_affine(centre, side, 224, angle)
    points = torch.rand(6, 9, 2, generator=random) * 500
    there = apply_affine(points, invert_affine(image_from_crop))
    assert_close(apply_affine(there, image_from_crop), points, atol=1e-2, rtol=0)
    identity = compose_affine(image_from_crop, invert_affine(image_from_crop))
    assert_close(identity, torch.eye(3)[:2].expand(6, 2, 3), atol=1e-3, rtol=0)
    assert_close(apply_affine(torch.full((1, 1, 2), 112.0), image_from_crop)[:, 0], centre, atol=1e-3, rtol=0)


def test_occlusion_hides_joints_mask_and_depth():
    batch = make_batch(8)
    config = Augmentation(rotation_off=1.0, scale=0.0, channel_gain=0.0, occlusion=1.0, occlusion_max=0.6)
    out = augment(batch, config, (6, 0))
    hidden = batch.targets.joints_visible & ~out.targets.joints_visible
    assert hidden.any()
    column, row = out.targets.joints_2d.long().unbind(-1)
    inside = hidden & (column.clamp(0, SIZE - 1) == column) & (row.clamp(0, SIZE - 1) == row)
    b, j = inside.nonzero().unbind(-1)
    covered = out.targets.mask[b, row[b, j], column[b, j]]
    assert not covered.any()
    assert out.targets.mask.sum() < batch.targets.mask.sum()
    assert torch.equal(out.targets.depth > 0, out.targets.mask)


def rectangle_of_hand(count: int = 4) -> HandBatch:
    """A green screen with a red rectangle, which the mask knows."""
    batch = make_batch(count)
    mask = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    mask[:, 30:70, 20:60] = True
    image = torch.where(
        mask[:, None], torch.tensor([0.9, 0.1, 0.1])[:, None, None], torch.tensor([0, 1.0, 0])[:, None, None]
    )
    return replace(
        batch,
        inputs=replace(batch.inputs, image=image, depth=torch.where(mask, 0.6, 3.0)[:, None]),
        targets=replace(batch.targets, mask=mask, depth=torch.where(mask, 0.6, 3.0)),
    )


def test_another_background_leaves_the_hand_alone():
    still = {"rotation_off": 1.0, "scale": 0.0, "channel_gain": 0.0}
    batch = rectangle_of_hand()
    unknown = torch.tensor([True, True, True, False])
    batch = replace(batch, targets=replace(batch.targets, mask_valid=unknown))
    out = augment(batch, Augmentation(background=1.0, **still), 4)
    image, mask = out.inputs.image, batch.targets.mask
    inside = torch.zeros_like(mask)
    inside[:, 32:68, 22:58] = True
    assert_close(
        image[:3].movedim(1, -1)[inside[:3]], batch.inputs.image[:3].movedim(1, -1)[inside[:3]], atol=1e-5, rtol=0
    )
    behind = image[:3].movedim(1, -1)[~mask[:3]]
    assert ((behind - torch.tensor([0, 1.0, 0])).abs().amax(-1) > 0.2).float().mean() > 0.9
    assert_close(image[3], batch.inputs.image[3], atol=1e-5, rtol=0)
    assert torch.equal(out.targets.depth[:3] > 0, mask[:3]) and (out.targets.depth[3] > 0).all()
    assert torch.equal(out.inputs.depth[:, 0], out.targets.depth)
    assert not torch.equal(image[0], image[1])
    assert equal(out, augment(batch, Augmentation(background=1.0, **still), 4))
    assert_close(augment(batch, Augmentation(**still), 4).inputs.image, batch.inputs.image, atol=1e-4, rtol=0)


@pytest.mark.parametrize("known_by", ["parts", "depth"])
def test_another_background_leaves_alone_what_is_before_it(known_by):
    """A blue thing that the hand holds: its labels stay, so it has to stay itself."""
    batch, blue = rectangle_of_hand(), torch.tensor([0.1, 0.1, 0.9])
    thing = torch.zeros(4, SIZE, SIZE, dtype=torch.bool)
    thing[:, 40:60, 60:80] = True
    image = torch.where(thing[:, None], blue[:, None, None], batch.inputs.image)
    labels = {"depth": None, "depth_valid": None, "normals": torch.ones(4, 3, SIZE, SIZE)}
    if known_by == "depth":  # as rendered: 0 where nothing is
        labels |= {"depth": 0.6 * batch.targets.mask + 0.8 * thing, "depth_valid": torch.ones(4, dtype=torch.bool)}
    else:
        parts = (1 * batch.targets.mask + SEGMENTATION_CLASSES.index("object") * thing).byte()
        labels |= {"parts": parts, "parts_valid": torch.ones(4, dtype=torch.bool)}
    batch = replace(batch, inputs=replace(batch.inputs, image=image), targets=replace(batch.targets, **labels))
    still = Augmentation(background=1.0, rotation_off=1.0, scale=0.0, channel_gain=0.0)
    out = augment(batch, still, 4)
    inner = torch.zeros_like(thing)
    inner[:, 42:58, 62:78] = True
    assert_close(out.inputs.image.movedim(1, -1)[inner], blue.expand(int(inner.sum()), 3), atol=1e-5, rtol=0)
    front = batch.targets.mask | thing
    assert torch.equal((out.targets.normals != 0).any(1), front)
    green = (out.inputs.image.movedim(1, -1)[~front] - torch.tensor([0, 1.0, 0])).abs().amax(-1) < 0.2
    assert green.float().mean() < 0.1


def test_another_background_may_be_a_photograph(tmp_path):
    """Of the folder that is named: of one colour here, which no painted background has."""
    cv2.imwrite(str(tmp_path / "purple.png"), np.full((40, 40, 3), (255, 0, 255), np.uint8))
    still = {"background": 1.0, "rotation_off": 1.0, "scale": 0.0, "channel_gain": 0.0}
    seen = []
    for folder in ("", str(tmp_path)):
        batch = rectangle_of_hand(16)
        image = augment(batch, Augmentation(backgrounds=folder, **still), 4).inputs.image
        corner = image[:, :, 4:8, 4:8].mean((2, 3))
        seen.append(int(((corner - torch.tensor([1.0, 0, 1])).abs().amax(-1) < 0.01).sum()))
    assert seen[0] == 0 and seen[1] >= 4


def test_frames_may_be_mirrored_and_their_hands_change_sides():
    batch = make_batch()
    boxes = torch.tensor([[10.0, 20, 40, 60]]).expand(4, 1, 4)
    known = torch.tensor([True, True, False, True])
    yes = torch.ones(4, 1, dtype=torch.bool)
    targets = replace(batch.targets, boxes=boxes, boxes_valid=yes, boxes_left=yes, boxes_known=known)
    batch = replace(batch, targets=targets)
    out = augment(batch, Augmentation(mirror=1.0, rotation_off=1.0, scale=0.0, channel_gain=0.0), 5)
    assert_close(out.targets.boxes[0, 0], torch.tensor([SIZE - 40.0, 20, SIZE - 10, 60]))
    assert out.targets.boxes_left[:, 0].tolist() == [False, False, True, False]
    assert_close(out.inputs.image[0], batch.inputs.image[0].flip(-1), atol=1e-4, rtol=0)
    assert_close(out.inputs.image[2], batch.inputs.image[2], atol=1e-4, rtol=0)


def test_some_crops_are_shown_as_left_hands_without_a_mesh():
    batch = make_batch(16)
    still = Augmentation(left_hands=0.5, rotation_off=1.0, scale=0.0, channel_gain=0.0)
    out = augment(batch, still, 5)
    left = out.targets.shows_left
    assert 3 < int(left.sum()) < 13 and torch.equal(out.targets.is_left, left)
    assert_close(out.inputs.image[left], batch.inputs.image[left].flip(-1), atol=1e-4, rtol=0)
    assert_close(out.inputs.image[~left], batch.inputs.image[~left], atol=1e-4, rtol=0)
    assert (value_at(out.inputs.image, out.targets.joints_2d) > 0.5).all()
    for name in ("joints_valid", "vertices_valid", "mano_valid"):
        valid = getattr(out.targets, name).flatten(1).all(1) if name == "joints_valid" else getattr(out.targets, name)
        assert torch.equal(valid, ~left)
    assert out.targets.joints_2d_valid.all()
    part = augment(batch[3:5], still, 5, 3, 16)
    assert torch.equal(part.targets.shows_left, left[3:5])


def test_a_hand_that_the_frame_cuts_is_neither_found_nor_background():
    """A hand of which 90, 25 and 5 % are left, and a region without a mark of which 5 % are."""
    batch = make_batch()[:1]
    boxes = torch.tensor([[[-10.0, 0, 90, 50], [-75.0, 0, 25, 50], [-95.0, 0, 5, 50], [-95.0, 0, 5, 50]]]) + SIZE / 4
    yes, unsure = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[False, False, False, True]])
    targets = replace(batch.targets, boxes=boxes, boxes_valid=yes, boxes_left=yes, boxes_unsure=unsure)
    shift = torch.tensor([[[1.0, 0, -SIZE / 4], [0, 1, -SIZE / 4]]])
    moved = move(replace(batch, targets=targets), shift, torch.zeros(1), -torch.ones(1, 3)).targets
    assert moved.boxes_valid.tolist() == [[True, True, False, True]]
    assert moved.boxes_unsure[moved.boxes_valid].tolist() == [False, True, True]
    bare = replace(batch, targets=replace(targets, boxes_unsure=None))
    assert move(bare, shift, torch.zeros(1), -torch.ones(1, 3)).targets.boxes_unsure.tolist() == [
        [False, True, True, True]
    ]


def test_an_image_that_nothing_moves_stays_as_sharp_as_it_is():
    batch = make_batch()
    still = Augmentation(rotation=0.0, scale=0.0, translation=0.0, channel_gain=0.0)
    assert torch.equal(augment(batch, still, 1).inputs.image, batch.inputs.image)


def test_rows_of_a_larger_batch_come_out_as_they_would_in_it():
    batch = rectangle_of_hand(4)
    everything = replace(EVERYTHING, background=0.7)
    whole = augment(batch, everything, (3, 1))
    for start in (0, 1, 2):
        part = augment(batch[start : start + 2], everything, (3, 1), start, 4)
        assert_close(part.inputs.image, whole.inputs.image[start : start + 2], atol=1e-6, rtol=0)
        assert torch.equal(part.targets.joints_2d, whole.targets.joints_2d[start : start + 2])


def test_seed_decides_everything():
    batch = make_batch()
    assert equal(augment(batch, EVERYTHING, (0, 1)), augment(batch, EVERYTHING, (0, 1)))
    assert not equal(augment(batch, EVERYTHING, (0, 1)), augment(batch, EVERYTHING, (0, 2)))
    assert not equal(augment(batch, EVERYTHING, (1, 0)), augment(batch, EVERYTHING, (0, 1)))


def test_images_stay_images():
    batch = make_batch(8)
    before = batch.inputs.image.clone()
    for step in range(6):
        out = augment(batch, EVERYTHING, (7, step)).inputs.image
        assert out.isfinite().all() and out.min() >= 0 and out.max() <= 1 and out.shape == before.shape
    assert torch.equal(batch.inputs.image, before)  # a cached batch is augmented again and again


def test_off_is_off():
    batch = make_batch()
    assert augment(batch, Augmentation(enabled=False), 0) is batch


@pytest.mark.parametrize("name", ["blur", "noise", "low_resolution", "brightness", "contrast", "channel_gain"])
def test_each_photometric_change_does_something_and_moves_nothing(name):
    still = {"rotation_off": 1.0, "scale": 0.0, "channel_gain": 0.0, "rotation": 0.0}
    batch = make_batch(8)
    batch = replace(batch, inputs=replace(batch.inputs, image=batch.inputs.image * 0.5 + 0.2))
    out = augment(batch, Augmentation(**{**still, name: 0.5}), 3)
    assert (out.inputs.image - batch.inputs.image).abs().max() > 0.01
    assert_close(out.targets.joints_2d, batch.targets.joints_2d, atol=1e-4, rtol=0)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    """The same draws, moved alike; only the grain of the noise has its own generator."""
    batch = make_batch(8)
    config = replace(EVERYTHING, noise=0.0)
    here, there = augment(batch, config, (9, 0)), augment(batch.to("cuda"), config, (9, 0)).to("cpu")
    assert_close(there.targets.joints_2d, here.targets.joints_2d, atol=1e-3, rtol=0)
    assert_close(there.targets.joints, here.targets.joints, atol=1e-5, rtol=0)
    assert (there.inputs.image - here.inputs.image).abs().mean() < 1e-3
    assert (there.targets.mask != here.targets.mask).float().mean() < 1e-3
    noisy = augment(batch.to("cuda"), EVERYTHING, (9, 1)).inputs.image
    assert noisy.is_cuda and noisy.isfinite().all()
