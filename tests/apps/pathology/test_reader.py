import io
import math
import os
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from apps.pathology import reader as reader_module
from apps.pathology.reader import SlideReader, open_slide
from apps.pathology.sources import ArraySource
from tests.apps.pathology.slides import Painted, tissue_picture, write_slide


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slides") / "a.tif", tissue_picture(1300, 900), levels=3)


def test_facts(slide: Path) -> None:
    with open_slide(slide) as reader:
        assert reader.size == (1300, 900)
        assert reader.mpp == pytest.approx(0.486, rel=1e-4)
        assert reader.level_downsamples == (1, 2, 4)
        assert reader.name == "a.tif"


def test_level_0_comes_back_exactly_and_outside_is_white(slide: Path) -> None:
    picture = tissue_picture(1300, 900)
    with open_slide(slide) as reader:
        region = reader.read_at(-50, 800, 200, 150, 1.0)
    assert (region[:, :50] == 255).all()
    assert (region[100:] == 255).all()
    assert (region[:100, 50:] == picture[800:900, :150]).all()


@settings(max_examples=40, deadline=None)
@given(
    downsample=st.sampled_from([0.97, 1.0, 1.3, 2.0, 0.972 / 0.486, 3.91, 4.0, 9.7, 40.0]),
    x=st.integers(-60, 300),
    y=st.integers(-60, 300),
    width=st.integers(1, 130),
    height=st.integers(1, 130),
)
def test_a_region_is_the_same_alone_or_within_a_larger_one(
    slide: Path, downsample: float, x: int, y: int, width: int, height: int
) -> None:
    """Bit for bit, wherever strips, pieces and chunks begin."""
    with open_slide(slide) as reader:
        large = reader.read_at(-64 * downsample, -64 * downsample, 560, 560, downsample)
        small = reader.read_at(x * downsample, y * downsample, width, height, downsample)
    assert (small == large[y + 64 : y + 64 + height, x + 64 : x + 64 + width]).all()


@pytest.mark.parametrize("downsample", [1.7, 2.0, 3.3, 4.7, 13.0])
def test_resampling_does_not_shift(downsample: float) -> None:
    """On a linear ramp each output pixel is the ramp's value at the middle of what it covers."""
    x, y = np.meshgrid(np.arange(230), np.arange(240))
    noise = np.random.default_rng(0).uniform(0, 1, x.shape)  # so that rounding has no favourite
    ramp = np.floor(x + 0.1 * y + noise).astype(np.uint8)
    reader = SlideReader(ArraySource(np.repeat(ramp[..., None], 3, axis=-1)), mpp=0.5)
    width, height = int(130 / downsample), int(160 / downsample)
    got = reader.read_at(50.25, 30.5, width, height, downsample)[..., 0].astype(float)
    want = 50.25 - 0.5 + (np.arange(width) + 0.5) * downsample
    want = want + 0.1 * (30.5 - 0.5 + (np.arange(height)[:, None] + 0.5) * downsample)
    assert np.abs(got - want).mean(axis=0).max() < 0.7
    assert abs((got - want).mean()) < 0.25  # averages of four are rounded up a little; half a pixel would be more


def test_average_brightness_survives_a_large_reduction() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    small = SlideReader(ArraySource(noise), mpp=0.5).read_at(256, 256, 8, 8, 64.0)
    assert abs(small.astype(float).mean() - 127.5) < 2
    assert small.std() < 6  # aliased noise would keep its spread of 74


def test_best_level_is_the_coarsest_that_is_fine_enough(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        for size, colour in ((1024, (200, 0, 0)), (256, (0, 200, 0))):
            level = np.full((size, size, 3), colour, np.uint8)
            writer.write(level, tile=(128, 128), photometric="rgb", metadata=None, subfiletype=int(size < 1024))
    with open_slide(tmp_path / "b.tif", mpp=0.25) as reader:
        assert reader.level_downsamples == (1, 4)
        assert reader.read(100, 100, 9, 9, 1.0)[4, 4].tolist() == [0, 200, 0]
        assert reader.read(100, 100, 9, 9, 0.97)[4, 4].tolist() == [0, 200, 0]  # 3 % coarser will do
        assert reader.read(100, 100, 9, 9, 0.9)[4, 4].tolist() == [200, 0, 0]


def test_subifd_pyramid_and_ome_microns(tmp_path: Path) -> None:
    picture = tissue_picture(600, 400)
    with tifffile.TiffWriter(tmp_path / "c.ome.tif", ome=True) as writer:
        facts = {"axes": "YXS", "PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm"}
        facts |= {"PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm"}
        how = {"tile": (64, 64), "photometric": "rgb"}
        writer.write(picture, subifds=1, metadata=facts, **how)
        writer.write(picture[::2, ::2], subfiletype=1, **how)
    with open_slide(tmp_path / "c.ome.tif") as reader:
        assert reader.level_downsamples == (1, 2)
        assert reader.mpp == pytest.approx(0.25)
        assert (reader.read_at(0, 0, 300, 200, 2.0) == picture[::2, ::2]).all()


def test_thumbnail_is_the_whole_slide_and_never_enlarged(slide: Path) -> None:
    with open_slide(slide) as reader:
        assert reader.thumbnail(325).shape == (225, 325, 3)
        assert reader.thumbnail(9999).shape == (900, 1300, 3)


def test_overview_is_read_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "OVERVIEW", 512)
    source = Painted(5_000, 1_200)
    reader = SlideReader(source)
    first = reader.thumbnail(200)
    reads = source.reads
    assert reads >= 9 * 9
    assert (reader.thumbnail(200) == first).all()
    for downsample in (16, 64, 1000):
        reader.read_at(0, 0, 5, 5, downsample)
    assert source.reads == reads
    assert first[100, 100, 1] == 120
    assert (first[0, 0] == 255).all()


