"""Attention, graph convolution, the encoder and the keypoint head, each against its slow and obvious twin."""

import math

import pytest
import torch
from torch.testing import assert_close

from mesh_graphormer_hand.layers.graph_conv import GraphResidualBlock, adjacency_edges
from mesh_graphormer_hand.layers.keypoint_head import KeypointHead
from mesh_graphormer_hand.layers.transformer import Encoder, EncoderLayer, Graph, SelfAttention

NODES = 6


def operator() -> torch.Tensor:
    """A row-normalised operator that is not symmetric, so that a transposed one cannot pass."""
    dense = (torch.rand(NODES, NODES) < 0.4).double() * torch.rand(NODES, NODES).double() + torch.eye(NODES).double()
    return dense / dense.sum(1, keepdim=True)


def graph(start: int = 2) -> Graph:
    return Graph(start, start + NODES, *adjacency_edges(operator()))


def attention_twin(layer: SelfAttention, x: torch.Tensor) -> torch.Tensor:
    """softmax(q k / sqrt d) v, head by head."""
    q, k, v = layer.query(x), layer.key(x), layer.value(x)
    size = x.shape[-1] // layer.heads
    heads = []
    for h in range(layer.heads):
        part = slice(h * size, (h + 1) * size)
        share = (q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(size)).softmax(-1)
        heads.append(share @ v[..., part])
    return layer.norm(x + layer.out(torch.cat(heads, -1)))


def test_attention_equals_its_definition_in_value_and_gradient():
    layer = SelfAttention(12, heads=3, dropout=0.1).double().eval()
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    results = []
    for function in (layer, lambda t: attention_twin(layer, t)):
        leaf = x.clone().requires_grad_()
        y = function(leaf)
        (y * torch.arange(12)).sum().backward()
        results.append((y.detach(), leaf.grad, layer.query.weight.grad.clone()))
        layer.zero_grad()
    assert_close(*results)


def test_attention_of_any_sharpness_passes_bounded_gradients_on_in_bfloat16():
    torch.manual_seed(0)
    layer = SelfAttention(48, heads=4, dropout=0.0)
    with torch.no_grad():
        layer.query.weight *= 1e4  # logits of some 1e8: rounding moves them by more than exp() can take
        layer.key.weight *= 1e4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(torch.randn(2, 40, 48))
    (y * torch.linspace(-1, 1, 48)).sum().backward()
    assert layer.value.weight.grad.abs().max() < 100  # 3e7 where exp() is taken of what roundings leave


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="width 10 does not split into 4 heads"):
        SelfAttention(10, heads=4, dropout=0.0)


def test_edges_multiply_as_the_matrix_does():
    a = operator()
    edges, weights = adjacency_edges(a)
    x = torch.randn(NODES, 3, dtype=torch.float64)
    y = torch.zeros_like(x).index_add(0, edges[1], weights[:, None] * x[edges[0]])
    assert_close(y, a @ x)
    assert not torch.allclose(y, a.T @ x)


def test_graph_convolution_of_torch_geometric_is_a_dense_product():
    """Values and gradients of `GCNConv`, which gathers and scatters along the edges, are those of A (x W) + b."""
    conv, a = GraphResidualBlock(6, eps=1e-12).double().conv, operator()
    edges, weights = adjacency_edges(a)
    x = torch.randn(2, NODES, 3, dtype=torch.float64)
    results = []
    for layer in (lambda t: conv(t, edges, weights), lambda t: a @ conv.lin(t) + conv.bias):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        (y * torch.arange(3)).sum().backward()
        results.append((y.detach(), leaf.grad, conv.lin.weight.grad.clone(), conv.bias.grad.clone()))
        conv.zero_grad()
    assert_close(*results)


