"""A web page on your own machine:  hand-demo --serve [--port N] [--weights RUN] [--detector NAME] [...]

Opens http://127.0.0.1:7860: drop a photo or take one, see the mesh on it, turn the hands in 3D, download the files.
Only this machine can reach it, nothing is sent anywhere, and uploads are deleted after ten minutes, or at Ctrl-C.
Needs the extra "page" (Gradio):  pip install -e ".[page]"
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .. import paths
from ..config import ConfigError
from ..inference.detectors.options import NAMES, alternatives
from . import console, detector_args
from .detector_args import BACKEND_HELP, BACKENDS

if TYPE_CHECKING:
    import numpy as np

    from ..inference.predictor import HandPredictor
    from ..inference.result import HandResult

HOST = "127.0.0.1"
MAX_BYTES = 20 * 2**20  # of an upload
MAX_PIXELS = 40_000_000  # of a photo, by its own header, before anything is decoded
KEEP_S = 600  # seconds that files of a visit stay
DETECTORS = tuple(name for name in NAMES if name != "boxes")  # boxes are of one photo, a page sees many
WAITING = 8  # photos in the queue; more are turned away
SIDES = ("as seen", "right", "left")
KINDS = ("json", "obj", "glb", "scene", "picture")
TITLE = "A hand in 3D from one photo"
INSTRUCTIONS = "Drop a photo, paste one or take one. It stays on this machine and is deleted afterwards."
BUTTONS = ["download", "fullscreen"]  # the library's own "share" would send the picture away
FONTS = ["system-ui", "sans-serif"]  # the library's own would be fetched from a server


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and serve until Ctrl-C; returns the exit code."""
    arguments = parser().parse_args(argv)
    return console.run(lambda: serve(arguments))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="hand-demo --serve", description=__doc__.splitlines()[0])
    made.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    made.add_argument("--port", type=int, default=7860, metavar="N", help="default: 7860; 0: any that is free")
    made.add_argument("--weights", metavar="RUN", help="a run, a saved model or shipped weights (default: the lite)")
    made.add_argument("--backend", choices=BACKENDS, default="auto", help=BACKEND_HELP)
    made.add_argument("--device", default="cpu", help="cpu (default), cuda, mps, ...")
    made.add_argument("--open", action="store_true", help="open the page in your browser")
    detector_args.add_options(made.add_argument_group("finding hands"), DETECTORS)
    return made


def serve(arguments: argparse.Namespace) -> int:
    """Serve with the options of the command line; see the module's docstring."""
    if not 0 <= arguments.port < 2**16:
        raise ConfigError(f"--port {arguments.port} should lie in 0..65535")
    detector_args.parse(arguments)
    if arguments.device != "cpu":
        console.check_device(arguments.device)
    with tempfile.TemporaryDirectory(prefix="hand_page_") as folder:
        # The library reads these when it is imported.
        os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
        _gradio()
        console.log_to_terminal()
        blocks = build(Page(load(arguments), Path(folder)))
        url = start(blocks, arguments.port, arguments.open)
        print(f"{url}   (Ctrl-C ends it)", flush=True)
        try:
            blocks.block_thread()
        finally:
            blocks.close(verbose=False)
    return 0


def load(arguments: argparse.Namespace) -> HandPredictor:
    """The predictor and the detector that the command line names.

    Raises:
        ConfigError: no such weights, or something that the detector needs is not there.
    """
    from ..inference.predictor import DEFAULT_DETECTOR, HandPredictor

    detector = detector_args.parse(arguments).build(device=arguments.device)  # first: it may lack a file
    return HandPredictor.from_pretrained(
        arguments.weights, arguments.device, detector or DEFAULT_DETECTOR, arguments.backend, mesh="mano"
    )


class Page:
    """Predicts uploads and writes the visitor's files; independent of the web framework."""

    def __init__(self, predictor: HandPredictor, folder: Path) -> None:
        """`folder`: where files for the visitor are put."""
        self.predictor, self.folder = predictor, folder

    def predict(self, upload: str | Path, side: str = SIDES[0]) -> tuple[np.ndarray, Path | None, list[Path], str]:
        """A photo's picture, its hands as a GLB file (None: no mesh), all files to download, and a line of text.

        Raises:
            ConfigError: an upload that is too large or no photo.
        """
        from ..inference.media import outputs

        photo = read_upload(upload)
        # the file, not its pixels: its EXIF may hold the focal length
        hands = self.predictor.predict(upload, sides=None if side == SIDES[0] else [side])
        seen_by = {"weights": self.predictor.weights, "detector": self.predictor.detector.name}
        about = {"image_size": [photo.shape[1], photo.shape[0]], **seen_by}
        contents = outputs.encode(KINDS, photo, hands, about)
        place = self.folder / uuid4().hex
        files = outputs.write_all(place, "hand", contents)
        scene = None
        if any(hand.vertices_cam is not None for hand in hands):
            (scene,) = outputs.write_all(place, "hands_together", {".glb": outputs.scene_glb(hands, centred=True)})
        return outputs.picture(photo, hands), scene, files, say(hands, **seen_by)


