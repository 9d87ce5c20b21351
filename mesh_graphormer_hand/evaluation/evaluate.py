"""Score predictors on a data set: one pass over the batches, every predictor and metric at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn
from tqdm import tqdm

from ..contracts import HandBatch, HandInputs, HandPrediction
from ..data.loader import Samples, SequentialBatches, load
from ..mano.template import HandTemplate
from ..metrics import Accumulator

DEFAULT_BATCH_SIZE = 32  # samples at once
Predictor = Callable[[HandInputs], HandPrediction]


class MeanPose:
    """A predictor that ignores the image: it gives the hand's template."""

    def __init__(self, template: HandTemplate) -> None:
        self.template = template

    def __call__(self, inputs: HandInputs) -> HandPrediction:
        count, device = inputs.image.shape[0], inputs.image.device
        vertices, joints = (t.to(device).expand(count, -1, -1) for t in (self.template.vertices, self.template.joints))
        hand = torch.full((count,), self.template.fingerprint, dtype=torch.int64, device=device)
        return HandPrediction(joints=joints, vertices=vertices, hand=hand)


@torch.no_grad()  # no inference tensors: sharded weights gathered here are used in training, too
def evaluate(
    predictors: Mapping[str, Predictor],
    dataset: Samples,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = DEFAULT_BATCH_SIZE,
    workers: int = 0,
    samples: int = 0,
    share: tuple[int, int] = (0, 1),
    progress: bool = True,
    watch: Callable[[dict[str, HandPrediction], HandBatch], None] | None = None,
) -> dict[str, Accumulator]:
    """Measure every predictor on the first `samples` (0: all) of `dataset`; the batch size changes no number.

    Networks are put into evaluation mode and back. `share` is (rank, count) of the process among those that divide the
    batches between them; `watch` is shown every batch with all its predictions. Returns one accumulator per predictor:
    `.summary()` gives the metrics, without those whose fields the predictor does not produce.
    """
    networks = [p for p in predictors.values() if isinstance(p, nn.Module)]
    training = [network.training for network in networks]
    accumulators = {name: Accumulator() for name in predictors}
    chunks = SequentialBatches(dataset, batch_size, samples)
    mine = list(range(share[0], len(chunks), share[1]))
    spare = [0] * (-(-len(chunks) // share[1]) - len(mine))  # sharded networks run in all processes or in none
    total = sum(chunks.size(i) for i in mine)
    batches = load(chunks, mine + spare, workers, torch.device(device))
    bar = tqdm(total=total, unit="img", desc="evaluate", disable=None if progress else True, dynamic_ncols=True)
    try:
        for network in networks:
            network.eval()
        for number, batch in enumerate(batches):
            answers = {n: as_float(p(batch.inputs_for(p))) for n, p in predictors.items()} if len(batch) else {}
            if number < len(mine):
                for name, prediction in answers.items():
                    accumulators[name].update(prediction, batch.targets, batch.keys)
                if watch is not None:
                    watch(answers, batch)
            bar.update(len(batch) if number < len(mine) else 0)
    finally:
        batches.close()
        bar.close()
        for network, mode in zip(networks, training, strict=True):
            network.train(mode)
    return accumulators


def evaluated_order(samples: int, processes: int = 1, batch_size: int = DEFAULT_BATCH_SIZE) -> list[int]:
    """Which sample each row of the joined accumulators of `processes` processes is about."""
    starts = list(range(0, samples, batch_size))
    mine = [start for rank in range(processes) for start in starts[rank::processes]]
    return [i for start in mine for i in range(start, min(start + batch_size, samples))]


def as_float(prediction: HandPrediction) -> HandPrediction:
    """The prediction in float32, whatever the autocast left it in."""
    return prediction.map(lambda t: t.float() if t.is_floating_point() else t)
