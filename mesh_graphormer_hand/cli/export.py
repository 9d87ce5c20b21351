"""A model for other programs:  hand-export RUN OUT [--format onnx|torch|hub|all]   (tools/export.py in a checkout)

onnx: OUT/model.onnx, any batch size; `hand-demo --backend onnx --weights OUT` runs it. torch: OUT/model.pt2 for
torch.export.load. Both are checked against the model itself, on batches of other sizes. hub: OUT/config.json,
model.safetensors and README.md, a folder for a model hub, which HandPredictor.from_pretrained loads.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import write_text
from . import console

if TYPE_CHECKING:
    from ..models.base import HandModel

FORMATS = ("onnx", "torch", "hub")
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
OPEN = "This hand is free of licence; no number of it is in the weights."
MANO = (
    "They are MANO's: what was trained with MANO falls under MANO's licence (research only), and to run it you need "
    "your own MANO_RIGHT.pkl in mano_assets/. No number of MANO's is in the weights."
)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and export; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-export", description=__doc__.splitlines()[0])
    parser.add_argument(
        "run", metavar="RUN", help=f"a run, a saved model or shipped weights: {console.shipped_weights()}"
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    parser.add_argument("--format", choices=(*FORMATS, "all"), default="all", help="what to write (default: all)")
    arguments = parser.parse_args(argv)
    return console.run(lambda: export(arguments))


def export(arguments: argparse.Namespace) -> int:
    """Export as the command line says; see the module's docstring."""
    from .. import assembly

    out, formats = arguments.out, FORMATS if arguments.format == "all" else (arguments.format,)
    folder = assembly.find_model(arguments.run)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"OUT {out} is a file, not a folder")
    if out.resolve() == folder.resolve():
        raise FileNotFoundError(f"OUT {out} is the model itself: name another folder")
    console.log_to_terminal()
    model = assembly.load_model(folder)
    if "hub" in formats:
        write_hub(model, folder, out)
    if set(formats) - {"hub"}:
        write_traced(model, out, formats)
    return 0


def write_traced(model: HandModel, out: Path, formats: tuple[str, ...]) -> None:
    """model.onnx and model.pt2, as `formats` say; prints each and how far it is from the model."""
    import warnings

    from ..inference import onnx as portable

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter speaks of its own future
        program, names = portable.trace(model)
        portable.write_config(model, out)
        portable.write_hand(model, out)
        if "torch" in formats:
            path = portable.write_program(program, out)
            print(f"{path}  off by {portable.check(model, names, portable.load_program(out)):.1e} at most")
        if "onnx" in formats:
            path = portable.write_onnx(program, names, out)
            print(f"{path}  off by {portable.check(model, names, portable.OnnxModel(out)):.1e} at most")


def write_hub(model: HandModel, folder: Path, out: Path) -> None:
    """config.json, model.safetensors and the card."""
    from ..inference.onnx import write_hand
    from ..training.run_state import write_model

    write_model(model, out)
    write_hand(model, out)
    write_text(out / "README.md", card(model, folder))
    print(f"{out / 'model.safetensors'}\n{out / 'README.md'}")


def card(model: HandModel, folder: Path) -> str:
    """The hub's README of a model, with its scores where the folder it comes from knows them."""
    from ..mano import hand as hands

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
        terms=OPEN if hand.name == "open" else MANO,
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
