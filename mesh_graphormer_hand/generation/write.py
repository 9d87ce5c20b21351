"""Writes a plan's samples, here or in processes, each block whole or not at all; estimates bytes and hours."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import config as configs
from .renderer import KINDS, Plan, Renderer

if TYPE_CHECKING:
    from ..virtual.generator import VirtualHands
    from .job import Job, Store
    from .kinds import Source

FOLDER_FORMAT = 6  # of the folder; rises when equal settings would give other bytes
PRELOAD = ["torch", "cv2", "numpy", "mesh_graphormer_hand.contracts"]  # imported once, by the fork server

logger = logging.getLogger(__name__)


def manifest(plan: Plan, hands: VirtualHands | Source) -> dict[str, Any]:
    """Everything that decides the bytes, and a hash of what is drawn for the first samples."""
    from ..virtual.frozen import split_hash
    from ..virtual.generator import BLOCK

    first = replace(plan.config, count=min(plan.config.count, BLOCK))
    return {
        "format": FOLDER_FORMAT,
        **({} if plan.kind == "crops" else {"kind": plan.kind}),
        "layout": plan.layout,
        "count": plan.config.count,
        "block": plan.block,
        "image_size": plan.size,
        "encoding": configs.to_mapping(plan.encoding),
        "left_fraction": plan.left_fraction,
        "labels": list(plan.labels),
        "device": plan.device.partition(":")[0],
        "hand": {"name": hands.hand.name, "fingerprint": hands.hand.fingerprint_hex},
        "config": {key: value for key, value in configs.to_mapping(plan.config).items() if key != "count"},
        "draws": split_hash(first, hands.hand),
    }


def write(renderer: Renderer, out: Path, workers: int) -> None:
    """Write what is left of our share, and what our share completes."""
    from .job import Job

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
    bar_options = {"unit": KINDS[renderer.plan.kind].unit, "desc": "generate", "dynamic_ncols": True}
    bar = tqdm(total=job.samples(), initial=initial, disable=quiet, **bar_options)
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
    """Bytes, files and hours of our share, from its first block; rendered twice, since the first one fills caches."""
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
        f"hours  {share / rate / 3600:.2f} with {workers} workers, {rate:.3g} {plan.kind}/s, on {plan.device}",
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
