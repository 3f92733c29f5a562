import dataclasses
import errno
import io
import json
import pickle
import uuid
from pathlib import Path

import numpy as np
import openslide
import pyarrow.parquet
import pytest
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from apps.pathology import export
from apps.pathology.heatmap import RESULT, SUMMARY, SlideResult
from tests.apps.pathology.slides import tissue_picture

CELLS = 35 * 45 + 15 * 15  # of tissue


def made(heatmap: np.ndarray, *, cell: float = 64.7, uncertain: bool = True) -> SlideResult:
    """Return a result whose map is given; the slide ends in the middle of the last cells."""
    mask, (h, w) = np.isfinite(heatmap), heatmap.shape
    stream = io.BytesIO()
    Image.fromarray(tissue_picture(w * 8, h * 8)).save(stream, "JPEG")
    return SlideResult(
        heatmap=heatmap.astype(np.float32),
        mask=mask,
        mpp=31.104,
        slide_size=(int((w - 0.5) * cell), int((h - 0.5) * cell)),
        slide_mpp=31.104 / cell,
        stride=32,
        slide="slide ä.svs",
        model="abc123",
        picture=stream.getvalue(),
        uncertain=mask & (heatmap > 0.4) & (heatmap < 0.6) if uncertain else None,
        fingerprint="print",
    )


@pytest.fixture
def result() -> SlideResult:
    heatmap = np.full((150, 200), np.nan)
    heatmap[15:50, 25:70] = 0.1
    heatmap[95:110, 95:110] = 0.1
    heatmap[20:40, 30:60] = 0.9
    heatmap[28:32, 40:50] = 0.2  # a hole in the large lesion
    heatmap[40, 60] = 0.8  # touches it at a corner
    heatmap[100:104, 100:103] = np.array([0.55, 0.6, 0.95])
    return made(heatmap)


def test_lesions_and_summary(result: SlideResult) -> None:
    large, small = result.lesions()
    assert (large.cells, small.cells) == (20 * 30 - 40 + 1, 8)  # of the small one's 12 cells 4 are declined
    assert small.area_mm2 == pytest.approx(8 * 0.031104**2)
    assert small.mean == pytest.approx((0.6 + 0.95) / 2, abs=1e-6)
    assert small.max == pytest.approx(0.95)
    assert small.centroid == pytest.approx((102 * 64.7, 102 * 64.7), abs=1)
    assert dataclasses.replace(result, uncertain=None).lesions()[1].cells == 12
    assert (result.lesion_map() == 1).sum() == large.cells
    assert [lesion.number for lesion in result.lesions()] == [1, 2]
    assert len(result.lesions(0.93)) == 1
    assert result.lesions(0.99) == []
    summary = json.loads(json.dumps(result.summary()))
    assert summary["cells"] == CELLS
    assert summary["tissue_mm2"] == pytest.approx(CELLS * 0.031104**2)
    assert summary["tumour_mm2"] == pytest.approx((561 + 8) * 0.031104**2)
    assert summary["max"] == pytest.approx(0.95)
    assert summary["uncertain_cells"] == 4
    assert len(summary["lesions"]) == 2


def test_cells_on_the_slide(result: SlideResult) -> None:
    xs, ys = result.edges()
    assert (xs[0], xs[-1]) == (0, result.slide_size[0])
    assert (ys[0], ys[-1]) == (0, result.slide_size[1])
    assert set(np.diff(xs)[:-1]) <= {64, 65}


def test_geojson_is_what_qupath_reads(result: SlideResult, tmp_path: Path) -> None:
    result.to_geojson(tmp_path / "a.geojson")
    read = json.loads((tmp_path / "a.geojson").read_text())
    assert read["type"] == "FeatureCollection"
    features = read["features"]
    kinds = [feature["properties"]["objectType"] for feature in features]
    assert kinds.count("annotation") == 2
    assert kinds.count("tile") == CELLS
    assert len({uuid.UUID(feature["id"]) for feature in features}) == len(features)
    for feature in features[:50]:
        assert feature["type"] == "Feature"
        for ring in feature["geometry"]["coordinates"] if feature["geometry"]["type"] == "Polygon" else []:
            assert ring[0] == ring[-1]
            assert len(ring) >= 5
    tile = features[2]
    assert tile["properties"]["measurements"] == {"tumour probability": 0.1, "uncertain": 0}
    (left, top), (right, bottom) = tile["geometry"]["coordinates"][0][0], tile["geometry"]["coordinates"][0][2]
    assert (left, top, right, bottom) == (1618, 970, 1682, 1035)  # cell (15, 25) of 64.7 pixels
    annotation = features[0]["properties"]
    assert annotation["classification"] == {"name": "Tumor", "color": [200, 0, 0]}
    assert annotation["measurements"]["area mm2"] == pytest.approx(561 * 0.031104**2)
    result.to_geojson(tmp_path / "b.geojson")
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()
    dataclasses.replace(result, model="other").to_geojson(tmp_path / "c.geojson")
    other = json.loads((tmp_path / "c.geojson").read_text())["features"]
    assert other[5]["id"] != features[5]["id"]


