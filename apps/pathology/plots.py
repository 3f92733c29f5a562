"""The pictures of the README and of the page: each function returns the bytes of one small PNG.

Figures are drawn on their own light paper, so they read alike on a light and a dark page. They share no state (no
pyplot, no rcParams), so threads may draw at once, and equal input gives equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont
from scipy.stats import norm

from apps.pathology import calibration
from apps.pathology.froc import RATES

PAPER, INK, MUTED, GRID = "#f7f6f2", "#1f2a33", "#6b7780", "#d9d8d2"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a8578c", "#b8860b", "#3d8fc2")  # told apart by the colour-blind, on paper
DPI = 130
MOST_BYTES = 60 * 1024

Curves = Mapping[str, ArrayLike]  # the name of a model -> its probabilities (N,)


def reliability(before: ArrayLike, after: ArrayLike, labels: ArrayLike, bins: int = 15) -> bytes:
    """Draw observed frequency against probability before and after calibration, with 95 % Wilson bars and bin counts.

    Args:
        before: (N,) probabilities as the net gives them.
        after: (N,) calibrated probabilities.
        labels: (N,) 0 or 1.
    """
    figure = _figure(6.0, 6.0)
    upper, lower = figure.subplots(2, 1, height_ratios=(4, 1.15), sharex=True)
    upper.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    for name, p, colour, final in (("as trained", before, COLOURS[1], False), ("calibrated", after, COLOURS[0], True)):
        rows = [row for row in calibration.reliability(p, labels, bins) if row["n"]]
        mean, observed, n = (np.array([row[key] for row in rows], float) for key in ("mean", "observed", "n"))
        label = f"{name}: ECE {calibration.ece(p, labels, bins):.3f}"
        if final:
            low, high = _wilson(observed, n)
            upper.vlines(mean, low, high, color=colour, linewidth=1.2, alpha=0.65)
            upper.plot(mean, observed, "o-", color=colour, markersize=5, linewidth=1.4, label=label, zorder=3)
        else:
            upper.plot(mean, observed, "o-", color=colour, markersize=5, markerfacecolor=PAPER, lw=1, label=label)
        lower.stairs(
            [row["n"] for row in calibration.reliability(p, labels, bins)],
            np.linspace(0, 1, bins + 1),
            fill=final,
            color=colour,
            alpha=0.45 if final else 1,
            linewidth=1.2,
        )
    _dress(upper, "", "share that is tumour", f"Of tiles scored p, how many are tumour?  n = {np.size(labels):,}")
    _dress(lower, "probability of tumour", "tiles")
    lower.set_yscale("symlog", linthresh=10)
    lower.yaxis.set_major_locator(FixedLocator((0, 10, 100, 1000, 10_000)))
    lower.yaxis.set_minor_locator(NullLocator())
    lower.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    _legend(upper, "upper left")
    return _png(figure)


def roc(curves: Curves, labels: ArrayLike, resamples: int = 1000) -> bytes:
    """Draw ROC curves of several models on the same labels, AUROC and its bootstrap interval in the legend.

    The first model is the one that matters: it gets a pointwise 95 % band and its corner is enlarged.
    """
    figure = _figure(6.0, 5.4)
    axes = figure.subplots()
    corner = axes.inset_axes((0.44, 0.3, 0.53, 0.46))
    corner.set(xlim=(0, 0.2), ylim=(0.8, 1.0), facecolor=PAPER, xticks=(0, 0.1, 0.2), yticks=(0.8, 0.9, 1.0))
    _plain(corner)
    for i, (name, p) in enumerate(curves.items()):
        low, high = calibration.bootstrap(calibration.auroc, p, labels, resamples)
        colour = COLOURS[i % len(COLOURS)]
        false, true = _roc_points(p, labels)
        if i == 0:
            grid, below, above = _roc_band(p, labels, min(resamples, 400))
            for a in (axes, corner):
                a.fill_between(grid, below, above, color=colour, alpha=0.18, linewidth=0)
        label = f"{name}: {calibration.auroc(p, labels):.3f} [{low:.3f}, {high:.3f}]"
        for a in (axes, corner):
            a.plot(false, true, color=colour, linewidth=1.8 if i == 0 else 1.2, label=label, zorder=4 - i / 10)
    _dress(axes, "false-positive rate (1 - specificity)", "sensitivity", "ROC, AUROC with 95 % interval")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _legend(axes, "lower right")
    return _png(figure)


def selective_risk(curves: Curves, labels: ArrayLike, uncertain: Mapping[str, ArrayLike] | None = None) -> bytes:
    """Draw the error among the answered against the share answered; a dot where the conformal predictor abstains.

    Args:
        uncertain: for some of the models, (N,) bool, where it abstains.
    """
    figure = _figure(6.4, 4.2)
    axes = figure.subplots()
    y = np.asarray(labels)
    top = 0.0
    for i, (name, p) in enumerate(curves.items()):
        coverage, risk, aurc = calibration.selective_risk(p, y)
        shown = coverage >= min(1.0, 20 / len(y))  # of fewer answers the error is noise
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(coverage[shown], risk[shown], color=colour, linewidth=1.8, label=f"{name}: area {aurc:.4f}")
        top = max(top, float(risk[shown].max()))
        if uncertain and name in uncertain:
            answered = ~np.asarray(uncertain[name], bool)
            if answered.any():
                error = float(np.mean((np.asarray(p)[answered] >= 0.5) != y[answered]))
                axes.plot(answered.mean(), error, "o", color=colour, markersize=8, markeredgecolor=INK, zorder=5,
                          label=f"   abstains on {1 - answered.mean():.0%}: {error:.1%} wrong")  # fmt: skip
    _dress(axes, "share of tiles answered, surest first", "wrong among the answered", "What abstaining buys")
    axes.set(xlim=(-0.01, 1.01), ylim=(0, max(1.1 * top, 0.01)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.3g} %"))
    _legend(axes, "upper left")
    return _png(figure)


def froc(false_positives: ArrayLike, sensitivity: ArrayLike) -> bytes:
    """Draw the share of lesions found against false positives per slide, with CAMELYON16's six dots and their mean.

    Args:
        false_positives: (K,) per slide, ascending.
        sensitivity: (K,) at each of them, in [0, 1].
    """
    false, found = np.asarray(false_positives, float), np.asarray(sensitivity, float)
    if false.ndim != 1 or false.shape != found.shape or not len(false) or (np.diff(false) < 0).any():
        raise ValueError(f"false positives {false.shape}, sensitivity {found.shape}: wanted (K,) twice, ascending")
    figure = _figure(6.4, 4.0)
    axes = figure.subplots()
    at = np.interp(RATES, false, found)
    # A log axis has no 0: what is found without any false positive starts at the left edge.
    x = np.geomspace(RATES[0] / 2, RATES[-1] * 1.3, 400)
    axes.plot(x, np.interp(x, false, found), color=COLOURS[0], linewidth=1.8)
    axes.plot(RATES, at, "o", color=COLOURS[0], markersize=6)
    for rate, value in zip(RATES, at, strict=True):
        axes.annotate(f"{value:.2f}", (rate, value), (0, -14), textcoords="offset points", ha="center", fontsize=8,
                      color=INK)  # fmt: skip
    axes.set(xscale="log", xlim=(x[0], x[-1]), ylim=(-0.02, 1.05))
    axes.xaxis.set_major_locator(FixedLocator(RATES))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: {0.25: "1/4", 0.5: "1/2"}.get(v, f"{v:g}")))
    _dress(axes, "false positives per slide", "lesions found", f"FROC, mean of the six dots {at.mean():.3f}")
    return _png(figure)


def comparison(scores: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> bytes:
    """Draw each model's value and interval, one panel per score, one row per model.

    Args:
        scores: a model -> its scores by name -> (value, low, high); a model may lack some. Names with "ECE", "NLL",
            "Brier" or "risk" are marked as better to the left.
    """
    models = list(scores)
    names = list(dict.fromkeys(name for values in scores.values() for name in values))
    figure = _figure(1.9 + 2.3 * len(names), 0.95 + 0.42 * len(models))
    panels = np.atleast_1d(figure.subplots(1, len(names), sharey=True))
    for axes, name in zip(panels, names, strict=True):
        for row, model in enumerate(models):
            if name in scores[model]:
                value, low, high = scores[model][name]
                colour = COLOURS[row % len(COLOURS)]
                axes.hlines(row, low, high, color=colour, linewidth=2.2, alpha=0.6)
                axes.plot(value, row, "o", color=colour, markersize=6)
                axes.annotate(f"{value:.3f}", (value, row), (0, 5), textcoords="offset points", ha="center", fontsize=8,
                              color=INK)  # fmt: skip
        less = any(word in name.lower() for word in ("ece", "nll", "brier", "risk"))
        _dress(axes, "", "", f"{name} {'(less is better)' if less else ''}".strip())
        axes.set_ylim(len(models) - 0.5, -0.6)
        axes.margins(x=0.12)
        axes.locator_params(axis="x", nbins=4)
        axes.grid(visible=False, axis="y")
    panels[0].set_yticks(range(len(models)), models, fontsize=9, color=INK)
    return _png(figure)


def saliency(
    tiles: ArrayLike, saliency: ArrayLike, probability: ArrayLike, labels: ArrayLike | None = None, columns: int = 6
) -> bytes:
    """Draw tiles in colour where the net looks and faded elsewhere, with a line at half the greatest saliency.

    A dark frame shows the centre that the label speaks of; above each tile stand its probability and its truth.

    Args:
        tiles: (N, H, W, 3) uint8 RGB; a dozen fills the sheet.
        saliency: (N, H, W) float in [0, 1].
        probability: (N,) of tumour.
        labels: (N,) 0 or 1 if known.
    """
    tiles, heat, p = np.asarray(tiles), np.asarray(saliency, np.float32), np.asarray(probability)
    if tiles.ndim != 4 or tiles.shape[:3] != heat.shape or not len(tiles):
        raise ValueError(f"tiles {tiles.shape}, saliency {heat.shape}: wanted (N, H, W, 3) and (N, H, W), N > 0")
    n, height, width, _ = tiles.shape
    gap, line = 8, 16
    columns = min(columns, n)
    sheet = Image.new("RGB", (gap + columns * (width + gap), gap + -(-n // columns) * (height + line + gap)), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for i in range(n):
        x, y = gap + i % columns * (width + gap), gap + i // columns * (height + line + gap)
        truth = "" if labels is None else ("  tumour" if np.asarray(labels)[i] else "  normal")
        draw.text((x, y), f"{p[i]:.2f}{truth}", fill=INK, font=font)
        sheet.paste(Image.fromarray(_spotlit(tiles[i], heat[i])), (x, y + line))
        box = (x + width // 3, y + line + height // 3, x + width - width // 3 - 1, y + line + height - height // 3 - 1)
        draw.rectangle(box, outline=INK)
    return _small(sheet)


# -- pieces ------------------------------------------------------------------------------------------------------------


def _spotlit(tile: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Fade a tile (H, W, 3) to the paper where heat (H, W) is 0, and draw a line where it crosses one half."""
    s = (0.25 + 0.75 * np.clip(heat, 0, 1))[..., None]
    lit = tile * s + np.array(ImageColor.getrgb(PAPER)) * (1 - s)
    inside = np.pad(heat >= 0.5, 1, mode="edge")
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    lit[inside[1:-1, 1:-1] & ~core] = ImageColor.getrgb(COLOURS[1])
    return lit.astype(np.uint8)


