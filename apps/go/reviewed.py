"""What a review says of a game: how each move changed the mover's chances, and the moves that cost most."""

from __future__ import annotations

from dataclasses import dataclass

from apps.go.drawing import percent
from apps.go.game import BLACK, Game
from apps.go.thinking import Thought

LEAST, MOST = 0.05, 12
"""Loss of chance from which a move is a mistake, and how many are listed."""


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
        after = thoughts[i + 1].analysis.winrate
        turns = i + 1 == len(game.moves) or game.moves[i + 1].colour != move.colour
        found.append(max(0.0, thoughts[i].analysis.winrate - (1 - after if turns else after)))
    return found


def mistakes(game: Game, thoughts: list[Thought], colours: tuple[int, ...] = (1, -1)) -> list[Mistake]:
    """The moves of one side or both that cost at least `LEAST`, the dearest `MOST` of them, dearest first."""
    found = [Mistake(i + 1, game.moves[i].colour, game.moves[i].vertex, thoughts[i].analysis.move,
                     thoughts[i].analysis.winrate, loss)
             for i, loss in enumerate(losses(game, thoughts)) if loss >= LEAST and game.moves[i].colour in colours]
    return sorted(found, key=lambda mistake: (-mistake.loss, mistake.number))[:MOST]
