"""Reading npz files that may come from anyone: plain arrays as NumPy reads them, pickled ones without running anything.

sketch-rnn's files hold object arrays, which are pickles. A pickle names functions to call; here it is answered with
stand-ins for the three that make an array (`_ListedArray`, `_ListedType`), and with a refusal for every other name.
"""

from __future__ import annotations

import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from hyperrun.data.sources import unreadable
from hyperrun.errors import UserError, printable

NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
"""Types of the arrays inside a pickle, as pickles name them."""


def read_npz(path: Path) -> dict[str, np.ndarray | list[np.ndarray]]:
    """Return the arrays of an npz file by name; an object array as the list of the arrays in it.

    Raises:
        UserError: the file is missing, damaged or no npz, or a pickle in it holds something else than arrays.
    """
    if not path.exists():
        raise UserError(f"there is no file {path}")
    found: dict[str, np.ndarray | list[np.ndarray]] = {}
    member = ""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if not member.endswith(".npy"):
                    raise UserError(f"{path} is no npz file: {printable(member)} in it is no array")
                with archive.open(member) as stream:
                    found[member.removesuffix(".npy")] = read_array(stream, lambda name=member: archive.open(name))
    except (OSError, zipfile.BadZipFile) as error:
        raise unreadable(path, error) from None
    except (ValueError, EOFError, zlib.error, MemoryError, OverflowError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"cannot read {printable(member)} in {path}: {' '.join(printable(error).split())}") from None
    return found


def read_array(stream: IO[bytes], again: Callable[[], IO[bytes]]) -> np.ndarray | list[np.ndarray]:
    """Read one member of an npz file; `again` opens it from its beginning.

    Raises:
        ValueError: it is damaged, or a pickle that holds something else than arrays.
    """
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, dtype = header(stream)
    if not dtype.hasobject:
        with again() as whole:
            return np.lib.format.read_array(whole, allow_pickle=False)
    try:
        found = ArraysOnly(stream, encoding="latin1").load()
    except (AttributeError, ImportError, IndexError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    if not isinstance(found, _ListedArray) or not isinstance(found.values, list):
        raise ValueError("the pickle in it is no array of arrays")
    return found.values


class ArraysOnly(pickle.Unpickler):
    """Knows what pickled arrays of arrays are made of, and nothing else; calls nothing of NumPy's."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("numpy", "ndarray"): np.ndarray,  # only ever compared, by _reconstruct
            ("numpy", "dtype"): _ListedType,
            ("_codecs", "encode"): _latin1,
            **dict.fromkeys(((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")), _reconstruct),
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"a pickle in it asks for {module}.{name}, and only arrays are read")
        return known[module, name]


class _ListedType:
    """Stands for numpy.dtype."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: Any) -> None:
        self.order = {"<": "<", ">": ">"}.get(state[1], "=")


class _ListedArray:
    """Stands for numpy.ndarray; `values` is the array, or the list of arrays in it."""

    values: np.ndarray | list[np.ndarray] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _ListedType):
            raise pickle.UnpicklingError("a pickled array in it has no type")
        if kind.code in NUMBERS:
            content = content.encode("latin1") if isinstance(content, str) else content  # of Python 2
            flat = np.frombuffer(content, np.dtype(kind.order + kind.code))
            self.values = flat.reshape(shape, order="F" if fortran else "C")
        elif kind.code in ("O8", "O4", "O"):
            inner = [one.values if isinstance(one, _ListedArray) else None for one in content]
            if not all(isinstance(one, np.ndarray) for one in inner) or len(shape) != 1:
                raise pickle.UnpicklingError("the pickle in it is no array of arrays")
            self.values = [one for one in inner if isinstance(one, np.ndarray)]
        else:
            raise pickle.UnpicklingError(f"a pickled array in it is of the type {kind.code}, and only numbers are read")


def _reconstruct(subtype: Any, *_: object) -> _ListedArray:
    """Stands for the function that pickled arrays begin with."""
    if subtype is not np.ndarray:
        raise pickle.UnpicklingError("a pickle in it holds another kind of array")
    return _ListedArray()


def _latin1(text: str, encoding: str) -> bytes:
    """Stand for _codecs.encode, with which protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in it are written in {encoding}")
    return text.encode("latin1")
