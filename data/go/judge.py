"""Who says what a position is worth: our own net and its search, or any engine that speaks KataGo's GTP.

A judgement is one row of the label file, from the side to move: policy (82,) uint16 and ownership (81,) int8 as in
data/go/README.md, the chance to win 0..1, and the lead in points.
"""

from __future__ import annotations

import contextlib
import re
from typing import NamedTuple, Protocol

import numpy as np

from apps.go import vertex
from apps.go.engines import Died, Program
from apps.go.game import BLACK, Game

MOVES = 82


class Judgement(NamedTuple):
    """One position's row."""

    policy: np.ndarray
    winrate: float
    lead: float
    ownership: np.ndarray


class Judge(Protocol):
    """Whoever judges positions."""

    def judge(self, game: Game) -> Judgement:
        """Judges the position after the game's moves."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


class Net:
    """Our own player: the net's policy with one visit, the search's with more."""

    def __init__(self, weights: str, visits: int) -> None:
        from apps.go.predict import load

        self._player, self._visits = load(weights), visits
        if self._player.game != "go":
            raise ValueError(f"{weights} plays {self._player.game}; a net that plays Go is wanted")

    def judge(self, game: Game) -> Judgement:
        found = self._player.analyse(game, visits=self._visits)
        policy = found.policy if self._visits == 1 else found.visits / max(1, found.visits.sum())
        assert found.ownership is not None
        return row(policy, found.winrate, found.score_lead, found.ownership.ravel() * game.to_move)

    def close(self) -> None:
        pass


class Engine:
    """A GTP engine: `kata-raw-nn` with one visit where it has that, else `kata-analyze` with the rates of the side to
    move (KataGo's `reportAnalysisWinratesAs = SIDETOMOVE`)."""

    def __init__(self, command: str, visits: int, timeout: float = 120.0) -> None:
        self._command, self._visits = command, visits
        self._program = Program(command, timeout)
        known = {name: self._program.ask(f"known_command {name}") == "true" for name in ("kata-raw-nn", "kata-analyze")}
        self._raw = known["kata-raw-nn"] and visits == 1
        if not (self._raw or known["kata-analyze"]):
            self._program.close()
            raise ValueError(f"{command!r} knows neither kata-raw-nn nor kata-analyze; KataGo does")
        self._on: Game | None = None

    def judge(self, game: Game) -> Judgement:
        try:
            self._follow(game)
            if self._raw:
                return read_raw(self._program.ask("kata-raw-nn 0"), game)
            colour = "b" if game.to_move == BLACK else "w"
            report = self._program.watch(f"kata-analyze {colour} 20 ownership true",
                                         lambda line: _visits(line) >= self._visits)
            return read_report(report, game)
        except Died as error:
            raise ValueError(f"{self._command!r} {error}") from error

    def _follow(self, game: Game) -> None:
        """Brings the engine to the position, by the new moves only where the game is the same."""
        before = self._on.moves if self._on is not None and self._on.komi == game.komi else None
        if before is None or game.moves[: len(before)] != before:
            for command in (f"boardsize {game.spec.rows}", "clear_board", f"komi {game.komi:g}"):
                self._program.ask(command)
            with contextlib.suppress(ValueError):  # not every engine knows it
                self._program.ask("kata-set-rules tromp-taylor")
            before = []
        for move in game.moves[len(before) :]:
            self._program.ask(f"play {'b' if move.colour == BLACK else 'w'} {move.vertex}")
        self._on = game.copy()

    def close(self) -> None:
        """Ends the engine."""
        self._program.close()


def row(policy: np.ndarray, winrate: float, lead: float, ownership: np.ndarray) -> Judgement:
    """A judgement as the label file keeps it."""
    return Judgement(np.round(1023 * policy).astype(np.uint16), float(winrate), float(lead),
                     np.round(15 * np.clip(ownership, -1, 1)).astype(np.int8))


def read_raw(text: str, game: Game) -> Judgement:
    """Reads an answer to `kata-raw-nn`, whose numbers are White's; NAN stands for illegal moves.

    Raises:
        ValueError: if it is none.
    """
    found: dict[str, list[float]] = {}
    name = ""
    for word in text.split():
        try:
            found.setdefault(name, []).append(float(word))
        except ValueError:
            name = word
    try:
        policy = np.nan_to_num(np.array(found["policy"] + found["policyPass"]))
        owner = np.array(found["whiteOwnership"])
        (win,), (none,), (lead,) = found["whiteWin"], found["noResult"], found["whiteLead"]
    except (KeyError, ValueError) as error:
        raise ValueError("the engine's kata-raw-nn lacks one of policy, whiteWin, whiteLead and whiteOwnership: "
                         f"{text[:80]!r}") from error
    if policy.shape != (MOVES,) or owner.shape != (MOVES - 1,):
        raise ValueError(f"the engine's kata-raw-nn is of another board: {len(policy)} moves, {len(owner)} points")
    side, white = -game.to_move, win + none / 2
    return row(policy / policy.sum(), white if side == 1 else 1 - white, side * lead, side * owner)


def read_report(line: str, game: Game) -> Judgement:
    """Reads a line of `kata-analyze`: the policy is the moves' share of visits, chance and lead are the best move's.

    Raises:
        ValueError: if it says too little.
    """
    moves, _, owned = line.partition(" ownership ")
    policy, best = np.zeros(MOVES), None
    for info in re.split(r"\binfo\s+", moves)[1:]:
        words = info.partition(" pv ")[0].split()
        said = dict(zip(words[::2], words[1::2], strict=False))
        try:
            policy[vertex.parse(game.spec, said["move"])] = float(said["visits"])
            best = best or (float(said["winrate"]), float(said["scoreLead"]))
        except KeyError as error:
            raise ValueError(f"the engine's kata-analyze says no {error.args[0]}: {line[:80]!r}") from error
    owner = np.array([float(word) for word in owned.split()])
    if best is None or owner.shape != (MOVES - 1,) or not policy.sum():
        raise ValueError(f"the engine's kata-analyze has no moves or no ownership of 81 points: {line[:80]!r}")
    return row(policy / policy.sum(), *best, owner)


def _visits(line: str) -> int:
    return sum(map(int, re.findall(r"\bvisits (\d+)", line)))
