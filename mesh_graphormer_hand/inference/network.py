"""A trained network for prediction: by ONNX Runtime where it is installed and its graph is ready, else by torch.

A graph (`model.onnx`) is ready where it lies beside the weights, as that of the shipped ones does, or in the cache, to
which `backend="onnx"` exports it once; the default never exports, since that takes half a minute. Torch computes by
public means alone: batch norms folded into convolutions, and channels last.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from .. import assembly, files
from ..config import ConfigError, nearest
from . import BACKENDS
from .folding import fold_batch_norms
from .onnx import ONNX, WEIGHTS, OnnxModel, cache_folder

if TYPE_CHECKING:
    from ..models.base import HandModel

logger = logging.getLogger(__name__)


def load_network(path: str | Path, device: str | torch.device = "cpu", backend: str = "auto") -> nn.Module:
    """The network of a run, a saved or exported folder or shipped weights, as a map from HandInputs to HandPrediction.

    Args:
        backend: "auto" (ONNX Runtime where a graph of these weights is ready and `device` is a CPU, else torch), "onnx"
            (the graph is exported once if it is not ready) or "torch".

    Raises:
        ConfigError: no such model or backend; ONNX Runtime or, where it is needed, its exporter is not installed.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"backend={backend!r}{nearest(backend, BACKENDS)} (there are: {', '.join(BACKENDS)})")
    folder = assembly.find_model(path)
    if not (folder / WEIGHTS).is_file() and backend != "torch":
        return OnnxModel(folder)  # exported: the graph is all there is
    if backend == "onnx":
        if (ready := ready_graph(folder)) is not None:
            return ready
        from .onnx_export import export_to_cache

        return OnnxModel(folder, graph=export_to_cache(folder))
    on_cpu = torch.device(device).type == "cpu" and importlib.util.find_spec("onnxruntime") is not None
    if backend == "auto" and on_cpu and (ready := ready_graph(folder)) is not None:
        return ready
    return for_prediction(assembly.load_model(folder)).to(device)


def ready_graph(folder: Path) -> OnnxModel | None:
    """The graph of these weights, from beside them or from the cache; None: there is none that can be used."""
    mark = files.sha256(folder / WEIGHTS)
    for graph in (folder / ONNX, cache_folder() / mark / ONNX):
        if not graph.is_file():
            continue
        try:
            model = OnnxModel(folder, graph=graph)
        except ConfigError as error:
            logger.warning("%s; it is not used", error)
            continue
        if model.weights_sha256 == mark:
            return model
        logger.warning("%s is of other weights than %s: it is not used", graph, folder / WEIGHTS)
    return None


def for_prediction(model: HandModel) -> HandModel:
    """A copy with folded batch norms and weights in channels-last order; its outputs differ by rounding only."""
    return fold_batch_norms(model).to(memory_format=torch.channels_last)
