"""What a board game is to this room: a `Spec` of constants, and a state that is one row of small integers.

A row is copied, stored in a tree or stepped a thousand at a time without knowing the game. It begins with a header
(whose turn, passes, ko, prisoners, the last moves, the hash); then come blocks of `spec.cells` integers, the first of
which is the board: 0 empty, 1 the first player's, 2 the second's, 3 the border around it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from apps.go.jit import inlined, jit, set_word, word

GO, CONNECT4, OTHELLO, GOMOKU = range(4)
NAMES = ("go", "connect4", "othello", "gomoku")
NO_KO, SIMPLE, SUPERKO, SITUATIONAL = range(4)
"""How a repetition is forbidden: not at all, retaking at once, any earlier position, any earlier position and turn."""

TO_MOVE, PASSES, OVER, KO, PLIES, LAST, PRISONERS, WINNER, FRESH = 0, 1, 2, 3, 4, 5, 10, 12, 13
"""Places in the header. LAST: the points of the last five moves, newest first, -1 none (in Connect Four, too,
the point where the stone came to lie; a pass is the number of points); PRISONERS: taken by first, by second; WINNER:
0 first, 1 second, 2 drawn, -1 while the game is open and in Go, where the margin says it; FRESH: see goban.py."""
HASH, HEADER, MEMORY, SETS = 16, 20, 5, 5
EMPTY, FIRST, SECOND, BORDER = range(4)
(FREE, OCCUPIED, SUICIDE, BY_KO, BY_SUPERKO, COLUMN_FULL, FLIPS_NOTHING, MUST_PLACE, OFF_BOARD,
 GAME_OVER) = range(10)
"""Why a move is illegal; FREE if it is not. MUST_PLACE: a pass in Othello while a stone can be placed."""
REASONS = ("", "occupied", "suicide", "ko", "superko", "the column is full", "it flips nothing",
           "a pass while a stone can be placed", "off the board", "the game is over")
"""The same in words."""


class Spec(NamedTuple):
    """The constants of a game, numbers all (an array would cost compiled code a reference count at each use)."""

    game: int
    rows: int
    columns: int
    actions: int
    """Moves are 0..actions-1; in games with passes the last one is the pass."""
    ko: int
    suicide: bool
    komi: float
    cells: int
    """Integers in a block: the board with a border above, below and left, whose row is `columns` + 1 long, and up to
    three more, so that each block begins with a 64-bit word."""
    words: int
    """64-bit words in a set of cells."""
    band: int
    """Rows of cells that fit into such a word."""
    length: int
    """Integers in a state, a multiple of four."""


def spec(game: str = "go", size: int | tuple[int, int] | None = None, *, komi: float = 7.0, ko: int = SUPERKO,
         suicide: bool = True) -> Spec:
    """Makes the constants of a game.

    Args:
        size: Go: a number or (rows, columns), 1 to 19 each, 9 by default; the other games have one size.
        komi: points for the second player, whole or half; Go only.

    Raises:
        ValueError: if there is no such game or size.
    """
    if game not in NAMES:
        raise ValueError(f"there is no game {game!r}; choose one of {', '.join(NAMES)}")
    kind = NAMES.index(game)
    usual = ((9, 9), (6, 7), (8, 8), (15, 15))[kind]
    rows, columns = usual if size is None else (size, size) if isinstance(size, int | np.integer) else size
    if kind == GO:
        if not (1 <= rows <= 19 and 1 <= columns <= 19):
            raise ValueError(f"a board of {rows}x{columns} was asked for; Go is played here from 1x1 to 19x19")
        if not (np.isfinite(komi) and abs(komi) <= 400 and komi * 2 == round(komi * 2)):
            raise ValueError(f"komi is {komi}; a whole or half number between -400 and 400 is wanted")
    elif (rows, columns) != usual:
        raise ValueError(f"{game} is played on {usual[0]}x{usual[1]}, not on {rows}x{columns}")
    cells = int((rows + 2) * (columns + 1) + 4) // 4 * 4
    actions = columns if kind == CONNECT4 else rows * columns + (kind in (GO, OTHELLO))
    if kind != GO:
        komi, ko, suicide = 0.0, NO_KO, False
    words = (cells + 63) // 64
    length = HEADER + (7 * cells + 4 * (SETS * words + 1) if kind == GO else cells)
    return Spec(kind, int(rows), int(columns), int(actions), ko, bool(suicide), float(komi), cells, words,
                64 // (int(columns) + 1), length)


@inlined
def cell(spec: Spec, point: int) -> int:
    """Where a point, counted row by row from the top left, lies in a block with border."""
    return point + point // spec.columns + spec.columns + 2


@jit
def point(spec: Spec, cell: int) -> int:
    """The point of a cell that is not border."""
    return cell - cell // (spec.columns + 1) - spec.columns - 1


@inlined
def neighbours(spec: Spec) -> tuple[int, int, int, int]:
    """Steps from a cell up, left, right and down."""
    return -spec.columns - 1, -1, 1, spec.columns + 1


@jit
def zobrist(colour: int, cell: int) -> np.uint64:
    """Zobrist's (1970) random number of a stone on a cell; (0, 0) is for the second player's turn.

    It is splitmix64 (Steele et al. 2014) of the two, which costs less than a table.
    """
    z = np.uint64(2 * cell + colour + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inlined
def get_hash(s: np.ndarray) -> np.uint64:
    """The hash of the stones on the board."""
    return word(s, 2 * HASH)


@inlined
def set_hash(s: np.ndarray, hashed: np.uint64) -> None:
    """Puts a hash into a state."""
    set_word(s, 2 * HASH, hashed)
