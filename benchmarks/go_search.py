"""What tree search costs beside its net, on 9x9 Go and one CPU thread, in processor time.

`python -m benchmarks.go_search`: 32 games, each some random moves old, are searched together, 8 leaves of each at a
time. In every round the shipped net judges the very batches that a search has asked for once more alone: `share` is the
time which that takes over the search's. `without_net` are simulations per second where every position is judged the
same at no cost; other positions are reached than with the net, and the tree is as flat as it can be.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from pathlib import Path

import numpy as np

from apps.go import predict, rules
from apps.go.search import Evaluator, Judged, Search
from apps.go.state import Spec, spec
from core.files import publishing
from core.runtime import Hardware, describe, start

RESULT = Path(__file__).parent / "results" / "go_search.json"
GAMES, MOVES = 32, 12


def openings(made: Spec, seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The states and histories of games that began with random moves."""
    rng, states, histories = np.random.default_rng(seed), [], []
    for _ in range(GAMES):
        s, keys = rules.new(made), np.zeros(MOVES + 1, np.uint64)
        keys[0] = rules.key(made, s)
        mask = np.zeros(made.actions, np.int8)
        for ply in range(1, MOVES + 1):
            rules.legal(made, s, keys, ply, mask)
            rules.play(made, s, int(rng.choice(np.flatnonzero(mask[:-1]))))
            keys[ply] = rules.key(made, s)
        states.append(s)
        histories.append(keys)
    return np.stack(states), histories


def grow(made: Spec, evaluate: Evaluator, simulations: int, seed: int) -> float:
    """Searches all games; returns the seconds."""
    search = Search(made, *openings(made, seed), evaluate, simulations + 1)
    search.open()
    begin = time.process_time()
    search.run(simulations)
    return time.process_time() - begin


def constant(made: Spec) -> Evaluator:
    """An evaluator that always says the same."""
    most = GAMES * 64
    said = Judged(np.zeros((most, made.actions), np.float32), np.full(most, 0.5, np.float32),
                  np.zeros(most, np.float32), np.zeros((most, made.rows, made.columns), np.float32))  # fmt: skip
    return lambda planes, numbers: Judged(*(values[: len(planes)] for values in said))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--simulations", type=int, default=48, help="of each game with the net")
    parser.add_argument("--more", type=int, default=1600, help="of each game without one")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    made = spec("go", 9)
    batches: list[tuple[np.ndarray, np.ndarray]] = []
    measured = []
    with start(Hardware(device="cpu", threads=1)):
        player = predict.load(device="cpu")

        def kept(planes: np.ndarray, numbers: np.ndarray) -> Judged:
            batches.append((planes.copy(), numbers.copy()))
            return player.evaluate(planes, numbers)

        for i in range(options.rounds + 1):
            batches.clear()
            searched = grow(made, kept, options.simulations, i)
            begin = time.process_time()
            for planes, numbers in batches[1:]:  # the first are the roots
                player.evaluate(planes, numbers)
            alone = time.process_time() - begin
            positions = sum(len(planes) for planes, _ in batches[1:])
            measured.append((alone / searched, GAMES * options.simulations / searched, positions / alone))
        bare = [GAMES * options.more / grow(made, constant(made), options.more, i) for i in range(options.rounds + 1)]
    rates = np.array(measured[1:])  # the first round compiles
    low, middle, high = np.quantile(rates[:, 0], [0.25, 0.5, 0.75])
    with_net, alone = np.median(rates[:, 1:], 0)
    result = {
        "date": datetime.date.today().isoformat(), "command": "python -m benchmarks.go_search",
        "device": describe("cpu"), "threads": 1, "rounds": options.rounds, "games": GAMES, "leaves": 8,
        "precision": player.precision, "simulations_per_second": round(with_net),
        "positions_per_second_net_alone": round(alone),
        "share": {"quartile": round(low, 3), "median": round(middle, 3), "third_quartile": round(high, 3)},
        "simulations_per_second_without_net": round(np.median(bare[1:])),
    }  # fmt: skip
    print(json.dumps(result))
    with publishing(options.out) as part:
        part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    from core.cli import main as guard

    guard(main)
