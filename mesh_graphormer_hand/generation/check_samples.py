"""hand-generate --check N: check labels of N samples and equal bytes from any number of processes. With plots."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import replacing
from .renderer import Plan, Renderer
from .write import PRELOAD

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from .audit import Measures

REPEATED_BLOCKS = 6  # blocks that are rendered again by 1, 2 and 3 processes and in two shards
TABLE_ROW = "{:44} {:>14}  {:10} {}"

_renderer: Renderer  # of a worker process


def check_samples(plan: Plan, workers: int, plots: Path | None) -> tuple[list[str], bool]:
    """Render and judge all samples of `plan`: the lines of a table, and whether all is well. Draws into `plots`."""
    import numpy as np
    from tqdm import tqdm

    from ..virtual.generator import BLOCK
    from . import audit

    blocks = range(-(-plan.config.count // BLOCK))
    found, tones, digests = [], [], {}
    bar = tqdm(total=plan.config.count, unit="img", desc="check", dynamic_ncols=True)
    with bar:
        for block, measures, tone, digest in _rendered(plan, blocks, workers):
            found.append(measures)
            tones.append(tone)
            digests[block] = digest
            bar.update(len(measures.hand))
    measures = audit.Measures.cat(found)
    verdicts = [*audit.judge(measures), _same_bytes(plan, list(blocks)[:REPEATED_BLOCKS], digests)]
    table = [TABLE_ROW.format(f"{len(measures.hand):,} samples, {plan.size} px", "", "should be", "")]
    table += [TABLE_ROW.format(v.name, v.value, v.wanted, "" if v.good else "NOT MET") for v in verdicts]
    if plots:
        draw(measures, np.concatenate(tones), plots)
    return table, all(v.good for v in verdicts)


def _rendered(plan: Plan, blocks: list[int] | range, workers: int) -> Iterator[tuple[int, Measures, np.ndarray, str]]:
    """Of each block its number, measures, skin tones and hash, in the order of the blocks."""
    if not workers:
        _start(plan)
        yield from map(_work, blocks)
        return
    from ..data.loader import process_context

    with ProcessPoolExecutor(workers, process_context(PRELOAD), _start_worker, (plan,)) as pool:
        yield from pool.map(_work, blocks, chunksize=1)


def _start_worker(plan: Plan) -> None:
    from ..data.loader import prepare_process

    prepare_process((signal.SIGINT,))
    _start(plan)


def _start(plan: Plan) -> None:
    global _renderer
    _renderer = Renderer.of(plan)


def _work(block: int) -> tuple[int, Measures, np.ndarray, str]:
    import torch

    from ..virtual.generator import BLOCK
    from . import audit

    hands = _renderer.hands
    batch = _renderer.render(list(range(block * BLOCK, min((block + 1) * BLOCK, len(hands)))))
    measures = audit.measure(batch, torch.from_numpy(hands.hand.faces))
    return block, measures, batch.targets.skin_tone.numpy(), audit.digest(batch)


def _same_bytes(plan: Plan, blocks: list[int], digests: dict[int, str]) -> object:
    """The blocks again: by 1, 2 and 3 processes, and as shards 0/2 and 1/2."""
    from . import audit

    ways = [(blocks, n) for n in (1, 2, 3)] + [(blocks[shard::2], 1) for shard in (0, 1)]
    differ = sum(digest != digests[block] for part, n in ways for block, _, _, digest in _rendered(plan, part, n))
    name = f"blocks of {len(blocks)} that differ by workers or shards"
    return audit.Verdict(name, f"{differ}", "0", not differ)


def draw(measures: Measures, tones: Float[np.ndarray, "n 3"], path: Path) -> None:
    """Six plots of what the samples cover."""
    import numpy as np
    from matplotlib.figure import Figure  # no pyplot: no global state, no window

    from ..contracts import SEGMENTATION_CLASSES

    figure = Figure(figsize=(13, 7.2), layout="constrained")
    axes = figure.subplots(2, 3)
    order, lightness = np.argsort(measures.lightness), measures.lightness
    counts, edges = np.histogram(lightness, 24)
    for k, count in enumerate(counts):
        inside = (lightness >= edges[k]) & (lightness <= edges[k + 1])
        colour = np.sqrt(np.clip(tones[inside].mean(0), 0, 1)) if inside.any() else (0, 0, 0)
        axes[0, 0].bar(edges[k], count, edges[1] - edges[0], align="edge", color=colour)
    axes[0, 0].set(title="skin: CIE L*", xlabel=f"L* ({lightness[order[0]]:.0f} to {lightness[order[-1]]:.0f})")
    x, y, z = measures.view.T
    axes[0, 1].hist2d(np.degrees(np.arctan2(z, x)), y, bins=(24, 12), cmap="viridis", range=((-180, 180), (-1, 1)))
    axes[0, 1].set(
        title="views (equal areas)", xlabel="azimuth, degrees; 0: along the forearm", ylabel="palm  ...  back"
    )
    axes[0, 2].hist(np.clip(measures.agreement, 0.9, 1), 40)
    axes[0, 2].set(title="mask and mesh agree", xlabel="share of pixels", yscale="log")
    axes[1, 0].hist(measures.visible, np.arange(23) - 0.5)
    axes[1, 0].set(title="joints in sight", xlabel="of 21")
    axes[1, 1].hist(measures.distance, 40)
    axes[1, 1].set(title="distance", xlabel="m")
    names = SEGMENTATION_CLASSES[: measures.share.shape[1]]
    axes[1, 2].barh(names, (measures.share > 0.002).mean(0))
    axes[1, 2].set(title="samples that show it", xlim=(0, 1))
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=80)
