"""What writing virtual hands survives: killed at random moments, gone on with, compared byte by byte.

    python tests/helpers/kill_generate.py --kills 10 --count 2000 --image-size 64

The writer is forked from this program, so that a start takes no imports; --workers 2 gives it processes of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import torch  # noqa: E402

from helpers.forked import ended, finish, fork  # noqa: E402
from mesh_graphormer_hand.cli import generate  # noqa: E402
from mesh_graphormer_hand.data.datasets.webdataset import Config, WebDataset  # noqa: E402
from mesh_graphormer_hand.generation.layouts.webdataset import SPAN  # noqa: E402
from mesh_graphormer_hand.virtual.generator import BLOCK  # noqa: E402


def start(out: Path, arguments: list[str]) -> int:
    """Write into `out` in a process of its own; returns its id. What it prints is in OUT.txt."""
    command = ["virtual", "--out", str(out), "--hand", "open", *arguments]
    return fork(lambda: generate.main(command), out.with_suffix(".txt"))


def written(out: Path, count: int) -> int:
    """About how many samples are there, in tars or on their way into one."""
    parts = out / ".generate" / "parts"
    tars = {int(path.stem[-6:]) for path in out.glob("*.tar")}
    loose = {int(name) for name in os.listdir(parts) if name.isdigit()} if parts.is_dir() else set()
    blocks = len(tars) * SPAN + sum(number // SPAN not in tars for number in loose)
    return min(count, blocks * BLOCK)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file by its path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def kill_and_resume(root: Path, kills: int, count: int, size: int, workers: int = 0, seed: int = 0) -> dict[str, Any]:
    """Write `count` samples with all labels twice, once undisturbed and once with `kills` SIGKILLs at random moments;
    compare every byte and read every sample.

    Raises:
        AssertionError: the folders differ, a sample cannot be read, or the kills were not all done.
    """
    arguments = ["--count", str(count), "--image-size", str(size), "--workers", str(workers)]
    whole, cut = root / "whole", root / "cut"
    began, chance, at = time.monotonic(), random.Random(seed), []
    assert finish(start(whole, arguments)) == 0, whole.with_suffix(".txt").read_text()
    for wanted in sorted(chance.sample(range(count - 2 * BLOCK), kills)):
        process = start(cut, arguments)
        while written(cut, count) < wanted and not ended(process):
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.3))
        os.kill(process, signal.SIGKILL)
        code = finish(process)
        assert code == -signal.SIGKILL, f"ended by itself ({code}). " + cut.with_suffix(".txt").read_text()
        at.append(written(cut, count))
    assert finish(start(cut, arguments)) == 0, cut.with_suffix(".txt").read_text()
    first, second = tree(whole), tree(cut)
    assert sorted(first) == sorted(second), set(first) ^ set(second)
    assert not (differ := [name for name in first if first[name] != second[name]]), differ
    dataset = WebDataset(Config(root=str(cut)), "train", size)
    keys = [key for i in range(0, len(dataset), 50) for key in dataset.load(list(range(i, min(i + 50, count)))).keys]
    assert len(keys) == len(set(keys)) == count, (len(keys), len(set(keys)))
    return {"samples": count, "kills": len(at), "at": at, "files": len(first), "seconds": time.monotonic() - began}


def main() -> int:
    """Kill and resume as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = kill_and_resume(Path(folder), given.kills, given.count, given.image_size, given.workers, given.seed)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
