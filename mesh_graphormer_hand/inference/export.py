"""Export of a saved model for other programs: traced networks, and a folder for a model hub with a card."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import assembly
from ..files import sha256, write_text
from ..mano import hand as hands
from ..models.base import HandModel, write_model
from . import EXPORT_FORMATS, onnx_export
from .onnx import OnnxModel

CARD = """---
license: {license}
library_name: mesh-graphormer-hand
pipeline_tag: keypoint-detection
tags: [hand, 3d, mesh, pose-estimation]
---
# {title}

One crop of a hand in; {outputs} out. Architecture `{name}`, {parameters:.1f} M parameters, crops of {size} px of right
hands (left ones are mirrored by the predictor), metres and pixels, camera axes x right, y down, z forward.

```python
from mesh_graphormer_hand import HandPredictor

hands = HandPredictor.from_pretrained("path/to/this/folder").predict("photo.jpg")
```

Its vertices are those of the hand `{hand}` ({hand_name}); `hand.json` has the joints' names{faces}. {terms}
{training}"""
OPEN_TERMS = "This hand is free of licence; no number of it is in the weights."
MANO_TERMS = (
    "They are MANO's: what was trained with MANO falls under MANO's licence (research only), and to run it you need "
    "your own MANO_RIGHT.pkl in mano_assets/. No number of MANO's is in the weights."
)


def export_model(run: str, out: Path, kind: str) -> Iterator[str]:
    """Write the model that `run` names to `out`; gives a line about each file as it is there.

    Args:
        run: a run, a saved model or shipped weights.
        out: a folder; the model's own one takes the ONNX graph alone.
        kind: one of EXPORT_FORMATS, or "all".

    Raises:
        NotADirectoryError: `out` is a file.
        ConfigError: no such model, no exporter, or an exported network that differs from the model.
    """
    formats = EXPORT_FORMATS if kind == "all" else (kind,)
    folder = assembly.find_model(run)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"OUT {out} is a file, not a folder")
    if out.resolve() == folder.resolve():
        if formats != ("onnx",):
            raise FileNotFoundError(f"OUT {out} is the model itself: name another folder, or take --format onnx")
        yield str(onnx_export.export_graph(folder, out))
        return
    model = assembly.load_model(folder)
    if "hub" in formats:
        write_model(model, out)
        onnx_export.write_hand(model, out)
        write_text(out / "README.md", card(model, folder))
        yield from (str(out / name) for name in ("model.safetensors", "README.md"))
    if set(formats) - {"hub"}:
        yield from _write_traced(model, (out if "hub" in formats else folder) / "model.safetensors", out, formats)


def _write_traced(model: HandModel, weights: Path, out: Path, formats: tuple[str, ...]) -> Iterator[str]:
    """Write model.onnx of the file `weights` and model.pt2, as `formats` say; gives their largest errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own future
        program, names = onnx_export.trace(model)
        onnx_export.write_config(model, out)
        onnx_export.write_hand(model, out)
        if "torch" in formats:
            path = onnx_export.write_program(program, out)
            yield f"{path}  off by {onnx_export.check(model, names, onnx_export.load_program(out)):.1e} at most"
        if "onnx" in formats:
            path = onnx_export.write_onnx(program, names, out, sha256(weights))
            yield f"{path}  off by {onnx_export.check(model, names, OnnxModel(out)):.1e} at most"


def card(model: HandModel, folder: Path) -> str:
    """The hub's README of a model, with its scores where the folder it comes from knows them."""
    hand = hands.find(model.config.hand)
    name = folder.parent.name if folder.name == "model" else folder.name
    return CARD.format(
        license="mit" if hand.name == "open" else "other",
        title=name,
        outputs=", ".join(f.replace("_", " ") for f in model.produces),
        name=model.config.name,
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        size=model.config.image_size,
        hand=hand.fingerprint_hex,
        hand_name=hand.name,
        faces=" and the faces" if hand.name == "open" else "",
        terms=OPEN_TERMS if hand.name == "open" else MANO_TERMS,
        training=_training(folder),
    )


def _training(folder: Path) -> str:
    """What is known of steps and scores, as a section; nothing where nothing is."""
    known: dict[str, Any] = {}
    for path in (folder / "training.json", folder.parent / "metrics.json"):
        if path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
            known |= {k: v for k, v in content.items() if isinstance(v, int | float | str | dict)}
    if not known:
        return ""
    return f"\n## Training and scores\n\n```json\n{json.dumps(known, indent=1)}\n```\n"
