"""The stopwatch and the benchmark command: what is timed, compared, written, refused; fast, slow and plain agree."""

import json
import logging
import mmap
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from benchmarks import __main__ as benchmark
from benchmarks import timing
from benchmarks.reference import PlainAttention, SparseGraphConv, published
from benchmarks.timing import Case
from helpers import tiny
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import HandInputs
from mesh_graphormer_hand.evaluation.cost import forward_flops
from mesh_graphormer_hand.inference.network import for_prediction
from mesh_graphormer_hand.training import memory
from mesh_graphormer_hand.training.precision import choose


def test_ratios_are_per_item_against_the_baseline(monkeypatch):
    """A call that takes as long for four times the items is four times faster; in turns, after the warm-up."""
    calls = []
    cases = {"slow": Case(lambda: calls.append("slow"), 1), "fast": Case(lambda: calls.append("fast"), 4, note="x")}
    # a warm-up round, then three rounds, in which they differ 1, 2 and 2 times
    took = iter([9.0, 7.0, 0.02, 0.02, 0.06, 0.03, 0.02, 0.01])

    def stopwatch(call, device, clock):
        call()
        return next(took)

    monkeypatch.setattr(timing, "stopwatch", stopwatch)
    slow, fast = timing.compare(cases, "slow", rounds=3, warmup=2)
    assert calls == ["slow", "fast"] * 5
    assert (slow.ratio, fast.ratio) == (1, 8) and (slow.seconds, fast.seconds) == (0.02, 0.02)
    assert fast.rate == 200 and fast.note == "x"
    lines = timing.table("what", [slow, fast]).splitlines()
    assert lines[0].startswith("| what | ms per image | image/s |") and lines[3].startswith("| fast | 5 | 200 | 8.00 |")


def test_cpu_clock_does_not_count_waiting():
    assert timing.stopwatch(lambda: time.sleep(0.2), clock="cpu") < 0.1 < timing.stopwatch(lambda: time.sleep(0.2))


def test_a_case_may_tell_its_own_seconds():
    """Those of another process count, not the wait for its answer; its memory is not known."""

    def ask() -> float:
        time.sleep(0.02)
        return 0.001

    other, here = timing.compare({"other": Case(ask, tells=True), "here": Case(partial(time.sleep, 0.02))}, rounds=3)
    assert other.seconds == 0.001 and other.memory_mib is None and here.seconds >= 0.02


def test_work_counts_two_operations_a_product_with_its_sum():
    product = timing.multiplication(torch.float32)
    result = product.call()
    assert result.dtype is torch.float32 and product.items == 2 * result.shape[0] ** 3
    assert timing.multiplication(torch.bfloat16).call.args[0].dtype is torch.bfloat16

    class Attention(torch.nn.Module):
        def forward(self, inputs):
            return torch.nn.functional.scaled_dot_product_attention(inputs, inputs, inputs)

    assert forward_flops(Attention(), torch.rand(1, 2, 30, 8)) == 2 * 2 * 2 * 30 * 30 * 8  # heads, products, operations


def test_memory_is_the_peak_of_the_call():
    held = memory.peak_memory(lambda: time.sleep(0.01))
    if held is None:
        pytest.skip("this system does not tell")

    def touch() -> None:
        with mmap.mmap(-1, 64 * 2**20) as block:  # not the allocator's: it may have kept what other tests freed
            block.write(b"1" * len(block))
            time.sleep(0.05)

    assert held < 16 and 48 < memory.peak_memory(touch) < 160


@pytest.mark.parametrize(("rounds", "warmup", "baseline"), [(0, 1, None), (1, 0, None), (1, 1, "other")])
def test_impossible_comparisons_are_refused(rounds, warmup, baseline):
    with pytest.raises(ConfigError):
        timing.compare({"a": Case(lambda: None)}, baseline, rounds, warmup)


@pytest.mark.parametrize("options", [tiny.GRAPHORMER, tiny.LITE], ids=["published", "lite"])
def test_slow_twin_is_the_model_and_the_copy_for_prediction(options):
    """Values of the obvious way, the model's own and the fast way are one; each in its own words."""
    model = tiny.build(options).eval().double()  # a camera fitted to flat heat maps magnifies roundings
    slow, fast = published(model), for_prediction(model)
    kinds = {type(module) for module in slow.modules()}
    assert {PlainAttention, SparseGraphConv} <= kinds
    assert {id(p) for p in slow.parameters()} == {id(p) for p in model.parameters()}, "copied, not shared"
    inputs = HandInputs(image=torch.rand(3, 3, 64, 64).double())
    gradients = []
    for network in (slow, model):
        prediction = network(inputs)
        (prediction.vertices.square().sum() + prediction.joints_2d.square().mean()).backward()
        gradients.append([None if p.grad is None else p.grad.clone() for p in model.parameters()])
        model.zero_grad()
    for a, b in zip(*gradients, strict=True):
        assert (a is None) is (b is None)
        assert a is None or float((a - b).abs().max()) <= 1e-5 * float(a.abs().max()) + 1e-9
    with torch.inference_mode():
        answers = [m(inputs) for m in (slow, model, fast)]
    for name in ("vertices", "joints_2d", "camera"):
        a, b, c = (getattr(answer, name) for answer in answers)
        assert float((a - b).abs().max()) < 1e-5 * float(a.abs().max()), name
        assert float((a - c).abs().max()) < 1e-4 * float(a.abs().max()), name


