"""The rules of Go on flat arrays: chains as linked rings, pseudo-liberties, every superko in a few instructions.

A chain's liberties are counted with their contacts (pseudo-liberties), so that no list of them is needed, and the empty
points are a set of bits, so that those without any doubt are settled a few rows at a time: a quarter of a microsecond
for a move with all legal moves before it.

A position repeats an earlier one only if a stone of a colour is played where one of that colour was once taken, or by
suicide. And while a stone stands that was the first of its colour on its point (it is `FRESH`, the latest of its kind),
no position from before it can come back: so only points count where stones were taken since. All other moves are free
of superko and not looked up.
"""

from __future__ import annotations

import numpy as np

from apps.go.bits import (
    SINCE,
    TAKEN,
    VACANT,
    air,
    begin_anew,
    breathe,
    contact,
    contacts,
    has,
    only,
    put,
    recall,
    set_air,
    spread,
    take_out,
    window,
)
from apps.go.jit import inlined, lean, lowest, ones, set_word
from apps.go.state import (
    BY_KO,
    BY_SUPERKO,
    FREE,
    FRESH,
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
    set_hash,
    zobrist,
)

# Blocks of a state, each `spec.cells` long: the stone on a cell, the ring of its chain, its chain's head. The head of
# an empty cell is 0, which is border. Behind them lies what bits.py knows of.


@lean
def new(spec: Spec, s: np.ndarray) -> None:
    """Makes all points vacant."""
    for move in range(spec.rows * spec.columns):
        put(spec, s, VACANT, cell(spec, move))


@inlined
def play(spec: Spec, s: np.ndarray, move: int) -> None:
    """Plays a stone, or passes; whose turn it is next is the caller's to set."""
    if move == spec.actions - 1:
        s[PASSES] += 1
        s[KO] = 0
        s[OVER] = s[PASSES] >= 2
        return
    me, him, p = s[TO_MOVE] + 1, 2 - s[TO_MOVE], cell(spec, move)
    up, left, right, down = neighbours(spec)
    stone, head = HEADER + p, HEADER + 2 * spec.cells + p
    a, b, c, d = s[stone + up], s[stone + left], s[stone + right], s[stone + down]
    i, j, k, m = s[head + up], s[head + left], s[head + right], s[head + down]
    for h in (i, j, k, m):  # what 0 has, the border and the empty cells, is never asked for
        breathe(spec, s, h, np.uint64(0) - contact(p))
    s[stone], s[stone + spec.cells], s[head] = me, p, p
    set_air(spec, s, p, np.uint64(a == 0) * contact(p + up) + np.uint64(b == 0) * contact(p + left)
             + np.uint64(c == 0) * contact(p + right) + np.uint64(d == 0) * contact(p + down))  # fmt: skip
    take_out(spec, s, VACANT, p)
    if not has(spec, s, TAKEN + me - 1, p):
        s[FRESH] = p
        begin_anew(spec, s)
    hashed, none, taken, last = get_hash(s) ^ zobrist(me, p), np.uint64(0), 0, 0
    merged = (a == me) | (b == me) | (c == me) | (d == me)
    if merged:
        for step in neighbours(spec):
            if s[stone + step] == me:
                _merge(spec, s, p, p + step)
    if ((a == him) & (air(spec, s, i) == none) | (b == him) & (air(spec, s, j) == none)
            | (c == him) & (air(spec, s, k) == none) | (d == him) & (air(spec, s, m) == none)):  # fmt: skip
        for step in neighbours(spec):
            if s[stone + step] == him and air(spec, s, s[head + step]) == none:
                last = p + step
                count, hashed = _remove(spec, s, last, hashed)
                taken += count
    s[PRISONERS + me - 1] += taken
    s[KO] = 0
    if air(spec, s, s[head]) == none:
        count, hashed = _remove(spec, s, p, hashed)
        s[PRISONERS + 2 - me] += count
    elif taken == 1 and not merged and contacts(air(spec, s, p)) == 1:
        s[KO] = last
    set_hash(s, hashed)
    s[PASSES] = 0


