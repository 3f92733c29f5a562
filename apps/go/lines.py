"""Stones in a row: what wins Connect Four and Gomoku."""

from __future__ import annotations

import numpy as np

from apps.go.jit import jit
from apps.go.state import HEADER, OVER, PLIES, TO_MOVE, WINNER, Spec, get_hash, set_hash, zobrist


@jit
def place(spec: Spec, s: np.ndarray, p: int, wanted: int) -> None:
    """Puts a stone of the side to move on a cell; `wanted` or more in a row win, a full board is drawn."""
    me = s[TO_MOVE] + 1
    s[HEADER + p] = me
    set_hash(s, get_hash(s) ^ zobrist(me, p))
    if longest(spec, s, p) >= wanted:
        s[OVER], s[WINNER] = 1, me - 1
    elif s[PLIES] + 1 == spec.rows * spec.columns:
        s[OVER], s[WINNER] = 1, 2


@jit
def longest(spec: Spec, s: np.ndarray, p: int) -> int:
    """The length of the longest row, column or diagonal of one colour through the stone on a cell."""
    colour, best = s[HEADER + p], 0
    for step in (1, spec.columns, spec.columns + 1, spec.columns + 2):
        run = 1
        for way in (-step, step):
            q = p + way
            while s[HEADER + q] == colour:
                run += 1
                q += way
        best = max(best, run)
    return best


@jit
def result(s: np.ndarray) -> float:
    """1 if the first player has won, -1 if the second, 0 if it is a draw or still open."""
    return 1.0 if s[WINNER] == 0 else -1.0 if s[WINNER] == 1 else 0.0