def test_command_writes_tables_and_numbers(tmp_path, capsys, monkeypatch):
    from benchmarks import cases as cases

    def toy(options):
        assert options.batches == [2] and options.rounds == 2
        yield "toy", timing.compare({"a": Case(lambda: None)}, "a", options.rounds), "image"

    monkeypatch.setitem(cases.RUNNERS, "render", toy)
    files = ["--json", str(tmp_path / "x.json"), "--markdown", str(tmp_path / "x.md")]
    assert benchmark.main(["render", "--batch", "2", "--rounds", "2", *files]) == 0
    report = json.loads((tmp_path / "x.json").read_text())
    assert report["parts"]["render"]["toy"][0]["ratio"] == 1.0 and report["machine"]["threads"] == 1
    assert "| toy |" in (tmp_path / "x.md").read_text() and "| toy |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rendr"], "did you mean 'render'"),
        (["render", "--batch", "0"], "--batch"),
        (["--rounds", "0"], "--rounds"),
        (["pipeline", "--mediapipe", "nowhere/python"], "nowhere/python: no such file"),
    ],
)
def test_mistakes_are_told(arguments, says, capsys):
    assert benchmark.main(arguments) == 2
    assert says in capsys.readouterr().err


def test_goals_stand_beside_their_figures():
    """A bound that is met, one that is missed, a row without one, and one whose figure is not there."""
    from benchmarks import goals as goals

    title = "forward, graphormer, batch 8"
    rows = [
        timing.Timing("ONNX Runtime", 0.5, 0.0, 8, 1.6, None, "vertices within 1e-6"),
        timing.Timing("torch, bfloat16", 0.5, 0.0, 8, 2.4, None),
        timing.Timing("as it stands", 0.5, 0.0, 8, 1.0, None),
        timing.Timing("ONNX Runtime", 0.5, 0.0, 8, None, None),
    ]
    notes = [row.note for row in goals.judge(title, rows)]
    assert notes[0] == "vertices within 1e-6; at least 1.5 times: met"
    assert notes[1:] == ["at least 2.5 times: missed", "", ""]
    slow = timing.Timing("demo", 6.5, 0.0, 1, None, None)
    assert goals.judge("first prediction", [slow])[0].note == "at most 6 s: missed"


def test_goals_are_of_a_kind_of_device():
    from benchmarks import goals as goals

    rows = [timing.Timing("224 px", 1.0, 0.0, 200, None, None)]
    by_device = [goals.judge("virtual samples by pixels, 16 a call", rows, d)[0].note for d in ("cpu", "cuda:0")]
    assert by_device == ["at least 120 a second: met", "at least 5000 a second: missed"]
    fast = timing.Timing("bfloat16", 1.0, 0.0, 1, None, None, peak=0.41)
    fed = timing.Timing("bfloat16, fed by new virtual hands", 1.0, 0.0, 1, None, None, waiting=0.2)
    notes = [row.note for row in goals.judge("training step, graphormer, batch 64", [fast, fed], "cuda")]
    assert notes == ["at least 40% of the matrix rate: met", "at most 5% waiting: missed"]
    assert [row.note for row in goals.judge("training step, graphormer, batch 4", [fast, fed])] == ["", ""]


class Late:
    """Batches that each take a while."""

    def __init__(self, batch):
        self.batch = batch

    def __getitem__(self, index):
        time.sleep(0.3)
        return self.batch


@pytest.mark.slow
def test_training_tells_share_of_peak_and_waiting(tmp_path, monkeypatch):
    from benchmarks import cases as cases
    from benchmarks import scenes as benchmark_scenes
    from benchmarks import train as benchmark_train

    late = Late(benchmark_scenes.moving_hand(0, 4, 64))
    monkeypatch.setattr(benchmark_train.assembly, "build_stream", lambda *_, **__: late)
    monkeypatch.setattr(benchmark_train, "SMALL_MODEL_BATCH", 4)
    settings = {
        "model": tiny.GRAPHORMER,
        "data": {"image_size": 64, "workers": 0},
        "train": {"losses": {"vertices": 1.0}},
    }
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(settings))
    [(title, rows, _)] = list(benchmark_train.train(cases.Options([str(file)], [1], rounds=2)))
    assert title.endswith("batch 4")
    assert [row.name for row in rows] == ["float32", "bfloat16", "auto", "auto, fed by new virtual hands"]
    assert all(0 < row.peak < 1 and row.waiting is None for row in rows[:3])
    assert "of the faster" in rows[2].note and choose("cpu").why in rows[2].note
    assert rows[3].waiting == pytest.approx(0.3 / rows[3].seconds, rel=0.3) and rows[3].seconds > 0.3


