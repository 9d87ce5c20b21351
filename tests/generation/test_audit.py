"""The check of samples passes good ones and finds each kind of mistake."""

import dataclasses

import pytest
import torch

from mesh_graphormer_hand.cli import generate
from mesh_graphormer_hand.generation import audit, check_samples
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.virtual.config import EXTRA_LABELS, VirtualConfig
from mesh_graphormer_hand.virtual.generator import VirtualHands

SIZE = 64


@pytest.fixture(scope="module")
def hand():
    return load("open")


@pytest.fixture(scope="module")
def batch(hand):
    return VirtualHands(VirtualConfig(), hand, EXTRA_LABELS).render(range(16), image_size=SIZE)


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
    shapeless = t.shape.clone()
    shapeless[2] = float("nan")
    cases = [
        ("worst joint's reprojection", {"joints_2d": t.joints_2d + 0.02}),
        ("samples with a number that is none", {"vertices": broken}),
        ("samples with a number that is none", {"shape": shapeless}),
        ("samples without a pixel of hand", {"parts": nothing}),
        ("joints whose visibility rays deny", {"joints_visible": ~t.joints_visible}),
        ("mask and mesh agree, mean", {"parts": t.parts.roll(6, -1), "depth": t.depth.roll(6, -1)}),
    ]
    for name, labels in cases:
        assert not verdicts(change(batch, **labels), hand)[name], name


def test_rays_find_every_way_to_mistake_what_is_in_sight(batch, hand):
    """Labels that forget what hides a joint, that belong to the next joint, or to the next sample."""
    t, faces = batch.targets, torch.from_numpy(hand.faces)
    told, denied = audit._visibility(batch, faces)
    assert told.float().mean() > 0.5 and denied.sum() <= 1
    inside = ((t.joints_2d >= 0) & (t.joints_2d < SIZE)).all(-1)
    for visible in (inside, t.joints_visible.roll(1, 1), t.joints_visible.roll(1, 0)):
        told, denied = audit._visibility(change(batch, joints_visible=visible), faces)
        assert denied.sum() > 0.1 * told.sum()


def test_rays_meet_a_mesh_where_it_is(hand):
    """Two walls by hand, one seen from its back; every vertex at its own depth or before; nothing beside a hand."""
    near = torch.tensor([[-1.0, -1, 2], [3, -1, 2], [-1, 3, 2]], dtype=torch.float64)
    walls, faces = torch.cat([near, near * 1.5]), torch.tensor([[0, 1, 2], [5, 4, 3]])
    rays = torch.tensor([[0.0, 0, 1], [0.2, 0.1, 1], [-0.6, 0, 1]], dtype=torch.float64)
    assert audit._first(walls, rays, faces).tolist() == pytest.approx([2, 2, torch.inf])
    assert audit._first(walls, rays, faces[1:]).tolist() == pytest.approx([3, 3, torch.inf])
    points = torch.from_numpy(hand.v_template).double() + torch.tensor([0, 0, 0.5])
    faces = torch.from_numpy(hand.faces)
    first = audit._first(points, points / points[:, 2:], faces)
    assert (first < points[:, 2] + 1e-4).float().mean() > 0.9  # on an outline, rounding may miss a vertex
    assert audit._first(points, torch.tensor([[3.0, 3, 1]], dtype=torch.float64), faces).isinf().all()


def test_hashes_see_every_byte(batch):
    same = batch[torch.arange(16)]
    assert audit.digest(same) == audit.digest(batch)
    touched = batch.targets.depth.clone()
    touched[15, -1, -1] += 1e-6
    assert audit.digest(change(batch, depth=touched)) != audit.digest(batch)


def test_the_command_prints_a_table_and_draws(tmp_path, capsys, monkeypatch):
    """Processes are left out: they start slowly. (In real use 1, 2 and 3 of them render REPEATED_BLOCKS blocks.)"""
    rendered = check_samples._rendered
    monkeypatch.setattr(check_samples, "_rendered", lambda plan, blocks, workers: rendered(plan, blocks, 0))
    monkeypatch.setattr(check_samples, "REPEATED_BLOCKS", 1)
    plots = tmp_path / "check.png"
    arguments = ["--check", "16", "--image-size", str(SIZE), "--hand", "open", "--workers", "0", "--plots", str(plots)]
    code = generate.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert code in (0, 1) and lines[0].startswith("16 samples, 64 px") and lines[-1] == str(plots) and plots.is_file()
    differ = next(line for line in lines if "differ by workers" in line)
    assert differ.split()[-2:] == ["0", "0"], differ