def test_graph_block_equals_its_definition_in_value_and_gradient():
    """Norm, ReLU, linear, norm, ReLU, A (X W) + b, norm, ReLU, linear, added to the input: node by node."""
    block, a = GraphResidualBlock(8, eps=1e-12).double(), operator()
    with torch.no_grad():
        for p in block.parameters():
            p.add_(0.1 * torch.randn_like(p))

    def twin(x):
        y = block.reduce(block.norm_in(x).relu())
        y = block.norm_reduced(y).relu() @ block.conv.lin.weight.T
        y = torch.stack([sum(a[i, j] * y[:, j] for j in range(NODES)) for i in range(NODES)], 1) + block.conv.bias
        return x + block.expand(block.norm_mixed(y).relu())

    x = torch.randn(2, NODES, 8, dtype=torch.float64)
    results = []
    for function in (lambda t: block(t, *adjacency_edges(a)), twin):
        leaf = x.clone().requires_grad_()
        y = function(leaf)
        (y * torch.arange(8)).sum().backward()
        results.append((y.detach(), leaf.grad, block.conv.lin.weight.grad.clone()))
        block.zero_grad()
    assert_close(*results)


def test_graph_convolution_touches_its_nodes_only():
    """With attention and feed-forward silenced, an encoder layer changes nothing outside the graph's tokens."""
    layer = EncoderLayer(8, heads=2, dropout=0.0, graph=True).double()
    with torch.no_grad():
        layer.attention.out.weight.zero_(), layer.attention.out.bias.zero_()
        layer.feed_forward[2].weight.zero_(), layer.feed_forward[2].bias.zero_()
    x = torch.randn(2, NODES + 4, 8, dtype=torch.float64)
    x = (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True, correction=0)  # a norm leaves it alone
    changed = (layer(x, graph(start=2)) - x).abs().amax((0, 2)) > 1e-9
    assert changed.tolist() == [False, False, *([True] * NODES), False, False]


def encoder(**options) -> Encoder:
    settings = {"dim_in": 5, "width": 8, "dim_out": 3, "layers": 2, "heads": 2, "dropout": 0.0, "graph": True}
    return Encoder(**settings | options).double()


def test_encoder_adds_a_linear_skip():
    """With a silent head, tokens pass through the skip alone."""
    layer, x = encoder(), torch.randn(2, 10, 5, dtype=torch.float64)
    with torch.no_grad():
        layer.head.weight.zero_(), layer.head.bias.zero_()
    assert_close(layer(x, graph()), x @ layer.skip.weight.T + layer.skip.bias)


def test_encoder_tells_equal_tokens_apart_by_their_place():
    layer = encoder(graph=False)
    y = layer(torch.ones(1, 4, 5, dtype=torch.float64))
    assert (y[0, 0] - y[0, 1]).abs().max() > 1e-6
    with torch.no_grad():
        layer.positions.weight.zero_()
    y = layer(torch.ones(1, 4, 5, dtype=torch.float64))
    assert_close(y[0, 0], y[0, 1])


def test_checkpointing_changes_nothing_but_memory():
    layer, g = encoder(), graph()
    x = torch.randn(2, 10, 5, dtype=torch.float64)
    gradients = []
    for layer.gradient_checkpointing in (False, True):
        layer.zero_grad()
        layer(x, g).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in layer.named_parameters()})
    assert_close(*gradients)


def test_dropout_acts_in_training_only():
    layer, x, g = encoder(dropout=0.5), torch.randn(1, 10, 5, dtype=torch.float64), graph()
    assert not torch.equal(layer(x, g), layer(x, g))
    layer.eval()
    assert_close(layer(x, g), layer(x, g), atol=0, rtol=0)


def test_keypoint_head_adds_coarse_branches_up():
    """Against the sum written out, at the resolution of the finest branch."""
    head = KeypointHead([2, 3, 4], channels=5, keypoints=7).double().eval()
    branches = [torch.randn(2, c, 16 // 2**i, 16 // 2**i, dtype=torch.float64) for i, c in enumerate((2, 3, 4))]
    total = 0
    for i, (lateral, branch) in enumerate(zip(head.laterals, branches, strict=True)):
        total = total + lateral(branch).repeat_interleave(2**i, -1).repeat_interleave(2**i, -2)
    maps, features = head(branches)
    assert_close(features, head.mix(total))
    assert_close(maps, head.maps(features))
    assert maps.shape == (2, 7, 16, 16)
