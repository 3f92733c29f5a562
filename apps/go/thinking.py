"""Thinking for visitors, in worker processes that keep the loaded model; the server itself never loads torch for it.

Moves go to a desk of short work, whole games to another, so that a game under review holds nobody's reply up.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from apps.go.game import Game
from apps.go.player import Analysis
from core.desk import Desk, Ticket

if TYPE_CHECKING:
    from apps.go.predict import Player

STRENGTHS = (1, 16, 64, 256)
"""Visits that a visitor may choose for a reply."""
LOOK = 64
"""Visits of a look at a position in which the visitor is to move."""
LONGEST_REVIEW = 400
"""Moves of a game that is reviewed on the site; the shell takes longer ones."""


@dataclass(frozen=True)
class Model:
    """What the page says of the model: its card's fields, and where it computes."""

    card: dict[str, Any]
    sha256: str
    device: str
    precision: str


@dataclass(frozen=True)
class Thought:
    """An analysis of one position, and what it took."""

    analysis: Analysis
    visits: int
    milliseconds: float


def weights() -> str:
    """The model that this site shows: the default, or what `WUNDERKAMMER_GO` names (a file, a run, hf://...)."""
    return os.environ.get("WUNDERKAMMER_GO") or "default"


@cache
def desk() -> Desk:
    """The desk of this server for single positions."""
    return Desk(workers=max(1, min(4, (os.cpu_count() or 1) // 2)), queue=32, patience=20)


@cache
def study() -> Desk:
    """The desk of this server for whole games."""
    return Desk(workers=1, queue=4, patience=60)


def get_ready() -> Ticket:
    """Has the model loaded, and everything compiled that the page and the search need; gives a `Model`."""
    return desk().submit(describe, weights())


def ask(game: Game, visits: int) -> Ticket:
    """Hands a position in; gives a `Thought`.

    Raises:
        ValueError: if too many wait already.
    """
    return desk().submit(think, weights(), light(game), visits)


def ask_review(game: Game, visits: int = LOOK) -> Ticket:
    """Hands a game in; gives the `Thought` of each of its positions that is not an end.

    Raises:
        ValueError: if it is too long, or too many wait already.
    """
    if len(game.moves) > LONGEST_REVIEW:
        raise ValueError(f"the game has {len(game.moves)} moves; at most {LONGEST_REVIEW} are reviewed here")
    return study().submit(review, weights(), game, visits)


def drop(ticket: Ticket | None) -> None:
    """Takes work from the queue that nobody wants any more; what runs already ends by itself, its worker kept."""
    if ticket is not None and ticket.state == "waiting":
        ticket.cancel()


def ended(ticket: Ticket, seconds: float) -> bool:
    """Waits a moment for a ticket, and says whether it has ended."""
    ticket.look()
    with suppress(Exception):
        ticket.result(seconds)
    return ticket.state not in ("waiting", "running")


def light(game: Game) -> Game:
    """A copy without the way back, which a search does not need, to be sent to another process."""
    other = game.copy()
    other._past = []
    return other


# In the worker --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _player(name: str) -> Player:
    from apps.go.predict import load

    return load(name)


@cache
def _step_back() -> None:
    """Lets replies go first where processors are few."""
    if hasattr(os, "nice"):
        os.nice(5)


def describe(name: str) -> Model:
    """Loads the model and plays a little with it, so that what follows is quick here and in the server."""
    player = _player(name)
    game = Game(player.game)
    if player.game == "go":
        for move in ("B1", "E5", "A2", "pass"):
            game.play(move)
        game.illegal_reason("E5")
        game.turn(-game.to_move)
        game.illegal_reason("A1")  # suicide
        game.undo()
    think(name, game, 16)
    game.score()
    game.legal()
    return Model(dataclasses.asdict(player.card), player.sha256, str(player.device), player.precision)


def name_of(name: str) -> str:
    """What a model's card calls it, with the beginning of its file's hash."""
    player = _player(name)
    return f"{player.card.name} {player.sha256[:8]}"


def think(name: str, game: Game, visits: int) -> Thought:
    """Analyses a position; after the end, as if it went on: to tell which stones are dead."""
    game.resume()
    began = time.perf_counter()
    analysis = _player(name).analyse(game, visits=visits)
    return Thought(analysis, visits, 1000 * (time.perf_counter() - began))


def review(name: str, game: Game, visits: int, progress: Callable[[int, int], None]) -> list[Thought]:
    """Analyses every position of a game but an end, after the visitors' replies."""
    _step_back()
    return look_through(name, game, visits, progress)


def look_through(name: str, game: Game, visits: int, progress: Callable[[int, int], None]) -> list[Thought]:
    """Analyses every position of a game but an end."""
    number = len(game.moves) + (not game.over)
    thoughts = []
    for ply in range(number):
        position = game.at(ply)
        if ply < len(game.moves):
            position.turn(game.moves[ply].colour)  # where a side played twice
        thoughts.append(think(name, position, visits))
        progress(ply + 1, number)
    return thoughts
