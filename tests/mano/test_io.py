"""Hands on disk: what is read, what is refused and how it is said, and that a round trip changes nothing."""

import logging
import os
import pickle
import sys
import types
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from mesh_graphormer_hand import paths
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.mano.hand import ARRAYS, HandFileError, UnknownHandError, boundary_loop, find, load, mirrored
from mesh_graphormer_hand.mano.io import read_mano, read_npz, write_mano, write_npz
from mesh_graphormer_hand.mano.layer import ManoLayer

REFERENCE = Path(os.environ.get("HAND_REFERENCE", paths.CHECKOUT.parent / "shared" / "reference")) / "mano"


@pytest.fixture(scope="module")
def hand():
    return load("open")


@pytest.fixture(scope="module")
def written(hand, tmp_path_factory):
    path = tmp_path_factory.mktemp("mano") / "MANO_RIGHT.pkl"
    write_mano(hand, path)
    return path


def content_of(path):
    return pickle.loads(path.read_bytes())  # a file that this test wrote itself


def store(content, path, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ARRAYS)


def test_open_hand_written_as_mano_is_read_back_equal(hand, written):
    again = read_mano(written)
    assert same(again, hand)
    assert (again.fingerprint, again.name, again.side, again.tips) == (hand.fingerprint, "open", "right", "manopth")
    assert np.array_equal(again.wrist_loop, hand.wrist_loop)


def test_written_file_is_what_other_readers_expect(hand, written):
    """manopth and smplx: a sparse regressor, float64, and a root whose parent is -1 in unsigned numbers."""
    content = content_of(written)
    assert written.read_bytes()[:2] == b"\x80\x02"
    assert sparse.isspmatrix_csc(content["J_regressor"]) and content["J_regressor"].shape == (16, 778)
    assert content["kintree_table"].dtype == np.uint32 and content["kintree_table"][0, 0] == 2**32 - 1
    assert content["v_template"].dtype == np.float64 and content["f"].dtype == np.uint32
    assert (content["bs_style"], content["bs_type"]) == ("lbs", "lrotmin")
    np.testing.assert_allclose(content["J"], hand.joint_regressor @ hand.v_template, atol=1e-7)
    assert {"hands_components", "hands_coeffs", "hands_mean", "weights", "posedirs", "shapedirs"} <= set(content)


def chumpy_classes(monkeypatch):
    """Stand-ins for chumpy's two classes, importable while a test pickles them."""
    classes = []
    for module, name in (("chumpy.ch", "Ch"), ("chumpy.reordering", "Select")):
        made = type(name, (), {"__module__": module})
        fake = types.ModuleType(module)
        setattr(fake, name, made)
        monkeypatch.setitem(sys.modules, module, fake)
        classes.append(made)
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    return classes


@pytest.mark.parametrize("era", ["old names", "new names"])
@pytest.mark.parametrize("wrapped", ["array", "Ch", "Select"])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_every_form_of_the_published_file_is_read(hand, written, tmp_path, monkeypatch, era, wrapped, protocol):
    """Shape directions as a plain array, as chumpy's Ch, and (as published) as a chumpy slice of 20 directions."""
    content = content_of(written)
    if wrapped != "array":
        ch, select = chumpy_classes(monkeypatch)
        inner, outer = ch(), select()
        directions = np.concatenate([hand.shapedirs, 9 * hand.shapedirs], 2).astype(float)
        inner.x = directions if wrapped == "Select" else directions[:, :, :10].copy()
        inner._dirty_vars = {"x"}
        outer.a, outer.preferred_shape = inner, (778, 3, 10)
        outer.idxs = np.arange(directions.size).reshape(directions.shape)[:, :, :10].ravel()
        content["shapedirs"] = outer if wrapped == "Select" else inner
    data = pickle.dumps(content, protocol=protocol)
    if era == "old names" and protocol <= 2:  # in later protocols the length of a name stands before it
        data = data.replace(b"numpy._core.", b"numpy.core.").replace(b"scipy.sparse._csc", b"scipy.sparse.csc")
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(data)
    monkeypatch.delitem(sys.modules, "chumpy", raising=False)
    assert same(read_mano(path), hand)


