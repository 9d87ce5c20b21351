"""Exported networks as models: ONNX graphs computed by ONNX Runtime, and the cache of graphs.

The metadata of a graph holds the SHA-256 of the weights' file that it was exported from, so that an old graph never
stands in for retrained weights.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import assembly, paths
from ..config import ConfigError, CropSpec, parse
from ..contracts import HandInputs, HandPrediction
from ..mano.hand import fingerprint_from_hex

logger = logging.getLogger(__name__)

ONNX, WEIGHTS = "model.onnx", "model.safetensors"  # file names in a model's folder
WEIGHTS_KEY = "weights_sha256"  # of a graph's metadata
OUTPUTS = tuple(f.name for f in fields(HandPrediction) if f.name not in ("aux", "hand"))


@dataclass(frozen=True)
class GraphConfig:
    """The part of `models.base.HandModelConfig` that prediction needs, read without importing transformers."""

    name: str  # of the architecture
    image_size: int  # px, side of the crops
    hand: str  # fingerprint, hexadecimal
    options: dict[str, Any]
    crop_spec: CropSpec

    @classmethod
    def read(cls, folder: Path) -> GraphConfig:
        """Of the folder's config.json.

        Raises:
            ConfigError: it is damaged or lacks a key.
        """
        path = folder / "config.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            crop = parse(CropSpec, content.get("crop") or {}, where=f"{path}: crop")
            return cls(**{f.name: content[f.name] for f in fields(cls) if f.name != "crop_spec"}, crop_spec=crop)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no model's config: {error}") from None


class OnnxModel(nn.Module):
    """An ONNX graph as a model: HandInputs in, HandPrediction out, computed by ONNX Runtime on the CPU.

    Raises:
        ConfigError: no graph there, a damaged one, or no ONNX Runtime.
    """

    def __init__(self, folder: str | Path, threads: int = 0, graph: Path | None = None) -> None:
        """`folder`: with config.json and, unless `graph` names it, model.onnx; `threads`: of ONNX Runtime, 0: as many
        as torch uses."""
        super().__init__()
        path = graph or Path(folder) / ONNX
        self.session = _session(path, threads or torch.get_num_threads())
        self.config = GraphConfig.read(Path(folder))
        logger.info(assembly.about_weights(Path(folder), WEIGHTS if (Path(folder) / WEIGHTS).is_file() else ONNX))
        self.weights_sha256 = self.session.get_modelmeta().custom_metadata_map.get(WEIGHTS_KEY, "")
        self.produces = tuple(output.name for output in self.session.get_outputs())
        if foreign := set(self.produces) - set(OUTPUTS):
            raise ConfigError(f"{path} gives {', '.join(sorted(foreign))}, which no model of ours does")

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict for a batch of images."""
        image = inputs.image.detach().cpu().float().contiguous().numpy()
        values = [torch.from_numpy(v) for v in self.session.run(self.produces, {"image": image})]
        hand = torch.full((len(image),), fingerprint_from_hex(self.config.hand))
        return HandPrediction(**dict(zip(self.produces, values, strict=True)), hand=hand)


def _session(path: Path, threads: int) -> Any:
    """ONNX Runtime's session of a graph."""
    runtime = import_extra("onnxruntime")
    if not path.is_file():
        raise ConfigError(f"{path.parent} has no {path.name}: make one with tools/export.py (hand-export)")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    # else its threads wait for work in a busy loop after each call, and what torch does next takes twice as long
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own errors share no base class
        raise ConfigError(f"{path} is no network that ONNX Runtime can run: {str(error).splitlines()[0]}") from None


def cache_folder() -> Path:
    """Where graphs are kept, each in a folder that is named by the SHA-256 of its weights."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mesh_graphormer_hand" / "onnx"


def import_extra(name: str) -> Any:
    """A module of the extra "export".

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f"{name} is not installed: this {needs()}") from None


def needs() -> str:
    """The command for a message about a missing package of the extra "export"."""
    return f'needs the extra "export": {paths.install_command("export")}'
