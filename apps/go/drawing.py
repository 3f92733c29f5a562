"""What the page shows of a position, as plain data: the board for its component, rows for tables, words for people."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from apps.go import vertex
from apps.go.game import BLACK, Game
from apps.go.player import Analysis, Candidate
from apps.go.thinking import Thought

SHOWS = ("Policy", "Search", "Ownership", "Line")
MOST_CANDIDATES, LONGEST_LINE = 8, 8


def board(game: Game, analysis: Analysis | None = None, *, shows: Collection[str] = (), serial: int = 0,
          can_play: bool = False, pick: bool = False, busy: bool = False, dead: Collection[str] = (),
          marks: Mapping[str, str] | None = None, said: str = "") -> dict[str, Any]:
    """The data of the board component.

    Args:
        shows: which of `SHOWS` to lay over the stones.
        can_play: whether a click plays; `pick`: whether it points at a stone.
        marks: kinds ("mistake", "better") by vertex.
    """
    spec, stones = game.spec, game.board
    mask = game.mask() if can_play else np.zeros(spec.actions, np.int8)
    size = spec.rows * spec.columns

    def points(names: Collection[str]) -> list[int]:
        found = [vertex.parse(spec, name) for name in names]
        return [point for point in found if point < size]

    last = points([game.moves[-1].vertex])[:1] if game.moves else []
    bare = (stones.ravel() == 0) & (can_play and game.name == "go")
    suspects = np.flatnonzero(bare & (np.resize(mask, size) == 0))
    reasons = {int(p): game.illegal_reason(vertex.name(spec, int(p))) or "" for p in suspects}
    ko = [point for point, why in reasons.items() if why.startswith(("ko", "superko"))]
    data: dict[str, Any] = {
        "game": game.name, "rows": spec.rows, "columns": spec.columns, "stones": stones.ravel().tolist(),
        "stars": stars(spec.rows, spec.columns) if game.name in ("go", "gomoku") else [],
        "toMove": game.to_move, "last": last[0] if last else None, "ko": ko, "legal": np.flatnonzero(mask).tolist(),
        "open": can_play, "pick": pick, "busy": busy, "serial": serial, "said": said, "dead": points(dead),
        "marks": [{"p": p, "kind": kind} for name, kind in (marks or {}).items() for p in points([name])],
        "heat": [], "moves": [], "own": [], "line": []}
    if analysis is None:
        return data
    if "Policy" in shows:
        data["heat"] = [{"p": int(p), "share": round(float(analysis.policy[p]), 4)}
                        for p in np.flatnonzero(analysis.policy[:size] >= 0.005)]
    if "Search" in shows:
        data["moves"] = [{"p": p, "visits": move.visits, "rate": round(move.winrate, 4), "best": i == 0,
                          "share": round(move.visits / analysis.moves[0].visits, 4)}
                         for i, move in enumerate(analysis.moves[:MOST_CANDIDATES]) for p in points([move.move])]
    if "Ownership" in shows and analysis.ownership is not None:
        data["own"] = [round(float(value), 2) for value in analysis.ownership.ravel()]
    if "Line" in shows:
        data["line"] = line(game, analysis.pv)
    return data


def line(game: Game, moves: list[str]) -> list[dict[str, int]]:
    """Where a line's moves lie, whose they are, and their numbers; a point that is played twice keeps its first."""
    found: dict[int, dict[str, int]] = {}
    for i, name in enumerate(moves[:LONGEST_LINE]):
        point = vertex.parse(game.spec, name)
        if point < game.spec.rows * game.spec.columns:
            found.setdefault(point, {"p": point, "colour": game.to_move * (-1) ** i, "n": i + 1})
    return list(found.values())


