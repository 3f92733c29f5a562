"""Pictures are small PNGs, the same for the same input, and drawn from the numbers."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit

from apps.pathology import plots

RNG = np.random.default_rng(0)
LABELS = (RNG.random(400) < 0.4).astype(int)
LOGITS = RNG.normal(0, 1.6, 400) + (LABELS * 2 - 1) * 2.0
P, OVERSURE = expit(LOGITS), expit(3 * LOGITS + 1)
BLIND = RNG.random(400)
STAINS = RNG.integers(80, 250, (10, 3), dtype=np.uint8)
TILES = STAINS[RNG.integers(0, 10, (12, 24, 24))].repeat(4, 1).repeat(4, 2)
HEAT = RNG.random((12, 96, 96)).astype(np.float32)

COLOUR = {"AUROC": (0.85, 0.83, 0.87)}


def hot(spot: int) -> np.ndarray:
    heat = np.zeros((12, 96, 96), np.float32)
    heat[:, spot : spot + 24, spot : spot + 24] = 1
    return heat


# What is drawn, and the same from other numbers.
DRAWN = {
    "reliability": (lambda: plots.reliability(OVERSURE, P, LABELS), lambda: plots.reliability(P, P**2, LABELS)),
    "roc": (
        lambda: plots.roc({"net": P, "colour": BLIND}, LABELS, 100),
        lambda: plots.roc({"net": BLIND, "colour": P}, LABELS, 100),
    ),
    "selective_risk": (
        lambda: plots.selective_risk({"net": P, "blind": BLIND}, LABELS, {"net": np.abs(P - 0.5) < 0.2}),
        lambda: plots.selective_risk({"net": P, "blind": BLIND}, LABELS),
    ),
    "froc": (
        lambda: plots.froc([0, 0.5, 2, 6], [0.2, 0.5, 0.7, 0.9]),
        lambda: plots.froc([0, 0.5, 2, 6], [0.2, 0.5, 0.7, 0.8]),
    ),
    "comparison": (
        lambda: plots.comparison({"net": {"AUROC": (0.97, 0.96, 0.98), "ECE": (0.02, 0.01, 0.03)}, "colour": COLOUR}),
        lambda: plots.comparison({"net": {"AUROC": (0.97, 0.96, 0.98), "ECE": (0.02, 0.01, 0.04)}, "colour": COLOUR}),
    ),
    "saliency": (
        lambda: plots.saliency(TILES, hot(0), P[:12], LABELS[:12]),
        lambda: plots.saliency(TILES, hot(60), P[:12], LABELS[:12]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_a_small_png_that_depends_on_the_numbers_and_on_nothing_else(name):
    draw, draw_other = DRAWN[name]
    png = draw()
    picture = Image.open(io.BytesIO(png))
    picture.load()
    assert picture.format == "PNG"
    assert 500 <= picture.width <= 1100
    assert 200 <= picture.height <= 900
    assert 2_000 < len(png) <= plots.MOST_BYTES
    assert draw() == png
    assert draw_other() != png
    corner = np.array(picture.convert("RGB"))[-3, 3].astype(int)
    assert np.abs(corner - [0xF7, 0xF6, 0xF2]).max() <= 4, "it brings its own paper"


def test_threads_draw_at_once():
    with ThreadPoolExecutor(3) as pool:
        pngs = list(pool.map(lambda _: DRAWN["froc"][0](), range(3)))
    assert len(set(pngs)) == 1


def test_drawing_leaves_pyplot_alone():
    import sys

    DRAWN["froc"][0]()
    figures = sys.modules["matplotlib.pyplot"].get_fignums() if "matplotlib.pyplot" in sys.modules else []
    assert figures == []


def test_the_sheet_shows_the_tile_where_the_heat_is_and_paper_elsewhere():
    sheet = np.array(Image.open(io.BytesIO(plots.saliency(TILES[:1], hot(0)[:1], P[:1]))).convert("RGB")).astype(float)
    tile = sheet[24 : 24 + 96, 8 : 8 + 96]
    lit, faded = tile[4:20, 4:20], tile[70:90, 70:90]
    assert np.abs(lit - TILES[0, 4:20, 4:20]).mean() < 8
    wanted = 0.25 * TILES[0, 70:90, 70:90] + 0.75 * np.array([0xF7, 0xF6, 0xF2])
    assert np.abs(faded - wanted).mean() < 8


def test_a_picture_of_noise_gets_as_few_colours_as_it_takes():
    noise = Image.fromarray(RNG.integers(0, 256, (260, 300, 3), dtype=np.uint8))
    assert len(plots._small(noise)) <= plots.MOST_BYTES
    assert len(Image.open(io.BytesIO(plots._small(noise))).getcolors()) < 128


def test_the_band_of_the_roc_curve_holds_the_curve():
    grid, low, high = plots._roc_band(P, LABELS, 300)
    negative = np.sort(P[LABELS == 0])
    for at, below, above in zip(grid, low, high, strict=True):
        allowed = int(np.floor(at * len(negative) + 1e-9))
        threshold = negative[len(negative) - 1 - allowed] if allowed < len(negative) else -1
        true = (P[LABELS == 1] > threshold).mean()
        assert below - 0.03 <= true <= above + 0.03
    assert (np.diff(low) >= 0).all()
    assert 0.005 < (high - low)[20:100].mean() < 0.2


def test_wilson_bars_are_those_of_scipy():
    from scipy.stats import binomtest

    low, high = plots._wilson(np.array([0.0, 0.3, 1.0]), np.array([10, 20, 7]))
    for i, (k, n) in enumerate([(0, 10), (6, 20), (7, 7)]):
        wanted = binomtest(k, n).proportion_ci(method="wilson")
        assert (low[i], high[i]) == pytest.approx((wanted.low, wanted.high), abs=1e-6)


def test_one_empty_bin_and_one_class_of_confidence_can_be_drawn():
    assert plots.reliability(np.full(10, 0.3), np.full(10, 0.5), [0, 1] * 5)
    assert plots.selective_risk({"one": np.full(10, 0.7)}, [1] * 9 + [0], {"one": np.ones(10, bool)})
    assert plots.froc([3.0], [0.5])


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match=r"wanted \(N, H, W, 3\)"):
        plots.saliency(TILES, HEAT[:3], P)
    with pytest.raises(ValueError, match="ascending"):
        plots.froc([2, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="not finite"):
        plots.reliability(P, np.full(400, np.nan), LABELS)
