"""The players of self-play: from weights and a seed to finished games and what their searches say.

A piece of work is G games at once, so that the net judges their positions together. A share of the moves is searched
in full and becomes samples; the others get a cheap search that keeps the game going ("playout cap randomization", Wu
2019, section 3.1). All is a pure function of the piece, whoever computes it. Letters: G games, N samples, A moves.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from apps.go import data, predict
from apps.go.boards import Boards
from apps.go.gumbel import halving, improved
from apps.go.search import Evaluator, Judged, Options, Search, add_noise, pruned
from apps.go.state import Spec
from core.cli import within


@dataclass(frozen=True)
class Play:
    """How the players play."""

    pieces: int = 4
    """Pieces of work in a generation; each is played by one process."""
    games: int = 64
    """Games at once in a piece."""
    simulations: int = 64
    """Simulations of a full search, whose result is learned."""
    cheap: int = 16
    """Simulations of the other searches, which only choose a move."""
    full: float = 0.25
    """Share of the moves that are searched in full."""
    target: Literal["gumbel", "puct"] = "gumbel"
    """What is learned: the policy that Gumbel's search improved, or PUCT's visits without what was forced."""
    considered: int = 8
    """Moves among which Gumbel's search begins to halve."""
    noise: float = 0.25
    """PUCT: share of Dirichlet noise in the root's priors of a full search."""
    forced: float = 2.0
    """PUCT: forced playouts of a full search (see the search's option)."""
    temperature: float = 1.0
    """PUCT: moves are drawn in proportion to visits ** (1 / temperature); 0 takes the most visited."""
    leaves: int = 4
    """PUCT: simulations of one tree that wait for the net together."""
    opening: int = 0
    """A game begins with 0 to so many random moves, which are not learned."""
    komi: float = 0.0
    """Go: the komi of a piece is drawn from a normal distribution so wide around the board's."""
    turned: bool = True
    """The net sees each batch in a symmetry drawn at random."""

    def __post_init__(self) -> None:
        within(self, 1, 1 << 16, "pieces", "games", "simulations", "cheap", "considered", "leaves", of="play.")
        within(self, 0, 1, "full", "noise", of="play.")
        within(self, 0, 100, "forced", "temperature", "opening", "komi", of="play.")
        if not self.full:
            raise ValueError("play.full is 0; then no search is ever learned from; it must be above 0")


@dataclass(frozen=True)
class Piece:
    """One piece of work; it holds all that its result depends on."""

    generation: int
    number: int
    seed: int
    board: Spec
    play: Play
    longest: int
    """Moves after which a game counts as it stands; 0 is three times the points."""
    weights: bytes = field(repr=False)
    """The content of a weights file."""

    @property
    def key(self) -> str:
        return f"g{self.generation:04d}-{self.number:02d}.npz"

    @property
    def digest(self) -> str:
        """Of everything; a file of another piece is told by it."""
        rest = (self.generation, self.number, self.seed, tuple(self.board), asdict(self.play), self.longest)
        return hashlib.sha256(self.weights + repr(rest).encode()).hexdigest()


def play(piece: Piece) -> dict[str, Any]:
    """Plays the games of a piece.

    Returns:
        moves (G, longest) int16, komi (G,), margin (G,) of the first player, owner (G, points) int8 his; of the moves
        that were searched in full game (N,), ply (N,), policy (N, A) uint16 / 65535 and value (N,) the mover's chance;
        simulations, and the piece's digest.
    """
    p, rng = piece.play, np.random.default_rng((piece.seed, piece.generation, piece.number))
    board = piece.board
    if p.komi:
        board = board._replace(komi=float(np.clip(np.round(2 * rng.normal(board.komi, p.komi)) / 2, -60, 60)))
    net = player(piece.weights)
    evaluate = turned(net.evaluate, board, rng) if p.turned else net.evaluate
    boards = Boards(board, p.games, piece.longest)
    for g in range(p.games):
        boards.scatter(g, int(rng.integers(p.opening + 1)), rng)
    samples: list[tuple[int, int, np.ndarray, float]] = []
    players = _gumbel if p.target == "gumbel" else _puct
    simulations = players(p, boards, evaluate, net.options, rng, lambda *sample: samples.append(sample))
    game, ply, policy, value = zip(*samples, strict=True) if samples else ((), (), (), ())
    return {
        "moves": boards.moves, "komi": np.full(p.games, board.komi, np.float32), "margin": boards.margins(),
        "owner": boards.owners(), "game": np.array(game, np.int32), "ply": np.array(ply, np.int16),
        "policy": np.round(np.array(policy).reshape(-1, board.actions) * 65535).astype(np.uint16),
        "value": np.array(value, np.float32), "simulations": np.int64(simulations), "digest": np.array(piece.digest)}


