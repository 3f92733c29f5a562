"""A reviewed game as one picture: the win rate over the moves, then the biggest mistakes, each with its board."""

from __future__ import annotations

import io
import textwrap
from functools import cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Circle

from apps.go import drawing, reviewed, vertex
from apps.go.game import BLACK, Game
from apps.go.miniature import stone
from apps.go.reviewed import Mistake
from apps.go.thinking import Thought

WIDTH, DOTS = 10.0, 140
"""Inches, and dots an inch."""
HEAD, GRAPH, CARD = 0.95, 2.5, 3.55
"""Heights in inches of the title, the graph and one mistake."""
INK, PALE, PAPER = "#26221c", "#7d7466", "#fbf9f4"
PLAYED, BETTER, WOOD, LINE = "#c3271d", "#0f8a5f", "#e8c284", "#4f3a1a"
KINDS = {"blunder": "#c3271d", "bad": "#d9782d", "doubtful": "#c9a52c"}
"""Colours of mistakes, here and in the HTML."""


def picture(game: Game, thoughts: list[Thought], listed: list[Mistake], title: str, subtitle: str) -> bytes:
    """Draws a PNG, as wide as `WIDTH` and as high as there are mistakes."""
    height = HEAD + GRAPH + CARD * max(len(listed), 0.2) + 0.25
    figure = Figure((WIDTH, height), dpi=DOTS, facecolor=PAPER)
    FigureCanvasAgg(figure)

    def write(x: float, y: float, text: str, **how: Any) -> None:
        """Writes at inches from the top left."""
        figure.text(x / WIDTH, 1 - y / height, text, va="top", parse_math=False, **({"color": INK} | how))

    def axes(x: float, y: float, width: float, tall: float) -> Axes:
        return figure.add_axes((x / WIDTH, 1 - (y + tall) / height, width / WIDTH, tall / height))

    rows, columns = game.board.shape
    side = CARD - 0.35
    write(0.45, 0.3, _printable(title, 62), size=17, weight="bold")
    write(0.45, 0.68, _printable(subtitle, 110), size=9.5, color=PALE)
    _graph(axes(0.95, HEAD + 0.2, WIDTH - 1.4, GRAPH - 0.75), game, thoughts, listed)
    if not listed:
        write(0.45, HEAD + GRAPH, f"No move cost {drawing.percent(reviewed.LEAST)} or more.", size=12)
    for i, mistake in enumerate(listed):
        top = HEAD + GRAPH + CARD * i
        goban(axes(0.45, top, side * min(1, columns / rows), side * min(1, rows / columns)), game, thoughts, mistake)
        _words(lambda y, text, top=top, **how: write(side + 0.8, top + y, text, **how), game, thoughts, mistake)
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor=PAPER)
    return file.getvalue()


def _words(write: Any, game: Game, thoughts: list[Thought], mistake: Mistake) -> None:
    write(0.02, mistake.short, size=13.5, weight="bold")
    write(0.3, f"{mistake.kind.capitalize()}: {mistake.cost}", size=11, color=KINDS[mistake.kind], weight="bold")
    y = 0.68
    for name, text in reviewed.why(game, thoughts, mistake).items():
        lines = textwrap.wrap(text.replace(" %", "\u00a0%"), 70)
        write(y, name.upper(), size=7.5, color=PALE, weight="bold")
        write(y + 0.16, "\n".join(lines), size=10.5, linespacing=1.3)
        y += 0.29 + 0.2 * len(lines)


