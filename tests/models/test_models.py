"""Every model plug-in, by existing: outputs, gradients, types, saving and refusals."""

import dataclasses
import json
import re
from contextlib import nullcontext

import pytest
import torch
from safetensors import safe_open
from torch.testing import assert_close

from helpers import tiny
from helpers.places import ROOT
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import HandInputs, HandPrediction
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.models.base import HandModel, HandModelConfig

SIZE = 64
TRUNK = {"backbone": {"name": "hrnet_w18_small"}, "head_planes": [2, 4, 4, 8], "feature": 24}
ENCODERS = {"widths": [16, 16, 16], "outputs": [16, 12], "layers": 1, "heads": 2}
# Options that make a plug-in quick, by the name of the case; a plug-in that is not here is tested at its full size.
TINY = {
    "mesh_graphormer": [
        TRUNK | ENCODERS,
        TRUNK | ENCODERS | {"camera": {"rotation": "learned"}, "grid_tokens": False, "graph": [True, False, True]},
        TRUNK | ENCODERS | {"init": "mesh"},
    ],
    "graphormer_lite": [
        TRUNK | ENCODERS | {"keypoints": 12, "keypoint_stride": 8, "grid_tokens": False},
        TRUNK | ENCODERS | {"keypoints": 12, "crop_head": 8, "follow_heatmaps": 0.1},
    ],
    "simple_baseline": [tiny.RESNET | {"channels": 32}],
    "hand_detector": [{"channels": [4, 6, 8, 8, 8], "blocks": [0, 1, 0, 0, 1], "neck": 8}],
    "hand_seg_net": [{"convolutions": [1, 1], "channels": [8, 16], "head": [16, 8, 16]}],
    **tiny.BASELINES,
}
CASES = [(name, options) for name in assembly.available("models") for options in TINY.get(name, [{}])]
every_model = pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])


@pytest.fixture(scope="module")
def hand():
    return load("open")


def build(name: str, options: dict, hand) -> HandModel:
    return tiny.build({"name": name, **options}, hand, SIZE).eval()


def photos(count: int = 2, size: int = SIZE) -> HandInputs:
    """Noise, and 2D joints for networks that read some."""
    draw = torch.Generator().manual_seed(0)
    return HandInputs(
        image=torch.rand(count, 3, size, size, generator=draw),
        joints_2d=size * torch.rand(count, 21, 2, generator=draw),
        joints_2d_valid=torch.ones(count, 21, dtype=torch.bool),
    )


def as_double(value: torch.Tensor) -> torch.Tensor:
    return value.double() if value.is_floating_point() else value


def stir(model: HandModel) -> HandModel:
    """Move every parameter off its starting value, so that nothing is equal or silent by accident."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape))
    return model


def assert_near(found: torch.Tensor, wanted: torch.Tensor, share: float, field: str) -> None:
    """Equal within `share` of the wanted values' own size."""
    if not found.is_floating_point():
        assert_close(found, wanted)
        return
    error = (found.double() - wanted.double()).abs().max()
    assert error <= share * wanted.double().abs().max() + 1e-9, f"{field} is off by {error:.3g}"


def outputs(prediction: HandPrediction) -> dict[str, torch.Tensor]:
    values = {f.name: getattr(prediction, f.name) for f in dataclasses.fields(prediction) if f.name != "aux"}
    return {name: value for name, value in values.items() if value is not None}


@every_model
def test_produces_what_it_declares_and_all_of_it_finite(name, options, hand):
    model = stir(build(name, options, hand))
    with torch.inference_mode():
        found = outputs(model(photos()))
    assert set(found) - {"hand"} == set(model.produces)
    assert all(len(value) == 2 and value.isfinite().all() for value in found.values())
    if {"vertices", "vertices_coarse"} & set(found):
        assert found["hand"].tolist() == [hand.fingerprint] * 2, "vertices without their hand"


@every_model
def test_a_batch_of_one_equals_a_row_of_a_batch(name, options, hand):
    """In float64: another batch is added up in another order, and what float32 loses by that is the processor's."""
    model, three = stir(build(name, options, hand)).double(), photos(3).map(as_double)
    with torch.inference_mode():
        whole, one = outputs(model(three)), outputs(model(three[1:2]))
    for field in whole:
        assert_near(one[field][0], whole[field][1], 1e-6, field)


@every_model
def test_rows_differ_with_their_photos(name, options, hand):
    model = stir(build(name, options, hand))
    with torch.inference_mode():
        found = outputs(model(photos()))
    for field in set(model.produces) - {"confidence"}:  # which may be 0 or 1 throughout
        assert (found[field][0] != found[field][1]).any(), field


@every_model
def test_every_parameter_gets_a_gradient(name, options, hand):
    model = stir(build(name, options, hand)).train()
    model.zero_grad()
    prediction = model(photos())
    found = outputs(prediction) | prediction.aux  # what private losses read
    sum((value * torch.rand_like(value)).sum() for field, value in found.items() if field != "hand").backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]


@every_model
def test_double_precision(name, options, hand):
    model = stir(build(name, options, hand))
    with torch.inference_mode():
        single = outputs(model(photos()))
        double = outputs(model.double()(photos().map(as_double)))
    for field in model.produces:
        assert_near(single[field], double[field], 1e-3, field)


@every_model
def test_autocast_leaves_numbers_in_metres_and_pixels_in_float32(name, options, hand):
    model = build(name, options, hand).train()
    with torch.autocast("cpu", torch.bfloat16):
        found = outputs(model(photos()))
    for field in {"joints", "joints_token", "joints_2d", "vertices", "vertices_coarse", "camera"} & set(found):
        assert found[field].dtype == torch.float32
    assert all(value.isfinite().all() for value in found.values())


