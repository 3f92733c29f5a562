"""A reviewed game as one HTML file that needs no other: a board to walk through it, the win rate, the mistakes and why.

The boards are those of the site (`board/board.js`). Whatever came from the game's file is escaped, and a content policy
lets the page fetch nothing.
"""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import Any

from apps.go import annotated, drawing, reviewed
from apps.go.game import BLACK, Game
from apps.go.reviewed import Mistake
from apps.go.thinking import Thought

BOARD = Path(__file__).parent / "board"


def page(game: Game, thoughts: list[Thought], listed: list[Mistake], title: str, facts: str, foot: str) -> str:
    """The text of the HTML file."""
    last, found = max(1, len(game.moves)), {mistake.number: mistake for mistake in listed}
    points = [(ply, 100 - 100 * drawing.black_rate(game, ply, t.analysis)) for ply, t in enumerate(thoughts)]
    curve = "M" + "L".join(f"{ply} {y:.1f}" for ply, y in points)
    kinds = " ".join(f'<span class="{kind}">costs {drawing.percent(least)} or more</span>' for kind, least in (
        ("blunder", reviewed.BLUNDER), ("bad", reviewed.BAD), ("doubtful", reviewed.LEAST)))
    shows = "".join(f'<button data-layer="{name.lower()}" aria-pressed="false">{name}</button>'
                    for name in drawing.SHOWS)
    positions = [_position(game, ply, thoughts, found.get(ply + 1)) for ply in range(len(game.moves) + 1)]
    boards = [reviewed.board_before(game, thoughts, mistake) for mistake in listed]
    some = "".join(_article(i, game, thoughts, mistake) for i, mistake in enumerate(listed))
    parts = {
        "title": escape(title), "facts": escape(facts), "foot": escape(foot), "last": str(last), "kinds": kinds,
        "style": _file("board.css") + _file("sheet.css"), "shows": shows, "curve": curve,
        "area": f"{curve}L{points[-1][0]} 100L0 100Z", "dots": "\n".join(_dot(m, last) for m in listed),
        "heading": "The biggest mistakes" if listed else "No big mistakes",
        "mistakes": some or f"<p>No move cost {drawing.percent(reviewed.LEAST)} or more.</p>",
        "data": json.dumps({"positions": positions, "mistakes": boards}, separators=(",", ":")).replace("<", "\\u003c"),
        "script": _file("board.js").replace("export default function", "function start") + _file("sheet.js"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _file("sheet.html"))


def _file(name: str) -> str:
    return (BOARD / name).read_text("utf-8")


def _position(game: Game, ply: int, thoughts: list[Thought], mistake: Mistake | None) -> dict[str, Any]:
    """A board with all overlays, for the script to choose from, and the words below it."""
    position, last = game.at(ply), game.moves[ply - 1] if ply else None
    said = f"Move {ply}, {'Black' if last.colour == BLACK else 'White'} {last.vertex}. " if last else ""
    if ply >= len(thoughts):
        return drawing.board(position) | {"words": said + "The game is over."}
    if mistake:
        shown = reviewed.board_before(game, thoughts, mistake, drawing.SHOWS)
        return shown | {"words": f"{said}{annotated.words(game, ply, thoughts[ply].analysis)}. {mistake.sentence}"}
    if ply < len(game.moves):
        position.turn(game.moves[ply].colour)
    shown = drawing.board(position, thoughts[ply].analysis, shows=drawing.SHOWS)
    return shown | {"words": f"{said}{annotated.words(game, ply, thoughts[ply].analysis)}."}


def _dot(mistake: Mistake, last: int) -> str:
    """A mistake on the graph, a button that leads to it."""
    rate = mistake.before - mistake.loss
    top = 100 * (1 - rate if mistake.colour == BLACK else rate)
    return (f'<button class="dot {mistake.kind}" data-ply="{mistake.number - 1}" title="{mistake.short}" '
            f'aria-label="{mistake.short}" style="left:{100 * mistake.number / last:.2f}%;top:{top:.1f}%"></button>')


def _article(number: int, game: Game, thoughts: list[Thought], mistake: Mistake) -> str:
    """A mistake in words, with the moves that were considered."""
    position, analysis = game.at(mistake.number - 1), thoughts[mistake.number - 1].analysis
    rows = drawing.candidates(position, analysis, [mistake.move])
    cells = "".join(
        f'<tr{" class=played" if row["Move"] == mistake.move else ""}><td>{row["Move"]}</td><td>{row["Net"]:.0f} %</td>'
        f'<td>{row["Search"]:.0f} %</td><td>{"" if row["Wins"] is None else format(row["Wins"], ".0f") + " %"}</td>'
        f'<td>{row["Then"]}</td></tr>' for row in rows)
    why = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>"
                  for name, text in reviewed.why(game, thoughts, mistake).items())
    return (f'<article class="{mistake.kind}"><div class="board" id="mistake-{number}">'
            '<svg role="grid" preserveAspectRatio="xMidYMid meet"></svg><p class="said"></p></div>'
            f'<div><h3>{mistake.short}</h3><p class="cost">{mistake.kind.capitalize()}: {mistake.cost}. '
            f'Better is {mistake.better}.</p>'
            f'<dl>{why}</dl><div class="scroll"><table><thead><tr><th>Move</th><th>Net</th><th>Search</th><th>Wins</th>'
            f'<th>Then</th></tr></thead><tbody>{cells}</tbody></table></div></div></article>\n')
