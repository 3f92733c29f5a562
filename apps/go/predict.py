"""From a game to a move and what speaks for it: the player that programs, pages and GTP share."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from apps.go import vertex
from apps.go.features import NUMBERS, PLANES
from apps.go.game import Game
from apps.go.model import ModelConfig, Net
from apps.go.player import Analysis, Candidate
from apps.go.search import Evaluator, Judged, Options, Search, add_noise
from apps.go.state import NAMES, spec
from apps.go.tree import ENDED
from core import card, weights
from core.card import Card
from core.checked import typed
from core.inference import ready
from core.runtime import Precision, find_device

APP = "go"
TABLE = Path(__file__).parent / "weights.toml"
BATCH, MOST_VISITS = 256, 200_000


class Player:
    """A trained net that plays; it never changes, so threads may share it.

    Attributes:
        card: the model's card.
        device, precision: what it computes on and with.
        sha256: of the weights file.
    """

    def __init__(self, net: Net, sheet: Card, *, device: str = "auto", precision: Precision = "auto",
                 sha256: str = "", options: Options | None = None) -> None:
        self.card, self.sha256, self.game = sheet, sha256, net.config.game
        self.options = options or Options(lead=0.1 if self.game == "go" else 0.0)  # only Go's lead is learned
        self.device = find_device(device)
        board, generator = spec(self.game), torch.Generator().manual_seed(0)
        example = (torch.rand(2, PLANES, board.rows, board.columns, generator=generator),
                   torch.rand(2, NUMBERS, generator=generator))
        self._net = ready(net, self.device, precision, example=example)
        self._type = next(self._net.parameters()).dtype
        self.precision = str(self._type).removeprefix("torch.")

    def evaluate(self, planes: np.ndarray, numbers: np.ndarray) -> Judged:
        """What the net alone says of positions: planes (B, F, H, W) and numbers (B, G) float32."""
        parts = [self._forward(planes[i : i + BATCH], numbers[i : i + BATCH]) for i in range(0, len(planes), BATCH)]
        return Judged(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    @torch.inference_mode()
    def _forward(self, planes: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, ...]:
        x = torch.from_numpy(planes).to(self.device, self._type, memory_format=torch.channels_last)
        out = self._net(x, torch.from_numpy(numbers).to(self.device, self._type))
        odds = out.value.float().softmax(1)

        def plain(tensor: Tensor) -> np.ndarray:
            return tensor.float().cpu().numpy()

        return (plain(out.policy[:, 0]), plain(odds[:, 0] + odds[:, 2] / 2), plain(out.score) * 10,
                plain(out.ownership.float().tanh()))

    def analyse(self, game: Game, visits: int = 64, seed: int = 0, seconds: float | None = None, *,
                temperature: float = 0.0, noise: float = 0.0) -> Analysis:
        """Thinks about a position.

        Args:
            visits: positions to look at; 1 is the net alone.
            seed: of temperature and noise; the same seed gives the same answer on the same machine.
            seconds: stop earlier when so much time has passed.
            temperature: 0 plays the best move; 1 plays moves as often as they were visited.
            noise: share of Dirichlet noise in the root's priors (Silver et al. 2017), for self-play.

        Raises:
            ValueError: if the game is over, is not the net's, or the budget is out of range.
        """
        if game.spec.game != NAMES.index(self.game):
            raise ValueError(f"this player plays {self.game}; load one for the other game")
        if game.over:
            raise ValueError("the game is over; there is no move to think about")
        if not 1 <= visits <= MOST_VISITS:
            raise ValueError(f"visits is {visits}; it must lie between 1 and {MOST_VISITS:,}")
        until = None if seconds is None else time.monotonic() + max(0.0, seconds)
        search = Search(game.spec, game.state[None], [game.history[: game.count]], _cached(self.evaluate), visits + 1,
                        self.options)
        rng = np.random.default_rng(seed)
        search.open()
        policy = np.maximum(search.tree.prior[0, 0], 0).copy()
        if noise:
            add_noise(search, noise, rng)
        search.run(visits - 1, lambda: until is not None and time.monotonic() > until)
        return _report(game, search, policy, temperature, rng)


def _cached(evaluate: Evaluator) -> Evaluator:
    """An evaluator that asks once for each input: the same position by another order of moves looks different to the
    net when its last moves differ, so that what it sees is the key, and not the stones."""
    known: dict[bytes, tuple[np.ndarray, ...]] = {}

    def look(planes: np.ndarray, numbers: np.ndarray) -> Judged:
        keys = [hashlib.blake2b(p.tobytes() + n.tobytes(), digest_size=16).digest()
                for p, n in zip(planes, numbers, strict=True)]
        new = [i for i, key in enumerate(keys) if key not in known]
        if new:
            out = evaluate(planes[new], numbers[new])
            known.update((keys[i], row) for i, row in zip(new, zip(*out, strict=True), strict=True))
        return Judged(*map(np.stack, zip(*(known[key] for key in keys), strict=True)))

    return look


def _report(game: Game, search: Search, policy: np.ndarray, temperature: float, rng: np.random.Generator) -> Analysis:
    tree = search.tree
    visits, total = tree.visits[0, 0], tree.total[0, 0]
    seen = np.flatnonzero(visits)
    mean = total / np.maximum(visits, 1)[:, None]  # (A, 3)
    order = sorted(seen.tolist(), key=lambda a: (-visits[a], -mean[a, 0], -policy[a])) or [int(policy.argmax())]
    chosen = order[0]
    if temperature > 0:
        weights = np.log(np.where(visits > 0, visits, np.nan)) if len(seen) else np.log(np.maximum(policy, 1e-9))
        weights = np.nan_to_num(np.exp((weights - np.nanmax(weights)) / temperature))
        chosen = int(rng.choice(len(weights), p=weights / weights.sum()))
    raw = tree.judged[0, 0]
    n = int(visits.sum())
    winrate, lead = ((raw[i] + total[:, i].sum()) / (1 + n) for i in (1, 2))
    moves = [Candidate(vertex.name(game.spec, a), int(visits[a]), float(mean[a, 1]), float(mean[a, 2]),
                       float(policy[a]), _line(game, search, a)) for a in order if visits[a]]
    ownership = (search.ownership[0] / max(1, search.judged[0])).astype(np.float32)
    return Analysis(vertex.name(game.spec, chosen), float(winrate), float(lead), ownership, policy, visits.copy(),
                    _line(game, search, chosen), moves)


def _line(game: Game, search: Search, move: int, longest: int = 12) -> list[str]:
    """The most visited line that begins with a move of the root."""
    tree, line = search.tree, [move]
    node = tree.child[0, 0, move]
    while node and len(line) < longest and tree.kind[0, node] != ENDED and tree.visits[0, node].any():
        move = int(tree.visits[0, node].argmax())
        line.append(move)
        node = tree.child[0, node, move]
    return [vertex.name(game.spec, a) for a in line]


def load(weights: str | Path = "default", device: str = "auto", *, precision: Precision = "auto") -> Player:
    """Loads a player.

    Args:
        weights: a published name (`default`), a .safetensors file, a run folder, or `hf://owner/repo/file`.
        device: auto, cpu, cuda or cuda:1.
        precision: auto takes bfloat16 where it is faster.
    """
    path = find(weights)
    net, sheet = read_net(path)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Player(net, sheet, device=device, precision=precision, sha256=digest)


def find(name: str | Path) -> Path:
    """The verified local file of published or own weights."""
    return weights.find(name, app=APP, table=TABLE)


def read_net(name: str | Path) -> tuple[Net, Card]:
    """Rebuilds a net in float32 from its card, on the CPU."""
    path = find(name)
    tensors, sheet = card.read(path, APP)
    try:
        net = Net(typed(ModelConfig, sheet.model))
    except ValueError as error:
        raise ValueError(f"{path}: its card describes no model known here ({error}); update the program") from error
    card.rebuild(path, net, tensors)
    return net.requires_grad_(False), sheet
