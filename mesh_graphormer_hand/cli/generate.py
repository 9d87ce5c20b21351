"""Write virtual hands to files:  hand-generate [CONFIG] --out DIR --count N [key=value ...]   (also tools/generate.py)

CONFIG holds the generator's options (default: virtual.yaml). The same command goes on after a kill. --shard i/n writes
one share of n, into the same folder or another; copy the folders over one another and run the command without --shard
to finish. Under `accelerate launch` or torchrun each process takes its own share. --what says what to write: crops of
one hand each, whole frames, moments seen by several cameras (views=V) or sequences (length=T rate=HZ).
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import config as configs
from ..config import ConfigError
from ..files import write_bytes
from . import console

if TYPE_CHECKING:
    import numpy as np

    from ..contracts import HandBatch
    from ..generation.job import Job, Shard, Store
    from ..generation.kinds import Source
    from ..generation.layouts.base import Encoding, Layout
    from ..virtual.config import VirtualConfig
    from ..virtual.generator import VirtualHands

LAYOUTS = ("webdataset", "freihand", "folder")
LABELS = ("parts", "normals", "share", "look")  # as in virtual.labels.EXTRA
SIZES = 16, 4096  # px, least and largest side of a picture
MOST = 10**8  # samples of one job
FORMAT = 4  # of the folder; rises when equal settings would give other bytes
SHEET = 24  # samples on a contact sheet
PRELOAD = ["torch", "cv2", "numpy", "mesh_graphormer_hand.contracts"]  # imported once, by the fork server

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """What --what may name."""

    layouts: tuple[str, ...]  # the first one by default
    unit: str  # on the progress bar
    size: int = 224  # px, of the pictures, by default
    block: int = 0  # how many are rendered and written together; 0: the generator's own block


KINDS = {
    "crops": Kind(LAYOUTS, "img"),
    "frames": Kind(("coco",), "frame", size=640, block=4),
    "views": Kind(("groups",), "moment", block=4),
    "sequences": Kind(("groups",), "sequence", block=1),
}


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-generate", description=__doc__.splitlines()[0])
    shipped = f"a YAML file, or one of {console.shipped_configs('virtual*.yaml')} (default: virtual)"
    parser.add_argument("config", metavar="CONFIG", nargs="?", default="virtual.yaml", help=shipped)
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="the generator's options, such as seed=1")
    parser.add_argument("--out", metavar="DIR", help="where to write")
    parser.add_argument("--count", type=int, metavar="N", help="samples (default: the config's, where it has a number)")
    parser.add_argument("--what", default="crops", help=f"{', '.join(KINDS)} (default: crops)")
    layouts = "; ".join(f"of {name}: {', '.join(kind.layouts)}" for name, kind in KINDS.items())
    parser.add_argument("--layout", help=f"{layouts} (default: the first)")
    parser.add_argument("--image-size", type=int, metavar="PX", help="side of the pictures (default: 224; frames: 640)")
    parser.add_argument("--quality", type=int, default=95, metavar="Q", help="of the JPEGs, 1 to 100 (default: 95)")
    parser.add_argument("--lossless", action="store_true", help="pictures as PNG")
    parser.add_argument("--left", type=float, default=0.0, metavar="P", help="share of left hands (default: 0)")
    parser.add_argument(
        "--labels", default="all", metavar="LIST", help="beyond the usual ones: all (default), none, or some of LABELS"
    )
    parser.add_argument("--shard", metavar="i/n", help="write one share of n, counted from 0")
    parser.add_argument("--workers", type=int, default=-1, metavar="W", help="processes; 0: none (default: the cores)")
    parser.add_argument("--device", default="cpu", help="where to render: cpu (default), cuda, ...")
    parser.add_argument("--hand", default="auto", help="auto (default), open, or a MANO file or folder")
    parser.add_argument("--dry-run", action="store_true", help="render one block and say bytes, files and hours")
    parser.add_argument("--sheet", metavar="FILE", help=f"draw a contact sheet of the first {SHEET} samples, too")
    parser.add_argument("--check", type=int, metavar="N", help="render N samples, write none, and judge their labels")
    parser.add_argument("--plots", metavar="FILE", help="with --check: draw what the samples cover")
    arguments = parser.parse_intermixed_args(argv)
    return console.run(lambda: generate(arguments))


@dataclass(frozen=True)
class Plan:
    """What a command line asks for, checked."""

    config: VirtualConfig
    hand: str
    device: str
    size: int
    layout: str
    encoding: Encoding
    shard: Shard
    left: float = 0.0
    labels: tuple[str, ...] = LABELS
    what: str = "crops"

    @property
    def block(self) -> int:
        """How many samples are rendered and written together."""
        from ..virtual.generator import BLOCK

        return KINDS[self.what].block or BLOCK

    def hands(self) -> VirtualHands | Source:
        """The generator."""
        from ..generation.kinds import source
        from ..mano import hand

        return source(self.what, self.config, hand.load(self.hand), self.labels)


@dataclass
class Renderer:
    """Renders blocks and writes them; one lives in every process."""

    plan: Plan
    hands: VirtualHands | Source
    layout: Layout
    store: Store | None = None  # None: nothing is written

    @classmethod
    def of(cls, plan: Plan, store: Store | None = None) -> Renderer:
        """The renderer of this process, which from now on works with one thread: more change the last bits."""
        import cv2
        import torch

        from ..generation.job import layout_named

        try:
            torch.empty(0, device=plan.device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"--device {plan.device}: {str(error).splitlines()[0]}") from None
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        hands = plan.hands()
        return cls(plan, hands, layout_named(plan.layout, plan.encoding, plan.config.split, hands.hand), store)

    def render(self, indices: list[int]) -> Any:
        """What the layout encodes. Some crops are to be left hands, whose pictures the layouts mirror."""
        import torch

        from ..virtual.rng import generator

        made = self.hands.render(indices, device=self.plan.device, image_size=self.plan.size)
        if self.plan.what != "crops":
            return made
        batch: HandBatch = made.to("cpu")
        if not self.plan.left:
            return batch
        left = [bool(generator(self.plan.config, i, "side").random() < self.plan.left) for i in indices]
        return replace(batch, targets=replace(batch.targets, is_left=torch.tensor(left)))

    def work(self, number: int, indices: list[int]) -> int:
        """Render and write one block; gives its number back."""
        self.store.write(number, self.layout.encode(self.render(indices), indices))
        return number


def generate(arguments: argparse.Namespace) -> int:
    """Write as the command line says; see the module's docstring."""
    if "=" in arguments.config:
        arguments.overrides.insert(0, arguments.config)
        arguments.config = "virtual.yaml"
    check(arguments)
    share, of = shard_of(arguments.shard, os.environ)
    wanted = arguments.config, arguments.overrides, arguments.count
    config = read_config(*wanted, needs_count=bool(arguments.out), what=arguments.what)
    if arguments.sheet and not (arguments.out or arguments.dry_run):
        config = replace(config, count=max(config.count, SHEET))
    console.log_to_terminal()
    if int(os.environ.get("LOCAL_RANK", 0)):
        console.only_warnings()

    from ..generation.job import Shard
    from ..generation.layouts.base import Encoding  # after the arguments, so that their mistakes are told at once

    encoding = Encoding(arguments.quality, arguments.lossless)
    plan = Plan(
        config,
        arguments.hand,
        arguments.device,
        arguments.image_size,
        arguments.layout,
        encoding,
        Shard(share, of),
        arguments.left,
        labels_of(arguments),
        arguments.what,
    )
    workers = worker_count(arguments.workers, os.environ)
    if arguments.check:
        from ..generation.check_samples import check_samples

        plan = replace(plan, config=replace(config, count=arguments.check), labels=LABELS, left=0.0)
        return check_samples(plan, workers, Path(arguments.plots) if arguments.plots else None)
    renderer = Renderer.of(plan)
    if arguments.sheet and not share:
        write_picture(Path(arguments.sheet), contact_sheet(renderer))
        print(arguments.sheet)
    if arguments.dry_run:
        print(estimate(renderer, workers, Path(arguments.out or ".")))
    elif arguments.out:
        write(renderer, Path(arguments.out), workers)
        print(arguments.out)
    return 0


