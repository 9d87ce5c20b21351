"""Addresses of network cameras, the only addresses that are read; like local cameras they end at Ctrl-C."""

from __future__ import annotations

import re
from pathlib import Path

SCHEMES = ("rtsp://", "rtsps://")


def is_stream(source: str | Path | int) -> bool:
    """Whether it is the address of a network camera."""
    return isinstance(source, str) and source.lower().startswith(SCHEMES)


def is_live(source: str | Path | int) -> bool:
    """Whether the source is a camera: it has no end, and its frames are timed by the clock."""
    return isinstance(source, int) or is_stream(source)


def display_name(source: str | Path | int) -> str:
    """The source for messages and files: an address without user name, password and query."""
    return re.sub(r"//[^/]*@", "//", source).partition("?")[0] if is_stream(source) else str(source)
