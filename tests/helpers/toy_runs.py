"""Runs of the toy: trained, compared bit by bit. `toys` is a fixture: a test module imports it by name."""

import copy
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from helpers.toy_train import CONFIG, with_toys
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.config import Experiment, parse
from mesh_graphormer_hand.mano.template import hand_template
from mesh_graphormer_hand.training import checkpoint, launch
from mesh_graphormer_hand.training import trainer as train
from mesh_graphormer_hand.training.batch_norms import train_mode

GROUPS = ("model", "ema", "optimizer")


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """The toy plug-ins, under the names that toy_train.CONFIG uses; Accelerate forgets the test before."""
    AcceleratorState._reset_state(True)
    monkeypatch.setattr(assembly, "available", with_toys(assembly.available))


def experiment(**changes) -> Experiment:
    """The toy experiment; `train__steps=3` changes train.steps."""
    raw = copy.deepcopy(CONFIG)
    for path, value in changes.items():
        *parents, leaf = path.split("__")
        section = raw
        for name in parents:
            section = section.setdefault(name, {})
        section[leaf] = value
    return parse(Experiment, raw)


def toy_run(folder: Path, **changes) -> launch.Run:
    """A run of the toy in `folder`, ready to be trained; see `experiment`."""
    made = experiment(**changes)
    return launch.build_run(made, folder, launch.first_micro_batches(made.train))


def fit(folder: Path, wrap=lambda stream: stream, evaluation: bool = False, **changes) -> bool:
    """Train the toy in `folder`."""
    run = toy_run(folder, **changes)
    run.stream = wrap(run.stream)
    if not evaluation:
        run.tests = {}
    return train.fit(run)


def assert_equal_runs(a: Path, b: Path) -> None:
    """The newest checkpoints of two runs hold the same step and the same bits."""
    first, second = checkpoint.latest(a), checkpoint.latest(b)
    assert first.step == second.step
    for group in GROUPS:
        assert first.tensors[group].keys() == second.tensors[group].keys()
        for name, value in first.tensors[group].items():
            assert torch.equal(value, second.tensors[group][name]), f"{group}: {name}"


def template():
    """Of the toy's hand."""
    return hand_template(assembly.load_hand(experiment()))


def make_trainer(folder: Path, scaler=None, **changes) -> train.Trainer:
    """A trainer of the toy that has not run."""
    run = toy_run(folder, **changes)
    run.tests = {}
    accelerator = launch.make_accelerator(run.experiment)
    accelerator.scaler = scaler
    trainer = train.Trainer(run, accelerator)
    train_mode(trainer.module, run.experiment.train.freeze_norms)
    return trainer


class Hooked:
    """A stream that calls `hook` before it gives batch `at`."""

    def __init__(self, stream, at, hook):
        self.stream, self.at, self.hook = stream, at, hook

    def __getitem__(self, index):
        if index == self.at:
            self.hook()
        return self.stream[index]

    def cut(self, parts):
        self.stream.cut(parts)
