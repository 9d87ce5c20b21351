"""HRNet: published names, published sizes, and what its fusions compute."""

import json
import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from helpers.places import DATA
from mesh_graphormer_hand.backbones.hrnet import VARIANTS, Head, HRNet, Module

# Parameters of the published ImageNet classifiers, in millions (the authors' and timm's tables).
PUBLISHED_MILLIONS = {"w18_small": 13.19, "w18": 21.30, "w32": 41.23, "w40": 57.56, "w64": 128.06}
CLASSIFIER = 2048 * 1000 + 1000
NAMES = json.loads((DATA / "graphormer_names.json").read_text())
NARROW = Head((2, 4, 4, 8), 16)


@pytest.mark.parametrize("variant", VARIANTS)
def test_sizes_are_the_published_ones(variant):
    with torch.device("meta"):
        trunk = HRNet(variant)
    millions = (sum(p.numel() for p in trunk.parameters()) + CLASSIFIER) / 1e6
    assert abs(millions - PUBLISHED_MILLIONS[variant]) < 0.006


def test_names_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        ours = {f"backbone.{name}": list(value.shape) for name, value in HRNet("w64").state_dict().items()}
    assert ours == {k: v for k, v in NAMES.items() if k.startswith("backbone.") and ".classifier." not in k}


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_shapes_of_the_features(size):
    trunk = HRNet("w18_small", NARROW).eval()
    with torch.inference_mode():
        features = trunk(torch.randn(2, 3, *size))
    height, width = size
    for i, branch in enumerate(features.branches):
        assert branch.shape == (2, 16 * 2**i, height // 2 ** (i + 2), width // 2 ** (i + 2))
    assert features.grid.shape == (2, trunk.grid_dim, height // 32, width // 32)
    assert features.pooled.shape == (2, trunk.pooled_dim) == (2, 16)


def test_a_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        HRNet("w18_small", NARROW)(torch.zeros(1, 3, 64, 50))


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="w18_small, w18, w32"):
        HRNet("w48")


def test_a_module_adds_every_branch_to_every_branch():
    """Against the definition: downwards strided convolutions, upwards a 1 x 1 convolution and repetition."""
    module = Module([2, 4, 8], blocks=1).eval()
    xs = [torch.randn(1, 2 * 2**i, 16 // 2**i, 16 // 2**i) for i in range(3)]
    with torch.inference_mode():
        got = module(xs)
        ys = [branch(x) for branch, x in zip(module.branches, xs, strict=True)]
        for target in range(3):
            total = ys[target].clone()
            for source in range(3):
                step = module.fuse_layers[target][source]
                if source == target:
                    assert step is None
                    continue
                y = step(ys[source])
                if source > target:
                    assert sum(isinstance(m, torch.nn.Conv2d) for m in step.modules()) == 1
                    y = y.repeat_interleave(2 ** (source - target), -1).repeat_interleave(2 ** (source - target), -2)
                else:
                    strided = [m for m in step.modules() if isinstance(m, torch.nn.Conv2d)]
                    assert [m.stride for m in strided] == [(2, 2)] * (target - source)
                total += y
            assert_close(got[target], F.relu(total))


def test_inputs_of_a_module_are_left_alone():
    """In-place activations must never write into a branch that another sum still needs."""
    module = Module([2, 4], blocks=1).eval()
    xs = [torch.randn(1, 2, 8, 8), torch.randn(1, 4, 4, 4)]
    kept = [x.clone() for x in xs]
    with torch.inference_mode():
        assert_close(module(xs), module(kept))
    assert_close(xs, kept, atol=0, rtol=0)


def test_every_parameter_gets_a_gradient():
    trunk = HRNet("w18_small", NARROW)
    features = trunk(torch.randn(2, 3, 64, 64))
    (features.pooled.sum() + features.grid.square().sum()).backward()
    silent = [name for name, p in trunk.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_signals_keep_their_size_at_the_start():
    """Fresh weights neither drown nor blow up an image of unit deviation."""
    trunk = HRNet("w18_small")
    with torch.no_grad():
        deviation = trunk(torch.randn(4, 3, 64, 64)).grid.std().item()
    assert 0.1 < deviation < 10 and math.isfinite(deviation)
