"""The rules against GNU Go (legality, prisoners, final score) and OpenSpiel (four games), where these are installed.

`POSITIONS` is what a test run compares with GNU Go; set the environment variable GO_POSITIONS for more.
"""

import os
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from apps.go.benson import pass_alive
from apps.go.state import LAST, NO_KO, SIMPLE, SITUATIONAL, SUPERKO, Spec, spec
from tests.apps.go.playing import Playing

POSITIONS = int(os.environ.get("GO_POSITIONS", "2000"))
GNUGO = shutil.which("gnugo") or shutil.which("gnugo", path="/usr/games")
with_gnugo = pytest.mark.skipif(GNUGO is None, reason="GNU Go is not installed (Debian package gnugo)")


def ask(commands: list[str], *options: str) -> list[str]:
    """GNU Go's answers to GTP commands, in order."""
    called = [str(GNUGO), "--mode", "gtp", "--chinese-rules", "--level", "1", "--seed", "1", *options]
    run = subprocess.run(called, input="\n".join([*commands, "quit", ""]), capture_output=True, text=True, check=True)
    answers = run.stdout.strip().split("\n\n")
    assert len(answers) == len(commands) + 1
    assert all(answer.startswith("=") for answer in answers), run.stdout
    return [answer[1:].strip() for answer in answers]


def vertex(spec: Spec, move: int) -> str:
    row, column = divmod(move, spec.columns)
    return "pass" if row == spec.rows else f"{'ABCDEFGHJKLMNOPQRST'[column]}{spec.rows - row}"


def fills_an_eye(game: Playing, move: int) -> bool:
    """Whether all stones beside a point are one's own."""
    rows, columns, me = game.spec.rows, game.spec.columns, game.to_move + 1
    row, column = divmod(move, columns)
    beside = [(row - 1, column), (row, column - 1), (row, column + 1), (row + 1, column)]
    return all(game.board[r * columns + c] == me for r, c in beside if 0 <= r < rows and 0 <= c < columns)


# With suicide, its superko overlooks a repetition by suicide; that pair is left to the reference.
RULES = {
    "no ko, all suicide": (("--no-ko", "--allow-all-suicide"), {"ko": NO_KO, "suicide": True}),
    "simple ko, no suicide": ((), {"ko": SIMPLE, "suicide": False}),
    "positional superko, no suicide": (("--positional-superko",), {"ko": SUPERKO, "suicide": False}),
    "situational superko, no suicide": (("--situational-superko",), {"ko": SITUATIONAL, "suicide": False}),
}


@with_gnugo
@pytest.mark.parametrize("rules", RULES)
def test_legal_moves_and_prisoners_are_gnu_gos(rules):
    options, made = RULES[rules]
    chance = random.Random(rules)
    commands, wanted = [], {}
    while len(wanted) < 3 * POSITIONS // len(RULES):
        size = chance.choice([2, 3, 4, 5, 9, 9, 13])
        game = Playing.go(size, **made)
        commands += [f"boardsize {size}", "clear_board"]
        for ply in range(chance.randint(1, 3 * size * size)):
            if game.over:
                break
            moves = sorted(game.legal())
            colour = "BW"[game.to_move]
            if ply % 7 == 6:
                wanted[len(commands)] = {vertex(game.spec, move) for move in moves[:-1]}
                commands.append(f"all_legal {colour}")
                for side in (0, 1):
                    wanted[len(commands)] = {str(game.state[10 + side])}
                    commands.append(f"captures {'BW'[side]}")
            move = chance.choice(moves[:-1] or moves) if chance.random() < 0.97 else moves[-1]
            commands.append(f"play {colour} {vertex(game.spec, move)}")
            game.play(move)
    answers = ask(commands, *options)
    for number, answer in wanted.items():
        assert set(answers[number].split()) == answer, commands[:number]


@with_gnugo
def test_final_score_is_gnu_gos():
    """Of boards played out until all is pass-alive: of others GNU Go has an opinion, and at times a wrong one."""
    chance = random.Random(3)
    commands, wanted = [], {}
    while len(wanted) < max(POSITIONS // 100, 10):
        size, komi = chance.choice([5, 7, 9]), chance.choice([0.5, 7, -3.5])
        game = Playing.go(size, komi=komi)
        played = [f"boardsize {size}", "clear_board", f"komi {komi}"]
        while not game.over:
            moves = [m for m in sorted(game.legal())[:-1] if not fills_an_eye(game, m)] or [size * size]
            move = chance.choice(moves)
            played.append(f"play {'BW'[game.to_move]} {vertex(game.spec, move)}")
            game.play(move)
        owner = np.empty(size * size, np.int8)
        pass_alive(game.spec, game.state, owner)
        if owner.all():
            assert owner.sum() - komi == game.margin()
            wanted[len(commands) + len(played)] = game.margin()
            commands += [*played, "final_score"]
    answers = ask(commands, "--no-ko", "--allow-all-suicide")
    for number, margin in wanted.items():
        said = answers[number].split("+")
        lead = 0.0 if len(said) == 1 else float(said[1]) * (1 if said[0] == "B" else -1)
        assert lead == margin, commands[:number]


# -- OpenSpiel ---------------------------------------------------------------------------------------------------------


def spiel(text: str):
    return pytest.importorskip("pyspiel", reason="OpenSpiel is not installed").load_game(text)


@pytest.mark.parametrize(("name", "theirs"), [("connect4", "connect_four"), ("othello", "othello"),
                                              ("gomoku", "gomoku")])
def test_games_are_openspiels(name, theirs):
    chance = random.Random(1)
    loaded = spiel(theirs)
    for _ in range(15):
        game, other = Playing(spec(name)), loaded.new_initial_state()
        while not other.is_terminal():
            assert not game.over
            assert game.to_move == other.current_player()
            legal = other.legal_actions()
            assert sorted(game.legal()) == legal
            move = chance.choice(legal)
            game.play(move)
            other.apply_action(move)
        if name == "othello" and not game.over:  # ours ends with two passes, theirs when both must pass
            game.play(64, 64)
        assert game.over
        assert (game.margin() > 0) - (game.margin() < 0) == other.returns()[0]


@pytest.mark.parametrize("size", [3, 5, 9])
def test_go_is_openspiels(size):
    """It has a simple ko and no suicide, and calls a game drawn in which a position comes back: there we stop."""
    chance = random.Random(size)
    loaded = spiel(f"go(board_size={size},komi=6.5,max_game_length={4 * size * size})")
    finished = 0
    for _ in range(20):
        game, other = Playing.go(size, ko=SIMPLE, suicide=False, komi=6.5), loaded.new_initial_state()
        turn = [(size - 1 - row) * size + column for row in range(size) for column in range(size)] + [size * size]
        while not other.is_terminal():
            assert not game.over
            assert sorted(turn[move] for move in game.legal()) == other.legal_actions()
            move = chance.choice(sorted(game.legal()))
            game.play(move)
            other.apply_action(turn[move])
        if game.over:
            finished += 1
            assert other.returns()[0] == (1 if game.margin() > 0 else -1)
    assert finished > 5
    assert game.state[LAST] >= 0


def test_ci_has_gnu_go():
    """Without it these tests would say nothing; wherever GitHub runs them it is installed."""
    if GNUGO is None and os.environ.get("CI"):
        pytest.fail("GNU Go is missing: apt-get install gnugo")
    assert GNUGO is None or Path(GNUGO).is_file()
