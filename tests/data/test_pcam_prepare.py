"""data.pcam.prepare against a local server that holds miniatures of the official files."""

import gzip
import hashlib
import importlib.util
import io
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from apps.pathology import data as reader
from data.pcam import pack
from data.pcam.prepare import OFFICIAL, Part, prepare
from data.pcam.prepare import pack as pack_folder

ROOT = Path(__file__).parents[2]
TILES = np.random.default_rng(0).integers(0, 256, (6, 96, 96, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 1, 0, 1, 0], np.uint8)


def h5(key: str, values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file[key] = values
    return buffer.getvalue()


@pytest.fixture
def web(tmp_path) -> Iterator[tuple[str, dict[str, Part], list[str], Path]]:
    """A server with miniatures of all splits: its address, their table, the paths asked for, and its folder."""
    folder = tmp_path / "web"
    folder.mkdir()
    table = {}
    for split in OFFICIAL:
        md5 = {}
        for key, values in (("x", TILES), ("y", LABELS.reshape(6, 1, 1, 1))):
            data = gzip.compress(h5(key, values), mtime=0)
            (folder / f"camelyonpatch_level_2_split_{split}_{key}.h5.gz").write_bytes(data)
            md5[key] = hashlib.md5(data).hexdigest()
        table[split] = Part(md5["x"], md5["y"], 6)
    seen: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))

        def log_request(self, *args: object) -> None:
            seen.append(self.path.rpartition("/")[2])

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", table, seen, folder
        server.shutdown()


def visible(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def test_the_official_table_is_that_of_torchvision():
    spec = importlib.util.find_spec("torchvision")  # read, not imported: that takes seconds
    assert spec is not None
    assert spec.origin is not None
    text = (Path(spec.origin).parent / "datasets" / "pcam.py").read_text()
    found = re.findall(r'"camelyonpatch_level_2_split_(\w+)_([xy])\.h5".*?"([0-9a-f]{32})"', text, re.DOTALL)
    assert {(split, key): md5 for split, key, md5 in found} == {
        (split, key): getattr(part, key) for split, part in OFFICIAL.items() for key in "xy"
    }
    assert sum(part.tiles for part in OFFICIAL.values()) == 327_680


def test_all_files_come_verified_and_unpacked_and_the_app_reads_them(web, tmp_path):
    url, table, seen, _ = web
    calls = []
    out = tmp_path / "raw"
    paths = prepare(out, base_url=url + "/", official=table, report=lambda *a: calls.append(a))
    assert sorted(p.name for p in paths) == visible(out)
    assert len(paths) == len(seen) == 6
    assert {done for _, done, total in calls if done == total} == {p.stat().st_size for p in web[3].iterdir()}
    read = reader.read(out, "val")
    assert (read.labels == LABELS).all()
    assert (np.asarray(read.images[3]) == TILES[3]).all()
    assert prepare(out, base_url=url, official=table) == paths
    assert len(seen) == 6  # nothing was asked for again


def test_a_damaged_file_is_fetched_again_and_one_split_is_one_split(web, tmp_path):
    url, table, seen, _ = web
    out = tmp_path / "raw"
    x, _ = prepare(out, ("test",), url, official=table)
    x.write_bytes(x.read_bytes()[:5000])
    prepare(out, ("test",), url, official=table)
    assert seen == [f"camelyonpatch_level_2_split_test_{k}.h5.gz" for k in ("x", "y", "x")]
    with h5py.File(x) as file:
        assert (file["x"][:] == TILES).all()


def test_another_file_under_the_right_name_is_refused(web, tmp_path):
    url, table, _, folder = web
    (folder / "camelyonpatch_level_2_split_test_x.h5.gz").write_bytes(gzip.compress(b"no tiles"))
    with pytest.raises(ValueError, match=f"expected md5 {table['test'].x}, seen"):
        prepare(tmp_path / "raw", ("test",), url, official=table)
    assert visible(tmp_path / "raw") == []


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (gzip.compress(h5("x", TILES[:2])), r"shape \(2, 96, 96, 3\), wanted \(6, 96, 96, 3\)"),
        (gzip.compress(h5("z", TILES)), "no h5 file with x"),
        (gzip.compress(b"hello"), "no h5 file with x"),
        (gzip.compress(h5("x", TILES))[:-2000], "cannot be unpacked"),
        (b"not gzip", "cannot be unpacked"),
    ],
)
def test_what_passes_the_hash_must_still_be_tiles(web, tmp_path, data, text):
    url, table, _, folder = web
    (folder / "camelyonpatch_level_2_split_test_x.h5.gz").write_bytes(data)
    part = Part(hashlib.md5(data).hexdigest(), table["test"].y, 6)
    with pytest.raises(ValueError, match=text):
        prepare(tmp_path / "raw", ("test",), url, official={"test": part})
    assert not [name for name in visible(tmp_path / "raw") if name.endswith((".h5", ".part"))]


