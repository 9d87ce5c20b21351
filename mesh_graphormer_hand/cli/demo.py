"""Hands out of a photo:  hand-demo IMAGE [--out DIR] [--weights RUN] [--box x0,y0,x1,y1] [--side left|right]

Writes NAME_hand.png (the mesh on the photo, from the side, the skeleton), NAME_hand.obj (the mesh) and NAME_hand.json
(joints, camera, handedness), NAME being the photo's; the paths are printed last. In a checkout: python tools/demo.py.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import console

if TYPE_CHECKING:
    import numpy as np

    from ..predictor import HandResult

PICTURE = 640, 1280  # px, least and largest longer side of the photo in the picture
MASK_COLOUR = 60, 220, 120


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and predict; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-demo", description=__doc__.splitlines()[0])
    parser.add_argument("image", metavar="IMAGE", help="photo of a hand")
    parser.add_argument("--out", metavar="DIR", default="runs/demo", help="where to write (default: runs/demo)")
    parser.add_argument("--weights", metavar="RUN", help="a run, a saved model or shipped weights (default: the lite)")
    parser.add_argument("--box", metavar="x0,y0,x1,y1", help="around the hand, pixels (default: look for it)")
    parser.add_argument("--side", choices=("left", "right"), default="right", help="the person's own hand")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    arguments = parser.parse_args(argv)
    return console.run(lambda: demo(arguments))


def demo(arguments: argparse.Namespace) -> int:
    """Predict and write as the command line says; see the module's docstring."""
    boxes = None if arguments.box is None else [parse_box(arguments.box)]
    out = Path(arguments.out)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out {out} is a file, not a folder")
    console.log_to_terminal()

    from ..data.images import read_image  # after the arguments, so that their mistakes are told at once

    photo = read_image(arguments.image)

    from ..predictor import HandPredictor

    predictor = HandPredictor.from_pretrained(arguments.weights, arguments.device)
    result = predictor.predict(photo, boxes=boxes, sides=[arguments.side])[0]
    contents = {
        ".png": encode_png(picture(photo, result)),
        ".json": describe(arguments.image, photo, result).encode(),
    }
    if result.vertices is not None:
        contents[".obj"] = encode_obj(result).encode()
    for path in write_all(out, f"{Path(arguments.image).stem}_hand", contents):
        print(path)
    return 0


def parse_box(text: str) -> list[float]:
    """Four numbers from "x0,y0,x1,y1".

    Raises:
        ConfigError: anything else.
    """
    from ..config import ConfigError

    try:
        box = [float(part) for part in text.split(",")]
    except ValueError:
        box = []
    if len(box) != 4:
        raise ConfigError(f"--box {text!r} should be four numbers, x0,y0,x1,y1 in pixels")
    return box


def picture(photo: np.ndarray, result: HandResult) -> np.ndarray:
    """RGB: what the model found on the photo, and beside it what the photo does not show."""
    from ..render import overlay

    photo, scale = _resize(photo)
    size = photo.shape[0]
    views = []
    if (vertices := result.vertices_cam) is not None:
        intrinsics = result.intrinsics * [[scale[0]], [scale[1]], [1.0]]
        views.append(overlay.draw_mesh(photo, vertices, result.faces, intrinsics))
    if result.vertices is not None:
        views.append(overlay.side_view(result.vertices, result.faces, (size, size)))
    if result.mask is not None:
        views.append(_draw_mask(photo, result.mask))
    if result.joints_2d is not None:
        views.append(overlay.draw_skeleton(photo, result.joints_2d * scale))
    return overlay.panel(views or [photo])


def describe(image: str, photo: np.ndarray, result: HandResult) -> str:
    """The result as JSON text; metres and pixels of the photo, camera axes x right, y down, z forward."""
    import json

    def plain(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else value

    camera = {"K": result.intrinsics, "wrist_m": result.translation, "weak_perspective_px": result.camera}
    content = {
        "image": image,
        "image_size": [photo.shape[1], photo.shape[0]],
        "model": result.model,
        "hand": result.hand,
        "handedness": result.side,
        "box": result.box,
        "confidence": result.confidence,
        "camera": {key: plain(value) for key, value in camera.items()},
        "joints_m": result.joints,
        "joints_px": result.joints_2d,
    }
    return json.dumps({key: plain(value) for key, value in content.items()}, indent=1) + "\n"


def encode_obj(result: HandResult) -> str:
    """The mesh as an OBJ file, turned half about x: viewers have y up and look along -z."""
    import trimesh
    from trimesh.exchange.obj import export_obj

    mesh = trimesh.Trimesh(result.vertices * [1, -1, -1], result.faces, process=False)
    header = f"{result.side} hand {result.hand}, metres, wrist at the origin; camera axes are x, -y, -z of these"
    return export_obj(mesh, header=header) + "\n"


def encode_png(image: np.ndarray) -> bytes:
    """A PNG file's content."""
    import cv2

    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def write_all(folder: Path, stem: str, contents: dict[str, bytes]) -> list[Path]:
    """Write the files, all under temporary names first, so that none is ever half there."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / f"{stem}{suffix}": content for suffix, content in contents.items()}
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in files}
    try:
        for path, content in files.items():
            temporary[path].write_bytes(content)
        for path in files:
            temporary[path].replace(path)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)
    return list(files)


def _resize(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The photo at a size that is good to look at, and its scale in x and y."""
    import cv2
    import numpy as np

    shape = np.array(photo.shape[1::-1])
    longer = np.clip(shape.max(), *PICTURE)
    target = np.maximum(np.round(shape * longer / shape.max()), 1).astype(int)
    if (target == shape).all():
        return photo, np.ones(2)
    smaller = target.max() < shape.max()
    method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(photo, target.tolist(), interpolation=method), target / shape


def _draw_mask(photo: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The photo with the mask in colour over it."""
    import cv2
    import numpy as np

    covers = cv2.resize(mask.astype(np.float32), photo.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None] * 0.55
    return np.rint(photo * (1 - covers) + covers * np.array(MASK_COLOUR)).astype(np.uint8)
