"""training.micro_batches and training.memory: a batch is cut as the memory needs it, and the run stays what it is."""

import logging
import os
import signal

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from helpers.toy_runs import Hooked, assert_equal_runs, fit, make_trainer, toys  # noqa: F401 (a fixture)
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import HandInputs, HandPrediction
from mesh_graphormer_hand.training import checkpoint, memory, micro_batches
from mesh_graphormer_hand.training.activation_checkpointing import checkpointed_layers
from mesh_graphormer_hand.training.nonfinite import TrainingError

MIB = 2**20


class Deep(nn.Module):
    """Eight layers that can be computed twice, each of three maps of 1 MiB a sample; no batch norm."""

    def __init__(self) -> None:
        super().__init__()
        layer = lambda: nn.Sequential(*(m for _ in range(3) for m in (nn.Conv2d(3, 3, 1), nn.Sigmoid())))  # noqa: E731
        self.layers = nn.Sequential(*(layer() for _ in range(8)))
        self.head = nn.Linear(3, 63)

    def forward(self, inputs: HandInputs) -> HandPrediction:
        image = nn.functional.interpolate(inputs.image, size=(296, 296))
        joints = self.head(self.layers(image).mean((2, 3))).unflatten(1, (21, 3))
        return HandPrediction(joints=joints, hand=torch.zeros(len(joints), dtype=torch.int64))

    def private_losses(self, prediction, batch):
        return {}


def deep_trainer(folder, room: int, monkeypatch):
    """A trainer of a deep network that may take `room` bytes more, before its batch is cut."""
    trainer = make_trainer(folder, train__batch_size=32)
    trainer.config.accumulate = "auto"
    trainer.module = trainer.model = Deep()
    parameters = list(trainer.module.parameters())
    trainer.optimizer = trainer.accelerator.prepare_optimizer(torch.optim.AdamW(parameters))
    trainer.guard.statistics.groups = []
    monkeypatch.setattr(micro_batches, "held_bytes", lambda device: 0)  # whatever the tests before have left
    monkeypatch.setattr(micro_batches, "available_bytes", lambda device: int(room / micro_batches.MEMORY_SHARE))
    return trainer


def test_an_estimate_counts_what_is_kept_without_keeping_it(tmp_path, monkeypatch):
    trainer = deep_trainer(tmp_path, 2**30, monkeypatch)
    batch = micro_batches._few_samples(trainer)
    assert len(batch) == 4
    sample, once = micro_batches.kept_bytes(trainer, batch)
    assert 24 * MIB < sample < 28 * MIB and once < MIB
    assert memory.peak_memory(lambda: micro_batches._saved_bytes(trainer, batch)) < 60, (
        "it would be 100 if it kept them"
    )


@pytest.mark.parametrize(("room", "count"), [(2**40, 1), (600 * MIB, 2), (300 * MIB, 4), (180 * MIB, 8)])
def test_a_batch_is_cut_as_the_memory_needs_it(tmp_path, monkeypatch, caplog, room, count):
    caplog.set_level(logging.INFO)
    trainer = deep_trainer(tmp_path, room, monkeypatch)
    before = {name: value.clone() for name, value in trainer.module.state_dict().items()}
    micro_batches.settle(trainer, {})
    config = trainer.config
    assert config.accumulate in (count, 2 * count) and not config.gradient_checkpointing
    assert len(trainer.stream[0]) == 32 // config.accumulate
    assert f"train.accumulate: {config.accumulate} (parts of {32 // config.accumulate} samples" in caplog.text
    assert all(torch.equal(value, before[name]) for name, value in trainer.module.state_dict().items())
    assert all(p.grad is None for p in trainer.module.parameters())


