"""Where the stones of a handicap go: GTP's fixed points, and as many more as are asked for."""

from __future__ import annotations

import numpy as np

from apps.go import vertex
from apps.go.state import GO, Spec


def fixed_handicap(spec: Spec, number: int) -> list[str]:
    """GTP's fixed points for 2 to 9 handicap stones (4 at most on a board with an even edge or one of 7).

    Raises:
        ValueError: if the board has not so many.
    """
    if number == 0:
        return []
    most = most_handicap(spec)
    if not 2 <= number <= most:
        raise ValueError(f"a handicap of {number} was asked for; this board has fixed points for 0 or 2 to {most}"
                         if most else "this board has no fixed points for a handicap; name the vertices")
    rows, columns = (_handicap_lines(edge) for edge in (spec.rows, spec.columns))
    order = [(2, 0), (0, 2), (0, 0), (2, 2), (1, 0), (1, 2), (2, 1), (0, 1)]
    chosen = order[: number - number % 2 if number > 4 else number] + ([(1, 1)] if number in (5, 7, 9) else [])
    return [vertex.name(spec, rows[r] * spec.columns + columns[c]) for r, c in chosen]


def free_handicap(spec: Spec, number: int) -> list[str]:
    """Points for so many handicap stones, or one fewer than the board has: the fixed ones, if there are as many.

    If not, stones are added to these one by one, each where the nearest stone is farthest, the border counting as
    stones at twice its distance; of equal points the first is taken.
    """
    points, most = spec.rows * spec.columns, most_handicap(spec)
    number = min(number, points - 1)
    if 2 <= number <= most:
        return fixed_handicap(spec, number)
    row, column = np.divmod(np.arange(points), spec.columns)
    edge = np.minimum.reduce([row, column, spec.rows - 1 - row, spec.columns - 1 - column]) + 1
    room, stones = (2 * edge) ** 2, [vertex.parse(spec, name) for name in fixed_handicap(spec, most)]
    for i in range(number):
        if i == len(stones):
            stones.append(int(room.argmax()))
        room = np.minimum(room, (row - row[stones[i]]) ** 2 + (column - column[stones[i]]) ** 2)
    return [vertex.name(spec, stone) for stone in stones]


def _handicap_lines(edge: int) -> tuple[int, int, int]:
    """The third line, from 13 points on the fourth, then the middle, then the same from the other edge."""
    line = 3 if edge < 13 else 4
    return line - 1, edge // 2, edge - line


def most_handicap(spec: Spec) -> int:
    """How many fixed points for handicap stones the board has."""
    edges = (spec.rows, spec.columns)
    if spec.game != GO or min(edges) < 7:
        return 0
    return 4 if min(edges) == 7 or any(edge % 2 == 0 for edge in edges) else 9