def stars(rows: int, columns: int) -> list[int]:
    """The points that are marked on a board, for the eye."""

    def lines(edge: int) -> list[int]:
        near = 3 if edge >= 13 else 2
        return sorted({near, edge // 2, edge - 1 - near}) if edge % 2 and edge >= 7 else []

    across, down = lines(columns), lines(rows)
    if min(rows, columns) == 5 and rows == columns:
        return [rows * columns // 2]
    crossed = [(r, c) for r in down for c in across]
    if min(rows, columns) < 19:  # corners and the middle
        crossed = [(r, c) for r, c in crossed if (r == rows // 2) == (c == columns // 2)]
    return [r * columns + c for r, c in crossed]


# Words and rows -------------------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{100 * share:.0f} %"


def strength(visits: int, results: Path) -> str:
    """What a number of visits is called, with its Elo where results.json holds `{"elo": {"64": {"value": ...}}}`."""
    try:
        measured = json.loads(results.read_text("utf-8"))["elo"][str(visits)]["value"]
        return f"{visits} · Elo {measured:.0f}"
    except (OSError, ValueError, KeyError, TypeError):
        return "1, no search" if visits == 1 else str(visits)


def black_rate(game: Game, ply: int, analysis: Analysis) -> float:
    """Black's chance in the position before move number `ply`, 0..1."""
    mover = game.moves[ply].colour if ply < len(game.moves) else game.to_move
    return analysis.winrate if mover == BLACK else 1 - analysis.winrate


def curve(game: Game, thoughts: Mapping[int, Thought]) -> list[dict[str, float]]:
    """Black's chance, in percent, over the game: rows of a graph."""
    return [{"Move": ply, "Black": round(100 * black_rate(game, ply, thoughts[ply].analysis), 1)}
            for ply in sorted(thoughts) if ply <= len(game.moves)]


def graph(at: int | None = None) -> dict[str, Any]:
    """A Vega-Lite picture of the rows of `curve`, with a line at one of the positions."""
    x = {"field": "Move", "type": "quantitative", "title": None, "scale": {"domainMin": 0, "nice": False},
         "axis": {"tickMinStep": 1, "grid": False}}
    y = {"field": "Black", "type": "quantitative", "title": "Black wins, %", "scale": {"domain": [0, 100]},
         "axis": {"values": [0, 25, 50, 75, 100]}}
    area = {"type": "area", "line": True, "opacity": 0.25, "interpolate": "monotone", "tooltip": True}
    half = {"type": "rule", "strokeDash": [4, 4], "color": "gray"}
    layers: list[dict[str, Any]] = [{"mark": area, "encoding": {"x": x, "y": y}},
                                    {"mark": half, "data": {"values": [{"Black": 50}]}, "encoding": {"y": y}}]
    if at is not None:
        layers.append({"mark": {"type": "rule", "color": "#b9722b", "size": 2}, "data": {"values": [{"Move": at}]},
                       "encoding": {"x": x}})
    return {"layer": layers}


def lead(game: Game, analysis: Analysis) -> str:
    """Who leads by how many points: "B+3.5"."""
    points = analysis.score_lead * game.to_move
    return f"{'B' if points >= 0 else 'W'}+{abs(points):.1f}"


def candidates(game: Game, analysis: Analysis, also: Collection[str] = ()) -> list[dict[str, Any]]:
    """The moves that were thought of first or searched most: their prior, share of visits and chance, in percent.

    Args:
        also: moves to be told of in any case.
    """
    searched = {move.move: move for move in analysis.moves}
    favourites = [vertex.name(game.spec, int(a)) for a in np.argsort(-analysis.policy)[:3]]
    names = list(dict.fromkeys([*[move.move for move in analysis.moves[:5]], *favourites, *also]))
    total = max(1, int(analysis.visits.sum()))
    rows = []
    for name in names:
        move = searched.get(name)
        prior = float(analysis.policy[vertex.parse(game.spec, name)])
        rows.append({"Move": name, "Net": 100 * prior, "Search": 100 * (move.visits if move else 0) / total,
                     "Wins": 100 * move.winrate if move else None, "Then": " ".join(move.pv[1:6]) if move else ""})
    return rows


def verdict(game: Game, thought: Thought) -> str:
    """One sentence: what the net wanted at first sight, and what the search made of it."""
    analysis = thought.analysis
    first = vertex.name(game.spec, int(analysis.policy.argmax()))
    prior = percent(float(analysis.policy.max()))
    if thought.visits == 1 or not analysis.moves:
        return f"The net alone, without any search, wants {first} ({prior})."
    best: Candidate = analysis.moves[0]
    if first == best.move:
        return (f"The net wants {first} at first sight ({prior}), and {thought.visits} visits of search agree: it wins "
                f"{percent(best.winrate)}.")
    other = next((move for move in analysis.moves if move.move == first), None)
    against = f" against {percent(other.winrate)}" if other else ", and the other is not even looked at"
    return (f"The net wants {first} at first sight ({prior}). **Search changed its mind:** {best.move}, which wins "
            f"{percent(best.winrate)}{against}.")
