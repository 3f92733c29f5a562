"""The four games once more, slow and obvious: tuples, sets and floods, with no line in common with apps.go.

Every game has `board` (a tuple of points, 0 empty, 1 first, 2 second), `turn` (1 or 2), `over`, `legal()`, `play(move)`
and `margin()`.
"""

from __future__ import annotations


class Board:
    """Points of a rectangle and who is to move."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns, self.turn, self.over, self.passes = rows, columns, 1, False, 0
        self.board: tuple[int, ...] = (0,) * (rows * columns)

    def at(self, row: int, column: int) -> int:
        """The stone on a point; -1 beside the board."""
        inside = 0 <= row < self.rows and 0 <= column < self.columns
        return self.board[row * self.columns + column] if inside else -1

    def next_turn(self) -> None:
        self.turn = 3 - self.turn


def around(point: int, rows: int, columns: int) -> list[int]:
    """The points beside a point."""
    row, column = divmod(point, columns)
    beside = [(row - 1, column), (row, column - 1), (row, column + 1), (row + 1, column)]
    return [r * columns + c for r, c in beside if 0 <= r < rows and 0 <= c < columns]


def flood(board: tuple[int, ...], point: int, rows: int, columns: int) -> tuple[set[int], set[int]]:
    """The connected points like this one, and all points beside them."""
    inside, edge, todo = {point}, set(), [point]
    while todo:
        for q in around(todo.pop(), rows, columns):
            if board[q] != board[point]:
                edge.add(q)
            elif q not in inside:
                inside.add(q)
                todo.append(q)
    return inside, edge


class Go(Board):
    """Go by the logical rules of Tromp and Taylor; `ko` is "none", "simple", "positional" or "situational"."""

    def __init__(self, rows: int = 9, columns: int = 9, ko: str = "positional", suicide: bool = True, komi: float = 0):
        super().__init__(rows, columns)
        self.ko, self.suicide, self.komi = ko, suicide, komi
        self.past = [(self.board, self.turn)]
        self.prisoners = [0, 0]

    def without_breath(self, board: tuple[int, ...], colour: int) -> set[int]:
        """The stones of a colour whose chains touch no empty point."""
        dead: set[int] = set()
        for point, stone in enumerate(board):
            if stone == colour and point not in dead:
                chain, edge = flood(board, point, self.rows, self.columns)
                if all(board[q] for q in edge):
                    dead |= chain
        return dead

    def after(self, point: int) -> tuple[tuple[int, ...], set[int], set[int]]:
        """The board after a stone of the side to move, the stones it takes, the stones it kills itself."""
        board = list(self.board)
        board[point] = self.turn
        taken = self.without_breath(tuple(board), 3 - self.turn)
        for p in taken:
            board[p] = 0
        killed = self.without_breath(tuple(board), self.turn)
        for p in killed:
            board[p] = 0
        return tuple(board), taken, killed

    def why(self, point: int) -> str:
        """"" for a legal move, else what is wrong with it."""
        if self.board[point]:
            return "occupied"
        board, taken, killed = self.after(point)
        if killed and not self.suicide:
            return "suicide"
        retakes = len(self.past) > 1 and board == self.past[-2][0] and len(taken) == 1
        if self.ko != "none" and retakes and self.past[-1][1] != self.past[-2][1]:
            return "ko"
        if self.ko == "positional" and board in [b for b, _ in self.past]:
            return "superko"
        if self.ko == "situational" and (board, 3 - self.turn) in self.past:
            return "superko"
        return ""

    def legal(self) -> set[int]:
        points = len(self.board)
        return set() if self.over else {p for p in range(points) if not self.why(p)} | {points}

    def play(self, move: int) -> None:
        if move == len(self.board):
            self.passes += 1
            self.over = self.passes == 2
        else:
            self.board, taken, killed = self.after(move)
            self.prisoners[self.turn - 1] += len(taken)
            self.prisoners[2 - self.turn] += len(killed)
            self.passes = 0
        self.next_turn()
        self.past.append((self.board, self.turn))

    def owner(self) -> list[int]:
        """1, -1 or 0 for each point: whose stones alone it reaches."""
        owner = []
        for point, stone in enumerate(self.board):
            edge = flood(self.board, point, self.rows, self.columns)[1]
            reached = {stone} if stone else {self.board[q] for q in edge}
            owner.append(1 if reached == {1} else -1 if reached == {2} else 0)
        return owner

    def margin(self) -> float:
        return sum(self.owner()) - self.komi


class Row(Board):
    """Games won by stones in a row; `self.wanted` of them."""

    wanted: int

    def winner(self) -> int:
        """The colour that has enough in a row, or 0."""
        for row in range(self.rows):
            for column in range(self.columns):
                for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                    line = {self.at(row + i * down, column + i * right) for i in range(self.wanted)}
                    if len(line) == 1 and line & {1, 2}:
                        return line.pop()
        return 0

    def put(self, point: int) -> None:
        self.board = (*self.board[:point], self.turn, *self.board[point + 1 :])
        self.over = bool(self.winner()) or 0 not in self.board
        self.next_turn()

    def margin(self) -> float:
        return {0: 0, 1: 1, 2: -1}[self.winner()]


class Connect4(Row):
    wanted = 4

    def __init__(self) -> None:
        super().__init__(6, 7)

    def legal(self) -> set[int]:
        return set() if self.over else {column for column in range(7) if self.at(0, column) == 0}

    def play(self, move: int) -> None:
        self.put(max(row for row in range(6) if self.at(row, move) == 0) * 7 + move)


class Gomoku(Row):
    wanted = 5

    def __init__(self) -> None:
        super().__init__(15, 15)

    def legal(self) -> set[int]:
        return set() if self.over else {p for p, stone in enumerate(self.board) if not stone}

    def play(self, move: int) -> None:
        self.put(move)


class Othello(Board):
    def __init__(self) -> None:
        super().__init__(8, 8)
        stones = {27: 2, 28: 1, 35: 1, 36: 2}
        self.board = tuple(stones.get(p, 0) for p in range(64))

    def flips(self, move: int) -> set[int]:
        """The stones that a stone would flip."""
        row, column = divmod(move, 8)
        found: set[int] = set()
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                ray = [(row + i * down, column + i * right) for i in range(1, 8)]
                stones = [self.at(*place) for place in ray]
                if self.turn in stones and (down, right) != (0, 0):
                    between = ray[: stones.index(self.turn)]
                    if all(self.at(*place) == 3 - self.turn for place in between):
                        found |= {r * 8 + c for r, c in between}
        return found

    def legal(self) -> set[int]:
        if self.over:
            return set()
        return {p for p in range(64) if not self.board[p] and self.flips(p)} or {64}

    def play(self, move: int) -> None:
        if move == 64:
            self.passes += 1
            self.over = self.passes == 2
        else:
            turned = self.flips(move) | {move}
            self.board = tuple(self.turn if p in turned else stone for p, stone in enumerate(self.board))
            self.passes = 0
        self.next_turn()

    def margin(self) -> float:
        return self.board.count(1) - self.board.count(2)
