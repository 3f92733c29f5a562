"""What files become: positions of labelled games as planes and targets.

The label file holds whole games and, for each of their positions, what a stronger net thinks of it (see
data/go/README.md). A position is replayed from its game's first move when it is asked for, which takes microseconds.
Games, not positions, are held out. Letters: N positions, H and W points, A moves (the last one is the pass).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apps.go import rules
from apps.go.features import NUMBERS, PLANES, encode
from apps.go.jit import jit
from apps.go.state import CONNECT4, GO, OTHELLO, OVER, Spec, spec
from core import corpora
from core.checked import arrays

FILE = "labels_b10tf.npz"
SIZE, MOVES = 9, 82
SAMPLE = corpora.DATA / "go" / "sample"


@dataclass(frozen=True)
class Positions:
    """Labelled positions; index them through `Sample`."""

    moves: np.ndarray
    """(games, longest) int8 or int16: row by row from the top left, 81 the pass, -2 after the end."""
    komi: np.ndarray
    """(games,) float32."""
    game: np.ndarray
    """(N,) int32."""
    ply: np.ndarray
    """(N,) int16: moves played before the position."""
    policy: np.ndarray
    """(N, A) uint16, proportional to the teacher's probabilities."""
    winrate: np.ndarray
    """(N,) of the side to move, a draw counting half."""
    lead: np.ndarray
    """(N,) in points, of the side to move."""
    ownership: np.ndarray
    """(N, points) int8 / 15, +1 the side to move's."""
    name: str = ""
    sha256: str = field(default="", repr=False)
    board: Spec = field(default_factory=lambda: spec("go", SIZE))
    """Game, size and rules; the komi is each game's own."""
    drawn: np.ndarray | None = None
    """(N,) float32: the chance of a draw that is to be learned; None is never."""
    scored: bool = True
    """Whether lead and ownership are to be learned."""

    def __len__(self) -> int:
        return len(self.game)

    def where(self, keep: np.ndarray, name: str) -> Positions:
        """The positions at which a mask (N,) is true."""
        rows = ("game", "ply", "policy", "winrate", "lead", "ownership", "drawn")
        kept = {row: getattr(self, row)[keep] for row in rows if getattr(self, row) is not None}
        return replace(self, name=name, **kept)


def folder(given: str | Path = "") -> Path:
    """The folder of games (see `core.corpora.folder`); ValueError if the one asked for does not exist."""
    return corpora.folder("go", given, lambda home: (home / FILE).is_file())


def split_of(names: np.ndarray) -> np.ndarray:
    """The split of each game, dealt by its file's name: 18 in 20 `train`, one `val`, one `test`."""
    deal = [int(hashlib.sha256(str(name).encode()).hexdigest(), 16) % 20 for name in names]
    return np.array(["val" if d == 0 else "test" if d == 1 else "train" for d in deal])


