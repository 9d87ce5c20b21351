"""The inputs of a prediction run: photos, videos and cameras by files, folders, patterns, numbers and addresses."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from ...config import ConfigError
from . import answers
from .video_addresses import SCHEMES, is_live, is_stream

PHOTOS = (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".avif", ".gif", ".bmp", ".dib")
PHOTOS += (".tif", ".tiff", ".jp2", ".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".sr", ".ras", ".heic", ".heif", ".hif")
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp")
Source = Path | int | str  # a photo or video, the number of a camera, a network camera's address


def find_sources(inputs: list[str]) -> list[Source]:
    """The photos, videos and cameras that a command line names; of a folder all photos and videos but the answers of
    earlier runs.

    Raises:
        ConfigError: a folder or pattern without a photo or video, a camera among other inputs, a web address.
    """
    found = [source for text in inputs for source in _expand(text)]
    if len(found) > 1 and any(map(is_live, found)):
        raise ConfigError("a camera stands alone: it is read until Ctrl-C")
    return list(dict.fromkeys(found))


def _expand(text: str) -> list[Source]:
    """What one argument names."""
    path = Path(text)
    if not text:
        raise ConfigError("an input has no name: give a photo, a folder, a pattern, a video or a camera's number")
    if is_stream(text):
        return [text]
    if "://" in text and not path.exists():
        raise ConfigError(
            f"{text}: addresses are not fetched; save the file and give its name (cameras: {', '.join(SCHEMES)})"
        )
    if text.isdecimal() and not path.exists():
        return [int(text)]
    if path.is_dir():
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PHOTOS + VIDEOS and p.is_file())
        inside = [p for p in inside if not _is_answer(p)]
        if not inside:
            raise ConfigError(f"{path} is a folder without a photo or video ({', '.join(PHOTOS + VIDEOS)})")
        return inside
    if not path.exists() and glob.has_magic(text):
        matched = sorted(Path(p) for p in glob.glob(text, recursive=True) if Path(p).is_file())
        if not matched:
            raise ConfigError(f"no file matches {text}")
        return matched
    return [path]


def _is_answer(path: Path) -> bool:
    """Whether an earlier run wrote the file; answers lie among the photos where --out is the photos' folder."""
    answer = re.fullmatch(r"(.+_hand)(_depth|_depth_colour|_normals|_mask)?", path.stem)
    if answer is None or path.suffix not in (".png", ".mp4"):
        return False
    return answers.read(path.with_name(f"{answer[1]}.json")) is not None


def stems(sources: list[Source]) -> list[str]:
    """A name for each input's files; inputs that share one keep their suffixes and get a number."""
    names = [s.stem if isinstance(s, Path) else f"camera{s}" if isinstance(s, int) else "camera" for s in sources]
    if len(set(names)) < len(names):
        names = [n if names.count(n) == 1 else Path(s).name for n, s in zip(names, sources, strict=True)]
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return result


def is_video(source: Source) -> bool:
    """Whether an input has frames."""
    return is_live(source) or source.suffix.lower() in VIDEOS
