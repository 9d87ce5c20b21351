"""The log of a run: progress on the terminal, log.jsonl, TensorBoard, provenance for checkpoints."""

from __future__ import annotations

import datetime
import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from .. import files, paths
from ..data.loader import cores

logger = logging.getLogger(__name__)

REFRESH_SECONDS = {True: 1.0, False: 10.0}  # s between two updates, on a terminal and in a file
LOG_FILE = "log.jsonl"
MACHINE_FACTS = ("processor", "cores", "threads", "gpu", "python")  # of `machine`, what a checkpoint says
PACKAGES = ("mesh_graphormer_hand", "torch", "transformers", "accelerate", "torch_geometric", "numpy")


class RunningMeans:
    """Means since the last entry of the log: losses (summed on the device, so that nothing waits for them) over the
    steps that had them; and this process's training speed since then, pauses left out."""

    def __init__(
        self, names: Sequence[str], reduce: Callable[[Float[Tensor, "n 2"]], Float[Tensor, "n 2"]] = lambda table: table
    ) -> None:
        """`names`: of everything that is summed; `reduce` adds up a tensor over all processes."""
        self.names, self.reduce = list(names), reduce
        self.there: dict[frozenset[str], Tensor] = {}  # which of `names` a step has
        self.clear()

    def clear(self) -> None:
        """Forget all and measure the speed from now on."""
        self.table: Tensor | None = None  # sum and count of each name
        self.start()

    def start(self) -> None:
        """Measure the speed from now on."""
        self.images, self.waited, self.started = 0, 0.0, time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time inside the `with` is not training time."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.started += time.perf_counter() - began

    def count(self, images: int, waited: float) -> None:
        """Count a micro-batch: its number of images, and the seconds that were waited for it."""
        self.images, self.waited = self.images + images, self.waited + waited

    def add(self, scalars: Mapping[str, Float[Tensor, ""]], bad: Float[Tensor, ""] | None = None) -> None:
        """Count one step's losses; those of a `bad` step (1 instead of 0) are left out."""
        first = next(iter(scalars.values())).detach().float()
        none = torch.full_like(first, torch.nan)
        values = torch.stack([scalars[name].detach().float() if name in scalars else none for name in self.names])
        key = frozenset(scalars)
        if key not in self.there:
            self.there[key] = torch.tensor([float(name in key) for name in self.names], device=values.device)
        good = self.there[key] * (1.0 if bad is None else 1 - bad)
        row = torch.stack([torch.where(good > 0, values, 0.0), good], 1)
        self.table = row if self.table is None else self.table + row

    def report(self, everywhere: bool = False) -> dict[str, float]:
        """Mean losses, images/s and the share of the time spent waiting for data; the losses `everywhere`, for which
        every process has to call this, or of this process."""
        seconds = max(time.perf_counter() - self.started, 1e-9)
        means = {name: total / count for name, (total, count) in self.state(everywhere).items() if count}
        return {**means, "images_per_second": self.images / seconds, "waiting": self.waited / seconds}

    def state(self, everywhere: bool = True) -> dict[str, list[float]]:
        """Sum and count of each name as plain numbers, so that a log can be continued exactly; see `report`."""
        if self.table is None:
            return {}
        table = self.reduce(self.table) if everywhere else self.table
        return dict(zip(self.names, table.tolist(), strict=True))  # the only place where a GPU is waited for

    def load(self, state: Mapping[str, Sequence[float]], device: torch.device, share: int = 1) -> None:
        """Continue from `state`, of which this is one of `share` processes."""
        self.clear()
        if state:
            rows = [list(state.get(name, (0.0, 0.0))) for name in self.names]
            self.table = torch.tensor(rows, device=device) / share


