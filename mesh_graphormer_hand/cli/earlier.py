"""Answers of earlier calls: whose they are, and whether they still hold."""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

from ..files import sha256


def read(path: Path) -> dict[str, Any] | None:
    """The JSON file of an answer of ours; None: there is none, or it is somebody else's (LabelMe's, say)."""
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    ours = (
        isinstance(answer, dict) and isinstance(answer.get("settings"), dict) and {"model", "detector"} <= set(answer)
    )
    return answer if ours and isinstance(answer.get("hands", answer.get("frames")), list) else None


def identify(source: Path) -> dict[str, Any]:
    """Where an input lies and what is in it."""
    return {"path": _place(source), "bytes": source.stat().st_size, "sha256": sha256(source)}


def own_stem(out: Path, stem: str, source: Path) -> str:
    """The first of stem, stem-2, ... in `out` whose JSON file is not another input's, nor somebody else's."""
    names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
    return next(n for n in names if not json_of(out, n).exists() or _owner(out, n) == _place(source))


def holds(answer: dict[str, Any] | None, identity: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether the answer is to all of this content, with these settings and models."""
    if answer is None or answer.get("input") != identity or answer["settings"] != settings:
        return False
    return answer.get("complete", True) is True


def json_of(out: Path, stem: str) -> Path:
    """The file that is written last: where it is, all is."""
    return out / f"{stem}_hand.json"


def _owner(out: Path, stem: str) -> str | None:
    """Path of the input that an answer belongs to."""
    answer = read(json_of(out, stem)) or {}
    content = answer.get("input")
    path = content.get("path") if isinstance(content, dict) else answer.get("image", answer.get("video"))
    return _place(path) if isinstance(path, str) else None


def _place(path: Path | str) -> str:
    """The same for every way to name a file, but for links."""
    return os.path.normpath(Path(path).absolute())
