"""Go (and its smaller cousins): rules, a policy-value net, tree search.

>>> from apps import go
>>> game = go.Game("go", size=9, komi=7.0)
>>> player = go.load()                                   # doctest: +SKIP
>>> analysis = player.analyse(game, visits=64, seed=0)   # doctest: +SKIP
>>> game.play(analysis.move)                             # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apps.go.game import Game
    from apps.go.player import Analysis
    from apps.go.predict import Player, load

__all__ = ["Analysis", "Game", "Player", "load"]


def __getattr__(name: str) -> Any:
    """Imports torch only when something that needs it is asked for, so that a site of many rooms starts fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = {"Game": "game", "Analysis": "player"}.get(name, "predict")
    return getattr(import_module(f"apps.go.{room}"), name)
