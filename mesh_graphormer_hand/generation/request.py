"""What a user asks hand-generate for: checked, turned into a plan, and carried out. Messages name the options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import config as configs
from ..config import ConfigError
from ..files import write_bytes
from ..virtual.config import EXTRA_LABELS, check_labels
from .renderer import KINDS, SHEET, Plan, Renderer, contact_sheet
from .write import estimate, write

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from ..virtual.config import VirtualConfig

IMAGE_SIZES_PX = 16, 4096  # px, least and largest side of a picture
MAX_SAMPLES = 10**8  # samples of one job


@dataclass(frozen=True)
class Request:
    """The options of hand-generate, whose --help says what they mean."""

    config: str
    overrides: list[str]
    out: str | None
    count: int | None
    kind: str
    layout: str | None
    image_size: int | None
    quality: int
    lossless: bool
    left_fraction: float
    labels: str
    shard: str | None
    workers: int
    device: str
    hand: str
    dry_run: bool
    sheet: str | None
    check: int | None
    plots: str | None


def carry_out(request: Request, environment: Mapping[str, str], show: Callable[[str], None]) -> bool:
    """Render, write, estimate or judge as a checked request says.

    Args:
        environment: of the process: a launcher's RANK, WORLD_SIZE and LOCAL_WORLD_SIZE divide the work.
        show: called with each line of the report, such as `print`.

    Returns:
        Whether all samples are as they should be, where they are judged; else True.

    Raises:
        ConfigError: a bad shard, config or number of samples.
    """
    share, of = shard_of(request.shard, environment)
    config = read_config(request.config, request.overrides, request.count, bool(request.out), request.kind)
    if request.sheet and not (request.out or request.dry_run):
        config = replace(config, count=max(config.count, SHEET))
    plan = plan_of(request, config, share, of)
    workers = worker_count(request.workers, environment)
    if request.check:
        from .check_samples import check_samples

        plan = replace(plan, config=replace(config, count=request.check), labels=EXTRA_LABELS, left_fraction=0.0)
        table, good = check_samples(plan, workers, Path(request.plots) if request.plots else None)
        show("\n".join([*table, *([request.plots] if request.plots else [])]))
        return good
    renderer = Renderer.of(plan)
    if request.sheet and not share:
        write_picture(Path(request.sheet), contact_sheet(renderer))
        show(request.sheet)
    if request.dry_run:
        show(estimate(renderer, workers, Path(request.out or ".")))
    elif request.out:
        write(renderer, Path(request.out), workers)
        show(request.out)
    return True


def plan_of(request: Request, config: VirtualConfig, share: int, of: int) -> Plan:
    """The plan of share `share` of `of`."""
    from .job import Shard
    from .layouts.base import Encoding

    return Plan(
        config,
        request.hand,
        request.device,
        request.image_size,
        request.layout,
        Encoding(request.quality, request.lossless),
        Shard(share, of),
        request.left_fraction,
        labels_of(request),
        request.kind,
    )


def checked(request: Request) -> Request:
    """The request with what depends on its kind and its config filled in; refuses values that make no sense.

    Raises:
        ConfigError: one of them.
    """
    if "=" in request.config:
        request = replace(request, config="virtual.yaml", overrides=[request.config, *request.overrides])
    request = with_kind(request)
    low, high = IMAGE_SIZES_PX
    if not (request.out or request.sheet or request.dry_run or request.check):
        raise ConfigError("--out is missing: say where to write (or --dry-run, --sheet FILE, --check N)")
    if request.check is not None and request.out:
        raise ConfigError("--check writes no samples: leave --out away")
    if request.check is not None and not 1 <= request.check <= MAX_SAMPLES:
        raise ConfigError(f"--check {request.check} should be 1 to {MAX_SAMPLES}")
    if not low <= request.image_size <= high:
        raise ConfigError(f"--image-size {request.image_size} should be {low} to {high} pixels")
    if not 1 <= request.quality <= 100:
        raise ConfigError(f"--quality {request.quality} should be 1 to 100")
    if not 0 <= request.left_fraction <= 1:
        raise ConfigError(f"--left-fraction {request.left_fraction} should be a number from, 0 to 1")
    if request.left_fraction and request.layout == "freihand":
        raise ConfigError("--left-fraction: FreiHAND's files hold right hands; take another layout")
    labels_of(request)
    if request.count is not None and not 1 <= request.count <= MAX_SAMPLES:
        raise ConfigError(f"--count {request.count} should be 1 to {MAX_SAMPLES}")
    if request.sheet and Path(request.sheet).suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"--sheet {request.sheet}: its name should end in .png or .jpg")
    return request


def with_kind(request: Request) -> Request:
    """Settle layout and size by what is to be written, and refuse what only crops have.

    Raises:
        ConfigError: an unknown name, or options that do not fit.
    """
    kind = request.kind
    if kind not in KINDS:
        hint = configs.nearest(kind, tuple(KINDS))
        raise ConfigError(f"--kind: no {kind!r}{hint} (there are: {', '.join(KINDS)})")
    layouts = KINDS[kind].layouts
    size = KINDS[kind].size if request.image_size is None else request.image_size
    request = replace(request, layout=request.layout or layouts[0], image_size=size)
    if request.layout not in layouts:
        hint = configs.nearest(request.layout, layouts)
        raise ConfigError(f"--layout: no layout {request.layout!r} of {kind}{hint} (there are: {', '.join(layouts)})")
    alone = [name for name in ("sheet", "check", "left_fraction") if getattr(request, name)]
    if kind != "crops" and alone:
        option = alone[0].replace("_", "-")
        raise ConfigError(f"--{option} is for crops: leave it away with --kind {kind}")
    return request


def labels_of(request: Request) -> tuple[str, ...]:
    """The labels to make beyond the usual ones; frames and FreiHAND's files have no room for any.

    Raises:
        ConfigError: an unknown one.
    """
    if request.labels == "none" or request.layout in ("freihand", "coco"):
        return ()
    wanted = EXTRA_LABELS if request.labels == "all" else tuple(request.labels.split(","))
    try:
        check_labels(wanted)
    except ConfigError as error:
        raise ConfigError(f"--labels: {error}, or all, none") from None
    return tuple(name for name in EXTRA_LABELS if name in wanted)


def shard_of(text: str | None, environment: Mapping[str, str]) -> tuple[int, int]:
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


def worker_count(asked: int, environment: Mapping[str, str]) -> int:
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
    from .kinds import SCHEMAS

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


def write_picture(path: Path, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    """Save an RGB picture, at once or not at all."""
    from .layouts.base import Encoding

    encoding = Encoding(quality=90, lossless=path.suffix.lower() == ".png")
    write_bytes(path, encoding.encode(picture[..., ::-1]))
