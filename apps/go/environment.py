"""The games as gymnasium environments, one board or thousands at once.

After `import apps.go`, `gymnasium.make` knows `wunderkammer/Go-v0`, `ConnectFour-v0`, `Othello-v0` and `Gomoku-v0`, and
`gymnasium.make_vec` the same names for many boards. An observation is a dict: `board`, int8 (3, rows, columns): the
stones of the side to move, the other's, and a plane of ones if the second player is to move; and `action_mask`, int8
(actions,): 1 for legal moves. In Go and Othello the last action is the pass.

With an opponent one learns against it. Without, the environment is played from both sides, as in PettingZoo; a reward
is that of the player who has just moved:

>>> import gymnasium, apps.go
>>> env = gymnasium.make("wunderkammer/ConnectFour-v0")
>>> observation, info = env.reset(seed=0)
>>> _ = env.action_space.seed(0)
>>> terminated = truncated = False
>>> total = [0.0, 0.0]
>>> while not (terminated or truncated):
...     player = info["to_move"]
...     action = env.action_space.sample(info["action_mask"])
...     observation, reward, terminated, truncated, info = env.step(action)
...     total[player] += reward
...     total[1 - player] -= reward
>>> sum(total)
0.0
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from apps.go import rules
from apps.go.jit import jit
from apps.go.state import GO, HEADER, LAST, OVER, PLIES, REASONS, SUPERKO, TO_MOVE, Spec, cell, spec

Observation = dict[str, np.ndarray]
Opponent = Callable[[Observation, dict[str, Any]], int]


def _limit(made: Spec) -> int:
    """Moves after which a game is cut off; only Go without superko could go on for ever, and random Go goes on long."""
    return (6 if made.game == GO else 2) * made.rows * made.columns + 20


def _spaces(made: Spec) -> tuple[Any, Any]:
    """Of observations and of actions."""
    board = spaces.Box(0, 1, (3, made.rows, made.columns), np.int8)
    seen = spaces.Dict({"board": board, "action_mask": spaces.MultiBinary(made.actions)})
    return seen, spaces.Discrete(made.actions)


@jit
def observe(spec: Spec, s: np.ndarray, board: np.ndarray) -> None:
    """Fills the three planes of a board."""
    me = s[TO_MOVE] + 1
    for move in range(spec.rows * spec.columns):
        row, column = move // spec.columns, move % spec.columns
        stone = s[HEADER + cell(spec, move)]
        board[0, row, column] = stone == me
        board[1, row, column] = stone == 3 - me
        board[2, row, column] = me == 2


class BoardGame(gymnasium.Env[Observation, int]):
    """One board.

    Args:
        game: "go", "connect4", "othello" or "gomoku".
        board_size: Go: a number or (rows, columns); 9 by default.
        komi: points for the second player; Go only.
        ko, suicide: as in `apps.go.state.spec`; Go only.
        opponent: None (both sides are played through `step`), "random", or a function of an observation and its info
            that returns a move. The learner has the first move unless `reset(options={"second": True})` says otherwise.

    A reward is 1, -1 or 0 for a game won, lost or drawn. An illegal move ends the game with -1; `info["illegal"]` says
    why. At the end, `info["margin"]` is the first player's.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 2}  # noqa: RUF012

    def __init__(self, game: str = "go", board_size: int | tuple[int, int] | None = None, komi: float = 7.0, *,
                 ko: int = SUPERKO, suicide: bool = True, opponent: str | Opponent | None = None,
                 render_mode: str | None = None) -> None:  # fmt: skip
        if not (opponent is None or opponent == "random" or callable(opponent)):
            raise ValueError(f'opponent is {opponent!r}; None, "random" or a function is wanted')
        self.spec_of_game = spec(game, board_size, komi=komi, ko=ko, suicide=suicide)
        spaces: tuple[Any, Any] = _spaces(self.spec_of_game)
        self.observation_space, self.action_space = spaces
        self.render_mode, self.opponent, self.learner = render_mode, opponent, 0
        self.history = np.zeros(_limit(self.spec_of_game) + 2, np.uint64)
        self.mask = np.zeros(self.spec_of_game.actions, np.int8)
        self.state, self.count, self.closed = rules.new(self.spec_of_game), 0, True

    def reset(self, *, seed: int | None = None,
              options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:  # fmt: skip
        super().reset(seed=seed)
        self.state, self.count, self.closed = rules.new(self.spec_of_game), 0, False
        self._remember()
        self.learner = int(bool((options or {}).get("second")))
        self._answer()
        return self._seen()

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if self.closed:
            raise ValueError("the game is over; call reset() before the next step()")
        player = int(self.state[TO_MOVE])
        if illegal := rules.reason(self.spec_of_game, self.state, self.history, self.count, int(action)):
            self.closed = True
            observation, info = self._seen()
            return observation, -1.0, True, False, {**info, "illegal": REASONS[illegal]}
        self._play(int(action))
        self._answer()
        over = bool(self.state[OVER])
        truncated = not over and int(self.state[PLIES]) >= _limit(self.spec_of_game)
        self.closed = over or truncated
        observation, info = self._seen()
        reward = 0.0
        if over:
            info["margin"] = float(rules.margin(self.spec_of_game, self.state))
            reward = float(np.sign(info["margin"])) * (1 if player == 0 else -1)
        return observation, reward, over, truncated, info

    def _play(self, move: int) -> None:
        rules.play(self.spec_of_game, self.state, move)
        self._remember()

    def _remember(self) -> None:
        """Adds the position to the history and finds its legal moves."""
        self.history[self.count] = rules.key(self.spec_of_game, self.state)
        self.count += 1
        rules.legal(self.spec_of_game, self.state, self.history, self.count, self.mask)

    def _answer(self) -> None:
        """Plays for the opponent if it is his turn."""
        if self.opponent is None or self.state[OVER] or self.state[TO_MOVE] == self.learner:
            return
        if self.state[PLIES] >= _limit(self.spec_of_game):
            return
        if callable(self.opponent):
            move = int(self.opponent(*self._seen()))
            if illegal := rules.reason(self.spec_of_game, self.state, self.history, self.count, move):
                raise ValueError(f"the opponent answered {move}, which is illegal: {REASONS[illegal]}")
        else:
            move = int(self.np_random.choice(np.flatnonzero(self.mask)))
        self._play(move)

    def _seen(self) -> tuple[Observation, dict[str, Any]]:
        made = self.spec_of_game
        board = np.empty((3, made.rows, made.columns), np.int8)
        observe(made, self.state, board)
        return ({"board": board, "action_mask": self.mask.copy()},
                {"action_mask": self.mask.copy(), "to_move": int(self.state[TO_MOVE])})  # fmt: skip

    def render(self) -> Any:
        if self.render_mode == "ansi":
            return ansi(self.spec_of_game, self.state)
        return picture(self.spec_of_game, self.state) if self.render_mode == "rgb_array" else None


def stones(made: Spec, s: np.ndarray) -> np.ndarray:
    """The board (rows, columns): 0 empty, 1 first player's, 2 second's."""
    width = made.columns + 1
    return s[HEADER + width : HEADER + (made.rows + 1) * width].reshape(made.rows, width)[:, 1:]


def ansi(made: Spec, s: np.ndarray) -> str:
    """The board in letters: X first player, O second; the last stone in brackets."""
    lines, last = [], int(s[LAST])
    for row, values in enumerate(stones(made, s)):
        line = f"{made.rows - row:2d}"
        for column, value in enumerate(values):
            line += ("({})" if row * made.columns + column == last else " {} ").format(".XO"[value])
        lines.append(line)
    letters = "ABCDEFGHJKLMNOPQRST"[: made.columns]
    return "\n".join([*lines, "   " + "  ".join(letters), f"{'XO'[s[TO_MOVE]]} to move", ""])


def picture(made: Spec, s: np.ndarray, pixels: int = 32) -> np.ndarray:
    """The board as an RGB picture, uint8 (rows * pixels, columns * pixels, 3): black and white stones on wood."""
    wood, ink = np.array([222, 184, 120], np.float32), np.array([90, 66, 32], np.float32)
    y, x = (np.arange(n * pixels) % pixels - pixels / 2 + 0.5 for n in (made.rows, made.columns))
    grid = (np.abs(y)[:, None] < 1) | (np.abs(x)[None] < 1)
    colour = np.where(grid[..., None], ink, wood)
    distance = np.hypot(y[:, None], x[None])[..., None]
    big = np.kron(stones(made, s), np.ones((pixels, pixels), np.int16))[..., None]
    disc = np.clip(0.46 * pixels - distance + 0.5, 0, 1) * (big > 0)  # softened over one pixel
    colour = colour + disc * (np.where(big == 1, 25.0, 245.0) - colour)
    if 0 <= (last := int(s[LAST])) < made.rows * made.columns:
        row, column = divmod(last, made.columns)
        mark = np.zeros(big.shape[:2], np.bool_)
        mark[row * pixels : (row + 1) * pixels, column * pixels : (column + 1) * pixels] = True
        colour = np.where(mark[..., None] & (distance < 0.15 * pixels), [200.0, 60.0, 50.0], colour)
    return colour.astype(np.uint8)


@jit
def _step(spec: Spec, states: np.ndarray, histories: np.ndarray, counts: np.ndarray, actions: np.ndarray,
          boards: np.ndarray, masks: np.ndarray, rewards: np.ndarray, over: np.ndarray, cut: np.ndarray,
          why: np.ndarray) -> None:  # fmt: skip
    """Moves on all boards; one whose game is over begins anew instead."""
    start = rules.new(spec)
    for i in range(len(states)):
        s, history = states[i], histories[i]
        rewards[i], why[i] = 0, 0
        if over[i] or cut[i]:
            s[:] = start
            counts[i], over[i], cut[i] = 0, False, False
        elif not 0 <= actions[i] < spec.actions or masks[i, actions[i]] == 0:
            why[i] = rules.reason(spec, s, history, counts[i], actions[i])
            rewards[i], over[i] = -1, True
            continue
        else:
            player = s[TO_MOVE]
            rules.play(spec, s, actions[i])
            over[i] = s[OVER] == 1
            cut[i] = not over[i] and s[PLIES] >= histories.shape[1] - 2
            if over[i]:
                rewards[i] = np.sign(rules.margin(spec, s)) * (1 - 2 * player)
        history[counts[i]] = rules.key(spec, s)
        counts[i] += 1
        rules.legal(spec, s, history, counts[i], masks[i])
        observe(spec, s, boards[i])


class Boards(VectorEnv[Observation, np.ndarray, np.ndarray]):
    """Many boards, each played from both sides, moved in one compiled call that holds no lock of the interpreter.

    A board whose game has ended begins a new one at the next step, which ignores its action (gymnasium's NEXT_STEP).
    `info["illegal"]` is an int8 (n,): codes of `apps.go.state.REASONS`, 0 for legal moves.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int = 1, game: str = "go", board_size: int | tuple[int, int] | None = None,
                 komi: float = 7.0, *, ko: int = SUPERKO, suicide: bool = True) -> None:  # fmt: skip
        self.num_envs = num_envs
        self.spec_of_game = made = spec(game, board_size, komi=komi, ko=ko, suicide=suicide)
        self.single_observation_space, self.single_action_space = _spaces(made)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._states = np.zeros((num_envs, made.length), np.int16)
        self._histories = np.zeros((num_envs, _limit(made) + 2), np.uint64)
        self._counts = np.zeros(num_envs, np.int64)
        self._boards = np.zeros((num_envs, 3, made.rows, made.columns), np.int8)
        self._masks = np.zeros((num_envs, made.actions), np.int8)
        self._over, self._cut = np.ones(num_envs, np.bool_), np.zeros(num_envs, np.bool_)

    def reset(self, *, seed: int | list[int | None] | None = None,
              options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:  # fmt: skip
        self._over[:] = True
        observation, _, _, _, info = self.step(np.zeros(self.num_envs, np.int64))
        return observation, info

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        rewards, why = np.empty(self.num_envs, np.float64), np.empty(self.num_envs, np.int8)
        _step(self.spec_of_game, self._states, self._histories, self._counts, np.asarray(actions, np.int64),
              self._boards, self._masks, rewards, self._over, self._cut, why)  # fmt: skip
        observation = {"board": self._boards.copy(), "action_mask": self._masks.copy()}
        info = {"action_mask": observation["action_mask"], "to_move": self._states[:, TO_MOVE].copy(), "illegal": why}
        return observation, rewards, self._over.copy(), self._cut.copy(), info
