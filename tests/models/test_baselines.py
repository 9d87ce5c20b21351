"""The systems to compare with: published sizes, and learning from plain pictures; test_models.py: what all share."""

import pytest
import torch

from helpers import tiny
from mesh_graphormer_hand import config as configs
from mesh_graphormer_hand.assembly import build_model
from mesh_graphormer_hand.backbones.resnet import ResNet
from mesh_graphormer_hand.config import ConfigError, Experiment
from mesh_graphormer_hand.contracts import HandInputs, HandPrediction, HandTargets
from mesh_graphormer_hand.layers.flow import RealNVP
from mesh_graphormer_hand.losses import check_terms, supervised_losses
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.metrics import per_sample

SIZE = 64
SMALL = {
    "simple_baseline": tiny.RESNET | {"channels": 32},
    "heatmaps_25d": tiny.HRNET | {"channels": 16},
    "hand_seg_net": {"convolutions": [1, 1], "channels": [8, 16], "head": [16, 8, 16]},
}
NAMES = sorted(SMALL)


@pytest.fixture(scope="module")
def hand():
    return load("open")


def build(name: str, hand, **options) -> torch.nn.Module:
    experiment = Experiment(model={"name": name, **SMALL[name], **options})
    experiment.data.image_size = SIZE
    return build_model(experiment, hand)


def image(count: int = 2) -> HandInputs:
    return HandInputs(image=torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))


def bright_square(count: int = 4) -> tuple[HandInputs, HandTargets]:
    """Images of one bright square each; all keypoints at its centre, the mask its area."""
    draw = torch.Generator().manual_seed(3)
    corner = torch.randint(8, SIZE - 24, (count, 2), generator=draw)
    mask = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    for row, (x, y) in enumerate(corner.tolist()):
        mask[row, y : y + 16, x : x + 16] = True
    joints = (corner + 8.0)[:, None].repeat(1, 21, 1)
    joints[:, :, 0] += torch.linspace(-6, 6, 21)  # a tight box that is not empty
    targets = HandTargets(
        joints_2d=joints,
        joints_2d_valid=torch.ones(count, 21, dtype=torch.bool),
        crop_size=torch.full((count,), float(SIZE)),
        mask=mask,
        mask_valid=torch.ones(count, dtype=torch.bool),
    )
    return HandInputs(image=mask[:, None].float().repeat(1, 3, 1, 1)), targets


# Config, options on top, and the parameters that the published layer lists give (21 joints, their biases and norms)
GOLDEN = [
    ("simple_baseline_full", {}, 34_000_725),
    ("hand_seg_net_full", {}, 13_601_986),
    ("heatmaps_25d", {}, 1_533_776),
    ("hourglass_2_full", {"stacks": 1}, 3_427_733),
    ("hourglass_2_full", {}, 6_574_250),
    ("hourglass_full", {}, 25_453_352),
    ("pose_machine_full", {"background": False}, 31_614_014),
    ("pose_machine_full", {}, 31_692_612),
    ("pose_net_full", {}, 17_518_847),
    ("pose_prior_full", {}, 1_636_255 + 2_237_891),
    ("deep_pose_full", {"stages": 1}, 46_919_082),
    ("hrnet_full", {}, 28_536_245),
    ("rle_full", {}, 23_733_932),
    ("mano_encoder_full", {}, 21_295_958),
    ("volumetric_full", {}, 37_277_523),
    ("joint_tokens_full", {}, 168_574_305),
]


@pytest.mark.parametrize(("name", "options", "parameters"), GOLDEN)
def test_published_configs_give_the_published_networks(name, options, parameters, hand):
    experiment = configs.load(f"baselines/{name}")
    experiment.model.update(options)
    with torch.device("meta"):
        model = build_model(experiment, hand)
    assert sum(p.numel() for p in model.parameters()) == parameters
    check_terms(experiment.train.losses, model.produces, model.private_terms)


def test_the_flow_of_rle_has_the_published_size():
    assert [RealNVP(size).weights.numel() for size in (2, 3)] == [53_784, 55_332]


def test_simple_baseline_maps_are_a_quarter_of_the_image(hand):
    prediction = build("simple_baseline", hand)(image())
    assert prediction.heatmaps.shape == (2, 21, SIZE // 4, SIZE // 4)
    assert (
        prediction.joints_2d.shape == (2, 21, 2)
        and 0 <= prediction.joints_2d.min() <= prediction.joints_2d.max() <= SIZE
    )
    assert prediction.confidence.shape == (2, 21)


def test_hand_seg_net_mask_has_the_images_size(hand):
    assert build("hand_seg_net", hand)(image()).mask.shape == (2, SIZE, SIZE)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name, hand):
    model = build(name, hand)
    with torch.no_grad():  # published starting weights of 0.001 let float32 underflow deep down; this is about wiring
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    inputs, targets = bright_square()
    loss = "mask" if name == "hand_seg_net" else "heatmaps"
    supervised_losses(model(inputs), targets, {loss: 1.0})[loss].mean().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert not silent


def fit(model: torch.nn.Module, loss: str, steps: int, lr: float, count: int) -> tuple[HandPrediction, HandTargets]:
    """Train on one batch; what the model says of it afterwards."""
    inputs, targets = bright_square(count)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    for _ in range(steps):
        value = supervised_losses(model(inputs), targets, {loss: 1.0}, codec=getattr(model, "codec", None))[loss].mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        return model(inputs), targets


def test_simple_baseline_learns_where_the_keypoints_are(hand):
    prediction, targets = fit(
        build("simple_baseline", hand, backbone={"name": "resnet_50"}), "heatmaps_mse", steps=20, lr=5e-3, count=2
    )
    assert set(per_sample(prediction, targets)) == {"pck@0.05", "pck@0.1", "pck@0.2", "pckb@0.1", "auc_2d", "epe_2d"}
    error = (prediction.joints_2d - targets.joints_2d).norm(dim=-1)
    assert error.mean() < 4.0, "px, one cell; 13 px before"


def test_hand_seg_net_learns_the_mask(hand):
    scores = per_sample(*fit(build("hand_seg_net", hand), "mask", steps=60, lr=3e-3, count=4))
    assert set(scores) == {"mask_iou"} and scores["mask_iou"].min() > 0.9


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("simple_baseline", {"readout": "sofmax"}, "readout"),
        ("simple_baseline", {"backbone": {"name": "resnet50"}}, "did you mean 'resnet_50'"),
        ("simple_baseline", {"backbon": {}}, "did you mean 'backbone'"),
        ("hand_seg_net", {"head": [1]}, "three numbers"),
        ("hand_seg_net", {"channels": [8]}, "per block"),
    ],
)
def test_bad_options_are_refused(name, options, message, hand):
    with pytest.raises((ConfigError, ValueError), match=message):
        build(name, hand, **options)


def test_resnet_keeps_torchvisions_names_and_sizes():
    with torch.device("meta"):
        trunk = ResNet("50")
    shapes = {name: tuple(value.shape) for name, value in trunk.state_dict().items()}
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer2.0.downsample.0.weight"] == (512, 256, 1, 1)
    assert shapes["layer4.2.conv3.weight"] == (2048, 512, 1, 1)
    assert shapes["layer3.5.bn2.running_var"] == (256,)
    assert sum(p.numel() for p in trunk.parameters()) == 25_557_032 - (2048 * 1000 + 1000), "torchvision's, less fc"
