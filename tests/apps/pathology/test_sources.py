import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from apps.pathology.reader import open_slide
from tests.apps.pathology.slides import tissue_picture

RGB = tissue_picture(150, 100)
GREY = RGB[..., 1]
ALPHA = np.tile(np.linspace(0, 255, 150).astype(np.uint8), (100, 1))


def shown(path: Path) -> np.ndarray:
    with open_slide(path) as reader:
        assert reader.size == (150, 100)
        return reader.read_at(0, 0, 150, 100, 1.0).astype(int)


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.rint(colour * (alpha[..., None] / 255) + 255 - alpha[..., None].astype(float))


LAYOUTS = {"tiles": {"tile": (32, 48)}, "strips": {"rowsperstrip": 7}}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb(tmp_path: Path, layout: str, planar: str) -> None:
    pixels = RGB if planar == "contig" else RGB.transpose(2, 0, 1)
    how = {"photometric": "rgb", "planarconfig": planar, "metadata": None} | LAYOUTS[layout]
    tifffile.imwrite(tmp_path / "a.tif", pixels, **how)
    assert (shown(tmp_path / "a.tif") == RGB).all()
    tifffile.imwrite(tmp_path / "b.tif", pixels.astype(np.uint16) * 257, compression="lzw", predictor=2, **how)
    assert (shown(tmp_path / "b.tif") == RGB).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_grey_black_and_white_and_palette(tmp_path: Path, layout: str) -> None:
    how = {"metadata": None} | LAYOUTS[layout]
    tifffile.imwrite(tmp_path / "grey.tif", GREY, photometric="minisblack", **how)
    assert (shown(tmp_path / "grey.tif") == GREY[..., None]).all()
    tifffile.imwrite(tmp_path / "white.tif", 255 - GREY, photometric="miniswhite", **how)
    assert (shown(tmp_path / "white.tif") == GREY[..., None]).all()
    tifffile.imwrite(tmp_path / "deep.tif", GREY.astype(np.uint16) * 257, photometric="minisblack", **how)
    assert (shown(tmp_path / "deep.tif") == GREY[..., None]).all()
    tifffile.imwrite(tmp_path / "bits.tif", GREY > 128, photometric="minisblack", **how)
    assert (shown(tmp_path / "bits.tif") == np.where(GREY > 128, 255, 0)[..., None]).all()
    colours = np.random.default_rng(0).integers(0, 256, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "palette.tif", GREY, photometric="palette", colormap=colours * 257, **how)
    assert (shown(tmp_path / "palette.tif") == colours.T[GREY]).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_alpha_lies_on_white(tmp_path: Path, layout: str) -> None:
    how = {"photometric": "rgb", "metadata": None} | LAYOUTS[layout]
    straight = np.dstack([RGB, ALPHA])
    tifffile.imwrite(tmp_path / "straight.tif", straight, extrasamples=["unassalpha"], **how)
    assert np.abs(shown(tmp_path / "straight.tif") - on_white(RGB, ALPHA)).max() <= 1
    ready = np.dstack([np.rint(RGB * (ALPHA[..., None] / 255)).astype(np.uint8), ALPHA])
    tifffile.imwrite(tmp_path / "ready.tif", ready, extrasamples=["assocalpha"], **how)
    assert np.abs(shown(tmp_path / "ready.tif") - on_white(RGB, ALPHA)).max() <= 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cmyk(tmp_path: Path, layout: str) -> None:
    ink = np.dstack([255 - RGB, np.full_like(GREY, 51)])  # a fifth of black
    tifffile.imwrite(tmp_path / "a.tif", ink, photometric="separated", metadata=None, **LAYOUTS[layout])
    assert np.abs(shown(tmp_path / "a.tif") - RGB * 0.8).max() <= 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_jpeg_in_tiff(tmp_path: Path, layout: str) -> None:
    layouts = {"tiles": {"tile": (32, 32)}, "strips": {"rowsperstrip": 16}}
    how = {"compressionargs": {"level": 95}, "subsampling": (2, 2), "metadata": None} | layouts[layout]
    tifffile.imwrite(tmp_path / "a.tif", RGB, compression="jpeg", photometric="rgb", **how)  # kept as YCbCr
    assert np.abs(shown(tmp_path / "a.tif") - RGB).mean() < 4