def test_contours_have_holes_and_cover_their_cells(result: SlideResult) -> None:
    large, small = (shapely.geometry.shape(geometry) for geometry in export.contours(result))
    assert large.is_valid
    assert large.geom_type == "MultiPolygon"  # two parts that touch at a corner
    assert sorted(len(part.interiors) for part in large.geoms) == [0, 1]
    xs, ys = result.edges()
    outer = (xs[60] - xs[30]) * (ys[40] - ys[20]) + (xs[61] - xs[60]) * (ys[41] - ys[40])
    assert large.area == outer - (xs[50] - xs[40]) * (ys[32] - ys[28])
    assert small.bounds == (xs[101], ys[100], xs[103], ys[104])  # without the declined column


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.floats(0.2, 0.8))
def test_contours_agree_with_the_map(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    heatmap = np.where(rng.random((9, 11)) < 0.8, rng.random((9, 11)), np.nan)
    result = made(heatmap, cell=10)
    shapes = [shapely.geometry.shape(geometry) for geometry in export.contours(result, threshold)]
    lesions = result.lesions(threshold)
    assert len(shapes) == len(lesions)
    xs, ys = result.edges()
    labels = result.lesion_map(threshold)
    for row, column in np.ndindex(heatmap.shape):
        middle = shapely.Point((xs[column] + xs[column + 1]) / 2, (ys[row] + ys[row + 1]) / 2)
        inside = [i + 1 for i, shape in enumerate(shapes) if shape.contains(middle)]
        likely = heatmap.astype(np.float32)[row, column] >= threshold and not result.uncertain[row, column]
        assert inside == ([labels[row, column]] if likely else [])
    assert all(shape.is_valid for shape in shapes)
    assert [lesion.cells for lesion in lesions] == sorted((lesion.cells for lesion in lesions), reverse=True)


def test_tiff_is_read_by_openslide_and_tifffile(result: SlideResult, tmp_path: Path) -> None:
    result.to_tiff(tmp_path / "a.tiff")
    with tifffile.TiffFile(tmp_path / "a.tiff") as file:
        assert all(page.is_tiled for page in file.pages)
        assert "(v - 1) / 254" in file.pages[0].description
        values = file.pages[0].asarray()
    assert ((values > 0) == result.mask).all()
    back = (values[result.mask].astype(float) - 1) / 254
    assert np.abs(back - result.heatmap[result.mask]).max() <= 0.5 / 254 + 1e-6
    with openslide.OpenSlide(tmp_path / "a.tiff") as slide:
        assert slide.level_dimensions == ((200, 150), (100, 75), (50, 38))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(31.104, rel=1e-5)
        seen = np.asarray(slide.read_region((0, 0), 0, (200, 150)).convert("L"))
        assert (seen == values).all()
        low = np.asarray(slide.read_region((0, 0), 2, (50, 38)).convert("L"))
    assert low[11, 16] == round(1 + 254 * 0.1)
    assert low[0, 0] == 0
    assert low[7, 11] == round(1 + 254 * 0.2)  # within the hole
    assert low[8, 8] == round(1 + 254 * 0.9)


def test_parquet(result: SlideResult, tmp_path: Path) -> None:
    result.to_parquet(tmp_path / "a.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    names = ["row", "col", "x", "y", "width", "height", "probability", "uncertain"]
    assert table.column_names == names
    assert table.num_rows == result.mask.sum()
    assert table.schema.metadata[b"model"] == b"abc123"
    columns = {name: table[name].to_numpy() for name in names}
    assert (columns["probability"] == result.heatmap[columns["row"], columns["col"]]).all()
    assert (columns["x"] == np.rint(columns["col"] * 64.7)).all()
    assert columns["uncertain"].sum() == 4
    rows = list(result.tiles())
    assert rows[17] == tuple(columns[name][17] for name in names[:-1])
    dataclasses.replace(result, uncertain=None).to_parquet(tmp_path / "b.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "b.parquet").column_names == names[:-1]


def test_png(result: SlideResult, tmp_path: Path) -> None:
    result.to_png(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        seen = np.asarray(picture.convert("RGB")).astype(int)
    scale = 1600 / result.slide_size[0]
    hot, cold, glass = ((int(y * 64.7 * scale), int(x * 64.7 * scale)) for y, x in ((25, 35), (46, 66), (5, 5)))
    assert seen[hot][0] > seen[hot][2] + 40  # yellow: red above blue
    assert seen[hot][1] > seen[hot][2] + 40
    assert seen[cold][2] > seen[cold][1]  # violet over pink
    plain = result.thumbnail[glass].astype(int)
    assert np.abs(seen[glass] - plain).max() < 3  # nothing lies on glass
    assert (seen[-60:, :, :].min(axis=2) < 50).any()  # scale bar and words


def test_the_map_is_grey_where_the_model_declines(result: SlideResult) -> None:
    assert result.uncertain is not None
    colours = export.overlay(result)
    grey = (colours[..., :3] == export.DECLINED).all(-1)
    assert (grey == (result.uncertain & np.isfinite(result.heatmap))).all()
    assert 0 < grey.sum() < np.isfinite(result.heatmap).sum()
    assert (export.overlay(dataclasses.replace(result, uncertain=None))[..., :3][grey] != export.DECLINED).any(-1).all()


def test_small_and_empty_maps(tmp_path: Path) -> None:
    for name, heatmap in (("one", np.array([[0.7]])), ("none", np.full((2, 3), np.nan))):
        for file, data in made(heatmap).files().items():
            (tmp_path / f"{name}-{file}").write_bytes(data)
        assert Image.open(tmp_path / f"{name}-overlay.png").width >= 500
        assert len(json.loads((tmp_path / f"{name}-tiles.geojson").read_text())["features"]) == (
            2 if name == "one" else 0
        )
        assert openslide.OpenSlide(tmp_path / f"{name}-probability.tiff").dimensions == heatmap.shape[::-1]


@pytest.mark.parametrize("uncertain", [True, False])
def test_saved_and_loaded_exactly(tmp_path: Path, uncertain: bool) -> None:
    rng = np.random.default_rng(0)
    result = made(np.where(rng.random((9, 11)) < 0.8, rng.random((9, 11)), np.nan), uncertain=uncertain)
    result.save(tmp_path / "new" / "folder")
    again = SlideResult.load(tmp_path / "new" / "folder")
    for field in dataclasses.fields(SlideResult):
        one, other = getattr(result, field.name), getattr(again, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other
    assert again.thumbnail.shape == (72, 88, 3)
    assert pickle.loads(pickle.dumps(result)).fingerprint == "print"
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted([RESULT, SUMMARY])


def test_files_travel_as_bytes(result: SlideResult, tmp_path: Path) -> None:
    files = result.files()
    export.publish_files(files, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(files)
    assert list(files)[-1] == RESULT  # what says that all are there comes last
    result.to_geojson(tmp_path / "other.geojson")
    assert (tmp_path / "other.geojson").read_bytes() == files["tiles.geojson"]
    assert SlideResult.load(tmp_path).slide == result.slide


def test_load_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no slide result in"):
        SlideResult.load(tmp_path)
    (tmp_path / RESULT).write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="is not a saved slide result, or is damaged"):
        SlideResult.load(tmp_path)
    np.savez(tmp_path / RESULT, heatmap=np.zeros(3))
    with pytest.raises(ValueError, match="is not a saved slide result, or is damaged"):
        SlideResult.load(tmp_path)
    data = made(np.zeros((2, 2))).to_bytes()
    for cut in (len(data) // 2, len(data) - 3):
        with pytest.raises(ValueError, match="is not a saved slide result, or is damaged"):
            SlideResult.from_bytes(data[:cut])


def test_unwritable_output_is_one_sentence(result: SlideResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for write in (result.to_geojson, result.to_png, result.to_tiff, result.to_parquet):
        with pytest.raises(OSError, match=r"file/out cannot be written: "):
            write(tmp_path / "file" / "out")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder cannot be written: "):
        result.to_tiff(tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")

    def write(stream: io.BufferedWriter) -> None:
        stream.write(b"half of the new")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"a\.bin cannot be written: No space left on device"):
        export.publish(tmp_path / "a.bin", write)
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(KeyboardInterrupt):
        export.publish(tmp_path / "b.bin", lambda stream: (_ for _ in ()).throw(KeyboardInterrupt))
    assert len(list(tmp_path.iterdir())) == 1