class JsonlLog:
    """`log.jsonl` in the run's folder: one line for each entry of the log, what report.html draws its curves from.

    Lines of steps after the checkpoint that a run continues from are dropped: they will be written again.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self.path = folder / LOG_FILE
        kept = [entry for entry in read_log(folder) if entry["step"] <= start]
        self.known = {(entry["step"], entry.get("of")) for entry in kept}
        files.write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))

    def add(self, step: int, values: Mapping[str, float], of: str = "train") -> None:
        """Append one entry, unless it is there already."""
        if (step, of) in self.known:
            return
        self.known.add((step, of))
        line = json.dumps({"step": step, "of": of, **values}) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The entries of a run's log.jsonl; a line torn by a kill ends it."""
    entries: list[dict[str, Any]] = []
    path = folder / LOG_FILE
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            break
        entries.append(entry)
    return entries


class Progress:
    """A bar on a terminal, a line every ten seconds elsewhere: step, images/s, time left, losses."""

    def __init__(self, start: int, steps: int, show: bool = True) -> None:
        self.start, self.step, self.steps, self.show = start, start, steps, show
        self.began, self.shown = time.perf_counter(), 0.0
        self.terminal = show and sys.stderr.isatty()
        self.bar = None
        if self.terminal:
            form = "{desc}{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} {elapsed}<{remaining} left{postfix}"
            self.bar = tqdm(total=steps, initial=start, bar_format=form, dynamic_ncols=True, smoothing=0.05)

    @property
    def due(self) -> bool:
        """Whether enough time has gone by for `update` to be worth the reading of losses."""
        return self.show and time.perf_counter() - self.shown >= REFRESH_SECONDS[self.terminal]

    def advance(self, step: int) -> None:
        """Set the number of finished steps."""
        if self.bar is not None:
            self.bar.update(step - self.step)
        self.step = step

    def update(self, report: Mapping[str, float], part: int = 0, parts: int = 1) -> None:
        """Show a `RunningMeans.report`, after `part` of the `parts` of the next step."""
        self.shown = time.perf_counter()
        losses = {k.removeprefix("loss/"): v for k, v in report.items() if k.startswith("loss")}
        text = f"{report['images_per_second']:.1f} images/s, waiting {report['waiting']:.0%}"
        text += "".join(f", {name} {value:.4g}" for name, value in losses.items())
        where = f"part {part}/{parts} of the next, " if part else ""
        if self.bar is not None:
            self.bar.set_postfix_str(where + text)
        elif self.show:
            done = self.step + part / parts
            left = (self.shown - self.began) / max(done - self.start, 1e-9) * (self.steps - done)
            time_left = datetime.timedelta(seconds=round(left))
            logger.info("step %d/%d, %s%s, %s left", self.step, self.steps, where, text, time_left)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()


class TensorBoardLog:
    """TensorBoard scalars and pictures in the run's folder; silent on all but the main process."""

    def __init__(self, folder: Path, start: int, active: bool = True) -> None:
        self.writer = None
        if active:
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            self.writer = SummaryWriter(str(folder), purge_step=start + 1)

    def add(self, step: int, scalars: Mapping[str, float], prefix: str = "") -> None:
        """Write scalars under prefix/name at `step`."""
        if self.writer is not None:
            for name, value in scalars.items():
                self.writer.add_scalar(f"{prefix}{name}", value, step)

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Show an RGB picture at `step`."""
        if self.writer is not None:
            self.writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close the file."""
        if self.writer is not None:
            self.writer.close()


def machine(device: str = "cpu") -> dict[str, Any]:
    """What a figure depends on: processor, threads, versions."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    facts = {"processor": model, "cores": cores(), "threads": torch.get_num_threads(), "load": load}
    facts |= {"python": platform.python_version(), "torch": torch.__version__, "device": device}
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def provenance(device: str = "cpu") -> dict[str, str]:
    """Versions, git commit and the machine whose `device` trains, as plain text for a checkpoint's state."""
    found = {"git": git_commit()} | {k: str(v) for k, v in machine(device).items() if k in MACHINE_FACTS}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str:
    """The commit of the checkout that runs, with "+" where files differ from it; "" outside a checkout."""
    try:
        command = ["git", "-C", str(paths.CHECKOUT), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
