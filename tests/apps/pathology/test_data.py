"""Tiles from their three layouts, and augmentation that keeps labels true."""

import csv
import os

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from apps.pathology import data
from data.pcam import pack, prepare

images = st.integers(0, 2**32 - 1).map(lambda s: np.random.default_rng(s).integers(0, 256, (96, 96, 3), np.uint8))


@pytest.fixture(scope="module")
def tiles():
    return data.read(data.SAMPLE, "train")


def test_sample_is_read_and_balanced(tiles):
    assert len(tiles) == len(tiles.images) == 64
    assert tiles.images[0].shape == (96, 96, 3)
    assert tiles.images[0].dtype == np.uint8
    assert 0 < tiles.labels.mean() < 1
    assert set(tiles.scanner) == {0, 1}


def test_where_and_join_keep_image_and_label_together(tiles):
    chosen = tiles.where(tiles.scanner == 1)
    joined = data.join([chosen, tiles])
    assert len(joined) == len(chosen) + len(tiles)
    for i in (0, len(chosen) - 1, len(chosen), len(joined) - 1):
        source, j = (chosen, i) if i < len(chosen) else (tiles, i - len(chosen))
        np.testing.assert_array_equal(joined.images[i], source.images[j])
        assert joined.labels[i] == source.labels[j]


@pytest.fixture
def official(tmp_path, tiles):
    root = tmp_path / "pcam"
    root.mkdir()
    base = root / "camelyonpatch_level_2_split_valid"
    with h5py.File(f"{base}_x.h5", "w") as x, h5py.File(f"{base}_y.h5", "w") as y:
        x["x"] = np.stack([tiles.images[i] for i in range(5)])
        y["y"] = tiles.labels[:5].reshape(5, 1, 1, 1)
    return tmp_path


def test_official_h5_gives_the_same_tiles(official, tiles):
    read = data.read(official, "val")
    np.testing.assert_array_equal(read.labels, tiles.labels[:5])
    np.testing.assert_array_equal(read.stack(), np.stack([tiles.images[i] for i in range(5)]))
    np.testing.assert_array_equal(data.read(official / "pcam", "val").images[4], tiles.images[4])


def test_kaggle_deals_every_tile_to_one_split(tmp_path, tiles):
    (tmp_path / "train").mkdir()
    names = [f"{i:040x}" for i in range(64)]
    for i, name in enumerate(names):
        Image.fromarray(tiles.images[i]).save(tmp_path / "train" / f"{name}.tif")
    with open(tmp_path / "train_labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([("id", "label"), *zip(names, tiles.labels, strict=True)])
    splits = [data.read(tmp_path, split) for split in ("train", "val", "test")]
    assert sum(map(len, splits)) == 64
    seen = [image.tobytes() for part in splits for image in part.stack()]
    assert len(set(seen)) == len({tiles.images[i].tobytes() for i in range(64)})
    train = splits[0]
    by_pixels = {tiles.images[i].tobytes(): tiles.labels[i] for i in range(64)}
    assert all(by_pixels[train.images[i].tobytes()] == train.labels[i] for i in range(len(train)))


def write(path, **arrays):
    np.savez(path, **arrays)
    return path.parent


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda p: write(p / "pcam_val.npz", images=np.zeros(3)), "lacks label, offsets, webp"),
    (lambda p: (p / "pcam_val.npz").write_bytes(b"PK\x03\x04 not a zip") and p, "not a readable npz"),
    (lambda p: write(p / "pcam_val.npz", webp=np.zeros(4, np.uint8), offsets=np.array([0, 9]), label=np.array([1])),
     "damaged"),
    (lambda p: write(p / "pcam_val.npz", webp=np.zeros(9, np.uint8), offsets=np.array([0, 9]), label=np.array([2])),
     "labels of 0 or 1"),
    (lambda p: write(p / "pcam_test.npz", label=np.zeros(1)), "has the splits test"),
    (lambda p: p, "holds no tiles"),
])
def test_bad_npz_is_told_in_a_sentence(tmp_path, spoil, says):
    with pytest.raises(ValueError, match=says):
        data.read(spoil(tmp_path), "val")


