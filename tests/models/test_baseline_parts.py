"""What is particular to one system: its geometry, its readout, its density."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from helpers import tiny
from helpers.turned_hands import turned_hands
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import HandBatch, HandInputs, HandPrediction
from mesh_graphormer_hand.geometry.canonical_frame import to_canonical
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.layers.flow import RealNVP
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.mano.layer import ManoLayer
from mesh_graphormer_hand.mano.template import hand_template
from mesh_graphormer_hand.models.baselines import deep_pose, heatmaps_25d, joint_tokens, volumetric
from mesh_graphormer_hand.skeleton import BONES, WRIST


@pytest.fixture(scope="module")
def hand():
    return load("open")


@pytest.fixture(scope="module")
def targets(hand):
    return turned_hands(hand)


def batch_of(targets) -> HandBatch:
    return HandBatch(HandInputs(image=torch.zeros(len(targets.crop_size), 3, 64, 64)), targets)


def test_windows_show_the_image_round_each_joint():
    """A ramp tells where a window lies: its middle shows the joint, its width the given side."""
    ramp = (torch.arange(64.0) + 0.5).expand(1, 3, 64, 64) / 64  # x in sides of the crop
    centre = torch.linspace(-0.2, 0.2, 21)[None, :, None].expand(1, 21, 2)
    windows = deep_pose.cut_windows(ramp, centre, torch.full((1, 1, 1), 0.25), 8)
    assert windows.shape == (21, 3, 8, 8)
    assert_close(windows.mean((1, 2, 3)), centre[0, :, 0] + 0.5, atol=1e-4, rtol=0)
    assert_close(windows[0, 0, 0, -1] - windows[0, 0, 0, 0], torch.tensor(0.25 * 7 / 8), atol=1e-4, rtol=0)


def test_a_corner_of_a_pose_machines_last_maps_sees_the_opposite_corner():
    """That is the paper's point: the receptive field grows with the stages; the first one's is smaller."""
    options = {"stages": 3, "trunk": [9, 5, 5], "width": 4, "context": 4, "wide": 4, "kernel": 7, "norm": True}
    model = tiny.build({"name": "pose_machine", **options, "dropout": 0.0}, size=128).eval()
    image = torch.rand(1, 3, 128, 128, requires_grad=True)
    stages = model(HandInputs(image=image)).aux["stages"]
    reached = [torch.autograd.grad(s[0, :, 0, 0].sum(), image, retain_graph=True)[0].abs() for s in stages.unbind(1)]
    opposite = [float(r[0, :, -8:, -8:].amax()) for r in reached]
    assert opposite[-1] > 0 and opposite[0] == 0


def test_intrinsics_give_back_a_hand_from_its_pixels_and_depths(hand):
    """Exact for a hand whose bone has the template's length, whatever its distance."""
    turn = axis_angle_to_matrix(torch.tensor([[0.3, -1.1, 0.5], [2.0, 0.1, -0.4]], dtype=torch.float64))
    joints = hand_template(hand).joints.double() @ turn.mT
    length = (joints[:, 5] - joints[:, WRIST]).norm(dim=-1)[:, None]
    points = joints + torch.tensor([[0.1, -0.05, 0.6], [0.0, 0.02, 1.3]], dtype=torch.float64)[:, None]
    lens = torch.tensor([[300.0, 0, 60], [0, 310.0, 70], [0, 0, 1]], dtype=torch.float64).expand(2, 3, 3)
    pixels = (points @ lens.mT)[..., :2] / points[..., 2:]
    rays = heatmaps_25d.rays_of(pixels, HandInputs(image=torch.zeros(2, 3, 128, 128), intrinsics=lens))
    found = length[..., None] * heatmaps_25d.in_bone_lengths(rays, (joints[..., 2] - joints[:, :1, 2]) / length)
    assert_close(found, joints - joints[:, :1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [2, 3])
def test_the_flow_is_a_density(size):
    """It integrates to 1 on a grid, whatever its weights; it starts as the normal itself."""
    flow, cells = RealNVP(size, couplings=2, width=8).double(), 81 if size == 2 else 31
    weights = flow.weights.detach() + 0.15 * torch.randn(flow.weights.shape, dtype=torch.float64)
    line = torch.linspace(-8, 8, cells, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(*[line] * size, indexing="ij"), -1).flatten(0, -2)
    mass = flow.log_prob(weights, points).exp().sum() * (16 / (cells - 1)) ** size
    assert_close(mass, torch.ones_like(mass), atol=0.02, rtol=0)
    start = flow.log_prob(flow.weights, points[:1])
    assert_close(start, -0.5 * points[:1].square().sum(-1) - size / 2 * math.log(2 * math.pi))


@pytest.mark.parametrize("density", ["l1", "gauss", "laplace", "flow", "official"])
def test_likelihood_of_rle(density, targets):
    """Against the formula, joint by joint; a flow that starts as the normal itself."""
    model = tiny.build({"name": "rle", **tiny.RESNET, "density": density})
    labels = targets.joints_2d / 64 - 0.5
    error, sigma = 0.02 * torch.randn(4, 21, 2), 0.01 + 0.03 * torch.rand(4, 21, 2)
    aux = {"positions": labels + error, "sigma": sigma}
    if model.flow is not None:
        aux["flow"] = model.flow.weights.expand(4, -1)
    e = error / sigma
    laplace, gauss = e.abs() + math.log(2) + sigma.log(), 0.5 * e**2 + 0.5 * math.log(2 * math.pi) + sigma.log()
    normal = (0.5 * e**2 + 0.5 * math.log(2 * math.pi)).sum(-1)
    wanted = {
        "l1": error.abs().sum(-1),
        "gauss": gauss.sum(-1),
        "laplace": laplace.sum(-1),
        "flow": laplace.sum(-1) + normal,
        "official": (laplace + sigma.log()).sum(-1) + 2 * normal,
    }[density]
    valid = targets.joints_2d_valid.clone()
    valid[0, 3] = False
    some = replace(
        targets, joints_2d_valid=valid, joints_2d=targets.joints_2d.masked_fill(~valid[..., None], torch.nan)
    )
    found = model.private_losses(HandPrediction(aux=aux), batch_of(some))["likelihood"]
    assert_close(found, (wanted * valid).sum(-1) / valid.sum(-1), rtol=1e-4, atol=1e-5)


def test_the_hand_of_the_encoder_is_the_layers(hand):
    """Its numbers through ManoLayer give its joints; fresh weights show a hand that points up, palm to the camera."""
    model = tiny.build({"name": "mano_encoder", **tiny.RESNET}).eval()
    torch.nn.init.normal_(model.linear.weight, std=0.05)
    with torch.inference_mode():
        found = model(HandInputs(image=torch.rand(2, 3, 64, 64)))
    layer = ManoLayer(use_pca=False, hand=hand, center_idx=WRIST)
    vertices, joints = layer(found.pose.flatten(1), found.shape)
    assert_close(found.joints, joints, atol=1e-5, rtol=0)
    assert_close(found.vertices, vertices, atol=1e-5, rtol=0)
    assert_close(axis_angle_to_matrix(found.pose[:, 0]), found.rotation, atol=1e-5, rtol=0)
    fresh = tiny.build({"name": "mano_encoder", **tiny.RESNET, "rotation": "6d", "components": 0}).eval()
    with torch.inference_mode():
        rest = fresh(HandInputs(image=torch.zeros(1, 3, 64, 64)))
    assert rest.joints[0, 12, 1] < -0.1 and abs(float(rest.joints[0, 12, 2])) < 0.05  # y points down


def test_volumes_are_read_where_their_gaussians_stand_and_cost_nothing_there(targets):
    model = tiny.build({"name": "volumetric", **tiny.HOURGLASS, "residuals": 1, "bins": [1, 24], "sigma": 1.0})
    depth, deep = volumetric.relative_depths(targets)
    flat = model.codec.encode(targets.joints_2d, targets.crop_size, (32, 32)).clamp_min(1e-12).log()
    columns = [volumetric.depth_column(depth, count, 2 / 32).clamp_min(1e-12).log() for count in (1, 24)]
    volumes = [flat[:, :, None] + column[..., None, None] for column in columns]
    uvz = volumetric.read_volume(volumes[1], responses=False)
    assert_close(uvz[..., :2], targets.joints_2d / 32 - 1, atol=0.02, rtol=0)
    assert_close(uvz[..., 2], depth, atol=0.02, rtol=0)
    right = model.private_losses(HandPrediction(aux={"volumes": torch.cat(volumes, 2)}), batch_of(targets))["volumes"]
    flat_labels = replace(targets, joints=None, joints_valid=None)
    aux = {"volumes": torch.cat(volumes, 2).roll(3, -1)}
    wrong = [model.private_losses(HandPrediction(aux=aux), batch_of(t))["volumes"] for t in (targets, flat_labels)]
    assert right.abs().max() < 1e-3 and deep.all() and all((w > 1).all() for w in wrong)


def test_the_skeletons_graph():
    published, normalised = (joint_tokens.skeleton_adjacency(kind) for kind in joint_tokens.ADJACENCIES[::-1])
    assert published.sum() == 2 * len(BONES) and published[0].sum() == 5 and (published == published.T).all()
    assert_close(normalised.sum(1), torch.ones(21))
    assert (normalised.diagonal() > 0).all()


def test_heat_map_and_graph_are_switched_off_alone():
    """The four cells of the paper's table: what is off has no parameters."""
    off = {"heatmap": {"heatmap": False}, "graph": {"graph": [False, False, False], "adjacency": "published"}}
    names = {}
    for cell in ((), ("heatmap",), ("graph",), ("heatmap", "graph")):
        options = tiny.BASELINES["joint_tokens"][0]
        for switch in cell:
            options = options | off[switch]
        model = tiny.build({"name": "joint_tokens", **options})
        names[cell] = {n for n, _ in model.named_parameters()}
        assert ("heatmaps" in model.produces) == ("heatmap" not in cell)
    maps, graph = (names[()] - names[(switch,)] for switch in off)
    assert maps and all(n.startswith("maps") for n in maps) and graph and all(".graph." in n for n in graph)
    assert names[()] - maps - graph == names[("heatmap", "graph")]


def test_canonical_joints_know_no_view_and_turn_back(targets, hand):
    canonical, axes = to_canonical(targets.joints)
    assert_close(canonical, canonical[:1].expand_as(canonical), atol=1e-5, rtol=0)
    assert canonical[0, 9, 1] < 0 and abs(float(canonical[0, 17, 2])) < 1e-6 and canonical[0, 17, 0] > 0
    unit = (targets.joints[:, 9] - targets.joints[:, 10]).norm(dim=-1)
    assert_close(unit[:, None, None] * canonical @ axes.mT, targets.joints, atol=1e-6, rtol=0)


def test_the_rotation_of_a_lifted_hand_is_the_wrists(hand):
    """With canonical joints and axes as labelled, `rotation` is the rotation that turned the template."""
    model = tiny.build({"name": "pose_prior", **tiny.BASELINES["pose_prior"][0]}, hand)
    turn = axis_angle_to_matrix(torch.tensor([[0.3, -1.1, 0.5], [2.0, 0.1, -0.4]]))
    canonical, axes = to_canonical(hand_template(hand).joints @ turn.mT)
    assert_close(axes @ model.canonical_from_hand, turn, atol=1e-5, rtol=0)
    assert_close(model.unit * canonical @ axes.mT, hand_template(hand).joints @ turn.mT, atol=1e-5, rtol=0)


def test_only_networks_that_read_2d_joints_are_given_the_labelled_ones(targets):
    batch = batch_of(targets)
    lifter = tiny.build({"name": "pose_prior", **tiny.BASELINES["pose_prior"][0]})
    assert batch.inputs_for(lifter).joints_2d is targets.joints_2d
    assert batch.inputs_for(lambda inputs: None) is batch.inputs
    with pytest.raises(ConfigError, match="2D model before it"):
        lifter(batch.inputs)
