"""training: training is a function of the seed, however often it stops; evaluation of the samples, however batched."""

import copy
import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load_file

from helpers import survival
from helpers.places import TOY_TRAIN
from helpers.toy_runs import GROUPS, Hooked, assert_equal_runs, experiment, fit, make_trainer, template, toys  # noqa: F401 (a fixture)
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.config import ConfigError, Experiment, OptimizerConfig, parse
from mesh_graphormer_hand.data import loader
from mesh_graphormer_hand.evaluation import evaluate
from mesh_graphormer_hand.training import checkpoint, log, optim
from mesh_graphormer_hand.training import trainer as train
from mesh_graphormer_hand.training.trainer import TrainingError


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def group_lives(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def test_learns_writes_everything_and_reads_it_back(tmp_path):
    assert fit(tmp_path / "run", evaluation=True, train__steps=100, train__checkpoint_every=100)
    assert fit(tmp_path / "short", evaluation=True, train__steps=1)
    results = json.loads((tmp_path / "run" / "metrics.json").read_text())
    untrained = json.loads((tmp_path / "short" / "metrics.json").read_text())
    assert results["step"] == 100
    assert results["test"]["toy"]["model"]["mpjpe"] < 0.7 * untrained["test"]["toy"]["model"]["mpjpe"]
    assert {p.name for p in (tmp_path / "run").iterdir()} >= {"config.yaml", "model", "step_000100", "metrics.json"}
    model = assembly.load_model(tmp_path / "run" / "model")
    saved = checkpoint.latest(tmp_path / "run").tensors["ema"]
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    again = parse(Experiment, yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()))
    assert again == experiment(train__steps=100, train__checkpoint_every=100)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "rmsprop", "sgd"])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, caplog, optimizer):
    """Pins weights, averages, optimiser, dropout, data order and schedule across an interruption."""
    caplog.set_level(logging.INFO)
    changes = {"train__steps": 12, "train__optimizer__name": optimizer}
    assert fit(tmp_path / "whole", **changes)
    stop = lambda stream: Hooked(stream, 7, lambda: os.kill(os.getpid(), signal.SIGTERM))  # noqa: E731
    assert not fit(tmp_path / "cut", stop, **changes)
    assert checkpoint.latest(tmp_path / "cut").step == 8
    assert "stopped at step 8 of 12; the same command continues" in caplog.text
    assert fit(tmp_path / "cut", **changes)
    assert_equal_runs(tmp_path / "whole", tmp_path / "cut")
    assert not fit(tmp_path / "other", stop, **changes, train__seed=1)
    assert not torch.equal(
        checkpoint.latest(tmp_path / "other").tensors["model"]["head.weight"],
        checkpoint.latest(tmp_path / "whole").tensors["model"]["head.weight"],
    )


def test_batches_from_a_thread_change_nothing(tmp_path, monkeypatch):
    """As for a GPU without workers: stopped while the thread is ahead, and resumed."""
    assert fit(tmp_path / "whole", train__steps=8)
    ahead = lambda stream, indices, workers, device: loader._from_thread(stream, indices, device)  # noqa: E731
    monkeypatch.setattr(train, "load", ahead)
    stop = lambda stream: Hooked(stream, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))  # noqa: E731
    assert not fit(tmp_path / "cut", stop, train__steps=8)
    assert 0 < checkpoint.latest(tmp_path / "cut").step < 8
    assert fit(tmp_path / "cut", train__steps=8)
    assert_equal_runs(tmp_path / "whole", tmp_path / "cut")


def test_a_run_that_fails_leaves_no_thread(tmp_path, monkeypatch):
    ahead = lambda stream, indices, workers, device: loader._from_thread(stream, indices, device)  # noqa: E731
    monkeypatch.setattr(train, "load", ahead)
    with pytest.raises(TrainingError) as failed:  # which holds the frames and all that is in them
        fit(tmp_path, data__train={"toy": {"samples": 1, "poison": 0}}, train__bad_steps=2)
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")], failed