@pytest.mark.parametrize("change", [
    {"offsets": np.int64(3)}, {"label": np.uint8(1)},
    {"offsets": np.zeros(0, np.int64), "label": np.zeros(0, np.uint8)},
    {"label": np.array(["a"] * 32)}, {"scanner_group": np.zeros(2, np.uint8)}, {"label": np.full(32, 256)},
    {"offsets": np.arange(33)[::-1]}, {"offsets": np.arange(-1, 32)}, {"label": np.full(32, 0.5)},
])
def test_arrays_that_do_not_fit_each_other_are_told_by_both_readers(tmp_path, change):
    with np.load(data.SAMPLE / "pcam_val.npz") as file:
        np.savez(tmp_path / "pcam_val.npz", **{**file, **change})
    for read in (lambda: data.read(tmp_path, "val"), lambda: pack.read_npz(tmp_path / "pcam_val.npz")):
        with pytest.raises(ValueError, match=r"pcam_val\.npz is damaged"):
            read()


@pytest.mark.parametrize(("x", "y", "says"), [
    (None, np.zeros(4), "damaged"),
    (np.zeros((4, 96, 96, 3), np.uint8), None, "damaged"),
    (np.zeros((4, 96, 96, 3), np.float32), np.zeros(4), "float32"),
    (np.zeros((4, 96, 96, 3), np.uint8), np.arange(4) * 9, "other labels than 0 and 1"),
    (np.zeros((4, 96, 96, 3), np.uint8), 7, "has the shape"),
])
def test_h5_files_of_another_kind_are_told_by_both_readers(tmp_path, x, y, says):
    for name, content in (("x", x), ("y", y)):
        with h5py.File(tmp_path / f"camelyonpatch_level_2_split_valid_{name}.h5", "w") as file:
            if content is None:
                file.create_group(name)
            else:
                file[name] = content
    for read in (lambda: data.read(tmp_path, "val"), lambda: prepare.pack(tmp_path, tmp_path / "out")):
        with pytest.raises(ValueError, match=says) as caught:
            read()
        assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", [b"id,label\n\xff,1\n", b'id,label\n"' + b"x" * 200_000 + b'",1\n'])
def test_a_kaggle_list_that_cannot_be_read_is_named_by_both_readers(tmp_path, content):
    (tmp_path / "train_labels.csv").write_bytes(content)
    for read in (lambda: data.read(tmp_path, "val"), lambda: prepare.pack(tmp_path, tmp_path / "out")):
        with pytest.raises(ValueError, match=r"train_labels\.csv is not a readable table"):
            read()


def test_a_pickle_inside_an_npz_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    np.savez(tmp_path / "pcam_val.npz", webp=np.zeros(9, np.uint8), offsets=np.array([0, 9]),
             label=np.array([Bomb()], dtype=object))
    with pytest.raises(ValueError):
        data.read(tmp_path, "val")
    assert not (tmp_path / "exploded").exists()


def test_corrupt_h5_and_wrong_shape(official):
    y = official / "pcam" / "camelyonpatch_level_2_split_valid_y.h5"
    whole = y.read_bytes()
    y.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        data.read(official, "val")
    with h5py.File(y, "w") as file:
        file["y"] = np.zeros((4, 1, 1, 1))
    with pytest.raises(ValueError, match="wanted \\(4, 96, 96, 3\\)"):
        data.read(official, "val")
    with pytest.raises(ValueError, match=r"data\.pcam\.prepare"):
        data.read(official, "test")


def test_a_damaged_tile_is_named(tmp_path):
    with np.load(data.SAMPLE / "pcam_val.npz") as file:
        arrays = dict(file)
    arrays["webp"][arrays["offsets"][3] : arrays["offsets"][4]] = 0
    np.savez(tmp_path / "pcam_val.npz", **arrays)
    tiles = data.read(tmp_path, "val")
    with pytest.raises(ValueError, match="tile 3 is not a readable picture"):
        tiles.images[3]