def test_three_pages_of_one_colour_each(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(RGB.transpose(2, 0, 1), tile=(32, 32), photometric="minisblack", metadata={"axes": "CYX"})
    assert (shown(tmp_path / "a.ome.tif") == RGB).all()


def test_what_the_tiff_reader_refuses(tmp_path: Path) -> None:
    for pixels, how, message in (
        (GREY.astype(np.float32), {"photometric": "minisblack"}, "samples of type float32"),
        (np.stack([GREY] * 5), {"photometric": "minisblack"}, "a stack of 5 pictures"),
        (np.dstack([GREY] * 5), {"photometric": "minisblack", "planarconfig": "contig"}, "channels|samples"),
        (RGB, {"photometric": "cielab"}, "colours"),
    ):
        tifffile.imwrite(tmp_path / "x.tif", pixels, tile=(32, 32), **how)
        with pytest.raises(ValueError, match=rf"x\.tif: .*({message})"):
            open_slide(tmp_path / "x.tif")


def test_tiles_too_large_to_decode_are_refused(tmp_path: Path) -> None:
    how = {"photometric": "rgb", "compression": "zlib", "metadata": None}
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:  # sparse: nothing is written
        writer.write(itertools.repeat(b""), shape=(8000, 8000, 3), dtype=np.uint8, tile=(8000, 8000), **how)
    with pytest.raises(ValueError, match=r"x\.tif: the TIFF has tiles of 8,000 x 8,000 pixels, too large .* pyramidal"):
        open_slide(tmp_path / "x.tif")
    how |= {"tile": (5008, 5008), "description": "Aperio Image Library v1 |MPP = 0.5"}
    tifffile.imwrite(tmp_path / "x.svs", np.zeros((64, 5008, 3), np.uint8), **how)
    with pytest.raises(ValueError, match=r"x\.svs has tiles of 5,008 x 5,008 pixels, too large"):
        open_slide(tmp_path / "x.svs")


@pytest.mark.parametrize("layout", [{"tile": (32, 32)}, {"rowsperstrip": 16}])
def test_a_jpeg_within_is_no_larger_than_it_may_be(
    tmp_path: Path, layout: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"compression": "jpeg", "photometric": "rgb", "metadata": None} | layout
    tifffile.imwrite(tmp_path / "x.tif", RGB, **how)
    monkeypatch.setattr("imagecodecs.jpeg_decode", lambda *_, **__: pytest.fail("it was decoded"))
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        start = file.pages[0].dataoffsets[0]
    data = bytearray((tmp_path / "x.tif").read_bytes())
    frame = data.index(b"\xff\xc0", start) + 5  # height and width follow the marker, its length and the bits
    data[frame : frame + 4] = struct.pack(">HH", 12_000, 12_000)
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(ValueError, match=r"(tile|strip) 0 claims 12,000 x 12,000 pixels"):
        open_slide(tmp_path / "x.tif").read_at(0, 0, 10, 10, 1.0)


def test_damaged_tile_is_named(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", RGB, tile=(32, 32), compression="zlib", photometric="rgb", metadata=None)
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        offset = file.pages[0].dataoffsets[6]
    with open(tmp_path / "x.tif", "r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 40)
    with open_slide(tmp_path / "x.tif") as reader:
        assert (reader.read_at(0, 0, 30, 30, 1.0) == RGB[:30, :30]).all()  # the others are still read
        with pytest.raises(ValueError, match=r"slide x\.tif cannot be read: the TIFF is damaged at tile 6"):
            reader.read_at(0, 0, 150, 100, 1.0)


PNG = [("png", mode) for mode in ("RGB", "L", "RGBA", "LA", "P", "1", "I;16")]
JPEG = [("jpg", mode) for mode in ("RGB", "L", "CMYK")]


@pytest.mark.parametrize(("ending", "mode"), PNG + JPEG)
def test_plain_pictures(tmp_path: Path, mode: str, ending: str) -> None:
    picture, want = Image.fromarray(RGB), RGB.astype(float)
    if mode == "I;16":
        picture, want = Image.fromarray(GREY.astype(np.uint16) * 257), np.repeat(GREY[..., None], 3, -1).astype(float)
    elif mode in ("RGBA", "LA"):
        picture.putalpha(Image.fromarray(ALPHA))
        want = on_white(np.asarray(picture.convert(mode).convert("RGBA"))[..., :3], ALPHA)
        picture = picture.convert(mode)
    else:
        picture = picture.convert(mode)
        want = np.asarray(picture.convert("RGB")).astype(float)
    picture.save(tmp_path / f"a.{ending}", **({"quality": 95} if ending == "jpg" else {}))
    assert np.abs(shown(tmp_path / f"a.{ending}") - want).mean() < (1 if ending == "png" else 8)


def test_truncated_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        Image.fromarray(RGB).save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
        with pytest.raises(ValueError, match=rf"{name} is truncated or damaged"):
            open_slide(tmp_path / name)


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", mpp=0.25) as reader:
        assert reader.thumbnail().tolist() == [[[10, 20, 30]]]
