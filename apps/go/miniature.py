"""Makes the room's small picture for the home page: `python -m apps.go.miniature`.

The default player against itself on 9x9, and over the board who it thinks will own each point.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from apps.go.drawing import stars
from apps.go.game import Game
from core import cli
from core.files import write

SIZE, FINE = (720, 405), 3
PICTURE = Path(__file__).with_name("miniature.jpg")
WOOD, INK = (222, 184, 119), (74, 54, 30)


def picture(game: Game, ownership: np.ndarray) -> Image.Image:
    """Draws the middle rows of a position, 720x405 pixels, with squares that say whose a point will be."""
    width, height = SIZE[0] * FINE, SIZE[1] * FINE
    image = Image.new("RGB", (width, height), WOOD)
    draw = ImageDraw.Draw(image)
    n = game.spec.columns
    gap = width / (n + 0.6)

    def at(row: float, column: float) -> tuple[float, float]:
        return (column + 0.8) * gap, height / 2 + (row - game.spec.rows // 2) * gap

    for i in range(n):
        draw.line([at(i, 0), at(i, n - 1)], INK, FINE)
        draw.line([at(0, i), at(n - 1, i)], INK, FINE)
    for point in stars(game.spec.rows, n):
        _disc(draw, at(*divmod(point, n)), 0.09 * gap, INK)
    for row in range(game.spec.rows):
        for column in range(n):
            x, y = at(row, column)
            stone, owner = game.board[row, column], float(ownership[row, column])
            if stone:
                _disc(draw, (x, y), 0.47 * gap, (60, 44, 26))
                _disc(draw, (x, y), 0.455 * gap, (22, 22, 24) if stone > 0 else (244, 241, 233))
            side = 0.22 * gap * abs(owner) ** 0.5
            if abs(owner) > 0.15 and (not stone or (owner > 0) != (stone > 0)):
                draw.rectangle([x - side, y - side, x + side, y + side], (22, 22, 24) if owner > 0 else (244, 241, 233))
    return image.resize(SIZE, Image.Resampling.LANCZOS)


def _disc(draw: ImageDraw.ImageDraw, at: tuple[float, float], radius: float, colour: tuple[int, int, int]) -> None:
    x, y = at
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], colour)


def main() -> None:
    from apps import go

    player, game = go.load(), Game("go", 9)
    while len(game.moves) < 30 and not game.over:
        game.play(player.analyse(game, visits=32).move)
    ownership = player.analyse(game, visits=32).ownership
    assert ownership is not None
    file = io.BytesIO()
    picture(game, ownership).save(file, "JPEG", quality=85)
    write(PICTURE, lambda out: out.write(file.getvalue()))
    print(PICTURE)


if __name__ == "__main__":
    cli.main(main)
