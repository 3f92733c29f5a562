"""The solver of Connect Four against plain minimax, and errors as they are counted."""

import numpy as np
import pytest

from apps.go import evaluate
from apps.go.boards import Boards
from apps.go.solved import Solver, drop, position
from apps.go.state import OVER, PLIES, WINNER, spec

FOUR = spec("connect4")


def minimax(boards, known):
    """1, 0 or -1 for the side to move, the obvious way, by the rules of the room."""
    s = boards.states[0]
    key = s.tobytes()
    if key not in known:
        if s[OVER]:
            return 0 if s[WINNER] == 2 else -1
        values = []
        for move in boards.legal(0):
            after = Boards(FOUR, 1)
            for played in [*boards.moves[0, : s[PLIES]], move]:
                after.play(0, int(played))
            values.append(-minimax(after, known))
        known[key] = max(values)
    return known[key]


def drawn(plies, seed):
    boards = Boards(FOUR, 1)
    boards.scatter(0, plies, np.random.default_rng(seed))
    return boards, boards.moves[0, : boards.states[0, PLIES]].tolist()


def test_the_solver_says_what_minimax_says_and_which_moves_keep_it():
    solver, seen, known = Solver(), set(), {}
    for seed in range(120):
        boards, moves = drawn(37, seed)
        if len(moves) < 36:
            continue
        outcome = minimax(boards, known)
        assert solver.outcome(moves) == outcome
        seen.add(outcome)
        for move in boards.legal(0):
            after = Boards(FOUR, 1)
            for played in [*moves, move]:
                after.play(0, int(played))
            assert solver.keeps(moves, outcome, int(move)) == (-minimax(after, known) >= outcome)
    assert seen == {-1, 0, 1}


def test_what_is_no_open_game_is_refused():
    for moves in ([7], [0] * 7, [0, 1, 0, 1, 0, 1, 0]):
        with pytest.raises(ValueError, match="no game of Connect Four that is still open"):
            position(moves)
    assert drop(0, 6) == 1 << 42


def test_files_of_solved_positions(tmp_path):
    path = tmp_path / "Test"
    path.write_text("6146 18\n12 -3\n1 0\n")
    assert evaluate._solved(path) == [([5, 0, 3, 5], 1), ([0, 1], -1), ([0], 0)]
    path.write_text("6146\n")
    with pytest.raises(ValueError, match="damaged"):
        evaluate._solved(path)
    with pytest.raises(ValueError, match="is not there"):
        evaluate._solved(tmp_path / "none")


@pytest.mark.real_data
def test_the_solver_agrees_with_the_scores_of_ponss_end_games(real_data_root):
    solver = Solver()
    for moves, outcome in evaluate._solved(real_data_root / "go" / "connect4" / "Test_L3_R1")[:300]:
        assert solver.outcome(moves) == outcome