def test_what_is_at_hand_reads_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "OVERVIEW", 512)
    reader, pyramid = SlideReader(Painted(5_000, 1_200)), SlideReader(Painted(5_000, 1_200, (1, 4, 16)))
    assert [reader.at_hand(2**k) for k in range(6)] == [True] * 5 + [False]
    assert (reader.unseen, pyramid.unseen) == (5_000**2, 0)
    assert all(pyramid.at_hand(2**k) for k in range(6))
    reader.read_through()
    assert all(reader.at_hand(2**k) for k in range(6))
    assert reader.held >= 313**2 * 3


def test_a_name_that_is_no_text_is_made_one(tmp_path: Path) -> None:
    path = write_slide(tmp_path / os.fsdecode(b"bad\xff.tif"), tissue_picture())
    with open_slide(path) as reader:
        assert reader.name == "bad?.tif"


def test_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "CACHE_BYTES", 4 * 512 * 512 * 3)
    reader = SlideReader(Painted(8_000, 4_000))
    for x in range(0, 4_000, 500):
        reader.read_at(x, 4_000, 600, 600, 1.0)
    held = [chunk.nbytes for chunk in reader._cache.values() if chunk is not None]
    assert sum(held) == reader._cached <= 4 * 512 * 512 * 3


def check_threads(reader: SlideReader, count: int = 20) -> None:
    rng = np.random.default_rng(0)
    regions = [(*rng.uniform(-50, min(reader.size), 2), 90, 70, d) for d in (1.0, 1.9, 7.3) for _ in range(count)]
    alone = [reader.read_at(*region) for region in regions]
    reader._cache.clear()
    reader._cached = 0
    begin = threading.Barrier(4)

    def work(seed: int) -> bool:
        begin.wait()
        order = np.random.default_rng(seed).permutation(len(regions))
        return all((reader.read_at(*regions[i]) == alone[i]).all() for i in order)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_threads_see_what_one_thread_sees(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "CACHE_BYTES", 300_000)  # so that they push each other's chunks out
    with open_slide(slide) as reader:
        check_threads(reader)


@pytest.mark.real_data
def test_real_slides(real_data_root: Path) -> None:
    path = real_data_root / "slides" / "cmu-1-small-region.svs"
    with open_slide(path) as reader, openslide.OpenSlide(path) as peer:
        assert reader.size == (2220, 2967)
        assert reader.mpp == 0.499
        theirs = np.asarray(peer.read_region((1000, 1300), 0, (300, 200)).convert("RGB"))
        assert (reader.read_at(1000, 1300, 300, 200, 1.0) == theirs).all()
        check_threads(reader, 8)
    path = real_data_root / "slides" / "tcga-cr-7395-01a-01-ts1.svs"
    with open_slide(path) as reader:
        assert reader.level_downsamples == (1, 2)
        with pytest.raises(ValueError, match="does not say its microns per pixel; pass mpp="):
            reader.read(0, 0, 10, 10, 0.972)
    with open_slide(path, mpp=0.5) as reader:
        assert reader.read(0, 0, 10, 10, 0.972).shape == (10, 10, 3)


@pytest.mark.real_data
def test_truncated_real_slide(real_data_root: Path, tmp_path: Path) -> None:
    data = (real_data_root / "slides" / "cmu-1-small-region.svs").read_bytes()
    (tmp_path / "short.svs").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"short\.svs.*(damaged|truncated)"):
        open_slide(tmp_path / "short.svs").thumbnail()


