"""Go from a shell: `python -m apps.go gtp --visits 64`, or `match default "gnugo --mode gtp" --games 100`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from core import cli


@dataclass(frozen=True)
class Gtp:
    """Plays behind GTP version 2, for Sabaki, GoGui, CGOS and other engines."""

    visits: int = 64
    """Searched before each move; time settings may end a search earlier."""
    size: int = 9
    """Points along an edge, until `boardsize` says otherwise."""
    komi: float = 7.0
    """Points for White, until `komi` says otherwise."""
    rules: str = "tromp-taylor"
    """tromp-taylor, chinese, aga, ...: area is counted under all of them."""
    weights: str = "default"
    """A published name, a .safetensors file, a run folder, hf://owner/repo/file, or random."""
    seed: int = 0
    """The same moves come from the same seed."""
    resign: float = 0.03
    """Win rate under which it resigns after move 30; 0 never."""


@dataclass(frozen=True)
class Match:
    """Plays two players against each other, colours alternating, and prints the win rate and Elo of the first."""

    a: Annotated[str, tyro.conf.Positional]
    """A GTP command line, a model of ours ("default", "default@64" for 64 visits, a file), or random."""
    b: Annotated[str, tyro.conf.Positional]
    """The other one."""
    games: int = 100
    """Games in all; those that the folder holds already are not played again."""
    out: Path | None = None
    """Folder for the games as SGF; runs/go/matches/A_vs_B by default."""
    size: int = 9
    """Points along an edge."""
    komi: float = 7.0
    """Points for White."""
    rules: str = "chinese-kgs"
    """What the referee goes by: by default positional superko and no suicide, which every engine takes."""
    opening: int = 0
    """First moves drawn at random, the same for two games with colours exchanged."""
    seed: int = 0
    """Of openings and our own players."""
    timeout: float = 60.0
    """Seconds that an engine may take for one answer."""


@dataclass(frozen=True)
class Review:
    """Reviews games: an annotated SGF, a page and a picture of the win rate and the biggest mistakes, and why."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """SGF files, or folders of them."""
    visits: int = 64
    """Searched in each position."""
    out: Path = Path("runs") / "go" / "reviews"
    """Gets a folder for each game, named after its file."""
    mistakes: int = 6
    """So many of the biggest are shown and explained."""
    weights: str = "default"
    """A published name, a .safetensors file, a run folder, or hf://owner/repo/file."""
    workers: int = 1
    """Games that are reviewed at once, each in a process."""


@dataclass(frozen=True)
class Export:
    """Writes the net as ONNX, for other runtimes; needs the extra `onnx`."""

    file: Annotated[Path, tyro.conf.Positional] = Path("model.onnx")
    """The file to write."""
    weights: str = "default"
    """A published name, a .safetensors file, a run folder, or hf://owner/repo/file."""


Command = (Annotated[Gtp, tyro.conf.subcommand("gtp")] | Annotated[Match, tyro.conf.subcommand("match")]
           | Annotated[Review, tyro.conf.subcommand("review")] | Annotated[Export, tyro.conf.subcommand("export")])


def main() -> None:
    command: Gtp | Match | Review | Export = tyro.cli(
        Command, prog="python -m apps.go", description=__doc__)  # type: ignore[arg-type]
    if isinstance(command, Gtp):
        speak(command)
    elif isinstance(command, Match):
        compete(command)
    elif isinstance(command, Review):
        from apps.go.review import review

        sys.exit(review(command.files, command.out, weights=command.weights, visits=command.visits,
                        mistakes=command.mistakes, workers=command.workers))
    else:
        from apps.go.export import export

        print(export(command.weights, command.file))


def speak(options: Gtp) -> None:
    """Answers GTP on stdin and stdout."""
    from apps.go import gtp
    from apps.go.game import Game
    from apps.go.player import loaded

    if options.visits < 1:
        raise ValueError(f"--visits is {options.visits}; at least 1 is wanted")
    Game("go", options.size, options.komi, options.rules)  # what cannot be played is refused before the net is loaded
    engine = gtp.Engine(loaded(options.weights), size=options.size, komi=options.komi, rules=options.rules,
                        visits=options.visits, seed=options.seed, resign_below=options.resign)
    engine.player.analyse(engine.game, visits=2)  # compiles and measures before a clock runs
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
    gtp.serve(engine, sys.stdin, sys.stdout)


def compete(options: Match) -> None:
    """Plays a match and prints its tally."""
    from apps.go import match

    out = options.out or match.folder(options.a, options.b)
    terms = match.Terms(options.size, options.komi, options.rules, options.opening, options.seed)
    print(match.match(options.a, options.b, options.games, out, terms, timeout=options.timeout))


if __name__ == "__main__":
    cli.main(main)