def check(arguments: argparse.Namespace) -> None:
    """Refuse values that make no sense, before anything slow; fill in what depends on --what.

    Raises:
        ConfigError: one of them.
    """
    check_what(arguments)
    low, high = SIZES
    if not (arguments.out or arguments.sheet or arguments.dry_run or arguments.check):
        raise ConfigError("--out is missing: say where to write (or --dry-run, --sheet FILE, --check N)")
    if arguments.check is not None and arguments.out:
        raise ConfigError("--check writes no samples: leave --out away")
    if arguments.check is not None and not 1 <= arguments.check <= MOST:
        raise ConfigError(f"--check {arguments.check} should be 1 to {MOST}")
    if not low <= arguments.image_size <= high:
        raise ConfigError(f"--image-size {arguments.image_size} should be {low} to {high} pixels")
    if not 1 <= arguments.quality <= 100:
        raise ConfigError(f"--quality {arguments.quality} should be 1 to 100")
    if not 0 <= arguments.left <= 1:
        raise ConfigError(f"--left {arguments.left} should be a share, 0 to 1")
    if arguments.left and arguments.layout == "freihand":
        raise ConfigError("--left: FreiHAND's files hold right hands; take another layout")
    labels_of(arguments)
    if arguments.count is not None and not 1 <= arguments.count <= MOST:
        raise ConfigError(f"--count {arguments.count} should be 1 to {MOST}")
    if arguments.sheet and Path(arguments.sheet).suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"--sheet {arguments.sheet}: its name should end in .png or .jpg")


