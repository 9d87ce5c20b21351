"""training: what saves memory or time must not change what is learned; what goes wrong is told with its remedy."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.toy_runs import experiment, fit, make_trainer, template, toy_run, toys  # noqa: F401 (a fixture)
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import HandPrediction
from mesh_graphormer_hand.evaluation import pictures, report_html
from mesh_graphormer_hand.training import checkpoint, distributed, launch, log, memory, report
from mesh_graphormer_hand.training import dry_run as dry_runs
from mesh_graphormer_hand.training.activation_checkpointing import checkpoint_activations, checkpointed_layers
from mesh_graphormer_hand.training.batch_norms import batch_norms
from mesh_graphormer_hand.training.nonfinite import NonFiniteGuard
from mesh_graphormer_hand.training.trainer import TrainingError


class Block(nn.Module):
    """A residual layer with a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.drop = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.drop(self.norm(self.linear(x)).relu())


def test_computing_twice_changes_neither_gradients_nor_statistics():
    torch.manual_seed(1)
    model = nn.ModuleDict({"trunk": nn.Sequential(*(Block() for _ in range(3))), "head": nn.Linear(6, 2)})
    copy = nn.ModuleDict({"trunk": nn.Sequential(*(Block() for _ in range(3))), "head": nn.Linear(6, 2)})
    copy.load_state_dict(model.state_dict())
    assert checkpoint_activations(copy) == 3 and checkpointed_layers(copy) == list(copy["trunk"])
    x = torch.randn(8, 6)
    results = []
    for net in (model, copy):
        torch.manual_seed(2)
        net["head"](net["trunk"](x)).square().mean().backward()
        results.append([p.grad for p in net.parameters()] + list(net.buffers()))
    assert len(results[0]) == len(results[1]) > 0
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    copy.eval()
    assert torch.equal(copy["trunk"](x), model.eval()["trunk"](x))


def test_a_model_without_layers_to_compute_twice_is_told(tmp_path):
    with pytest.raises(ConfigError, match="train.gradient_checkpointing: this model has no layers"):
        fit(tmp_path, train__gradient_checkpointing=True)


def test_frozen_norms_keep_their_statistics(tmp_path):
    assert fit(tmp_path / "frozen", train__steps=2, train__freeze_norms=True)
    assert fit(tmp_path / "free", train__steps=2)
    frozen, free = (checkpoint.latest(tmp_path / name).tensors["model"] for name in ("frozen", "free"))
    assert frozen["body.1.num_batches_tracked"] == 0 and free["body.1.num_batches_tracked"] == 2
    assert torch.equal(frozen["body.1.running_mean"], torch.zeros(4))


def test_blocks_are_disjoint_and_have_children():
    wide = nn.Sequential(nn.Linear(40, 40), nn.ReLU())
    model = nn.ModuleDict({"list": nn.ModuleList([wide, nn.Linear(40, 40)]), "small": nn.Linear(2, 2)})
    assert distributed.blocks(model, small=1000) == [wide]
    assert distributed.blocks(model, small=10_000) == []


def test_sharding_takes_several_processes_and_no_fp16(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="train.shard needs several processes"):
        fit(tmp_path, train__shard=True)
    gpu = SimpleNamespace(device=torch.device("cuda"), distributed_type=DistributedType.NO)
    monkeypatch.setattr(launch, "Accelerator", lambda **options: gpu)  # on a CPU, fp16 is refused for another reason
    with pytest.raises(ConfigError, match=r"train\.shard goes with train\.precision=bf16 or fp32, not with fp16"):
        fit(tmp_path, train__shard=True, train__precision="fp16")


def test_fp16_is_refused_on_a_cpu_with_a_clear_word(tmp_path):
    with pytest.raises(ConfigError, match="train.precision: fp16 needs a GPU"):
        fit(tmp_path, train__precision="fp16")


