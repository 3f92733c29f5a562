"""Held-out scores and matches: writes results.json and the table in the room's README.

python -m apps.go.evaluate test                     the net alone on held-out games, beside dumb baselines
python -m apps.go.evaluate ladder default@1 "gnugo --mode gtp --level 1 --chinese-rules" --games 200
python -m apps.go.evaluate connect4                 Connect Four against its exact solution, on Pons' test sets
python -m apps.go.evaluate table                    the README's table from results.json
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from apps.go import arena, data, match, predict
from apps.go.boards import Boards
from apps.go.solved import Solver
from apps.go.state import spec
from core import cli, results
from core.log import Progress
from core.metrics import bootstrap, wilson
from core.runtime import describe

ROOM = Path(__file__).parent
RESULTS = ROOM / "results.json"
PROGRAM = "apps.go.evaluate"
Positional = tyro.conf.Positional


@dataclass(frozen=True)
class Test:
    """The net alone, without search, on games that no training has seen: agreement with the players and the teacher."""

    weights: str = "default"
    """A published name, a file, a run folder, or hf://owner/repo/file."""
    folder: str = ""
    """Folder of the label file; empty takes $WUNDERKAMMER_DATA/go."""
    split: str = "test"
    """Split of the games: test, or val while choices are still made."""
    out: Path = RESULTS
    """The file of results."""

    def run(self) -> None:
        results.read(self.out)
        root = data.folder(self.folder)
        positions = data.read(root, self.split)
        results.no_sample(positions.sha256, data.read(data.SAMPLE, self.split).sha256, self.out, RESULTS)
        player = predict.load(self.weights)
        columns: dict[str, list[np.ndarray]] = {}
        with Progress(len(positions), positions.name, "position") as bar:
            for begin in range(0, len(positions), 256):
                b = data.to_tensors(positions, range(begin, min(begin + 256, len(positions))))
                said = player.evaluate(b["planes"].numpy(), b["numbers"].numpy())
                for name, column in _columns({k: np.asarray(v) for k, v in b.items()}, said).items():
                    columns.setdefault(name, []).append(column)
                bar.update(begin + len(b["move"]))
        table = {name: np.concatenate(parts) for name, parts in columns.items()}
        games = len(np.unique(positions.game))
        section: dict[str, Any] = {
                   "n": len(positions), "games": games, "split": positions.name, "sha256": positions.sha256,
                   "model": player.card.name, "sha256_weights": player.sha256, "precision": player.precision,
                   "device": describe(player.device),
                   **{name: _by_game(values, positions.game) for name, values in table.items()}}
        results.record(self.out, self.split, section, PROGRAM)
        print(f"top-1 {section['top1']['value']:.4f} of {len(positions):,} positions from {games} games")


def _columns(b: dict[str, np.ndarray], said: Any) -> dict[str, np.ndarray]:
    """One number per position and figure, NaN where a figure does not apply."""
    logits = np.where(b["legal"], said.logits, -np.inf)
    logp = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True)) - logits.max(
        1, keepdims=True)
    played = b["move"] < data.MOVES
    order = np.argsort(-logits, 1)
    near = _nearest(b["planes"], b["legal"])

    def agreed(choice: np.ndarray) -> np.ndarray:
        return np.where(played, choice == b["move"], np.nan)

    policy = b["policy"]
    return {
        "top1": agreed(order[:, 0]),
        "top3": np.where(played, (order[:, :3] == b["move"][:, None]).any(1), np.nan),
        "teacher_top1": (order[:, 0] == policy.argmax(1)).astype(float),
        "teacher_agreement_with_move": agreed(policy.argmax(1)),
        "nearest_to_last_move_top1": agreed(near),
        "random_top1": np.where(played, 1 / b["legal"].sum(1), np.nan),
        "policy_cross_entropy": -np.where(policy > 0, policy * np.where(policy > 0, logp, 0), 0).sum(1),
        "winner": ((said.chance > 0.5) == (b["winrate"] > 0.5)).astype(float),
        "winrate_error": np.abs(said.chance - b["winrate"]),
        "lead_error": np.abs(said.lead - b["lead"]),
        "ownership_error": np.abs(said.ownership - b["ownership"]).mean((1, 2)),
    }


