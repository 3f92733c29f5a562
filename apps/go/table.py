"""A visitor's game: whose turn it is, what has been thought of its positions, and the address that says all of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from apps.go import sgf, vertex
from apps.go.game import BLACK, WHITE, Game
from apps.go.thinking import LOOK, STRENGTHS, Thought, ask, drop
from core.desk import Ticket

SIZES = (5, 7, 9, 13, 19)
SIDES = {"black": BLACK, "white": WHITE, "both": 0}
"""What a visitor plays, as the address says it; "both" sides, to try something out."""
NAMES = {BLACK: "Black", WHITE: "White"}
MOST_MOVES = 800
"""Moves that an address can hold."""
HANDICAPS = {5: (0,), 7: (0, 2, 3, 4)}
"""Stones by size; (0, 2..9) on the larger boards."""


@dataclass
class Table:
    """A game between a visitor and the player. Its methods never raise for what a visitor does: `notice` says it."""

    game: Game = field(default_factory=lambda: Game("go", 9))
    side: int = BLACK
    """The visitor's: +1, -1, or 0 for both."""
    visits: int = LOOK
    thoughts: dict[int, Thought] = field(default_factory=dict)
    """By the number of moves before; those of an engine's turn have its own number of visits."""
    resigned: int = 0
    """Who has resigned: +1, -1, or nobody yet."""
    flipped: set[str] = field(default_factory=set)
    """Stones whose life or death the visitor sees differently, after the end."""
    notice: str = ""
    """Why what the visitor just wanted was not done."""
    serial: int = 0
    """Grows with each change: a click belongs to one position."""
    ticket: Ticket | None = None
    asked: int = -1
    """The number of moves before the position that the ticket is about."""

    # What is the case

    @property
    def finished(self) -> bool:
        return self.game.over or self.resigned != 0

    @property
    def mine(self) -> bool:
        """True if the visitor is to move."""
        return not self.finished and self.side in (0, self.game.to_move)

    @property
    def thought(self) -> Thought | None:
        """Of the position on the board."""
        return self.thoughts.get(len(self.game.moves))

    @property
    def dead(self) -> list[str]:
        """The dead stones, once the game has ended by passes."""
        if not self.game.over or self.resigned or self.thought is None or self.thought.analysis.ownership is None:
            return []
        return sorted(set(self.game.dead(self.thought.analysis.ownership)) ^ self.flipped)

    @property
    def result(self) -> str:
        """As SGF writes it, or nothing while the game goes on."""
        if self.resigned:
            return "W+R" if self.resigned == BLACK else "B+R"
        return self.game.result(self.dead) if self.game.over else ""

    @property
    def status(self) -> str:
        """Whose turn it is, or how the game ended."""
        if self.finished:
            winner, _, how = self.result.partition("+")
            name = "Black" if winner == "B" else "White"
            if not self.resigned and self.thought is None:
                return "Counting …"
            return f"{name} wins" + (", the other resigned" if how == "R" else f" by {how} points") if how else "A draw"
        name = NAMES[self.game.to_move]
        return f"{name} to play" if not self.side else f"Your turn, {name}" if self.mine else f"{name} is thinking …"

    @property
    def spoken(self) -> str:
        """What a screen reader says when the position has changed."""
        last = self.game.moves[-1:]
        return " ".join([f"{NAMES[move.colour]} {move.vertex}." for move in last] + [self.status])

    def record(self, model: str) -> bytes:
        """The game as an SGF file that says who plays, the model by its name, and how it ended."""
        engine = f"Wunderkammer {model}, {self.visits} visits"
        game = self.game.copy()
        for name, side in (("PB", BLACK), ("PW", WHITE)):
            game.info[name] = "Visitor" if self.side in (0, side) else engine
        if self.finished:
            game.info["RE"] = self.result
        return game.to_sgf().encode()

    # What the visitor does

    def click(self, point: int, serial: int) -> None:
        """Plays on a point of the position with that serial, or marks a chain dead or alive after the end."""
        if serial != self.serial or not 0 <= point < self.game.spec.rows * self.game.spec.columns:
            return
        name = vertex.name(self.game.spec, point)
        if self.game.over and not self.resigned:
            if self.thought is not None:
                self._changed()
                self.flipped ^= set(chain(self.game, point))
            return
        self.play(name)

    def play(self, name: str) -> None:
        """Plays a move, "pass" too, if it is the visitor's turn.

        An illegal one leaves the serial as it is: the next click may be on its way before the notice has been seen.
        """
        if self.mine and (why := self.game.illegal_reason(name)):
            self.notice = f"{name}: {why}."
            return
        self._changed()
        if self.mine:
            self.game.play(name)
        elif not self.finished:
            self.notice = "It is not your turn yet."

    def undo(self) -> None:
        """Takes the visitor's last move back, and the reply to it."""
        self._changed()
        if self.resigned:
            self.resigned = 0
            return
        first = len(self.game.moves)
        while self.game.moves:
            mover = self.game.moves[-1].colour
            self.game.undo()
            if self.side in (0, mover):
                break
        else:
            if first:
                self.notice = "You have played no move yet."
        for ply in [ply for ply in self.thoughts if ply > len(self.game.moves)]:
            del self.thoughts[ply]

    def resign(self) -> None:
        """Gives up: the side to move where the visitor plays both."""
        self._changed()
        if not self.finished:
            self.resigned = self.side or self.game.to_move

    def _changed(self) -> None:
        self.serial += 1
        self.notice = ""
        self.flipped = set() if not self.game.over else self.flipped
        self.leave()

    def leave(self) -> None:
        """Wants no more of what is being thought."""
        drop(self.ticket)
        self.ticket, self.asked = None, -1

    # What the player does

    def go_on(self) -> None:
        """Takes what has been thought, plays the reply if one is due, and has the next position thought about."""
        if self.ticket is not None and self.ticket.state not in ("waiting", "running"):
            ticket, ply = self.ticket, self.asked
            self.ticket, self.asked = None, -1
            if ticket.state != "done":
                self.notice = f"The player could not think: {ticket.error or 'it was interrupted'}"
                return
            self.thoughts[ply] = ticket.result()
        now = len(self.game.moves)
        if self.resigned:
            return
        if not self.mine and not self.game.over and now in self.thoughts and self.thoughts[now].visits == self.visits:
            self.game.play(self.thoughts[now].analysis.move)
            self.serial += 1
            now += 1
        known = self.thoughts.get(now)
        enough = known is not None and (self.mine or self.game.over or known.visits == self.visits)
        if self.ticket is None and not enough:
            try:
                self.ticket = ask(self.game, LOOK if self.mine or self.game.over else self.visits)
                self.asked = now
            except ValueError as error:
                self.notice = str(error)

    # Where it can be found again

    def address(self) -> dict[str, str]:
        """The game as the page's address says it."""
        said = {"size": str(self.game.spec.rows), "visits": str(self.visits), "komi": f"{self.game.komi:g}",
                "colour": next(name for name, side in SIDES.items() if side == self.side),
                "moves": packed(self.game)}
        if self.game.handicap:
            said["handicap"] = str(self.game.handicap)
        if self.resigned:
            said["resigned"] = NAMES[self.resigned].lower()
        return said

    @classmethod
    def at(cls, address: Mapping[str, str]) -> Table:
        """The game that an address says; what it says wrongly is left out, and the notice tells so."""

        def number(name: str, allowed: tuple[int, ...], usual: int) -> int:
            text = address.get(name, "")
            return int(text) if text.isdecimal() and len(text) < 4 and int(text) in allowed else usual

        size = number("size", SIZES, 9)
        handicap = number("handicap", handicaps(size), 0)
        try:
            table = cls(Game("go", size, float(address.get("komi", usual_komi(handicap))), handicap=handicap))
        except ValueError:
            table = cls(Game("go", size, usual_komi(handicap), handicap=handicap))
        table.side = SIDES.get(address.get("colour", ""), BLACK)
        table.visits = number("visits", STRENGTHS, LOOK)
        try:
            unpack(table.game, address.get("moves", ""))
        except ValueError as error:
            table.notice = f"The address holds a move that is left out, with those after it: {error}"
        table.resigned = {"black": BLACK, "white": WHITE}.get(address.get("resigned", ""), 0)
        return table


