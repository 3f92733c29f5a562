"""The shell entry, as a user types it."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.pathology.picture import read_picture
from apps.pathology.predict import load

ROOT = Path(__file__).parents[3]
TILES = sorted((ROOT / "data" / "pcam" / "sample").glob("tile_*.png"))
SLIDE = ROOT / "data" / "slides" / "sample" / "synthetic.tif"


def command(*words):
    return subprocess.run([sys.executable, "-m", "apps.pathology", *map(str, words)], cwd=ROOT, text=True,
                          capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, check=False)


def test_tiles_as_json_and_saliency(tmp_path):
    done = command(*TILES[:2], "--json", "--saliency", tmp_path / "cam")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["file"] for row in rows] == [str(t) for t in TILES[:2]]
    assert all(0 <= row["probability"] <= 1 for row in rows)
    for tile in TILES[:2]:
        assert Image.open(tmp_path / "cam" / tile.name).size == (384, 384)  # enlarged to be looked at


def test_tiles_as_a_table():
    done = command(TILES[0])
    header, row = done.stdout.splitlines()
    assert header.split("\t") == ["probability", "answer", "file"]
    assert row.split("\t")[1] in ("tumour", "no tumour", "declines")


def test_a_slide_in_all_forms_and_again(tmp_path):
    done = command(SLIDE, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    folder = tmp_path / SLIDE.stem
    wanted = {"tiles.geojson", "overlay.png", "probability.tiff", "tiles.parquet", "summary.json", "slide.npz"}
    assert wanted <= {p.name for p in folder.iterdir()}
    assert said["cells"] == json.loads((folder / "summary.json").read_text())["cells"] > 0
    before = (folder / "slide.npz").read_bytes()
    assert command(SLIDE, "--out", tmp_path).returncode == 0
    assert (folder / "slide.npz").read_bytes() == before
    cautious = command(SLIDE, "--out", tmp_path, "--alpha", "0.4")
    assert cautious.returncode == 0, cautious.stderr
    kept, first = np.load(folder / "slide.npz"), np.load(io.BytesIO(before))
    np.testing.assert_array_equal(kept["heatmap"], first["heatmap"])
    wanted = load(alpha=0.4).conformal.uncertain(kept["heatmap"][kept["mask"]])
    np.testing.assert_array_equal(kept["uncertain"][kept["mask"]], wanted)
    assert kept["uncertain"].sum() != first["uncertain"].sum()
    assert json.loads((folder / "summary.json").read_text())["uncertain_cells"] == wanted.sum()


def test_a_list_of_slides_finishes_what_is_left(tmp_path):
    copies = []
    for name in "ab":
        copy = tmp_path / f"{name}.tif"
        copy.write_bytes(SLIDE.read_bytes())
        copies.append(copy.name)
    listing = tmp_path / "slides.txt"
    listing.write_text("# two copies\n" + "\n".join(copies) + "\n\n")
    done = command("--list", listing, "--workers", "2", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "2 done" in done.stderr
    a, b = (np.load(tmp_path / "out" / n / "slide.npz")["heatmap"] for n in "ab")
    np.testing.assert_array_equal(a, b)
    (tmp_path / "out" / "b" / "slide.npz").rename(tmp_path / "kept.npz")
    for file in (tmp_path / "out" / "b").iterdir():
        file.unlink()
    (tmp_path / "out" / "b").rmdir()
    again = command("--list", listing, "--out", tmp_path / "out")
    assert "1 done, 1 already there" in again.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "b" / "slide.npz")["heatmap"], a)


def png_that_claims(width, height):
    """A PNG whose header promises more than follows."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(99))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """Files that are not what they seem, by name."""
    tmp_path = tmp_path_factory.mktemp("bad")
    Image.new("L", (96, 96), 100).save(tmp_path / "gray.png")
    Image.fromarray(np.zeros((96, 96), np.uint16)).save(tmp_path / "sixteen.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    (tmp_path / "text.png").write_text("not an image")
    whole = TILES[0].read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.tif").write_bytes(SLIDE.read_bytes()[:5000])
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "missing.txt").write_text("there-is-no-such.svs\n")
    (tmp_path / "bomb.png").write_bytes(png_that_claims(30000, 30000))
    (tmp_path / "noise.bin").write_bytes(os.urandom(100))
    (tmp_path / "one.txt").write_text(f"{SLIDE}\n")
    for name in ("here/x.tif", "there/x.svs"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(SLIDE.read_bytes())
    return tmp_path


@pytest.mark.parametrize(("words", "says"), [
    ((), "no file given"),
    (("nowhere.png",), "no such file"),
    (("{bad}/gray.png",), "no colour"),
    (("{bad}/sixteen.png",), "no colour"),
    (("{bad}/dot.png",), "1x1"),
    (("{bad}/dot.png", "--mpp", "0.5"), "covers"),
    (("{bad}/text.png",), "not a picture"),
    (("{bad}/cut.png",), "truncated or damaged"),
    (("{bad}/cut.tif", "--out", "{bad}/out"), "cut.tif"),
    (("{bad}/bomb.png",), "more pixels than a tile"),
    (("--list", "{bad}/empty.txt"), "names no slide"),
    (("--list", "{bad}/missing.txt"), "not there"),
    (("--list", "{bad}/noise.bin"), "noise.bin"),
    (("--list", "{bad}/one.txt", "--workers", "-1", "--out", "{bad}/out"), "workers is -1"),
    (("{tile}", "--list", "{bad}/one.txt"), "files or a list, not both"),
    (("{slide}", "--workers", "2"), "--list"),
    (("{slide}", "--symmetries", "--out", "{bad}/out"), "--symmetries is for tiles"),
    (("{bad}/here/x.tif", "{bad}/there/x.svs", "--out", "{bad}/out"), "would both go to"),
    (("{tile}", "--weights", "nothing"), "no weights called"),
    (("{tile}", "--device", "cuda:7"), "cuda"),
    (("{tile}", "--alpha", "2"), "alpha"),
    (("{tile}", "--saliency", "/proc/nowhere"), "/proc/nowhere"),
    (("{slide}", "--out", "/proc/nowhere"), "/proc/nowhere"),
])
def test_bad_input_gets_one_sentence(bad, words, says):
    places = {"bad": bad, "tile": TILES[0], "slide": SLIDE}
    done = command(*(word.format(**places) for word in words))
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert says in errors[0]
    assert not (bad / "out").exists() or not list((bad / "out").rglob("*.geojson"))


def test_pictures_of_every_mode_are_read_alike(tmp_path):
    tile = Image.open(TILES[0]).convert("RGB")
    wanted = np.asarray(tile)
    for name, image in {"rgba.png": tile.convert("RGBA"), "plain.tif": tile, "plain.webp": tile}.items():
        image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        np.testing.assert_array_equal(read_picture(tmp_path / name), wanted)
    for name, mode in {"cmyk.tif": "CMYK", "palette.png": "P"}.items():
        tile.convert(mode).save(tmp_path / name)
        assert np.abs(read_picture(tmp_path / name).astype(int) - wanted).mean() < 20
    clear = np.dstack([wanted, np.zeros(wanted.shape[:2], np.uint8)])
    Image.fromarray(clear, "RGBA").save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png") == 255).all()
    turned = Image.Exif()
    turned[0x0112] = 6
    tile.save(tmp_path / "turned.png", exif=turned)
    np.testing.assert_array_equal(read_picture(tmp_path / "turned.png"), np.rot90(wanted, -1))


def test_bytes_that_a_visitor_sends_are_named():
    with pytest.raises(ValueError, match=r"^upload\.png is not a picture"):
        read_picture(b"<script>", "upload.png")
