"""Many slides: each finished once, with the answers that were asked for, on this machine and on a cluster."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from apps import pathology
from apps.pathology import export, many
from apps.pathology.heatmap import SlideResult
from apps.pathology.predict import find
from apps.pathology.slide import PARTIAL
from core import card
from tests.apps.pathology.slides import tissue_picture, write_slide
from tests.core.loopback import on_loopback

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two small slides, a list of them, and their results."""
    folder = tmp_path_factory.mktemp("many")
    for number, name in enumerate("ab"):
        write_slide(folder / f"{name}.tif", tissue_picture(400, 320, seed=number), mpp=0.5)
    (folder / "slides.txt").write_text("a.tif\nb.tif\n")
    assert many.score_list(folder / "slides.txt", out=folder / "out", device="cpu") == 0
    return folder


@pytest.fixture
def listing(finished, tmp_path):
    """A list of two small slides in a folder of the test's own."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)  # with their times of change
    return tmp_path / "slides.txt"


@pytest.fixture
def scored(listing):
    """The folder of their results."""
    return listing.parent / "out"


def run(listing, out, capsys, **how):
    """Scores a list in this process and one of its own; what became of it."""
    assert many.score_list(listing, out=out, device="cpu", **how) == 0
    return capsys.readouterr().err.splitlines()[-1]


def test_a_partial_result_is_no_result_and_is_taken_up(listing, scored, tmp_path, capsys):
    class Stopped(Exception):
        pass

    def stop(done, total):
        if done >= 64:
            raise Stopped

    slide = write_slide(tmp_path / "b.tif", tissue_picture(900, 700), mpp=0.5)
    for name in export.NAMES:
        (scored / "b" / name).unlink()
    with pytest.raises(Stopped):
        pathology.load(device="cpu").slide(slide, progress=stop, out=scored / "b")
    with np.load(scored / "b" / PARTIAL) as kept:
        partial = dict(kept)
    first = tuple(np.argwhere(np.isfinite(partial["heatmap"]))[0])
    partial["heatmap"][first] = 0.125  # to be known again
    np.savez(scored / "b" / PARTIAL, **partial)
    assert run(listing, scored, capsys) == "1 done, 1 already there, 0 failed"
    assert {path.name for path in (scored / "b").iterdir()} == set(export.NAMES)
    assert SlideResult.load(scored / "b").heatmap[first] == 0.125


def test_a_folder_without_all_its_exports_is_completed(listing, scored, capsys):
    (scored / "a" / "tiles.geojson").unlink()
    assert run(listing, scored, capsys) == "1 done, 1 already there, 0 failed"
    assert (scored / "a" / "tiles.geojson").exists()
    assert run(listing, scored, capsys) == "0 done, 2 already there, 0 failed"


def test_another_alpha_scores_nothing_anew_and_leaves_nothing_stale(listing, scored, capsys):
    listing.write_text("a.tif\n")
    result = SlideResult.load(scored / "a")
    inside = np.isfinite(result.heatmap)
    marked = np.where(inside, np.float32(0.4), result.heatmap)  # no slide scores so
    dataclasses.replace(result, heatmap=marked, uncertain=inside & False).save(scored / "a")
    assert run(listing, scored, capsys, alpha=0.001) == "1 done, 0 already there, 0 failed"
    result = SlideResult.load(scored / "a")
    assert (result.heatmap[inside] == np.float32(0.4)).all()
    assert (result.uncertain == inside).all()
    features = json.loads((scored / "a" / "tiles.geojson").read_text())["features"]
    tiles = [feature for feature in features if feature["properties"]["objectType"] == "tile"]
    assert all(tile["properties"]["measurements"]["uncertain"] == 1 for tile in tiles)
    assert json.loads((scored / "a" / "summary.json").read_text())["uncertain_cells"] == len(tiles) == inside.sum()
    assert run(listing, scored, capsys, alpha=0.001) == "0 done, 1 already there, 0 failed"


def test_other_microns_or_weights_are_scored_anew(listing, scored, tmp_path, capsys):
    listing.write_text("a.tif\n")
    assert run(listing, scored, capsys, mpp=0.6) == "1 done, 0 already there, 0 failed"
    assert SlideResult.load(scored / "a").slide_mpp == 0.6
    other = tmp_path / "other.safetensors"
    tensors, sheet = card.read(find("default"))
    card.write(other, tensors, dataclasses.replace(sheet, licence="none"))
    assert run(listing, scored, capsys, weights=str(other)) == "1 done, 0 already there, 0 failed"
    result = SlideResult.load(scored / "a")
    assert result.model == pathology.load(other).sha256
    assert result.slide_mpp == pytest.approx(0.5)


def test_the_result_of_another_slide_is_not_overwritten(listing, scored, tmp_path, capsys):
    before = (scored / "a" / "slide.npz").read_bytes()
    (tmp_path / "else").mkdir()
    write_slide(tmp_path / "else" / "a.svs", tissue_picture(300, 300), mpp=0.5)
    listing.write_text("a.tif\nelse/a.svs\n")
    with pytest.raises(ValueError, match=r"a\.tif and .*a\.svs would both go to .*out/a"):
        run(listing, scored, capsys)
    listing.write_text("else/a.svs\n")
    with pytest.raises(ValueError, match=r"out/a holds the result of a\.tif, another slide or an older state of .*svs"):
        run(listing, scored, capsys)
    listing.write_text("a.tif\n")
    os.utime(tmp_path / "a.tif", ns=(1, 1))
    with pytest.raises(ValueError, match="another slide or an older state"):
        run(listing, scored, capsys)
    assert (scored / "a" / "slide.npz").read_bytes() == before


def test_what_a_user_put_there_is_not_replaced(listing, scored, capsys):
    (scored / "a" / "notes.txt").write_text("mine")
    assert run(listing, scored, capsys) == "0 done, 2 already there, 0 failed"
    with pytest.raises(ValueError, match=r"out/a holds notes\.txt, which is no part of a slide's result"):
        run(listing, scored, capsys, mpp=0.6)
    assert (scored / "a" / "notes.txt").read_text() == "mine"


TWO_NODES = """
import json, os, signal, subprocess, sys, threading
from pathlib import Path
from ray.cluster_utils import Cluster

