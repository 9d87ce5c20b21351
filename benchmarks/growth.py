"""The part `growth` of tools/benchmark.py: one quantity at a time, against its smallest value (docs/scaling.md)."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mesh_graphormer_hand.contracts import HandBatch, HandInputs

from .cases import Options, Table, compare, photos, predict_only
from .timing import Case, Timing

if TYPE_CHECKING:
    from mesh_graphormer_hand.inference.predictor import HandPredictor
    from mesh_graphormer_hand.models.base import HandModel

IMAGES = (1, 2, 4, 8, 16, 32)
PIXELS = (64, 128, 192, 256)
HANDS = (1, 2, 4, 8)
SAMPLES = (10_000, 100_000, 880_000)
RANKS = 2
EXCHANGED = {"1 M numbers": 2**20, "16 M numbers": 2**24}  # of gradients, float32


def growth(options: Options) -> Iterator[Table]:
    """By batch, pixels, hands a photo, samples of a data set, processes; the network is graphormer_lite's."""
    from mesh_graphormer_hand.inference.predictor import HandPredictor

    predictor = HandPredictor.from_pretrained(device=options.device)
    yield "forward by batch", _batches(options, predictor.model), "image"
    yield "forward by pixels, batch 1", _pixels(options, predictor.model), "image"
    yield "hands in a photo of 640 x 480 px", _hands(options, predictor), "hand"
    yield "order of an epoch by samples", _orders(options), "epoch"
    yield f"gradients added up by {RANKS} processes (gloo)", ranks(options.rounds), "exchange"


def _batches(options: Options, model: HandModel) -> list[Timing]:
    cases = {str(n): Case(partial(predict_only, model, photos(model, n, options.device)), n) for n in IMAGES}
    return compare(options, "batches", cases, str(IMAGES[0]))


def _pixels(options: Options, model: HandModel) -> list[Timing]:
    cases = {}
    for side in PIXELS:
        inputs = HandInputs(image=torch.rand(1, 3, side, side).to(options.device))
        cases[f"{side} px"] = Case(partial(predict_only, model, inputs))
    return compare(options, "pixels", cases, f"{PIXELS[0]} px")


def _hands(options: Options, predictor: HandPredictor) -> list[Timing]:
    import numpy as np

    photo = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    cases = {}
    for count in HANDS:
        boxes = [[20.0 + 40 * i, 100.0, 220.0 + 40 * i, 300.0] for i in range(count)]
        cases[str(count)] = Case(partial(predictor.predict, photo, boxes), count)
    return compare(options, "hands", cases, str(HANDS[0]))


class _Many:
    """A data set of so many samples that are never read."""

    hand, block, repeat, spacing = 0, 16, 1, 1

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def load(self, indices: list[int], device: torch.device | str = "cpu") -> HandBatch:
        """Nothing: only the order is timed."""
        raise NotImplementedError


def _orders(options: Options) -> list[Timing]:
    """Which samples the first batch of an epoch shows: the whole epoch is shuffled for it, later batches look it up."""
    from mesh_graphormer_hand.data.stream import Stream

    cases = {}
    for count in SAMPLES:
        stream, epoch = Stream([_Many(count)], batch_size=32), iter(range(10**6))

        def first(stream: Any = stream, epoch: Any = epoch, steps: int = count // 32 + 1) -> Any:
            return stream.indices(next(epoch) * steps)

        cases[f"{count} samples"] = Case(first)
    return compare(options, "orders", cases, f"{SAMPLES[0]} samples")


def ranks(rounds: int) -> list[Timing]:
    """Sums of gradients over processes of one thread on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_rank, (folder, rounds), nprocs=RANKS)
        seconds = json.loads((Path(folder) / "seconds.json").read_text(encoding="utf-8"))
    rows = []
    for name, count in EXCHANGED.items():
        middle = statistics.median(seconds[name])
        note = f"{4 * count / middle / 1e9:.2f} GB/s of gradients"
        rows.append(Timing(name, middle, (max(seconds[name]) - min(seconds[name])) / middle, 1, None, None, note))
    return rows


def _rank(rank: int, folder: str, rounds: int) -> None:
    """One of the processes; the first one writes what it measured."""
    torch.set_num_threads(1)
    group = torch.distributed
    group.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    seconds: dict[str, list[float]] = {}
    for name, count in EXCHANGED.items():
        gradients = torch.ones(count)
        group.all_reduce(gradients)
        for _ in range(rounds):
            group.barrier()
            start = time.perf_counter()
            group.all_reduce(gradients)
            seconds.setdefault(name, []).append(time.perf_counter() - start)
    if rank == 0:
        (Path(folder) / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
    group.destroy_process_group()