def handicaps(size: int) -> tuple[int, ...]:
    """The handicaps that there are points for."""
    return HANDICAPS.get(size, (0, *range(2, 10)))


def usual_komi(handicap: int) -> float:
    """Points for White: next to none where Black has stones already."""
    return 0.5 if handicap else 7.0


def packed(game: Game) -> str:
    """The moves as two letters each, as SGF writes points, "tt" for a pass; nothing for a game that is not so simple:
    where one side played twice, stones were put down by hand, or there are too many moves."""
    first = WHITE if game.handicap else BLACK
    alternate = all(move.colour == (first if i % 2 == 0 else -first) for i, move in enumerate(game.moves))
    if not alternate or any(game.setups) or len(game.moves) > MOST_MOVES:
        return ""
    numbers = [vertex.parse(game.spec, move.vertex) for move in game.moves]
    points = [divmod(number, game.spec.columns) for number in numbers]
    return "".join("tt" if row == game.spec.rows else sgf.from_point(row, column) for row, column in points)


def unpack(game: Game, text: str) -> None:
    """Plays moves that `packed` wrote.

    Raises:
        ValueError: at the first that is none or is illegal; those before it have been played.
    """
    if not re.fullmatch(f"([a-t]{{2}}){{0,{MOST_MOVES}}}", text):
        raise ValueError("two letters a move are wanted, a to s, and tt for a pass")
    for i in range(0, len(text), 2):
        point = sgf.to_point(text[i : i + 2], game.spec.rows, game.spec.columns)
        size = game.spec.rows * game.spec.columns
        game.play(vertex.name(game.spec, size if point is None else point[0] * game.spec.columns + point[1]))


def chain(game: Game, point: int) -> list[str]:
    """The vertices of the stones that hang together with the one on a point."""
    board, columns = game.board, game.spec.columns
    colour, found, pending = board.flat[point], set(), [divmod(point, columns)]
    while pending and colour:
        row, column = pending.pop()
        inside = 0 <= row < game.spec.rows and 0 <= column < columns
        if inside and (row, column) not in found and board[row, column] == colour:
            found.add((row, column))
            pending += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    return [vertex.name(game.spec, row * columns + column) for row, column in found]
