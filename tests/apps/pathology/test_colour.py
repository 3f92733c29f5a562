"""The colour baseline knows colours, and nothing but colours."""

import numpy as np
import pytest

from apps.pathology import calibration, colour


def tiles(n: int, seed: int = 0, side: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def test_statistics_are_those_of_the_pixels():
    images = tiles(3)
    centre = images[:, 8:16, 8:16]
    rows = []
    for part in (images, centre):
        light = part.reshape(3, -1, 3)
        for values in (light / 255, -np.log10((light.astype(float) + 1) / 256)):
            rows += [values.mean(1), values.std(1)]
            order = np.sort(light, axis=1)  # percentiles of density are the densities at the percentiles of light
            n = light.shape[1]
            at = order[:, [int(np.ceil(n * s - 1e-9)) - 1 for s in colour.SHARES]]  # (3, 5, channel)
            scale = at / 255 if values.max() <= 1 else -np.log10((at.astype(float) + 1) / 256)
            rows.append(np.moveaxis(scale, 1, 2).reshape(3, -1))
    np.testing.assert_allclose(colour.statistics(images), np.hstack(rows), atol=1e-9)


def test_it_is_blind_to_where_pixels_lie_but_for_the_centre():
    image = tiles(1)
    shuffled = image.copy()
    centre = shuffled[0, 8:16, 8:16].reshape(-1, 3)
    shuffled[0, 8:16, 8:16] = np.random.default_rng(1).permutation(centre).reshape(8, 8, 3)
    np.testing.assert_allclose(colour.statistics(shuffled), colour.statistics(image))
    moved = np.roll(image, 8, axis=1)
    assert not np.allclose(colour.statistics(moved)[:, 42:], colour.statistics(image)[:, 42:])
    np.testing.assert_allclose(colour.statistics(moved)[:, :42], colour.statistics(image)[:, :42])


def test_it_tells_tiles_of_two_colours_apart_and_not_two_textures_of_one():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    coloured = tiles(120) // 2 + 40
    coloured[labels == 1, :, :, 2] += 30
    model = colour.fit(coloured[:80], labels[:80])
    p = model.probability(coloured[80:])
    assert p.dtype == np.float32
    assert calibration.auroc(p, labels[80:]) > 0.99
    assert (np.sign(model.logits(coloured[80:])) == np.sign(p - 0.5)).all()
    striped = rng.permutation(np.tile(np.array([60, 180], np.uint8), 288)).reshape(1, 24, 24, 1).repeat(3, -1)
    striped = striped.repeat(120, 0)
    striped[labels == 1] = np.sort(striped[labels == 1].reshape(60, -1, 3), axis=1).reshape(60, 24, 24, 3)
    outer = colour.statistics(striped)[:, :42]
    assert np.ptp(outer, axis=0).max() < 1e-9


@pytest.mark.parametrize(
    "images", [np.zeros((0, 8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3), np.float32)]
)
def test_what_is_not_tiles_is_refused(images):
    with pytest.raises(ValueError, match="uint8 RGB"):
        colour.statistics(images)


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 1]])
def test_labels_must_be_of_both_kinds_and_one_per_tile(labels):
    with pytest.raises(ValueError, match="3 tiles"):
        colour.fit(tiles(3), labels)
