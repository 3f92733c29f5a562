"""Matches between any two players: GTP engines as programs of their own, and our own players in this process.

Both speak GTP to a referee that knows the rules. When both have passed, the area decides as it stands (Tromp-Taylor);
but GNU Go passes over dead stones, which a plain count would give to their owner, so where one of the two is GNU Go
the score is what it answers to `final_score`, which plays the position out. The file of a game says which count it is.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from apps.go.engines import Died, Ours, Side, start
from apps.go.game import BLACK, WHITE, Game
from core.files import publishing
from core.log import Progress
from core.metrics import wilson

FALLS = 3
"""Games in a row that an engine may die in before a match stops."""
COLOURS = {BLACK: "B", WHITE: "W"}


@dataclass(frozen=True)
class Terms:
    """What a match is played under."""

    size: int = 9
    """Points along an edge."""
    komi: float = 7.0
    """Points for White."""
    rules: str = "chinese-kgs"
    """What the referee goes by (positional superko and no suicide, which every engine takes); who plays what they
    forbid has lost. GNU Go keeps to them with --positional-superko."""
    opening: int = 0
    """First moves of both sides drawn at random, the same for two games with colours exchanged: players without chance
    play one game over and over."""
    seed: int = 0
    """Of openings and of our own players."""
    longest: int = 0
    """Moves after which the area decides; 0 is three times the points."""

    @property
    def most(self) -> int:
        return self.longest or 3 * self.size**2


@dataclass(frozen=True)
class Tally:
    """What came of a match, from A's side."""

    wins: int
    draws: int
    losses: int
    forfeits: int = 0
    """Games that ended by an illegal move, a refusal, a death or a silence."""
    cut: int = 0
    """Games that the cap on length ended."""
    disputed: int = 0
    """Games whose winner by plain area is another than GNU Go's."""
    distinct: int = 0
    """Games that are not the same as another, move for move."""

    @property
    def games(self) -> int:
        return self.wins + self.draws + self.losses

    def __str__(self) -> str:
        n, points = self.games, self.wins + self.draws / 2
        low, high = wilson(points, n)
        rate = points / n if n else 0.5
        text = f"{self.wins}-{self.draws}-{self.losses} (wins-draws-losses of A), win rate {100 * rate:.1f} % " \
               f"[{100 * low:.1f}, {100 * high:.1f}], Elo {elo(rate):+.0f} [{elo(low):+.0f}, {elo(high):+.0f}], n = {n}"
        notes = ((self.forfeits, "by forfeit"), (self.cut, "ended by the cap on length"),
                 (self.disputed, "that plain area gives to the other"), (n - self.distinct, "repeated an earlier one"))
        return text + "".join(f"; {count} {note}" for count, note in notes if count)


def elo(rate: float) -> float:
    """The difference in Elo of which a win rate is expected."""
    return math.copysign(math.inf, rate - 0.5) if rate in (0, 1) else 400 * math.log10(rate / (1 - rate))


