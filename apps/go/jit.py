"""numba as this room uses it: compiled once, kept in the user's cache folder, free of the interpreter's lock."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numba
import platformdirs


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


def inlined(function: Any) -> Any:
    """The same for a small function that is called for every point: its body is put in the caller's place."""
    return numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")(function)
