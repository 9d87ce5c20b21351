"""Write virtual hands to files:  hand-generate [CONFIG] --out DIR --count N [key=value ...]   (also tools/generate.py)

CONFIG holds the generator's options (default: virtual.yaml). The same command goes on after a kill. --shard i/n writes
one share of n, into the same folder or another; copy the folders over one another and run the command without --shard
to finish. Under `accelerate launch` or torchrun each process takes its own share. --kind is crops of one hand each,
whole frames, moments seen by several cameras (views=V) or sequences (length=T rate=HZ).
"""

from __future__ import annotations

import argparse
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import config as configs
from ..config import ConfigError
from ..files import write_bytes
from ..generation.renderer import KINDS, SHEET, Plan, Renderer, contact_sheet
from ..generation.write import estimate, write
from ..virtual.config import EXTRA_LABELS, check_labels
from . import console

if TYPE_CHECKING:
    import numpy as np

    from ..virtual.config import VirtualConfig

IMAGE_SIZES_PX = 16, 4096  # px, least and largest side of a picture
MAX_SAMPLES = 10**8  # samples of one job

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-generate", description=__doc__.splitlines()[0])
    shipped = f"a YAML file, or one of {console.shipped_configs('virtual*.yaml')} (default: virtual)"
    parser.add_argument("config", metavar="CONFIG", nargs="?", default="virtual.yaml", help=shipped)
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="the generator's options, such as seed=1")
    parser.add_argument("--out", metavar="DIR", help="where to write")
    parser.add_argument("--count", type=int, metavar="N", help="samples (default: the config's, where it has a number)")
    parser.add_argument("--kind", default="crops", help=f"{', '.join(KINDS)} (default: crops)")
    layouts = "; ".join(f"of {name}: {', '.join(kind.layouts)}" for name, kind in KINDS.items())
    parser.add_argument("--layout", help=f"{layouts} (default: the first)")
    parser.add_argument("--image-size", type=int, metavar="PX", help="side of the pictures (default: 224; frames: 640)")
    parser.add_argument("--quality", type=int, default=95, metavar="Q", help="of the JPEGs, 1 to 100 (default: 95)")
    parser.add_argument("--lossless", action="store_true", help="pictures as PNG")
    parser.add_argument("--left-fraction", type=float, default=0.0, metavar="P", help="of the hands (default: 0)")
    parser.add_argument(
        "--labels", default="all", metavar="LIST", help=f"all (default), none, or some of {','.join(EXTRA_LABELS)}"
    )
    parser.add_argument("--shard", metavar="i/n", help="write one share of n, counted from 0")
    parser.add_argument("--workers", type=int, default=-1, metavar="W", help="processes; 0: none (default: the cores)")
    parser.add_argument("--device", default="cpu", help="where to render: cpu (default), cuda, ...")
    parser.add_argument("--hand", default="auto", help="auto (default), open, or a MANO file or folder")
    parser.add_argument("--dry-run", action="store_true", help="render one block and say bytes, files and hours")
    parser.add_argument("--sheet", metavar="FILE", help=f"draw a contact sheet of the first {SHEET} samples, too")
    parser.add_argument("--check", type=int, metavar="N", help="render N samples, write none, and judge their labels")
    parser.add_argument("--plots", metavar="FILE", help="with --check: draw what the samples cover")
    console.refuse_renamed(parser, {"--what": "--kind", "--left": "--left-fraction"})
    arguments = parser.parse_intermixed_args(argv)
    return console.run(lambda: generate(arguments))


