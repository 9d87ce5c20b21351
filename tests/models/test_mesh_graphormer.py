"""Mesh Graphormer: agreement with the published network, its options, its geometry, and that it learns.

Expected values (data/graphormer_w64_seed0.npz, graphormer_names.json): outputs of the published implementation, in
evaluation mode and float32, for weights and inputs that everybody can make again from their names and a seed.
"""

import json
import math
import zlib

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from helpers import tiny
from helpers.places import DATA
from helpers.turned_hands import turned_hands
from mesh_graphormer_hand import assembly, config
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import HandInputs
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from mesh_graphormer_hand.inference.convert import from_published
from mesh_graphormer_hand.layers.graph_conv import adjacency_edges
from mesh_graphormer_hand.losses import supervised_losses
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.mano.template import hand_template
from mesh_graphormer_hand.models.base import MeshPoints
from mesh_graphormer_hand.models.mesh_graphormer import MeshGraphormer

NAMES = {name: tuple(shape) for name, shape in json.loads((DATA / "graphormer_names.json").read_text()).items()}


@pytest.fixture(scope="module")
def hand():
    return load("open")


def build(hand, size: int = 64, **options) -> MeshGraphormer:
    return tiny.build({**tiny.GRAPHORMER, "dropout": 0.0, **options}, hand, size)


def published(hand) -> MeshGraphormer:
    """The published config, without memory for its weights."""
    with torch.device("meta"):
        return assembly.build_model(config.load("graphormer_published"), hand)


def photos(count: int = 2, size: int = 64) -> HandInputs:
    return HandInputs(image=torch.rand(count, 3, size, size))


# ---- agreement with the published network ----