Keep = Callable[[int, int, np.ndarray, float], None]


def _gumbel(p: Play, boards: Boards, evaluate: Evaluator, options: Options, rng: np.random.Generator,
            keep: Keep) -> int:
    """Plays all games to their end by Gumbel's search; returns the simulations that were run."""
    total = 0
    while (going := np.flatnonzero(boards.going)).size:
        full = rng.random(going.size) < p.full
        for learned, simulations in ((True, p.simulations), (False, p.cheap)):
            which = going[full == learned]
            if not which.size:
                continue
            search = Search(boards.board, boards.states[which], boards.histories(which), evaluate, simulations + 2,
                            options)
            moves = halving(search, simulations, p.considered, rng)
            for i, (g, move) in enumerate(zip(which, moves, strict=True)):
                total += int(search.tree.visits[i, 0].sum())
                if learned:
                    policy = improved(*search.root(i), float(search.tree.judged[i, 0, 0]))
                    keep(int(g), _ply(boards, g), policy, _chance(search, i, policy))
                boards.play(int(g), int(move))
    return total


def _puct(p: Play, boards: Boards, evaluate: Evaluator, options: Options, rng: np.random.Generator,
          keep: Keep) -> int:
    """The same by PUCT with trees that go on from move to move."""
    games = np.arange(len(boards.states))
    search = Search(boards.board, boards.states, boards.histories(games), evaluate, max(p.simulations, p.cheap) + 2,
                    options, moves=boards.longest)
    total = 0
    while boards.going.any():
        full = (rng.random(games.size) < p.full) & boards.going
        search.open()
        for g in np.flatnonzero(full).tolist():
            add_noise(search, p.noise, rng, g)
        before = search.tree.visits[:, 0].sum(1)
        for simulations, which, forced in ((p.simulations, full, p.forced), (p.cheap, boards.going & ~full, 0.0)):
            search.options = replace(options, forced=forced, leaves=p.leaves)
            search.run(np.where(which, np.maximum(simulations - before, 1), 0))
        total += int((search.tree.visits[:, 0].sum(1) - before).sum())
        moves = np.full(games.size, -1)
        for g in np.flatnonzero(boards.going).tolist():
            prior, visits, q = search.root(g)
            if full[g]:
                policy = pruned(prior, visits, q, replace(options, forced=p.forced))
                keep(g, _ply(boards, g), policy, _chance(search, g, visits / visits.sum()))
            moves[g] = visits.argmax()
            if p.temperature:
                weights = (visits / visits.max()) ** (1 / p.temperature)
                moves[g] = rng.choice(len(visits), p=weights / weights.sum())
            boards.play(g, int(moves[g]))
        search.advance(moves)
    return total


def _ply(boards: Boards, g: int) -> int:
    return int((boards.moves[g] != -2).sum())


def _chance(search: Search, g: int, policy: np.ndarray) -> float:
    """The mover's chance if he follows a policy, by what the search saw of its moves."""
    visits = search.tree.visits[g, 0]
    weights = np.where(visits > 0, policy, 0)
    if not weights.sum():
        return float(search.tree.judged[g, 0, 1])
    return float((weights * search.tree.total[g, 0, :, 1] / np.maximum(visits, 1)).sum() / weights.sum())


def turned(evaluate: Evaluator, board: Spec, rng: np.random.Generator) -> Evaluator:
    """An evaluator that shows each batch in a symmetry drawn at random, and turns the answer back."""
    ways = list(data.turns(board.game, board.rows, board.columns).items())

    def look(planes: np.ndarray, numbers: np.ndarray) -> Judged:
        element, (points, order) = ways[int(rng.integers(len(ways)))]
        said = evaluate(np.ascontiguousarray(data.symmetry(planes, element)), numbers)
        logits, owner = np.empty_like(said.logits), np.empty_like(said.ownership).reshape(len(planes), -1)
        logits[:, order], owner[:, points] = said.logits, said.ownership.reshape(len(planes), -1)
        return Judged(logits, said.chance, said.lead, owner.reshape(len(planes), board.rows, board.columns))

    return look


@lru_cache(maxsize=4)
def player(weights: bytes) -> predict.Player:
    """The player of a weights file's content; one process keeps the last few."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "go.safetensors"
        path.write_bytes(weights)
        return predict.load(path)
