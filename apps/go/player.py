"""What a player is to programs: something that analyses a game. The dumbest one, every match's baseline, is here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from apps.go import vertex
from apps.go.game import Game
from apps.go.state import GO


@dataclass(frozen=True)
class Candidate:
    """A move that was considered; winrate (0..1) and score_lead (points) are those of the side that plays it."""

    move: str
    visits: int
    winrate: float
    score_lead: float
    prior: float
    pv: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Analysis:
    """What a player thinks of a position; winrate (0..1) and score_lead (points) are the side to move's."""

    move: str
    winrate: float
    score_lead: float
    ownership: np.ndarray | None
    """(H, W), -1..1: +1 the first player's, as on `Game.board`."""
    policy: np.ndarray
    """(actions,) the net's prior, 0 for illegal moves."""
    visits: np.ndarray
    """(actions,) how often the search went there."""
    pv: list[str]
    moves: list[Candidate]
    """Ranked, best first."""


class Player(Protocol):
    """Whatever analyses games: the search with a net, or a stub in a test."""

    def analyse(self, game: Game, visits: int = 64, seed: int = 0, seconds: float | None = None) -> Analysis:
        """Thinks about a game that is not over, until `visits` or `seconds` are spent, whichever comes first."""
        ...


class Random:
    """Plays any legal move but into its own one-point eyes; passes when there is none."""

    def analyse(self, game: Game, visits: int = 1, seed: int = 0, seconds: float | None = None) -> Analysis:
        """Draws a move; one seed in one position gives one move."""
        mask = game.mask().astype(bool)
        points = game.spec.rows * game.spec.columns
        if game.spec.game == GO:
            own = np.pad(game.board == game.to_move, 1, constant_values=True)
            eyes = own[:-2, 1:-1] & own[2:, 1:-1] & own[1:-1, :-2] & own[1:-1, 2:]
            mask[:points] &= ~eyes.ravel()
            mask[points] = not mask[:points].any()
        choices = np.flatnonzero(mask)
        move = int(np.random.default_rng((seed, len(game.moves))).choice(choices))
        name, prior = vertex.name(game.spec, move), mask / mask.sum()
        lead = game.score() * game.to_move if game.spec.game == GO else 0.0
        return Analysis(name, 0.5, lead, None, prior, np.eye(len(mask), dtype=int)[move], [name],
                        [Candidate(name, 1, 0.5, lead, float(prior[move]), [name])])