def test_processes_that_see_other_checkpoints_are_refused(tmp_path, monkeypatch):
    """A machine without the shared folder would begin anew beside machines that go on."""
    monkeypatch.setattr(train, "gather_object", lambda mine: [*mine, 0])
    assert fit(tmp_path / "run", train__steps=5)
    with pytest.raises(checkpoint.CheckpointError, match="run: process 0 finds step 5 .* process 1 step 0.*share"):
        fit(tmp_path / "run", train__steps=10)


def test_a_torn_checkpoint_costs_steps_not_exactness(tmp_path, caplog):
    assert fit(tmp_path / "whole", train__steps=12)
    assert fit(tmp_path / "torn", train__steps=12)
    for name in ("step_000012", "step_000010"):
        file = tmp_path / "torn" / name / "ema.safetensors"
        file.write_bytes(file.read_bytes()[: -1 if name == "step_000012" else None])
    assert fit(tmp_path / "torn", train__steps=12)
    assert "step_000012/ema.safetensors" in caplog.text
    assert_equal_runs(tmp_path / "whole", tmp_path / "torn")


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    """As a program with a worker process, killed with SIGKILL at no particular moment; against none."""
    survival.prepare(tmp_path, 150, checkpoint_every=20)
    command = [sys.executable, str(TOY_TRAIN), str(tmp_path / "toy.yaml"), "data.workers=1", "train.name=cut"]
    with (tmp_path / "log").open("w") as log:
        killed = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_for(lambda: checkpoint.paths(tmp_path / "cut") or killed.poll() is not None)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    wait_for(lambda: not group_lives(killed.pid), seconds=20)
    assert not group_lives(killed.pid), "workers outlive the training process"
    assert killed.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()
    for name, workers in (("cut", 1), ("whole", 0)):
        code = survival.finish(survival.start(tmp_path, name, f"data.workers={workers}"))
        text = (tmp_path / f"{name}.txt").read_text()
        assert code == 0 and text.splitlines()[-1] == str(tmp_path / name), text
        assert ("continuing from" in text) == (name == "cut")
    assert_equal_runs(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_stops_cleanly(tmp_path, number):
    """Ctrl-C in a terminal reaches the workers too: they leave it to the training process."""
    survival.prepare(tmp_path, 100_000, checkpoint_every=20)
    process = survival.start(tmp_path, "cut", "data.workers=2", group=True)
    survival.wait_until(lambda: checkpoint.paths(tmp_path / "cut"), process)
    os.killpg(process, number)
    code, text = survival.finish(process), (tmp_path / "cut.txt").read_text()
    assert code == 0, text
    assert "Traceback" not in text and "the same command continues from there" in text
    step = int(text.partition("stopped at step ")[2].split()[0])
    assert checkpoint.latest(tmp_path / "cut").step == step


def test_finished_run_says_so_and_more_steps_go_on(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert fit(tmp_path, train__steps=3)
    assert fit(tmp_path, train__steps=3) and "finished at step 3" in caplog.text
    assert fit(tmp_path, train__steps=5) and checkpoint.latest(tmp_path).step == 5


def test_other_settings_do_not_continue_a_run(tmp_path):
    fit(tmp_path, train__steps=2)
    with pytest.raises(ConfigError, match=r"train\.batch_size: 4 -> 8.*train\.name=.*--fresh"):
        fit(tmp_path, train__steps=2, train__batch_size=8)
    assert fit(tmp_path, train__steps=3, train__log_every=1, train__keep=1)


def test_accumulated_parts_equal_one_batch(tmp_path):
    """Two parts of 4 against one of 8, without what makes a batch more than its parts (dropout, batch norm)."""
    options = {"model__norm": False, "model__dropout": 0.0, "train__steps": 3, "data__train": {"toy": {"samples": 8}}}
    fit(tmp_path / "one", train__batch_size=8, **options)
    fit(tmp_path / "two", train__batch_size=8, train__accumulate=2, **options)
    one, two = (checkpoint.latest(tmp_path / name).tensors["model"] for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_no_number_costs_a_step_and_is_kept_to_be_looked_into(tmp_path, caplog):
    """Its batch, the weights and the facts; neither weights nor batch-norm statistics nor the log remember it."""
    data = {"toy": {"samples": 64, "poison": 5}}
    assert fit(tmp_path, data__train=data, train__steps=16, train__log_every=4, train__checkpoint_every=16)
    tensors = checkpoint.latest(tmp_path).tensors
    assert all(torch.isfinite(t).all() for group in GROUPS for t in tensors[group].values())
    (incident,) = (tmp_path / "bad_steps").iterdir()
    facts = json.loads((incident / "facts.json").read_text())
    assert f"step {facts['step']}: the loss or its gradients are not finite" in caplog.text
    assert "toy/5" in facts["keys"] and facts["experiment"]["train"]["steps"] == 16
    image = load_file(incident / "batch.safetensors")["0.inputs.image"]
    assert image.isnan().any() and len(image) == 4
    assert load_file(incident / "model.safetensors").keys() == tensors["model"].keys()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12, 16]
    assert all(math.isfinite(line["loss"]) for line in lines)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_a_bad_step_is_as_if_it_had_not_been(tmp_path, optimizer):
    """Bit for bit, in everything that a step changes; the average alone goes on towards the weights."""
    trainer = make_trainer(tmp_path, train__optimizer__name=optimizer)
    good = trainer.stream[0]
    bad = replace(good, inputs=replace(good.inputs, image=good.inputs.image * torch.nan))
    trainer.training_step(iter([good]))
    before = copy.deepcopy(trainer.module.state_dict())
    moments = copy.deepcopy(optim.optimizer_tensors(trainer.optimizer.optimizer, trainer.module))
    trainer.training_step(iter([bad]))
    assert all(torch.equal(v, before[k]) for k, v in trainer.module.state_dict().items())
    after = optim.optimizer_tensors(trainer.optimizer.optimizer, trainer.module)
    assert all(torch.equal(v, moments[k]) for k, v in after.items())
    trainer.training_step(iter([good]))
    assert not torch.equal(trainer.module.state_dict()["head.weight"], before["head.weight"])


def test_losses_that_stay_no_numbers_end_the_run(tmp_path):
    data = {"toy": {"samples": 1, "poison": 0}}
    with pytest.raises(TrainingError, match=r"3 steps in a row up to step 2.*bad_steps.*optimizer\.lr"):
        fit(tmp_path, data__train=data, train__steps=20, train__bad_steps=3)
    assert len(list((tmp_path / "bad_steps").iterdir())) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__losses": {"jonts": 1.0}}, "train.losses: unknown loss 'jonts', did you mean 'joints'"),
        ({"train__losses": {"mask": 1.0}}, "train.losses: loss 'mask' needs mask"),
        ({"train__losses": {}}, "train.losses is empty"),
        ({"train__optimizer__name": "adamww"}, "did you mean 'adamw'"),
        ({"train__optimizer__schedule": "cosin"}, "did you mean 'cosine'"),
        ({"train__precision": "bf61"}, "did you mean 'bf16'"),
        ({"train__ema": 1.5}, "train.ema: 1.5"),
        ({"train__steps": 0}, "train.steps: 0"),
        ({"train__batch_size": 3, "train__accumulate": 2}, "does not split into 2"),
        ({"model__name": "toi"}, "model.name: no model named 'toi', did you mean 'toy'"),
        ({"model__droput": 1}, "unknown key 'model.droput', did you mean 'dropout'"),
        ({"data__train": {"toi": {}}}, "data.train.toi: no dataset named 'toi', did you mean 'toy'"),
        ({"data__train": {"toy": {"sampels": 3}}}, "'data.train.toy.sampels', did you mean 'samples'"),
        ({"data__train": {"toy": {"weight": -1}}}, "data.train.toy.weight: -1"),
        ({"data__augment": {"rotatoin": 3}}, "unknown key 'data.augment.rotatoin', did you mean"),
    ],
)
def test_mistakes_are_told_before_the_first_step(tmp_path, changes, message):
    with pytest.raises(ConfigError) as caught:
        fit(tmp_path, **changes)
    assert message in str(caught.value)
    assert not checkpoint.paths(tmp_path)


