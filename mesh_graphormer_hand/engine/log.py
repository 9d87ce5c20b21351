"""What a run says about itself: progress on the terminal, scalars for TensorBoard, provenance for checkpoints."""

from __future__ import annotations

import datetime
import logging
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from .. import paths

logger = logging.getLogger(__name__)

REFRESH = {True: 1.0, False: 10.0}  # s between two updates, on a terminal and in a file
PACKAGES = ("mesh_graphormer_hand", "torch", "transformers", "accelerate", "torch_geometric", "numpy")


class Window:
    """Sums since the last report: losses (kept on the device, so that nothing waits for them), images, seconds."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start a new window now."""
        self.sums: dict[str, Tensor] = {}
        self.steps = self.images = 0
        self.waited, self.started = 0.0, time.perf_counter()

    def add(self, scalars: Mapping[str, Tensor], images: int, waited: float) -> None:
        """Count one step: its losses, its number of images and the seconds it waited for data."""
        for name, value in scalars.items():
            self.sums[name] = self.sums[name] + value.detach() if name in self.sums else value.detach()
        self.steps, self.images, self.waited = self.steps + 1, self.images + images, self.waited + waited

    def report(self) -> dict[str, float]:
        """Mean losses, images/s and the share of the time spent waiting for data."""
        seconds = max(time.perf_counter() - self.started, 1e-9)
        means = {name: value.item() / max(self.steps, 1) for name, value in self.sums.items()}
        return {**means, "images_per_second": self.images / seconds, "waiting": self.waited / seconds}


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
        return self.show and time.perf_counter() - self.shown >= REFRESH[self.terminal]

    def advance(self, step: int) -> None:
        """Say that `step` steps are done."""
        if self.bar is not None:
            self.bar.update(step - self.step)
        self.step = step

    def update(self, report: Mapping[str, float]) -> None:
        """Show a `Window.report`."""
        self.shown = time.perf_counter()
        losses = {k.removeprefix("loss/"): v for k, v in report.items() if k.startswith("loss")}
        text = f"{report['images_per_second']:.1f} images/s, waiting {report['waiting']:.0%}"
        text += "".join(f", {name} {value:.4g}" for name, value in losses.items())
        if self.bar is not None:
            self.bar.set_postfix_str(text)
        elif self.show:
            left = (self.shown - self.began) / max(self.step - self.start, 1) * (self.steps - self.step)
            time_left = datetime.timedelta(seconds=round(left))
            logger.info("step %d/%d, %s, %s left", self.step, self.steps, text, time_left)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()


class Board:
    """TensorBoard scalars in the run's folder; silent on all but the main process."""

    def __init__(self, folder: Path, start: int, active: bool = True) -> None:
        self.writer = None
        if active:
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            self.writer = SummaryWriter(str(folder), purge_step=start or None)

    def add(self, step: int, scalars: Mapping[str, float], prefix: str = "") -> None:
        """Write scalars under prefix/name at `step`."""
        if self.writer is not None:
            for name, value in scalars.items():
                self.writer.add_scalar(f"{prefix}{name}", value, step)

    def close(self) -> None:
        """Flush and close the file."""
        if self.writer is not None:
            self.writer.close()


def provenance() -> dict[str, str]:
    """Versions, machine and git commit, as plain text for a checkpoint's state."""
    found = {"python": platform.python_version(), "git": git_commit(), "threads": str(torch.get_num_threads())}
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
