"""GTP version 2 (Farnebäck 2002), with the commands for analysis of Leela Zero and KataGo.

`Engine.handle` answers one line; `serve` is the loop over stdin and stdout. Whatever comes in, an answer goes out: an
engine that dies over noise loses the game.
"""

from __future__ import annotations

import json
import math
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from apps.go import vertex
from apps.go.game import BLACK, WHITE, Game, read_colour
from apps.go.handicap import fixed_handicap, free_handicap
from apps.go.player import Analysis, Candidate, Player
from apps.go.sgf import LARGEST
from apps.go.state import GO, PASSES

LONGEST_LINE = 100_000
DEEPEST = 20_000
"""Visits at which an analysis rests until the next line comes."""
COMMANDS = (
    "protocol_version", "name", "version", "known_command", "list_commands", "quit", "boardsize", "clear_board", "komi",
    "play", "genmove", "undo", "fixed_handicap", "place_free_handicap", "set_free_handicap", "time_settings",
    "time_left", "final_score", "final_status_list", "showboard", "loadsgf", "reg_genmove", "lz-analyze",
    "kata-analyze", "kata-set-rules", "kata-get-rules",
)
"""Each is the method of `Engine` of its name, given the words that follow."""
ANALYSES = ("lz-analyze", "kata-analyze")


class Refused(ValueError):
    """An error as the specification words it."""