def test_activations_are_computed_twice_where_a_few_samples_do_not_fit(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    trainer = deep_trainer(tmp_path, 60 * MIB, monkeypatch)
    monkeypatch.setattr(memory, "peak_memory", lambda call, device: None)
    micro_batches.settle(trainer, {})
    assert trainer.config.gradient_checkpointing and len(checkpointed_layers(trainer.module)) == 8
    assert "activations of 8 layers are computed twice" in caplog.text


def test_too_little_memory_is_told_before_it_is_taken(tmp_path, monkeypatch):
    trainer = deep_trainer(tmp_path, 10 * MIB, monkeypatch)
    monkeypatch.setattr(trainer.accelerator, "backward", lambda loss: pytest.fail("this would be the end"))
    with pytest.raises(TrainingError, match=r"2 samples at once take \d+ MiB, and 10 MiB is theirs to take"):
        micro_batches.settle(trainer, {})


def test_parts_are_kept_by_a_run_that_goes_on(tmp_path, monkeypatch):
    """Also where there would be room for fewer by then: batch norms see a part."""
    options = {"train__batch_size": 8, "train__accumulate": "auto", "train__steps": 6, "train__checkpoint_every": 1}
    monkeypatch.setattr(micro_batches, "_needed_count", lambda trainer, batch: 2)
    assert fit(tmp_path / "whole", **options)
    stop = lambda stream: Hooked(stream, 6, lambda: os.kill(os.getpid(), signal.SIGTERM))  # noqa: E731
    assert not fit(tmp_path / "cut", stop, **options)
    monkeypatch.setattr(micro_batches, "_needed_count", lambda trainer, batch: pytest.fail("settled already"))
    assert fit(tmp_path / "cut", **options)
    assert_equal_runs(tmp_path / "whole", tmp_path / "cut")
    assert checkpoint.latest(tmp_path / "cut").state["experiment"]["train"]["accumulate"] == 2


def test_parts_that_no_longer_fit_are_told(tmp_path, monkeypatch, caplog):
    trainer = deep_trainer(tmp_path, 200 * MIB, monkeypatch)
    micro_batches.settle(trainer, {"accumulate": 1})
    assert trainer.config.accumulate > 1 and "32 samples at once, as the run began, take" in caplog.text


@pytest.mark.parametrize("wrong", [0, -2, "many"])
def test_other_numbers_of_parts_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match=f"train.accumulate: {wrong} should be auto, or 1 or more"):
        make_trainer(tmp_path, train__accumulate=wrong)


@pytest.mark.parametrize("at", [0, 6])
def test_a_signal_within_a_step_is_heeded_after_its_part(tmp_path, caplog, at):
    """The step is begun anew by the run that goes on, which ends as one that was never stopped; also the first one."""
    caplog.set_level(logging.INFO)
    options = {"train__batch_size": 8, "train__accumulate": 4, "train__steps": 4}
    assert fit(tmp_path / "whole", **options)
    stop = lambda stream: Hooked(stream, at, lambda: os.kill(os.getpid(), signal.SIGINT))  # noqa: E731
    assert not fit(tmp_path / "cut", stop, **options)
    assert f"step {at // 4} begins anew: {at % 4 + 1} of its 4 parts" in caplog.text
    assert checkpoint.latest(tmp_path / "cut").step == at // 4
    assert fit(tmp_path / "cut", **options)
    assert_equal_runs(tmp_path / "whole", tmp_path / "cut")


def test_progress_is_shown_within_a_step(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("mesh_graphormer_hand.training.log.REFRESH_SECONDS", {True: 0.0, False: 0.0})
    assert fit(tmp_path, train__batch_size=8, train__accumulate=4, train__steps=1)
    assert "step 0/1, part 3/4 of the next, " in caplog.text and "images/s" in caplog.text


def test_another_precision_or_cut_is_told_not_refused(tmp_path, caplog):
    assert fit(tmp_path, train__batch_size=8, train__steps=2)
    AcceleratorState._reset_state(True)
    assert fit(tmp_path, train__batch_size=8, train__steps=3, train__accumulate=2, train__precision="bf16")
    assert "the run began with train.precision=fp32 and continues with bf16" in caplog.text
    assert "the run began with train.accumulate=1 and continues with 2" in caplog.text


def test_control_groups_limit_what_is_there(tmp_path):
    """Both versions of their interface, and the groups around a process's own."""
    root, mine = tmp_path / "sys", tmp_path / "cgroup"
    mine.write_text("4:memory:/a/b\n9:pids:/\n0::/c\n")
    for folder, texts in {
        "memory/a": ("memory.limit_in_bytes", 900, "memory.usage_in_bytes", 500, "total_inactive_file 100\ncache 3"),
        "memory": ("memory.limit_in_bytes", 2**63 - 4096, "memory.usage_in_bytes", 700, ""),
        "c": ("memory.max", 800, "memory.current", 300, "anon 5\ninactive_file 50"),
        ".": ("memory.max", "max", "memory.current", 900, ""),
    }.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        limit, most, use, now, stat = texts
        for name, text in ((limit, most), (use, now), ("memory.stat", stat)):
            (root / folder / name).write_text(f"{text}\n")
    assert memory.control_groups(mine, root) == [(900, 400), (2**63 - 4096, 700), (800, 250)]
    assert memory.control_groups(tmp_path / "none", root) == []


def test_available_memory_is_less_than_all_and_more_than_none():
    device = torch.device("cpu")
    assert 0 < memory.available_bytes(device) <= memory.total_bytes(device)
    assert 0 < memory.held_bytes(device) < memory.total_bytes(device)