def read_upload(path: str | Path) -> np.ndarray:
    """RGB of an uploaded photo.

    Raises:
        ConfigError: too many bytes or pixels, or no photo; the message does not tell where the file lies.
    """
    from ..data import headers
    from ..data.images import decode_image, read_bytes

    path = Path(path)
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"the photo has more than {MAX_BYTES // 2**20} MiB; make it smaller")
    data = read_bytes(path)
    claimed = headers.image_size(data)
    if claimed is not None and claimed[0] * claimed[1] > MAX_PIXELS:
        raise ConfigError(f"the photo has {claimed[0]} x {claimed[1]} pixels; make it smaller")
    return decode_image(data, "the photo")


def say(hands: list[HandResult], detector: str, weights: str) -> str:
    """One line about what was found, by which detector and weights."""
    from ..inference.media import outputs

    by = ", ".join(sorted({hand.detector for hand in hands})) or detector
    by = f"Detector: {by}; weights: {weights}."
    if not hands:
        return f"No hand found. {by} Try a photo with a larger hand, or start the page with {alternatives(detector)}."
    parts = []
    for hand in hands:
        away = [] if hand.translation is None else [f"{hand.translation[2]:.2f} m away, if the camera is as assumed"]
        parts.append(outputs.say_hand(hand, *away))
    return f"Found {' and '.join(parts)}. {by}"


def build(page: Page) -> Any:
    """The page itself."""
    gradio = _gradio()

    def predict(upload: str | None, side: str) -> tuple[Any, ...]:
        if not upload:
            return None, None, None, INSTRUCTIONS
        try:
            picture, scene, files, text = page.predict(upload, side)
        except Exception as error:
            if not console.is_user_error(error):
                raise
            raise gradio.Error(str(error), print_exception=False) from None
        return picture, None if scene is None else str(scene), [str(f) for f in files], text

    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, KEEP_S)) as blocks:
        gradio.Markdown(f"# {TITLE}")
        with gradio.Row():
            with gradio.Column():
                photo = gradio.Image(
                    label="photo",
                    type="filepath",
                    image_mode=None,  # the file as it is: another mode would be written anew, without EXIF
                    sources=["upload", "webcam", "clipboard"],
                    webcam_options=gradio.WebcamOptions(mirror=False),  # mirrored, a right hand is a left one
                    elem_id="photo",
                )
                side = gradio.Radio(SIDES, value=SIDES[0], label="whose hand")
                button = gradio.Button("Look", variant="primary", elem_id="look")
                text = gradio.Markdown(INSTRUCTIONS, elem_id="said")
            mesh = gradio.Model3D(label="turn it", elem_id="mesh", clear_color=(0.93, 0.94, 0.96, 1.0), height=460)
        picture = gradio.Image(
            label="on the photo", interactive=False, format="png", elem_id="picture", buttons=BUTTONS
        )
        files = gradio.File(label="files", file_count="multiple", interactive=False, elem_id="files")
        outputs = [picture, mesh, files, text]
        for event in (button.click, photo.upload):
            event(predict, [photo, side], outputs, concurrency_limit=1, api_visibility="private")
    return blocks.queue(max_size=WAITING)


def start(blocks: Any, port: int, browser: bool = False) -> str:
    """Bind to this machine only and return the address.

    Raises:
        ConfigError: the port is taken, or the library does not reach its own page within seconds.
    """
    gradio = _gradio()
    theme = gradio.themes.Default(font=FONTS, font_mono=["monospace"])
    options: dict[str, Any] = {"server_name": HOST, "server_port": port or _free_port(), "share": False}
    options |= {"max_file_size": MAX_BYTES, "prevent_thread_lock": True, "quiet": True, "inbrowser": browser}
    options |= {
        "footer_links": [],
        "run_history": False,
        "theme": theme,
        "ssr_mode": False,
        "show_error": True,
        "strict_cors": True,
    }
    try:
        return blocks.launch(**options)[1]
    except OSError as error:
        raise ConfigError(f"cannot serve on port {port}: {error}; name another with --port") from None
    except ValueError:  # the library's advice, a public link, is not ours
        blocks.close(verbose=False)
        raise ConfigError(
            f"the page on {HOST} does not answer within seconds: this machine is too busy, or a proxy is asked for it "
            f"(NO_PROXY={HOST} keeps it out)"
        ) from None


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _gradio() -> Any:
    import importlib

    try:
        return importlib.import_module("gradio")
    except ImportError:
        command = paths.install_command("page")
        raise ConfigError(f"the page needs Gradio, which is not installed: {command}") from None
