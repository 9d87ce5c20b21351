"""Export: a network as an ONNX graph and as a torch.export program, each checked against the network itself.

An exported network takes `image` (batch, 3, size, size), RGB in [0, 1], any batch, and gives what the model's own
forward pass gives, camera included, under the names of HandPrediction; the hand detector's image has any sides that are
multiples of 32 px. In its folder lie config.json, with the hand's fingerprint and the size of crops that it was trained
on, and hand.json, with that hand's faces and the joints' names.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .. import assembly, files
from ..config import ConfigError
from ..contracts import HandInputs, HandPrediction
from ..mano import hand as hands
from ..models.base import SIZE_STEP_PX, HandModel
from ..skeleton import JOINT_NAMES, PARENTS
from .folding import fold_batch_norms
from .onnx import ONNX, OUTPUTS, WEIGHTS, WEIGHTS_KEY, OnnxModel, cache_folder, import_extra

if TYPE_CHECKING:
    from torch.export import ExportedProgram

logger = logging.getLogger(__name__)

PROGRAM, HAND = "model.pt2", "hand.json"  # file names in an exported folder
OPSET = 18
EXPORT_TOLERANCE = 1e-4  # of an output's largest number


class Tensors(nn.Module):
    """A model from an image to those tensors that it produces, in the order of `names`."""

    def __init__(self, model: HandModel) -> None:
        super().__init__()
        self.model = model
        with torch.inference_mode():
            produced = model(HandInputs(image=_example(model, 1)))
        self.names = [name for name in OUTPUTS if getattr(produced, name) is not None]

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        prediction = self.model(HandInputs(image=image))
        return tuple(getattr(prediction, name) for name in self.names)


def trace(model: HandModel) -> tuple[ExportedProgram, list[str]]:
    """The forward pass as a torch.export program of any batch size (and image size, where the model takes any), and the
    names of its outputs."""
    wrapped = Tensors(fold_batch_norms(model))
    free = {0: torch.export.Dim("batch", min=1)}
    if model.any_size:
        free |= {axis: SIZE_STEP_PX * torch.export.Dim(name, min=1) for axis, name in ((2, "rows"), (3, "columns"))}
    with torch.no_grad():
        program = torch.export.export(wrapped, (_example(model, 2),), dynamic_shapes={"image": free}, strict=False)
    return program, wrapped.names


def write_program(program: ExportedProgram, folder: Path) -> Path:
    """Write model.pt2, which torch.export.load reads."""
    with files.replacing(folder / PROGRAM) as temporary:
        torch.export.save(program, temporary)
    return folder / PROGRAM


def write_onnx(program: ExportedProgram, names: list[str], folder: Path, weights_sha256: str = "") -> Path:
    """Write model.onnx, weights inside; its metadata holds the SHA-256 of the weights' file, where there is one.

    Raises:
        ConfigError: the exporter is not installed.
    """
    import_extra("onnxscript")
    options: dict[str, Any] = {"dynamo": True, "opset_version": OPSET, "verbose": False, "external_data": False}
    with files.replacing(folder / ONNX) as temporary:
        torch.onnx.export(program, (), temporary, input_names=["image"], output_names=names, **options)
        _annotate(temporary, weights_sha256)
    return folder / ONNX


def _annotate(path: Path, weights_sha256: str) -> None:
    """Call the free axis of an ONNX file "batch", which torch's exporter numbers, and put our metadata in place of the
    exporter's, which are traces of this machine's source files."""
    onnx = import_extra("onnx")
    model = onnx.load(path)
    graph = model.graph
    numbered = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = re.sub(rf"\b{re.escape(numbered)}\b", "batch", axis.dim_param)
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    if weights_sha256:
        model.metadata_props.add(key=WEIGHTS_KEY, value=weights_sha256)
    onnx.save(model, path)


def export_graph(folder: Path, out: Path) -> Path:
    """Write the ONNX graph of the weights in `folder` to `out` and check it; takes half a minute.

    Raises:
        ConfigError: the exporter is not installed, or the graph's outputs differ from the model's.
    """
    model = assembly.load_model(folder)
    import_extra("onnxscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own future
        program, names = trace(model)
        path = write_onnx(program, names, out, files.sha256(folder / WEIGHTS))
    check(model, names, OnnxModel(folder, graph=path))
    return path


def export_to_cache(folder: Path) -> Path:
    """`export_graph` to the cache; where that is read-only, to a folder that is deleted when the process ends."""
    out = cache_folder() / files.sha256(folder / WEIGHTS)
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        temporary = tempfile.TemporaryDirectory(prefix="hand_onnx_")
        _KEPT.append(temporary)
        logger.warning("the cache %s cannot be written to (%s): the next call exports again", out, error.strerror)
        out = Path(temporary.name)
    logger.info("exporting %s to %s, once", folder, out / ONNX)
    return export_graph(folder, out)


_KEPT: list[tempfile.TemporaryDirectory] = []  # deleted when the process ends


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
    # checked by name: `max` ignores a NaN that does not come first
    if strange := [name for name, (a, b) in pairs.items() if not (a.isfinite().all() and b.isfinite().all())]:
        raise ConfigError(
            f"the model or its export gives {', '.join(strange)} that are not finite: export another checkpoint"
        )
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-6)) for a, b in pairs.values())


def check(model: HandModel, names: list[str], exported: nn.Module, batches: tuple[int, ...] = (1, 3)) -> float:
    """`largest_error` over several batch sizes.

    Raises:
        ConfigError: it is above EXPORT_TOLERANCE, or no finite number.
    """
    error = max(largest_error(model, names, exported, batch) for batch in batches)
    if not error < EXPORT_TOLERANCE:
        raise ConfigError(f"the exported network differs from the model by {error:.2g} of an output's largest number")
    return error


def _example(model: HandModel, batch: int) -> Tensor:
    size, like = model.config.image_size, next(model.parameters())
    draw = torch.Generator().manual_seed(batch)
    width = size + SIZE_STEP_PX * batch if model.any_size else size
    return torch.rand(batch, 3, size, width, generator=draw).to(like.device)
