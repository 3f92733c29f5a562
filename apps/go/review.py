"""Reviews of whole games from a shell: each gets a folder with an annotated SGF, a page, a picture and the numbers.

The numbers, `review.json`, come last and say which game, model and visits they are of: what is there is not made again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from apps.go import annotated, drawing, poster, reviewed, sgf, sheet, thinking
from apps.go.game import Game
from apps.go.thinking import Thought
from core import files, jobs
from core.log import Progress

NAMES = ("review.sgf", "review.html", "review.png", "review.json")
"""What a game's folder holds; the last one says that it is whole."""
MOST_VISITS, MOST_MISTAKES = 100_000, 50


@dataclass(frozen=True)
class Job:
    """One game and how to review it; small, for it travels to a worker."""

    path: str
    weights: str
    visits: int
    mistakes: int


def review(paths: Iterable[Path], out: Path, *, weights: str = "default", visits: int = 64, mistakes: int = 6,
           workers: int = 1) -> int:
    """Reviews games, each into the folder of its name in `out`.

    Args:
        paths: SGF files, or folders of them.
        mistakes: so many of the biggest ones get a board and an explanation.
        workers: processes, where there is more than one game.

    Returns:
        0 if every game has its review, 1 if some failed (each is named on stderr with the reason).

    Raises:
        ValueError: if there is no game, it cannot be read, or two would share a folder.
    """
    for name, value, most in (("visits", visits, MOST_VISITS), ("mistakes", mistakes, MOST_MISTAKES)):
        if not 1 <= value <= most:
            raise ValueError(f"--{name} is {value}; it must lie between 1 and {most:,}")
    if workers < 1:
        raise ValueError(f"--workers is {workers}; at least 1 is wanted")
    work = [Job(str(path), weights, visits, mistakes) for path in listed(paths)]
    if len(work) == 1:
        _alone(work[0], Path(out) / _key(work[0]))
        return 0
    with Progress(len(work), "games", "game") as bar:
        report = jobs.run(reviewed_files, work, key=_key, write=_write, out=out, done=_done, workers=workers,
                          progress=bar.update)
    print(report, file=sys.stderr)
    return 1 if report.failed else 0


def listed(paths: Iterable[Path]) -> list[Path]:
    """The SGF files that are named, and those in folders that are.

    Raises:
        ValueError: if there is none, or one is not there.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() == ".sgf")
            if not inside:
                raise ValueError(f"{path} holds no .sgf files")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"{path} is not there; pass SGF files, or folders of them")
    if not found:
        raise ValueError("no game was given; pass SGF files, or folders of them")
    return found


def _alone(job: Job, folder: Path) -> None:
    """Reviews one game in this process, its positions counted."""
    game, _ = read(Path(job.path))
    if folder.is_dir() and _done(folder, job):
        print(f"{folder} holds this review already", file=sys.stderr)
    else:
        positions = len(game.moves) + (not game.over)
        print(f"{job.path}: {len(game.moves)} moves, {positions} positions, {job.visits} visits each", file=sys.stderr)
        with Progress(positions, "review", "position") as bar:
            made = reviewed_files(job, bar.update)
        _write(folder, made)
    print(*(folder / name for name in NAMES[:3]), sep="\n")


def read(path: Path) -> tuple[Game, sgf.Node]:
    """A game to be reviewed and its file's tree.

    Raises:
        ValueError: naming the file, if it holds no game of Go, or one without moves.
    """
    try:
        with open(path, "rb") as file:
            root = sgf.read(file.read(sgf.LARGEST + 1))
        game = Game.from_sgf(root)
        if game.name != "go":
            raise ValueError(f"it holds a game of {game.name}; games of Go are reviewed")
        if not game.moves:
            raise ValueError("the game has no moves")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return game, root


def reviewed_files(job: Job, progress: Callable[[int, int], None] = lambda done, total: None) -> dict[str, bytes]:
    """Reviews a game where this process runs; the files by their names, as bytes that travel."""
    path = Path(job.path)
    game, root = read(path)
    thoughts = thinking.look_through(job.weights, game, job.visits, progress)
    some = reviewed.mistakes(game, thoughts, most=job.mistakes)
    model = thinking.name_of(job.weights)
    title = " – ".join(game.info.get(name, "").strip() or colour for name, colour in (("PB", "Black"), ("PW", "White")))
    by = f"Wunderkammer {model}, {job.visits} visits a position"
    size = f"{game.spec.columns}x{game.spec.rows}"
    facts = [game.info.get("EV"), game.info.get("DT"), size, f"komi {game.komi:g}", f"{len(game.moves)} moves",
             game.info.get("RE")]
    about = " · ".join(" ".join(fact.split()) for fact in facts if fact)
    note = (f"{path.name}, reviewed by {by}. Net: the net's first thought. Search: share of the visits. Wins: of who "
            "plays it. A mistake is a move after which the search sees the mover's chances lower than before it.")
    annotated.annotate(root, thoughts, some, by)
    return {"review.sgf": sgf.write(root).encode(),
            "review.html": sheet.page(game, thoughts, some, title, about, note).encode(),
            "review.png": poster.picture(game, thoughts, some, title, about),
            "review.json": (json.dumps(_mark(job) | _numbers(game, thoughts), indent=1) + "\n").encode()}


def _numbers(game: Game, thoughts: list[Thought]) -> dict[str, Any]:
    """What was found, for programs: of each position Black's chance and lead, what was best, and what a move cost."""
    lost = reviewed.losses(game, thoughts)
    return {"positions": [
        {"move": i, "played": game.moves[i].vertex if i < len(game.moves) else None, "best": t.analysis.move,
         "black": round(drawing.black_rate(game, i, t.analysis), 4), "lead": drawing.lead(game.at(i), t.analysis),
         "loss": round(lost[i], 4) if i < len(lost) else None, "pv": t.analysis.pv}
        for i, t in enumerate(thoughts)]}


def _mark(job: Job) -> dict[str, Any]:
    """What a review depends on."""
    return {"game": hashlib.sha256(Path(job.path).read_bytes()).hexdigest(), "weights": _digest(job.weights),
            "visits": job.visits, "mistakes": job.mistakes}


@cache
def _digest(weights: str) -> str:
    from apps.go.predict import find

    return hashlib.sha256(find(weights).read_bytes()).hexdigest()


def _key(job: Job) -> str:
    return Path(job.path).stem


def _done(folder: Path, job: Job) -> bool:
    """Whether a folder holds the job's review; ValueError if it holds what is not ours to replace."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose another --out")
    if others := {file.name for file in folder.glob("[!.]*")} - set(NAMES):
        raise ValueError(f"{folder} holds {min(others)}, which is no part of a review; choose another --out")
    try:
        found = json.loads((folder / NAMES[-1]).read_text("utf-8"))
        return {name: found.get(name) for name in _mark(job)} == _mark(job)
    except (OSError, ValueError, AttributeError):
        return False


def _write(folder: Path, made: dict[str, bytes]) -> None:
    """Writes the files of a review, the one that vouches for the others last."""
    (folder / NAMES[-1]).unlink(missing_ok=True)
    for name in NAMES:
        files.write(folder / name, lambda file, name=name: file.write(made[name]))  # type: ignore[misc]
