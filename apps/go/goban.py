"""The rules of Go on flat arrays: chains as linked rings, pseudo-liberties, every superko in a few instructions.

A point's pseudo-liberties count an empty neighbour once for each stone of the chain that touches it. A chain is
captured when it has none; it is in atari at an empty point p when all it has are its stones' contacts with p. Both
need no list of liberties, so that a move costs a tenth of a microsecond.

A position repeats an earlier one only if a stone was played where one was once removed, or by suicide: all other
moves are free of superko and not looked up.
"""

from __future__ import annotations

import numpy as np

from apps.go.jit import inlined, jit
from apps.go.state import (
    BORDER,
    BY_KO,
    BY_SUPERKO,
    FREE,
    HEADER,
    KO,
    NO_KO,
    OCCUPIED,
    OVER,
    PASSES,
    PRISONERS,
    SITUATIONAL,
    SUICIDE,
    SUPERKO,
    TO_MOVE,
    Spec,
    cell,
    get_hash,
    neighbours,
    point,
    remembers,
    set_hash,
    zobrist,
)

# Blocks of a state, each `spec.cells` long: the stone on a cell, the ring of its chain, its chain's head, the head's
# pseudo-liberties, and whether a stone was ever taken from the cell. The head of an empty cell is 0, which is border.


@jit
def play(spec: Spec, s: np.ndarray, move: int) -> None:
    """Plays a stone, or passes; whose turn it is next is the caller's to set."""
    if move == spec.actions - 1:
        s[PASSES] += 1
        s[KO] = 0
        s[OVER] = s[PASSES] >= 2
        return
    n = spec.cells
    stone, ring, head, libs = HEADER, HEADER + n, HEADER + 2 * n, HEADER + 3 * n
    me, p = s[TO_MOVE] + 1, cell(spec, move)
    hashed = get_hash(s) ^ zobrist(me, p)
    s[stone + p], s[ring + p], s[head + p] = me, p, p
    free = 0
    for step in neighbours(spec):
        q = p + step
        if s[stone + q] == 0:
            free += 1
        elif s[stone + q] != BORDER:
            s[libs + s[head + q]] -= 1
    s[libs + p] = free
    merged, taken, last = False, 0, 0
    for step in neighbours(spec):
        q = p + step
        colour = s[stone + q]
        if colour == me:
            merged = True
            mine, theirs = s[head + p], s[head + q]
            if mine != theirs:  # the ring with p, short at first, joins the other
                r = p
                while True:
                    s[head + r] = theirs
                    r = s[ring + r]
                    if r == p:
                        break
                s[libs + theirs] += s[libs + mine]
                s[ring + p], s[ring + q] = s[ring + q], s[ring + p]
        elif colour == 3 - me and s[libs + s[head + q]] == 0:
            count, hashed = _remove(spec, s, q, hashed)
            taken += count
            last = q
    s[PRISONERS + me - 1] += taken
    s[KO] = 0
    if s[libs + s[head + p]] == 0:
        count, hashed = _remove(spec, s, p, hashed)
        s[PRISONERS + 2 - me] += count
    elif taken == 1 and not merged and s[libs + p] == 1:
        s[KO] = last
    set_hash(s, hashed)
    s[PASSES] = 0


@jit
def _remove(spec: Spec, s: np.ndarray, p: int, hashed: np.uint64) -> tuple[int, np.uint64]:
    """Takes the chain at p from the board; returns its number of stones and the position's new hash."""
    n = spec.cells
    stone, ring, head, libs, ever = HEADER, HEADER + n, HEADER + 2 * n, HEADER + 3 * n, HEADER + 4 * n
    colour, count, r = s[stone + p], 0, p
    while True:
        hashed ^= zobrist(colour, r)
        s[stone + r], s[head + r], s[ever + r] = 0, 0, 1
        count += 1
        for step in neighbours(spec):
            q = r + step
            if s[stone + q] == 1 or s[stone + q] == 2:
                s[libs + s[head + q]] += 1
        r = s[ring + r]
        if r == p:
            return count, hashed


@jit
def legal(spec: Spec, s: np.ndarray, history: np.ndarray, count: int, mask: np.ndarray) -> int:
    """Fills the mask of all points; returns how many a stone may be played on."""
    below, ever, watch = spec.columns + 1, HEADER + 4 * spec.cells, spec.ko >= SUPERKO
    move, at, total = 0, HEADER + spec.columns + 2, 0
    for _ in range(spec.rows):
        for _ in range(spec.columns):
            free = s[at] == 0
            if free:  # nearly always there is an empty neighbour and no past, and no more to find out
                free = s[at - 1] == 0 or s[at + 1] == 0 or s[at - below] == 0 or s[at + below] == 0
                if not free or (watch and s[ever - HEADER + at] == 1):
                    free = verdict(spec, s, history, count, at - HEADER) == FREE
            mask[move] = free
            total += free
            move += 1
            at += 1
        at += 1
    return total


AIR, FRIEND, PREY = 1, 2, 4


