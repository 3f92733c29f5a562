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
    """Fills the mask of all points; returns how many a stone may be played on.

    A first pass without a branch, which the compiler makes into vector instructions, settles nearly all points: there
    is an empty neighbour and no past. Those in doubt are collected and looked at. Indices are unsigned, for numba would
    look at each signed one to see whether it counts from the end.
    """
    n, width = spec.cells, spec.columns + 1
    start, span = HEADER + width + 1, spec.rows * width
    here, past = s[start : start + span], s[start + 4 * n : start + 4 * n + span]
    up, down = s[start - width : start - width + span], s[start + width : start + width + span]
    left, right = s[start - 1 : start - 1 + span], s[start + 1 : start + 1 + span]
    scratch = np.empty(2 * span, np.int16)
    kind, doubtful = scratch[:span], scratch[span:]  # kind: 1 sure, 2 in doubt
    watch, settled = np.int16(spec.ko >= SUPERKO), np.int16(0)
    for k in range(span):
        empty = here[k] == 0
        air = (up[k] == 0) | (left[k] == 0) | (right[k] == 0) | (down[k] == 0)
        sure = empty & air & ((past[k] & watch) == 0)
        kind[k] = np.int16(sure) + np.int16(2) * np.int16(empty & ~sure)
        settled += np.int16(sure)
    doubts = np.uint64(0)
    for k in range(span):
        doubtful[doubts] = k
        doubts += np.uint64(kind[k] >> 1)
    total, hashed = np.int64(settled), get_hash(s)
    for i in range(np.int64(doubts)):
        at = np.uint64(doubtful[i])
        if verdict(spec, s, history, count, np.int64(at) + width + 1, hashed) == FREE:
            kind[at] = 1
            total += 1
    move, at = np.uint64(0), np.uint64(0)
    for _ in range(spec.rows):
        for _ in range(spec.columns):
            mask[move] = kind[at] & 1
            move += np.uint64(1)
            at += np.uint64(1)
        at += np.uint64(1)
    return int(total)


AIR, FRIEND, PREY = 1, 2, 4


@inlined
def verdict(spec: Spec, s: np.ndarray, history: np.ndarray, count: int, p: int, hashed: np.uint64) -> int:
    """Why the side to move may not play on an empty cell (SUICIDE, BY_KO, BY_SUPERKO), or FREE.

    `hashed` is the hash of the position as it is.
    """
    finds = _finds(spec, s, p)
    code = FREE
    if finds == 0 and not spec.suicide:
        code = SUICIDE
    elif p == s[KO] and finds >= PREY and spec.ko != NO_KO:  # who took the ko may fill it, if he is to move again
        code = BY_KO
    elif spec.ko >= SUPERKO and (s[HEADER + 4 * spec.cells + p] == 1 or finds == 0):
        after = _hash_after(spec, s, p, finds, hashed)
        if remembers(s, after) and earlier(history, count, after) >= 0:
            code = BY_SUPERKO
    return code


@inlined
def _finds(spec: Spec, s: np.ndarray, p: int) -> int:
    """What keeps a stone on the empty cell p alive: AIR, a FRIEND with another liberty, PREY without; or 0.

    PREY is one bit for each neighbour, in the order of `neighbours`. Numbers are compared and not branched on, for no
    processor can foresee what lies where.
    """
    n, me = spec.cells, s[TO_MOVE] + 1
    q, width, one = np.uint64(HEADER + p), np.uint64(spec.columns + 1), np.uint64(1)
    h, libs = q + np.uint64(2 * n), np.uint64(HEADER + 3 * n)
    a, b, c, d = s[q - width], s[q - one], s[q + one], s[q + width]
    i, j, k, m = s[h - width], s[h - one], s[h + one], s[h + width]
    ij, ik, im, jk, jm, km = i == j, i == k, i == m, j == k, j == m, k == m
    only_i = s[libs + np.uint64(i)] == 1 + ij + ik + im  # all its pseudo-liberties are contacts with p
    only_j = s[libs + np.uint64(j)] == 1 + ij + jk + jm
    only_k = s[libs + np.uint64(k)] == 1 + ik + jk + km
    only_m = s[libs + np.uint64(m)] == 1 + im + jm + km
    air = (a == 0) | (b == 0) | (c == 0) | (d == 0)
    friend = (a == me) & ~only_i | (b == me) & ~only_j | (c == me) & ~only_k | (d == me) & ~only_m
    him = 3 - me
    return (air * AIR + friend * FRIEND + ((a == him) & only_i) * PREY + ((b == him) & only_j) * 2 * PREY
            + ((c == him) & only_k) * 4 * PREY + ((d == him) & only_m) * 8 * PREY)  # fmt: skip


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
    return earlier(history, count, _hash_after(spec, s, p, _finds(spec, s, p), get_hash(s)))


@jit
def earlier(history: np.ndarray, count: int, key: np.uint64) -> int:
    """The number of the last position with a key, or -1: first without a way out of the loop, for vectors' sake."""
    found = False
    for i in range(count):
        found |= history[i] == key
    if not found:
        return -1
    for i in range(count - 1, -1, -1):
        if history[i] == key:
            return i
    return -1


@inlined
def _hash_after(spec: Spec, s: np.ndarray, p: int, finds: int, hashed: np.uint64) -> np.uint64:
    """What a history would remember of the position after a stone on cell p, without playing it."""
    n, me = spec.cells, s[TO_MOVE] + 1
    stone, ring, head = np.uint64(HEADER), np.uint64(HEADER + n), np.uint64(HEADER + 2 * n)
    after = hashed ^ zobrist(me, p) if finds else hashed
    if finds == 0 or finds >= PREY:  # suicide takes the player's own chains around p
        gone = 3 - me if finds else me
        a, b, c, bit = np.int16(0), np.int16(0), np.int16(0), PREY  # chains already counted
        for step in neighbours(spec):
            q = np.uint64(p + step)
            h = s[head + q]
            if (finds == 0 or finds & bit) and s[stone + q] == gone and h != a and h != b and h != c:
                a, b, c, r = h, a, b, q
                while True:
                    after ^= zobrist(gone, r)
                    r = np.uint64(s[ring + r])
                    if r == q:
                        break
            bit *= 2
    if spec.ko == SITUATIONAL and me == 1:
        after ^= zobrist(0, 0)
    return after


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