@pytest.mark.parametrize(
    ("how", "mpp", "message"),
    [
        ({}, None, "does not say its microns per pixel; pass mpp=.*0.25 for 40x or 0.5 for 20x"),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None, "says 352.8 microns per pixel, not between 0.05"),
        ({"resolution": (40_000, 20_000), "resolutionunit": "CENTIMETER"}, None, "0.25 .* across but 0.5 down"),
        ({"resolution": (101_600, 101_600), "resolutionunit": "INCH"}, 0.25, ""),
        ({"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}, 0.25, ""),
        ({"resolution": (40_000, 40_000), "resolutionunit": "NONE"}, None, "does not say"),
        ({"resolution": (4, 4), "imagej": True, "metadata": {"unit": "um"}, "tile": None}, 0.25, ""),
    ],
)
def test_microns_per_pixel_of_tags(tmp_path: Path, how: dict, mpp: float | None, message: str) -> None:
    how = {"tile": (64, 64), "photometric": "rgb", "metadata": None, **how}
    tifffile.imwrite(tmp_path / "m.tif", tissue_picture(200, 150), **how)
    with open_slide(tmp_path / "m.tif") as reader:
        if mpp is None:
            assert reader.mpp is None
            with pytest.raises(ValueError, match=message):
                reader.need_mpp()
        else:
            assert reader.need_mpp() == pytest.approx(mpp)
    with open_slide(tmp_path / "m.tif", mpp=0.3) as reader:  # what the user says goes
        assert reader.need_mpp() == 0.3


@pytest.mark.parametrize("mpp", [0, -1, 0.01, 0.049, 2.01, 19, 353, math.nan, math.inf, "forty"])
def test_absurd_mpp_is_refused(slide: Path, mpp: float) -> None:
    with pytest.raises(ValueError, match=r"mpp is .* wanted"):
        open_slide(slide, mpp=mpp)


def test_what_is_no_slide(tmp_path: Path) -> None:
    (tmp_path / "empty.svs").write_bytes(b"")
    (tmp_path / "text.svs").write_text("this is not a slide, it is a sentence")
    (tmp_path / "header.tif").write_bytes(b"II*\0\xff\xff\xff\xff")
    for name, message in (
        ("empty.svs", "empty.svs is empty"),
        ("text.svs", "text.svs is not a picture that can be read here"),
        ("header.tif", "header.tif: the TIFF holds no picture"),
        ("", "is a folder"),
    ):
        with pytest.raises(ValueError, match=message):
            open_slide(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="there is no slide"):
        open_slide(tmp_path / "absent.svs")


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("tile", [(64, 64), None])
def test_truncated_tiff(tmp_path: Path, keep: float, tile: tuple[int, int] | None) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, tissue_picture(400, 300), tile=tile, photometric="rgb", compression="zlib", metadata=None)
    data = stream.getvalue()
    (tmp_path / "t.tif").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ValueError, match=r"t\.tif.*(truncated|damaged)"):
        open_slide(tmp_path / "t.tif").read_at(0, 0, 400, 300, 1.0)


def test_one_piece_of_too_many_pixels(tmp_path: Path) -> None:
    side = 30_000
    packed = zlib.compressobj()
    data = b"".join(packed.compress(bytes(side // 8 + 1)) for _ in range(side)) + packed.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    file = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + file)
    with pytest.raises(ValueError, match=r"bomb.png has too many pixels for one piece.*tiled, pyramidal TIFF"):
        open_slide(tmp_path / "bomb.png")
    Image.new("1", (8_500, 8_000)).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match=r"large.png has 8500 x 8000 pixels in one piece, more than 64,000,000"):
        open_slide(tmp_path / "large.png")
    black = np.zeros((8_500, 8_000), np.uint8)
    tifffile.imwrite(tmp_path / "strips.tif", black, compression="zlib", rowsperstrip=8_500)
    with pytest.raises(ValueError, match=r"strips.tif: 8000 x 8500 pixels in one piece"):
        open_slide(tmp_path / "strips.tif")
    tifffile.imwrite(tmp_path / "plain.tif", black + 7)  # not compressed: mapped, not read
    with open_slide(tmp_path / "plain.tif") as reader:
        assert (reader.read_at(7_990, 8_490, 20, 20, 1.0)[:10, :10] == 7).all()
    data = (tmp_path / "plain.tif").read_bytes()
    (tmp_path / "plain.tif").write_bytes(data[: len(data) - 5000])
    with pytest.raises(ValueError, match=r"plain.tif: the TIFF is truncated"):
        open_slide(tmp_path / "plain.tif")


def test_more_pixels_than_a_slide_has(tmp_path: Path) -> None:
    """A header costs nothing: what it claims is checked before anything is allocated."""
    tifffile.imwrite(tmp_path / "claim.tif", np.zeros((64, 64, 3), np.uint8), tile=(64, 64), photometric="rgb")
    with tifffile.TiffFile(tmp_path / "claim.tif", mode="r+") as file:
        file.pages[0].tags["ImageWidth"].overwrite(2_000_000_000)
    with pytest.raises(ValueError, match=r"claim\.tif claims 2000000000 x 64 pixels, more than a slide has"):
        open_slide(tmp_path / "claim.tif")