@inlined
def _merge(spec: Spec, s: np.ndarray, p: int, q: int) -> None:
    """Makes the chains at p and q one, if they are two: the ring of p, short at first, joins the other."""
    ring, head = HEADER + spec.cells, HEADER + 2 * spec.cells
    mine, theirs = s[head + p], s[head + q]
    if mine != theirs:
        r = p
        while True:
            s[head + r] = theirs
            r = s[ring + r]
            if r == p:
                break
        breathe(spec, s, theirs, air(spec, s, mine))
        s[ring + p], s[ring + q] = s[ring + q], s[ring + p]


@lean
def _remove(spec: Spec, s: np.ndarray, p: int, hashed: np.uint64) -> tuple[int, np.uint64]:
    """Takes the chain at p from the board; returns its number of stones and the position's new hash."""
    stone, ring, head = HEADER, HEADER + spec.cells, HEADER + 2 * spec.cells
    colour, count, r = s[stone + p], 0, p
    while True:
        hashed ^= zobrist(colour, r)
        s[stone + r], s[head + r] = 0, 0
        put(spec, s, VACANT, r)
        put(spec, s, TAKEN + colour - 1, r)
        put(spec, s, SINCE + colour - 1, r)
        if r == s[FRESH]:
            s[FRESH] = 0
            recall(spec, s)
        count += 1
        for step in neighbours(spec):
            breathe(spec, s, s[head + r + step], contact(r))
        r = s[ring + r]
        if r == p:
            return count, hashed


BURDEN, AIR, FRIEND, PREY = 1, 2, 4, 8


