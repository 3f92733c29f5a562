"""The few functions that search, training, page and environment need of a game; none of them knows which game it is.

    new, legal, play, key, margin; reason and repeats_ply say why a move is illegal

A history is an array of uint64 keys, one for each position from the first on, and the number of them: the caller
appends `key` after each move. Only Go with superko looks at it.
"""

from __future__ import annotations

import numpy as np

from apps.go import connect4, goban, gomoku, lines, othello
from apps.go.area import area
from apps.go.jit import jit, lean
from apps.go.state import (
    BORDER,
    CONNECT4,
    FREE,
    GAME_OVER,
    GO,
    HEADER,
    LAST,
    MEMORY,
    OCCUPIED,
    OFF_BOARD,
    OTHELLO,
    OVER,
    PLIES,
    SITUATIONAL,
    TO_MOVE,
    WINNER,
    Spec,
    cell,
    get_hash,
    point,
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
    if spec.game == OTHELLO:
        othello.new(spec, s)
    elif spec.game == GO:
        goban.new(spec, s)
    return s


@lean
def key(spec: Spec, s: np.ndarray) -> np.uint64:
    """What a history remembers of a position: its stones; under situational superko and in Othello its turn too."""
    hashed, turn = get_hash(s), spec.ko == SITUATIONAL or spec.game == OTHELLO
    return hashed ^ zobrist(0, 0) if turn and s[TO_MOVE] == 1 else hashed


@lean
def legal(spec: Spec, s: np.ndarray, history: np.ndarray, count: int, mask: np.ndarray) -> int:
    """Fills a mask (actions,) with 1 for legal and 0 for illegal moves; returns how many are legal."""
    if s[OVER]:
        mask[:] = 0
        return 0
    if spec.game == GO:
        mask[spec.actions - 1] = 1
        return goban.legal(spec, s, history, count, mask) + 1
    total, places = 0, spec.actions - (spec.game == OTHELLO)
    for move in range(places):
        mask[move] = verdict(spec, s, move) == FREE
        total += mask[move]
    if places < spec.actions:
        mask[places] = total == 0
        total += mask[places]
    return total


@lean
def verdict(spec: Spec, s: np.ndarray, move: int) -> int:
    """Why a move is illegal, in the games that need no history."""
    if spec.game == CONNECT4:
        return connect4.verdict(spec, s, move)
    if spec.game == OTHELLO:
        return othello.verdict(spec, s, move)
    return gomoku.verdict(spec, s, move)


@lean
def reason(spec: Spec, s: np.ndarray, history: np.ndarray, count: int, move: int) -> int:
    """Why the side to move may not make a move: one of the codes in `state`, FREE if it may."""
    if s[OVER]:
        return GAME_OVER
    if not 0 <= move < spec.actions:
        return OFF_BOARD
    if spec.game != GO:
        return verdict(spec, s, move)
    if move == spec.actions - 1:
        return FREE
    if s[HEADER + cell(spec, move)] != 0:
        return OCCUPIED
    return goban.verdict(spec, s, history, count, cell(spec, move))


@lean
def repeats_ply(spec: Spec, s: np.ndarray, history: np.ndarray, count: int, move: int) -> int:
    """After how many moves the position stood on the board that a move would bring back, forbidden or not, or -1."""
    if spec.game != GO or not 0 <= move < spec.actions - 1 or s[HEADER + cell(spec, move)] != 0:
        return -1
    return goban.brings_back(spec, s, history, count, cell(spec, move))


@lean
def play(spec: Spec, s: np.ndarray, move: int) -> None:
    """Plays a legal move in place."""
    last = move
    if spec.game == GO:
        goban.play(spec, s, move)
    elif spec.game == CONNECT4:
        last = point(spec, connect4.play(spec, s, move))
    elif spec.game == OTHELLO:
        othello.play(spec, s, move)
    else:
        gomoku.play(spec, s, move)
    for i in range(MEMORY - 1, 0, -1):
        s[LAST + i] = s[LAST + i - 1]
    s[LAST] = last
    s[PLIES] += 1
    s[TO_MOVE] = 1 - s[TO_MOVE]


@jit
def margin(spec: Spec, s: np.ndarray) -> float:
    """The first player's margin: Go: area less komi; Othello: stones; else 1, -1 or 0. Positive if he has won."""
    if spec.game == GO:
        return area(spec, s, np.empty(spec.rows * spec.columns, np.int8)) - spec.komi
    return othello.margin(spec, s) if spec.game == OTHELLO else lines.result(s)
