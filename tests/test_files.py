"""files: whole or not there; one at a time; damaged archives are one kind of error, and nothing in them is executed."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from mesh_graphormer_hand import files


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "new" / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(OSError, match="full"), files.replacing(path) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".json" and json.loads(path.read_text()) == {"a": 1}
        raise OSError("the disk is full")
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_a_write_that_is_killed_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "whole")
    code = (
        "import os, sys\nfrom mesh_graphormer_hand import files\n"
        "with files.replacing(sys.argv[1]) as t:\n    t.write_text('half')\n    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
    assert path.read_text() == "whole"


def test_a_lock_is_one_processs_until_it_ends(tmp_path):
    path = tmp_path / "lock"
    with files.lock(path):
        assert files.lock(path) is None
    holder = files.lock(path)
    assert holder is not None
    holder.close()


def damaged(path, data: bytes):
    path.write_bytes(data)
    return path


def test_arrays_come_back_equal(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.arange(5), b=np.array("text"))
    with path.open("rb") as stream:
        for source in (path, stream):
            found = files.read_arrays(source)
            assert found.keys() == {"a", "b"} and found["a"].tolist() == [0, 1, 2, 3, 4] and str(found["b"]) == "text"


def test_damaged_archives_are_one_kind_of_error(tmp_path):
    """Cut short, with every 37th byte turned round, no archive at all, one array: ArchiveError or, by chance, right."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).random((40, 40)), b=np.arange(9))
    whole = path.read_bytes()
    cases = [whole[:n] for n in range(0, len(whole), 997)]
    cases += [whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in range(0, len(whole), 37)]
    refused = 0
    for data in cases:
        try:
            files.read_arrays(damaged(path, data))
        except files.ArchiveError:
            refused += 1
    assert refused > 0.9 * len(cases)
    np.save(tmp_path / "one.npy", np.arange(3))
    for other in (tmp_path / "one.npy", damaged(tmp_path / "page.npz", b"<!doctype html>")):
        with pytest.raises(files.ArchiveError):
            files.read_arrays(other)
    with pytest.raises(FileNotFoundError):
        files.read_arrays(tmp_path / "none.npz")


def test_a_header_that_claims_a_petabyte_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }" % 10**15
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(files.ArchiveError):
        files.read_arrays(path)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_pickles_in_archives_are_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "a.npz", a=np.array([Bomb()], dtype=object), b=np.arange(3))
    with pytest.raises(files.ArchiveError, match="pickle|Object arrays"):
        files.read_arrays(tmp_path / "a.npz")
    assert files.read_arrays(tmp_path / "a.npz", ("b", "c"))["b"].tolist() == [0, 1, 2]
    assert not (tmp_path / "executed").exists()
