"""What comes from a file, checked once when it is read: plain values into a dataclass, arrays out of an .npz."""

from __future__ import annotations

import sys
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

T = TypeVar("T")


def typed(kind: type[T], values: Any) -> T:
    """Makes a dataclass of the plain values that JSON or TOML gave; a float is finite, and a bool is no int.

    Raises:
        ValueError: naming what is unknown, missing or of another type than the dataclass declares.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{_short(values)} stands where named values were wanted")
    for name, value in values.items():
        hint = get_type_hints(kind).get(name)
        if hint is None:
            raise ValueError(f"{_short(name)} is not known")
        if not _fits(value, hint):
            raise ValueError(f"{name} is {_short(value)}, wanted {getattr(hint, '__name__', hint)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(str(error).partition("() ")[2]) from error


def arrays(path: Path, wanted: dict[str, tuple[str, int]]) -> dict[str, np.ndarray]:
    """Reads every array of an .npz file; no pickle is loaded.

    Args:
        wanted: arrays that must be there: name -> (numpy's letters of its kind, such as "iu", and its number of axes).

    Raises:
        ValueError: naming the file, if it is no .npz, is damaged, or lacks a wanted array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except Exception as error:  # a wrong byte can raise almost anything
        first = " ".join(str(error).split())[:120] or type(error).__name__
        raise ValueError(f"{path} is not a readable npz file ({first}); get it anew") from error
    if lacking := sorted(set(wanted) - set(found)):
        raise ValueError(f"{path} lacks {', '.join(lacking)} (it has {', '.join(found)}); it is another kind of file")
    for name, (kinds, axes) in wanted.items():
        array = np.asarray(found[name])  # what is no array within the file comes as bytes
        if array.dtype.kind not in kinds or array.ndim != axes:
            raise ValueError(f"{path} is damaged: {name} is {array.dtype} of shape {array.shape}; get it anew")
    return found


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint) or hint
    if origin is Literal:
        return value in get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if origin is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return type(value) is origin


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
