"""Muon against torch's own (matrices only), and what it takes of a network."""

import pytest
import torch
from torch import nn

from mesh_graphormer_hand.config import ConfigError, OptimizerConfig
from mesh_graphormer_hand.training import muon, optim


def spectrum(matrix: torch.Tensor) -> torch.Tensor:
    return torch.linalg.svdvals(matrix)


def test_steps_are_nearly_orthogonal_whatever_shares_the_bucket():
    torch.manual_seed(0)
    matrices = [torch.randn(12, 40), torch.randn(60, 9), torch.randn(16, 64)]
    alone = [muon.orthogonal(muon.pack([m]))[0] for m in matrices]
    together = muon.orthogonal(muon.pack(matrices))
    for matrix, one, place in zip(matrices, alone, together, strict=True):
        wide = matrix if matrix.shape[0] < matrix.shape[1] else matrix.mT
        assert torch.allclose(place[: wide.shape[0], : wide.shape[1]], one, atol=0.02)
        assert not place[wide.shape[0] :].any()
        assert 0.6 < spectrum(one).min() and spectrum(one).max() < 1.3
        u, _, v = torch.linalg.svd(wide, full_matrices=False)
        assert ((u @ v) * one).sum() / one.norm() / (u @ v).norm() > 0.98


def test_equals_torchs_muon_on_matrices():
    torch.manual_seed(0)
    shapes = [(32, 32), (32, 64), (96, 24), (48, 20), (31, 17)]
    ours, theirs = ([nn.Parameter(w.clone()) for w in start] for start in [[torch.randn(s) for s in shapes]] * 2)
    groups = [{"params": ours, "hidden": True, "weight_decay": 0.1}]
    mine = muon.Muon(groups, lr=0.02, betas=(0.9, 0.999), fused=True)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    before = [w.detach().clone() for w in theirs]
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        mine.step()
        reference.step()
    for a, b, start in zip(ours, theirs, before, strict=True):
        assert (a - b).norm() < 0.03 * (b - start).norm()


def test_takes_hidden_layers_only():
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 16, 3)
            self.table = nn.Embedding(30, 16)
            self.hidden = nn.Linear(16, 16)
            self.out = nn.Linear(16, 3)

    network = Network()
    config = OptimizerConfig(name="muon", lr=0.1, adamw_lr_scale=0.2)
    optimizer = optim.build_optimizer(network, config)
    taken = {id(p) for group in optimizer.param_groups if group["hidden"] for p in group["params"]}
    assert taken == {id(network.first.weight), id(network.hidden.weight)}
    every = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(every) == sorted(id(p) for p in network.parameters())
    optim.set_learning_rate(optimizer, 0.1)
    assert {(group["hidden"], round(group["lr"], 6)) for group in optimizer.param_groups} == {
        (True, 0.1),
        (False, 0.02),
    }
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        moved = (parameter.detach() - before[name]).square().mean().sqrt()
        expected = 0.1 * muon.ADAM_RMS if id(parameter) in taken else 0.02  # Adam's first step is a sign
        assert moved == pytest.approx(expected, rel=0.25), name


def test_refuses_parts_of_matrices(monkeypatch):
    monkeypatch.setattr(muon, "DTensor", nn.Parameter)
    with pytest.raises(ConfigError, match=r"whole matrices: train\.shard=false"):
        optim.build_optimizer(nn.Linear(16, 16), OptimizerConfig(name="muon"))