@dataclass
class Clock:
    """One side's time: what is left, in seconds, for so many stones; 0 stones are the whole game."""

    left: float = math.inf
    stones: int = 0
    lag: float = 0.1
    """Seconds kept back in each move, for what happens between the engine and its referee."""

    def budget(self, plies: int, points: int) -> float | None:
        """Seconds for the next move, or None without a limit."""
        if math.isinf(self.left):
            return None
        moves = self.stones or max(points // 8, (points - plies) // 2, 5)  # a side plays half of what is left
        return max(0.01, self.left / moves - self.lag)


class Engine:
    """A player behind GTP.

    Args:
        visits: of each move; time settings may end a search earlier.
        resign_below: win rate of the side to move under which it resigns; 0 never.
        resign_after: moves (of both sides) before which it does not.
    """

    def __init__(self, player: Player, *, name: str = "Wunderkammer", version: str = "0", size: int = 9,
                 komi: float = 7.0, rules: str = "tromp-taylor", visits: int = 64, seed: int = 0,
                 resign_below: float = 0.03, resign_after: int = 30) -> None:
        self.player, self.visits, self.seed = player, visits, seed
        self.name, self.version = name, version
        self.resign_below, self.resign_after = resign_below, resign_after
        self.game = Game("go", size, komi, rules)
        self.settings = (0.0, 0.0, 0)
        self.limited = False
        self.clocks = {BLACK: Clock(), WHITE: Clock()}
        self.done = False

    # The protocol

    def handle(self, line: str) -> str:
        """The whole answer to a line, its closing empty line included; nothing to a comment.

        An analysis, which goes on until the next line comes, is answered by its first report.
        """
        return "".join(self.answer(line))

    def answer(self, line: str, come: Callable[[bool], bool] = lambda wait: True) -> Iterator[str]:
        """The pieces of an answer: one, or in an analysis a report after the other.

        Args:
            come: says whether the next line has come, which ends an analysis; with True it waits for it.
        """
        number, words = _split(line)
        if not words and not number:
            return
        try:
            name, *arguments = words or [""]
            if name not in COMMANDS:
                raise Refused("unknown command")
            if name in ANALYSES:
                reports = self._reports(name, arguments)
                yield f"={number}\n{next(reports)}"  # an error comes before it
                while not come(False):
                    report = next(reports, "")
                    if report:
                        yield report
                    else:
                        come(True)
                yield "\n"
            else:
                said = getattr(self, "_" + name.replace("-", "_"))(arguments)
                yield f"={number} {said}".rstrip() + "\n\n"
        except ValueError as error:
            yield f"?{number} {' '.join(str(error).split())}\n\n"
        except Exception as error:  # whatever it is, the game goes on
            yield f"?{number} internal error: {type(error).__name__}: {' '.join(str(error).split())}\n\n"

    def _protocol_version(self, _: list[str]) -> str:
        return "2"

    def _name(self, _: list[str]) -> str:
        return self.name

    def _version(self, _: list[str]) -> str:
        return self.version

    def _known_command(self, words: list[str]) -> str:
        return "true" if words and words[0] in COMMANDS else "false"

    def _list_commands(self, _: list[str]) -> str:
        return "\n".join(COMMANDS)

    def _quit(self, _: list[str]) -> str:
        self.done = True
        return ""

    # The board

    def _boardsize(self, words: list[str]) -> str:
        size = _integer(words, 0)
        try:
            self.game = Game("go", size, self.game.komi, self.game.rules)
        except ValueError as error:
            raise Refused("unacceptable size") from error
        return ""

    def _clear_board(self, _: list[str]) -> str:
        size = (self.game.spec.rows, self.game.spec.columns)
        self.game = Game("go", size, self.game.komi, self.game.rules)
        self._start_clocks()
        return ""

    def _komi(self, words: list[str]) -> str:
        komi = _number(words, 0)
        try:
            self.game.komi = komi
        except ValueError as error:
            raise Refused("unacceptable komi") from error
        return ""

    def _play(self, words: list[str]) -> str:
        where = _word(words, 1)
        try:
            colour = read_colour(words[0])
            vertex.parse(self.game.spec, where)
        except ValueError as error:
            raise Refused("invalid color or coordinate") from error  # GNU Go's words, which is the reference
        self.game.resume()
        try:
            self.game.play(where, colour)
        except ValueError as error:
            print(error, file=sys.stderr)  # the specification leaves no room for the reason
            raise Refused("illegal move") from error
        return ""

    def _undo(self, _: list[str]) -> str:
        try:
            self.game.undo()
        except ValueError as error:
            raise Refused("cannot undo") from error
        return ""

    def _showboard(self, _: list[str]) -> str:
        return "\n" + str(self.game)

    def _loadsgf(self, words: list[str]) -> str:
        path = Path(_word(words, 0))
        before = _integer(words, 1) if len(words) > 1 else None  # the position before this move is wanted
        try:
            with open(path, "rb") as file:
                game = Game.from_sgf(file.read(LARGEST + 1))
            if game.spec.game != GO:
                raise ValueError(f"{path} holds a game of {game.name}")
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            raise Refused("cannot load file") from error
        self.game = game if before is None else game.at(min(len(game.moves), max(0, before - 1)))
        return ""

    def _fixed_handicap(self, words: list[str]) -> str:
        number = _integer(words, 0)
        self._empty()
        try:
            stones = fixed_handicap(self.game.spec, number) if number else []
            self.game.place_handicap(stones)
        except ValueError as error:
            raise Refused("invalid number of stones") from error
        return " ".join(stones)

    def _place_free_handicap(self, words: list[str]) -> str:
        number = _integer(words, 0)
        self._empty()
        stones = free_handicap(self.game.spec, number) if number >= 2 else []
        try:
            self.game.place_handicap(stones)
        except ValueError as error:
            raise Refused("invalid number of stones") from error
        return " ".join(stones)

    def _set_free_handicap(self, words: list[str]) -> str:
        self._empty()
        try:
            self.game.place_handicap(words)
        except ValueError as error:
            raise Refused("bad vertex list") from error
        return ""

    def _empty(self) -> None:
        if self.game.moves or self.game.board.any():
            raise Refused("board not empty")

    def _kata_set_rules(self, words: list[str]) -> str:
        text = " ".join(words)
        try:
            self.game.set_rules(json.loads(text) if text.startswith("{") else text)
        except RecursionError as error:
            raise Refused("syntax error") from error
        return self.game.remark

    def _kata_get_rules(self, _: list[str]) -> str:
        spec = self.game.spec
        return json.dumps({"ko": ("NONE", "SIMPLE", "POSITIONAL", "SITUATIONAL")[spec.ko], "scoring": "AREA",
                           "tax": "NONE", "suicide": bool(spec.suicide), "hasButton": False,
                           "whiteHandicapBonus": "0"})

    # Time

    def _time_settings(self, words: list[str]) -> str:
        main, extra, stones = _number(words, 0), _number(words, 1), _integer(words, 2)
        if min(main, extra, stones) < 0:
            raise Refused("syntax error")
        self.settings, self.limited = (main, extra, stones), not (extra > 0 and stones == 0)
        self._start_clocks()
        return ""

    def _start_clocks(self) -> None:
        main, extra, stones = self.settings
        for colour in (BLACK, WHITE):
            self.clocks[colour] = Clock()
            if self.limited:
                self.clocks[colour] = Clock(main) if main > 0 or stones == 0 else Clock(extra, stones)

    def _time_left(self, words: list[str]) -> str:
        colour, left, stones = _colour(words), _number(words, 1), _integer(words, 2)
        if left < 0 or stones < 0:
            raise Refused("syntax error")
        self.clocks[colour] = Clock(left, stones)
        return ""

    def _spend(self, colour: int, seconds: float) -> None:
        """Takes a move's time off the clock, for a referee that does not send `time_left`."""
        clock, (_, extra, stones) = self.clocks[colour], self.settings
        clock.left = max(0.0, clock.left - seconds)
        if clock.stones > 1:
            clock.stones -= 1
        elif (clock.stones == 1 or clock.left == 0) and stones > 0:
            clock.left, clock.stones = extra, stones

    # Moves

    def _think(self, colour: int) -> tuple[str, Analysis | None]:
        """The move of a side, or "resign"."""
        game = self.game.copy()
        if game.over:
            return vertex.PASS, None
        game.turn(colour)
        if game.state[PASSES] and game.score() * colour > 0:
            return vertex.PASS, None  # the other has passed, and the area as it stands wins: that is certain
        start = time.monotonic()
        points = game.spec.rows * game.spec.columns
        budget = self.clocks[colour].budget(len(game.moves), points)
        found = self.player.analyse(game, visits=self.visits, seed=self.seed, seconds=budget)
        self._spend(colour, time.monotonic() - start)
        if found.winrate < self.resign_below and len(game.moves) >= self.resign_after:
            return "resign", found
        return found.move, found

    def _genmove(self, words: list[str]) -> str:
        colour = _colour(words)
        move, _ = self._think(colour)
        if move != "resign":
            self.game.resume()
            self.game.play(move, colour)
        return move

    def _reg_genmove(self, words: list[str]) -> str:
        return self._think(_colour(words))[0]

    # Scores

    def _dead(self) -> list[str]:
        """Stones that count as dead: none under Tromp-Taylor rules, else those that the player gives up.

        The ownership of the net decides; a player without one leaves all stones alive.
        """
        game = self.game.copy()
        game.resume()
        if game.rules == "tromp-taylor" or not game.board.any():
            return []
        ownership = self.player.analyse(game, visits=1, seed=self.seed).ownership
        return [] if ownership is None else game.dead(ownership)

    def _final_score(self, _: list[str]) -> str:
        return self.game.result(self._dead())

    def _final_status_list(self, words: list[str]) -> str:
        status = _word(words, 0).lower()
        if status not in ("alive", "dead", "seki"):
            raise Refused("syntax error")
        if status == "seki":
            return ""
        dead, spec = set(self._dead()), self.game.spec
        stones = {vertex.name(spec, int(i)) for i in self.game.board.ravel().nonzero()[0]}
        return "\n".join(sorted(dead if status == "dead" else stones - dead))

    # Analysis

    def _options(self, words: list[str]) -> dict[str, object]:
        """What an analysis is asked for; keys that are not known are skipped with their value."""
        options: dict[str, object] = {"colour": self.game.to_move}
        words = words.copy()
        while words:
            word = words.pop(0).lower()
            if word in ("b", "w", "black", "white"):
                options["colour"] = read_colour(word)
            elif word.isdecimal():
                continue  # the interval: reports come when there is more to say
            elif word in ("avoid", "allow"):
                words = words[3:]
            elif words:
                options[word] = words.pop(0).lower()
            else:
                raise Refused("syntax error")
        return options

    def _reports(self, name: str, words: list[str]) -> Iterator[str]:
        """Lines of analysis with ever more visits; stops where more would take long."""
        options = self._options(words)
        if self.game.over:
            raise Refused("the game is over")
        game = self.game.copy()
        game.turn(read_colour(options["colour"]))  # type: ignore[arg-type]
        most = options.get("maxmoves", "")
        show = report_kata if name == "kata-analyze" else report_lz
        owns = name == "kata-analyze" and options.get("ownership") == "true"
        visits = max(1, self.visits)
        while True:
            start = time.monotonic()
            found = self.player.analyse(game, visits=visits, seed=self.seed)
            line = show(found, max(1, int(most)) if str(most).isdecimal() else None)  # type: ignore[call-overload]
            if owns and found.ownership is not None:
                values = (found.ownership * game.to_move).ravel()
                line += " ownership " + " ".join(f"{value:.4f}" for value in values)
            yield line + "\n"
            if time.monotonic() - start > 1.0 or visits >= DEEPEST:
                return
            visits *= 2


def report_lz(found: Analysis, most: int | None = None) -> str:
    """One line as Leela Zero writes it: rates of the side to move, times 10,000."""
    return " ".join(
        f"info move {c.move} visits {c.visits} winrate {round(c.winrate * 1e4)} prior {round(c.prior * 1e4)} "
        f"lcb {round(_lower(c.winrate, c.visits) * 1e4)} order {i} pv {' '.join(c.pv or [c.move])}"
        for i, c in enumerate(_ranked(found)[:most]))


def report_kata(found: Analysis, most: int | None = None) -> str:
    """One line as KataGo writes it: rates 0..1 and points of the side to move."""
    return " ".join(
        f"info move {c.move} visits {c.visits} utility {2 * c.winrate - 1:.6f} winrate {c.winrate:.6f} "
        f"scoreMean {c.score_lead:.4f} scoreLead {c.score_lead:.4f} prior {c.prior:.6f} "
        f"lcb {_lower(c.winrate, c.visits):.6f} order {i} pv {' '.join(c.pv or [c.move])}"
        for i, c in enumerate(_ranked(found)[:most]))


def _ranked(found: Analysis) -> list[Candidate]:
    """The moves that were considered; of a net alone its own, for a report may not be an empty line."""
    return found.moves or [Candidate(found.move, 1, found.winrate, found.score_lead, float(found.policy.max()))]


def _lower(winrate: float, visits: int) -> float:
    """A lower bound of a win rate, as if each visit were a game."""
    return max(0.0, winrate - 1.96 * math.sqrt(max(winrate * (1 - winrate), 0.0) / max(visits, 1)))


def serve(engine: Engine, lines: IO[str] = sys.stdin, out: IO[str] = sys.stdout) -> None:
    """Answers lines until `quit` or the end of input; an analysis runs until the next line comes."""
    ahead = _Ahead(lines)
    while not engine.done and (line := ahead.take()) is not None:
        for piece in engine.answer(line, ahead.come):
            out.write(piece)
            out.flush()


class _Ahead:
    """Lines that a thread reads ahead, so that one can know whether the next has come."""

    def __init__(self, lines: IO[str]) -> None:
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._next: list[str | None] = []
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()

    def _read(self, lines: IO[str]) -> None:
        try:
            while line := lines.readline(LONGEST_LINE):
                self._queue.put(line)
        except (OSError, ValueError):  # closed under us
            pass
        self._queue.put(None)

    def come(self, wait: bool) -> bool:
        """Whether there is a line, or the end; with `wait` there will be."""
        if not self._next:
            try:
                self._next.append(self._queue.get(block=wait))
            except queue.Empty:
                return False
        return True

    def take(self) -> str | None:
        """The next line, None at the end."""
        self.come(True)
        return self._next.pop()


def _split(line: str) -> tuple[str, list[str]]:
    """The number of a command and its words, as the specification cleans a line."""
    words = re.sub(r"[\x00-\x1f\x7f]", "", line.replace("\t", " ").split("#", 1)[0]).split()
    if words and words[0].isascii() and words[0].isdigit():
        return words[0], words[1:]
    return "", words


def _word(words: list[str], place: int) -> str:
    if place >= len(words):
        raise Refused("syntax error")
    return words[place]


def _integer(words: list[str], place: int) -> int:
    word = _word(words, place)
    if not re.fullmatch(r"-?[0-9]{1,9}", word):
        raise Refused("syntax error")
    return int(word)


def _number(words: list[str], place: int) -> float:
    try:
        number = float(_word(words, place))
    except ValueError as error:
        raise Refused("syntax error") from error
    if not math.isfinite(number):
        raise Refused("syntax error")
    return number


def _colour(words: list[str]) -> int:
    word = _word(words, 0)
    try:
        return read_colour(word)
    except ValueError as error:
        raise Refused("invalid color") from error

