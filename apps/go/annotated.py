"""A reviewed game as SGF: what the file held before, and on its main line what was thought of each position.

By FF[4]: `C` says it in words, `V` is the expected score (+ Black's), `DO` and `BM` mark moves that cost chances, `HO`
(hotspot) the positions in which most was lost, and a variation shows what would have been better.
"""

from __future__ import annotations

from collections.abc import Sequence

from apps.go import drawing, reviewed, sgf, vertex
from apps.go.game import BLACK, Game
from apps.go.player import Analysis
from apps.go.reviewed import Mistake
from apps.go.thinking import Thought

JUDGEMENTS = ("BM", "DO", "IT", "TE")
"""Of a move; FF[4] allows one of them."""


def annotate(root: sgf.Node, thoughts: list[Thought], hot: Sequence[Mistake] = (), by: str = "") -> sgf.Node:
    """Writes a review on the tree of a game, which is returned.

    Args:
        thoughts: of each position of the main line that is not an end, as `thinking.look_through` gives them.
        hot: the mistakes that are hotspots.
        by: who reviewed it, for the comment of the root.
    """
    game = Game.from_sgf(root)
    found = {m.number: m for m in reviewed.mistakes(game, thoughts, most=len(thoughts))}
    root.put("FF", "4")
    root.put("CA", "UTF-8")
    root.put("AP", "Wunderkammer")
    if by:
        _say(root, f"Reviewed by {by}.")
    ply, line = 0, root.main_line()
    for node, before in zip(line, [None, *line], strict=False):
        moves = ("B" in node.properties) + ("W" in node.properties)
        for _ in range(moves):
            ply += 1
            if mistake := found.get(ply):
                _judge(node, mistake, reviewed.why(game, thoughts, mistake), mistake in hot)
                if before is not None:  # beside a move in the root nothing can stand
                    _vary(before, game, mistake, thoughts[ply - 1].analysis)
        if ply < len(thoughts) and (moves or node is root):
            analysis = thoughts[ply].analysis
            node.put("V", f"{round(_black(game, ply) * analysis.score_lead, 1) + 0:g}")
            _say(node, words(game, ply, analysis))
    return root


def words(game: Game, ply: int, analysis: Analysis) -> str:
    """A position in one sentence: who is ahead, and what to play."""
    mover = "Black" if _black(game, ply) == BLACK else "White"
    rate = drawing.percent(drawing.black_rate(game, ply, analysis))
    points = analysis.score_lead * _black(game, ply)
    lead = f"{'B' if points >= 0 else 'W'}+{abs(points):.1f}"
    return f"Black wins {rate}, {lead}. Best for {mover}: {' '.join(analysis.pv)}"


def _black(game: Game, ply: int) -> int:
    """Who moves after `ply` moves."""
    return game.moves[ply].colour if ply < len(game.moves) else game.to_move


def _judge(node: sgf.Node, mistake: Mistake, why: dict[str, str], hot: bool) -> None:
    for name in JUDGEMENTS:
        node.properties.pop(name, None)
    if mistake.kind == "doubtful":
        node.properties["DO"] = [""]
    else:
        node.put("BM", "2" if mistake.kind == "blunder" else "1")
    if hot:
        node.put("HO", "2" if mistake.kind == "blunder" else "1")
    _say(node, "\n".join([mistake.sentence, *why.values()]))


def _vary(before: sgf.Node, game: Game, mistake: Mistake, analysis: Analysis) -> None:
    """Adds the better line beside the move that was played."""
    node, colour = before, mistake.colour
    for i, name in enumerate(analysis.pv):
        row, column = divmod(vertex.parse(game.spec, name), game.spec.columns)
        place = "" if row == game.spec.rows else sgf.from_point(row, column)
        node = node.add({"B" if colour == BLACK else "W": [place]})
        if i == 0:
            _say(node, f"Better than {mistake.move}: wins {drawing.percent(analysis.winrate)}.")
        colour = -colour


def _say(node: sgf.Node, text: str) -> None:
    """Puts a comment below what the node says already."""
    said = node.text("C")
    node.put("C", f"{said}\n\n{text}" if said else text)
