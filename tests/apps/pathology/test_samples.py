"""Tiles to try, and tiles that visitors bring."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from apps.pathology import samples


@pytest.fixture(autouse=True)
def fresh():
    samples._real.cache_clear()
    yield
    samples._real.cache_clear()


def upload(image: Image.Image, name: str, kind: str = "PNG") -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind)
    file.seek(0)
    file.name = name
    return file


def test_after_a_clone_there_are_drawings_of_either_kind():
    if not samples._real():
        assert samples.kinds() == [samples.SYNTHETIC]
    found = samples.tiles(samples.SYNTHETIC)
    assert {tile.truth for tile in found.values()} == {"Drawn with tumour in the middle.", "Drawn without tumour."}
    assert all(tile.image.shape == (96, 96, 3) for tile in found.values())
    assert len({tile.label for tile in found.values()}) == len(found) >= 6
    assert "not a patient" in samples.about(samples.SYNTHETIC)


@pytest.mark.real_data
def test_real_tiles_come_first_where_they_are(real_data_root, monkeypatch):
    monkeypatch.setenv("WUNDERKAMMER_DATA", str(real_data_root))
    assert samples.kinds() == [samples.REAL, samples.SYNTHETIC]
    found = samples.tiles(samples.REAL)
    truths = [tile.truth for tile in found.values()]
    assert len(truths) == samples.REAL_TILES
    assert truths.count("Labelled tumour.") == samples.REAL_TILES // 2


def test_a_wrong_folder_of_data_does_not_take_the_page_down(tmp_path, monkeypatch):
    monkeypatch.setenv("WUNDERKAMMER_DATA", str(tmp_path))
    assert samples.kinds() == [samples.SYNTHETIC]


def test_uploads_are_read_one_by_one():
    tile = Image.fromarray(np.full((96, 96, 3), (200, 100, 150), np.uint8))
    files = [upload(tile, "a.png"), upload(tile, "dir/a.png"), upload(tile.resize((50, 96)), "thin.png"),
             upload(tile.convert("L"), "grey.png"), upload(tile.convert("CMYK"), "cmyk.tif", "TIFF")]
    broken = io.BytesIO(b"GIF89a")
    broken.name = "x<b>.png"
    images, troubles = samples.uploaded([*files, broken], None)
    assert list(images) == ["a.png", "a.png (2)", "cmyk.tif"]
    assert all(image.shape == (96, 96, 3) for image in images.values())
    assert [trouble.split()[0].rstrip(":") for trouble in troubles] == ["thin.png", "grey.png", "x<b>.png"]
    assert "mpp" in troubles[0] or "micrometres" in troubles[0]


def test_uploads_of_another_scale_are_resampled():
    tile = Image.fromarray(np.full((400, 500, 3), (200, 100, 150), np.uint8))
    images, troubles = samples.uploaded([upload(tile, "a.png")], 0.25)
    assert troubles == []
    assert images["a.png"].shape == (96, 96, 3)
    assert samples.uploaded([upload(tile, "a.png")], 0.1)[0] == {}


def test_a_tiff_of_another_kind_is_told_what_it_is():
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((96, 96, 3), np.float32), photometric="rgb")
    file.name = "float.tif"
    images, troubles = samples.uploaded([file], None)
    assert images == {}
    assert troubles[0].startswith("float.tif is a TIFF with 3 samples a pixel of type float32, which is not read; use")


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    bomb = upload(Image.new("1", (30_000, 30_000)), "bomb.png")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    images, troubles = samples.uploaded([bomb], None)
    assert images == {}
    assert "claims more pixels than a tile can have" in troubles[0]