def check_what(arguments: argparse.Namespace) -> None:
    """Settle layout and size by what is to be written, and refuse what only crops have.

    Raises:
        ConfigError: an unknown name, or options that do not fit.
    """
    what = arguments.what
    if what not in KINDS:
        hint = configs.nearest(what, tuple(KINDS))
        raise ConfigError(f"--what: no {what!r}{hint} (there are: {', '.join(KINDS)})")
    layouts = KINDS[what].layouts
    if arguments.layout is None:
        arguments.layout = layouts[0]
    if arguments.layout not in layouts:
        hint = configs.nearest(arguments.layout, layouts)
        raise ConfigError(f"--layout: no layout {arguments.layout!r} of {what}{hint} (there are: {', '.join(layouts)})")
    if arguments.image_size is None:
        arguments.image_size = KINDS[what].size
    alone = [name for name in ("sheet", "check", "left") if getattr(arguments, name)]
    if what != "crops" and alone:
        raise ConfigError(f"--{alone[0]} is for crops: leave it away with --what {what}")


def labels_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The labels to make beyond the usual ones; frames and FreiHAND's files have no room for any.

    Raises:
        ConfigError: an unknown one.
    """
    if arguments.labels == "none" or arguments.layout in ("freihand", "coco"):
        return ()
    asked = LABELS if arguments.labels == "all" else tuple(arguments.labels.split(","))
    for name in asked:
        if name not in LABELS:
            hint = configs.nearest(name, LABELS)
            raise ConfigError(f"--labels: no label {name!r}{hint} (there are: {', '.join(LABELS)}, or all, none)")
    return tuple(name for name in LABELS if name in asked)


def shard_of(text: str | None, environment: dict[str, str] | os._Environ) -> tuple[int, int]:
    """Our share and how many there are: --shard, divided once more among the processes of a launcher.

    Raises:
        ConfigError: anything but i/n with 0 <= i < n.
    """
    index, count = 0, 1
    if text is not None:
        first, slash, second = text.partition("/")
        good = bool(slash) and first.isdecimal() and second.isdecimal() and int(first) < int(second)
        if not good:
            raise ConfigError(f"--shard {text!r} should read i/n with i from 0 to n - 1, such as 0/2 and 1/2")
        index, count = int(first), int(second)
    rank, world = int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1))
    return index * world + rank, count * world


def worker_count(asked: int, environment: dict[str, str] | os._Environ) -> int:
    """How many processes: as asked, or the cores, divided among the processes that a launcher started here."""
    if asked >= 0:
        return asked
    from ..data.loader import cores

    return max(1, cores() // int(environment.get("LOCAL_WORLD_SIZE", 1)))


def read_config(
    path: str, overrides: list[str], count: int | None, needs_count: bool, what: str = "crops"
) -> VirtualConfig:
    """The generator's options with the number of samples in them.

    Raises:
        ConfigError: an unknown key, a wrong type, no count, or more samples than a finite split has.
    """
    from ..generation.kinds import SCHEMAS

    config = configs.parse(SCHEMAS[what], configs.read(path, overrides))
    if config.count < 1:
        raise ConfigError(f"count: {config.count} should be 1 or more")
    if count is None:
        if config.count > MOST and needs_count:
            raise ConfigError("--count is missing: say how many samples (this config's are endless)")
        return replace(config, count=min(config.count, MOST))
    if count > config.count:
        raise ConfigError(f"--count {count} is more than the {config.count} samples of {path}")
    return replace(config, count=count)


def manifest(plan: Plan, hands: VirtualHands | Source) -> dict[str, Any]:
    """Everything that decides the bytes, and a hash of what is drawn for the first samples."""
    from ..virtual.generator import BLOCK
    from ..virtual.parameters import split_hash

    first = replace(plan.config, count=min(plan.config.count, BLOCK))
    return {
        "format": FORMAT,
        **({} if plan.what == "crops" else {"what": plan.what}),
        "layout": plan.layout,
        "count": plan.config.count,
        "block": plan.block,
        "image_size": plan.size,
        "encoding": configs.to_mapping(plan.encoding),
        "left": plan.left,
        "labels": list(plan.labels),
        "device": plan.device.partition(":")[0],
        "hand": {"name": hands.hand.name, "fingerprint": hands.hand.fingerprint_hex},
        "config": {key: value for key, value in configs.to_mapping(plan.config).items() if key != "count"},
        "draws": split_hash(first, hands.hand),
    }


def write(renderer: Renderer, out: Path, workers: int) -> None:
    """Write what is left of our share, and what our share completes."""
    from ..generation.job import Job

    plan = renderer.plan
    job = Job(out, renderer.layout, manifest(plan, renderer.hands), plan.shard)
    try:
        pending = job.pending()
        total, left = job.samples(), job.samples(pending)
        share = "" if plan.shard.count == 1 else f" of shard {plan.shard}"
        logger.info("%s samples%s, %s of them to render: %s", f"{total:,}", share, f"{left:,}", out)
        run(replace(renderer, store=job.store), job, pending, workers)
        if job.finish():
            logger.info("complete: %s samples", f"{job.count:,}")
        else:
            logger.info(
                "shard %s is there; %d blocks of other shards are not. Once they are (the same command with their "
                "--shard, or their folders copied over this one), any run finishes the files",
                plan.shard,
                job.missing(),
            )
    finally:
        job.close()


def run(renderer: Renderer, job: Job, pending: list[int], workers: int) -> None:
    """Render the blocks under a progress bar, here or in processes."""
    from tqdm import tqdm

    initial = job.samples() - job.samples(pending)
    quiet = bool(int(os.environ.get("LOCAL_RANK", 0)))
    look = {"unit": KINDS[renderer.plan.what].unit, "desc": "generate", "dynamic_ncols": True}
    bar = tqdm(total=job.samples(), initial=initial, disable=quiet, **look)
    done = _here(renderer, job, pending) if not workers else _in_processes(renderer, job, pending, workers)
    with bar:
        for number in done:
            job.done(number)
            bar.update(len(job.indices(number)))


def _here(renderer: Renderer, job: Job, pending: list[int]) -> Iterator[int]:
    for number in pending:
        yield renderer.work(number, job.indices(number))


def _in_processes(renderer: Renderer, job: Job, pending: list[int], workers: int) -> Iterator[int]:
    """Numbers of blocks as they are done; a few for each process are under way."""
    from ..data.loader import WorkerError, process_context

    workers = min(workers, len(pending))
    if not workers:
        return
    pool = ProcessPoolExecutor(workers, process_context(PRELOAD), _start_worker, (renderer.plan, renderer.store))
    queue, running = iter(pending), set[Future[int]]()
    try:
        while True:
            for number in queue:
                running.add(pool.submit(_work, number, job.indices(number)))
                if len(running) >= 3 * workers:
                    break
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)
    except BrokenProcessPool:
        raise WorkerError("a worker process died. If memory is short: fewer --workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


_worker: Renderer  # of a worker process


def _start_worker(plan: Plan, store: Store) -> None:
    """A worker leaves Ctrl-C to the process that started it, and ends with it."""
    from ..data.loader import prepare_process

    global _worker
    prepare_process((signal.SIGINT,))
    _worker = Renderer.of(plan, store)


def _work(number: int, indices: list[int]) -> int:
    return _worker.work(number, indices)


def estimate(renderer: Renderer, workers: int, out: Path) -> str:
    """Bytes, files and hours of our share, from its first block; rendered twice, since the first prepares things."""
    plan = renderer.plan
    share = -(-plan.config.count // plan.shard.count)
    indices = list(range(min(plan.block, plan.config.count)))
    renderer.render(indices)
    start = time.perf_counter()
    block = renderer.layout.encode(renderer.render(indices), indices)
    rate = len(indices) / (time.perf_counter() - start) * max(1, workers)
    blocks = -(-share // plan.block)
    groups = -(-blocks // renderer.layout.span) if renderer.layout.span else 1
    files = sum(map(len, block.files.values())) / len(indices) * share
    parts = len(block.part) / len(indices) * share
    count = len(block.files) * share // len(indices) + groups * len(renderer.layout.outputs(0)) + 2
    peak = files + (parts + min(parts, len(block.part) * renderer.layout.span) if renderer.layout.span else 2 * parts)
    where = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    free = shutil.disk_usage(where).free
    lines = [
        f"{share:,} samples as {plan.layout}, {plan.size} px"
        + (f" (shard {plan.shard})" if plan.shard.count > 1 else ""),
        f"bytes  {_bytes(files + parts)} ({_bytes(peak)} at most on the way; {_bytes(free)} free in {where})",
        f"files  {count:,}",
        f"hours  {share / rate / 3600:.2f} with {workers} workers, {rate:.3g} {plan.what}/s, on {plan.device}",
    ]
    if peak > free:
        lines.append("This does not fit on the disk.")
    return "\n".join(lines)


def _bytes(number: float | int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.4g} TB"


def contact_sheet(renderer: Renderer) -> np.ndarray:
    """RGB picture of the first samples, each plain and then with its labels."""
    from ..generation.contact_sheet import labelled

    return labelled(renderer.render(list(range(min(SHEET, renderer.plan.config.count)))))


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Save an RGB picture, at once or not at all."""
    from ..generation.layouts.base import Encoding

    encoding = Encoding(quality=90, lossless=path.suffix.lower() == ".png")
    write_bytes(path, encoding.encode(picture[..., ::-1]))
