"""Go, and with it Connect Four, Othello and Gomoku.

>>> import gymnasium
>>> from apps import go
>>> env = gymnasium.make("wunderkammer/Go-v0", board_size=9, komi=7.0, opponent="random")
"""

import gymnasium

for _name, _game in (("Go", "go"), ("ConnectFour", "connect4"), ("Othello", "othello"), ("Gomoku", "gomoku")):
    gymnasium.register(f"wunderkammer/{_name}-v0", entry_point="apps.go.environment:BoardGame",
                       vector_entry_point="apps.go.environment:Boards", kwargs={"game": _game})  # fmt: skip