def test_a_loss_scale_adapts_is_saved_and_loaded(tmp_path):
    """What fp16 adds, with a scaler of the CPU: the scale halves after a step that overflows, which is skipped."""
    trainer = make_trainer(tmp_path, scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    good = trainer.stream[0]
    before = trainer.module.head.weight.clone()
    bad = replace(good, inputs=replace(good.inputs, image=good.inputs.image * torch.nan))
    trainer.training_step(iter([bad]))
    assert trainer.accelerator.scaler.get_scale() == 512.0 and torch.equal(trainer.module.head.weight, before)
    trainer.training_step(iter([good]))
    assert not torch.equal(trainer.module.head.weight, before)
    trainer._checkpoint()
    again = make_trainer(tmp_path, scaler=torch.amp.GradScaler("cpu", init_scale=2.0))
    assert again.accelerator.scaler.get_scale() == 512.0


def test_out_of_memory_says_what_would_fit(tmp_path):
    trainer = make_trainer(tmp_path, train__batch_size=16)
    forward = trainer.module.forward

    def limited(inputs):
        if len(inputs.image) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(inputs)

    trainer.module.forward = limited
    with pytest.raises(TrainingError, match=r"16 samples at once are too many.* 4 would fit: train\.accumulate=4 .*"):
        trainer.training_step(iter([trainer.stream[0]]))


class Waits(TorchDispatchMode):
    """Names of the operations for which a GPU would have to be waited."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "is_nonzero", "equal"):
            self.seen.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_a_step_reads_nothing_from_the_device(tmp_path, monkeypatch):
    """Only the log does: a GPU is never waited for in between."""
    monkeypatch.setattr(NonFiniteGuard, "due", property(lambda self: False))  # as on a GPU
    trainer = make_trainer(tmp_path, train__optimizer={"name": "adamw", "clip_grad": 1.0})
    batch = trainer.stream[0]
    trainer.training_step(iter([batch]))
    with Waits() as waits:
        trainer.training_step(iter([batch]))
    assert waits.seen == []
    with Waits() as waits:
        float(trainer.module.head.bias.sum())
    assert waits.seen == ["_local_scalar_dense"]  # the test can fail


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((32, 1, 1, 12), "train.accumulate=4 keeps the batch of 32 and takes it in parts of 8"),
        ((32, 2, 2, 4), "train.accumulate=4 keeps the batch of 32 and takes it in parts of 4"),
        ((30, 1, 1, 0), "and so is one"),
    ],
)
def test_memory_advice_splits_evenly(arguments, said):
    assert said in memory.advice(*arguments)


def test_other_errors_are_not_taken_for_memory():
    assert memory.is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    assert not memory.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_compile_is_passed_on_and_its_failure_told(tmp_path, monkeypatch):
    """Without compiling: the shape checks of the tests are nothing for a compiler."""
    asked = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: asked.append(options))
    trainer = make_trainer(tmp_path, train__compile=True)
    assert asked == [{"dynamic": False}]

    def fail(inputs):
        raise torch._dynamo.exc.TorchDynamoException("no working C++ compiler\nmore")

    trainer.module.forward = fail
    with pytest.raises(TrainingError, match="train.compile=true: no working C.. compiler Try train.compile=false"):
        trainer.training_step(iter([trainer.stream[0]]))


def test_dry_run_measures_and_leaves_nothing(tmp_path):
    run = toy_run(tmp_path / "none")
    figures = dry_runs.estimate(run, launch.make_accelerator(run.experiment))
    weights = sum(p.numel() for p in run.model.parameters())
    assert sum(figures.parameters.values()) == weights
    # 16 x 16 pixels: 4 channels of 3 x 3 x 3, then 1024 x 63
    assert figures.flops == 2 * (256 * 4 * 27 + 1024 * 63)
    assert figures.static_bytes == pytest.approx(4 * weights * 5, rel=0.01)  # weights, gradient, Adam's two, average
    assert figures.sample_bytes > 4 * 256 * 4
    assert figures.timed_samples == figures.part_samples == 4 and figures.timed_steps >= 1
    assert figures.images_per_second > 0 and 0 <= figures.waiting < 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [1, 2])
def test_dry_run_of_a_run_too_short_to_time(tmp_path, steps):
    """It is timed all the same, on what its data would go on with, and frozen norms stay frozen."""
    run = toy_run(tmp_path / "none", train__steps=steps, train__freeze_norms=True)
    figures = dry_runs.estimate(run, launch.make_accelerator(run.experiment))
    assert figures.timed_steps == 1 and figures.images_per_second > 0
    assert run.experiment.train.steps == steps
    assert all(norm.num_batches_tracked == 0 for norm in batch_norms(run.model))


def test_the_log_goes_on_where_it_was(tmp_path):
    """A torn line and what comes after the checkpoint are dropped."""
    history = log.JsonlLog(tmp_path, 0)
    for step in (10, 20, 30):
        history.add(step, {"loss": 1 / step})
    with history.path.open("a") as file:
        file.write('{"step": 40, "lo')
    assert [e["step"] for e in log.read_log(tmp_path)] == [10, 20, 30]
    log.JsonlLog(tmp_path, 20)
    assert [e["step"] for e in log.read_log(tmp_path)] == [10, 20]


def test_a_window_leaves_bad_steps_out_and_goes_on_exactly():
    names = ["loss", "loss/a", "grad_norm"]
    window, bad = log.RunningMeans(names), torch.tensor(1.0)
    steps = [{"loss": torch.rand(()), "grad_norm": torch.rand(())} for _ in range(6)]
    window.add(steps[0])
    window.add({"loss": torch.tensor(torch.nan), "grad_norm": torch.tensor(1.0)}, bad)
    window.add(steps[1])
    other = log.RunningMeans(names)
    other.load(json.loads(json.dumps(window.state())), torch.device("cpu"))
    for step in steps[2:]:
        window.add(step)
        other.add(step)
    assert window.state() == other.state()
    assert window.report()["loss"] == pytest.approx(sum(float(s["loss"]) for s in steps) / 6)
    assert "loss/a" not in window.report()


def places(joints: torch.Tensor) -> HandPrediction:
    return HandPrediction(joints=joints, joints_2d=8 + 60 * joints[..., :2])


def test_pictures_and_report_hold_everything(tmp_path, monkeypatch):
    """Fixed samples in TensorBoard; the report is one file that refers to no other."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = make_trainer(tmp_path, train__steps=2)
    trainer.tests = {"toy": trainer.stream.source.datasets[0]}
    trainer.shown = trainer.stream[0]
    model = trainer.module
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda inputs: places(forward(inputs).joints))
    (tmp_path / "config.yaml").write_text("model:\n  name: toy\ndata:\n  train:\n    toy: {}\ntrain:\n  steps: 2\n")
    assert trainer.train()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["images"] == ["predictions"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 1 + 2 * report.EXTREMES
    for part in ("Best predictions on toy", "Worst predictions on toy", "Metrics on toy at step 2", "Curves", "commit"):
        assert part in page
    assert "<figcaption>train/loss/joints</figcaption>" in page and "toy: {}" in page
    assert "http" not in page and "src=" in page and 'src="data:' in page
    index = json.loads((tmp_path / "pictures" / "index.json").read_text())
    values = [float(entry["caption"].rpartition(" ")[2]) for entry in index[1:]]
    assert values == sorted(values)


def test_a_mesh_that_is_none_yet_is_drawn_as_joints():
    batch = make_batch()
    vertices = torch.full((2, 778, 3), torch.nan)
    prediction = HandPrediction(vertices=vertices, camera=torch.ones(2, 3), joints_2d=torch.full((2, 21, 2), 8.0))
    assert len(pictures.draw(batch, prediction, template())) == 2


def test_a_mask_is_drawn_where_there_is_nothing_else():
    """hand_seg_net's answer was the bare crop."""
    batch = make_batch()
    logits = torch.full((2, 16, 16), -4.0)
    logits[:, :, 8:] = 4
    (bare, *_), (drawn, *_) = (
        pictures.draw(batch, prediction, None) for prediction in (HandPrediction(), HandPrediction(mask=logits))
    )
    changed = (bare != drawn).any(-1)[:, -pictures.PICTURE_PX :]  # of the prediction, on the right
    assert not changed[:, : pictures.PICTURE_PX // 2 - 20].any() and changed[:, pictures.PICTURE_PX // 2 + 20 :].all()


def make_batch():
    return assembly.build_tests(experiment(), assembly.load_hand(experiment()))["toy"].load([0, 1])


def test_curves_are_drawn_whatever_the_values():
    for points in ([], [(1.0, 2.0)], [(1.0, 0.0), (2.0, 0.0)], [(1.0, 1e-4), (9.0, 10.0)], [(1.0, float("nan"))]):
        assert report_html.curve(points).startswith("<svg")
    assert "0.0316" in report_html.curve([(1.0, 1e-4), (9.0, 10.0)])  # the middle of a logarithmic axis