def test_generation_shows_every_case_the_same_new_samples(monkeypatch):
    from benchmarks import cases as cases

    shown = {}

    class Counted:
        def __init__(self, options, size):
            self.key = size, options["mesh_faces"]

        def load(self, indices, device):
            shown.setdefault((*self.key, len(indices)), []).extend(indices)

    monkeypatch.setattr(cases.assembly, "build_dataset", lambda name, raw, split, hand, size: Counted(raw, size))
    tables = {title: rows for title, rows, _ in cases.generate(cases.Options([], [1], rounds=2))}
    assert [len(rows) for rows in tables.values()] == [3, 3, 3]
    assert shown[224, 0, 1] == [0, 16, 32], "each call draws a block anew"
    assert shown[224, 0, 64] == list(range(192)) and shown[448, 0, 16] == list(range(48))


FAKE = """#!{python}
import json, sys, time
head = json.loads(sys.stdin.buffer.readline())
photo = sys.stdin.buffer.read(head["shape"][0] * head["shape"][1] * 3)
print(json.dumps({{"hands": sum(photo)}}), flush=True)
while sys.stdin.buffer.readline():
    time.sleep(0.01)
    print(json.dumps({{"seconds": 0.002}}), flush=True)
"""


def test_mediapipe_times_itself(tmp_path):
    from benchmarks.media_pipe import MediaPipe

    fake = tmp_path / "python"
    fake.write_text(FAKE.format(python=sys.executable))
    fake.chmod(0o755)
    process = MediaPipe(fake, np.ones((4, 5, 3), np.uint8))
    assert process.hands == 60 and process() == process() == 0.002


@pytest.mark.parametrize(
    ("python", "why"),
    [(None, "--mediapipe names"), (sys.executable, "No module named 'mediapipe'"), ("/bin/true", "has ended")],
)
def test_mediapipe_is_left_out_aloud(python, why, monkeypatch, caplog):
    from benchmarks import cases as cases

    monkeypatch.setattr(cases, "photo", lambda: np.zeros((480, 640, 3), np.uint8))
    with caplog.at_level(logging.WARNING):
        assert cases._mediapipe(cases.Options([], [1], mediapipe=python and Path(python))) == {}
    assert "MediaPipe is left out" in caplog.text and why in caplog.text


def test_photo_shows_a_hand_in_a_cameras_format():
    from benchmarks import scenes as scenes

    photo = scenes.photo()
    assert photo.shape == (480, 640, 3) and photo.dtype == np.uint8
    assert (photo[:, :80] == photo[:, :1]).all() and photo[:, 80:560].std() > 10


@pytest.mark.slow
def test_video_part_follows_the_hand(monkeypatch, capsys):
    from benchmarks import cases as cases
    from benchmarks import video as benchmark_video

    monkeypatch.setattr(benchmark_video, "FRAMES", 4)
    monkeypatch.setattr(benchmark_video, "SIZE", 128)
    [(title, [row], unit)] = list(benchmark_video.video(cases.Options([], [1], rounds=1, onnx=False)))
    assert title == "video, 4 frames of 128 x 128 px" and unit == "frame"
    assert row.items == 4 and row.note == "hands in 4 frames" and capsys.readouterr().out == ""


def test_growth_with_samples_is_told(monkeypatch):
    from benchmarks import cases as benchmark_cases
    from benchmarks import growth as benchmark_growth

    monkeypatch.setattr(benchmark_growth, "SAMPLES", (100, 1000))
    rows = benchmark_growth._orders(benchmark_cases.Options([], [1], rounds=1))
    assert [row.name for row in rows] == ["100 samples", "1000 samples"] and rows[0].ratio == 1


@pytest.mark.slow
def test_processes_add_up_gradients():
    from benchmarks import growth as benchmark_growth

    rows = benchmark_growth.ranks(1)
    assert [row.name for row in rows] == list(benchmark_growth.EXCHANGED) and all("GB/s" in row.note for row in rows)


def test_render_part_runs():
    from benchmarks import cases as cases

    titles = [title for title, timings, _ in cases.render(cases.Options([], [1], rounds=1)) if timings]
    assert len(titles) == 5