@inlined
def verdict(spec: Spec, s: np.ndarray, history: np.ndarray, count: int, p: int) -> int:
    """Why the side to move may not play on a cell (OCCUPIED, SUICIDE, BY_KO, BY_SUPERKO), or FREE."""
    if s[HEADER + p] != 0:
        return OCCUPIED
    below = spec.columns + 1
    finds = (_finds(spec, s, p, p - 1) | _finds(spec, s, p, p + 1)
             | _finds(spec, s, p, p - below) | _finds(spec, s, p, p + below))
    if finds == 0 and not spec.suicide:
        return SUICIDE
    if p == s[KO] and finds & PREY and spec.ko != NO_KO:  # who took the ko may fill it, if he is to move again
        return BY_KO
    if spec.ko < SUPERKO or (s[HEADER + 4 * spec.cells + p] == 0 and finds):
        return FREE
    return FREE if repeats(spec, s, history, count, p, finds) < 0 else BY_SUPERKO


@inlined
def _finds(spec: Spec, s: np.ndarray, p: int, q: int) -> int:
    """What keeps a stone on p alive at its neighbour q: AIR, a FRIEND with another liberty, a PREY without; or 0."""
    colour = s[HEADER + q]
    if colour == 0:
        return AIR
    if colour == BORDER:
        return 0
    only = only_liberty(spec, s, p, q)
    if colour == s[TO_MOVE] + 1:
        return 0 if only else FRIEND
    return PREY if only else 0


@inlined
def only_liberty(spec: Spec, s: np.ndarray, p: int, q: int) -> bool:
    """Whether the empty cell p is the only liberty of the chain at its neighbour q."""
    n = spec.cells
    heads = HEADER + 2 * n
    head = s[heads + q]
    libs = s[heads + n + head]
    if libs == 1 or libs > 4:
        return libs == 1
    below = spec.columns + 1
    at = heads + p
    contacts = (s[at - 1] == head) + (s[at + 1] == head) + (s[at - below] == head) + (s[at + below] == head)
    return libs == contacts


@jit
def brings_back(spec: Spec, s: np.ndarray, history: np.ndarray, count: int, p: int) -> int:
    """The number of the earlier position that a stone on the empty cell p would bring back, or -1."""
    finds = 0
    for step in neighbours(spec):
        finds |= _finds(spec, s, p, p + step)
    return repeats(spec, s, history, count, p, finds)


@jit
def repeats(spec: Spec, s: np.ndarray, history: np.ndarray, count: int, p: int, finds: int) -> int:
    """The same, when it is known what the stone finds."""
    after = _hash_after(spec, s, p, finds)
    if spec.ko == SITUATIONAL and s[TO_MOVE] == 0:
        after ^= zobrist(0, 0)
    if not remembers(s, after):
        return -1
    for i in range(count - 1, -1, -1):
        if history[i] == after:
            return i
    return -1


@jit
def _hash_after(spec: Spec, s: np.ndarray, p: int, finds: int) -> np.uint64:
    """The hash of the position after a stone on cell p, without playing it."""
    lives = finds != 0
    n = spec.cells
    ring, head = HEADER + n, HEADER + 2 * n
    me = s[TO_MOVE] + 1
    gone = 3 - me if lives else me  # suicide takes the player's own chains around p
    hashed = get_hash(s)
    if lives:
        hashed ^= zobrist(me, p)
        if finds < PREY:
            return hashed
    seen = (0, 0, 0, 0)
    for step in neighbours(spec):
        q = p + step
        if s[HEADER + q] != gone or s[head + q] in seen or (lives and not only_liberty(spec, s, p, q)):
            continue
        seen = (s[head + q], seen[0], seen[1], seen[2])
        r = q
        while True:
            hashed ^= zobrist(gone, r)
            r = s[ring + r]
            if r == q:
                break
    return hashed


@jit
def area(spec: Spec, s: np.ndarray, owner: np.ndarray) -> int:
    """Tromp-Taylor area: fills `owner` (points,) with +1 first player's, -1 second's, 0 neither's; returns its sum."""
    points = spec.rows * spec.columns
    seen = np.zeros(spec.cells, np.bool_)
    stack = np.empty(points, np.int16)
    total = 0
    for move in range(points):
        p = cell(spec, move)
        colour = s[HEADER + p]
        if colour:
            owner[move] = 1 if colour == 1 else -1
            total += owner[move]
        elif not seen[p]:
            top, size, reach = 1, 0, 0
            stack[0] = p
            seen[p] = True
            while size < top:  # the stack is kept: it is the region
                q = stack[size]
                size += 1
                for step in neighbours(spec):
                    r = q + step
                    c = s[HEADER + r]
                    if c == 0:
                        if not seen[r]:
                            seen[r] = True
                            stack[top] = r
                            top += 1
                    elif c != BORDER:
                        reach |= c
            value = 1 if reach == 1 else -1 if reach == 2 else 0
            for i in range(size):
                owner[point(spec, stack[i])] = value
            total += value * size
    return total
