"""What a run survives, on a toy network: killed at random moments.   python tests/helpers/survival.py --kills 20

A run is forked from this program, so that a start takes no imports and twenty kills no ten minutes.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import torch  # noqa: E402
import yaml  # noqa: E402
from accelerate.state import AcceleratorState  # noqa: E402

from helpers.forked import ended, finish, fork  # noqa: E402
from helpers.toy_train import CONFIG, with_toys  # noqa: E402
from mesh_graphormer_hand import assembly  # noqa: E402
from mesh_graphormer_hand.cli import train  # noqa: E402
from mesh_graphormer_hand.training import checkpoint  # noqa: E402

TIMING = ("images_per_second", "waiting")  # of the log, differ from run to run


def start(
    root: Path, name: str, *overrides: str, group: bool = False, environment: dict[str, str] | None = None
) -> int:
    """Train the toy in root/NAME in a process of its own; returns its id. What it prints is in root/NAME.txt.

    `group`, `environment`: see `helpers.forked.fork`.
    """

    def train_toy() -> int:
        AcceleratorState._reset_state(True)
        assembly.available = with_toys(assembly.available)
        return train.main([str(root / "toy.yaml"), f"train.name={name}", *overrides])

    return fork(train_toy, root / f"{name}.txt", group, ACCELERATE_USE_CPU="true", **(environment or {}))


def prepare(root: Path, steps: int, **changes: object) -> None:
    """Write the toy's config file."""
    config = json.loads(json.dumps(CONFIG))
    config["data"]["test"] = {}
    config["train"] |= {"output": str(root), "steps": steps, "log_every": 10, "pictures": 0, **changes}
    (root / "toy.yaml").write_text(yaml.safe_dump(config))


def kill_and_resume(root: Path, kills: int, steps: int, seed: int = 0) -> dict[str, Any]:
    """Train twice, once undisturbed and once with `kills` SIGKILLs at random moments; compare every bit.

    Raises:
        AssertionError: the runs differ, or the kills were not all done.
    """
    prepare(root, steps)
    began, chance = time.monotonic(), random.Random(seed)
    assert finish(start(root, "whole")) == 0, (root / "whole.txt").read_text()
    pause = min(0.3, 10 * (time.monotonic() - began) / steps)  # s: about ten steps, however fast the machine is
    cut, at, writing = root / "cut", [], 0
    for left in range(kills, 0, -1):
        base = reached(cut)
        wanted = min(base + chance.uniform(0, 2 * max(steps - 20 - base, 0) / left), steps - 10)
        process = start(root, "cut")
        wait_until(lambda wanted=wanted: reached(cut) >= wanted, process)
        time.sleep(chance.uniform(0, pause))
        os.kill(process, signal.SIGKILL)
        code = finish(process)
        assert code == -signal.SIGKILL, f"ended by itself ({code}): take more steps. " + (root / "cut.txt").read_text()
        writing += any(cut.glob(".writing_*"))
        at.append(reached(cut))
    assert finish(start(root, "cut")) == 0, (root / "cut.txt").read_text()
    compare(root / "whole", root / "cut")
    return {"kills": len(at), "at": at, "while_writing": writing, "steps": steps, "seconds": time.monotonic() - began}


def reached(run: Path) -> int:
    """The step of the newest checkpoint, 0 without any."""
    return max((int(p.name.removeprefix("step_")) for p in checkpoint.paths(run)), default=0)


def wait_until(condition: Callable[[], bool], process: int) -> None:
    """Wait, unless the run has ended by itself."""
    while not condition() and not ended(process):
        time.sleep(0.002)


def compare(first: Path, second: Path) -> None:
    """Equal bits in the newest checkpoints (weights, averages, optimiser), equal logs but for the speed.

    Raises:
        AssertionError: naming what differs.
    """
    a, b = checkpoint.latest(first), checkpoint.latest(second)
    assert a.step == b.step, (a.step, b.step)
    for group in ("model", "ema", "optimizer"):
        for name, value in a.tensors[group].items():
            assert torch.equal(value, b.tensors[group][name]), f"{group}: {name}"
    assert log(first) == log(second), "the logs differ"


def log(run: Path) -> list[dict]:
    """The run's log without its timings."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMING} for line in lines]


def main() -> int:
    """Kill and resume as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(kill_and_resume(Path(folder), arguments.kills, arguments.steps, arguments.seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
