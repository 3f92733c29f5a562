import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from apps.pathology import export
from apps.pathology import reader as reader_module
from apps.pathology.heatmap import RESULT, SUMMARY, SlideResult
from apps.pathology.reader import SlideReader, open_slide
from apps.pathology.slide import NATIVE_MPP, PARTIAL, TILE, Grid, is_finished, is_of, score_slide
from apps.pathology.sources import ArraySource
from tests.apps.pathology.slides import Painted, colour_score, tissue_picture, write_slide

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slides") / "a.tif"
    return write_slide(path, tissue_picture(1500, 1100), mpp=0.41, levels=2)


@pytest.fixture(scope="module")
def result(slide: Path) -> SlideResult:
    return score_slide(slide, colour_score, fingerprint="toy", uncertain=lambda p: p < 0.3)


def same(a: SlideResult, b: SlideResult) -> bool:
    for field in dataclasses.fields(SlideResult):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, np.ndarray):
            assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f"), field.name
        else:
            assert one == other, field.name
    return True


def test_shapes_and_facts(result: SlideResult) -> None:
    assert result.heatmap.shape == result.mask.shape == (15, 20)  # 1100 x 1500 pixels of 0.41 um, 31.104 um a cell
    assert result.heatmap.dtype == np.float32
    assert (np.isfinite(result.heatmap) == result.mask).all()
    assert 0 < result.mask.mean() < 1
    assert result.mpp == 32 * NATIVE_MPP
    assert (result.slide, result.slide_size, result.model) == ("a.tif", (1500, 1100), "toy")
    assert result.slide_mpp == pytest.approx(0.41, rel=1e-4)
    assert result.uncertain is not None
    assert (result.uncertain[result.mask] == (result.heatmap[result.mask] < 0.3)).all()
    assert not result.uncertain[~result.mask].any()


@pytest.mark.parametrize("stride", [16, 32, 48, 96])
def test_each_cell_scores_what_its_tile_scores_by_itself(slide: Path, stride: int) -> None:
    """Exactly: read alone at the place of the cell, and scored alone."""
    seen = score_slide(slide, colour_score, stride=stride, batch=7)
    with open_slide(slide) as reader:
        step, margin = NATIVE_MPP / reader.need_mpp(), (TILE - stride) // 2
        for row, column in np.argwhere(seen.mask)[::5].tolist():
            x, y = (column * stride - margin) * step, (row * stride - margin) * step
            tile = reader.read(x, y, TILE, TILE, NATIVE_MPP)
            assert seen.heatmap[row, column] == colour_score(tile[None])[0]


@pytest.mark.parametrize(("batch", "readers"), [(1, 1), (5, 2), (64, 3), (1000, 2)])
def test_batches_and_threads_change_nothing(slide: Path, result: SlideResult, batch: int, readers: int) -> None:
    sizes: list[int] = []

    def score(tiles: np.ndarray) -> np.ndarray:
        assert tiles.shape[1:] == (96, 96, 3)
        assert tiles.dtype == np.uint8
        sizes.append(len(tiles))
        return colour_score(tiles)

    again = score_slide(slide, score, batch=batch, readers=readers)
    assert np.array_equal(again.heatmap, result.heatmap, equal_nan=True)
    assert all(size == batch for size in sizes[:-1])  # full batches, whatever block the tiles come from
    assert sum(sizes) == result.mask.sum()


def test_the_cell_is_the_middle_of_the_tile() -> None:
    """A mark that fills one cell lies in the middle 32 x 32 of that cell's tile."""
    picture = np.full((320, 480, 3), (222, 150, 190), np.uint8)
    picture[96:128, 160:192] = (90, 60, 140)  # row 3, column 5
    seen = score_slide(SlideReader(ArraySource(picture), mpp=NATIVE_MPP), colour_score)
    assert np.unravel_index(np.nanargmax(seen.heatmap), seen.heatmap.shape) == (3, 5)
    assert (np.nan_to_num(seen.heatmap, nan=9) > 0.5).sum() == 1
    grid = Grid((480, 320), NATIVE_MPP, 32)
    tile = grid.read(SlideReader(ArraySource(picture)), slice(3, 4), slice(5, 6))[0, 0]
    assert (tile[32:64, 32:64] == (90, 60, 140)).all()
    assert (tile == picture[64:160, 128:224]).all()