def read(root: str | Path, split: str) -> Positions:
    """Reads the labelled positions of one split: `train`, `val`, `test`.

    Raises:
        ValueError: if the file is not there or damaged, or there is no such split.
    """
    path = Path(root) / FILE
    if split not in ("train", "val", "test"):
        raise ValueError(f"there is no split {split!r}; use train, val or test")
    if not path.is_file():
        raise ValueError(f"{path} is not there; set WUNDERKAMMER_DATA to the folder above go/, or use `sample`")
    found = arrays(path, {"game_file": ("US", 1), "komi": ("f", 1), "moves": ("i", 2), "game": ("iu", 1),
                          "ply": ("iu", 1), "policy": ("u", 2), "winrate": ("f", 1), "score_lead": ("f", 1),
                          "ownership": ("i", 2)})
    names, komi, moves, game, ply = (found[key] for key in ("game_file", "komi", "moves", "game", "ply"))
    policy, winrate, lead, owner = (found[key] for key in ("policy", "winrate", "score_lead", "ownership"))
    n, games = len(game), len(names)
    fits = (moves.shape[:1] == komi.shape == (games,) and policy.shape == (n, MOVES) and owner.shape == (n, MOVES - 1)
            and ply.shape == winrate.shape == lead.shape == (n,) and n > 0 and 0 <= game.min() <= game.max() < games
            and moves.min() >= -2 and moves.max() < MOVES and 0 <= ply.min() <= ply.max() <= moves.shape[1])
    if not fits:
        raise ValueError(f"{path} is damaged: its arrays do not fit each other; get it anew")
    with open(path, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    everything = Positions(moves, komi, game, ply, policy, winrate, lead, owner, "", digest)
    return everything.where((split_of(names) == split)[game], f"labels_{split}")


def symmetry(board: np.ndarray, element: int) -> np.ndarray:
    """One of the eight symmetries of the square, 0..7, applied to the last two axes."""
    board = np.rot90(board, element % 4, axes=(-2, -1))
    return board[..., ::-1] if element >= 4 else board


@jit
def replay(spec: Spec, moves: np.ndarray, ply: int, mask: np.ndarray) -> np.ndarray:
    """The state after `ply` moves of a game and the mask of its legal moves."""
    s = rules.new(spec)
    history = np.empty(ply + 1, np.uint64)
    history[0] = rules.key(spec, s)
    for i in range(ply):
        rules.play(spec, s, moves[i])
        history[i + 1] = rules.key(spec, s)
    s[OVER] = 0  # two passes in the middle of a recorded game do not end it
    rules.legal(spec, s, history, ply + 1, mask)
    return s


@jit
def position(spec: Spec, moves: np.ndarray, ply: int, mask: np.ndarray, planes: np.ndarray,
             numbers: np.ndarray) -> None:
    """Fills legal moves, planes and numbers of the position after `ply` moves of a game."""
    s = replay(spec, moves, ply, mask)
    encode(spec, s, mask, planes, numbers)


@dataclass(frozen=True)
class Sample:
    """Makes one training sample, turned and mirrored at random; picklable, for loader workers.

    A sample is a dict: planes (F, H, W) and numbers (G,) float32, legal (A,) bool, policy (A,) the teacher's, move: the
    one played (A where none was), winrate, drawn, lead, ownership (H, W) in -1..1, scored: 1 if these two count.
    """

    positions: Positions
    augment: bool = True

    def __call__(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        p = self.positions
        game, ply = int(p.game[index]), int(p.ply[index])
        board = p.board._replace(komi=float(p.komi[game]))
        mask = np.empty(board.actions, np.int8)
        planes = np.empty((PLANES, board.rows, board.columns), np.float32)
        numbers = np.empty(NUMBERS, np.float32)
        position(board, p.moves[game], ply, mask, planes, numbers)
        ways = turns(board.game, board.rows, board.columns)
        element = list(ways)[int(rng.integers(len(ways)))] if self.augment else 0
        points, order = ways[element]
        policy = p.policy[index][order].astype(np.float32)
        played = int(p.moves[game, ply]) if ply < p.moves.shape[1] else -2
        move = int(np.flatnonzero(order == played)[0]) if played >= 0 and p.drawn is None else board.actions
        return {
            "planes": torch.from_numpy(symmetry(planes, element).copy()), "numbers": torch.from_numpy(numbers),
            "legal": torch.from_numpy(mask[order].astype(np.bool_)),
            "policy": torch.from_numpy(policy / max(policy.sum(), 1.0)), "move": move,
            "winrate": np.float32(p.winrate[index]), "lead": np.float32(p.lead[index]),
            "ownership": torch.from_numpy(
                p.ownership[index][points].reshape(board.rows, board.columns).astype(np.float32) / 15),
            "drawn": np.float32(0 if p.drawn is None else p.drawn[index]), "scored": np.float32(p.scored),
        }


@cache
def turns(game: int, rows: int, columns: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The symmetries of a game's board; for each, which old point and which old move stand at each new one."""
    points = np.arange(rows * columns).reshape(rows, columns)
    ways = (0, 4) if game == CONNECT4 else range(8) if rows == columns else (0, 2, 4, 6)
    table = {}
    for element in ways:
        order = symmetry(points, element).ravel()
        passes = [rows * columns] if game in (GO, OTHELLO) else []
        columns_turned = symmetry(points[:1], element).ravel()
        table[element] = order, columns_turned if game == CONNECT4 else np.append(order, passes).astype(np.int64)
    return table


def to_tensors(positions: Positions, chosen: range) -> dict[str, Tensor]:
    """The positions of a range as one batch, as they are."""
    sample, rng = Sample(positions, augment=False), np.random.default_rng(0)
    return torch.utils.data.default_collate([sample(i, rng) for i in chosen])
