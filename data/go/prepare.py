"""Gets 9x9 games and makes the label file of them: `python -m data.go.prepare --engine "katago gtp ..."`.

Without --games the public archive is fetched (see README.md). Each game is a piece of its own, `labels/<hash>.npz`: a
run that was stopped goes on with the games that are left. Then all are packed into one file, whole or not at all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apps.go import vertex
from apps.go.game import BLACK, Game
from core import jobs
from core.fetch import fetch
from core.files import write
from core.log import Progress
from data.go.judge import Engine, Judge, Net

FILE = "labels_b10tf.npz"
"""What the room looks for, named after its first teacher; `teacher` in it says whose the labels are."""
COMMIT = "01e6d4addfc6a601a02b1cff7e628d8116f7e4c9"
URL = f"https://codeload.github.com/michaelnny/alpha_zero/tar.gz/{COMMIT}"
INSIDE = "games/pro_games/go/9x9/"
"""Where the games lie in that archive."""
GAMES, DIGEST = 10_268, "4f105ef9277d9ad71f05143487f6b2666684a0bfb276901c6c9c00f55578b56d"
"""How many of them the shipped model's labels were made from, and the digest of those (`digest`)."""
SIZE, LONGEST, LARGEST = 9, 400, 1_000_000
"""Points along an edge, moves of a game, bytes of a file."""


@dataclass(frozen=True)
class Job:
    """One game and who judges it; small, for it travels to a worker."""

    name: str
    text: bytes
    weights: str
    engine: str
    visits: int

    @property
    def made(self) -> str:
        """All that its labels depend on."""
        said = asdict(self) | {"text": hashlib.sha256(self.text).hexdigest()}
        return json.dumps(said, sort_keys=True)


def read_games(source: Path) -> dict[str, bytes]:
    """The SGF files of a folder or of a .tar.gz archive, by name; of the public archive only the 9x9 ones.

    Raises:
        ValueError: if there are none, or the archive is damaged.
    """
    found: dict[str, bytes] = {}
    if source.is_dir():
        paths = sorted(p for p in source.rglob("*") if p.suffix.lower() == ".sgf" and p.stat().st_size <= LARGEST)
        for path in paths:
            found.setdefault(path.name, path.read_bytes())
    elif source.is_file():
        try:
            with tarfile.open(source) as archive:
                files = [m for m in archive if m.isfile() and m.name.lower().endswith(".sgf") and m.size <= LARGEST]
                chosen = [m for m in files if INSIDE in m.name] or files
                for member in chosen:
                    opened = archive.extractfile(member)
                    assert opened is not None
                    found.setdefault(member.name.rpartition("/")[2], opened.read())
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{source} cannot be read as a .tar.gz archive ({error}); get it anew") from error
    else:
        raise ValueError(f"{source} is not there; pass a folder of SGF files or a .tar.gz of them")
    if not found:
        raise ValueError(f"{source} holds no .sgf files")
    return found


def digest(games: dict[str, bytes]) -> str:
    """SHA-256 over the names of games and their own SHA-256."""
    rows = sorted(f"{name} {hashlib.sha256(text).hexdigest()}\n" for name, text in games.items())
    return hashlib.sha256("".join(rows).encode()).hexdigest()


def usable(text: bytes) -> Game:
    """Reads a game that the label file can hold, under Tromp-Taylor rules.

    Raises:
        ValueError: in a few words, the same for all games with the same fault.
    """
    try:
        game = Game.from_sgf(text)
    except ValueError as error:
        raise ValueError("that cannot be read") from error
    if game.name != "go" or (game.spec.rows, game.spec.columns) != (SIZE, SIZE):
        raise ValueError("of another game or size")
    if game.setups or game.handicap:
        raise ValueError("with stones set up")
    if any(move.colour != (BLACK if i % 2 == 0 else -BLACK) for i, move in enumerate(game.moves)):
        raise ValueError("with colours that do not alternate from Black")
    if not 1 <= len(game.moves) <= LONGEST:
        raise ValueError(f"without moves, or with over {LONGEST}")
    played = Game("go", SIZE, game.komi)
    played.info = game.info
    try:
        for move in game.moves:
            played.resume()  # two passes in the middle of a record have not ended it
            played.play(move.vertex)
    except ValueError as error:
        raise ValueError("with an illegal move") from error
    return played


_judges: dict[tuple[str, str, int], Judge] = {}


def label(job: Job) -> dict[str, np.ndarray]:
    """Judges every position of a game before its last move, where this process runs."""
    key = (job.weights, job.engine, job.visits)
    if key not in _judges:
        _judges[key] = Engine(job.engine, job.visits) if job.engine else Net(job.weights, job.visits)
    game, rows = usable(job.text), []
    try:
        for ply in range(len(game.moves)):
            position = game.at(ply)
            position.resume()
            rows.append(_judges[key].judge(position))
    except ValueError:
        _judges.pop(key).close()  # an engine that has failed once is started anew
        raise
    policy, winrate, lead, ownership = zip(*rows, strict=True)
    moves = [vertex.parse(game.spec, move.vertex) for move in game.moves]
    return {"made": np.array(job.made), "game_file": np.array(job.name), "komi": np.array(game.komi, np.float32),
            "result": np.array(game.info.get("RE", "")), "moves": np.array(moves, np.int8), "policy": np.stack(policy),
            "winrate": np.array(winrate, np.float16), "score_lead": np.array(lead, np.float16),
            "ownership": np.stack(ownership)}