def seeded(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Seed 0's value of a published tensor: normal draws keyed by the name's checksum, scaled by its role."""
    leaf = name.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(size=shape)
    if leaf == "running_var":
        draw = 1 + 0.1 * abs(draw)
    elif leaf == "running_mean":
        draw = 0.1 * draw
    elif leaf in ("bias", "b") or "embeddings" in name:
        draw = 0.02 * draw
    elif len(shape) == 1:
        draw = (0.7 if name.startswith("backbone") else 1.0) * (1 + 0.1 * draw)
    elif len(shape) == 4:
        draw = draw * math.sqrt(1 / math.prod(shape[1:]))
    else:  # (out, in), but for the graph convolution's (in, out)
        draw = draw / math.sqrt(shape[0] if name.endswith("conv.weight") else shape[-1])
    return torch.from_numpy(draw.astype(np.float32))


def seeded_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Seed 0's queries (216, 3), graph operator (195, 195) and normalised images (2, 3, 224, 224)."""
    draw = np.random.RandomState(12345)
    vertices, joints = (0.05 * draw.standard_normal((n, 3)) for n in (778, 21))
    images = torch.from_numpy(draw.standard_normal((2, 3, 224, 224)).astype(np.float32))
    vertices, joints = (torch.from_numpy(v.astype(np.float32)) for v in (vertices, joints))
    coarse = torch.arange(195)
    four = vertices[(4 * coarse[:, None] + torch.arange(4)) % 778].mean(1)  # a coarse vertex: the mean of four
    operator = torch.zeros(195, 195)
    for offset in (0, 1, -1, 7, -7):
        operator[coarse, (coarse + offset) % 195] = 0.2
    return torch.cat([joints, four]) - joints[:1], operator, images


@pytest.mark.slow
def test_agrees_with_the_published_network(hand):
    model = published(hand)
    state = from_published({name: seeded(name, shape) for name, shape in NAMES.items() if "word_emb" not in name})
    model.load_state_dict(state, assign=True)
    model.restore_constants(hand)
    model.queries, operator, images = seeded_inputs()
    model.graph_edges, model.graph_weights = adjacency_edges(operator)
    features = []
    model.neck.register_forward_hook(lambda module, inputs, output: features.extend(output))
    with torch.inference_mode():
        points, camera, _ = model.eval().regress(images)
    grid, feature = features
    found = {
        "image_feature": feature,
        "grid_feature_first4": grid[:, :4],
        "camera": camera,
        "joints": points.joints,
        "vertices_coarse": points.coarse,
        "vertices": points.vertices,
    }
    with np.load(DATA / "graphormer_w64_seed0.npz") as wanted:
        for name, value in found.items():
            error = np.abs(value.numpy() - wanted[name]).max() / wanted[name].std()
            assert error < 1e-4, f"{name} is off by {error:.2g} of its deviation"  # 7e-6 where this was written


def test_every_live_published_parameter_has_its_place(hand):
    """Names and shapes; and the dropped ones are the embeddings, poolers, skip_conv and the classifier, all of them."""
    values = {name: torch.empty(shape, device="meta") for name, shape in NAMES.items()}
    mapped = from_published(values)
    own = published(hand).state_dict()
    assert {k: v.shape for k, v in mapped.items()} == {k: v.shape for k, v in own.items()}
    dropped = [name for name in NAMES if not from_published({name: torch.empty(1, 1, device="meta")})]
    parts = (".bert.embeddings.", ".bert.pooler.", ".graph_conv.skip_conv.", "backbone.classifier.")
    assert dropped == [name for name in NAMES if any(part in name for part in parts)]
    assert sum(math.prod(NAMES[name]) for name in dropped) == 44_900_264


@pytest.mark.parametrize(
    "name",
    [
        "trans_encoder.0.bert.encoder.layer.0.attention.self.querry.weight",
        "trans_encoder.2.bert.encoder.layer.0.graph_conv.skip_conv2.W",
        "module.upsampling.weight",
        "backbon.conv1.weight",
        "optimizer",
    ],
)
def test_a_foreign_name_is_refused(name):
    with pytest.raises(ConfigError, match=name):
        from_published({name: torch.zeros(1)})


def test_sizes_of_the_shipped_configs(hand):
    assert sum(p.numel() for p in published(hand).parameters()) == 168_766_048
    with torch.device("meta"):
        lite = assembly.build_model(config.load("graphormer_lite"), hand)
    assert sum(p.numel() for p in lite.parameters()) <= 8_000_000


# ---- options ----


@pytest.mark.parametrize("coarse", [98, 389])
def test_any_coarse_mesh(coarse, hand):
    prediction = build(hand, coarse=coarse)(photos())
    assert prediction.vertices_coarse.shape == (2, coarse, 3) and prediction.vertices.shape == (2, 778, 3)


def test_large_images_get_positions_of_their_own(hand):
    """544 px and less fit into the published 512 positions, more do not."""
    model = build(hand, size=576).eval()
    with torch.inference_mode():
        assert model(photos(1, 576)).vertices.shape == (1, 778, 3)
        with pytest.raises(ValueError, match="616 tokens, but the encoder knows 540"):
            model(photos(1, 640))
    assert build(hand).encoders[0].positions.weight.shape == (512, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": {"name": "hrnet_w18_smal"}}, "backbone.*did you mean 'hrnet_w18_small'"),
        ({"camera": {"rotation": "lerned"}}, "camera.rotation.*did you mean 'learned'"),
        ({"camera": {"rotatoin": "learned"}}, "camera.rotatoin'.*did you mean 'rotation'"),
        ({"camera": {"projection": "pytorch4d"}}, "camera.projection"),
        ({"init": "msh"}, "model.init.*did you mean 'mesh'"),
        ({"head_planes": [1, 2, 3]}, "4 maps need 4 numbers of planes"),
        ({"widths": [8, 8]}, "every encoder"),
        ({"heads": 3}, "does not split into 3 heads"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message, hand):
    with pytest.raises((ConfigError, ValueError), match=message):
        build(hand, **options)


def test_gradient_checkpointing_changes_nothing(hand):
    model, inputs = build(hand).double().train(), photos().map(torch.Tensor.double)
    gradients = []
    for enable in (False, True):
        if enable:  # the second name is the one of older releases of transformers 5
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        assert all(encoder.gradient_checkpointing == enable for encoder in model.encoders)
        model.zero_grad()
        model(inputs).vertices.square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert_close(*gradients)


# ---- geometry ----


def raw_points() -> MeshPoints:
    return MeshPoints(*(0.05 * torch.randn(2, n, 3) for n in (21, 195, 778)))


def test_points_are_relative_to_their_own_wrists_and_joints_come_from_the_mesh(hand):
    model, points = build(hand), raw_points()
    prediction = model.to_camera_axes(points, torch.tensor([[7.0, 0.01, -0.02]] * 2), None, 128.0)
    joints = hand_template(hand).joint_regressor @ points.vertices
    assert_close(prediction.joints, joints - joints[:, :1])
    assert_close(prediction.vertices, points.vertices - joints[:, :1])
    assert_close(prediction.vertices_coarse, points.coarse - joints[:, :1])
    assert_close(prediction.joints_token, points.joints - points.joints[:, :1])
    # crop in [-1, 1] = s (xy + t), and a corner of the crop is (0, 0) px
    assert_close(prediction.joints_2d, (7 * (prediction.joints[..., :2] + torch.tensor([0.01, -0.02])) + 1) * 64)
    assert_close(
        prediction.joints_token_2d, (7 * (prediction.joints_token[..., :2] + torch.tensor([0.01, -0.02])) + 1) * 64
    )
    assert prediction.rotation is None and prediction.hand.tolist() == [hand.fingerprint] * 2


def test_learned_rotation_turns_everything_into_the_camera(hand):
    model, points = build(hand, camera={"rotation": "learned"}), raw_points()
    turn = axis_angle_to_matrix(torch.tensor([[0.3, -1.1, 0.5], [2.0, 0.1, -0.4]]))
    camera = torch.tensor([[7.0, 0.01, -0.02]] * 2)
    turned = model.to_camera_axes(points, camera, turn[:, :2].flatten(1), 128.0)
    assert_close(turned.rotation, turn)
    still = build(hand).to_camera_axes(points, camera, None, 128.0)
    for field in ("joints", "joints_token", "vertices", "vertices_coarse"):
        assert_close(getattr(turned, field), torch.einsum("bij,bnj->bni", turn, getattr(still, field)))
    assert_close(turned.joints_2d, (7 * (turned.joints[..., :2] + camera[:, None, 1:]) + 1) * 64)


def test_learned_rotation_starts_at_the_identity(hand):
    rotation = build(hand, camera={"rotation": "learned"}).eval()(photos()).rotation
    angle = matrix_to_axis_angle(rotation).norm(dim=-1)
    assert angle.max() < 0.6  # rad: random weights add a little


def test_a_start_on_the_mesh_upsamples_as_the_hand_does(hand):
    """Any mesh on the coarse vertices comes out fine; a published start scatters it."""
    coarse = hand_template(hand).coarse_vertices.T
    surface = hand_template(hand).vertices
    error = {
        init: (build(hand, init=init).upsample(coarse).T - surface).norm(dim=-1).mean()
        for init in ("mesh", "published")
    }
    assert error["mesh"] < 0.002 < 0.02 < error["published"]  # m
    assert build(hand, init="mesh").encoders[2].positions.weight.std() > 0.4


# ---- learning ----


@pytest.mark.parametrize("rotation", ["identity", "learned"])
def test_learns_a_batch(rotation, hand):
    model, targets, inputs = build(hand, camera={"rotation": rotation}).train(), turned_hands(hand), photos(4)
    weights = {"joints": 1000.0, "vertices": 50.0, "joints_2d": 10.0}
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(50):
        terms = supervised_losses(model(inputs), targets, weights)
        optimizer.zero_grad()
        sum(weights[name] * value.mean() for name, value in terms.items()).backward()
        optimizer.step()
    error = 1000 * (model(inputs).joints - targets.joints).norm(dim=-1).mean()
    assert error < 30, f"{error:.1f} mm, and the mean of the four answers gives 64"
