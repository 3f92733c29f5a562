"""Go, and with it Connect Four, Othello and Gomoku: rules, environments, a policy-value net, tree search.

>>> from apps import go
>>> game = go.Game("go", size=9, komi=7.0)
>>> player = go.load()                                   # doctest: +SKIP
>>> analysis = player.analyse(game, visits=64, seed=0)   # doctest: +SKIP
>>> game.play(analysis.move)                             # doctest: +SKIP

>>> import gymnasium
>>> env = gymnasium.make("wunderkammer/Go-v0", board_size=9, komi=7.0, opponent="random")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from apps.go.game import Game
    from apps.go.player import Analysis
    from apps.go.predict import Player, load

__all__ = ["Analysis", "Game", "Player", "load"]

for _name, _game in (("Go", "go"), ("ConnectFour", "connect4"), ("Othello", "othello"), ("Gomoku", "gomoku")):
    gymnasium.register(f"wunderkammer/{_name}-v0", entry_point="apps.go.environment:BoardGame",
                       vector_entry_point="apps.go.environment:Boards", kwargs={"game": _game})  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imports torch only when something that needs it is asked for, so that a site of many rooms starts fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = {"Game": "game", "Analysis": "player"}.get(name, "predict")
    return getattr(import_module(f"apps.go.{room}"), name)