def poison_gradients(monkeypatch, steps: set[int]) -> None:
    """A loss as good as ever whose slope is no number, at the given steps."""
    losses = train.Trainer.losses

    def poisoned(trainer, batch):
        terms = losses(trainer, batch)
        if trainer.step in steps:
            zero = next(trainer.module.parameters()).flatten()[0] * 0
            terms["loss"] = terms["loss"] + zero.sqrt()
        return terms

    monkeypatch.setattr(train.Trainer, "losses", poisoned)


def test_gradients_that_are_no_numbers_cost_a_step_not_the_weights(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    poison_gradients(monkeypatch, {2})
    assert fit(tmp_path, train__steps=5)
    assert "step 2: the loss or its gradients are not finite" in caplog.text
    tensors = checkpoint.latest(tmp_path).tensors
    assert all(value.isfinite().all() for group in GROUPS for value in tensors[group].values())


def test_bf16_trains_with_losses_in_float32(tmp_path, monkeypatch):
    predicted, compared, losses, supervised = [], [], [], train.supervised_losses

    def spy(prediction, *arguments, **options):
        terms = supervised(prediction, *arguments, **options)
        compared.append(prediction.joints.dtype)
        losses.extend(value.dtype for value in terms.values())
        return terms

    monkeypatch.setattr(train, "as_float", lambda p: predicted.append(p.joints.dtype) or evaluate.as_float(p))
    monkeypatch.setattr(train, "supervised_losses", spy)
    assert fit(tmp_path, train__steps=2, train__precision="bf16")
    weights = checkpoint.latest(tmp_path).tensors["model"]["head.weight"]
    assert predicted == [torch.bfloat16] * 2
    assert weights.dtype == torch.float32 and compared == losses == [torch.float32] * 2


def test_evaluation_depends_on_neither_batch_size_nor_share():
    exp = experiment()
    hand = assembly.load_hand(exp)
    model, data = assembly.build_model(exp, hand), assembly.build_tests(exp, hand)["toy"]
    model.train()
    run = lambda **options: evaluate.evaluate({"m": model}, data, progress=False, **options)["m"]  # noqa: E731
    whole = run(batch_size=10)
    assert len(whole) == 10 and model.training
    for other in (run(batch_size=3), run(batch_size=1)):
        assert other.summary() == pytest.approx(whole.summary(), rel=1e-5)
    shares = [run(batch_size=3, share=(rank, 2)) for rank in (0, 1)]
    shares[0].merge(shares[1])
    assert shares[0].summary() == pytest.approx(whole.summary(), rel=1e-5)
    assert len(run(samples=4)) == 4


def test_scalars_reach_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(tmp_path, train__steps=4, train__log_every=2)
    events = EventAccumulator(str(tmp_path)).Reload()
    tags = set(events.Tags()["scalars"])
    names = ("loss", "loss/joints", "lr", "grad_norm", "images_per_second", "waiting")
    assert tags >= {f"train/{n}" for n in names}
    assert [e.step for e in events.Scalars("train/loss")] == [2, 4]


def test_schedules():
    config = OptimizerConfig(lr=1.0, schedule="step", warmup=4)
    rates = [optim.learning_rate(config, step, 20) for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[9] == 1.0 and rates[10] == pytest.approx(0.1)
    cosine = [optim.learning_rate(OptimizerConfig(lr=2.0, schedule="cosine"), step, 100) for step in (0, 50, 100)]
    assert cosine == pytest.approx([2.0, 2 * (0.01 + 0.99 / 2), 0.02])


def test_averaged_weights_follow_and_step_aside():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    ema = optim.Ema(model, decay=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model[0].weight += 1.0
        model[1].num_batches_tracked += 3
    ema.update(model, step=1000)
    torch.testing.assert_close(ema.average["0.weight"], before["0.weight"] + 0.5)
    assert ema.average["1.num_batches_tracked"] == 3
    own = model[0].weight.detach().clone()
    with ema.applied_to(model):
        assert torch.equal(model[0].weight, ema.average["0.weight"])
    assert torch.equal(model[0].weight, own)


def test_a_checkpoint_names_the_machine():
    said = log.provenance()
    assert said["threads"] == str(torch.get_num_threads()) and int(said["cores"]) >= 1 and said["processor"]
    assert said["torch"] == torch.__version__ and "gpu" not in said