def prepare(games: dict[str, bytes], out: Path, *, weights: str = "default", engine: str = "", visits: int = 1,
            workers: int = 1) -> tuple[Path, Counter[str]]:
    """Labels games and packs them into `out/labels_b10tf.npz`.

    Returns:
        The file, and how many games were left out, by reason.

    Raises:
        ValueError: if no game is left, there is no such engine, or the judge failed; what is labelled is kept.
    """
    left_out: Counter[str] = Counter()
    work = []
    for name, text in sorted(games.items()):
        try:
            usable(text)
            work.append(Job(name, text, weights, engine, visits))
        except ValueError as error:
            left_out[str(error)] += 1
    if not work:
        raise ValueError(f"none of {len(games)} games can be used: {said(left_out)}")
    if engine and not all(_done(out / "labels" / _key(job), job) for job in work):
        Engine(engine, visits).close()  # one that is none is refused once, and not for each game
    with Progress(len(work), "labels", "game") as bar:
        report = jobs.run(label, work, key=_key, write=_write, out=out / "labels", done=_done, workers=workers,
                          progress=bar.update)
    if report.failed:
        trace = report.failed[0][1].strip().splitlines()[-1]
        raise ValueError(f"{len(report.failed)} of {len(work)} games could not be labelled, the first because of "
                         f"{trace}; the others are kept, and the same command goes on with these")
    packed = pack(out / "labels" / _key(job) for job in work)
    packed["teacher"] = np.array(engine or f"{weights}, {visits} visits")
    write(out / FILE, lambda file: np.savez_compressed(file, allow_pickle=False, **packed))
    return out / FILE, left_out


def pack(pieces: Iterable[Path]) -> dict[str, np.ndarray]:
    """The arrays of a label file from those of its games."""
    rows: dict[str, list[Any]] = {}
    for path in pieces:
        with np.load(path, allow_pickle=False) as found:
            for name in found.files:
                rows.setdefault(name, []).append(found[name])
    lengths = [len(moves) for moves in rows["moves"]]
    moves = np.full((len(lengths), max(lengths)), -2, np.int8)
    for i, played in enumerate(rows["moves"]):
        moves[i, : len(played)] = played
    whole = {name: np.array(rows[name]) for name in ("game_file", "komi", "result")}
    joined = {name: np.concatenate(rows[name]) for name in ("policy", "winrate", "score_lead", "ownership")}
    return {**whole, "first_mover_is_black": np.ones(len(lengths), bool), "moves": moves,
            "game": np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
            "ply": np.concatenate([np.arange(n, dtype=np.int16) for n in lengths]), **joined}


def said(left_out: Counter[str]) -> str:
    """What was left out, in words."""
    return "; ".join(f"{number} {why}" for why, number in left_out.most_common())


def _key(job: Job) -> str:
    return hashlib.sha256(job.name.encode()).hexdigest()[:20] + ".npz"  # a game's name may be none for a file here


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]


def _done(path: Path, job: Job) -> bool:
    try:
        with np.load(path, allow_pickle=False) as found:
            return str(found["made"]) == job.made
    except (OSError, ValueError, KeyError, EOFError, zlib.error):
        return False


def get(out: Path, url: str = URL) -> dict[str, bytes]:
    """The games of the public archive, fetched once; says so where they are not those of the shipped labels."""
    with Progress(0, "games", " MiB") as bar:
        archive = fetch(url, out / f"games-{COMMIT[:7]}.tar.gz",
                        progress=lambda done, total: bar.update(done >> 20, total >> 20))
    games = read_games(archive)
    if (len(games), digest(games)) != (GAMES, DIGEST):
        print(f"note: the archive holds {len(games):,} games that are not exactly the {GAMES:,} which the shipped "
              "labels were made from; compare no figures with theirs", file=sys.stderr)
    return games


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m data.go.prepare", description="Get 9x9 games and label them.")
    raw = Path(__file__).parent / "raw"
    parser.add_argument("--games", type=Path, help="folder or .tar.gz of SGF files; fetches nothing then")
    parser.add_argument("--out", type=Path, default=raw, help="folder to write into (default: data/go/raw)")
    parser.add_argument("--engine", default="", help='judges: a GTP command line, such as "katago gtp -model m.bin.gz"')
    parser.add_argument("--weights", default="default", help="judges without --engine: a model of ours")
    parser.add_argument("--visits", type=int, default=1, help="of each position; 1 is the net alone")
    parser.add_argument("--limit", type=int, help="so many games at most, drawn by the hash of their names")
    parser.add_argument("--workers", type=int, default=1, help="games that are judged at once, each in a process")
    parser.add_argument("--url", default=URL, help="where the public archive lies")
    a = parser.parse_args()
    for name in ("visits", "workers", "limit"):
        if (value := getattr(a, name)) is not None and value < 1:
            raise ValueError(f"--{name} is {value}; at least 1 is wanted")
    games = read_games(a.games) if a.games else get(a.out, a.url)
    if a.limit:
        order = sorted(games, key=lambda name: hashlib.sha256(re.sub(r"\s", "", name).encode()).hexdigest())
        games = {name: games[name] for name in order[: a.limit]}
    path, left_out = prepare(games, a.out, weights=a.weights, engine=a.engine, visits=a.visits, workers=a.workers)
    used = len(games) - left_out.total()
    print(f"{path}: {used:,} games" + (f", left out: {said(left_out)}" if left_out else ""))


if __name__ == "__main__":
    from core.cli import main as run

    run(main)
