"""Gomoku in its free form: five or more in a row win, and nothing is forbidden to either side."""

from __future__ import annotations

import numpy as np

from apps.go import lines
from apps.go.jit import jit
from apps.go.state import FREE, HEADER, OCCUPIED, Spec, cell


@jit
def play(spec: Spec, s: np.ndarray, move: int) -> None:
    """Puts a stone on an empty point."""
    lines.place(spec, s, cell(spec, move), 5)


@jit
def verdict(spec: Spec, s: np.ndarray, move: int) -> int:
    """OCCUPIED or FREE."""
    return FREE if s[HEADER + cell(spec, move)] == 0 else OCCUPIED
