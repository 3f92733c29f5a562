"""The few functions that search, training, page and environment need of a game; none of them knows which game it is.

    new, legal, play, key, is_over, margin

A history is an array of uint64 keys, one for each position from the first on, and the number of them: the caller
appends `key` after each move. Only Go with superko looks at it.
"""

from __future__ import annotations

import numpy as np

from apps.go import goban
from apps.go.jit import jit
from apps.go.state import (
    BORDER,
    HEADER,
    KO,
    LAST,
    MEMORY,
    OVER,
    PASSES,
    PLIES,
    SITUATIONAL,
    SUPERKO,
    TO_MOVE,
    WINNER,
    Spec,
    cell,
    get_hash,
    remember,
    zobrist,
)


@jit
def new(spec: Spec) -> np.ndarray:
    """The first position: (length,) int16."""
    s = np.zeros(spec.length, np.int16)
    s[LAST : LAST + MEMORY] = -1
    s[WINNER] = -1
    s[HEADER : HEADER + spec.cells] = BORDER
    for move in range(spec.rows * spec.columns):
        s[HEADER + cell(spec, move)] = 0
    remember(s, key(spec, s))
    return s


@jit
def key(spec: Spec, s: np.ndarray) -> int:
    """What a history remembers of a position: its stones, under situational superko its turn too."""
    hashed = get_hash(s)
    return hashed ^ zobrist(0, 0) if spec.ko == SITUATIONAL and s[TO_MOVE] == 1 else hashed


@jit
def legal(spec: Spec, s: np.ndarray, history: np.ndarray, count: int, mask: np.ndarray) -> int:
    """Fills a mask (actions,) with 1 for legal and 0 for illegal moves; returns how many are legal."""
    if s[OVER]:
        mask[:] = 0
        return 0
    below, ever, watch = spec.columns + 1, HEADER + 4 * spec.cells, spec.ko >= SUPERKO
    move, at, total = 0, HEADER + spec.columns + 2, 1
    for _ in range(spec.rows):
        for _ in range(spec.columns):
            free = s[at] == 0
            if free:  # nearly always there is an empty neighbour and no past, and no more to find out
                free = s[at - 1] == 0 or s[at + 1] == 0 or s[at - below] == 0 or s[at + below] == 0
                if not free or (watch and s[ever - HEADER + at] == 1):
                    free = goban.verdict(spec, s, history, count, at - HEADER) == goban.FREE
            mask[move] = free
            total += free
            move += 1
            at += 1
        at += 1
    mask[move] = 1
    return total


@jit
def play(spec: Spec, s: np.ndarray, move: int) -> None:
    """Plays a legal move in place."""
    points = spec.rows * spec.columns
    if move == points:
        s[PASSES] += 1
        s[KO] = 0
        s[OVER] = s[PASSES] >= 2
    else:
        goban.play(spec, s, move)
    for i in range(MEMORY - 1, 0, -1):
        s[LAST + i] = s[LAST + i - 1]
    s[LAST] = move
    s[PLIES] += 1
    s[TO_MOVE] = 1 - s[TO_MOVE]
    remember(s, key(spec, s))


@jit
def margin(spec: Spec, s: np.ndarray) -> float:
    """The first player's margin: points for Go (area minus komi); positive if the first player has won."""
    owner = np.empty(spec.rows * spec.columns, np.int8)
    return goban.area(spec, s, owner) - spec.komi
