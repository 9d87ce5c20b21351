"""Models for programs without this package: ONNX and torch.export files, and ONNX files as models again.

An exported network takes `image` (batch, 3, size, size), RGB in [0, 1], any batch, and gives what the model's own
forward pass gives, camera included, under the names of HandPrediction. Beside it lie config.json, which says for which
hand it is and on which size of crops it was trained, and hand.json, with that hand's faces and the joints' names.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import assembly, files, paths
from ..config import ConfigError
from ..contracts import HandInputs, HandPrediction
from ..mano import hand as hands
from ..mano.hand import fingerprint_from_hex
from ..models.base import HandModel, HandModelConfig
from ..skeleton import JOINT_NAMES, PARENTS
from .fused import optimise

if TYPE_CHECKING:
    from torch.export import ExportedProgram

logger = logging.getLogger(__name__)

ONNX, PROGRAM, HAND = "model.onnx", "model.pt2", "hand.json"  # file names in an exported folder
OPSET = 18
TOLERANCE = 1e-4  # of an output's largest number
OUTPUTS = tuple(f.name for f in fields(HandPrediction) if f.name not in ("aux", "hand"))


class Tensors(nn.Module):
    """A model from an image to those tensors that it produces, in the order of `names`."""

    def __init__(self, model: HandModel) -> None:
        super().__init__()
        self.model = model
        with torch.inference_mode():
            produced = model(HandInputs(image=_example(model, 1)))
        self.names = [name for name in OUTPUTS if getattr(produced, name) is not None]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        prediction = self.model(HandInputs(image=image))
        return tuple(getattr(prediction, name) for name in self.names)


class OnnxModel(nn.Module):
    """An exported folder as a model: HandInputs in, HandPrediction out, computed by ONNX Runtime on the CPU.

    Raises:
        ConfigError: no exported model there, a damaged one, or no ONNX Runtime.
    """

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        """`threads`: of ONNX Runtime, 0: as many as torch uses."""
        super().__init__()
        runtime = _import("onnxruntime")
        path = Path(folder) / ONNX
        if not path.is_file():
            raise ConfigError(f"{folder} has no {ONNX}: make one with tools/export.py (hand-export)")
        self.config = HandModelConfig.from_pretrained(folder)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        # else its threads wait for work in a busy loop after each call, and what torch does next takes twice as long
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own errors share no base class
            raise ConfigError(f"{path} is no network that ONNX Runtime can run: {str(error).splitlines()[0]}") from None
        logger.info(assembly.about_weights(Path(folder), ONNX))
        self.names = [output.name for output in self.session.get_outputs()]
        if foreign := set(self.names) - set(OUTPUTS):
            raise ConfigError(f"{path} gives {', '.join(sorted(foreign))}, which no model of ours does")

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict for a batch of crops."""
        image = inputs.image.detach().cpu().float().contiguous().numpy()
        values = [torch.from_numpy(v) for v in self.session.run(self.names, {"image": image})]
        hand = torch.full((len(image),), fingerprint_from_hex(self.config.hand))
        return HandPrediction(**dict(zip(self.names, values, strict=True)), hand=hand)


def trace(model: HandModel) -> tuple[ExportedProgram, list[str]]:
    """The forward pass as a torch.export program of any batch size, and the names of its outputs."""
    wrapped = Tensors(optimise(model, portable=True))
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        program = torch.export.export(
            wrapped, (_example(model, 2),), dynamic_shapes={"image": {0: batch}}, strict=False
        )
    return program, wrapped.names


def write_program(program: ExportedProgram, folder: Path) -> Path:
    """Write model.pt2, which torch.export.load reads."""
    with files.replacing(folder / PROGRAM) as temporary:
        torch.export.save(program, temporary)
    return folder / PROGRAM


