"""Makes the room's small picture for the home page: `python -m apps.go.miniature`.

A game of the site's model against itself; on the right half whose each point will be, as the model sees it.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from apps.go.drawing import stars
from apps.go.game import Game
from core import cli
from core.files import write

SIZE = (720, 405)
PICTURE = Path(__file__).with_name("miniature.jpg")
MOVES, VISITS = 34, 64
FINE = 2
"""Times larger it is drawn than shown."""
STEP = 62 * FINE
"""Pixels between two lines."""


def picture(game: Game, ownership: np.ndarray) -> Image.Image:
    """Returns the middle of a board as (720, 405) pixels.

    Args:
        ownership: (H, W), -1..1, +1 Black's.
    """
    width, height = SIZE[0] * FINE, SIZE[1] * FINE
    rows, columns = game.board.shape
    left, top = width / 2 - (columns - 1) / 2 * STEP, height / 2 - (rows - 1) / 2 * STEP

    def at(row: int, column: int) -> tuple[float, float]:
        return left + column * STEP, top + row * STEP

    across = np.linspace(0, 1, width)[None, :, None] * 0.6 + np.linspace(0, 1, height)[:, None, None] * 0.4
    wood = (1 - across) * np.array([240, 207, 150]) + across * np.array([219, 174, 104])
    wood *= 1 + 0.02 * np.random.default_rng(0).standard_normal((1, width // 8, 1)).repeat(8, axis=1)
    image = Image.fromarray(wood.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for i in range(rows):
        pen.line([at(i, 0), at(i, columns - 1)], (79, 58, 26), 2 * FINE)
    for i in range(columns):
        pen.line([at(0, i), at(rows - 1, i)], (79, 58, 26), 2 * FINE)
    for row, column in (divmod(point, columns) for point in stars(rows, columns)):
        pen.circle(at(row, column), 5 * FINE, (79, 58, 26))
    stones = [(row, column) for row in range(rows) for column in range(columns) if game.board[row, column]]
    shadow = Image.new("L", image.size)
    for x, y in (at(*place) for place in stones):
        ImageDraw.Draw(shadow).circle((x + 4 * FINE, y + 6 * FINE), 0.46 * STEP, 130)
    image.paste((40, 25, 5), mask=shadow.filter(ImageFilter.GaussianBlur(4 * FINE)))
    lit = {1: stone((105, 103, 100), (12, 11, 11)), -1: stone((255, 255, 255), (200, 194, 182))}
    for row, column in stones:
        x, y = at(row, column)
        ball = lit[int(game.board[row, column])]
        image.paste(ball, (round(x - ball.width / 2), round(y - ball.height / 2)), ball)
    pen = ImageDraw.Draw(image)
    for row, column in np.ndindex(rows, columns):
        owner, (x, y) = float(ownership[row, column]), at(row, column)
        side = 0.21 * STEP * abs(owner) ** 0.5
        if x > width / 2 and owner * game.board[row, column] <= 0 and abs(owner) > 0.1:
            colours = ((17, 17, 17), (150, 140, 120)) if owner > 0 else ((255, 255, 255), (110, 90, 60))
            pen.rounded_rectangle((x - side, y - side, x + side, y + side), 3 * FINE, *colours, FINE)
    return image.resize(SIZE, Image.Resampling.LANCZOS)


def stone(light: tuple[int, int, int], dark: tuple[int, int, int]) -> Image.Image:
    """Returns a stone that is lit from the upper left."""
    n = round(0.95 * STEP)
    y, x = (np.mgrid[:n, :n] + 0.5) / n - 0.5
    share = (np.hypot(x + 0.14, y + 0.2) / 0.72).clip(0, 1)[..., None] ** 0.8
    cover = ((0.5 - np.hypot(x, y)) * n).clip(0, 1)[..., None] * 255
    return Image.fromarray(np.concatenate([(1 - share) * light + share * dark, cover], -1).astype(np.uint8))


def main() -> None:
    from apps import go
    from apps.go.thinking import weights

    game, player = Game("go", 9), go.load(weights())
    while len(game.moves) < MOVES and not game.over:
        game.play(player.analyse(game, visits=VISITS).move)
    ownership = player.analyse(game, visits=VISITS).ownership
    assert ownership is not None
    file = io.BytesIO()
    picture(game, ownership).save(file, "JPEG", quality=86)
    write(PICTURE, lambda out: out.write(file.getvalue()))
    print(PICTURE)


if __name__ == "__main__":
    cli.main(main)
