"""What a person sees of a score."""

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from apps.pathology import reading

BINS = [
    {"low": 0.0, "high": 0.5, "mean": 0.1, "observed": 0.125, "n": 400},
    {"low": 0.5, "high": 0.9, "mean": 0.7, "observed": 0.5, "n": 6},
    {"low": 0.9, "high": 0.95, "mean": None, "observed": None, "n": 0},
    {"low": 0.95, "high": 1.0, "mean": 0.99, "observed": 0.92, "n": 1300},
]


@pytest.mark.parametrize(("probability", "word", "sentence"), [
    (0.0, "no tumour", "Of 400 held-out patches scored like this, 12 % are tumour."),
    (0.499, "no tumour", "Of 400 held-out patches scored like this, 12 % are tumour."),
    (0.5, "tumour", "Only 6 held-out patches were scored like this: too few to say how often they are tumour."),
    (0.93, "tumour", "No held-out patch was scored like this."),
    (1.0, "tumour", "Of 1,300 held-out patches scored like this, 92 % are tumour."),
])
def test_a_probability_in_words(probability, word, sentence):
    found = reading.read("a", probability, False, BINS)
    assert (found.word, found.sentence, found.uncertain) == (word, sentence, False)
    assert found.short == f"{word} · {found.number}"


@pytest.mark.parametrize(("probability", "number"), [(0.0, "< 0.01"), (0.00499, "< 0.01"), (0.005, "0.01"),
                                                     (0.5, "0.50"), (0.9949, "0.99"), (0.995, "> 0.99"),
                                                     (1.0, "> 0.99")])
def test_a_probability_is_never_shown_as_certainty(probability, number):
    assert reading.read("a", probability, False).number == number


def test_an_abstention_is_no_answer():
    found = reading.read("a", np.float32(0.97), np.bool_(True), BINS)
    assert found.word == "the model declines to answer"
    assert found.short == "declines · 0.97"


def test_without_reliability_nothing_is_claimed():
    assert reading.read("a", 0.97, False).sentence == "No held-out patch was scored like this."


@given(st.floats(0, 1))
def test_exactly_one_point_of_the_diagram_is_this_patch_unless_its_bin_is_empty(probability):
    here = [row for row in reading.diagram(BINS, probability) if row["here"] == "yes"]
    assert len(here) == (0 if 0.9 <= probability < 0.95 else 1)


def test_files_hold_what_was_said():
    found = [reading.read("=2+5.png", 0.25, False, BINS), reading.read("b,c.png", 0.75, True, BINS)]
    told = json.loads(reading.as_json(found, {"model": "m"}))
    assert told["model"] == "m"
    assert [(t["name"], t["probability"], t["uncertain"]) for t in told["tiles"]] == [("=2+5.png", 0.25, False),
                                                                                      ("b,c.png", 0.75, True)]
    rows = list(csv.reader(io.StringIO(reading.as_csv(found))))
    assert rows == [["name", "probability", "uncertain", "word"], ["'=2+5.png", "0.25", "False", "no tumour"],
                    ["b,c.png", "0.75", "True", "the model declines to answer"]]


def test_the_judged_square_is_outlined():
    tile = np.full((96, 96, 3), 200, np.uint8)
    big = reading.enlarged(tile)
    assert big.shape == (384, 384, 3)
    changed = np.argwhere((big != 200).any(-1))
    assert changed.min(0).tolist() == [128, 128]
    assert changed.max(0).tolist() == [256, 256]
    assert (big[140:240, 140:240] == 200).all()


def test_an_overlay_leaves_alone_what_says_nothing():
    tile = np.full((96, 96, 3), 200, np.uint8)
    saliency = np.zeros((96, 96), np.float32)
    assert (reading.overlay(tile, saliency) == 200).all()
    saliency[:, 48:] = 1
    seen = reading.overlay(tile, saliency)
    assert (seen[:, :180] == 200).all()
    assert np.abs(seen[:, 300:].astype(int) - 200).min(axis=(0, 1)).max() > 50
    assert (reading.overlay(tile, saliency, weight=0.0) == 200).all()
    faint = reading.overlay(tile, saliency, weight=0.1)
    assert 0 < np.abs(faint[:, 300:].astype(int) - 200).max() < 30


def test_a_glazed_map_is_clear_outside_tissue_and_dense_where_tumour_is_likely():
    heat = np.array([[np.nan, 0.0, 1.0]], np.float32)
    rgba = reading.glaze(np.full((1, 3, 4), 9, np.uint8), heat)
    assert rgba[0, :, 3].tolist() == [0, 110, 255]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(reading.png(rgba)))), rgba)
