"""The contract that any environment keeps, and what is ours: masks, illegal moves, opponents, many boards at once."""

import doctest
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from apps.go import environment
from apps.go.state import NO_KO

NAMES = ["Go", "ConnectFour", "Othello", "Gomoku"]


def made(name: str, **options) -> gymnasium.Env:
    return gymnasium.make(f"wunderkammer/{name}-v0", **options)


def chosen(rng: np.random.Generator, mask: np.ndarray) -> int:
    return int(rng.choice(np.flatnonzero(mask)))


@pytest.mark.parametrize("opponent", [None, "random"])
@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_finds_nothing_to_complain_of(name, opponent):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(made(name, opponent=opponent, render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    """What any environment promises: observations in their space, whole games, rewards of a game of two."""
    env = made(name, opponent="random")
    rng = np.random.default_rng(0)
    for seed in range(4):
        observation, info = env.reset(seed=seed, options={"second": seed % 2})
        terminated = truncated = False
        steps = 0
        while not (terminated or truncated):
            assert observation in env.observation_space
            assert observation["action_mask"].dtype == np.int8
            assert (observation["action_mask"] == info["action_mask"]).all()
            assert info["to_move"] == seed % 2
            assert (observation["board"][2] == seed % 2).all()
            observation, reward, terminated, truncated, info = env.step(chosen(rng, observation["action_mask"]))
            assert (reward != 0) <= terminated
            steps += 1
        assert observation in env.observation_space
        assert steps > 3
        if terminated:
            assert reward == np.sign(info["margin"]) * (1 - 2 * (seed % 2))
            assert not info["action_mask"].any()
        with pytest.raises(ValueError, match="call reset"):
            env.step(0)


def test_a_seed_makes_the_game():
    boards = []
    for seed in (1, 1, 2):
        env = made("Go", board_size=5, opponent="random")
        env.reset(seed=seed)
        boards.append([env.step(25)[0]["board"].tobytes()])
    assert boards[0] == boards[1] != boards[2]


@pytest.mark.parametrize(("name", "moves", "why"), [
    ("Go", [0, 0], "occupied"), ("ConnectFour", [3] * 7, "the column is full"), ("Othello", [0], "it flips nothing"),
    ("Othello", [64], "a pass while a stone can be placed"), ("Gomoku", [7, 7], "occupied"),
])  # fmt: skip
def test_an_illegal_move_loses(name, moves, why):
    env = made(name)
    env.reset()
    for move in moves[:-1]:
        assert env.step(move)[1:4] == (0, False, False)
    _, reward, terminated, truncated, info = env.step(moves[-1])
    assert (reward, terminated, truncated, info["illegal"]) == (-1, True, False, why)


def test_an_opponent_may_be_a_function():
    seen = []

    def first(observation, info):
        seen.append((observation["board"][0].sum(), info["to_move"]))
        return int(np.flatnonzero(info["action_mask"])[0])

    env = made("ConnectFour", opponent=first)
    env.reset(options={"second": True})
    for move in (1, 2, 3):
        _, reward, terminated, _, _ = env.step(move)
    assert terminated
    assert reward == -1  # his fourth in the first column
    assert seen == [(0, 0), (1, 0), (2, 0), (3, 0)]
    env = made("Gomoku", opponent=lambda observation, info: 7)
    env.reset()
    with pytest.raises(ValueError, match="the opponent answered 7, which is illegal: occupied"):
        env.step(7)
    with pytest.raises(ValueError, match="opponent is 'strong'"):
        made("Go", opponent="strong")


def test_endless_go_is_cut_off():
    env = made("Go", board_size=1, ko=NO_KO)
    env.reset()
    for _ in range(25):
        assert env.step(0)[1:4] == (0, False, False)
    assert env.step(0)[1:4] == (0, False, True)


def test_pictures():
    env = made("Go", board_size=(2, 3), render_mode="ansi")
    env.reset()
    env.step(1)
    env.step(5)
    assert env.render() == " 2 .  X  . \n 1 .  . (O)\n   A  B  C\nX to move\n"
    env = made("ConnectFour", render_mode="rgb_array")
    env.reset()
    env.step(0)
    shot = env.render()
    assert (shot.shape, shot.dtype) == ((192, 224, 3), np.uint8)
    assert shot[182, 16].max() < 40  # the black stone fell to the lower left
    assert shot[170, 50].min() > 100


@pytest.mark.parametrize("name", NAMES)
def test_many_boards_are_single_ones(name):
    n, rng = 5, np.random.default_rng(0)
    options = {"board_size": 4} if name == "Go" else {}
    many = gymnasium.make_vec(f"wunderkammer/{name}-v0", num_envs=n, vectorization_mode="vector_entry_point", **options)
    single = [made(name, **options) for _ in range(n)]
    seen, info = many.reset()
    for env in single:
        env.reset()
    fresh, ends = np.zeros(n, bool), 0
    for step in range(250):
        assert seen in many.observation_space
        actions = np.array([chosen(rng, mask) if mask.any() else 0 for mask in seen["action_mask"]])
        if step % 17 == 16:
            actions[0] = (seen["action_mask"][0] == 0).argmax()  # illegal, if anything is
        seen, rewards, over, cut, info = many.step(actions)
        for i, env in enumerate(single):
            if fresh[i]:
                observation, reward, terminated, truncated, why = env.reset()[0], 0, False, False, ""
            else:
                observation, reward, terminated, truncated, said = env.step(actions[i])
                why = said.get("illegal", "")
            assert (seen["board"][i] == observation["board"]).all()
            assert (seen["action_mask"][i] == observation["action_mask"]).all()
            assert (rewards[i], over[i], cut[i]) == (reward, terminated, truncated)
            assert environment.REASONS[info["illegal"][i]] == why
        fresh = over | cut
        ends += fresh.sum()
    assert ends > 4


def test_the_loop_of_two_players_in_the_docs_works():
    assert doctest.testmod(environment).failed == 0


def test_names_are_known_after_one_import_and_without_torch():
    code = ("import sys, apps.go, gymnasium; env = gymnasium.make('wunderkammer/Go-v0', board_size=5, komi=7.0); "
            "env.reset(); assert 'torch' not in sys.modules; print(env.action_space.n)")  # fmt: skip
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "26"
