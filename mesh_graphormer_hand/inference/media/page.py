"""The web page: uploads are predicted, their files written for the visitor; and the widgets around that."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ... import paths
from ...config import ConfigError
from ..detectors.options import alternatives
from . import outputs

if TYPE_CHECKING:
    import numpy as np

    from ..predictor import HandPredictor
    from ..result import HandResult

HOST = "127.0.0.1"
MAX_BYTES = 20 * 2**20  # of an upload
MAX_PIXELS = 40_000_000  # of a photo, by its own header, before anything is decoded
KEEP_S = 600  # seconds that files of a visit stay
WAITING = 8  # photos in the queue; more are turned away
SIDE_CHOICES = ("as seen", "right", "left")
PAGE_FILES = ("json", "obj", "glb", "scene", "picture")
TITLE = "A hand in 3D from one photo"
INSTRUCTIONS = "Drop a photo, paste one or take one. It stays on this machine and is deleted afterwards."
BUTTONS = ["download", "fullscreen"]  # the library's own "share" would send the picture away
FONTS = ["system-ui", "sans-serif"]  # the library's own would be fetched from a server


class Page:
    """Predicts uploads and writes the visitor's files; independent of the web framework."""

    def __init__(self, predictor: HandPredictor, folder: Path) -> None:
        """`folder`: where files for the visitor are put."""
        self.predictor, self.folder = predictor, folder

    def predict(
        self, upload: str | Path, side: str = SIDE_CHOICES[0]
    ) -> tuple[np.ndarray, Path | None, list[Path], str]:
        """A photo's picture, its hands as a GLB file (None: no mesh), all files to download, and a line of text.

        Raises:
            ConfigError: an upload that is too large or no photo.
        """
        photo = read_upload(upload)
        # the file, not its pixels: its EXIF may hold the focal length
        hands = self.predictor.predict(upload, sides=None if side == SIDE_CHOICES[0] else [side])
        seen_by = {"weights": self.predictor.weights, "detector": self.predictor.detector.name}
        about = {"image_size": [photo.shape[1], photo.shape[0]], **seen_by}
        contents = outputs.encode(PAGE_FILES, photo, hands, about)
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
    from ...data import headers
    from ...data.images import decode_image, read_bytes

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
    by = ", ".join(sorted({hand.detector for hand in hands})) or detector
    by = f"Detector: {by}; weights: {weights}."
    if not hands:
        return f"No hand found. {by} Try a photo with a larger hand, or start the page with {alternatives(detector)}."
    parts = []
    for hand in hands:
        away = [] if hand.translation is None else [f"{hand.translation[2]:.2f} m away, if the camera is as assumed"]
        parts.append(outputs.say_hand(hand, *away))
    return f"Found {' and '.join(parts)}. {by}"


def build(page: Page, is_user_error: Callable[[Exception], bool]) -> Any:
    """The page itself; `is_user_error`: of errors whose message the visitor is shown."""
    web = gradio()

    def predict(upload: str | None, side: str) -> tuple[Any, ...]:
        if not upload:
            return None, None, None, INSTRUCTIONS
        try:
            picture, scene, files, text = page.predict(upload, side)
        except Exception as error:
            if not is_user_error(error):
                raise
            raise web.Error(str(error), print_exception=False) from None
        return picture, None if scene is None else str(scene), [str(f) for f in files], text

    with web.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, KEEP_S)) as blocks:
        web.Markdown(f"# {TITLE}")
        with web.Row():
            with web.Column():
                photo = web.Image(
                    label="photo",
                    type="filepath",
                    image_mode=None,  # the file as it is: another mode would be written anew, without EXIF
                    sources=["upload", "webcam", "clipboard"],
                    webcam_options=web.WebcamOptions(mirror=False),  # mirrored, a right hand is a left one
                    elem_id="photo",
                )
                side = web.Radio(SIDE_CHOICES, value=SIDE_CHOICES[0], label="whose hand")
                button = web.Button("Look", variant="primary", elem_id="look")
                text = web.Markdown(INSTRUCTIONS, elem_id="said")
            mesh = web.Model3D(label="turn it", elem_id="mesh", clear_color=(0.93, 0.94, 0.96, 1.0), height=460)
        picture = web.Image(label="on the photo", interactive=False, format="png", elem_id="picture", buttons=BUTTONS)
        files = web.File(label="files", file_count="multiple", interactive=False, elem_id="files")
        outputs = [picture, mesh, files, text]
        for event in (button.click, photo.upload):
            event(predict, [photo, side], outputs, concurrency_limit=1, api_visibility="private")
    return blocks.queue(max_size=WAITING)


def start(blocks: Any, port: int, browser: bool = False) -> str:
    """Bind to this machine only and return the address.

    Raises:
        ConfigError: the port is taken, or the library does not reach its own page within seconds.
    """
    web = gradio()
    theme = web.themes.Default(font=FONTS, font_mono=["monospace"])
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
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def gradio() -> Any:
    """The web framework.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("gradio")
    except ImportError:
        command = paths.install_command("page")
        raise ConfigError(f"the page needs Gradio, which is not installed: {command}") from None