def opening(terms: Terms, number: int) -> list[str]:
    """The first moves of a game and of the next with colours exchanged: legal, random, no passes."""
    game, rng = Game("go", terms.size, terms.komi, terms.rules), np.random.default_rng((terms.seed, number // 2))
    for _ in range(terms.opening):
        choices = game.legal()[:-1]
        if choices:
            game.play(str(rng.choice(choices)))
    return [move.vertex for move in game.moves]


def play(black: Side, white: Side, terms: Terms, first: list[str]) -> tuple[Game, Side | None]:
    """Plays one game; its result is in `info["RE"]`, with a note in `info["C"]`.

    Args:
        first: moves that are given.

    Returns:
        The game, and the side that died in it, if one did.
    """
    game = Game("go", terms.size, terms.komi, terms.rules)
    sides = {BLACK: black, WHITE: white}
    colour = BLACK
    try:
        for colour in sides:
            for command in (f"boardsize {terms.size}", "clear_board", f"komi {terms.komi:g}"):
                sides[colour].ask(command)
            with contextlib.suppress(ValueError):  # not every engine knows it
                sides[colour].ask(f"kata-set-rules {terms.rules}")
        for name in first:
            mover = game.to_move
            game.play(name)
            for colour in sides:
                sides[colour].ask(f"play {COLOURS[mover]} {name}")
        while not game.over and len(game.moves) < terms.most:
            mover = colour = game.to_move
            move = sides[mover].ask(f"genmove {COLOURS[mover]}").strip()
            if move.lower() == "resign":
                return _ended(game, -mover, "R"), None
            if why := game.illegal_reason(move):
                return _ended(game, -mover, "F", f"{_name(mover)} played {move[:20]}: {why}"), None
            game.play(move)
            colour = -mover
            sides[-mover].ask(f"play {COLOURS[mover]} {game.moves[-1].vertex}")
        plain = game.result()
        if not game.over:
            return _ended(game, _winner(plain), plain.partition("+")[2], "the cap on length ended it"), None
        for colour, side in sides.items():
            if side.scores and (counted := _count(side.ask("final_score"))):
                note = f"counted by {_name(colour)}; by plain area {plain}"
                return _ended(game, _winner(counted), counted.partition("+")[2], note), None
        return _ended(game, _winner(plain), plain.partition("+")[2], "counted by plain area"), None
    except ValueError as error:
        return _ended(game, -colour, "F", f"{_name(colour)} refused: {error}"), None
    except Died as error:
        return _ended(game, -colour, "F", f"{_name(colour)} {error}"), sides[colour]


def _name(colour: int) -> str:
    return "Black" if colour == BLACK else "White"


def _count(answer: str) -> str:
    """A score such as "W+3.5" or "0", or nothing if an engine says something else."""
    found = re.fullmatch(r"(?i)([BW])\+(\d+(?:\.\d+)?)|0|draw|jigo", answer.strip())
    if not found:
        return ""
    return f"{found[1].upper()}+{float(found[2]):g}" if found[1] else "0"


def _winner(result: str) -> int:
    return {"B": BLACK, "W": WHITE}.get(result[:1], 0)


def _ended(game: Game, winner: int, by: str, note: str = "") -> Game:
    game.info["RE"] = f"{COLOURS[winner]}+{by}" if winner else "0"
    if note:
        game.info["C"] = note
    return game


def match(a: str, b: str, games: int, out: Path, terms: Terms, *, timeout: float = 60.0,
          show: bool = True) -> Tally:
    """Plays a match, A with Black in even games, and keeps each game as `out/game_0000.sgf` when it is finished.

    A folder that holds a part of the match is gone on with. An engine that dies or is silent loses the game and is
    started anew.

    Raises:
        ValueError: if the folder holds another match or another process is at it, a player cannot be started, or one
            dies in `FALLS` games in a row.
    """
    if games < 1:
        raise ValueError(f"a match of {games} games was asked for; at least one is wanted")
    out = Path(out)
    Game("go", terms.size, terms.komi, terms.rules)  # refuses terms that cannot be played under
    with _alone(out):
        _remember(out, {"a": a, "b": b, **terms.__dict__})
        done = {i: game for i in range(games) if (game := _finished(out / f"game_{i:04d}.sgf"))}
        sides: dict[str, Side] = {}
        falls: Counter[str] = Counter()
        try:
            if len(done) < games:
                for key, name in (("a", a), ("b", b)):
                    sides[key] = start(name, timeout=timeout)
            with Progress(games, "match", "game", start=len(done), disable=not show) as bar:
                for number in sorted(set(range(games)) - set(done)):
                    order = (("a", a), ("b", b)) if number % 2 == 0 else (("b", b), ("a", a))
                    for key, name in order:
                        if key not in sides or isinstance(sides[key], Ours):  # ours gets a seed for each game
                            sides[key] = start(name, seed=terms.seed + number, timeout=timeout)
                    black, white = (sides[key] for key, _ in order)
                    game, dead = play(black, white, terms, opening(terms, number))
                    game.info |= {"PB": order[0][1], "PW": order[1][1], "GN": f"game {number}"}
                    with publishing(out / f"game_{number:04d}.sgf") as part:
                        part.write_text(game.to_sgf(), encoding="utf-8")
                    done[number] = game
                    for key, name in order:
                        falls[key] = falls[key] + 1 if sides[key] is dead else 0
                        if sides[key] is dead:
                            sides.pop(key).close()
                        if falls[key] == FALLS:
                            raise ValueError(f"{name!r} has died in {FALLS} games in a row, the last time so: "
                                             f"{game.info['C']}; the {len(done)} games in {out} are kept")
                    so_far = tally(done)
                    bar.say(f"{so_far.wins}-{so_far.draws}-{so_far.losses}")
                    bar.update(len(done))
        finally:
            for side in sides.values():
                side.close()
    return tally(done)


def tally(games: dict[int, Game]) -> Tally:
    """Counts finished games by their numbers; A has Black in the even ones."""
    won = [_winner(game.info["RE"]) * (1 if number % 2 == 0 else -1) for number, game in games.items()]
    notes = [game.info.get("C", "") for game in games.values()]
    disputed = [note.startswith("counted") and "plain area " in note
                and _winner(note.rpartition(" ")[2]) != _winner(game.info["RE"])
                for note, game in zip(notes, games.values(), strict=True)]
    return Tally(won.count(1), won.count(0), won.count(-1),
                 sum(game.info["RE"].endswith("F") for game in games.values()),
                 sum(note.startswith("the cap") for note in notes), sum(disputed),
                 len({tuple(game.moves) for game in games.values()}))


def _finished(path: Path) -> Game | None:
    """A game of an earlier run; None if there is no such file or it cannot be read."""
    try:
        game = Game.from_sgf(path.read_bytes())
    except (OSError, ValueError):
        return None
    return game if game.info.get("RE") else None


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    out.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(out / ".lock").acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"{out} is in use by another match; choose another folder with --out") from error
    with lock:
        yield


def _remember(out: Path, terms: dict[str, Any]) -> None:
    """Writes the terms of a match into its folder; a match that goes on must have the same."""
    path = out / "match.json"
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} cannot be read ({error}); choose another folder with --out") from error
        for name, value in terms.items():
            if not isinstance(before, dict) or before.get(name) != value:
                raise ValueError(f"{out} holds another match (not the same {name}); choose another folder with --out")
        return
    with publishing(path) as part:
        part.write_text(json.dumps(terms, indent=2) + "\n", encoding="utf-8")


def folder(a: str, b: str) -> Path:
    """Where a match is kept by default: a folder named after its players."""
    short = [re.sub(r"[^A-Za-z0-9@.]+", "-", name).strip("-")[:60] for name in (a, b)]
    return Path("runs") / "go" / "matches" / "_vs_".join(short)