@every_model
def test_nothing_stays_behind_on_the_host(name, options, hand, monkeypatch):
    """The meta device stands in for a GPU: most operations that mix it with a forgotten CPU tensor raise."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # which the meta device has not
    model = build(name, options, hand).to("meta")
    found = outputs(model(photos().to("meta")))
    assert all(value.device.type == "meta" for value in found.values())


@every_model
def test_other_image_sizes(name, options, hand):
    model = build(name, options, hand)
    for size in (32, 96):
        with torch.inference_mode():
            assert set(outputs(model(photos(1, size)))) - {"hand"} == set(model.produces)


@every_model
def test_saving_and_loading_give_equal_outputs_by_both_roads(name, options, hand, tmp_path):
    model = stir(build(name, options, hand)).train()
    model(photos())  # moves the running statistics, which have to travel too
    model.eval().save_pretrained(tmp_path)
    with torch.inference_mode():
        first = outputs(model(photos()))
        for again in (assembly.load_model(tmp_path), type(model).from_pretrained(tmp_path)):
            assert not again.training and again.config.image_size == SIZE and again.config.name == name
            second = outputs(again(photos()))
            for field in first:  # the last bit may depend on how the loaded memory is aligned
                assert_near(second[field], first[field], 1e-5, field)


@every_model
def test_no_constant_of_the_hand_is_saved(name, options, hand, tmp_path):
    model = build(name, options, hand)
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        saved = set(file.keys())
    assert saved == {n for n, _ in model.named_parameters()} | {
        n
        for n, _ in model.named_buffers()
        if n.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert not saved & set(model.constants(hand))
    written = {p.name for p in tmp_path.iterdir()}
    assert written == {"config.json", "model.safetensors"}


@every_model
def test_a_misspelt_option_is_refused_with_the_nearest(name, options, hand):
    for option in [f.name for f in dataclasses.fields(assembly.plugin("models", name).Config)]:
        wrong = option[:-1] + ("q" if option[-1] != "q" else "z")
        with pytest.raises(ConfigError, match=f"{wrong}', did you mean '{option}'"):
            build(name, {wrong: 1}, hand)


@every_model
def test_another_hand_is_refused(name, options, hand, tmp_path):
    model = build(name, options, hand)
    left = load("open", side="left")
    assert left.fingerprint != hand.fingerprint
    config = HandModelConfig.from_dict(model.config.to_dict())
    with pytest.raises(ConfigError, match=f"hand {hand.fingerprint_hex}, not for {left.fingerprint_hex}"):
        type(model)(config, left)
    model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="not for"):
        type(model).from_pretrained(tmp_path, left)


def test_batches_are_sized_by_their_shape():
    """`len` of a tensor is a constant in an exported network, which then takes one batch size alone."""
    sized = re.compile(r"(expand|new_full|new_zeros|view)\(+len\(")
    files = [p for part in ("models", "layers") for p in (ROOT / "mesh_graphormer_hand" / part).rglob("*.py")]
    assert not [p.name for p in files if sized.search(p.read_text())] and sized.search("a.expand(len(b), 3)")


def test_a_misspelt_key_of_a_saved_config_is_refused_with_the_nearest(hand, tmp_path):
    name, options = CASES[0]
    build(name, options, hand).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    raw["image_sise"] = raw.pop("image_size")
    path.write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match="'image_sise'.*did you mean 'image_size'"):
        HandModelConfig.from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'image_size'"):
        HandModelConfig(image_sise=3)


@pytest.mark.parametrize("left", [0, 100, -5])
def test_weights_that_are_cut_short_are_named(hand, tmp_path, left):
    build(*CASES[0], hand).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ConfigError, match=r"model\.safetensors cannot be read .*: copy it again"):
        assembly.load_model(tmp_path)


def test_another_coarse_mesh_of_the_same_hand_is_told(hand, tmp_path, caplog):
    """A dropped-in mano_downsampling.npz changes the mesh under a trained network, but not the hand."""
    model = build("mesh_graphormer", TINY["mesh_graphormer"][0], hand)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert len(config["mesh"]) == 16
    assembly.load_model(tmp_path)
    assert "coarse mesh" not in caplog.text
    (tmp_path / "config.json").write_text(json.dumps(config | {"mesh": "0" * 16}))
    assembly.load_model(tmp_path)
    assert "trained on the coarse mesh 0000000000000000" in caplog.text


def test_a_new_model_starts_from_the_parts_of_another_that_fit(hand, tmp_path):
    options = TINY["mesh_graphormer"][0]
    source = stir(build("mesh_graphormer", options, hand))
    source.save_pretrained(tmp_path)
    model = build("mesh_graphormer", options | {"widths": [16, 16, 8]}, hand)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    taken = assembly.warm_start(model, tmp_path, ["backbone", "encoders.2"])
    own, theirs = model.state_dict(), source.state_dict()
    trunk = [name for name in own if name.startswith("backbone")]
    assert taken >= len(trunk) and all(torch.equal(own[name], theirs[name]) for name in trunk)
    assert torch.equal(own["encoders.2.skip.weight"], theirs["encoders.2.skip.weight"])  # fits whatever the width
    assert torch.equal(own["encoders.2.embed.weight"], before["encoders.2.embed.weight"])  # another shape
    assert torch.equal(own["encoders.0.embed.weight"], before["encoders.0.embed.weight"])  # not among the parts
    with pytest.raises(ConfigError, match="nothing in .* fits"):
        assembly.warm_start(model, tmp_path, ["nowhere"])
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="is it whole"):
        assembly.warm_start(model, tmp_path, [])
