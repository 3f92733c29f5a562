"""The synthetic sample: what is committed is what the script draws, in the format that the data card describes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.pathology import data as reader
from data.pcam import make_sample, pack
from data.pcam.tissue import STAINS, render

SAMPLE = Path(make_sample.__file__).parent / "sample"


@pytest.fixture(scope="module", params=["train", "val", "test"])
def split(request) -> tuple[str, dict]:
    return request.param, pack.read_npz(SAMPLE / f"pcam_{request.param}.npz")


def tiles(packed: dict) -> np.ndarray:
    return np.stack([pack.image(packed, i) for i in range(len(packed["label"]))])


def test_the_format_of_the_card(split):
    name, packed = split
    n = make_sample.SPLITS[name]
    kinds = {key: (str(array.dtype), array.shape) for key, array in packed.items() if key != "webp"}
    assert kinds == {
        "offsets": ("int64", (n + 1,)), "label": ("uint8", (n,)), "scanner_group": ("uint8", (n,)),
        "tissue_fraction": ("float16", (n,)), "id": ("|S40", (n,)),
    }  # fmt: skip
    assert packed["webp"].dtype == np.uint8
    assert packed["offsets"][0] == 0
    assert packed["offsets"][-1] == len(packed["webp"])
    assert packed["webp"][:4].tobytes() == b"RIFF"
    assert b"VP8L" in packed["webp"][:64].tobytes()  # lossless
    assert len(set(packed["id"])) == n
    for label in (0, 1):
        for group in (0, 1):
            assert ((packed["label"] == label) & (packed["scanner_group"] == group)).sum() == n // 4


def test_no_tile_is_in_two_splits():
    every = [t.tobytes() for name in make_sample.SPLITS for t in tiles(pack.read_npz(SAMPLE / f"pcam_{name}.npz"))]
    assert len(set(every)) == len(every) == 128


def test_the_script_draws_what_is_committed(split):
    name, packed = split
    made = make_sample.make_split(name, make_sample.SPLITS[name])
    assert (made["label"] == packed["label"]).all()
    assert (made["id"] == packed["id"]).all()
    # another FFT may round a pixel the other way
    assert (made["images"] == tiles(packed)).mean() > 0.995


def test_the_scanner_is_told_from_the_colour_and_tissue_is_measured(split):
    _, packed = split
    images = tiles(packed)
    assert [pack.scanner_group(t) for t in images] == packed["scanner_group"].tolist()
    assert np.abs(np.array([pack.tissue_fraction(t) for t in images]) - packed["tissue_fraction"]).max() < 1e-3


def test_the_label_is_written_in_the_centre(split):
    _, packed = split
    dark = 255 - tiles(packed)[:, make_sample.CENTRE, make_sample.CENTRE].mean((1, 2, 3))
    tumour, normal = dark[packed["label"] == 1], dark[packed["label"] == 0]
    assert (tumour[:, None] > normal[None]).mean() > 0.7  # the AUROC of darkness alone, which a tiny net must beat


def test_some_normal_tiles_have_tumour_outside_the_centre():
    y, x = np.mgrid[:96, :96]
    rng = np.random.default_rng(0)
    _, nuclei = render(np.ones((96, 96), bool), y < 14, rng, STAINS[0])
    assert nuclei.any()
    assert not nuclei[32:64, 32:64].any()
    assert x.shape == nuclei.shape


def test_render_keeps_to_its_masks():
    rng = np.random.default_rng(1)
    tissue = np.zeros((80, 120), bool)
    tissue[:, 60:] = True
    image, nuclei = render(tissue, np.ones_like(tissue), rng, STAINS[1])
    assert image.shape == (80, 120, 3)
    assert image.dtype == np.uint8
    assert image[:, :50].mean() > 235  # glass
    assert image[:, 70:].mean() < 200
    assert not nuclei[:, :60].any()
    _, none = render(tissue, np.zeros_like(tissue), np.random.default_rng(1), STAINS[1])
    assert not none.any()


def test_the_sample_is_small_and_the_examples_are_tiles_of_the_test_split():
    assert sum(p.stat().st_size for p in SAMPLE.iterdir()) <= 1 << 20
    examples = sorted(SAMPLE.glob("tile_*.png"))
    assert len(examples) == 8
    packed = pack.read_npz(SAMPLE / "pcam_test.npz")
    label = {t.tobytes(): int(y) for t, y in zip(tiles(packed), packed["label"], strict=True)}
    for path in examples:
        assert label[np.asarray(Image.open(path)).tobytes()] == ("tumour" in path.name)


def test_the_app_reads_it():
    read = reader.read(SAMPLE, "test")
    packed = pack.read_npz(SAMPLE / "pcam_test.npz")
    assert (read.labels == packed["label"]).all()
    assert (np.asarray(read.images[5]) == pack.image(packed, 5)).all()


def test_what_is_packed_comes_back_and_wrong_files_are_named(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 96, 96, 3), dtype=np.uint8)
    calls = []
    path = tmp_path / "pcam_x.npz"
    pack.write_npz(path, images, np.arange(5) % 2, None, np.array([b"a"] * 5), progress=lambda *a: calls.append(a))
    assert (tiles(pack.read_npz(path)) == images).all()
    assert calls == [(5, 5)]
    with pytest.raises(ValueError, match="96x96x3"):
        pack.write_npz(path, images[:, :50], np.zeros(5), None, np.array([b"a"] * 5))
    with pytest.raises(ValueError, match="do not match"):
        pack.write_npz(path, images, np.zeros(4), None, np.array([b"a"] * 5))
    assert (tiles(pack.read_npz(path)) == images).all()  # a failed write leaves the old file
    assert [p.name for p in tmp_path.iterdir()] == ["pcam_x.npz"]
    with pytest.raises(ValueError, match=r"its folder has pcam_x\.npz"):
        pack.read_npz(tmp_path / "pcam_y.npz")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a readable npz"):
        pack.read_npz(path)
    np.savez(path, label=np.zeros(3))
    with pytest.raises(ValueError, match="lacks offsets, webp"):
        pack.read_npz(path)


@pytest.mark.real_data
def test_the_guess_of_the_scanner_agrees_with_the_real_tiles(real_data_root):
    packed = pack.read_npz(real_data_root / "pcam" / "pcam_val.npz")
    some = range(0, 1000, 5)
    assert np.mean([pack.scanner_group(pack.image(packed, i)) == packed["scanner_group"][i] for i in some]) > 0.99
    error = [abs(pack.tissue_fraction(pack.image(packed, i)) - packed["tissue_fraction"][i]) for i in some]
    assert max(error) < 0.03
