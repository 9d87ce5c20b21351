"""graphormer_lite: its fitted camera and posed queries against known hands, its options, and that it learns."""

import pytest
import torch
from torch.testing import assert_close

from helpers import tiny
from helpers.turned_hands import turned_hands
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import HandInputs, HandPrediction
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.layers.keypoint_head import keypoints_from_heatmaps
from mesh_graphormer_hand.losses import supervised_losses
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.mano.template import hand_template
from mesh_graphormer_hand.models.base import MeshPoints
from mesh_graphormer_hand.models.graphormer_lite import GraphormerLite


@pytest.fixture(scope="module")
def hand():
    return load("open")


def build(hand, **options) -> GraphormerLite:
    return tiny.build({**tiny.LITE, **options}, hand)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": {"name": "hrnet_w19"}}, "backbone.*did you mean 'hrnet_w18'"),
        ({"projection": "pytorch4d"}, "model.projection"),
        ({"keypoint_stride": 16}, "keypoint_stride"),
        ({"keypoints": 0}, "model.keypoints"),
        ({"follow_heatmaps": -1.0}, "follow_heatmaps"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message, hand):
    with pytest.raises(ConfigError, match=message):
        build(hand, **options)


def test_any_backbone_serves(hand):
    """A family of another kind, by its name alone."""
    model = build(hand, backbone={"name": "resnet_50"}).eval()
    with torch.inference_mode():
        prediction = model(HandInputs(image=torch.rand(1, 3, 64, 64)))
    assert prediction.vertices.shape == (1, 778, 3) and prediction.heatmaps.shape == (1, 21, 16, 16)


def test_weights_of_the_time_when_the_neck_was_the_backbones_load(hand):
    state = build(hand).state_dict()
    old = {(f"backbone{n.removeprefix('neck')}" if n.startswith("neck.") else n): v for n, v in state.items()}
    assert old.keys() != state.keys() and GraphormerLite.migrate(old).keys() == state.keys()


def test_fitted_camera_puts_a_mesh_where_the_image_sees_its_joints(hand):
    """Maps that say where a turned hand's joints lie and how deep: rotation, camera and starting queries follow."""
    model = build(hand)
    template, view = hand_template(hand, 98), torch.tensor([5.0, 0.02, -0.03])
    turn = axis_angle_to_matrix(torch.tensor([[0.3, -1.1, 0.5], [2.0, 0.1, -0.4]]))
    joints = template.joints @ turn.mT
    pixels = (view[0] * (joints[..., :2] + view[1:]) + 1) * 64
    maps = 200 * model.codec.encode(pixels, torch.full((2,), 128.0), (64, 64))
    depth = view[0] * (joints[..., 2] - joints[..., 2].mean(1, keepdim=True)) + 0.7  # the mean is taken off again
    flat = depth[..., None, None].expand(maps.shape)
    keypoints = keypoints_from_heatmaps(
        torch.cat([maps, flat, torch.zeros(2, 6, 64, 64)], 1), torch.zeros(2, 8, 64, 64), 21
    )
    rest = (template.joints, template.coarse_vertices, template.vertices)
    found = model.fit_camera(MeshPoints(*(points.expand(2, -1, -1) for points in rest)), keypoints, 128.0)
    assert_close(found.rotation, turn, atol=0.03, rtol=0)
    assert (found.joints - joints).norm(dim=-1).max() < 0.004  # m; heat maps have cells
    assert (found.joints_2d - pixels).abs().max() < 2  # px
    queries = model.posed_queries(keypoints)
    assert (queries - model.queries).norm(dim=-1).max() < 0.01  # m: a hand at rest leaves them on the template
    assert set(model.produces) >= {"rotation", "joints_25d", "surface"}


def test_a_mesh_follows_sharp_heat_maps_and_not_blurred_ones(hand):
    """A bent finger that the mesh missed: where its maps are sharp the mesh goes there, depths and others stay."""
    model = build(hand, follow_heatmaps=0.1)
    template, view = hand_template(hand, 98), torch.tensor([[5.0, 0.02, -0.03]])
    joints, vertices = template.joints[None], template.vertices[None]
    seen = joints[..., :2].clone()
    seen[:, 5:9] += torch.tensor([0.004, 0.006])  # m: the index finger
    pixels = (view[:, :1] * (seen + view[:, 1:]) + 1) * 64
    maps = 200 * model.codec.encode(pixels, torch.full((1,), 128.0), (64, 64))
    maps = torch.cat([maps, torch.zeros(1, 27, 64, 64)], 1)
    wrist = joints[:, :1]
    given = HandPrediction(
        joints=joints - wrist,
        vertices=vertices - wrist,
        vertices_coarse=template.coarse_vertices[None] - wrist,
        camera=view + torch.cat([torch.zeros(1, 1), wrist[:, 0, :2]], -1),
    )
    found = model.follow(given, keypoints_from_heatmaps(maps, torch.zeros(1, 8, 64, 64), 21), 128.0)
    error = (found.joints_2d - pixels).norm(dim=-1)[0]
    assert error[5:9].max() < 1.0 and error.mean() < 0.8  # px; a cell has 2, the index finger was 2.3 off
    assert_close(found.joints[..., 2], given.joints[..., 2], atol=2e-4, rtol=0)
    blurred = model.follow(given, keypoints_from_heatmaps(0 * maps, torch.zeros(1, 8, 64, 64), 21), 128.0)
    assert (blurred.vertices - given.vertices).abs().max() < 0.015  # m; a flat map points 0.1 m away


def test_learns_a_batch(hand):
    """The places of the joints, which the camera is fitted to, follow the labels; all losses together fall by half."""
    model, targets, inputs = build(hand).train(), turned_hands(hand), HandInputs(image=torch.rand(4, 3, 64, 64))
    weights = {"joints": 1000.0, "vertices": 50.0, "joints_2d": 10.0, "heatmaps": 0.3, "joints_25d_l1": 5.0}
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    totals = []
    for _ in range(50):
        terms = supervised_losses(model(inputs), targets, weights, codec=model.codec)
        total = sum(weights[name] * value.mean() for name, value in terms.items())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total))
    assert min(totals[-5:]) < totals[0] / 2, f"{totals[0]:.2f} became {totals[-1]:.2f}"
    assert float(terms["joints_2d"].mean()) < 0.1, "of the crop, after 0.24"