@inlined
def legal(spec: Spec, s: np.ndarray, history: np.ndarray, count: int, mask: np.ndarray) -> int:
    """Fills the mask of all points; returns how many a stone may be played on.

    As many rows as fit into a word are looked at together, and nearly all points settled by that: there is an empty
    neighbour and no past. Those in doubt are looked at one by one.
    """
    width, one, total, row, move = spec.columns + 1, np.uint64(1), np.uint64(0), 0, np.uint64(0)
    watched, lone = _watched(spec, s), spec.suicide and spec.ko != SUPERKO  # else a lone stone changes nothing
    while row < spec.rows:
        rows = min(spec.band, spec.rows - row)
        start = (row + 1) * width + 1
        free = window(spec, s, VACANT, start) & (~np.uint64(0) >> np.uint64(64 - rows * width))
        near = window(spec, s, VACANT, start - 1) | window(spec, s, VACANT, start + 1)
        near |= window(spec, s, VACANT, start - width) | window(spec, s, VACANT, start + width)
        past = window(spec, s, watched, start) if spec.ko >= SUPERKO else np.uint64(0)
        sure = free & near & ~past
        doubtful = free & ~sure
        while doubtful:
            at = lowest(doubtful)
            doubtful &= doubtful - one
            p = start + np.int64(at)
            finds = _finds(spec, s, p)
            fine = finds >= AIR
            if (past >> at) & one or finds == BURDEN or p == s[KO] or (finds == 0 and lone):  # few of them
                fine = verdict(spec, s, history, count, p) == FREE
            sure |= np.uint64(fine) << at
        total += ones(sure)
        for _ in range(rows):
            for _ in range(spec.columns // 8):
                set_word(mask, move, spread(sure))
                sure >>= np.uint64(8)
                move += np.uint64(8)
            for _ in range(spec.columns % 8):
                mask[move] = np.int8(sure & one)
                sure >>= one
                move += one
            sure >>= one
        row += rows
    return int(total)


@inlined
def _watched(spec: Spec, s: np.ndarray) -> int:
    """The set of points where a stone of the side to move may bring a position back.

    FRESH must outlive the move for that to be SINCE. It may not if it is the other's and has one liberty: where that is
    not plain, it is assumed.
    """
    n, me, fresh = spec.cells, s[TO_MOVE] + 1, s[FRESH]
    alone = s[HEADER + n + fresh] == fresh
    weak = s[HEADER + fresh] == 3 - me and contacts(air(spec, s, s[HEADER + 2 * n + fresh])) <= (1 if alone else 4)
    return (TAKEN if weak else SINCE) + me - 1


@inlined
def verdict(spec: Spec, s: np.ndarray, history: np.ndarray, count: int, p: int) -> int:
    """Why the side to move may not play on an empty cell (SUICIDE, BY_KO, BY_SUPERKO), or FREE."""
    finds = _finds(spec, s, p)
    code = FREE
    if finds < AIR and not spec.suicide:
        code = SUICIDE
    elif p == s[KO] and finds >= PREY and spec.ko != NO_KO:  # who took the ko may fill it, if he is to move again
        code = BY_KO
    elif spec.ko >= SUPERKO and (finds < AIR or has(spec, s, _watched(spec, s), p)):
        code = BY_SUPERKO if earlier(history, count, _hash_after(spec, s, p, finds, get_hash(s))) >= 0 else FREE
    return code


@inlined
def _finds(spec: Spec, s: np.ndarray, p: int) -> int:
    """What keeps a stone on the empty cell p alive: AIR, a FRIEND with another liberty, PREY without.

    PREY is one bit for each neighbour, in the order of `neighbours`. If there is none of these, BURDEN says that the
    stone takes friends with it when it dies. Numbers are compared and not branched on, for no processor can foresee
    what lies where.
    """
    me, him, q = s[TO_MOVE] + 1, 2 - s[TO_MOVE], np.uint64(HEADER + p)
    width, one, h = np.uint64(spec.columns + 1), np.uint64(1), q + np.uint64(2 * spec.cells)
    a, b, c, d = s[q - width], s[q - one], s[q + one], s[q + width]
    only_i, only_j = only(air(spec, s, s[h - width]), p), only(air(spec, s, s[h - one]), p)
    only_k, only_m = only(air(spec, s, s[h + one]), p), only(air(spec, s, s[h + width]), p)
    free = (a == 0) | (b == 0) | (c == 0) | (d == 0)
    friend = (a == me) & ~only_i | (b == me) & ~only_j | (c == me) & ~only_k | (d == me) & ~only_m
    burden = ((a == me) | (b == me) | (c == me) | (d == me)) & ~friend & ~free
    return (burden * BURDEN + free * AIR + friend * FRIEND
            + ((a == him) & only_i) * PREY + ((b == him) & only_j) * 2 * PREY
            + ((c == him) & only_k) * 4 * PREY + ((d == him) & only_m) * 8 * PREY)  # fmt: skip


@inlined
def only_liberty(spec: Spec, s: np.ndarray, p: int, q: int) -> bool:
    """Whether the empty cell p is the only liberty of the chain at its neighbour q."""
    return only(air(spec, s, s[HEADER + 2 * spec.cells + q]), p)


@lean
def brings_back(spec: Spec, s: np.ndarray, history: np.ndarray, count: int, p: int) -> int:
    """The number of the earlier position that a stone on the empty cell p would bring back, or -1."""
    return earlier(history, count, _hash_after(spec, s, p, _finds(spec, s, p), get_hash(s)))


@inlined
def earlier(history: np.ndarray, count: int, key: np.uint64) -> int:
    """The number of the last position with a key, or -1: first without a way out of the loop, for vectors' sake."""
    if count and history[count - 1] == key:
        return count - 1
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
    after = hashed ^ zobrist(me, p) if finds >= AIR else hashed
    if finds < AIR or finds >= PREY:  # suicide takes the player's own chains around p
        gone = 3 - me if finds >= AIR else me
        a, b, c, bit = np.int16(0), np.int16(0), np.int16(0), PREY  # chains already counted
        for step in neighbours(spec):
            q = np.uint64(p + step)
            h = s[head + q]
            if (finds < AIR or finds & bit) and s[stone + q] == gone and h != a and h != b and h != c:
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
