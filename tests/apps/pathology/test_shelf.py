"""The slides that visitors can look at, and that nothing they send becomes a path."""

import io
import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from apps.pathology import shelf

SLIDE = (shelf.SAMPLE / "synthetic.tif").read_bytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A fresh folder of uploads."""
    monkeypatch.setattr(shelf, "_folder", tmp_path / "uploads")
    monkeypatch.setattr(shelf, "_uploads", {})
    (tmp_path / "uploads").mkdir()
    return tmp_path / "uploads"


def test_the_sample_is_listed_and_known_to_be_a_drawing():
    slide = shelf.listing()["synthetic.tif"]
    assert slide.synthetic
    assert shelf.find("synthetic.tif") == slide


def test_the_servers_own_folder_is_listed_by_name(tmp_path, monkeypatch):
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "mine.SVS").write_bytes(b"x")
    (tmp_path / "slides" / "notes.txt").write_bytes(b"x")
    (tmp_path / "slides" / "folder.svs").mkdir()
    monkeypatch.setenv("WUNDERKAMMER_DATA", str(tmp_path))
    monkeypatch.setattr(shelf, "RAW", tmp_path / "nowhere")
    assert list(shelf.listing()) == ["synthetic.tif", "mine.SVS"]
    assert shelf.has_real()
    assert not shelf.listing()["mine.SVS"].synthetic
    monkeypatch.setenv("WUNDERKAMMER_DATA", str(tmp_path / "nowhere"))
    assert not shelf.has_real()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "", "synthetic.tif/../x", "a\0b",
                                  str(shelf.SAMPLE / "synthetic.tif"), "upload-unknown"])
def test_a_name_that_is_not_listed_finds_nothing(name):
    assert shelf.find(name) is None


def test_an_upload_is_kept_under_a_name_of_ours(folder):
    listed = shelf.keep("../../evil/My slide.TIF", io.BytesIO(SLIDE))
    slide = shelf.find(listed)
    token = listed.removeprefix("My slide.TIF · ")
    assert slide.name == "My slide.TIF"
    assert slide.path.parent == folder
    assert slide.path.name == f"{token}.tif"
    assert slide.path.read_bytes() == SLIDE
    assert not slide.synthetic
    assert len(token) >= len("upload-") + 16
    assert shelf.keep("My slide.TIF", io.BytesIO(SLIDE)) != listed
    assert shelf.find("My slide.TIF") is shelf.find(token) is None
    assert slide.fingerprint() == shelf.listing()["synthetic.tif"].fingerprint()


@pytest.mark.parametrize("name", ["slide.png", "slide", "slide.tif.exe", "tif", "slide.mrxs", "x.py", ".."])
def test_other_kinds_are_not_stored(folder, name):
    with pytest.raises(ValueError, match="not a slide that can be uploaded; wanted is one of svs, tif"):
        shelf.keep(name, io.BytesIO(SLIDE))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"not a slide", SLIDE[:5000]])
def test_what_is_no_slide_is_refused_with_its_name_and_not_kept(folder, data):
    with pytest.raises(ValueError, match=r"my slide\.tif") as error:
        shelf.keep("my slide.tif", io.BytesIO(data))
    assert "upload-" not in str(error.value)
    assert str(folder) not in str(error.value)
    assert list(folder.iterdir()) == []


def write(path: Path, side: int, *levels: int, tile: int = 16) -> bytes:
    """Writes a TIFF that claims to be `side` pixels a side, with smaller levels; it is sparse, so a few kB."""
    with tifffile.TiffWriter(path) as writer:
        for level in (side, *levels):
            writer.write(itertools.repeat(b""), shape=(level, level, 3), dtype=np.uint8, tile=(tile, tile),
                         photometric="rgb", compression="zlib", subfiletype=int(level != side), metadata=None)
    return path.read_bytes()


@pytest.mark.parametrize("levels", [(), (20_000,), (1_000,)])
def test_what_takes_too_long_to_look_at_from_afar_is_refused(folder, tmp_path, levels):
    data = write(tmp_path / "x.tif", 40_000, *levels, tile=1024)
    with pytest.raises(ValueError, match=r"big\.tif has 40,000 x 40,000 pixels and lacks the smaller levels .* save it "
                                         "as a tiled, pyramidal TIFF .* command line"):
        shelf.keep("big.tif", io.BytesIO(data))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("levels", [(), (2_500,)])
def test_an_honest_slide_without_small_levels_is_taken(folder, tmp_path, levels):
    data = write(tmp_path / "x.tif", 10_000, *levels, tile=512)
    assert shelf.find(shelf.keep("big.tif", io.BytesIO(data)))


def test_a_slide_whose_name_is_no_text_has_a_name_that_is(tmp_path, monkeypatch):
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / os.fsdecode(b"bad\xff.tif")).write_bytes(SLIDE)
    monkeypatch.setenv("WUNDERKAMMER_DATA", str(tmp_path))
    slide = shelf.listing()["bad?.tif"]
    assert slide.name == "bad?.tif"
    assert slide.path.read_bytes() == SLIDE


def test_too_large_an_upload_stops_at_the_limit(folder, monkeypatch):
    class Endless(io.RawIOBase):
        read_ = 0

        def seek(self, *_):
            return 0

        def read(self, n=-1):
            self.read_ += n
            return bytes(n)

    monkeypatch.setattr(shelf, "UPLOAD_MB", 3)
    data = Endless()
    with pytest.raises(ValueError, match=r"big\.svs has more than 3 MB"):
        shelf.keep("big.svs", data)
    assert data.read_ <= 5 << 20
    assert list(folder.iterdir()) == []


def test_all_uploads_together_have_a_limit(folder, monkeypatch):
    monkeypatch.setattr(shelf, "ROOM", len(SLIDE) + 100)
    shelf.keep("one.tif", io.BytesIO(SLIDE))
    with pytest.raises(ValueError, match="no room for more slides now"):
        shelf.keep("two.tif", io.BytesIO(SLIDE))
    assert len(list(folder.iterdir())) == 1


def test_uploads_go_after_a_day(folder):
    token = shelf.keep("one.tif", io.BytesIO(SLIDE))
    path = shelf.find(token).path
    old = time.time() - shelf.KEEP - 60
    os.utime(path, (old, old))
    shelf.keep("two.tif", io.BytesIO(SLIDE))
    assert not path.exists()
    assert shelf.find(token) is None


def test_uploads_of_a_process_are_readable_to_its_user_alone(monkeypatch):
    monkeypatch.setattr(shelf, "_folder", None)
    home = shelf._home()
    try:
        assert home.stat().st_mode & 0o777 == 0o700
        assert shelf._home() == home
    finally:
        home.rmdir()


def test_a_fingerprint_is_of_the_content(tmp_path):
    one, other = tmp_path / "a.tif", tmp_path / "b.tif"
    one.write_bytes(SLIDE)
    other.write_bytes(SLIDE)
    first = shelf.Slide("a", one).fingerprint()
    assert shelf.Slide("b", other).fingerprint() == first
    for place in (0, len(SLIDE) // 2, len(SLIDE) - 1):
        changed = bytearray(SLIDE)
        changed[place] ^= 1
        other.write_bytes(changed)
        assert shelf.Slide("b", other).fingerprint() != first


@given(st.text())
def test_a_shown_name_is_short_printable_and_no_path(name):
    shown = shelf.shown(name)
    assert shown
    assert len(shown) <= 80
    assert shown.isprintable()
    assert not {"/", "\\"} & set(shown)
    assert Path(shown).name in (shown, "")
