"""Runs that end badly: killed at any moment, a checkpoint torn, a disk full, two in one folder; many processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers import forked, survival
from helpers.places import TOY_TRAIN
from mesh_graphormer_hand.training import checkpoint
from mesh_graphormer_hand.training.launch import LockedError, RunLock

CPU = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
PLAIN = ["model.norm=false", "model.dropout=0"]


def launch(root: Path, name: str, processes: int, *overrides: str) -> str:
    """Train the toy in `processes` processes (gloo), with what torch.distributed.run sets for each; what they print."""
    port = forked.free_port()
    ranks = [forked.rank_environment(rank, processes, port) if processes > 1 else {} for rank in range(processes)]
    log = root / f"{name}.txt"
    log.unlink(missing_ok=True)
    started = [survival.start(root, name, *PLAIN, *overrides, environment=environment) for environment in ranks]
    codes = [survival.finish(process) for process in started]
    assert codes == [0] * processes, log.read_text()
    return log.read_text()


def launch_by_torch(root: Path, name: str, processes: int, *overrides: str) -> None:
    """Train the toy by torch.distributed.run, as docs/scaling.md says."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command += [str(TOY_TRAIN), str(root / "toy.yaml"), f"train.name={name}", *PLAIN, *overrides]
    done = subprocess.run(command, env=CPU, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_killed_at_random_moments_equals_untouched(tmp_path):
    """python tests/helpers/survival.py does it 20 times in 400 steps."""
    found = survival.kill_and_resume(tmp_path, kills=4, steps=120)
    assert found["kills"] == 4


@pytest.mark.slow
def test_newest_file_cut_in_half_costs_steps_and_is_named(tmp_path):
    survival.prepare(tmp_path, 12)
    for name in ("whole", "cut"):
        assert survival.finish(survival.start(tmp_path, name)) == 0, (tmp_path / f"{name}.txt").read_text()
    newest = tmp_path / "cut" / "step_000012" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    assert survival.finish(survival.start(tmp_path, "cut")) == 0
    said = (tmp_path / "cut.txt").read_text()
    assert "broken checkpoint left aside" in said and "step_000012/model.safetensors" in said
    assert "continuing from" in said and "step_000010" in said
    survival.compare(tmp_path / "whole", tmp_path / "cut")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MiB; without the right to mount one, None."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], capture_output=True
        ).returncode
    )
    yield disk if mounted else None
    if mounted:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_disk_with_room_for_one_and_a_half_checkpoints(tmp_path, small_disk, monkeypatch):
    """A clear line and exit code 2; the checkpoint that was there loads."""
    if small_disk is None:
        pytest.skip("no right to mount a small file system")
    monkeypatch.setattr(checkpoint, "SPARE_BYTES", 0)  # to meet the full disk itself, not our look ahead
    survival.prepare(tmp_path, 5, output=str(small_disk))
    assert survival.finish(survival.start(tmp_path, "run")) == 0, (tmp_path / "run.txt").read_text()
    size = sum(f.stat().st_size for f in (small_disk / "run" / "step_000005").iterdir())
    free = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - size // 2))
    monkeypatch.setattr(checkpoint, "_need_space", lambda root, needed: None)
    assert survival.finish(survival.start(tmp_path, "run", "train.steps=20")) == 2
    said = (tmp_path / "run.txt").read_text()
    assert "error: cannot write checkpoint" in said and "Earlier checkpoints are untouched" in said
    assert "Traceback" not in said
    assert checkpoint.latest(small_disk / "run").step == 5
    assert [p.name for p in checkpoint.paths(small_disk / "run")] == ["step_000005"]


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path):
    """The same global batch, cut in two (DDP, gloo); 50 steps, no dropout, no batch statistics; the same scores."""
    survival.prepare(tmp_path, 50, log_every=1, batch_size=8, checkpoint_every=50)
    launch(tmp_path, "one", 1, "data.test={toy: {samples: 34}}")
    launch_by_torch(tmp_path, "two", 2, "data.test={toy: {samples: 34}}")
    one, two = (survival.log(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 51
    for a, b in zip(one[:50], two[:50], strict=True):
        assert b["loss"] == pytest.approx(a["loss"], abs=1e-5)
    scores = [{name: value for name, value in run[50].items() if name != "of"} for run in (one, two)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-3)


@pytest.mark.slow
def test_sharded_run_saves_what_one_process_loads(tmp_path):
    """FSDP in two processes: an epoch of 64 samples; equal losses; each goes on as the other."""
    survival.prepare(tmp_path, 8, log_every=1, batch_size=8, checkpoint_every=4)
    launch(tmp_path, "one", 1)
    launch(tmp_path, "sharded", 2, "train.shard=true", "data.test={toy: {samples: 34}}")
    for a, b in zip(survival.log(tmp_path / "one"), survival.log(tmp_path / "sharded")[:8], strict=True):
        assert b["loss"] == pytest.approx(a["loss"], abs=1e-5)
    one, sharded = (checkpoint.latest(tmp_path / name) for name in ("one", "sharded"))
    assert one.step == sharded.step == 8
    for group in ("model", "ema", "optimizer"):
        assert one.tensors[group].keys() == sharded.tensors[group].keys()
        for name, value in one.tensors[group].items():
            torch.testing.assert_close(sharded.tensors[group][name], value, rtol=1e-4, atol=1e-6)
    assert json.loads((tmp_path / "sharded" / "metrics.json").read_text())["test"]["toy"]["model"]["mpjpe"] > 0
    said = launch(tmp_path, "sharded", 1, "train.steps=12")
    assert "continuing from" in said and "step_000008" in said
    said = launch(tmp_path, "one", 2, "train.steps=12", "train.shard=true")
    assert "step_000008" in said and checkpoint.latest(tmp_path / "one").step == 12


@pytest.mark.slow
def test_machines_without_a_shared_folder_are_told(tmp_path):
    """Two processes with a folder each: only the main one writes checkpoints, so the second start must stop."""
    survival.prepare(tmp_path, 4, checkpoint_every=4)
    apart = f"train.output={tmp_path}/machine_${{oc.env:RANK}}"
    launch(tmp_path, "run", 2, apart)
    with pytest.raises(AssertionError, match="process 0 finds step 4 to go on from, process 1 step 0"):
        launch(tmp_path, "run", 2, apart, "train.steps=8")


def test_one_trainer_a_folder(tmp_path):
    """The second is told who the first is; a lock whose holder is gone is no lock."""
    said = rf"trained in by process {os.getpid()} on .*train\.name"
    with RunLock(tmp_path), pytest.raises(LockedError, match=said), RunLock(tmp_path):
        pass
    with RunLock(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()}")
