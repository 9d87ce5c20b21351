"""The hands in a label file in COCO's format as an index: annotations joined with their images, a row each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..images import DataError
from .index import Index, IndexWriter, array, cached_index, image_size, json_items

RECORDS_AT_ONCE = 1024  # records that become rows together
IMAGE_COLUMNS = {"image": "<i8", "size": "<i4", "K": "<f8"}


def coco_index(
    root: Path,
    cache: str,
    name: str,
    path: Path,
    rows_of: Callable[[dict[str, Any], IndexWriter], Iterable[dict[str, Any]]],
    columns: dict[str, str],
    about: str = "",
    own: bool = False,
) -> Index:
    """The index `name` of the file `path`, from the cache or made now; see `cached_index`.

    Args:
        rows_of: an annotation -> its rows, by column, with `id` and the image's id as `image`.
        columns: name -> type, of the rows.
        own: a file of one's own: the index has images by their place in the file, their `K`, and categories' names.

    Raises:
        DataError: the file is missing or no COCO file, holds no hand, or an annotation lacks its image or category.
    """

    def build(writer: IndexWriter) -> None:
        images: dict[Any, dict[str, Any]] = {}
        rows: list[dict[str, Any]] = []
        for (section, *_), value in json_items(path, 2):
            if section == "images":
                images[value["id"]] = _image(value, path, len(images) if own else value["id"], own)
            elif section == "annotations":
                rows += rows_of(value, writer)
            elif section == "categories" and own:
                writer.extra.setdefault("names", {})[str(value["id"])] = _category(value, path)
        if not rows:
            raise DataError(
                f"{path} holds no valid hand with 21 keypoints; is it {name}? Hands of your own: --data coco"
            )
        if lost := [r for r in rows if r["image"] not in images]:
            raise DataError(
                f"{path}: annotation {lost[0]['id']} belongs to image {lost[0]['image']}, which is not there"
            )
        kinds = writer.extra.get("names")
        if kinds and (lost := [r for r in rows if str(r["category"]) not in kinds]):
            raise DataError(
                f"{path}: annotation {lost[0]['id']} has category {lost[0]['category']}, which is not there"
            )
        for start in range(0, len(rows), RECORDS_AT_ONCE):
            part = rows[start : start + RECORDS_AT_ONCE]
            for column, dtype in columns.items():
                writer.append(column, [r[column] for r in part], dtype)
            pictures = [images[r["image"]] for r in part]
            writer.append_text("file", [p["file"] for p in pictures])
            for column in IMAGE_COLUMNS.keys() & pictures[0].keys():
                writer.append(column, [p[column] for p in pictures], IMAGE_COLUMNS[column])

    return cached_index(root, cache, name, [path], build, about=about)


def first_file(root: Path, name: str) -> Path:
    """The label file `name`, in `root` or in `root`/annotations; where it is in neither, in `root`."""
    return next((p for p in (root / name, root / "annotations" / name) if p.is_file()), root / name)


def _image(value: dict[str, Any], path: Path, number: int, own: bool) -> dict[str, Any]:
    known = {"image": number, "file": str(value["file_name"]), "size": image_size(value)}
    if own:
        K = value.get("K")
        known["K"] = np.zeros((3, 3)) if K is None else array(K, (3, 3), f"{path}, image {value.get('id')}: K")
    return known


def _category(value: dict[str, Any], path: Path) -> tuple[str, list[str]]:
    """A category's name and those of its keypoints."""
    name, names = value.get("name", ""), value.get("keypoints") or []
    if not isinstance(name, str) or not isinstance(names, list):
        raise DataError(f"{path}, category {value['id']} should have a name, and keypoints by name")
    return name, [str(n) for n in names]