def generate(arguments: argparse.Namespace) -> int:
    """Write as the command line says; see the module's docstring."""
    if "=" in arguments.config:
        arguments.overrides.insert(0, arguments.config)
        arguments.config = "virtual.yaml"
    check(arguments)
    share, of = shard_of(arguments.shard, os.environ)
    wanted = arguments.config, arguments.overrides, arguments.count
    config = read_config(*wanted, needs_count=bool(arguments.out), kind=arguments.kind)
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
        arguments.left_fraction,
        labels_of(arguments),
        arguments.kind,
    )
    workers = worker_count(arguments.workers, os.environ)
    if arguments.check:
        from ..generation.check_samples import check_samples

        plan = replace(plan, config=replace(config, count=arguments.check), labels=EXTRA_LABELS, left_fraction=0.0)
        table, good = check_samples(plan, workers, Path(arguments.plots) if arguments.plots else None)
        print("\n".join([*table, *([arguments.plots] if arguments.plots else [])]))
        return 0 if good else 1
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
    """Refuse values that make no sense, before anything slow; fill in what depends on --kind.

    Raises:
        ConfigError: one of them.
    """
    check_kind(arguments)
    low, high = IMAGE_SIZES_PX
    if not (arguments.out or arguments.sheet or arguments.dry_run or arguments.check):
        raise ConfigError("--out is missing: say where to write (or --dry-run, --sheet FILE, --check N)")
    if arguments.check is not None and arguments.out:
        raise ConfigError("--check writes no samples: leave --out away")
    if arguments.check is not None and not 1 <= arguments.check <= MAX_SAMPLES:
        raise ConfigError(f"--check {arguments.check} should be 1 to {MAX_SAMPLES}")
    if not low <= arguments.image_size <= high:
        raise ConfigError(f"--image-size {arguments.image_size} should be {low} to {high} pixels")
    if not 1 <= arguments.quality <= 100:
        raise ConfigError(f"--quality {arguments.quality} should be 1 to 100")
    if not 0 <= arguments.left_fraction <= 1:
        raise ConfigError(f"--left-fraction {arguments.left_fraction} should be a number from, 0 to 1")
    if arguments.left_fraction and arguments.layout == "freihand":
        raise ConfigError("--left-fraction: FreiHAND's files hold right hands; take another layout")
    labels_of(arguments)
    if arguments.count is not None and not 1 <= arguments.count <= MAX_SAMPLES:
        raise ConfigError(f"--count {arguments.count} should be 1 to {MAX_SAMPLES}")
    if arguments.sheet and Path(arguments.sheet).suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"--sheet {arguments.sheet}: its name should end in .png or .jpg")


def check_kind(arguments: argparse.Namespace) -> None:
    """Settle layout and size by what is to be written, and refuse what only crops have.

    Raises:
        ConfigError: an unknown name, or options that do not fit.
    """
    kind = arguments.kind
    if kind not in KINDS:
        hint = configs.nearest(kind, tuple(KINDS))
        raise ConfigError(f"--kind: no {kind!r}{hint} (there are: {', '.join(KINDS)})")
    layouts = KINDS[kind].layouts
    if arguments.layout is None:
        arguments.layout = layouts[0]
    if arguments.layout not in layouts:
        hint = configs.nearest(arguments.layout, layouts)
        raise ConfigError(f"--layout: no layout {arguments.layout!r} of {kind}{hint} (there are: {', '.join(layouts)})")
    if arguments.image_size is None:
        arguments.image_size = KINDS[kind].size
    alone = [name for name in ("sheet", "check", "left_fraction") if getattr(arguments, name)]
    if kind != "crops" and alone:
        option = alone[0].replace("_", "-")
        raise ConfigError(f"--{option} is for crops: leave it away with --kind {kind}")


def labels_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The labels to make beyond the usual ones; frames and FreiHAND's files have no room for any.

    Raises:
        ConfigError: an unknown one.
    """
    if arguments.labels == "none" or arguments.layout in ("freihand", "coco"):
        return ()
    wanted = EXTRA_LABELS if arguments.labels == "all" else tuple(arguments.labels.split(","))
    try:
        check_labels(wanted)
    except ConfigError as error:
        raise ConfigError(f"--labels: {error}, or all, none") from None
    return tuple(name for name in EXTRA_LABELS if name in wanted)


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
    path: str, overrides: list[str], count: int | None, needs_count: bool, kind: str = "crops"
) -> VirtualConfig:
    """The generator's options with the number of samples in them.

    Raises:
        ConfigError: an unknown key, a wrong type, no count, or more samples than a finite split has.
    """
    from ..generation.kinds import SCHEMAS

    config = configs.parse(SCHEMAS[kind], configs.read(path, overrides))
    if config.count < 1:
        raise ConfigError(f"count: {config.count} should be 1 or more")
    if count is None:
        if config.count > MAX_SAMPLES and needs_count:
            raise ConfigError("--count is missing: say how many samples (this config's are endless)")
        return replace(config, count=min(config.count, MAX_SAMPLES))
    if count > config.count:
        raise ConfigError(f"--count {count} is more than the {config.count} samples of {path}")
    return replace(config, count=count)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Save an RGB picture, at once or not at all."""
    from ..generation.layouts.base import Encoding

    encoding = Encoding(quality=90, lossless=path.suffix.lower() == ".png")
    write_bytes(path, encoding.encode(picture[..., ::-1]))
