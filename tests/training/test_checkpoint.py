"""training.checkpoint: what is written is read back equal; what is torn is named and the one before it used."""

import errno
import json
import shutil

import pytest
import torch

from mesh_graphormer_hand.training import checkpoint
from mesh_graphormer_hand.training.checkpoint import CheckpointError


def tensors(value: float = 1.0) -> dict:
    return {
        "model": {
            "weight": torch.full((2, 3, 4, 4), value).to(memory_format=torch.channels_last),
            "n": torch.tensor(7),
        },
        "optimizer": {"exp_avg/weight": torch.rand(2, 3)},
    }


@pytest.fixture
def run(tmp_path):
    """A run's folder with checkpoints of steps 5 and 10."""
    for step in (5, 10):
        checkpoint.save(tmp_path, step, tensors(step), {"note": "x"})
    return tmp_path


def test_round_trip_is_equal_bit_for_bit(tmp_path):
    given = tensors()
    path = checkpoint.save(tmp_path, 500, given, {"note": "x", "rate": 0.1})
    assert path.name == "step_000500"
    read = checkpoint.load(path)
    assert read.step == 500 and read.state["note"] == "x" and read.state["rate"] == 0.1
    for group, named in given.items():
        assert named.keys() == read.tensors[group].keys()
        for name, value in named.items():
            assert torch.equal(value, read.tensors[group][name]) and value.dtype == read.tensors[group][name].dtype


def test_keeps_the_last_ones_and_counts_numerically(tmp_path):
    """999,999 comes before 1,000,000 although its name sorts after it."""
    for step in (999_999, 1_000_000, 5):
        checkpoint.save(tmp_path, step, tensors(), {}, keep=3)
    assert [p.name for p in checkpoint.paths(tmp_path)] == ["step_000005", "step_999999", "step_1000000"]
    checkpoint.save(tmp_path, 1_000_001, tensors(), {}, keep=2)
    assert [p.name for p in checkpoint.paths(tmp_path)] == ["step_1000000", "step_1000001"]


def tear(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", [tear, flip, lambda p: p.unlink(), lambda p: p.write_bytes(b"")])
def test_a_torn_one_is_named_and_the_one_before_it_used(run, caplog, name, damage):
    damage(run / "step_000010" / name)
    assert checkpoint.latest(run).step == 5
    assert "broken checkpoint" in caplog.text and "step_000010" in caplog.text


def test_all_torn_is_an_error_not_a_fresh_start(run):
    for path in checkpoint.paths(run):
        tear(path / "model.safetensors")
    with pytest.raises(CheckpointError, match="no whole checkpoint among the 2"):
        checkpoint.latest(run)


def test_none_at_all_is_none(tmp_path):
    assert checkpoint.latest(tmp_path) is None


def test_a_broken_one_can_be_written_again(run):
    tear(run / "step_000010" / "model.safetensors")
    checkpoint.save(run, 10, tensors(3), {})
    assert torch.equal(checkpoint.latest(run).tensors["model"]["weight"], tensors(3)["model"]["weight"])


@pytest.mark.parametrize(("keep", "torn"), [(1, [1000]), (2, [1000, 1100])])
def test_torn_ones_do_not_push_out_whole_ones(tmp_path, keep, torn):
    """Going on from step 500 past later ones that the disk broke: what is saved next stays, and so do `keep` in all."""
    for step in (500, *torn):
        checkpoint.save(tmp_path, step, tensors(step), {}, keep=9)
    for step in torn:
        tear(tmp_path / f"step_{step:06d}" / "model.safetensors")
    whole = [500]
    for step in (600, 700):
        assert checkpoint.latest(tmp_path).step == whole[-1]
        checkpoint.save(tmp_path, step, tensors(step), {}, keep=keep)
        whole = [*whole, step][-keep:]
        assert [p.name for p in checkpoint.paths(tmp_path)] == [f"step_{n:06d}" for n in (*whole, *torn)]
    assert checkpoint.latest(tmp_path).step == 700


def test_a_write_that_was_killed_leaves_nothing_that_counts(run):
    shutil.copytree(run / "step_000010", run / ".writing_step_000015")
    assert checkpoint.latest(run).step == 10
    checkpoint.save(run, 20, tensors(), {}, keep=9)
    assert not (run / ".writing_step_000015").exists()


def test_full_disk_is_told_before_writing(run, monkeypatch):
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda p: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(CheckpointError, match="step_000015.*disk is full.*MiB are free"):
        checkpoint.save(run, 15, tensors(), {})
    assert [p.name for p in checkpoint.paths(run)] == ["step_000005", "step_000010"]


def test_disk_that_fills_while_writing_leaves_the_old_ones_whole(run, monkeypatch):
    def refuse(named, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", refuse)
    with pytest.raises(CheckpointError, match="No space left on device"):
        checkpoint.save(run, 15, tensors(), {})
    assert sorted(p.name for p in run.iterdir()) == ["step_000005", "step_000010"]
    assert checkpoint.latest(run).step == 10


def test_a_manifest_cannot_point_outside_its_folder(run):
    manifest = run / "step_000010" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["files"]["../../secret"] = {"sha256": "", "bytes": 0}
    manifest.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="lists files that no checkpoint has"):
        checkpoint.load(run / "step_000010")


def test_another_format_is_named(run):
    manifest = run / "step_000010" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoint.load(run / "step_000010")


def test_nothing_is_parsed_before_the_checksums_agree(run, monkeypatch):
    flip(run / "step_000010" / "optimizer.safetensors")
    monkeypatch.setattr(checkpoint, "load_file", lambda path: pytest.fail("parsed before it was verified"))
    with pytest.raises(CheckpointError, match="optimizer.safetensors does not match its checksum"):
        checkpoint.load(run / "step_000010")
