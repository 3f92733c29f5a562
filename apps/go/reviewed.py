"""What a review says of a game: how each move changed the mover's chances, the moves that cost most, and why.

The page, the annotated SGF and the reports of `apps.go.review` all take it from here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from apps.go import drawing, vertex
from apps.go.drawing import percent
from apps.go.game import BLACK, Game
from apps.go.player import Analysis, Candidate
from apps.go.thinking import Thought

LEAST, MOST = 0.05, 12
"""Loss of chance from which a move is a mistake, and how many are listed."""
BAD, BLUNDER = 0.1, 0.25
"""Loss of chance from which a move is worse than doubtful, and from which it may have decided the game."""


@dataclass(frozen=True)
class Mistake:
    """A move that cost something, and what was better."""

    number: int
    """1 is the first move."""
    colour: int
    move: str
    better: str
    before: float
    """The mover's chance before it, 0..1."""
    loss: float
    """Of that chance."""
    points: float = 0.0
    """Of the mover's lead; a move that costs chances may win points."""

    @property
    def kind(self) -> str:
        """doubtful, bad or blunder."""
        return "blunder" if self.loss >= BLUNDER else "bad" if self.loss >= BAD else "doubtful"

    @property
    def cost(self) -> str:
        """What it costs, in chances and points."""
        points = f" and {self.points:.1f} points" if self.points >= 0.05 else ""
        return f"costs {percent(self.loss)}{points}"

    @property
    def short(self) -> str:
        """For a list."""
        return f"{self.number} · {'Black' if self.colour == BLACK else 'White'} {self.move}"

    @property
    def sentence(self) -> str:
        """For who looks at it."""
        who = "Black" if self.colour == BLACK else "White"
        return (f"Move {self.number}, {who} {self.move}, costs {percent(self.loss)}: {who}'s chances fall from "
                f"{percent(self.before)} to {percent(self.before - self.loss)}. Better is {self.better}.")


def losses(game: Game, thoughts: list[Thought]) -> list[float]:
    """By how much each move lowered its player's chance to win, 0..1; 0 for those that end the game."""
    found = []
    for i, move in enumerate(game.moves):
        if i + 1 >= len(thoughts) or move.vertex == thoughts[i].analysis.move:
            found.append(0.0)
            continue
        found.append(max(0.0, thoughts[i].analysis.winrate - _after(game, thoughts, i)[0]))
    return found


def mistakes(game: Game, thoughts: list[Thought], colours: tuple[int, ...] = (1, -1),
             most: int = MOST) -> list[Mistake]:
    """The moves of one side or both that cost at least `LEAST`, the dearest `most` of them, dearest first."""
    found = [Mistake(i + 1, game.moves[i].colour, game.moves[i].vertex, thoughts[i].analysis.move,
                     thoughts[i].analysis.winrate, loss, thoughts[i].analysis.score_lead - _after(game, thoughts, i)[1])
             for i, loss in enumerate(losses(game, thoughts)) if loss >= LEAST and game.moves[i].colour in colours]
    return sorted(found, key=lambda mistake: (-mistake.loss, mistake.number))[:most]


def why(game: Game, thoughts: list[Thought], mistake: Mistake) -> dict[str, str]:
    """Why a move was a mistake, a sentence each: what the net liked (prior), where the search looked (visits), what
    that came to (value; the mover's chance and lead), and how it would have gone on (line)."""
    ply, analysis = mistake.number - 1, thoughts[mistake.number - 1].analysis
    played, better = (_candidate(game.at(ply), analysis, name) for name in (mistake.move, mistake.better))
    order = np.argsort(-analysis.policy, kind="stable")
    rank = 1 + int(np.flatnonzero(order == vertex.parse(game.spec, mistake.move))[0])
    first = vertex.name(game.spec, int(order[0]))
    prior = f"At first sight the net gave {mistake.move} {_fine(played.prior)}"
    if rank == 1:
        prior += f", more than any other move; {mistake.better} had {_fine(better.prior)}."
    else:
        prior += f" (choice {rank}) and {mistake.better} {_fine(better.prior)}"
        liked = _fine(float(analysis.policy[order[0]]))
        prior += "." if first == mistake.better else f"; it liked {first} best, with {liked}."
    total = int(analysis.visits.sum())
    if total == 0:
        visits = "The net alone was asked; nothing was searched."
    else:
        share = f"{played.visits} to {mistake.move}" if played.visits else f"none to {mistake.move}"
        visits = f"Of {total} searched positions {better.visits} went to {mistake.better} and {share}"
        changed = rank == 1 and better.visits > played.visits
        visits += ": looking ahead changed its mind." if changed else "."
    rate, lead = _after(game, thoughts, ply)
    value = f"Before it: {percent(mistake.before)} ({analysis.score_lead:+.1f} points). "
    if better.visits:
        value += f"With {mistake.better}: {percent(better.winrate)} ({better.score_lead:+.1f}). "
    value += f"After {mistake.move}: {percent(rate)} ({lead:+.1f})."
    line = f"Better: {' '.join(analysis.pv)}."
    if reply := thoughts[ply + 1].analysis.pv:
        line += f" After {mistake.move}: {' '.join(reply)}."
    return {"prior": prior, "visits": visits, "value": value, "line": line}


def board_before(game: Game, thoughts: list[Thought], mistake: Mistake,
                 shows: Collection[str] = ("Line",)) -> dict[str, Any]:
    """The board before a mistake as `drawing.board`, rings where it was made and where it should have been."""
    position = game.at(mistake.number - 1)
    position.turn(mistake.colour)
    return drawing.board(position, thoughts[mistake.number - 1].analysis, shows=shows,
                         marks={mistake.move: "mistake", mistake.better: "better"})


def _after(game: Game, thoughts: list[Thought], ply: int) -> tuple[float, float]:
    """Chance and lead, of the one who made move `ply`, once it is played."""
    after = thoughts[ply + 1].analysis
    turns = ply + 1 == len(game.moves) or game.moves[ply + 1].colour != game.moves[ply].colour
    return (1 - after.winrate, -after.score_lead) if turns else (after.winrate, after.score_lead)


def _candidate(game: Game, analysis: Analysis, name: str) -> Candidate:
    """What was found of a move; no visits where the search did not go."""
    prior = float(analysis.policy[vertex.parse(game.spec, name)])
    return next((move for move in analysis.moves if move.move == name), Candidate(name, 0, 0.0, 0.0, prior))


def _fine(share: float) -> str:
    """A small share, too."""
    return percent(share) if share >= 0.01 else "under 1 %"
