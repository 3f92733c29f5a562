"""What Go keeps behind the board, in 64-bit words: the liberties of each chain in one, and sets of cells.

Liberties are counted with their contacts: a cell once for each stone that touches it. A chain's word is the sum of
(1, p, p squared) over these, side by side: whether all of them are one cell p is then one multiplication, for the mean
of the squares is the square of the mean only if all are equal. A stone more or less is an addition, and so is a merger.
"""

from __future__ import annotations

import numpy as np

from apps.go.jit import inlined, set_word, word
from apps.go.state import HEADER, Spec

VACANT, TAKEN, SINCE = 0, 1, 3
"""Sets: the empty cells; those from which a first's, a second's stone was ever taken; and since FRESH was played."""


@inlined
def contact(p: int) -> np.uint64:
    """What one stone's touching the empty cell p adds to its chain's liberties: 1, p, p squared, in one word."""
    q = np.uint64(p)
    return np.uint64(1) | q << np.uint64(11) | (q * q) << np.uint64(31)


@inlined
def air(spec: Spec, s: np.ndarray, head: int) -> np.uint64:
    """The liberties of a chain."""
    return word(s, np.uint64(2 * HEADER + 6 * spec.cells) + (np.uint64(head) << np.uint64(3)))


@inlined
def set_air(spec: Spec, s: np.ndarray, head: int, value: np.uint64) -> None:
    """Sets them."""
    set_word(s, np.uint64(2 * HEADER + 6 * spec.cells) + (np.uint64(head) << np.uint64(3)), value)


@inlined
def breathe(spec: Spec, s: np.ndarray, head: int, change: np.uint64) -> None:
    """Adds to them."""
    set_air(spec, s, head, air(spec, s, head) + change)


@inlined
def contacts(value: np.uint64) -> np.int64:
    """The number of contacts in liberties: an empty cell counts for each stone that touches it."""
    return np.int64(value & np.uint64(2047))


@inlined
def only(value: np.uint64, p: int) -> bool:
    """Whether liberties that contain the cell p are nothing else."""
    return value == (value & np.uint64(2047)) * contact(p)


@inlined
def place(spec: Spec, number: int, p: int) -> tuple[np.uint64, np.uint64]:
    """The byte of a state with which the word begins that holds a cell's bit of a set, and that bit."""
    first = np.uint64(2 * HEADER + 14 * spec.cells + 8 * number * spec.words)
    return first + (np.uint64(p) >> np.uint64(6) << np.uint64(3)), np.uint64(1) << (np.uint64(p) & np.uint64(63))


@inlined
def has(spec: Spec, s: np.ndarray, number: int, p: int) -> bool:
    """Whether a cell is in a set."""
    i, bit = place(spec, number, p)
    return word(s, i) & bit != np.uint64(0)


@inlined
def put(spec: Spec, s: np.ndarray, number: int, p: int) -> None:
    """Puts a cell into a set."""
    i, bit = place(spec, number, p)
    set_word(s, i, word(s, i) | bit)


@inlined
def take_out(spec: Spec, s: np.ndarray, number: int, p: int) -> None:
    """Takes a cell out of a set."""
    i, bit = place(spec, number, p)
    set_word(s, i, word(s, i) & ~bit)


@inlined
def begin_anew(spec: Spec, s: np.ndarray) -> None:
    """Empties SINCE, for both colours."""
    since, _ = place(spec, SINCE, 0)
    for i in range(2 * spec.words):
        set_word(s, since + np.uint64(8 * i), np.uint64(0))


@inlined
def recall(spec: Spec, s: np.ndarray) -> None:
    """Makes SINCE what TAKEN is."""
    (taken, _), (since, _) = place(spec, TAKEN, 0), place(spec, SINCE, 0)
    for i in range(2 * spec.words):
        set_word(s, since + np.uint64(8 * i), word(s, taken + np.uint64(8 * i)))


@inlined
def window(spec: Spec, s: np.ndarray, number: int, p: int) -> np.uint64:
    """The bits of a set for 64 cells from p on."""
    i, _ = place(spec, number, p)
    shift = np.uint64(p) & np.uint64(63)
    return (word(s, i) >> shift) | ((word(s, i + np.uint64(8)) << np.uint64(1)) << (np.uint64(63) - shift))


@inlined
def spread(bits: np.uint64) -> np.uint64:
    """The lowest eight bits as the lowest of a byte each."""
    each = (bits & np.uint64(0xFF)) * np.uint64(0x0101010101010101) & np.uint64(0x8040201008040201)
    return (each + np.uint64(0x7F7F7F7F7F7F7F7F)) >> np.uint64(7) & np.uint64(0x0101010101010101)
