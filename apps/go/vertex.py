"""Moves as people and programs write them: "D5", "pass"; in Connect Four the column, "4"."""

from __future__ import annotations

from apps.go.state import CONNECT4, GO, OTHELLO, Spec

LETTERS = "ABCDEFGHJKLMNOPQRST"
"""Of the columns, from the left: GTP leaves I out, which looks like J and 1. Rows are counted from below."""
PASS = "pass"


def name(spec: Spec, move: int) -> str:
    """The vertex of a move 0..actions-1."""
    if spec.game == CONNECT4:
        return str(move + 1)
    row, column = divmod(move, spec.columns)
    return PASS if row == spec.rows else f"{LETTERS[column]}{spec.rows - row}"


def parse(spec: Spec, text: str) -> int:
    """The move 0..actions-1 that a vertex names, in upper or lower case.

    Raises:
        ValueError: in one sentence, if there is no such point on this board.
    """
    word = str(text).strip().upper()
    if spec.game == CONNECT4:
        if word.isdecimal() and len(word) < 3 and 1 <= int(word) <= spec.columns:
            return int(word) - 1
        raise ValueError(f"{_shown(text)} is not a column; they are 1 to {spec.columns}")
    if word == PASS.upper():
        if spec.game in (GO, OTHELLO):
            return spec.rows * spec.columns
        raise ValueError("nobody passes in this game")
    last = f"{LETTERS[spec.columns - 1]}{spec.rows}"
    column, row = LETTERS.find(word[:1]), word[1:]
    if not (word and word.isascii() and row.isdecimal() and len(row) <= 3):
        raise ValueError(f"{_shown(text)} is not a vertex; a letter and a number such as {last} are wanted")
    if word[0] == "I":
        raise ValueError(f"{_shown(text)} is not a vertex: the letter I is left out, J follows H")
    if not (0 <= column < spec.columns and 1 <= int(row) <= spec.rows):
        raise ValueError(f"{_shown(text)} is not on this board, which goes from A1 to {last}")
    return (spec.rows - int(row)) * spec.columns + column


def _shown(text: str) -> str:
    """At most twenty printable characters of what was given."""
    return repr(str(text)[:20])