def test_a_tile_beyond_the_edge_is_white_there() -> None:
    picture = np.full((64, 64, 3), (222, 150, 190), np.uint8)
    seen: list[np.ndarray] = []

    def score(tiles: np.ndarray) -> np.ndarray:
        seen.extend(tiles.copy())
        return np.zeros(len(tiles))

    score_slide(SlideReader(ArraySource(picture), mpp=NATIVE_MPP), score)
    assert len(seen) == 4
    assert (seen[0][32:, 32:] == (222, 150, 190)).all()
    assert (seen[0][:32] == 255).all()
    assert (seen[0][:, :32] == 255).all()


def test_without_tissue(caplog: pytest.LogCaptureFixture) -> None:
    glass = SlideReader(ArraySource(np.full((300, 300, 3), 245, np.uint8)), "glass.png", mpp=0.5)
    done: list[tuple[int, int]] = []
    with caplog.at_level(logging.WARNING):
        result = score_slide(glass, colour_score, progress=lambda *at: done.append(at))
    assert "glass.png: no tissue found" in caplog.text
    assert np.isnan(result.heatmap).all()
    assert done == [(0, 0)]
    assert result.summary()["max"] is None
    assert result.lesions() == []


def test_progress_counts_up_to_the_cells_of_tissue(slide: Path, result: SlideResult) -> None:
    done: list[tuple[int, int]] = []
    score_slide(slide, colour_score, batch=10, progress=lambda *at: done.append(at))
    total = int(result.mask.sum())
    assert done[0] == (0, total)
    assert done[-1] == (total, total)
    assert [at for at, _ in done[:-1]] == list(range(0, total, 10))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"stride": 31}, "stride is 31"),
        ({"stride": 128}, "stride is 128"),
        ({"stride": 0}, "stride is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"mpp": 500}, "mpp is 500"),
    ],
)
def test_wrong_options(slide: Path, how: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_slide(slide, colour_score, **how)


def test_slides_that_cannot_be_scored(tmp_path: Path) -> None:
    plain = write_slide(tmp_path / "plain.tif", tissue_picture(200, 200), mpp=None)
    with pytest.raises(ValueError, match=r"slide plain\.tif does not say its microns per pixel; pass mpp="):
        score_slide(plain, colour_score)
    assert score_slide(plain, colour_score, mpp=0.5).slide_mpp == 0.5
    dot = SlideReader(ArraySource(np.zeros((1, 1, 3), np.uint8)), "dot.png", mpp=0.25)
    with pytest.raises(ValueError, match=r"slide dot\.png has 1 x 1 pixels, less than one cell of 31 um"):
        score_slide(dot, colour_score)


def test_absurd_numbers_of_cells_are_refused() -> None:
    large = SlideReader(Painted(900_000, 100, mpp=2.0), "large.tif")
    with pytest.raises(ValueError, match=r"slide large\.tif would have \d+ x \d+ cells; check its microns per pixel"):
        score_slide(large, colour_score)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda tiles: np.full(len(tiles), np.nan), "not probabilities"),
        (lambda tiles: np.full(len(tiles), 1.5), "not probabilities"),
        (lambda tiles: np.zeros((len(tiles), 2)), "one number each is wanted"),
    ],
)
def test_a_model_that_gives_nonsense(slide: Path, answer: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_slide(slide, answer)


def test_a_damaged_slide_is_an_error_and_leaves_no_thread(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", tissue_picture(1500, 1100), levels=2)
    with open_slide(path) as reader:
        middle = reader._source._levels[0][0].dataoffsets[54]  # a tile of level 0, which only scoring reads
    with open(path, "r+b") as file:
        file.seek(middle)
        file.write(b"\0" * 200)
    with pytest.raises(ValueError, match=r"slide a\.tif cannot be read: the TIFF is damaged at tile"):
        score_slide(path, colour_score, mpp=1.5)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("slide-reader")]


class Counting:
    """Scores by colour, counts, and stops after so many tiles."""

    def __init__(self, stop: int = 10**9):
        self.tiles, self.stop = 0, stop

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        if self.tiles + len(tiles) > self.stop:
            raise KeyboardInterrupt
        self.tiles += len(tiles)
        return colour_score(tiles)


def test_ctrl_c_then_the_rest_only(slide: Path, result: SlideResult, tmp_path: Path) -> None:
    first, second, third = Counting(stop=50), Counting(), Counting()
    with pytest.raises(KeyboardInterrupt):
        score_slide(slide, first, batch=20, out=tmp_path, fingerprint="toy")
    assert [path.name for path in tmp_path.iterdir()] == [PARTIAL]
    began: list[tuple[int, int]] = []
    how = {"batch": 20, "out": tmp_path, "fingerprint": "toy", "uncertain": lambda p: p < 0.3}
    resumed = score_slide(slide, second, progress=lambda *at: began.append(at), **how)
    assert first.tiles == 40
    assert began[0] == (40, result.mask.sum())
    assert second.tiles == result.mask.sum() - 40
    assert same(resumed, dataclasses.replace(result, fingerprint=resumed.fingerprint))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([RESULT, SUMMARY])
    assert same(score_slide(slide, third, **how), resumed)  # finished: read back
    assert third.tiles == 0


def test_another_abstention_is_asked_of_the_map_that_is_there(slide: Path, tmp_path: Path) -> None:
    how = {"out": tmp_path, "fingerprint": "toy"}
    first = score_slide(slide, colour_score, uncertain=lambda p: p < 0.3, **how)
    (tmp_path / "tiles.geojson").write_text("of the first")
    rest = Counting()
    second = score_slide(slide, rest, uncertain=lambda p: p < 0.6, **how)
    assert rest.tiles == 0
    assert first.uncertain is not None
    assert second.uncertain is not None
    assert (second.uncertain[second.mask] == (first.heatmap[first.mask] < 0.6)).all()
    assert second.uncertain.sum() > first.uncertain.sum()
    assert same(SlideResult.load(tmp_path), second)
    assert not (tmp_path / "tiles.geojson").exists(), "it says what the first result said"
    assert same(score_slide(slide, rest, **how), second)  # not asked: as it is


def test_a_result_is_finished_with_all_its_exports_only(slide: Path, tmp_path: Path) -> None:
    def doubt(p: np.ndarray) -> np.ndarray:
        return p < 0.3

    path, out = tmp_path / "b.tif", tmp_path / "out"
    path.write_bytes(slide.read_bytes())
    how: dict = {"mpp": None, "fingerprint": "toy", "uncertain": doubt}
    result = score_slide(path, colour_score, out=out, **how)
    assert not is_finished(path, out, **how)
    export.publish_files(result.files(), out)
    assert is_finished(path, out, **how)
    for change in ({"mpp": 0.5}, {"fingerprint": "two"}, {"uncertain": lambda p: p < 0.6}, {"stride": 16}):
        assert not is_finished(path, out, **how | change)
    assert is_of(result, path)
    path.rename(tmp_path / "away.tif")
    assert is_finished(path, out, **how), "where only the cluster sees the slide"
    for change in ({"mpp": 0.5}, {"fingerprint": "two"}, {"uncertain": lambda p: p < 0.6}):
        assert not is_finished(path, out, **how | change)
    assert is_of(result, path)
    assert not is_of(result, tmp_path / "away.tif")
    (tmp_path / "away.tif").rename(path)
    os.utime(path, ns=(1, 1))
    assert not is_finished(path, out, **how)
    assert not is_of(result, path)


@pytest.mark.parametrize("change", ["model", "mpp", "stride", "slide"])
def test_another_model_or_scale_starts_anew(
    slide: Path, tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "b.tif"
    path.write_bytes(slide.read_bytes())
    how: dict = {"out": tmp_path / "out", "fingerprint": "one", "batch": 10}
    with pytest.raises(KeyboardInterrupt):
        score_slide(path, Counting(stop=30), **how)
    if change == "slide":
        os.utime(path, ns=(1, 1))
    how |= {"model": {"fingerprint": "two"}, "mpp": {"mpp": 0.5}, "stride": {"stride": 16}, "slide": {}}[change]
    score, total = Counting(), []
    with caplog.at_level(logging.WARNING):
        score_slide(path, score, progress=lambda *at: total.append(at), **how)
    assert total[0] == (0, score.tiles)
    assert "is discarded: it belongs to another slide, microns per pixel, stride or model" in caplog.text


def test_a_broken_partial_result_starts_anew(slide: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / PARTIAL).write_bytes(b"PK\x03\x04 not a zip file")
    (tmp_path / RESULT).write_bytes(b"nor this")
    with caplog.at_level(logging.WARNING):
        score_slide(slide, colour_score, out=tmp_path)
    assert "is discarded: it cannot be read" in caplog.text
    assert SlideResult.load(tmp_path).slide == "a.tif"


def test_progress_may_cancel(slide: Path, tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 60:
            raise Cancelled

    with pytest.raises(Cancelled):
        score_slide(slide, colour_score, batch=20, out=tmp_path, progress=stop)
    rest = Counting()
    whole = score_slide(slide, rest, batch=20, out=tmp_path)
    assert rest.tiles == whole.mask.sum() - 60


SLOW = """
    import sys, time
    from apps.pathology.slide import score_slide
    from tests.apps.pathology.slides import colour_score

    def slow(tiles):
        time.sleep(0.02)
        return colour_score(tiles)

    score_slide(sys.argv[1], slow, batch=4, out=sys.argv[2], fingerprint="toy", save_every=0.1)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_is_taken_up(slide: Path, result: SlideResult, tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SLOW), str(slide), str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    kept = 0
    deadline = time.monotonic() + 120
    while kept < 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
        if (tmp_path / PARTIAL).exists():
            with np.load(tmp_path / PARTIAL) as partial:  # whole whenever it is there
                kept = int(np.isfinite(partial["heatmap"]).sum())
    process.send_signal(how)
    assert process.wait(60) != 0
    with np.load(tmp_path / PARTIAL) as partial:
        kept = int(np.isfinite(partial["heatmap"]).sum())
    assert 4 <= kept < result.mask.sum()
    rest = Counting()
    again = score_slide(slide, rest, out=tmp_path, fingerprint="toy")
    assert rest.tiles == result.mask.sum() - kept
    assert np.array_equal(again.heatmap, result.heatmap, equal_nan=True)


MEMORY = """
    import json, resource, sys
    from apps.pathology.reader import SlideReader
    from apps.pathology.slide import score_slide
    from tests.apps.pathology.slides import Painted, colour_score

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = score_slide(SlideReader(Painted(int(sys.argv[1]), 2000, (1, 4, 16, 64))), colour_score)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([int(result.mask.sum()), before / 1024, after / 1024]))
"""


def test_memory_does_not_grow_with_the_slide() -> None:
    """100,000 x 100,000 pixels are 30 GB; the same tissue on a hundredth of the glass takes as much memory."""
    cells, grown = [], []
    for side in (10_000, 100_000):
        command = [sys.executable, "-c", textwrap.dedent(MEMORY), str(side)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
        count, before, after = json.loads(done.stdout)
        cells.append(count)
        grown.append(after - before)
    assert abs(cells[0] - cells[1]) < 0.1 * cells[0]
    assert grown[1] < grown[0] + 32  # MiB: the maps of 780 x 780 cells, and the finer picture of the glass
    assert grown[1] < 400


def test_a_slide_without_low_power_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read through for its overview, and scored like any other."""
    monkeypatch.setattr(reader_module, "OVERVIEW", 512)
    seen = score_slide(SlideReader(Painted(2_500, 800)), colour_score)
    with_levels = score_slide(SlideReader(Painted(2_500, 800, (1, 16))), colour_score)
    assert abs(int(seen.mask.sum()) - int(with_levels.mask.sum())) < 0.05 * seen.mask.sum()
    both = seen.mask & with_levels.mask
    assert np.array_equal(seen.heatmap[both], with_levels.heatmap[both])


def test_unwritable_folder_is_said_before_the_work(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    score = Counting()
    with pytest.raises(OSError, match=r"partial\.npz cannot be written"):
        score_slide(slide, score, out=tmp_path / "file" / "out")
    assert score.tiles == 0


@pytest.mark.real_data
def test_real_slide(real_data_root: Path) -> None:
    path = real_data_root / "slides" / "cmu-1-small-region.svs"
    result = score_slide(path, colour_score)
    assert result.heatmap.shape == (48, 36)
    assert 0.3 < result.mask.mean() < 0.5
    step = NATIVE_MPP / 0.499
    with open_slide(path) as reader:
        for row, column in np.argwhere(result.mask)[::29].tolist():
            tile = reader.read((column - 1) * 32 * step, (row - 1) * 32 * step, TILE, TILE, NATIVE_MPP)
            assert result.heatmap[row, column] == colour_score(tile[None])[0]
