"""Fills a comparison: trains row after row, scores each on every column, measures what each costs, writes the table.

All results lie in results.json of the folder: the same call again goes on where it was stopped and computes only what
is missing, or has other settings, other weights or other files.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import assembly
from ...config import ConfigError, Experiment
from ...files import write_json
from ..columns import data_state
from ..cost import milliseconds
from ..row_runs import mixture, slug
from ..run import EvaluationSettings
from . import exports, subjects
from .report import Entry, Table, write
from .terms import Comparison, Row, experiment, run_of_row, trained

if TYPE_CHECKING:
    from ...data.base import HandDataset

Columns = dict[str, tuple[str, dict[str, Any]]]  # heading -> data set's name and options


@dataclass(frozen=True)
class Tools:
    """What the comparison has done for it, by layers above this one."""

    train: Callable[[str, list[str]], bool]  # config, settings -> whether the run came to its end
    show: Callable[[str], None]  # lines for the user
    machine: str  # in words
    find: exports.Finder | None = None  # the program of rows with `program`


@dataclass
class Comparer:
    """A comparison being filled."""

    comparison: Comparison
    columns: Columns
    out: Path
    settings: EvaluationSettings
    tools: Tools
    threads: int = 1  # of the timing

    def __post_init__(self) -> None:
        self.store = self.out / "results.json"
        self.known: dict[str, Any] = _read(self.store)
        self.states = {heading: data_state(raw) for heading, (_, raw) in self.columns.items()}
        self.networks: dict[str, list[subjects.Network]] = {}  # by row, one a seed
        self.entries: list[Entry] = []
        self.notes: list[str] = list(self.comparison.notes)

    def fill(self) -> bool:
        """Fill and write the table; False where a training was stopped, which the same call goes on with."""
        for heading, row in self.comparison.rows.items():
            self.tools.show(f"row {heading}")
            if row.config and not self._train(heading):
                return False
            if row.program:
                self._add_program(heading, row)
            else:
                self._add_network(heading, row)
            write(self.out, self.table(), pictures=False)  # the rows so far
        self._time()
        for path in write(self.out, self.table()):
            self.tools.show(str(path))
        return True

    def table(self) -> Table:
        """The rows so far with what is said about them."""
        caption, times = self._caption(), self._times()
        if times:
            caption.append(
                f"ms: median time of a crop, batch of 1, float32, {times['threads']} thread"
                f"{'s' * (times['threads'] > 1)}, all rows in turns on {times['machine']}."
            )
        ms = times.get("ms", {})
        entries = [replace(entry, ms=ms.get(entry.row)) for entry in self.entries]
        return Table(caption, list(self.columns), entries, list(dict.fromkeys(self.notes)))

    def _train(self, heading: str) -> bool:
        for seed in range(self.comparison.seeds):
            name, settings = run_of_row(self.comparison, self.out, heading, seed)
            done = self.known["trained"].setdefault(name, {"seconds": 0.0, "finished": False})
            if not done["finished"] or not (self.out / name / "model").is_dir():
                start = time.monotonic()
                try:
                    done["finished"] = self.tools.train(self.comparison.rows[heading].config, settings)
                finally:
                    done["seconds"] += time.monotonic() - start
                    self._keep()
                if not done["finished"]:
                    return False
        return True

    def _add_network(self, heading: str, row: Row) -> None:
        self.networks[heading] = self._networks(heading, row)
        by_seed = []
        for network in self.networks[heading]:
            scores = {}
            for column, (name, raw) in self.columns.items():
                key = json.dumps([network.ident, column, name, raw, self.settings.samples, self.states[column]])
                compute = partial(subjects.score, network, name, raw, self.settings)
                scores[column] = self._once("scores", key, lambda c=compute: subjects.shown(c()))
            by_seed.append(scores)
        first = self.networks[heading][0]
        about = self._once("about", first.ident, lambda: subjects.about(first.load(), *self._first_column()))
        here = all(self.comparison.rows[name].config for name in (row.chain or [heading]))
        self.entries.append(Entry(heading, heading, by_seed, about, equal=here and not about["lifts"]))
        if row.weights:
            self.notes.append(f"{heading}: a saved model as it is, of other data and another budget")
        if row.chain:
            self.notes.append(f"{heading}: two rows as one network, each trained alone on its own samples")
        if about["lifts"]:
            self.notes.append(f"{heading}: lifts the labelled 2D joints, which it is given")

    def _networks(self, heading: str, row: Row) -> list[subjects.Network]:
        if row.weights:
            return [subjects.saved(assembly.find_model(row.weights))]
        if row.chain:
            first, second = (self.networks[name] for name in row.chain)
            return [subjects.chained(a, b) for a, b in zip(first, second, strict=False)]
        names = [run_of_row(self.comparison, self.out, heading, s)[0] for s in range(self.comparison.seeds)]
        return [subjects.saved(self.out / name / "model", name) for name in names]

    def _add_program(self, heading: str, row: Row) -> None:
        ways: dict[str, dict[str, Any]] = {exports.FOUND: {}, exports.ALL: {}}
        for column, (name, raw) in self.columns.items():
            path = self.out / "exports" / f"{slug(heading)}_{slug(column)}.json"
            of = [row.program, row.image_size, name, raw, self.settings.samples, self.states[column]]
            dataset = self._crops(name, raw, row.image_size)
            hands = exports.read(path, of)
            if hands is None and self.tools.find is None:
                self.notes.append(f"{heading}: no predictions of {column} yet: give --mediapipe-python")
                continue
            if hands is None:
                exports.export(self.tools.find, dataset, self.settings.samples, 0, path, of)
                hands = exports.read(path, of)
            key = json.dumps([*of, path.stat().st_mtime_ns])
            compute = partial(_score_export, hands, dataset, self.settings.samples)
            for way, scores in self._once("scores", key, compute).items():
                ways[way][column] = scores
        gives = [word for word, m in (("2D", "epe_2d"), ("3D", "mpjpe")) if _any_has(ways[exports.FOUND], m)]
        about = {"parameters": None, "gmac": None, "gives": gives, "lifts": False}
        for way, scores in ways.items():
            if scores:
                self.entries.append(Entry(f"{heading}, {way}", heading, [scores], about, equal=False))
        shares = ", ".join(f"{s['found']} of {s['samples']} in {c}" for c, s in ways[exports.FOUND].items())
        what = (
            f"another program, with threads of its own, on the same crops at {row.image_size} px; hands found: {shares}"
        )
        self.notes.append(f"{heading}: {what if shares else 'nothing was predicted'}")

    def _times(self) -> dict[str, Any]:
        """The times that were measured for these rows; empty: none. Without the program, its old time still holds."""
        times, (idents, programs, *where) = self.known.get("milliseconds", {}), self._timed()
        of = times.get("of", [None, None])
        same = of[0] == idents and of[2:] == where and (self.tools.find is None or of[1] == programs)
        return times if same else {}

    def _timed(self) -> list[Any]:
        """What a timing is about."""
        idents = [[heading, networks[0].ident] for heading, networks in self.networks.items()]
        programs = [heading for heading, row in self.comparison.rows.items() if row.program and self.tools.find]
        return [idents, programs, self.threads, self.tools.machine]

    def _time(self) -> None:
        if self._times():
            return
        name, raw = self._first_column()
        self.tools.show("time of a crop")
        calls = {h: subjects.forward_call(n[0].load(), name, raw) for h, n in self.networks.items()}
        for heading, row in self.comparison.rows.items():
            if row.program and self.tools.find is not None:
                crop = exports.pixels(self._crops(name, raw, row.image_size).load([0]), 0)
                calls[heading] = partial(self.tools.find, crop)
        times = {"of": self._timed(), "threads": self.threads, "machine": self.tools.machine}
        self.known["milliseconds"] = {**times, "ms": milliseconds(calls, self.threads)}
        self._keep()

    def _crops(self, name: str, raw: dict[str, Any], image_size: int) -> HandDataset:
        """The test set `name` as a program sees it: the crops of the trained rows, at another size."""
        rows = list(trained(self.comparison).values())
        made = experiment(self.comparison, rows[0], 0) if rows else Experiment()
        hand = assembly.load_hand(made)
        return assembly.build_dataset(name, dict(raw), "test", hand, image_size, made.data.crop, f"--data {name}")

    def _first_column(self) -> tuple[str, dict[str, Any]]:
        return next(iter(self.columns.values()))

    def _caption(self) -> list[str]:
        rows = trained(self.comparison)
        if not rows:
            return []
        made, seeds = experiment(self.comparison, next(iter(rows.values())), 0), self.comparison.seeds
        data, train = made.data, made.train
        return [
            "Rows are trained here on equal terms, where no note says otherwise: from nothing, "
            f"{train.steps * train.batch_size:,} samples of {mixture(data.train)}, {data.image_size} px, "
            f"a batch of {train.batch_size}, "
            + (f"seeds 0 to {seeds - 1} (mean ± half the range)" if seeds > 1 else "seed 0")
            + ", optimiser and augmentation those of the row's config."
        ]

    def _once(self, part: str, key: str, compute: Callable[[], Any]) -> Any:
        if key not in self.known[part]:
            self.known[part][key] = compute()
            self._keep()
        return self.known[part][key]

    def _keep(self) -> None:
        write_json(self.store, self.known)


def _any_has(scores: dict[str, Any], metric: str) -> bool:
    return any(metric in found["metrics"] for found in scores.values())


def _score_export(hands: dict[str, Any], dataset: HandDataset, samples: int) -> dict[str, dict[str, Any]]:
    return {way: subjects.shown(found) for way, found in exports.score(hands, dataset, samples, 0).items()}


def _read(path: Path) -> dict[str, Any]:
    empty: dict[str, Any] = {"trained": {}, "scores": {}, "about": {}}
    if not path.is_file():
        return empty
    try:
        return empty | json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} is damaged ({error}): delete it, and the rows are scored anew") from None


def budget(comparison: Comparison, out: Path, measure: Callable[[str, list[str]], Any]) -> Iterator[list[str]]:
    """Rows of text: what each trained row would take on this machine; `measure` gives the Estimate of a dry run."""
    total = 0.0
    yield ["row", "M parameters", "GMAC", "samples", "images/s", "minutes"]
    for heading, row in trained(comparison).items():
        _, settings = run_of_row(comparison, out, heading, 0)
        made = experiment(comparison, row, 0).train
        figures = measure(row.config, settings)
        samples = made.steps * made.batch_size * comparison.seeds
        minutes = samples / figures.images_per_second / 60
        total += minutes
        parameters, macs = sum(figures.parameters.values()) / 1e6, figures.flops / 2e9
        numbers = [f"{parameters:.2f}", f"{macs:.2f}", f"{samples:,}"]
        yield [heading, *numbers, f"{figures.images_per_second:.1f}", f"{minutes:.0f}"]
    yield ["all", "", "", "", "", f"{total:.0f}"]
