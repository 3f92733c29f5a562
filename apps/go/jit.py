"""numba as this room uses it: compiled once, kept in the user's cache folder, free of the interpreter's lock."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numba
import platformdirs
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _cache() -> str:
    """A folder named after the sources of this room: numba does not notice when a function's callee has changed."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    return str(Path(platformdirs.user_cache_dir("wunderkammer")) / "numba" / digest.hexdigest()[:16])


if "NUMBA_CACHE_DIR" not in os.environ:
    setattr(numba.config, "CACHE_DIR", _cache())  # noqa: B010  (its type stubs do not know it)


def jit(function: Any) -> Any:
    """Compiles a function on its first call, for its first arguments' types; later processes load what it compiled."""
    return numba.njit(cache=True, nogil=True, error_model="numpy")(function)


def lean(function: Any) -> Any:
    """The same for a function that makes no array, nor calls one that does, and so need not count references to arrays.

    Counting costs more than what the smaller functions of this room do.
    """
    compiler: Any = numba.njit
    return compiler(cache=True, nogil=True, error_model="numpy", _nrt=False)(function)


def inlined(function: Any) -> Any:
    """The same for a small function that is called for every point: its body is put in the caller's place."""
    return numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")(function)


# What follows is one instruction each, for which numba has no words; or, as with views, only slow ones.
_instruction: Any = intrinsic  # whose type counts the first argument, the typing context, among the function's own


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Where in memory the 64-bit word lies that begins with a byte of a row of integers."""
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    byte = builder.gep(builder.bitcast(data, ir.IntType(8).as_pointer()), [arguments[1]])
    return builder.bitcast(byte, ir.IntType(64).as_pointer())


@_instruction
def word(_: Any, row: Any, byte: Any) -> Any:
    """The 64-bit word that begins with a byte of a contiguous row of integers."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_address(context, builder, signature, arguments), align=1)

    return types.uint64(row, types.uint64), code


@_instruction
def set_word(_: Any, row: Any, byte: Any, value: Any) -> Any:
    """Sets it."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _address(context, builder, signature, arguments), align=1)

    return types.void(row, types.uint64, types.uint64), code


@_instruction
def lowest(_: Any, bits: Any) -> Any:
    """The place of the lowest bit that is set in a word that is not 0."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), code


@_instruction
def ones(_: Any, bits: Any) -> Any:
    """The number of bits that are set in a word."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), code
