"""Answer files of earlier runs: which input each belongs to, and whether it is still valid."""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

from ...files import sha256


def read(path: Path) -> dict[str, Any] | None:
    """The content of an answer's JSON file; None: no file, or another program's (such as LabelMe's)."""
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    is_answer = (
        isinstance(answer, dict) and isinstance(answer.get("settings"), dict) and {"model", "detector"} <= set(answer)
    )
    return answer if is_answer and isinstance(answer.get("hands", answer.get("frames")), list) else None


def identify(source: Path) -> dict[str, Any]:
    """Path, size and check sum of an input."""
    return {"path": _place(source), "bytes": source.stat().st_size, "sha256": sha256(source)}


def own_stem(out: Path, stem: str, source: Path) -> str:
    """The first of stem, stem-2, ... in `out` whose JSON file is not another input's or another program's."""
    names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
    return next(n for n in names if not json_of(out, n).exists() or _owner(out, n) == _place(source))


def holds(answer: dict[str, Any] | None, identity: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether the answer is complete and of this content, with these settings and models."""
    if answer is None or answer.get("input") != identity or answer["settings"] != settings:
        return False
    return answer.get("complete", True) is True


def json_of(out: Path, stem: str) -> Path:
    """The JSON file, which is written last: where it exists, all files of the answer do."""
    return out / f"{stem}_hand.json"


def _owner(out: Path, stem: str) -> str | None:
    """Path of the input that an answer belongs to."""
    answer = read(json_of(out, stem)) or {}
    content = answer.get("input")
    path = content.get("path") if isinstance(content, dict) else answer.get("image", answer.get("video"))
    return _place(path) if isinstance(path, str) else None


def _place(path: Path | str) -> str:
    """The same text for every spelling of a path, links apart."""
    return os.path.normpath(Path(path).absolute())
