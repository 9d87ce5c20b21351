"""SimpleBaseline, 2.5D heat maps and HandSegNet: published sizes, learning, and the same road as every other model."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from mesh_graphormer_hand import config as configs
from mesh_graphormer_hand.assembly import build_model, load_model
from mesh_graphormer_hand.backbones.resnet import ResNet
from mesh_graphormer_hand.config import ConfigError, Experiment
from mesh_graphormer_hand.contracts import HandInputs, HandPrediction, HandTargets
from mesh_graphormer_hand.losses import check_terms, supervised_losses
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.metrics import per_sample

SIZE = 64
SMALL = {
    "simple_baseline": {"channels": 32},
    "heatmaps_25d": {"channels": 16},
    "hand_seg_net": {"convolutions": [1, 1], "channels": [8, 16], "head": [16, 8, 16]},
}
PARAMETERS = {"simple_baseline": 34_000_725, "hand_seg_net": 13_601_986, "heatmaps_25d": 1_533_776}
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


@pytest.mark.parametrize("name", NAMES)
def test_shipped_config_gives_the_published_network(name, hand):
    experiment = configs.load(f"baselines/{name}.yaml")
    with torch.device("meta"):
        options = {k: v for k, v in experiment.model.items() if k != "name"}
        assert options.items() <= dataclasses.asdict(_plugin(name).Config()).items(), (
            "the defaults are the published ones"
        )
    model = build_model(experiment, hand)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    check_terms(experiment.train.losses, model.produces)


def _plugin(name: str):
    from mesh_graphormer_hand.assembly import plugin

    return plugin("models", name)


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
def test_produces_what_it_declares(name, hand):
    prediction = build(name, hand)(image())
    produced = {f.name for f in dataclasses.fields(HandPrediction) if getattr(prediction, f.name) is not None}
    assert produced - {"aux", "hand"} == set(build(name, hand).produces)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one_equals_a_row_of_a_batch(name, hand):
    """In float64: another batch is added up in another order, and what float32 loses by that is the processor's."""
    model, photos = build(name, hand).eval().double(), image(3).map(torch.Tensor.double)
    field = model.produces[0]
    with torch.inference_mode():
        whole, one = getattr(model(photos), field)[1], getattr(model(photos[1:2]), field)[0]
    assert_close(one, whole, rtol=0.0, atol=1e-6 * float(whole.abs().max()))


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
    prediction, targets = fit(build("simple_baseline", hand), "heatmaps_mse", steps=20, lr=5e-3, count=2)
    assert set(per_sample(prediction, targets)) == {"pck@0.1", "pck@0.2", "pckb@0.1", "auc_2d", "epe_2d"}
    error = (prediction.joints_2d - targets.joints_2d).norm(dim=-1)
    assert error.mean() < 4.0, "px, one cell; 13 px before"


def test_hand_seg_net_learns_the_mask(hand):
    scores = per_sample(*fit(build("hand_seg_net", hand), "mask", steps=60, lr=3e-3, count=4))
    assert set(scores) == {"mask_iou"} and scores["mask_iou"].min() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_save_and_load_give_equal_outputs(name, hand, tmp_path):
    model = build(name, hand).eval()
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    with torch.inference_mode():
        first, second = model(image()), again(image())
    for field in model.produces:
        assert_close(getattr(second, field), getattr(first, field), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("simple_baseline", {"readout": "sofmax"}, "readout"),
        ("simple_baseline", {"backbone": {"name": "resnet_49"}}, "did you mean 'resnet_50'"),
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
