"""HRNet: published names, published sizes, and what its fusions compute."""

import json
import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from helpers.places import DATA
from mesh_graphormer_hand.backbones.hrnet import HRNETS, HRNet, Module
from mesh_graphormer_hand.backbones.neck import ClassificationNeck

# Parameters of the published ImageNet classifiers, in millions (the authors' and timm's tables).
PUBLISHED_MILLIONS = {"w18_small": 13.19, "w18": 21.30, "w32": 41.23, "w40": 57.56, "w64": 128.06}
CLASSIFIER = 2048 * 1000 + 1000
NAMES = json.loads((DATA / "graphormer_names.json").read_text())
PLANES, FEATURE = (32, 64, 128, 256), 2048  # of the published head


class Trunk(torch.nn.ModuleDict):
    """HRNet and the neck that makes it the published trunk."""

    def __init__(self, variant: str, planes: tuple[int, ...] = PLANES, feature: int = FEATURE) -> None:
        backbone = HRNet(variant)
        super().__init__({"backbone": backbone, "neck": ClassificationNeck(backbone.dims, planes, feature)})

    def forward(self, image):
        return self["neck"](self["backbone"](image))


@pytest.mark.parametrize("variant", HRNETS)
def test_sizes_are_the_published_ones(variant):
    with torch.device("meta"):
        trunk = Trunk(variant)
    millions = (sum(p.numel() for p in trunk.parameters()) + CLASSIFIER) / 1e6
    assert abs(millions - PUBLISHED_MILLIONS[variant]) < 0.006


def test_names_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        state = Trunk("w64").state_dict()
    ours = {f"backbone.{name.partition('.')[2]}": list(value.shape) for name, value in state.items()}
    assert ours == {k: v for k, v in NAMES.items() if k.startswith("backbone.") and ".classifier." not in k}


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_shapes_of_the_features(size):
    trunk = Trunk("w18_small", (2, 4, 4, 8), 16).eval()
    with torch.inference_mode():
        maps = trunk["backbone"](torch.randn(2, 3, *size))
        grid, feature = trunk["neck"](maps)
    height, width = size
    for x, dim, stride in zip(maps, trunk["backbone"].dims, trunk["backbone"].strides, strict=True):
        assert x.shape == (2, dim, height // stride, width // stride)
    assert grid.shape == (2, trunk["neck"].grid_dim, height // 32, width // 32)
    assert feature.shape == (2, 16)


def test_a_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        HRNet("w18_small")(torch.zeros(1, 3, 64, 50))


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
    trunk = Trunk("w18_small", (2, 4, 4, 8), 16)
    grid, feature = trunk(torch.randn(2, 3, 64, 64))
    (feature.sum() + grid.square().sum()).backward()
    silent = [name for name, p in trunk.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_signals_keep_their_size_at_the_start():
    """Fresh weights neither drown nor blow up an image of unit deviation."""
    trunk = Trunk("w18_small")
    with torch.no_grad():
        deviation = trunk(torch.randn(4, 3, 64, 64))[0].std().item()
    assert 0.1 < deviation < 10 and math.isfinite(deviation)
