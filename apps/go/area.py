"""Who owns which point when the game is over."""

from __future__ import annotations

import numpy as np

from apps.go.jit import jit
from apps.go.state import BORDER, HEADER, Spec, cell, neighbours, point


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