def _wilson(share: NDArray, n: NDArray) -> tuple[NDArray, NDArray]:
    """Return the 95 % interval of Wilson (1927) of observed shares."""
    z = norm.ppf(0.975)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)


def _roc_points(p: ArrayLike, labels: ArrayLike) -> tuple[NDArray, NDArray]:
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(labels, p)
    return false, true


def _roc_band(p: ArrayLike, labels: ArrayLike, resamples: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return false-positive rates and the pointwise 95 % interval of sensitivity at each."""
    p, y = np.asarray(p, np.float64), np.asarray(labels)
    rng = np.random.default_rng(0)
    grid = np.linspace(0, 1, 201)
    curves = np.empty((resamples, len(grid)))
    positive, negative = np.sort(p[y == 1]), np.sort(p[y == 0])
    for i in range(resamples):
        drawn = np.sort(rng.choice(negative, len(negative)))
        threshold = np.quantile(drawn, 1 - grid, method="inverted_cdf")
        caught = np.sort(rng.choice(positive, len(positive)))
        curves[i] = 1 - np.searchsorted(caught, threshold, side="right") / len(caught)
    curves[:, -1] = 1.0
    low, high = np.quantile(curves, (0.025, 0.975), axis=0)
    return grid, low, high


def _figure(width: float, height: float) -> Figure:
    figure = Figure((width, height), dpi=DPI, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plain(axes: Axes) -> None:
    axes.grid(visible=True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=8, length=0)
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=MUTED)


def _dress(axes: Axes, x: str, y: str, title: str = "") -> None:
    axes.set_facecolor(PAPER)
    _plain(axes)
    axes.set_xlabel(x, color=INK, fontsize=9)
    axes.set_ylabel(y, color=INK, fontsize=9)
    if title:
        axes.set_title(title, loc="left", color=INK, fontsize=10, fontweight="bold", pad=8)


def _legend(axes: Axes, place: Any) -> None:
    axes.legend(loc=place, fontsize=8, labelcolor=INK, facecolor=PAPER, edgecolor="none", framealpha=0.9)


def _png(figure: Figure) -> bytes:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return _small(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))


def _small(picture: Image.Image) -> bytes:
    """Write as few colours as it takes to stay below 60 KiB; the same pixels give the same bytes."""
    for colours in (128, 64, 32, 16):
        file = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(file, "png", optimize=True)
        if file.tell() <= MOST_BYTES:
            break
    return file.getvalue()
