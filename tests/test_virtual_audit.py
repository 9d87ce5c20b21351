"""The check of samples passes good ones and finds each kind of mistake."""

import dataclasses

import pytest
import torch

from mesh_graphormer_hand.cli import check_samples, generate
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.virtual import audit
from mesh_graphormer_hand.virtual.config import VirtualConfig
from mesh_graphormer_hand.virtual.generator import VirtualHands
from mesh_graphormer_hand.virtual.labels import EXTRA

SIZE = 64


@pytest.fixture(scope="module")
def hand():
    return load("open")


@pytest.fixture(scope="module")
def batch(hand):
    return VirtualHands(VirtualConfig(), hand, EXTRA).render(range(16), image_size=SIZE)


def verdicts(batch, hand) -> dict[str, bool]:
    return {v.name: v.good for v in audit.judge(audit.measure(batch, torch.from_numpy(hand.faces)))}


def change(batch, **labels):
    return dataclasses.replace(batch, targets=dataclasses.replace(batch.targets, **labels))


def test_good_samples_pass(batch, hand):
    bad = [name for name, good in verdicts(batch, hand).items() if not good]
    assert all("emptiest" in name for name in bad), bad  # sixteen samples are too few to be even


def test_each_mistake_is_found(batch, hand):
    t = batch.targets
    nothing = t.parts.clone()
    nothing[3] = 0
    broken = t.vertices.clone()
    broken[2, 5] = float("nan")
    cases = {
        "worst joint's reprojection": {"joints_2d": t.joints_2d + 0.02},
        "samples with a number that is none": {"vertices": broken},
        "samples without a pixel of hand": {"parts": nothing},
        "joints whose visibility depth denies": {"joints_visible": ~t.joints_visible},
        "mask and mesh agree, mean": {"parts": t.parts.roll(6, -1), "depth": t.depth.roll(6, -1)},
    }
    for name, labels in cases.items():
        if "vertices" in labels:
            found = audit.measure(batch, torch.from_numpy(hand.faces))
            assert found.finite.all()
            labels = {"shape": t.shape.masked_fill(torch.arange(16)[:, None] == 2, float("nan"))}
        assert not verdicts(change(batch, **labels), hand)[name], name


def test_hashes_see_every_byte(batch):
    same = batch[torch.arange(16)]
    assert audit.digest(same) == audit.digest(batch)
    touched = batch.targets.depth.clone()
    touched[15, -1, -1] += 1e-6
    assert audit.digest(change(batch, depth=touched)) != audit.digest(batch)


def test_the_command_prints_a_table_and_draws(tmp_path, capsys, monkeypatch):
    """Processes are left out: they start slowly. (SAME blocks are rendered by 1, 2 and 3 of them in real use.)"""
    rendered = check_samples._rendered
    monkeypatch.setattr(check_samples, "_rendered", lambda plan, blocks, workers: rendered(plan, blocks, 0))
    monkeypatch.setattr(check_samples, "SAME", 1)
    plots = tmp_path / "check.png"
    arguments = ["--check", "16", "--image-size", str(SIZE), "--hand", "open", "--workers", "0", "--plots", str(plots)]
    code = generate.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert code in (0, 1) and lines[0].startswith("16 samples, 64 px") and lines[-1] == str(plots) and plots.is_file()
    differ = next(line for line in lines if "differ by workers" in line)
    assert differ.split()[-2:] == ["0", "0"], differ