def write_onnx(program: ExportedProgram, names: list[str], folder: Path) -> Path:
    """Write model.onnx, weights inside.

    Raises:
        ConfigError: the exporter is not installed.
    """
    _import("onnxscript")
    options: dict[str, Any] = {"dynamo": True, "opset_version": OPSET, "verbose": False, "external_data": False}
    with files.replacing(folder / ONNX) as temporary:
        torch.onnx.export(program, (), temporary, input_names=["image"], output_names=names, **options)
        _name_batch(temporary)
    return folder / ONNX


def _name_batch(path: Path) -> None:
    """Call the free axis of an ONNX file "batch", which torch's exporter numbers."""
    onnx = _import("onnx")
    model = onnx.load(path)
    graph = model.graph
    numbered = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = re.sub(rf"\b{re.escape(numbered)}\b", "batch", axis.dim_param)
    onnx.save(model, path)


def write_config(model: HandModel, folder: Path) -> None:
    """Write config.json, as save_pretrained does."""
    files.write_text(folder / "config.json", model.config.to_json_string())


def write_hand(model: HandModel, folder: Path) -> None:
    """Write hand.json: what a program without this package needs to read the outputs. MANO's faces are licensed: of a
    MANO hand there are none."""
    hand = hands.find(model.config.hand)
    content = {
        "hand": hand.name,
        "fingerprint": hand.fingerprint_hex,
        "side": hand.side,
        "joint_names": JOINT_NAMES,
        "joint_parents": PARENTS,
        "faces": hand.faces.tolist() if hand.name == "open" else "those of MANO_RIGHT.pkl",
    }
    files.write_text(folder / HAND, json.dumps(content) + "\n")


def load_program(folder: Path) -> nn.Module:
    """model.pt2 as a module from an image to a tuple of tensors. Of your own files only: it holds a program."""
    return torch.export.load(folder / PROGRAM).module()


def load(folder: str | Path, backend: str = "torch") -> nn.Module:
    """A saved model ("torch") or an exported one ("onnx"), by anything that names it.

    Raises:
        ConfigError: no such model or backend.
    """
    folder = assembly.find_model(folder)
    if backend == "torch":
        return assembly.load_model(folder)
    if backend == "onnx":
        return OnnxModel(folder)
    raise ConfigError(f"backend {backend!r} should be torch or onnx")


def largest_error(model: HandModel, names: list[str], exported: nn.Module, batch: int) -> float:
    """The largest difference of an exported network from the model on random images, of an output's largest number.

    Raises:
        ConfigError: either gives numbers that are not finite.
    """
    image = _example(model, batch)
    with torch.inference_mode():
        wanted = model(HandInputs(image=image))
        found = exported(HandInputs(image=image)) if isinstance(exported, OnnxModel) else exported(image)
    values = [getattr(found, n) for n in names] if isinstance(found, HandPrediction) else found
    pairs = {name: (getattr(wanted, name), value) for name, value in zip(names, values, strict=True)}
    # looked for by name: `max` passes over a NaN that does not come first
    if strange := [name for name, (a, b) in pairs.items() if not (a.isfinite().all() and b.isfinite().all())]:
        raise ConfigError(
            f"the model or its export gives {', '.join(strange)} that are not finite: export another checkpoint"
        )
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-6)) for a, b in pairs.values())


def check(model: HandModel, names: list[str], exported: nn.Module, batches: tuple[int, ...] = (1, 3)) -> float:
    """`largest_error` over several batch sizes.

    Raises:
        ConfigError: it is above TOLERANCE, or no finite number.
    """
    error = max(largest_error(model, names, exported, batch) for batch in batches)
    if not error < TOLERANCE:
        raise ConfigError(f"the exported network differs from the model by {error:.2g} of an output's largest number")
    return error


def needs() -> str:
    """What to say where a package of the exporters is missing."""
    return f'needs the extra "export": {paths.install_command("export")}'


def _example(model: HandModel, batch: int) -> Tensor:
    size, like = model.config.image_size, next(model.parameters())
    draw = torch.Generator().manual_seed(batch)
    return torch.rand(batch, 3, size, size, generator=draw).to(like.device)


def _import(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f"{name} is not installed: this {needs()}") from None
