"""Makes the small sample of labelled games: `python -m data.go.make_sample`.

Two players who play at random, but not into their own eyes, play 9x9 Go to its end; a "teacher" who knows how each game
ended labels every position. The format is that of the real label file; what can be learned is little.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from apps.go import vertex
from apps.go.game import Game
from apps.go.player import Random
from core.files import write

SAMPLE = Path(__file__).parent / "sample"
FILE = "labels_b10tf.npz"
GAMES, SIZE, LONGEST = 60, 9, 200


def make(games: int = GAMES, seed: int = 0) -> dict[str, np.ndarray]:
    """Plays and labels so many games; the arrays of a label file."""
    player, rows = Random(), []
    moves = np.full((games, LONGEST), -2, np.int8)
    results = []
    for number in range(games):
        game = Game("go", SIZE, 7.0)
        masks = []
        while not game.over and len(game.moves) < LONGEST:
            found = player.analyse(game, seed=1000 * seed + number)
            masks.append(found.policy)
            game.play(found.move)
        margin = game.score()
        owner = game.board.astype(np.int8)
        results.append(f"B+{margin:g}" if margin > 0 else f"W+{-margin:g}" if margin < 0 else "0")
        for ply, (move, mask) in enumerate(zip(game.moves, masks, strict=True)):
            side = 1 if ply % 2 == 0 else -1
            played = vertex.parse(game.spec, move.vertex)
            moves[number, ply] = played
            policy = mask * 0.5
            policy[played] += 0.5
            sure = ply / len(masks)  # the end is known to the teacher the better the nearer it is
            rows.append((number, ply, np.round(policy * 1023), 0.5 + 0.5 * sure * np.sign(margin) * side,
                         margin * side * sure, np.round(15 * owner.ravel() * side * sure)))
    game_, ply_, policy_, winrate, lead, ownership = zip(*rows, strict=True)
    return {
        "game_file": np.array([f"sample_{i:03d}.sgf" for i in range(games)]),
        "komi": np.full(games, 7, np.float32), "result": np.array(results),
        "first_mover_is_black": np.ones(games, bool), "moves": moves,
        "game": np.array(game_, np.int32), "ply": np.array(ply_, np.int16), "policy": np.array(policy_, np.uint16),
        "winrate": np.array(winrate, np.float16), "score_lead": np.array(lead, np.float16),
        "ownership": np.array(ownership, np.int8),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SAMPLE)
    out = parser.parse_args().out
    arrays = make()
    write(out / FILE, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
    print(f"{out / FILE}: {len(arrays['game'])} positions of {GAMES} games")


if __name__ == "__main__":
    main()
