"""What the net sees must stay what it was trained on, bit for bit."""

import hashlib
import random

import numpy as np

from apps.go import state as codes
from apps.go.features import NUMBERS, PLANES, encode
from apps.go.state import spec
from tests.apps.go.playing import Playing

SEEN = "434ea6db4944fccb32b00fd5e5958b0d2251e2fa25c4cc04dbc52238cf2f3778"


def test_planes_and_numbers_are_what_the_shipped_net_was_trained_on():
    """2,991 positions of random games; derived here before the rules were rewritten, so it guards against change."""
    seen, chance = hashlib.sha256(), random.Random(0)
    for made in (spec("go"), spec("go", 9, komi=6.5, ko=codes.SIMPLE, suicide=False), spec("go", (5, 7)),
                 spec("go", 19), spec("go", 3, ko=codes.SITUATIONAL), spec("othello"), spec("connect4"),
                 spec("gomoku")):  # fmt: skip
        planes = np.empty((PLANES, made.rows, made.columns), np.float32)
        numbers = np.empty(NUMBERS, np.float32)
        for _ in range(2):
            game = Playing(made)
            while not game.over and game.count < 300:
                legal = sorted(game.legal())
                encode(made, game.state, game.mask, planes, numbers)
                seen.update(planes.tobytes() + numbers.tobytes())
                stones = [move for move in legal if move < made.rows * made.columns]
                game.play(chance.choice(stones if stones and chance.random() < 0.98 else legal))
    assert seen.hexdigest() == SEEN
