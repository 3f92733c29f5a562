"""Connect Four solved: who wins with best play, by alpha-beta over bitboards.

One bit for each cell, seven for a column, of which the highest stays empty (Tromp; Pons 2015). It only asks who wins,
never how soon, so that each question is one null window. Early positions can take minutes, those with twelve or more
stones milliseconds to seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from apps.go.jit import jit

ROWS, COLUMNS, SLOTS = 6, 7, 1 << 22
BOTTOM = np.int64(sum(1 << 7 * c for c in range(COLUMNS)))
BOARD = np.int64(BOTTOM * ((1 << ROWS) - 1))


class Solver:
    """Answers questions about positions; it remembers what it found."""

    def __init__(self) -> None:
        self._table = np.zeros(SLOTS, np.int64)

    def outcome(self, moves: list[int]) -> int:
        """1, 0 or -1: whether the side to move after these columns (0..6) wins, draws or loses with best play.

        Raises:
            ValueError: if the moves are no game of Connect Four that is still open.
        """
        own, stones = position(moves)
        n = len(moves)
        return int(at_least(own, stones, n, 1, self._table)) - int(not at_least(own, stones, n, 0, self._table))

    def keeps(self, moves: list[int], outcome: int, column: int) -> bool:
        """Whether a move keeps the outcome of a position that is known: is as good as any, as far as who wins goes."""
        if outcome < 0:
            return True
        own, stones = position(moves)
        if threats(own, stones) & drop(stones, column):
            return True
        own, stones = position([*moves, column])
        if len(moves) == ROWS * COLUMNS - 1:
            return outcome == 0
        return not at_least(own, stones, len(moves) + 1, 1 - outcome, self._table)


def position(moves: list[int]) -> tuple[int, int]:
    """The stones of the side to move and all stones, as bitboards."""
    own, stones = 0, 0
    for column in moves:
        bit = drop(stones, column) if 0 <= column < COLUMNS else 0
        if not bit or threats(own, stones) & bit:
            raise ValueError(f"{''.join(str(c + 1) for c in moves)} is no game of Connect Four that is still open")
        own, stones = own ^ stones, stones | bit
    return own, stones


def drop(stones: int, column: int) -> int:
    """The bit where a stone comes to lie in a column, 0 if it is full."""
    return int((stones + (1 << 7 * column)) & (((1 << ROWS) - 1) << 7 * column))


@jit
def threats(own: int, stones: int) -> Any:
    """The empty cells that would make four in a row of one's own stones."""
    found = (own << 1) & (own << 2) & (own << 3)
    for step in (6, 7, 8):
        pair = (own << step) & (own << 2 * step)
        found |= pair & ((own << 3 * step) | (own >> step))
        pair = (own >> step) & (own >> 2 * step)
        found |= pair & ((own >> 3 * step) | (own << step))
    return found & (BOARD ^ stones)


@jit
def _count(bits: int) -> int:
    n = 0
    while bits:
        bits &= bits - 1
        n += 1
    return n


@jit
def at_least(own: int, stones: int, n: int, wanted: int, table: np.ndarray) -> bool:
    """Whether the side to move wins (wanted 1) or at least draws (wanted 0) a position of n stones."""
    possible = (stones + BOTTOM) & BOARD
    if threats(own, stones) & possible:
        return True
    danger = threats(own ^ stones, stones)
    must = danger & possible
    if must:
        if must & (must - 1):
            return False
        possible = must
    possible &= ~(danger >> 1)  # not below a cell where the other wins
    if not possible:
        return n == ROWS * COLUMNS and wanted == 0
    if n >= ROWS * COLUMNS - 2:  # the other has no threat left
        return wanted == 0
    key = (own + stones + BOTTOM) * 2 + wanted
    slot = key % SLOTS
    if table[slot] >> 1 == key:
        return table[slot] & 1 == 1
    answer = False
    tried = np.int64(0)
    while not answer and tried != possible:
        best, move = -1, np.int64(0)
        for i in range(COLUMNS):
            column = 3 + (1 - 2 * (i % 2)) * ((i + 1) // 2)  # from the middle outwards
            bit = possible & ~tried & (((1 << ROWS) - 1) << 7 * column)
            if bit:
                score = _count(threats(own | bit, stones | bit))
                if score > best:
                    best, move = score, bit
        tried |= move
        answer = not at_least(own ^ stones, stones | move, n + 1, 1 - wanted, table)
    table[slot] = key * 2 + answer
    return answer
