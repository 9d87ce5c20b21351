"""training.precision: bfloat16 where the device computes in it, float32 where that would be emulated; Muon follows."""

import logging
import os
import subprocess
import sys

import pytest
import torch
from accelerate.state import AcceleratorState

from helpers.places import ROOT
from mesh_graphormer_hand.config import Experiment
from mesh_graphormer_hand.training import launch, muon, precision


@pytest.fixture(autouse=True)
def fresh():
    """What one test makes of the device is no other's."""
    AcceleratorState._reset_state(True)
    precision._choose.cache_clear()
    yield
    precision._choose.cache_clear()


@pytest.mark.parametrize(("gain", "chosen"), [(9.0, "bf16"), (1.05, "fp32"), (0.2, "fp32")])
def test_a_processor_is_measured(monkeypatch, gain, chosen):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(precision, "measured_gain", lambda: gain)
    choice = precision.choose("cpu")
    assert choice.precision == chosen and f"{gain:.2g} times" in choice.why


def test_one_thread_is_measured_by_its_own_time(monkeypatch):
    """So that a busy machine does not choose the type; torch has its threads again afterwards."""

    def ticks():
        now = 0.0
        for seconds in (1, 2, 0.5, 0.25) * (1 + precision.ROUNDS):  # float32's product and convolution, bfloat16's
            yield now
            now += seconds
            yield now

    threads, convolve, clock = [], torch.conv2d, ticks()
    monkeypatch.setattr(torch, "conv2d", lambda *a, **k: threads.append(torch.get_num_threads()) or convolve(*a, **k))
    monkeypatch.setattr(precision.time, "thread_time", lambda: next(clock))
    monkeypatch.setattr(precision.time, "perf_counter", lambda: pytest.fail("a clock that others make run"))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert precision.measured_gain() == 4.0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(threads) == {1}


def test_a_processor_whose_kernels_refuse_is_not(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    monkeypatch.setattr(precision, "measured_gain", lambda: pytest.fail("it would be emulated for seconds"))
    assert precision.choose("cpu") == precision.Choice("fp32", "this processor has no bfloat16 units")


@pytest.mark.parametrize(("computes", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_is_asked_for_its_own_units(monkeypatch, computes, chosen):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: computes or including_emulation
    )
    assert precision.choose("cuda:3").precision == chosen


def test_auto_becomes_what_it_stands_for(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(launch, "choose", lambda device: precision.Choice("fp32", "so it was said"))
    experiment = Experiment()
    assert experiment.train.precision == "auto"
    launch.make_accelerator(experiment)
    assert experiment.train.precision == "fp32" and "train.precision: fp32 (so it was said)" in caplog.text


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_muon_iterates_in_the_type_that_the_device_computes_in(monkeypatch, kind):
    used, product = [], torch.baddbmm
    monkeypatch.setattr(
        muon, "choose", lambda device: precision.Choice("bf16" if kind is torch.bfloat16 else "fp32", "")
    )
    monkeypatch.setattr(
        muon.torch, "baddbmm", lambda a, *rest, **more: used.append(a.dtype) or product(a, *rest, **more)
    )
    step = muon.orthogonal(torch.randn(1, 8, 12))
    assert set(used) == {kind} and step.dtype is torch.float32


@pytest.mark.slow
def test_an_environment_without_units_is_heeded():
    """Whatever this processor has."""
    code = "from mesh_graphormer_hand.training import precision as p; print(p.choose('cpu').precision)"
    limits = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    environment = os.environ | limits | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout.strip() == "fp32", done.stderr
