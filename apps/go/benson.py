"""Benson's pass-alive stones: what cannot be captured though its owner passes for ever (Benson 1976).

A chain lives if it has two vital regions: regions are what the other colour and the empty points make up between
stones of this one, and a region is vital to a chain if each of its empty points is a liberty of the chain. Chains
without two, and regions that such chains help to enclose, are struck off until nothing changes.

Where suicide is legal, this departs from the paper: the other side could empty a region by killing his own stones
there, so all points of a vital region, not only its empty ones, must touch the chain.
"""

from __future__ import annotations

import numpy as np

from apps.go.jit import jit
from apps.go.state import BORDER, HEADER, Spec, cell, neighbours, point


@jit
def pass_alive(spec: Spec, s: np.ndarray, owner: np.ndarray) -> None:
    """Fills `owner` (points,) with +1 and -1 for first and second player's pass-alive stones and their vital regions.

    The other side's stones in such a region are dead and counted for its owner; all else is 0.
    """
    owner[:] = 0
    for colour in (1, 2):
        _mark(spec, s, colour, owner)


@jit
def _mark(spec: Spec, s: np.ndarray, colour: int, owner: np.ndarray) -> None:
    """Marks one colour's points."""
    n = spec.cells
    head = s[HEADER + 2 * n : HEADER + 3 * n]
    region, regions = _regions(spec, s, colour)
    alive = np.zeros(n, np.bool_)  # by a chain's head
    for p in range(n):
        alive[p] = s[HEADER + p] == colour and head[p] == p
    safe = np.ones(regions + 1, np.bool_)  # enclosed by living chains only
    touches = np.empty(regions + 1, np.bool_)
    changed = True
    while changed:
        changed = False
        for chain in range(n):
            if alive[chain] and _vital(spec, s, chain, region, safe, touches) < 2:
                alive[chain] = False
                changed = True
                r = chain
                while True:
                    for step in neighbours(spec):
                        safe[region[r + step]] = False  # region 0 is none
                    r = s[HEADER + n + r]
                    if r == chain:
                        break
    vital = np.zeros(regions + 1, np.bool_)
    for chain in range(n):
        if alive[chain]:
            _vital(spec, s, chain, region, safe, touches)
            vital |= touches
    for p in range(n):
        if (s[HEADER + p] == colour and alive[head[p]]) or (region[p] > 0 and vital[region[p]]):
            owner[point(spec, p)] = 1 if colour == 1 else -1


@jit
def _regions(spec: Spec, s: np.ndarray, colour: int) -> tuple[np.ndarray, int]:
    """Numbers the connected regions without a colour's stones from 1: a number for each cell, 0 none, and the count."""
    region = np.zeros(spec.cells, np.int16)
    stack = np.empty(spec.rows * spec.columns, np.int16)
    count = 0
    for move in range(spec.rows * spec.columns):
        p = cell(spec, move)
        if s[HEADER + p] == colour or region[p] > 0:
            continue
        count += 1
        region[p] = count
        stack[0], top = p, 1
        while top:
            top -= 1
            q = stack[top]
            for step in neighbours(spec):
                r = q + step
                if region[r] == 0 and s[HEADER + r] != colour and s[HEADER + r] != BORDER:
                    region[r] = count
                    stack[top] = r
                    top += 1
    return region, count


@jit
def _vital(spec: Spec, s: np.ndarray, chain: int, region: np.ndarray, safe: np.ndarray, vital: np.ndarray) -> int:
    """Fills and counts the safe regions that are vital to the chain of a head."""
    n = spec.cells
    vital[:] = False
    r = chain
    while True:
        for step in neighbours(spec):
            vital[region[r + step]] = True
        r = s[HEADER + n + r]
        if r == chain:
            break
    vital &= safe
    vital[0] = False
    for p in range(n):
        if vital[region[p]] and (s[HEADER + p] == 0 or spec.suicide):
            touched = False
            for step in neighbours(spec):
                q = p + step
                touched |= s[HEADER + 2 * n + q] == chain and s[HEADER + q] != BORDER
            if not touched:
                vital[region[p]] = False
    return vital.sum()