class Python2Pickler(pickle._Pickler):
    """Writes the bytes of arrays as Python 2 did: as strings, without _codecs."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_as_string(self, data):
        self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(data)

    dispatch[bytes] = save_as_string


def test_file_of_python_2_is_read(hand, written, tmp_path):
    path = tmp_path / "MANO_RIGHT.pkl"
    with path.open("wb") as stream:
        Python2Pickler(stream, 2).dump(content_of(written))
    assert b"_codecs" not in path.read_bytes()
    assert same(read_mano(path), hand)


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, r"(posix|nt)\.system"), (eval, r"(builtins|__builtin__)\.eval"), (np.load, r"numpy\.\S*load")],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_foreign_global_is_refused_by_name_and_not_run(written, tmp_path, function, named, protocol):
    marker = tmp_path / "executed"
    command = {os.system: f"touch {marker}", eval: f"open({str(marker)!r}, 'w')", np.load: str(marker)}[function]
    content = {"aside": Evil(function, command), **content_of(written)}
    path = store(content, tmp_path / "MANO_RIGHT.pkl", protocol)
    with pytest.raises(HandFileError, match=f"MANO_RIGHT.pkl: refused.*{named}"):
        read_mano(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02cnumpy\nndarray\nU\x04evil\x8c\x04evil\x86b.",  # state for a class instead of an object
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",  # a foreign codec
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nc__builtin__\nset\nK\x00\x85X\x01\x00\x00\x00b\x87R.",
        b"\x80\x02\x82\x01.",  # copyreg's extension registry
        b"\x80\x02X\x01\x00\x00\x00aQ.",  # a persistent object
    ],
)
def test_misused_known_names_are_refused(tmp_path, program):
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(program)
    with pytest.raises(HandFileError, match="damaged pickle"):
        read_mano(path)


def test_corrupted_sparse_matrix_is_refused(written, tmp_path):
    """Row numbers out of range would write outside the array in compiled code."""
    content = content_of(written)
    content["J_regressor"].indices = content["J_regressor"].indices + 10**6
    with pytest.raises(HandFileError, match="`J_regressor`: not a readable array"):
        read_mano(store(content, tmp_path / "MANO_RIGHT.pkl"))


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.9999999])
def test_truncated_file_says_so(written, tmp_path, share):
    data = written.read_bytes()
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(data[: max(1, int(share * len(data)))])
    with pytest.raises(HandFileError, match="MANO_RIGHT.pkl: cut short after"):
        read_mano(path)


@pytest.mark.parametrize("text", [b"", b"<!DOCTYPE html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_something_else_under_that_name(tmp_path, text):
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(text)
    with pytest.raises(HandFileError, match="not a pickle"):
        read_mano(path)


def test_not_a_dictionary(tmp_path):
    with pytest.raises(HandFileError, match="holds a list"):
        read_mano(store([1, 2], tmp_path / "MANO_RIGHT.pkl"))


KEYS = ("v_template", "f", "weights", "J_regressor", "shapedirs", "posedirs", "hands_components", "hands_mean")


@pytest.mark.parametrize("key", [*KEYS, "kintree_table"])
def test_missing_key_and_wrong_shape_are_named(written, tmp_path, key):
    content = content_of(written)
    value = content.pop(key)
    path = store(content, tmp_path / "MANO_RIGHT.pkl")
    with pytest.raises(HandFileError, match=f"MANO_RIGHT.pkl: key `{key}` is missing"):
        read_mano(path)
    store({**content, key: value[1:]}, path)
    with pytest.raises(HandFileError, match=f"MANO_RIGHT.pkl: `{key}` has shape .* a hand's is"):
        read_mano(path)
    store({**content, key: "text"}, path)
    with pytest.raises(HandFileError, match=f"MANO_RIGHT.pkl: `{key}`: not a readable array"):
        read_mano(path)


def test_nonsense_numbers_are_named(written, tmp_path):
    path, content = tmp_path / "MANO_RIGHT.pkl", content_of(written)
    for key, value, message in (
        ("v_template", np.full((778, 3), np.nan), "`v_template` holds numbers that are not finite"),
        ("f", np.full((1538, 3), 778), "`f` names vertices outside 0..777"),
        ("weights", np.ones((778, 16)), "rows of `weights` should sum to 1"),
        ("kintree_table", np.zeros((2, 16), int), "not MANO's order of joints"),
        ("kintree_table", np.zeros((2, 16)), "not an array of whole numbers"),
        ("shapedirs", np.array([None, None]), "`shapedirs`: not a readable array"),
    ):
        with pytest.raises(HandFileError, match=message):
            read_mano(store({**content, key: value}, path))


def test_wrong_sign_of_the_left_shape_directions_is_mended(hand, tmp_path, caplog):
    """The published left model's shape directions have the right model's x; a correct one is left as it is."""
    good = mirrored(hand)
    bad = replace(good, shapedirs=hand.shapedirs)
    for written_hand, expected in ((bad, good), (good, good)):
        write_mano(hand, tmp_path / "MANO_RIGHT.pkl")
        write_mano(written_hand, tmp_path / "MANO_LEFT.pkl")
        again = load(tmp_path, side="left")
        assert same(again, expected)
        assert (again.side, again.tips) == ("left", "manopth_left")
    (tmp_path / "MANO_RIGHT.pkl").unlink()
    write_mano(bad, tmp_path / "MANO_LEFT.pkl")
    with caplog.at_level(logging.WARNING):
        assert same(read_mano(tmp_path / "MANO_LEFT.pkl"), bad)
    assert "no MANO_RIGHT.pkl beside it" in caplog.text
    assert same(read_mano(tmp_path / "MANO_LEFT.pkl", right=hand), good)


def test_npz_round_trip_keeps_the_render_mesh(hand, tmp_path):
    path = tmp_path / "hand.npz"
    write_npz(hand, path)
    again = read_npz(path)
    assert same(again, hand) and np.array_equal(again.hands_std, hand.hands_std)
    for field in fields(hand.render):
        assert np.array_equal(getattr(again.render, field.name), getattr(hand.render, field.name)), field.name
    assert [p.name for p in tmp_path.iterdir()] == ["hand.npz"]


def test_bad_npz_is_named(hand, tmp_path):
    path = tmp_path / "hand.npz"
    write_npz(replace(hand, render=None), path)
    content = dict(np.load(path))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(HandFileError, match="hand.npz: not a readable .npz"):
        load(path)
    np.savez(path, **{k: v for k, v in content.items() if k != "shapedirs"})
    with pytest.raises(HandFileError, match="key `shapedirs` is missing"):
        load(path)
    np.savez(path, **{**content, "posedirs": np.array([object()])})
    with pytest.raises(HandFileError, match="hand.npz: not a readable .npz"):
        load(path)


def test_fingerprint(hand):
    """Another topology, template or joint regressor is another hand; weights, shapes and poses are not asked."""
    assert hand.fingerprint != 0 and -(2**63) <= hand.fingerprint < 2**63
    assert hands.fingerprint_from_hex(hand.fingerprint_hex) == hand.fingerprint
    assert hands.fingerprint_from_hex(hands.fingerprint_to_hex(-2)) == -2
    assert torch.tensor([hand.fingerprint], dtype=torch.int64).item() == hand.fingerprint
    others = {
        replace(hand, v_template=hand.v_template + np.float32(1e-4)).fingerprint,
        replace(hand, faces=hand.faces[::-1]).fingerprint,
        replace(hand, joint_regressor=hand.joint_regressor[::-1]).fingerprint,
        mirrored(hand).fingerprint,
    }
    assert len(others | {hand.fingerprint}) == 5
    assert (
        replace(hand, v_template=hand.v_template.astype(float), weights=hand.weights * 0).fingerprint
        == hand.fingerprint
    )


def test_where_hands_are_found(hand, written, tmp_path, monkeypatch):
    assets = tmp_path / "assets"
    assets.mkdir()
    monkeypatch.setattr(paths, "MANO_ASSETS", assets)
    with pytest.raises(HandFileError, match="open_hand.npz: no such hand file"):
        load("auto")
    write_npz(hand, assets / "open_hand.npz")
    assert load("auto").fingerprint == load("open").fingerprint == load(assets).fingerprint == hand.fingerprint
    other = replace(hand, v_template=hand.v_template * np.float32(1.1), name="mano", render=None)
    write_mano(other, assets / "MANO_RIGHT.pkl")
    assert load("auto").fingerprint == load(assets / "MANO_RIGHT.pkl").fingerprint == other.fingerprint
    assert load("open").name == "open" and load("auto").name == "mano"
    assert find(hand.fingerprint_hex).render is not None
    assert find(other.fingerprint_hex).name == "mano"
    with pytest.raises(UnknownHandError, match="no hand with fingerprint 00000000000000ff.*MANO_RIGHT.pkl"):
        find("00000000000000ff")
    with pytest.raises(HandFileError, match="no MANO_LEFT.pkl in this folder"):
        load(written.parent, side="left")
    with pytest.raises(HandFileError, match="no such hand file"):
        load(tmp_path / "none.pkl")


def test_a_replaced_file_is_read_again(hand, tmp_path):
    path = tmp_path / "MANO_RIGHT.pkl"
    write_mano(hand, path)
    first = load(path)
    assert load(path) is first
    write_mano(replace(hand, v_template=hand.v_template * 2), path)
    os.utime(path, ns=(1, 1))
    assert load(path).fingerprint != first.fingerprint


def test_boundary_loop(hand):
    """16 wrist edges in the order of the open boundary; a closed mesh has none."""
    loop = boundary_loop(hand.faces)
    assert len(loop) == 16 and set(loop) == set(hand.wrist_loop)
    directed = {tuple(e) for f in hand.faces.tolist() for e in ((f[0], f[1]), (f[1], f[2]), (f[2], f[0]))}
    assert all((a, b) in directed and (b, a) not in directed for a, b in zip(loop, np.roll(loop, -1), strict=True))
    assert len(boundary_loop(np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]]))) == 0


@pytest.mark.skipif(not (REFERENCE / "MANO_RIGHT.pkl").is_file(), reason=f"needs {REFERENCE}/MANO_RIGHT.pkl")
def test_the_whole_reference_file():
    """All 778 vertices of the invented hand, read from its pickle, against manopth (mm) and smplx (m)."""
    stored = {k: torch.from_numpy(v) for k, v in np.load(REFERENCE / "manopth_smplx_outputs.npz").items()}
    layer = ManoLayer(mano_root=REFERENCE, use_pca=False, flat_hand_mean=False)
    vertices, joints = layer(stored["pose"], stored["betas"], stored["trans"])
    torch.testing.assert_close(1000 * vertices, stored["axisang_mean_trans_vertices_mm"], atol=1e-3, rtol=0)
    torch.testing.assert_close(1000 * joints, stored["axisang_mean_trans_joints_mm"], atol=1e-3, rtol=0)
    torch.testing.assert_close(vertices, stored["smplx_vertices_m"], atol=1e-6, rtol=0)
