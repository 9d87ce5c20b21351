"""Reads the pickles in which hands are published, without executing anything that they say.

A pickle is a program: it names functions and the reader calls them. Here every name that a hand's file has reason to
use (numpy's arrays, scipy's sparse matrices, chumpy's arrays, bytes and sets) leads to an inert stand-in below that
keeps what it was given and does nothing, and any other name is an error. Neither numpy, scipy nor chumpy ever sees the
file: the stand-ins are turned into arrays afterwards, by plain array operations that check what they get.

Works for files of Python 2 and 3, of old and new numpy and scipy; needs no chumpy.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .hand import HandFileError

_LARGEST = 10**8  # numbers in one array; MANO's largest has 315,090


class _Stub:
    """Keeps the arguments and the state that the pickle gives; does nothing with them."""

    __slots__ = ("args", "state")

    def __new__(cls, *args: Any) -> Any:
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Stub):
    """numpy.ndarray: state is (version, shape, dtype, is Fortran order, bytes or list)."""


class _Dtype(_Stub):
    """numpy.dtype: args are (code, ...), state is (version, byte order, ...)."""


class _Csc(_Stub):
    """scipy.sparse.csc_matrix."""


class _Csr(_Stub):
    """scipy.sparse.csr_matrix."""


class _Coo(_Stub):
    """scipy.sparse.coo_matrix."""


class _Ch(_Stub):
    """chumpy's array: state["x"] is the numpy array that it wraps."""


class _Select(_Stub):
    """chumpy's slice of another array: state["a"].ravel()[state["idxs"]].reshape(state["preferred_shape"])."""


class _Object(_Stub):
    """Python's `object`, which old protocols name as a base class."""


class _NewArray(_Stub):
    def __new__(cls, kind: Any, *_: Any) -> _Array:
        if kind is not _Array:
            raise pickle.UnpicklingError("an array of a foreign class")
        return _Array()


class _FromBuffer(_Stub):
    def __new__(cls, buffer: Any, dtype: Any, shape: Any, order: str, *_: Any) -> _Array:
        if order not in ("C", "F"):
            raise pickle.UnpicklingError(f"an array in memory order {order!r}")
        array = _Array()
        array.state = (1, shape, dtype, order == "F", bytes(buffer))
        return array


class _Scalar(_Stub):
    def __new__(cls, dtype: Any, data: Any = b"") -> Any:
        return np.frombuffer(_bytes(data), _dtype(dtype), 1)[0].item()


class _Encode(_Stub):
    def __new__(cls, text: str, encoding: str = "latin1") -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"bytes in encoding {encoding!r}")
        return text.encode("latin1")


class _Set(_Stub):
    def __new__(cls, items: Any = ()) -> tuple:
        return tuple(items)


class _Reconstructor(_Stub):
    def __new__(cls, kind: Any, *_: Any) -> Any:
        if not (isinstance(kind, type) and issubclass(kind, _Stub)):
            raise pickle.UnpicklingError("an object of a foreign class")
        return kind()


_GLOBALS: dict[tuple[str, str], type[_Stub]] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _NewArray for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FromBuffer for core in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    **{(f"scipy.sparse.{m}csc", "csc_matrix"): _Csc for m in ("", "_")},
    **{(f"scipy.sparse.{m}csr", "csr_matrix"): _Csr for m in ("", "_")},
    **{(f"scipy.sparse.{m}coo", "coo_matrix"): _Coo for m in ("", "_")},
    **{(module, "Ch"): _Ch for module in ("chumpy", "chumpy.ch")},
    ("chumpy.reordering", "Select"): _Select,
    ("_codecs", "encode"): _Encode,
    **{(builtins, "set"): _Set for builtins in ("__builtin__", "builtins")},
    **{(builtins, "object"): _Object for builtins in ("__builtin__", "builtins")},
    **{(module, "_reconstructor"): _Reconstructor for module in ("copy_reg", "copyreg")},
}


class _ForeignGlobal(Exception):
    pass


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Stub]:
        """The stand-in for a global: the pickle's only way to reach code."""
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise _ForeignGlobal(f"{module}.{name}") from None


