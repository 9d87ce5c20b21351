"""The stopwatch and the benchmark command: what is timed, compared, written, refused; fast, slow and plain agree."""

import json
import mmap
import time

import pytest
import torch

import tiny
from mesh_graphormer_hand.cli import benchmark
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import HandInputs
from mesh_graphormer_hand.engine import timing
from mesh_graphormer_hand.engine.timing import Case
from mesh_graphormer_hand.models._fast import optimise
from mesh_graphormer_hand.models._slow import PlainAttention, SparseGraphConv, published


def test_ratios_are_per_item_against_the_baseline(monkeypatch):
    """A call that takes as long for four times the items is four times faster; in turns, after the warm-up."""
    calls = []
    cases = {"slow": Case(lambda: calls.append("slow"), 1), "fast": Case(lambda: calls.append("fast"), 4, note="x")}
    took = iter([0.02, 0.02, 0.06, 0.03, 0.02, 0.01])  # three rounds, in which they differ 1, 2 and 2 times

    def stopwatch(call, device, clock):
        call()
        return next(took)

    monkeypatch.setattr(timing, "stopwatch", stopwatch)
    slow, fast = timing.compare(cases, "slow", rounds=3, warmup=2)
    assert calls == ["slow", "fast"] * 5
    assert (slow.ratio, fast.ratio) == (1, 8) and (slow.seconds, fast.seconds) == (0.02, 0.02)
    assert fast.rate == 200 and fast.note == "x"
    lines = timing.table("what", [slow, fast]).splitlines()
    assert lines[0].startswith("| what | ms an image") and lines[3].startswith("| fast | 5 | 200 | 8.00 |")


def test_cpu_clock_does_not_count_waiting():
    assert timing.stopwatch(lambda: time.sleep(0.2), clock="cpu") < 0.1 < timing.stopwatch(lambda: time.sleep(0.2))


def test_memory_is_the_peak_of_the_call():
    held = timing.peak_memory(lambda: time.sleep(0.01))
    if held is None:
        pytest.skip("this system does not tell")

    def touch() -> None:
        with mmap.mmap(-1, 64 * 2**20) as block:  # not the allocator's: it may have kept what other tests freed
            block.write(b"1" * len(block))
            time.sleep(0.05)

    assert held < 16 and 48 < timing.peak_memory(touch) < 160


@pytest.mark.parametrize(("rounds", "warmup", "baseline"), [(0, 1, None), (1, 0, None), (1, 1, "other")])
def test_impossible_comparisons_are_refused(rounds, warmup, baseline):
    with pytest.raises(ConfigError):
        timing.compare({"a": Case(lambda: None)}, baseline, rounds, warmup)


@pytest.mark.parametrize("keypoints", [0, 16])
def test_slow_twin_is_the_model_and_the_fast_one_the_twin(keypoints):
    """Values of the obvious way, the model's own and the fast way are one; each in its own words."""
    model = tiny.build({**tiny.GRAPHORMER, "keypoints": keypoints}).eval()
    slow, fast = published(model), optimise(model)
    kinds = {type(module) for module in slow.modules()}
    assert {PlainAttention, SparseGraphConv} <= kinds
    assert {id(p) for p in slow.parameters()} == {id(p) for p in model.parameters()}, "copied, not shared"
    inputs = HandInputs(image=torch.rand(3, 3, 64, 64))
    gradients = []
    for network in (slow, model):
        prediction = network(inputs)
        (prediction.vertices.square().sum() + prediction.joints_2d.square().mean()).backward()
        gradients.append([None if p.grad is None else p.grad.clone() for p in model.parameters()])
        model.zero_grad()
    for a, b in zip(*gradients, strict=True):
        assert (a is None) is (b is None)
        assert a is None or float((a - b).abs().max()) <= 1e-3 * float(a.abs().max()) + 1e-5
    with torch.inference_mode():
        answers = [m(inputs) for m in (slow, model, fast)]
    for name in ("vertices", "joints_2d", "camera"):
        a, b, c = (getattr(answer, name) for answer in answers)
        assert float((a - b).abs().max()) < 1e-5 * float(a.abs().max()), name
        assert float((a - c).abs().max()) < 1e-4 * float(a.abs().max()), name


def test_command_writes_tables_and_numbers(tmp_path, capsys, monkeypatch):
    from mesh_graphormer_hand.cli import benchmark_cases as cases

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
    [(["rendr"], "did you mean 'render'"), (["render", "--batch", "0"], "--batch"), (["--rounds", "0"], "--rounds")],
)
def test_mistakes_are_told(arguments, says, capsys):
    assert benchmark.main(arguments) == 2
    assert says in capsys.readouterr().err


def test_goals_stand_beside_their_figures():
    """A bound that is met, one that is missed, a row without one, and one whose figure is not there."""
    from mesh_graphormer_hand.cli import benchmark_goals as goals

    title = "forward, graphormer, batch 8"
    rows = [
        timing.Timing("optimised", 0.5, 0.0, 8, 1.6, None, "vertices within 1e-6"),
        timing.Timing("optimised, bfloat16", 0.5, 0.0, 8, 2.4, None),
        timing.Timing("as it stands", 0.5, 0.0, 8, 1.0, None),
        timing.Timing("optimised", 0.5, 0.0, 8, None, None),
    ]
    notes = [row.note for row in goals.judge(title, rows)]
    assert notes[0] == "vertices within 1e-6; at least 1.5 times: met"
    assert notes[1:] == ["at least 2.5 times: missed", "", ""]
    slow = timing.Timing("demo", 6.5, 0.0, 1, None, None)
    assert goals.judge("first prediction", [slow])[0].note == "at most 6 s: missed"


def test_growth_with_samples_is_told(monkeypatch):
    from mesh_graphormer_hand.cli import benchmark_cases, benchmark_growth

    monkeypatch.setattr(benchmark_growth, "SAMPLES", (100, 1000))
    rows = benchmark_growth._orders(benchmark_cases.Options([], [1], rounds=1))
    assert [row.name for row in rows] == ["100 samples", "1000 samples"] and rows[0].ratio == 1


@pytest.mark.slow
def test_processes_add_up_gradients():
    from mesh_graphormer_hand.cli import benchmark_growth

    rows = benchmark_growth.ranks(1)
    assert [row.name for row in rows] == list(benchmark_growth.EXCHANGED) and all("GB/s" in row.note for row in rows)


def test_render_part_runs():
    from mesh_graphormer_hand.cli import benchmark_cases as cases

    titles = [title for title, timings, _ in cases.render(cases.Options([], [1], rounds=1)) if timings]
    assert len(titles) == 5
