"""Connect Four: a stone falls to the lowest empty cell of its column; four in a row win."""

from __future__ import annotations

import numpy as np

from apps.go import lines
from apps.go.jit import jit
from apps.go.state import COLUMN_FULL, FREE, HEADER, Spec, cell


@jit
def play(spec: Spec, s: np.ndarray, move: int) -> int:
    """Drops a stone into a column that is not full; returns the cell where it comes to lie."""
    p = cell(spec, (spec.rows - 1) * spec.columns + move)
    while s[HEADER + p] != 0:
        p -= spec.columns + 1
    lines.place(spec, s, p, 4)
    return p


@jit
def verdict(spec: Spec, s: np.ndarray, move: int) -> int:
    """COLUMN_FULL or FREE."""
    return FREE if s[HEADER + cell(spec, move)] == 0 else COLUMN_FULL
