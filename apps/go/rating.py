"""Elo of many players from their matches (Bradley and Terry 1952), and the picture of a run's curve."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

SCALE = 400 / np.log(10)
PAPER, INK, MUTED, GRID = "#f7f6f2", "#1f2a33", "#6b7780", "#d9d8d2"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a8578c", "#b8860b")  # told apart by the colour-blind, on paper


@dataclass(frozen=True)
class Result:
    """What came of a match: A's points (a draw is half a point) in n games."""

    a: str
    b: str
    points: float
    n: int


@dataclass(frozen=True)
class Rating:
    """Elo with its 95 % interval; the first anchor has 0."""

    elo: float
    low: float
    high: float


def ratings(results: list[Result], anchor: str, prior: float = 1.0) -> dict[str, Rating]:
    """The most likely ratings; the interval is that of the curvature there, relative to the anchor.

    Args:
        prior: drawn games that are added to each match, without which a match won to nil would say infinity.
    """
    names = [anchor, *sorted({name for r in results for name in (r.a, r.b)} - {anchor})]
    pairs = [(names.index(r.a), names.index(r.b), r.points + prior / 2, r.n + prior) for r in results]
    x = np.zeros(len(names))
    for _ in range(100):
        slope, curve = np.zeros(len(x)), np.zeros((len(x), len(x)))
        for a, b, points, n in pairs:
            p = 1 / (1 + np.exp(x[b] - x[a]))
            slope[[a, b]] += np.array([1, -1]) * (points - n * p)
            curve[np.ix_([a, b], [a, b])] += n * p * (1 - p) * np.array([[1, -1], [-1, 1]])
        inverse = np.linalg.pinv(curve[1:, 1:])
        step = inverse @ slope[1:]
        x[1:] += np.clip(step, -1, 1)
        if np.abs(step).max(initial=0) < 1e-9:
            break
    wide = np.concatenate([[0], 1.96 * np.sqrt(np.diag(inverse))]) if len(x) > 1 else np.zeros(1)
    return {name: Rating(*(float(round(SCALE * v, 1)) for v in (e, e - w, e + w)))
            for name, e, w in zip(names, x, wide, strict=True)}


def picture(curve: dict[int, Rating], anchors: dict[str, Rating], title: str) -> bytes:
    """Draws the ratings of a run's nets over generations as one small PNG, the anchors as lines across."""
    figure = Figure((6.4, 3.8), dpi=130, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_facecolor(PAPER)
    axes.grid(visible=True, color=GRID, linewidth=0.7)
    axes.tick_params(colors=MUTED, labelsize=8, length=0)
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=MUTED)
    x = list(curve)
    low, elo, high = (np.array([getattr(r, key) for r in curve.values()]) for key in ("low", "elo", "high"))
    axes.fill_between(x, low, high, color=COLOURS[0], alpha=0.18, linewidth=0)
    axes.plot(x, elo, "o-", color=COLOURS[0], markersize=3.5, linewidth=1.5)
    for (name, rating), colour in zip(anchors.items(), COLOURS[1:] * len(anchors), strict=False):
        axes.axhline(rating.elo, color=colour, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(name, (1, rating.elo), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8,
                      color=colour)
    axes.set_xlabel("generation", color=INK, fontsize=9)
    axes.set_ylabel(f"Elo, 95 % interval, {next(iter(anchors), 'the first')} = 0", color=INK, fontsize=9)
    axes.set_title(title, loc="left", color=INK, fontsize=10, fontweight="bold", pad=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
