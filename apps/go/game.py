"""A game as people and programs play it: vertices in, sentences out; one row of integers underneath.

Everything is undone by going back to the state before, so that there is no second set of rules for it.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from apps.go import goban, rules, sgf, vertex
from apps.go.handicap import fixed_handicap
from apps.go.ruleset import SPELT, TERRITORY, read_rules
from apps.go.state import (
    BY_KO,
    BY_SUPERKO,
    COLUMN_FULL,
    CONNECT4,
    FLIPS_NOTHING,
    FREE,
    GO,
    GOMOKU,
    HEADER,
    MUST_PLACE,
    NAMES,
    OCCUPIED,
    OTHELLO,
    OVER,
    PASSES,
    PLIES,
    PRISONERS,
    SUICIDE,
    TO_MOVE,
    Spec,
    cell,
    spec,
)

BLACK, WHITE = 1, -1
"""The first and the second player, as on `Game.board` (in Connect Four, Othello and Gomoku too)."""
ROOM = 1024
"""Free places that a history keeps, so that a search can go on in it."""
LONGEST = 5000
"""Moves of a game that is read from a file."""

_REASONS = {OCCUPIED: "occupied", BY_KO: "ko: it would retake at once; play elsewhere first",
            COLUMN_FULL: "occupied: the column is full", MUST_PLACE: "no pass: there are moves to play",
            FLIPS_NOTHING: "no capture: the stone would turn none of the other side's"}
_GM = {GO: "1", OTHELLO: "2", GOMOKU: "4"}
_ABOUT = ("AN", "BR", "BT", "C", "CP", "DT", "EV", "GC", "GN", "ON", "OT", "PB", "PC", "PW", "RE", "RO", "SO", "TM",
          "US", "WR", "WT")


class Move(NamedTuple):
    """One move: +1 or -1, and where."""

    colour: int
    vertex: str


@dataclass(frozen=True)
class Setup:
    """Stones put on the board by hand (0: taken off), and who moves next."""

    stones: Mapping[str, int] = field(default_factory=dict)
    to_move: int = BLACK


class Game:
    """A game of Go, Connect Four, Othello or Gomoku that is being played.

    `spec`, `state` (length,) int16, `history` (uint64, with `ROOM` free places) and `count` are what search and net
    work on; each move makes a new `state`, so an old one may be kept.
    """

    def __init__(self, game: str = "go", size: int | tuple[int, int] | None = None, komi: float = 7.0,
                 rules: str | Mapping[str, Any] = "tromp-taylor", handicap: int | Iterable[str] = 0) -> None:
        """Starts a game.

        Args:
            size: of a Go board, 9 or (rows, columns); None for the game's usual one.
            rules: a name in `RULES`, or `dict(ko="none"|"simple"|"positional"|"situational", suicide=bool)`.
            handicap: Black's stones, on GTP's fixed points if it is a number (2 to 9); White moves first then.

        Raises:
            ValueError: in one sentence, if there is no such game, board, komi, rule or handicap.
        """
        self.rules, ko, suicide = read_rules(rules)
        self.spec: Spec = spec(game, size, komi=komi, ko=ko, suicide=suicide)
        self.info: dict[str, str] = {}
        """What an SGF file says about the game: PB, PW, RE, DT, ... as text."""
        self.handicap = 0
        self._begin()
        stones = fixed_handicap(self.spec, handicap) if isinstance(handicap, int | np.integer) else list(handicap)
        if stones:
            self.place_handicap(stones)

    def _begin(self) -> None:
        self.moves: list[Move] = []
        self.setups: dict[int, Setup] = {}
        """By the number of moves played before."""
        self._past: list[tuple[np.ndarray, np.ndarray, int]] = []
        self._restart(rules.new(self.spec))

    def _restart(self, state: np.ndarray) -> None:
        """Makes a state the first one of a history."""
        self.state = state
        self.history = np.zeros(1 + ROOM, np.uint64)
        self.history[0] = rules.key(self.spec, state)
        self.count = 1

    # What is the case

    @property
    def name(self) -> str:
        """go, connect4, othello or gomoku."""
        return NAMES[self.spec.game]

    @property
    def komi(self) -> float:
        """Points for the second player."""
        return self.spec.komi

    @komi.setter
    def komi(self, komi: float) -> None:
        size = (self.spec.rows, self.spec.columns)
        self.spec = self.spec._replace(komi=spec(self.name, size, komi=komi).komi)

    @property
    def remark(self) -> str:
        """One sentence if the rules that were asked for count otherwise than we do, else nothing."""
        if self.rules in TERRITORY:
            return f"{self.rules} rules count territory; here the area is counted, which rarely differs by over a point"
        return ""

    @property
    def to_move(self) -> int:
        """+1 the first player, -1 the second."""
        return WHITE if self.state[TO_MOVE] else BLACK

    @property
    def over(self) -> bool:
        return bool(self.state[OVER])

    @property
    def board(self) -> np.ndarray:
        """(H, W) int8: +1 the first player's stones, -1 the second's, row 0 on top."""
        stones = self._block(0)
        return np.where(stones == 2, -1, stones).astype(np.int8)

    def _block(self, number: int) -> np.ndarray:
        """A block of the state without its border: (H, W)."""
        n, columns = self.spec.cells, self.spec.columns
        start = HEADER + number * n + columns + 2
        return self.state[start : start + self.spec.rows * (columns + 1)].reshape(-1, columns + 1)[:, :columns]

    def mask(self) -> np.ndarray:
        """(actions,) int8: 1 for each legal move."""
        mask = np.zeros(self.spec.actions, np.int8)
        rules.legal(self.spec, self.state, self.history, self.count, mask)
        return mask

    def legal(self) -> list[str]:
        """The legal moves as vertices, row by row from the top left, "pass" last; columns "1".. in Connect Four."""
        return [vertex.name(self.spec, int(move)) for move in np.flatnonzero(self.mask())]

    def score(self, dead: Iterable[str] = ()) -> float:
        """The first player's margin: area minus komi in Go, all stones alive but those on the `dead` vertices."""
        if dead := list(dead):
            other = self.copy()
            other.place(dict.fromkeys(dead, 0), self.to_move)
            return other.score()
        return float(rules.margin(self.spec, self.state))

    def dead(self, ownership: np.ndarray, sure: float = 0.5) -> list[str]:
        """The stones of chains whose points belong to the other side, by at least `sure` on average.

        Args:
            ownership: (H, W), -1..1, +1 the first player's.
        """
        assert self.spec.game == GO
        heads, board = self._block(2), self.board
        found = []
        for head in np.unique(heads[board != 0]):
            chain = (heads == head) & (board != 0)
            if float((ownership * board)[chain].mean()) <= -sure:
                found += [vertex.name(self.spec, int(move)) for move in np.flatnonzero(chain)]
        return sorted(found)

    def result(self, dead: Iterable[str] = ()) -> str:
        """The score as SGF and GTP write it: "B+3.5", "W+0.5", "0"."""
        margin = self.score(dead)
        return "0" if margin == 0 else f"{'B' if margin > 0 else 'W'}+{abs(margin):g}"

    def illegal_reason(self, move: str, colour: int | str | None = None) -> str | None:
        """Why a move may not be played, in a sentence, or None if it may.

        Args:
            colour: who wants to play, where it matters that it is not the other's turn.
        """
        try:
            wanted, mover = vertex.parse(self.spec, move), self.to_move if colour is None else read_colour(colour)
        except ValueError as error:
            return str(error)
        if self.over:
            return "the game is over"
        if mover != self.to_move:
            return f"not your turn: the {'first' if self.to_move == BLACK else 'second'} player is to move"
        return self._reason(wanted)

    def _reason(self, move: int) -> str | None:
        """Why the side to move may not play a move in a game that is not over."""
        why = rules.reason(self.spec, self.state, self.history, self.count, move)
        if why == SUICIDE:
            alone = not any(self.board[p] == self.to_move for p in self._beside(*divmod(move, self.spec.columns)))
            return f"suicide: the stone{'' if alone else 's'} would have no liberty"
        if why == BY_SUPERKO:
            earlier = rules.repeats_ply(self.spec, self.state, self.history, self.count, move)
            before = earlier + len(self.moves) + 1 - self.count  # a history may begin with stones that were placed
            return f"superko: repeats the position {f'after move {before}' if before else 'at the beginning'}"
        return None if why == FREE else _REASONS[why]

    def _beside(self, row: int, column: int) -> list[tuple[int, int]]:
        around = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
        return [(r, c) for r, c in around if 0 <= r < self.spec.rows and 0 <= c < self.spec.columns]

    # What happens

    def play(self, move: str, colour: int | str | None = None) -> None:
        """Plays a move for the side to move, in Go for any side that is named.

        Raises:
            ValueError: in one sentence, if there is no such vertex or the move is illegal.
        """
        wanted = vertex.parse(self.spec, move)
        mover = self.to_move if colour is None else read_colour(colour)
        if self.over:
            raise ValueError(f"{move} cannot be played: the game is over")
        if mover != self.to_move:
            if self.spec.game != GO:
                raise ValueError(f"{move} cannot be played: {self.illegal_reason(move, mover)}")
            other = self.copy()
            other.turn(mover)
            why = other._reason(wanted)
        else:
            why = self._reason(wanted)
        if why:
            raise ValueError(f"{move} cannot be played: {why}")
        self._put(wanted, mover)

    def _put(self, move: int, colour: int) -> None:
        """Plays a move on an empty point whether or not the rules allow it, as records ask for."""
        self._past.append((self.state, self.history, self.count))
        self.state = self.state.copy()
        self.turn(colour)
        if self.over:
            self.state[OVER] = self.state[PASSES] = 0
        rules.play(self.spec, self.state, move)
        if self.count + ROOM >= len(self.history):
            self.history = np.concatenate([self.history[: self.count], np.zeros(2 * ROOM, np.uint64)])
        self.history[self.count] = rules.key(self.spec, self.state)
        self.count += 1
        self.moves.append(Move(colour, vertex.name(self.spec, move)))

    def turn(self, colour: int) -> None:
        """Makes it +1's or -1's turn, where a side plays twice."""
        if colour != self.to_move:
            self.state = self.state.copy()
            self.state[TO_MOVE] = int(colour == WHITE)

    def resume(self) -> None:
        """Goes on after two passes, as a dispute over dead stones asks for."""
        if self.over and self.spec.game == GO:
            self.state = self.state.copy()
            self.state[OVER] = self.state[PASSES] = 0

    def undo(self) -> None:
        """Takes the last move back, and stones that were placed after it.

        Raises:
            ValueError: if there is no move.
        """
        if not self._past:
            raise ValueError("there is no move to take back")
        self.state, self.history, self.count = self._past.pop()
        self.moves.pop()
        self.setups = {number: setup for number, setup in self.setups.items() if number <= len(self.moves)}

    def at(self, number: int) -> Game:
        """The game as it was after its first `number` moves."""
        if not 0 <= number <= len(self.moves):
            raise ValueError(f"there is no move {number}; the game has {len(self.moves)}")
        game = self.copy()
        while len(game.moves) > number:
            game.undo()
        return game

    def copy(self) -> Game:
        """The same game, to be played on apart from this one."""
        other = copy.copy(self)
        other.state, other.history = self.state.copy(), self.history.copy()
        other.moves, other._past = self.moves.copy(), self._past.copy()
        other.setups, other.info = self.setups.copy(), self.info.copy()
        return other

    def set_rules(self, rules: str | Mapping[str, Any]) -> None:
        """Goes on under other rules of Go; moves that they would not have allowed stand.

        Raises:
            ValueError: if they are not known, or the game is another.
        """
        if self.spec.game != GO:
            raise ValueError(f"rules can be chosen in Go only, not in {self.name}")
        self.rules, ko, suicide = read_rules(rules)
        self.spec = self.spec._replace(ko=ko, suicide=suicide)
        moves, setups = self.moves, self.setups
        self._begin()  # what a history remembers of a position depends on the rule of ko
        for number in range(len(moves) + 1):
            if number in setups:
                self.place(setups[number].stones, setups[number].to_move)
            if number < len(moves):
                self._put(vertex.parse(self.spec, moves[number].vertex), moves[number].colour)

    def place(self, stones: Mapping[str, int | str], to_move: int | str | None = None) -> None:
        """Puts stones on the board (0 takes one off) without captures; history begins anew.

        Raises:
            ValueError: if a vertex is not on the board, or a chain would have no liberty. Nothing is changed then.
        """
        if self.spec.game != GO:
            raise ValueError(f"stones are placed by hand in Go only, not in {self.name}")
        board, points = self.board, self.spec.rows * self.spec.columns
        mover = self.to_move if to_move is None else read_colour(to_move)
        wanted: dict[str, int] = {}
        for text, colour in stones.items():
            move = vertex.parse(self.spec, text)
            if move == points:
                raise ValueError("a pass is no place for a stone")
            wanted[vertex.name(self.spec, move)] = board.flat[move] = 0 if colour == 0 else read_colour(colour)
        if not stones and mover == self.to_move:
            return
        state = rules.new(self.spec)
        for point in np.flatnonzero(board):
            state[TO_MOVE] = int(board.flat[point] == WHITE)
            goban.play(self.spec, state, int(point))
        for point in np.flatnonzero(board):
            if state[HEADER + cell(self.spec, int(point))] == 0:
                raise ValueError("stones cannot be placed like this: where one was captured "
                                 f"({vertex.name(self.spec, int(point))}) there would be a chain without a liberty")
        state[TO_MOVE], state[PLIES] = int(mover == WHITE), len(self.moves)
        state[PRISONERS : PRISONERS + 2] = self.state[PRISONERS : PRISONERS + 2]
        self._restart(state)
        before = self.setups.get(len(self.moves), Setup()).stones
        self.setups[len(self.moves)] = Setup({**before, **wanted}, mover)

    def place_handicap(self, stones: Iterable[str]) -> None:
        """Puts Black's handicap stones wherever they are wanted; White is to move.

        Raises:
            ValueError: if the board is not empty, or there are not two stones or more on different points.
        """
        names = [vertex.name(self.spec, vertex.parse(self.spec, text)) for text in stones]
        if self.moves or self.board.any():
            raise ValueError("handicap stones are placed on an empty board")
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"a handicap of {', '.join(names) or 'no stones'} was asked for; two or more different "
                             "points are wanted")
        self.place(dict.fromkeys(names, BLACK), WHITE)
        self.handicap = len(names)

    # Files

    def to_tree(self) -> sgf.Node:
        """The game as a tree with one line, to be written on and given to `sgf.write`.

        Raises:
            ValueError: for Connect Four, which SGF does not know.
        """
        if self.spec.game not in _GM:
            raise ValueError("SGF has no Connect Four; keep its moves as a list")
        rows, columns = self.spec.rows, self.spec.columns
        root = sgf.Node()
        root.put("FF", "4")
        root.put("GM", _GM[self.spec.game])
        root.put("CA", "UTF-8")
        root.put("AP", "Wunderkammer")
        root.put("SZ", str(rows) if rows == columns else f"{columns}:{rows}")
        if self.spec.game == GO:
            root.put("KM", f"{self.komi:g}")
            root.put("RU", SPELT.get(self.rules, self.rules))
        if self.handicap:
            root.put("HA", str(self.handicap))
        for name, text in self.info.items():
            root.put(name, text)
        if "RE" not in self.info and self.over:
            root.put("RE", self.result())
        node = root
        for number in range(len(self.moves) + 1):
            if number in self.setups:
                node = node.add() if number else root
                setup = self.setups[number]
                for name, colour in (("AB", BLACK), ("AW", WHITE), ("AE", 0)):
                    if points := [self._sgf(v) for v, c in setup.stones.items() if c == colour]:
                        node.properties[name] = points
                node.put("PL", "B" if setup.to_move == BLACK else "W")
            if number < len(self.moves):
                colour, where = self.moves[number]
                node = node.add({"B" if colour == BLACK else "W": [self._sgf(where)]})
        return root

    def to_sgf(self) -> str:
        """The game as an SGF file, FF[4]."""
        return sgf.write(self.to_tree())

    def _sgf(self, name: str) -> str:
        move = vertex.parse(self.spec, name)
        row, column = divmod(move, self.spec.columns)
        return "" if row == self.spec.rows else sgf.from_point(row, column)

    @classmethod
    def from_sgf(cls, text: str | bytes | sgf.Node) -> Game:
        """Plays the main line of an SGF file; variations and comments on moves are for `sgf.read`.

        A record counts, not the rules: a move that they forbid is played all the same, as FF[4] asks for, but not one
        on a stone. Rules that are not known are taken for Tromp-Taylor, a komi that is missing for 0.

        Raises:
            ValueError: in one sentence, if it cannot be read or holds what is not played here.
        """
        root = text if isinstance(text, sgf.Node) else sgf.read(text)
        kind = next((game for game, number in _GM.items() if root.text("GM", "1").strip() == number), None)
        if kind is None:
            raise ValueError(f"the SGF file holds a game of another kind (GM[{root.text('GM')[:20]}]); Go is GM[1]")
        size = sgf.board_size(root)
        line, about = root.main_line(), {name: root.text(name) for name in _ABOUT if name in root.properties}
        if len(line) > LONGEST:
            raise ValueError(f"the SGF file's main line has {len(line):,} nodes; a game of at most {LONGEST:,} is read")
        try:
            named = read_rules(root.text("RU", "tromp-taylor"))[0]
        except ValueError:
            named, about["RU"] = "tromp-taylor", root.text("RU")
        game = cls(NAMES[kind], size, _komi(root.text("KM")), named)
        game.info = about
        handicap = root.text("HA").strip()
        game.handicap = int(handicap) if re.fullmatch(r"[0-9]{1,3}", handicap) else 0
        for node in line:
            game._follow(node)
        return game

    def _follow(self, node: sgf.Node) -> None:
        """Plays what a node of a record says."""
        size = (self.spec.rows, self.spec.columns)
        stones = {vertex.name(self.spec, row * size[1] + column): colour
                  for name, colour in (("AB", BLACK), ("AW", WHITE), ("AE", 0))
                  for row, column in sgf.to_points(node.properties.get(name, []), *size)}
        turn: int | None = {"B": BLACK, "W": WHITE}.get(node.text("PL").strip().upper()[:1])
        if turn is None and self.handicap > 1 and not self.moves and set(stones.values()) == {BLACK}:
            turn = WHITE
        if stones or turn is not None:
            self.place(stones, turn)
        for name, colour in (("B", BLACK), ("W", WHITE)):
            for value in node.properties.get(name, [])[:1]:
                point = sgf.to_point(value, *size)
                move = size[0] * size[1] if point is None else point[0] * size[1] + point[1]
                if move < size[0] * size[1]:
                    where = vertex.name(self.spec, move)
                    if self.board.flat[move]:
                        raise ValueError(f"the SGF file's move {len(self.moves) + 1} is at {where}, where a stone is")
                    if self.spec.game != GO and not self.mask()[move]:
                        raise ValueError(f"the SGF file's move {len(self.moves) + 1} at {where} is illegal in "
                                         f"{self.name}")
                elif self.spec.game != GO and (self.spec.actions <= move or not self.mask()[move]):
                    continue  # a pass that is no move in this game
                self._put(move, colour)

    def __str__(self) -> str:
        """The board in letters with coordinates, X the first player's stones, O the second's, no empty line."""
        if self.spec.game == CONNECT4:
            names = " ".join(str(i + 1) for i in range(self.spec.columns))
        else:
            names = " ".join(vertex.LETTERS[: self.spec.columns])
        lines = [f"   {names}"]
        for i, row in enumerate(self.board):
            number = self.spec.rows - i
            lines.append(f"{number:2d} {' '.join('.XO'[int(stone)] for stone in row)} {number}")
        return "\n".join([*lines, lines[0]])


def read_colour(colour: int | str) -> int:
    """+1 or -1 from 1, -1, "black", "w", ...

    Raises:
        ValueError: if it is none of them.
    """
    if isinstance(colour, str):
        word = colour.strip().lower()
        found = BLACK if word in ("b", "black") else WHITE if word in ("w", "white") else 0
    else:
        found = int(colour) if colour in (BLACK, WHITE) else 0
    if not found:
        raise ValueError(f"{str(colour)[:20]!r} is not a colour; black or white is wanted")
    return found


def _komi(text: str) -> float:
    """The komi that a file says, to the nearest half point; 0 if it says none."""
    try:
        komi = float(text)
    except ValueError:
        return 0.0
    return round(2 * komi) / 2 if math.isfinite(komi) and abs(komi) <= 400 else 0.0
