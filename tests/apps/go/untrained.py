"""A net that has learned nothing, for tests of what is around a net."""

from pathlib import Path

import torch

from apps.go.model import ModelConfig, Net
from core import card
from core.card import Card


def write(path: Path, game: str = "go") -> Path:
    """Writes a tiny net of random weights, always the same."""
    torch.manual_seed(0)
    net = Net(ModelConfig(game=game, blocks=1, channels=8, pool_every=1, head=4))
    return card.write(path, net.state_dict(), Card(app="go", name="untrained", model={
        "game": game, "blocks": 1, "channels": 8, "pool_every": 1, "head": 4}))
