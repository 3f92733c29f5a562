import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import threshold_otsu

from apps.pathology.reader import SlideReader
from apps.pathology.sources import ArraySource
from apps.pathology.tissue import Stain, otsu, tidy, tissue_mask
from tests.apps.pathology.slides import Painted, tissue_picture

PINK, GLASS = (222, 150, 190), (244, 244, 243)
CELL_UM = 32 * 0.972


def plain(colour: tuple[int, int, int], height: int = 640, width: int = 960, noise: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(np.full((height, width, 3), colour) + rng.integers(-noise, noise + 1, (height, width, 3)), 0, 255)


def mask_of(picture: np.ndarray, cell: float = 32.0) -> np.ndarray:
    reader = SlideReader(ArraySource(picture.astype(np.uint8)), mpp=0.972)
    shape = tuple(int(np.ceil(n / cell)) for n in picture.shape[:2])
    return tissue_mask(reader, cell, shape, CELL_UM)


def test_only_the_tissue() -> None:
    picture = plain(GLASS)
    picture[128:448, 256:704] = PINK
    want = np.zeros((20, 30), bool)
    want[4:14, 8:22] = True
    assert (mask_of(picture) == want).all()


@pytest.mark.parametrize("glass", [(255, 255, 255), (244, 244, 243), (240, 238, 228), (228, 231, 235)])
def test_glass_alone_holds_no_tissue(glass: tuple[int, int, int]) -> None:
    assert not mask_of(plain(glass)).any()


@pytest.mark.parametrize("colour", [PINK, (150, 110, 170), (90, 60, 140), (235, 200, 220)])
def test_tissue_alone_is_all_tissue(colour: tuple[int, int, int]) -> None:
    assert mask_of(plain(colour)).all()


@pytest.mark.parametrize(
    "colour", [(0, 0, 0), (20, 20, 20), (30, 60, 170), (20, 140, 70), (210, 30, 40), (170, 170, 172)]
)
def test_black_borders_ink_and_grey_dirt_are_not_tissue(colour: tuple[int, int, int]) -> None:
    picture = plain(GLASS)
    picture[128:448, 256:704] = PINK
    picture[:, :96] = colour
    picture[512:, 96:] = colour
    mask = mask_of(picture)
    assert mask[4:14, 8:22].all()
    assert mask.sum() == 10 * 14


def test_specks_go_and_small_holes_are_filled() -> None:
    picture = plain(GLASS)
    picture[128:512, 256:704] = PINK
    picture[192:256, 320:384] = GLASS  # 4 cells: a lumen
    picture[288:480, 448:640] = GLASS  # 36 cells: a hole
    picture[32:64, 32:96] = PINK  # 2 cells: dirt
    mask = mask_of(picture)
    assert mask[6:8, 10:12].all()
    assert not mask[9:15, 14:20].any()
    assert not mask[:4, :6].any()
    assert mask.sum() == 12 * 14 - 36


def test_a_tenth_of_a_cell_is_enough() -> None:
    for share, want in ((0.3, True), (0.02, False)):
        picture = plain(GLASS)
        picture[128:448, 256:704] = PINK
        picture[448 : 448 + round(32 * share), 256:704] = PINK  # reaches so far into row 14
        assert mask_of(picture)[14, 8:22].all() == want


def test_scattered_pixels_are_outvoted() -> None:
    picture = plain(GLASS)
    picture[128:448, 256:704] = PINK
    dots = np.random.default_rng(0).random(picture.shape[:2]) < 0.02
    picture[dots] = PINK
    assert mask_of(picture).sum() == 10 * 14


def test_scale_is_in_microns() -> None:
    """The same tissue scanned twice as finely gives the same cells."""
    picture = tissue_picture(1280, 960)
    fine = picture.repeat(2, axis=0).repeat(2, axis=1)
    assert (mask_of(picture) == mask_of(fine, cell=64.0)).mean() > 0.995


def test_blocks_of_a_large_slide_join_without_seams() -> None:
    source = Painted(24_000, 9_000, (1, 8, 32))
    cell = CELL_UM / 0.243
    shape = (int(np.ceil(24_000 / cell)),) * 2
    mask = tissue_mask(SlideReader(source), cell, shape, CELL_UM)
    y, x = (np.indices(shape) + 0.5) * cell - 12_000
    far = np.hypot(x, y) / cell
    assert mask[far < 9_000 / cell - 1.5].all()
    assert not mask[far > 9_000 / cell + 1.5].any()


@settings(deadline=None)
@given(st.lists(st.integers(0, 255), min_size=20, max_size=200))
def test_otsu_agrees_with_scikit_image(values: list[int]) -> None:
    pixels = np.asarray(values, np.uint8)
    if len(np.unique(pixels)) < 2:
        assert otsu(np.bincount(pixels, minlength=256)) == 0
        return
    ours, theirs = otsu(np.bincount(pixels, minlength=256)), threshold_otsu(pixels)
    assert ((pixels >= ours) == (pixels > theirs)).all()


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6))
def test_tidy_never_touches_what_is_large(seed: int, speck: int, hole: int) -> None:
    mask = np.random.default_rng(seed).random((12, 15)) < 0.5
    tidied = tidy(mask, speck, hole)
    assert (tidy(tidied, speck, hole) == tidied).all()  # nothing small is left
    assert (tidy(mask, 0, 0) == mask).all()
    assert tidy(np.ones((5, 5), bool), 5, 5).all()
    assert not tidy(np.zeros((5, 5), bool), 5, 30).any()  # the outside is no hole


def test_stain_of_a_black_picture() -> None:
    assert not Stain.of(np.zeros((10, 10, 3), np.uint8)).tissue(np.zeros((10, 10, 3), np.uint8)).any()