def _nearest(planes: np.ndarray, legal: np.ndarray) -> np.ndarray:
    """The dumb baseline: the legal point nearest to the last move, the first in reading order among equals."""
    side = planes.shape[-1]
    y, x = np.divmod(np.arange(side * side), side)
    last = planes[:, 7].reshape(len(planes), -1)
    at = last.argmax(1)
    distance = (y - y[at][:, None]) ** 2 + (x - x[at][:, None]) ** 2.0
    distance[last.max(1) == 0] = (y - side // 2) ** 2 + (x - side // 2) ** 2  # the first move: nearest to the middle
    return np.where(legal[:, :-1], distance, np.inf).argmin(1)


def _by_game(values: np.ndarray, game: np.ndarray) -> dict[str, float]:
    """The mean and its bootstrap interval over games, for the positions of one game hang together."""
    _, number = np.unique(game, return_inverse=True)
    known = ~np.isnan(values)
    sums = np.bincount(number, np.where(known, values, 0))
    counts = np.bincount(number, known)
    low, high = bootstrap(lambda i: sums[i].sum() / counts[i].sum(), len(sums))
    return {"value": float(sums.sum() / counts.sum()), "low": low, "high": high}


@dataclass(frozen=True)
class Ladder:
    """A match as `python -m apps.go match` plays it, whose outcome becomes a rung of the ladder in results.json."""

    a: Annotated[str, Positional]
    """Ours: a model and its visits, such as default@64."""
    b: Annotated[str, Positional]
    """The other: a GTP command line, a model, or random."""
    games: int = 100
    """Games in all."""
    komi: float = 7.0
    """Points for White."""
    opening: int = 0
    """First moves drawn at random, for players that would play one game over and over."""
    folder: Path | None = None
    """Folder of the games; runs/go/matches/A_vs_B by default."""
    out: Path = RESULTS
    """The file of results."""

    def run(self) -> None:
        rungs = results.read(self.out).get("ladder", {}).get("rungs", {})
        terms = match.Terms(komi=self.komi, opening=self.opening)
        tally = match.match(self.a, self.b, self.games, self.folder or match.folder(self.a, self.b), terms)
        points = tally.wins + tally.draws / 2
        low, high = wilson(points, tally.games)
        weights = self.a.partition("@")[0]
        rungs[f"{self.a} vs {self.b}"] = {
            **asdict(tally), "n": tally.games, "value": points / tally.games, "low": low, "high": high,
            "opening": self.opening, "komi": self.komi, "command": f"python -m {PROGRAM} {shlex.join(sys.argv[1:])}",
            "sha256_weights": predict.load(weights).sha256 if weights != "random" else "", "device": describe("cpu")}
        results.record(self.out, "ladder", {"rungs": rungs}, PROGRAM)
        print(tally)


SETS = {"end_easy": "Test_L3_R1", "middle_easy": "Test_L2_R1", "begin_easy": "Test_L1_R1"}
"""Pons' sets: more than 28 moves played, 15 to 28, at most 14; all are decided within 14 more (Pons 2015)."""


@dataclass(frozen=True)
class ConnectFour:
    """Errors at Connect Four on solved positions: moves that give away a win or a draw, however long it takes."""

    weights: str = "connect4"
    """A published name, a file, a run folder, or hf://owner/repo/file."""
    visits: int = 600
    """Positions that a search looks at."""
    beside: int = 100
    """Positions of each set on which the net without search and dumb players are shown beside it; to prove that an
    early move is wrong can take half a minute, and they make many."""
    folder: str = ""
    """Folder above connect4/; empty takes $WUNDERKAMMER_DATA/go."""
    out: Path = RESULTS
    """The file of results."""

    def run(self) -> None:
        results.read(self.out)
        root = data.folder(self.folder) / "connect4"
        sets = {name: _solved(root / file) for name, file in SETS.items()}
        net = predict.load(self.weights)
        if net.game != "connect4":
            raise ValueError(f"{self.weights} plays {net.game}; pass weights of connect4")
        weights = predict.find(self.weights).read_bytes()
        players = {"net": arena.Entrant("net", self.visits, weights), "raw": arena.Entrant("raw", 1, weights),
                   "rollouts": arena.Entrant("rollouts", self.visits), "random": arena.Entrant("random")}
        section: dict[str, Any] = {"visits": self.visits, "model": net.card.name, "sha256_weights": net.sha256,
                                   "precision": net.precision, "device": describe(net.device), "sets": {}}
        solver = Solver()
        for name, positions in sets.items():
            found: dict[str, Any] = {"n": len(positions)}
            for who, entrant in players.items():
                part = positions if who == "net" else positions[: self.beside]
                chosen = _chosen(entrant, [moves for moves, _ in part])
                wrong = sum(not solver.keeps(moves, outcome, move)
                            for (moves, outcome), move in zip(part, chosen, strict=True))
                low, high = wilson(wrong, len(part))
                found[who] = {"errors": wrong, "n": len(part), "value": wrong / max(1, len(part)), "low": low,
                              "high": high}
            section["sets"][name] = found
            print(f"{name}: " + ", ".join(f"{who} {100 * found[who]['value']:.1f} %" for who in players), flush=True)
        results.record(self.out, "connect4", section, PROGRAM)


def _solved(path: Path) -> list[tuple[list[int], int]]:
    """Positions as columns 0..6 from the first move on, and 1, 0 or -1 for the side to move."""
    if not path.is_file():
        raise ValueError(f"{path} is not there; pass --folder, or set WUNDERKAMMER_DATA to the folder above go/")
    try:
        rows = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
        return [([int(c) - 1 for c in moves], int(np.sign(int(score)))) for moves, score in rows]
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; lines such as '6146 18' are wanted") from error


def _chosen(entrant: arena.Entrant, games: list[list[int]], batch: int = 125) -> list[int]:
    """The columns that a player chooses after some moves."""
    chosen: list[int] = []
    for begin in range(0, len(games), batch):
        part = games[begin : begin + batch]
        boards = Boards(spec("connect4"), len(part))
        for g, moves in enumerate(part):
            for move in moves:
                boards.play(g, move)
        chosen += arena.choose(entrant, boards, np.arange(len(part)), np.random.default_rng(begin)).tolist()
    return chosen


@dataclass(frozen=True)
class Table:
    """Writes the README's table from the file of results."""

    results: Path = RESULTS
    """The file of results."""

    def run(self) -> None:
        from apps.go.report import table

        results.between_marks(ROOM / "README.md", table(results.read(self.results)))


COMMANDS: dict[str, Any] = {"test": Test, "ladder": Ladder, "connect4": ConnectFour, "table": Table}


def main() -> None:
    chosen = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog=f"python -m {PROGRAM}",
                                                  description="Held-out scores and matches of the Go models.")
    chosen.run()


if __name__ == "__main__":
    cli.main(main)
