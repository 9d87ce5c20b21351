"""A model for other programs:  hand-export RUN OUT [--format onnx|torch|hub|all]   (tools/export.py in a checkout)

onnx: OUT/model.onnx, any batch size; `hand-demo --weights OUT` runs it, and where OUT is RUN's own folder of weights
the graph is what every prediction with them takes. torch: OUT/model.pt2 for
torch.export.load. Both are checked against the model itself, on batches of other sizes. hub: OUT/config.json,
model.safetensors and README.md, a folder for a model hub, which HandPredictor.from_pretrained loads.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import sha256, write_text
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
    """Export with the options of the command line; see the module's docstring."""
    from .. import assembly

    out, formats = arguments.out, FORMATS if arguments.format == "all" else (arguments.format,)
    folder = assembly.find_model(arguments.run)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"OUT {out} is a file, not a folder")
    console.log_to_terminal()
    if out.resolve() == folder.resolve():
        if formats != ("onnx",):
            raise FileNotFoundError(f"OUT {out} is the model itself: name another folder, or take --format onnx")
        from ..inference.onnx_export import export_graph

        print(export_graph(folder, out))
        return 0
    model = assembly.load_model(folder)
    if "hub" in formats:
        write_hub(model, folder, out)
    if set(formats) - {"hub"}:
        weights = (out if "hub" in formats else folder) / "model.safetensors"
        write_traced(model, weights, out, formats)
    return 0


def write_traced(model: HandModel, weights: Path, out: Path, formats: tuple[str, ...]) -> None:
    """Write model.onnx of the file `weights` and model.pt2, as `formats` say; print each and its largest error."""
    import warnings

    from ..inference import onnx_export as exporter
    from ..inference.onnx import OnnxModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own future
        program, names = exporter.trace(model)
        exporter.write_config(model, out)
        exporter.write_hand(model, out)
        if "torch" in formats:
            path = exporter.write_program(program, out)
            print(f"{path}  off by {exporter.check(model, names, exporter.load_program(out)):.1e} at most")
        if "onnx" in formats:
            path = exporter.write_onnx(program, names, out, sha256(weights))
            print(f"{path}  off by {exporter.check(model, names, OnnxModel(out)):.1e} at most")


def write_hub(model: HandModel, folder: Path, out: Path) -> None:
    """config.json, model.safetensors and the card."""
    from ..inference.onnx_export import write_hand
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
