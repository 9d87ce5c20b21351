"""Every system to compare with overfits 16 virtual hands, by the losses of its own config."""

from dataclasses import replace

import pytest
import torch

from helpers import tiny
from mesh_graphormer_hand import config
from mesh_graphormer_hand.contracts import HandBatch
from mesh_graphormer_hand.losses import supervised_losses
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.mano.template import hand_template
from mesh_graphormer_hand.virtual.config import VirtualConfig
from mesh_graphormer_hand.virtual.generator import VirtualHands

HANDS = 16
STEADY = {"noise": 0.0, "prior_dropout": 0.0, "view_dropout": 0.0}
# Small network, config whose losses it learns by, px of the crops, steps, learning rate
CASES = {
    "hourglass": (tiny.BASELINES["hourglass"][0], "hourglass", 32, 60, 2e-2),
    "pose_machine": (tiny.BASELINES["pose_machine"][0], "pose_machine", 64, 35, 1e-2),
    "pose_net": (tiny.BASELINES["pose_net"][0], "pose_net", 64, 110, 5e-3),
    "deep_pose": (tiny.BASELINES["deep_pose"][0], "deep_pose", 32, 40, 2e-3),
    "hrnet": (tiny.BASELINES["hrnet"][0], "hrnet", 32, 30, 3e-3),
    "hrnet_3d": (tiny.BASELINES["hrnet"][2], "hrnet_3d", 32, 30, 1e-2),
    "rle": (tiny.BASELINES["rle"][0], "rle", 32, 40, 2e-3),
    "rle_25d": (tiny.BASELINES["rle"][1], "rle", 32, 40, 2e-3),
    "mano_encoder": (tiny.BASELINES["mano_encoder"][0], "mano_encoder", 32, 45, 5e-3),
    "volumetric": (tiny.BASELINES["volumetric"][0], "volumetric", 32, 50, 1e-2),
    "latent_25d": (tiny.BASELINES["heatmaps_25d"][1], "latent_25d", 32, 40, 1e-2),
    "pose_prior": (tiny.BASELINES["pose_prior"][0] | STEADY, "pose_prior", 64, 40, 5e-3),
}


@pytest.fixture(scope="module")
def hands() -> HandBatch:
    """Plain scenes: rendering them is most of this file's time."""
    plain = VirtualConfig(objects={}, held_object=0.0, second_hand=0.0, mesh_faces=2000)
    return VirtualHands(plain, load("open")).render(range(HANDS), image_size=64)


def shrunk(batch: HandBatch, size: int) -> HandBatch:
    """The batch with crops of `size` px."""
    factor = size / batch.inputs.image.shape[-1]
    image = torch.nn.functional.interpolate(batch.inputs.image, (size, size), mode="area")
    targets = replace(
        batch.targets, joints_2d=batch.targets.joints_2d * factor, crop_size=batch.targets.crop_size * factor
    )
    return replace(batch, inputs=replace(batch.inputs, image=image, intrinsics=None), targets=targets)


@pytest.mark.parametrize("name", CASES)
def test_overfits_16_hands(name, hands):
    """The error in the image, or of canonical joints, falls below 0.6 of that of the best constant answer."""
    options, recipe, size, steps, rate = CASES[name]
    experiment = config.load(f"baselines/{recipe}")
    plugin = experiment.model["name"]
    model = tiny.build({"name": plugin, **options}, size=size).train()
    batch, template = shrunk(hands, size), hand_template(load("open"))
    weights = experiment.train.losses
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        prediction = model(batch.inputs_for(model))
        private = model.private_losses(prediction, batch)
        terms = supervised_losses(prediction, batch.targets, weights, template, model.codec, private=list(private))
        optimizer.zero_grad()
        sum(weights[key] * value.mean() for key, value in {**terms, **private}.items()).backward()
        optimizer.step()
    with torch.no_grad():
        prediction = model(batch.inputs_for(model))
    field = "joints_2d" if prediction.joints_2d is not None else "joints"
    wanted, found = getattr(batch.targets, field), getattr(prediction, field)
    constant = (wanted - wanted.mean(0)).norm(dim=-1).mean()
    error = (found - wanted).norm(dim=-1).mean()
    assert error < 0.6 * constant, f"{field}: {error:.3g}, a constant answer {constant:.3g}"
