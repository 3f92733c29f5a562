"""Pass-alive stones: positions by hand, and every position of small boards against all that the other side can do."""

import itertools
import random

import numpy as np
import pytest

from apps.go.benson import pass_alive
from apps.go.state import NO_KO
from tests.apps.go import reference
from tests.apps.go.playing import Playing, reachable


def owner(game: Playing) -> list[int]:
    filled = np.empty(game.spec.rows * game.spec.columns, np.int8)
    pass_alive(game.spec, game.state, filled)
    return filled.tolist()


PICTURES = {
    "two eyes": (".X.XO XXXXO OOOOO ..... .....",
                 "xxxx. xxxx. ..... ..... ....."),
    "one eye": (".XXXO XXXXO OOOOO ..... .....",
                "..... ..... ..... ..... ....."),
    "both colours": (".X.XO XXXXO OOOOO O.O.O OOOOO",
                     "xxxxo xxxxo ooooo ooooo ooooo"),
    "an eye with a dead stone": (".XO.X XXXXX ..... ..... .....",
                                 "xxxxx xxxxx ..... ..... ....."),
    "a large eye is no eye": ("..X.. XXX.. ..... ..... .....",
                              "..... ..... ..... ..... ....."),
    "chains that share their eyes": (".X.X. XX.XX ..... ..... .....",
                                     "..... ..... ..... ..... ....."),
    "two chains, two shared eyes": (".XO.. X.XO. .XXO. XXOO. OOO..",
                                    "xx... xxx.. xxx.. xx... ....."),
    "joined by their eyes": (".XX.XO XX.XXO OXXXOO OOOO.. ...... ......",
                             "xxxxx. xxxxx. .xxx.. ...... ...... ......"),
}  # fmt: skip


def picture(values: list[int], columns: int) -> str:
    signs = "".join(".xo"[value] for value in values)
    return " ".join(signs[i : i + columns] for i in range(0, len(signs), columns))


@pytest.mark.parametrize("name", PICTURES)
def test_positions_by_hand(name):
    board, wanted = PICTURES[name]
    rows = board.split()
    game = Playing.go(len(rows), len(rows[0]), suicide=False).put(board)
    assert picture(owner(game), len(rows[0])) == wanted


def test_the_other_side_may_empty_an_eye_by_suicide_where_that_is_legal():
    """White's middle stones touch no black one; once White has killed them himself, the eye is large."""
    board = "XXXXXXX X.....X X.OOO.X X.OOO.X X.OOO.X X.....X XXXXX.X ..XXXXX"
    assert owner(Playing.go(8, 7, suicide=False).put(board))[0] == 1
    assert owner(Playing.go(8, 7, suicide=True).put(board))[0] == 0


def positions(rows: int, columns: int) -> list[tuple[int, ...]]:
    """All boards without a chain that has no liberty."""
    game = reference.Go(rows, columns)
    boards = itertools.product(range(3), repeat=rows * columns)
    return [b for b in boards if not game.without_breath(b, 1) and not game.without_breath(b, 2)]


@pytest.mark.parametrize("suicide", [False, True])
@pytest.mark.parametrize(("rows", "columns", "sample"), [(1, 5, 1000), (2, 3, 1000), (1, 7, 250), (2, 4, 250),
                                                         (3, 3, 250)])
def test_what_is_alive_no_moves_can_capture_and_nothing_else(rows, columns, sample, suicide):
    boards = positions(rows, columns)
    alive = 0
    for board in random.Random(1).sample(boards, min(sample, len(boards))):
        game = Playing.go(rows, columns, suicide=suicide, ko=NO_KO).put("".join(".XO"[c] for c in board))
        marked = owner(game)
        for colour, sign in ((1, 1), (2, -1)):
            ends = reachable(game.spec, game.state, turns=(2 - colour,))
            stones = [p for p, stone in enumerate(board) if stone == colour]
            lasting = [p for p in stones if (ends[:, p] == colour).all()]
            assert [p for p in stones if marked[p] == sign] == lasting, (board, colour)
            alive += len(lasting)
    assert alive