listing, out = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
node = cluster.add_node(num_cpus=1)
ours, tried, over = f"RAY_TMPDIR={os.environ['RAY_TMPDIR']}".encode(), [], threading.Event()

def scoring():
    for place in Path("/proc").glob("[0-9]*"):
        try:
            name, environment = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
            if name.startswith(b"ray::attempt") and ours in environment:  # of no other cluster here
                yield int(place.name)
        except OSError:
            pass

def trouble():
    while not over.wait(0.02):
        both = sorted(scoring())
        if len(both) == 2:  # a slide on each node
            os.kill(both[0], signal.SIGKILL)
            tried.append("worker")
            break
    while not over.wait(0.02):
        if both[0] not in list(scoring()) and len(list(scoring())) == 2:
            cluster.remove_node(node)
            tried.append("node")
            break

thread = threading.Thread(target=trouble, daemon=True)
thread.start()
words = [sys.executable, "-m", "apps.pathology", "--list", listing, "--out", out, "--cluster", cluster.address]
words += ["--workers", "2", "--device", "cpu"]
runs = [subprocess.run(words, capture_output=True, text=True) for _ in range(2)]
over.set()
thread.join()
print(json.dumps([tried, [[ran.returncode, ran.stderr] for ran in runs]]))
cluster.shutdown()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="finds Ray's processes in /proc")
def test_a_cluster_survives_a_killed_worker_and_a_lost_node(listing, scored, tmp_path, ray_folder):
    """As on this machine, to the last cell, and a finished slide is known by whoever looks at the folder."""
    pytest.importorskip("ray")
    (tmp_path / "two_nodes.py").write_text(TWO_NODES)
    words = on_loopback([sys.executable, str(tmp_path / "two_nodes.py"), str(listing), str(tmp_path / "far")])
    ran = subprocess.run(words, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
                         timeout=500)
    assert ran.returncode == 0, ran.stderr
    tried, [first, again] = json.loads(ran.stdout.splitlines()[-1])
    assert tried == ["worker", "node"]
    assert first[0] == 0, first[1]
    assert "2 done, 0 already there, 0 failed" in first[1]
    assert "0 done, 2 already there, 0 failed" in again[1]
    for name in "ab":
        far, near = (SlideResult.load(folder / name) for folder in (tmp_path / "far", scored))
        np.testing.assert_array_equal(far.heatmap, near.heatmap)
        np.testing.assert_array_equal(far.uncertain, near.uncertain)
        assert far.fingerprint == near.fingerprint
        assert {path.name for path in (tmp_path / "far" / name).iterdir()} == set(export.NAMES)