def load(data: bytes, where: Path | str) -> Any:
    """Read one pickle into dicts, lists, numbers, strings and stand-ins (see `to_array`); executes nothing.

    Raises:
        HandFileError: a global that no hand's file needs (named), a file that is cut short, damaged or no pickle.
    """
    if data[:1] not in (b"\x80", b"(", b"}", b"c"):
        raise HandFileError(f"{where}: not a pickle; was a web page or a Git LFS pointer saved under this name?")
    try:
        return _Unpickler(BytesIO(data), encoding="latin1").load()
    except _ForeignGlobal as error:
        raise HandFileError(
            f"{where}: refused. The pickle asks for {error}, which no hand's file needs; nothing of it was executed. "
            "Get the file from its publisher again."
        ) from None
    except Exception as error:  # a damaged pickle can raise almost anything
        if isinstance(error, EOFError) or "truncated" in str(error) or not data.endswith(b"."):
            raise HandFileError(f"{where}: cut short after {len(data):,} bytes; copy or download it again") from None
        raise HandFileError(f"{where}: damaged pickle ({type(error).__name__}: {error})") from None


def to_array(value: Any, what: str) -> np.ndarray | list:
    """The array that a stand-in stands for; an array of objects becomes a list of arrays.

    Args:
        value: from `load`.
        what: file and key, for messages.

    Raises:
        HandFileError: it is no array, or its parts do not fit together.
    """
    try:
        return _evaluate(value)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise HandFileError(f"{what}: not a readable array ({error})") from None


def _evaluate(value: Any) -> Any:
    evaluate = _EVALUATE.get(type(value))
    if evaluate is not None:
        return evaluate(value)
    if isinstance(value, int | float | list | tuple) and not isinstance(value, bool):
        array = np.array(value)
        if array.dtype.kind in "iuf":
            return array
    raise TypeError(f"{type(value).__name__.lstrip('_')} found")


def _dense(array: _Array) -> np.ndarray | list:
    _, shape, dtype, fortran, data = array.state
    shape = _shape(shape)
    if dtype.args[0] in ("O", "O8"):
        return [_evaluate(item) for item in data]
    numbers = np.frombuffer(_bytes(data), _dtype(dtype))
    return numbers.reshape(shape, order="F" if fortran else "C").copy()


def _compressed(matrix: _Csc | _Csr) -> np.ndarray:
    shape, by_column = _shape(matrix.state["_shape"]), isinstance(matrix, _Csc)
    data, inner, start = (_evaluate(matrix.state[key]) for key in ("data", "indices", "indptr"))
    outer = np.repeat(np.arange(shape[1 if by_column else 0]), np.diff(start))
    return _scatter(shape, *((inner, outer) if by_column else (outer, inner)), data)


def _coordinates(matrix: _Coo) -> np.ndarray:
    state = matrix.state
    rows, columns = (state["row"], state["col"]) if "row" in state else state["coords"]
    return _scatter(_shape(state["_shape"]), _evaluate(rows), _evaluate(columns), _evaluate(state["data"]))


def _scatter(shape: tuple[int, ...], rows: np.ndarray, columns: np.ndarray, data: np.ndarray) -> np.ndarray:
    dense = np.zeros(shape, data.dtype)
    np.add.at(dense, (rows, columns), data)  # checks its indices, which scipy's compiled code does not
    return dense


def _selected(select: _Select) -> np.ndarray:
    state = select.state
    numbers = _evaluate(state["a"]).ravel()[_evaluate(state["idxs"])]
    return numbers.reshape(_shape(state["preferred_shape"])) if "preferred_shape" in state else numbers


def _shape(shape: Any) -> tuple[int, ...]:
    shape = tuple(int(n) for n in shape)
    if any(n < 0 for n in shape) or np.prod(shape, dtype=float) > _LARGEST:
        raise ValueError(f"shape {shape}")
    return shape


def _dtype(dtype: Any) -> np.dtype:
    code, order = dtype.args[0], dtype.state[1]
    if not re.fullmatch(r"[biuf][1248]", code) or order not in ("<", ">", "|", "="):
        raise TypeError(f"numbers of type {order}{code}")
    return np.dtype(order + code)


def _bytes(data: Any) -> bytes:
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


_EVALUATE: dict[type, Callable[[Any], Any]] = {
    _Array: _dense,
    _Csc: _compressed,
    _Csr: _compressed,
    _Coo: _coordinates,
    _Ch: lambda ch: _evaluate(ch.state["x"]),
    _Select: _selected,
}
