"""The games of self-play as files and as samples: one npz for each piece, and a window of them to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apps.go.data import Positions, Sample
from apps.go.state import GO, Spec
from core.checked import arrays

WANTED = {"moves": ("i", 2), "komi": ("f", 1), "margin": ("f", 1), "owner": ("i", 2), "game": ("i", 1),
          "ply": ("i", 1), "policy": ("u", 2), "value": ("f", 1), "simulations": ("i", 0), "digest": ("U", 0)}


def write(path: Path, found: dict[str, Any]) -> None:
    """Writes what a piece of work gave (see `selfplay.play` and `arena.fight`).

    Raises:
        OSError: in one sentence, if the disk is full.
    """
    try:
        with open(path, "wb") as file:
            np.savez_compressed(file, **found)
    except OSError as error:
        raise type(error)(f"{path.name} cannot be written: {error.strerror or error}; free space, and the same command "
                          "goes on from the games that are done") from error


def holds(path: Path, digest: str) -> bool:
    """Whether a file is that of a piece of work; a damaged one is not."""
    try:
        return bool(arrays(path, {"digest": ("U", 0)})["digest"] == digest)
    except ValueError:
        return False


def window(files: list[Path], board: Spec, search: float) -> Positions:
    """The searched positions of some files, with the ends of their games as targets.

    Args:
        search: share of what the search thought in the target of the value; the rest is how the game ended.
    """
    found = [arrays(path, WANTED) for path in files]
    begins = np.cumsum([0] + [len(f["komi"]) for f in found])

    def joined(name: str) -> np.ndarray:
        return np.concatenate([f[name] for f in found])

    game = np.concatenate([f["game"] + begin for f, begin in zip(found, begins, strict=False)])
    ply, value = joined("ply"), joined("value")
    margin = joined("margin")[game] * np.where(ply % 2, -1, 1)
    result = (1 + np.sign(margin)) / 2
    scored = board.game == GO
    owner = joined("owner")[game] * np.where(ply % 2, -15, 15)[:, None].astype(np.int8)
    return Positions(
        joined("moves"), joined("komi"), game, ply, joined("policy"),
        ((1 - search) * result + search * value).astype(np.float32), margin if scored else np.zeros_like(margin),
        owner.astype(np.int8), f"{len(files)} files of games", "", board,
        ((1 - search) * (margin == 0)).astype(np.float32), scored)


@dataclass(frozen=True)
class Mixture:
    """Samples of one's own games, a share of them replaced by some of an archive; picklable."""

    own: Sample
    archive: Sample | None
    share: float

    def __call__(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        if self.archive is not None and rng.random() < self.share:
            return self.archive(int(rng.integers(len(self.archive.positions))), rng)
        return self.own(index, rng)