def _graph(ax: Axes, game: Game, thoughts: list[Thought], listed: list[Mistake]) -> None:
    """Black's chance in percent after each move, the mistakes marked with their numbers."""
    rates = [100 * drawing.black_rate(game, ply, t.analysis) for ply, t in enumerate(thoughts)]
    plies = np.arange(len(rates))
    last = max(1, len(game.moves))
    ax.set(xlim=(0, last), ylim=(0, 100), yticks=(0, 25, 50, 75, 100), facecolor="#efe9dc")
    ax.fill_between(plies, rates, 0, color="#33302b", linewidth=0)
    ax.axhline(50, color=PALE, linewidth=0.8, dashes=(4, 4))
    ax.plot(plies, rates, color=INK, linewidth=1.4)
    for mistake in listed:
        x, y = mistake.number, 100 - 100 * (mistake.before - mistake.loss)
        y = 100 - y if mistake.colour == BLACK else y
        ax.plot(x, y, "o", markersize=8, color=KINDS[mistake.kind], markeredgecolor="white", markeredgewidth=1.4,
                clip_on=False, zorder=3)
        ax.annotate(str(mistake.number), (x, y), (0, 8 if y < 80 else -15), textcoords="offset points", ha="center",
                    size=8, weight="bold", color="white",
                    bbox={"boxstyle": "round,pad=0.15", "fc": KINDS[mistake.kind], "ec": "none"}, zorder=4)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(length=0, labelsize=8.5, labelcolor=PALE)
    ax.set_ylabel("Black wins, %", size=9, color=PALE)
    ax.set_xlabel("Move", size=9, color=PALE)


def goban(ax: Axes, game: Game, thoughts: list[Thought], mistake: Mistake) -> None:
    """Draws the position before a mistake: a red ring where it was made, in numbers what would have been better."""
    shown = reviewed.board_before(game, thoughts, mistake)
    rows, columns, stones = shown["rows"], shown["columns"], shown["stones"]
    ax.set(xticks=[], yticks=[], facecolor=WOOD, aspect="equal")
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.hlines(range(rows), 0, columns - 1, LINE, linewidth=0.7, zorder=1)
    ax.vlines(range(columns), 0, rows - 1, LINE, linewidth=0.7, zorder=1)
    small = 55 / max(rows, columns, 9)
    for point in shown["stars"]:
        ax.add_patch(Circle((point % columns, point // columns), 0.09, color=LINE, zorder=1))
    for i in range(columns):
        ax.text(i, rows - 0.22, vertex.LETTERS[i], size=small, color=LINE, ha="center", va="center")
    for i in range(rows):
        ax.text(-0.78, i, str(rows - i), size=small, color=LINE, ha="center", va="center")

    def put(point: int, colour: int, alpha: float = 1.0) -> tuple[int, int]:
        y, x = divmod(point, columns)
        ax.add_patch(Circle((x + 0.03, y + 0.06), 0.48, color="#00000038", zorder=2, linewidth=0))
        ax.imshow(_stone(colour), extent=(x - 0.475, x + 0.475, y + 0.475, y - 0.475), zorder=3, alpha=alpha,
                  interpolation="antialiased")
        return x, y

    for point, colour in enumerate(stones):
        if colour:
            put(point, colour)
    if shown["last"] is not None and stones[shown["last"]]:
        y, x = divmod(shown["last"], columns)
        ax.add_patch(Circle((x, y), 0.18, fill=False, linewidth=1.3, zorder=4,
                            edgecolor="white" if stones[shown["last"]] == BLACK else INK))
    for step in shown["line"]:
        x, y = put(step["p"], step["colour"], 0.85)
        ax.text(x, y + 0.03, str(step["n"]), size=1.35 * small, weight="bold", ha="center", va="center", zorder=5,
                color="white" if step["colour"] == BLACK else INK)
    for mark in shown["marks"]:
        y, x = divmod(mark["p"], columns)
        colour, style = (PLAYED, "-") if mark["kind"] == "mistake" else (BETTER, (0, (2.2, 1.2)))
        ax.add_patch(Circle((x, y), 0.46, fill=False, edgecolor=colour, linewidth=small / 2.8, linestyle=style,
                            zorder=6))
    ax.set(xlim=(-1.05, columns + 0.05), ylim=(rows + 0.05, -1.05))  # last, for imshow moves them


@cache
def _stone(colour: int) -> np.ndarray:
    """A stone as RGBA pixels."""
    shades = ((105, 103, 100), (12, 11, 11)) if colour == BLACK else ((255, 255, 255), (200, 194, 182))
    return np.asarray(stone(*shades))


def _printable(text: str, most: int) -> str:
    """A line of at most so many letters, without those that the font has no picture of."""
    font = get_font(findfont(FontProperties()))
    shown = " ".join("".join(c for c in text if c.isspace() or font.get_char_index(ord(c))).split())
    return shown if len(shown) <= most else shown[: most - 1] + "…"
