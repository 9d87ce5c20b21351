"""Addresses of network cameras, which are read until Ctrl-C like a camera of this machine. No other address is."""

from __future__ import annotations

import re
from pathlib import Path

SCHEMES = ("rtsp://", "rtsps://")


def is_stream(source: str | Path | int) -> bool:
    """Whether it is the address of a network camera."""
    return isinstance(source, str) and source.lower().startswith(SCHEMES)


def is_live(source: str | Path | int) -> bool:
    """Whether it is a camera: it has no end, and frames come by the clock."""
    return isinstance(source, int) or is_stream(source)


def shown(source: str | Path | int) -> str:
    """The source for messages and files: an address without the name and password in it, and without its query."""
    return re.sub(r"//[^/]*@", "//", source).partition("?")[0] if is_stream(source) else str(source)