def test_the_command_line(web, tmp_path):
    url, _, _, _ = web
    command = [sys.executable, "-m", "data.pcam.prepare", "--out", str(tmp_path / "raw"), "--splits", "test"]
    run = subprocess.run([*command, "--base-url", url], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2  # the miniature is not the official file
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("error: http://127.0.0.1")
    assert f"expected md5 {OFFICIAL['test'].x}" in last
    assert "Traceback" not in run.stderr


def test_h5_files_are_packed(web, tmp_path):
    url, table, _, _ = web
    prepare(tmp_path / "raw", ("valid", "test"), url, official=table)
    paths = pack_folder(tmp_path / "raw", tmp_path / "packed")
    assert [p.name for p in paths] == ["pcam_val.npz", "pcam_test.npz"]
    packed = pack.read_npz(paths[0])
    assert (packed["label"] == LABELS).all()
    assert all((pack.image(packed, i) == TILES[i]).all() for i in range(6))
    few = pack.read_npz(pack_folder(tmp_path / "raw", tmp_path / "few", limit=2)[0])
    assert len(few["label"]) == 2
    for limit in (0, -3):
        with pytest.raises(ValueError, match="at least 1 tile"):
            pack_folder(tmp_path / "raw", tmp_path / "none", limit=limit)


def test_a_kaggle_folder_is_packed_as_the_app_deals_it(tmp_path):
    source = tmp_path / "kaggle"
    (source / "train").mkdir(parents=True)
    rng = np.random.default_rng(3)
    rows = ["id,label"]
    for i in range(40):
        name = hashlib.sha1(bytes([i])).hexdigest()
        Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(source / "train" / f"{name}.tif")
        rows.append(f"{name},{i % 2}")
    (source / "train_labels.csv").write_text("\n".join(rows) + "\n")
    paths = pack_folder(source, tmp_path / "packed")
    assert [p.name for p in paths] == [f"pcam_{s}.npz" for s in ("train", "val", "test")]
    for split in ("train", "val", "test"):
        ours, theirs = reader.read(tmp_path / "packed", split), reader.read(source, split)
        assert len(ours) == len(theirs)
        assert (ours.labels == theirs.labels).all()
        assert all((np.asarray(ours.images[i]) == np.asarray(theirs.images[i])).all() for i in range(len(ours)))


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({}, "holds neither"),
        ({"train_labels.csv": b"a,b\n1,2\n"}, "not the Kaggle list"),
        ({"train_labels.csv": b"id,label\nx,1\ny,1\nz,1\n"}, "missing or not a picture"),
        ({"camelyonpatch_level_2_split_test_x.h5": b"junk"}, "missing or damaged"),
    ],
)
def test_a_folder_that_is_neither_is_one_sentence(tmp_path, files, text):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=text):
        pack_folder(tmp_path, tmp_path / "packed")
    assert not list((tmp_path / "packed").glob("*"))
