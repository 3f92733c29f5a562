"""Othello: a stone must flip others, caught between it and a second one of its colour; who cannot, passes."""

from __future__ import annotations

import numpy as np

from apps.go.jit import jit
from apps.go.state import (
    FIRST,
    FLIPS_NOTHING,
    FREE,
    HEADER,
    MUST_PLACE,
    OCCUPIED,
    OVER,
    PASSES,
    SECOND,
    TO_MOVE,
    WINNER,
    Spec,
    cell,
    get_hash,
    set_hash,
    zobrist,
)


@jit
def new(spec: Spec, s: np.ndarray) -> None:
    """Puts the first four stones in the middle, crosswise; the first player's rise to the right."""
    corner = cell(spec, (spec.rows // 2 - 1) * spec.columns + spec.columns // 2 - 1)
    below = spec.columns + 1
    for p, colour in ((corner, SECOND), (corner + 1, FIRST), (corner + below, FIRST), (corner + below + 1, SECOND)):
        s[HEADER + p] = colour
        set_hash(s, get_hash(s) ^ zobrist(colour, p))


@jit
def play(spec: Spec, s: np.ndarray, move: int) -> None:
    """Puts a stone and flips what it catches, or passes."""
    if move == spec.rows * spec.columns:
        s[PASSES] += 1
        if s[PASSES] == 2:
            lead = margin(spec, s)
            s[OVER], s[WINNER] = 1, 0 if lead > 0 else 1 if lead < 0 else 2
        return
    me, p = s[TO_MOVE] + 1, cell(spec, move)
    hashed = get_hash(s) ^ zobrist(me, p)
    below = spec.columns + 1
    for step in (-below - 1, -below, -below + 1, -1, 1, below - 1, below, below + 1):
        q = p
        for _ in range(_caught(s, p, step)):
            q += step
            s[HEADER + q] = me
            hashed ^= zobrist(1, q) ^ zobrist(2, q)
    s[HEADER + p] = me
    set_hash(s, hashed)
    s[PASSES] = 0


@jit
def _caught(s: np.ndarray, p: int, step: int) -> int:
    """How many stones a stone of the side to move on cell p would flip in one direction."""
    mine, theirs = s[TO_MOVE] + 1, 2 - s[TO_MOVE]
    count, q = 0, HEADER + p + step
    while s[q] == theirs:
        count += 1
        q += step
    return count if s[q] == mine else 0


@jit
def verdict(spec: Spec, s: np.ndarray, move: int) -> int:
    """OCCUPIED, FLIPS_NOTHING, MUST_PLACE (a pass with a stone to place) or FREE."""
    points = spec.rows * spec.columns
    if move == points:
        for other in range(points):
            if s[HEADER + cell(spec, other)] == 0 and _catches(spec, s, cell(spec, other)):
                return MUST_PLACE
        return FREE
    if s[HEADER + cell(spec, move)] != 0:
        return OCCUPIED
    return FREE if _catches(spec, s, cell(spec, move)) else FLIPS_NOTHING


@jit
def _catches(spec: Spec, s: np.ndarray, p: int) -> int:
    """How many stones a stone on an empty cell flips."""
    below, count = spec.columns + 1, 0
    for step in (-below - 1, -below, -below + 1, -1, 1, below - 1, below, below + 1):
        count += _caught(s, p, step)
    return count


@jit
def margin(spec: Spec, s: np.ndarray) -> float:
    """The first player's stones less the second's."""
    lead = 0
    for i in range(HEADER, HEADER + spec.cells):
        lead += (s[i] == FIRST) - (s[i] == SECOND)
    return float(lead)
