"""Random 9x9 Go with the full list of legal moves before each, ours beside OpenSpiel's from Python.

`python -m benchmarks.go_rules`: both play whole games in one process on one thread, in turn for some tenths of a
second, and what counts is the median ratio of the pairs, in processor time. Ours keeps positional superko and allows
suicide, which is more work than OpenSpiel's simple ko; it plays inside one compiled call, as search and self-play do.
`boards` is the same through `apps.go.environment.Boards`, stepped from Python, 1,024 boards at once with their planes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from apps.go import rules
from apps.go.environment import Boards
from apps.go.jit import jit
from apps.go.state import OVER, Spec, spec
from core.files import publishing
from core.runtime import describe

RESULT = Path(__file__).parent / "results" / "go_rules.json"


@jit
def choose(mask: np.ndarray, legal: int) -> int:
    """A random legal move."""
    r, move = np.random.randint(legal), np.uint64(0)
    while True:
        r -= mask[move]
        if r < 0:
            return int(move)
        move += np.uint64(1)


@jit
def ours(spec: Spec, games: int, seed: int) -> int:
    """Plays games to their two passes; returns the number of moves."""
    np.random.seed(seed)
    history, mask, moves = np.empty(10_000, np.uint64), np.zeros(spec.actions, np.int8), 0
    for _ in range(games):
        s, count = rules.new(spec), 1
        history[0] = rules.key(spec, s)
        while not s[OVER]:
            rules.play(spec, s, choose(mask, rules.legal(spec, s, history, count, mask)))
            history[count] = rules.key(spec, s)
            count += 1
            moves += 1
    return moves


@jit
def choices(masks: np.ndarray, actions: np.ndarray) -> None:
    """A random legal move for each board, 0 where there is none."""
    for i in range(len(masks)):
        legal = masks[i].sum()
        actions[i] = choose(masks[i], legal) if legal else 0


def openspiel(games: int, seed: int) -> int:
    import pyspiel

    chance, moves = random.Random(seed), 0
    game = pyspiel.load_game("go(board_size=9,komi=7.0,max_game_length=10000)")
    for _ in range(games):
        state = game.new_initial_state()
        while not state.is_terminal():
            state.apply_action(chance.choice(state.legal_actions()))
            moves += 1
    return moves


def rate(play: Callable[[], int]) -> float:
    """Moves per second of processor time."""
    begin = time.process_time()
    moves = play()
    return moves / (time.process_time() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15, help="blocks of games that each plays")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    made = spec("go", 9)
    boards = Boards(1024, "go", 9)
    actions = np.zeros(1024, np.int64)
    seen, _ = boards.reset()

    def many() -> int:
        nonlocal seen
        for _ in range(100):
            choices(seen["action_mask"], actions)
            seen = boards.step(actions)[0]
        return 100 * len(actions)

    ours(made, 1, 0)
    many()
    measured = []
    for i in range(options.pairs):
        measured.append((rate(partial(ours, made, 2000, i)), rate(partial(openspiel, 500, i)), rate(many)))
    rates = np.array(measured)
    ratio, (fast, slow, stepped) = rates[:, 0] / rates[:, 1], np.median(rates, 0)
    low, middle, high = np.quantile(ratio, [0.25, 0.5, 0.75])
    result = {
        "date": datetime.date.today().isoformat(), "command": "python -m benchmarks.go_rules",
        "device": describe("cpu"), "threads": 1, "pairs": options.pairs, "open_spiel": version("open_spiel"),
        "numba": version("numba"), "moves_per_second": round(fast), "moves_per_second_openspiel": round(slow),
        "moves_per_second_boards": round(stepped),
        "ratio_boards": round(float(np.median(rates[:, 2] / rates[:, 1])), 2),
        "ratio": {"quartile": round(low, 2), "median": round(middle, 2), "third_quartile": round(high, 2)},
    }  # fmt: skip
    print(json.dumps(result))
    with publishing(options.out) as part:
        part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    from core.cli import main as guard

    guard(main)