def test_the_folder_is_found(monkeypatch, tmp_path):
    assert data.folder("sample") == data.SAMPLE
    monkeypatch.setenv("WUNDERKAMMER_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="has no folder pcam"):
        data.folder()
    (tmp_path / "pcam").mkdir()
    assert data.folder() == tmp_path / "pcam"
    with pytest.raises(ValueError, match="not a folder"):
        data.folder(tmp_path / "nothing")


def test_train_extra_is_taken_where_it_is(tmp_path):
    assert data.splits(tmp_path, ("train", "train_extra")) == ["train"]
    assert data.splits(tmp_path, ("train_extra",)) == ["train_extra"]  # whose reader says what is missing
    (tmp_path / "pcam_train_extra.npz").touch()
    assert data.splits(tmp_path, ("train", "train_extra")) == ["train", "train_extra"]


def test_the_eight_symmetries_are_a_group():
    image = np.random.default_rng(0).integers(0, 256, (5, 5, 3), np.uint8)
    orbit = [data.dihedral(image, g) for g in range(8)]
    keys = {o.tobytes() for o in orbit}
    assert len(keys) == 8
    for a in orbit:
        for g in range(8):
            assert data.dihedral(a, g).tobytes() in keys
    stack = np.stack([image, image[::-1]])
    np.testing.assert_array_equal(data.dihedral(stack, 5)[0], data.dihedral(image, 5))


@settings(max_examples=20, deadline=None)
@given(images, st.integers(0, 2**31), st.floats(0, 0.5))
def test_stain_jitter_stays_in_range_and_spares_white(image, seed, strength):
    image[:8] = 255
    out = data.stain_jitter(image, np.random.default_rng(seed), strength)
    assert out.dtype == np.uint8
    assert out.shape == image.shape
    assert (out[:8] == 255).all()


@settings(max_examples=20, deadline=None)
@given(images, st.integers(0, 2**31))
def test_no_strength_changes_nothing(image, seed):
    rng = np.random.default_rng(seed)
    assert np.abs(data.stain_jitter(image, rng, 0.0).astype(int) - np.maximum(image, 1)).max() <= 1
    np.testing.assert_array_equal(data.sharpness_jitter(image, rng, 0.0), image)
    np.testing.assert_array_equal(data.shift(image, rng, 0), image)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 4))
def test_the_labelled_centre_stays_in_the_centre(seed, most):
    """A marked centre 32x32 may move by `most` pixels, and no further."""
    marked = np.zeros((96, 96, 3), np.uint8)
    marked[32:64, 32:64] = 255
    rng = np.random.default_rng(seed)
    out = data.shift(data.dihedral(marked, int(rng.integers(8))), rng, most)
    rows, columns = np.nonzero(out[..., 0])
    assert (rows.max() - rows.min(), columns.max() - columns.min()) == (31, 31)
    assert abs(rows.min() - 32) <= most
    assert abs(columns.min() - 32) <= most


def test_a_sample_is_a_function_of_index_and_generator(tiles):
    sample = data.Sample(tiles, data.Augment())
    a, b, other = (sample(7, np.random.default_rng(s)) for s in (1, 1, 2))
    assert (a[0] == b[0]).all()
    assert (a[0] != other[0]).any()
    assert a[0].shape == (3, 96, 96)
    assert float(a[1]) == tiles.labels[7]


@pytest.mark.real_data
def test_real_tiles_are_as_their_card_says(real_data_root):
    wanted = {"train": (5400, 2153), "train_extra": (2000, 835), "val": (1000, 403), "test": (1200, 480)}
    ids = set()
    for split, (n, positive) in wanted.items():
        tiles = data.read(real_data_root / "pcam", split)
        assert (len(tiles), int(tiles.labels.sum())) == (n, positive)
        with np.load(real_data_root / "pcam" / f"pcam_{split}.npz") as file:
            ids.update(file["id"].tolist())
    assert len(ids) == sum(n for n, _ in wanted.values())
