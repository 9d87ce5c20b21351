"""JSON read record by record through a small window, and indexes on the disk."""

import json
import os
import pickle

import numpy as np
import pytest

from mesh_graphormer_hand import json_stream
from mesh_graphormer_hand.data.images import DataError
from mesh_graphormer_hand.data.readers import index as label_index
from mesh_graphormer_hand.data.readers.index import IndexWriter, cached_index, json_items

CONTENT = {
    "images": [{"id": i, "name": 'a "quoted" {name}, [\\]', "more": [[1.5, -2e-3], None]} for i in range(9)],
    "empty": [],
    "none": {},
    "number": 12.25,
    "annotations": {"0": {"é": [1, 22, 333]}, "1": {"b": True, "c": {}}},
}


def expected(value, depth, prefix=()):
    if depth == 0 or not isinstance(value, dict | list):
        yield prefix, value
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from expected(item, depth - 1, (*prefix, key))


@pytest.mark.parametrize("window", [1, 7, 1 << 20])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("indent", [None, 1])
def test_records_equal_the_whole(tmp_path, monkeypatch, window, depth, indent):
    monkeypatch.setattr(json_stream, "WINDOW", window)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(CONTENT, indent=indent, ensure_ascii=False), encoding="utf-8")
    assert list(json_items(path, depth)) == list(expected(CONTENT, depth))


@pytest.mark.parametrize("window", [5, 1 << 20])
def test_every_cut_is_noticed(tmp_path, monkeypatch, window):
    monkeypatch.setattr(json_stream, "WINDOW", window)
    path, text = tmp_path / "a.json", json.dumps({"a": [{"b": [1, 2]}, {"c": "text"}], "d": True})
    for length in range(len(text)):
        path.write_text(text[:length])
        with pytest.raises(DataError, match=r"a\.json was cut short after \d+ characters"):
            list(json_items(path, 2))


@pytest.mark.parametrize(
    "text", ['{"a": 1} 2', '{"a" 1}', "{1: 2}", '{"a": [1 2]}', '{"a": tru, "b": [1, 2]}', "[1,, 2]"]
)
def test_no_json_is_named(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"a\.json is not valid JSON: .* at character \d+"):
        list(json_items(path, 2))


@pytest.mark.parametrize("text", ["[" * 100_000, "[" + "9" * 5000 + "]"])
def test_what_exhausts_the_parser_is_named(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"a\.json "):
        list(json_items(path, 0))


def test_other_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        list(json_items(tmp_path / "none.json", 1))
    (tmp_path / "bytes.json").write_bytes(b'["\xff\xfe"]')
    with pytest.raises(DataError, match="not UTF-8"):
        list(json_items(tmp_path / "bytes.json", 1))


def fill(writer: IndexWriter) -> None:
    writer.append("xyz", np.arange(12.0).reshape(2, 2, 3), "<f4")
    writer.append("xyz", np.ones((1, 2, 3)), "<f4")
    writer.append_text("name", ["a", "", "é/c"])
    writer.append_text("name", ["last"])
    writer.extra["note"] = {"n": 3}


def test_arrays_come_back(tmp_path):
    """Mapped, not loaded; a pickle carries the folder only; rows of another shape are refused."""
    source = tmp_path / "labels.json"
    source.write_text("[]")
    index = cached_index(tmp_path, "", "set", [source], fill)
    assert isinstance(index["xyz"], np.memmap) and index["xyz"].shape == (3, 2, 3)
    assert [index.text("name", i) for i in range(4)] == ["a", "", "é/c", "last"]
    assert index.extra["note"] == {"n": 3} and "xyz" in index and "uv" not in index
    index["xyz"][0]
    assert len(pickle.dumps(index)) < 500 and (pickle.loads(pickle.dumps(index))["xyz"] == index["xyz"]).all()
    with pytest.raises(ValueError, match="rows of shape"):
        cached_index(tmp_path, "", "other", [source], lambda w: [fill(w), w.append("xyz", np.ones((1, 3)), "<f4")])
    assert not list((tmp_path / label_index.INDEX_FOLDER).glob("other*"))  # nothing half made is left


def test_made_again_when_a_source_changes(tmp_path):
    source, calls = tmp_path / "labels.json", []
    source.write_text("[]")

    def build(writer: IndexWriter) -> None:
        calls.append(1)
        fill(writer)

    for _ in range(2):
        cached_index(tmp_path, "", "set", [source], build)
    assert len(calls) == 1
    cached_index(tmp_path, "", "set", [source], build, about="another option")
    os.utime(source, ns=(1, 1))
    cached_index(tmp_path, "", "set", [source], build)
    assert len(calls) == 3
    with pytest.raises(DataError, match=r"gone\.json: no such file; is root="):
        cached_index(tmp_path, "", "set", [tmp_path / "gone.json"], build)


def test_a_place_that_cannot_be_written(tmp_path, monkeypatch):
    """A read-only data set: the user's cache folder; that failing too, an error with the remedy."""
    root = tmp_path / "data"
    root.mkdir()
    (root / "labels.json").write_text("[]")
    (root / label_index.INDEX_FOLDER).write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    index = cached_index(root, "", "set", [root / "labels.json"], fill)
    assert tmp_path / "home" in index.folder.parents
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match="no index can be written to .*cache=DIR"):
        cached_index(root, "", "set", [root / "labels.json"], fill)


@pytest.mark.parametrize("content", ["[[1]]", '[{"name": 1}]', "[null]"])
def test_a_file_laid_out_otherwise_is_told(tmp_path, content):
    """Whatever a reader stumbles over; nothing half made is left."""
    source = tmp_path / "labels.json"
    source.write_text(content)

    def build(writer: IndexWriter) -> None:
        for _, value in json_items(source, 1):
            writer.append("id", [value["id"]], "<i8")

    with pytest.raises(DataError, match=r"labels\.json: no label file of set: \w+Error"):
        cached_index(tmp_path, "", "set", [source], build)
    assert not list((tmp_path / label_index.INDEX_FOLDER).glob("set*"))


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta["arrays"]["xyz"].update(dtype="|O"),  # as addresses in memory, these bytes could do anything
        lambda meta: meta["arrays"]["xyz"].update(shape=[10**9, 2, 3]),
        lambda meta: meta["arrays"]["xyz"].pop("shape"),
    ],
)
def test_a_damaged_index_is_told(tmp_path, change):
    source = tmp_path / "labels.json"
    source.write_text("[]")
    index = cached_index(tmp_path, "", "set", [source], fill)
    meta = json.loads((index.folder / "index.json").read_text())
    change(meta)
    (index.folder / "index.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match=r"xyz\.bin is a damaged index .*delete its folder"):
        cached_index(tmp_path, "", "set", [source], fill)["xyz"]
