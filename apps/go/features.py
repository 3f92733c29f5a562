"""What the net sees of a position: planes over the board and a few numbers, always from the side to move.

The same planes for every game; where a game has no liberties or passes, those planes are empty. The features that save
a small net the most work are those of AlphaGo (Silver et al. 2016, extended data table 2): what a stone here would
capture, and how many liberties it would have.
"""

from __future__ import annotations

import numpy as np

from apps.go import goban
from apps.go.jit import jit, lean
from apps.go.state import GO, HEADER, LAST, MEMORY, SUPERKO, TO_MOVE, Spec, cell, neighbours

PLANES, NUMBERS = 18, 8
"""Planes: 0 board, 1 own, 2 the other's stones, 3-5 their chain has one, two, three liberties, 6 an empty point where
no stone may go, 7-11 the last five moves, newest first, 12-14 a stone here captures one, two, three or more, 15-17 it
would have one, two, three or more liberties. Numbers: 0-4 whether each of the last five moves was a pass, 5 komi for
the side to move / 15, 6 suicide is legal, 7 superko."""


@jit
def encode(spec: Spec, s: np.ndarray, mask: np.ndarray, planes: np.ndarray, numbers: np.ndarray) -> None:
    """Fills planes (PLANES, rows, columns) and numbers (NUMBERS,), float32, from a state and its legal moves."""
    _fill(spec, s, mask, planes, numbers, np.zeros(spec.cells, np.int16), np.zeros(spec.cells, np.int16))


@lean
def _fill(spec: Spec, s: np.ndarray, mask: np.ndarray, planes: np.ndarray, numbers: np.ndarray, liberties: np.ndarray,
          marks: np.ndarray) -> None:  # fmt: skip
    """Does it with room for the liberties of a chain's head (at most 4; 0 not counted yet) and for marks."""
    planes[:] = 0
    numbers[:] = 0
    me, move, points = s[TO_MOVE] + 1, 0, spec.rows * spec.columns
    stamp = 0
    for row in range(spec.rows):
        for column in range(spec.columns):
            p = cell(spec, move)
            colour = s[HEADER + p]
            planes[0, row, column] = 1
            if colour:
                planes[1 if colour == me else 2, row, column] = 1
                if spec.game == GO:
                    head = s[HEADER + 2 * spec.cells + p]
                    if liberties[head] == 0:
                        stamp += 1
                        liberties[head] = _liberties(spec, s, p, -1, marks, stamp, 0)
                    if liberties[head] <= 3:
                        planes[2 + liberties[head], row, column] = 1
            elif spec.game == GO:
                if mask[move]:
                    stamp += 1
                    captures, libs = _after(spec, s, p, marks, stamp)
                    if captures:
                        planes[11 + min(captures, 3), row, column] = 1
                    if libs:
                        planes[14 + min(libs, 3), row, column] = 1
                else:
                    planes[6, row, column] = 1
            move += 1
    for i in range(MEMORY):
        last = s[LAST + i]
        if 0 <= last < points:
            planes[7 + i, last // spec.columns, last % spec.columns] = 1
        elif last == points:
            numbers[i] = 1
    numbers[5] = (spec.komi if me == 2 else -spec.komi) / 15
    numbers[6] = spec.suicide
    numbers[7] = spec.ko >= SUPERKO


@lean
def _liberties(spec: Spec, s: np.ndarray, p: int, but: int, marks: np.ndarray, stamp: int, found: int) -> int:
    """Counts on from `found` the liberties of the chain at p that are not marked yet, without `but`; stops at 4."""
    ring, r = HEADER + spec.cells, p
    while True:
        for step in neighbours(spec):
            q = r + step
            if s[HEADER + q] == 0 and marks[q] != stamp and q != but:
                marks[q] = stamp
                found += 1
                if found == 4:
                    return found
        r = s[ring + r]
        if r == p:
            return found


@lean
def _after(spec: Spec, s: np.ndarray, p: int, marks: np.ndarray, stamp: int) -> tuple[int, int]:
    """Stones that one on the empty cell p would capture (stops at 3), and its chain's liberties then (stops at 4).

    Of captured stones only those beside p count as new liberties, which makes a few large captures look smaller.
    """
    ring, head = HEADER + spec.cells, HEADER + 2 * spec.cells
    me, found, captures = s[TO_MOVE] + 1, 0, 0
    taken = (0, 0, 0, 0)
    for step in neighbours(spec):
        q = p + step
        colour = s[HEADER + q]
        if colour == 0 and marks[q] != stamp:
            marks[q] = stamp
            found += 1
        elif colour == 3 - me and goban.only_liberty(spec, s, p, q):
            found += 1
            if s[head + q] not in taken:
                taken = (s[head + q], taken[0], taken[1], taken[2])
                r = q
                while captures < 3:
                    captures += 1
                    r = s[ring + r]
                    if r == q:
                        break
    found = min(found, 4)
    for step in neighbours(spec):
        if found == 4:
            break
        if s[HEADER + p + step] == me:
            found = _liberties(spec, s, p + step, p, marks, stamp, found)
    return captures, found
