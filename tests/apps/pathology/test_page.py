"""The pathology page, without a browser."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from apps.pathology import samples, scored, shelf
from apps.pathology.reader import MPP_RANGE, open_slide
from apps.pathology.reading import read
from core.ui import plain
from data.slides.pyramid import write_pyramid

DOOR = str(Path(__file__).parents[3] / "cabinet" / "door.py")


@pytest.fixture(autouse=True)
def as_after_a_clone(monkeypatch, tmp_path):
    monkeypatch.delenv("WUNDERKAMMER_PATHOLOGY", raising=False)
    monkeypatch.setenv("WUNDERKAMMER_CACHE", str(tmp_path))
    monkeypatch.setattr(samples, "kinds", lambda: [samples.SYNTHETIC])


@pytest.fixture(scope="module")
def predictor():
    return scored.predictor()


def visit(**address: str) -> AppTest:
    """Opens the page at an address."""
    at = AppTest.from_file(DOOR, default_timeout=180).run()
    at.switch_page("../apps/pathology/page.py")
    for name, value in address.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception, at.exception[0].stack_trace
    return at


def component(at: AppTest, key: str) -> dict:
    return json.loads(at.get_by_key(key).proto.json)


def words(at: AppTest) -> str:
    """All that a tile's verdict says."""
    return " ".join([m.value for m in at.markdown] + [w.title + w.value for w in at.warning]
                    + [c.value for c in at.caption])


def png(size=(96, 96), colour=(200, 100, 150), mode="RGB") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(file, "PNG")
    return file.getvalue()


def test_a_sample_is_judged_at_once():
    at = visit()
    assert at.title[0].value == "Pathology"
    assert any("Research use only" in m.value for m in at.markdown)
    assert at.expander[0].label.startswith("Model card: ")
    picker = component(at, "picker-Synthetic")
    assert len(picker["choices"]) == len(samples.tiles(samples.SYNTHETIC))
    assert picker["chosen"] == picker["choices"][0]["name"]
    assert at.metric or at.warning
    assert "held-out patch" in words(at)
    assert "not a patient" in words(at)
    assert " ms · on cpu" in words(at)
    assert {button.label for button in at.get("download_button")} == {"JSON", "CSV"}


def test_the_sample_in_the_address_is_shown():
    assert component(visit(sample="tumour-b1"), "picker-Synthetic")["chosen"] == "tumour-b1"
    assert component(visit(sample="../../x"), "picker-Synthetic")["chosen"] == "normal-a1"


def test_each_sample_shows_the_models_own_number(predictor):
    drawn = samples.tiles(samples.SYNTHETIC)
    said = dict(zip(drawn, predictor([tile.image for tile in drawn.values()]).probability, strict=True))
    for name in ("tumour-b1", "normal-b1"):
        number = read(name, said[name], False).number
        at = visit(sample=name)
        assert number in [m.value for m in at.metric] or plain(number) in words(at)


def test_an_abstention_is_shown_as_one(monkeypatch):
    real = scored.predictor

    def doubting():
        predictor = real()
        monkeypatch.setattr(predictor.conformal.__class__, "uncertain", lambda self, p: np.ones(len(p), bool))
        return predictor

    import streamlit as st

    st.cache_resource.clear()
    st.cache_data.clear()
    monkeypatch.setattr(scored, "predictor", doubting)
    try:
        at = visit()
        assert at.warning[0].title == "The model declines to answer"
        assert not at.metric
    finally:
        st.cache_resource.clear()
        st.cache_data.clear()


def test_several_uploads_become_a_table_and_bad_ones_sentences():
    at = visit(tiles="Your own")
    assert "Upload tiles" in at.info[0].value
    at.file_uploader(key="files").upload("a.png", png()).upload("<b>.png", png(mode="L")).upload("c.png", png((95, 96)))
    at.file_uploader(key="files").upload("d.png", png(colour=(90, 40, 120))).upload("e.png", b"no picture")
    at.run()
    assert not at.exception
    assert len(at.error) == 3
    assert at.error[0].value.startswith(r"\<b\>\.png")
    table = at.dataframe[0].value
    assert list(table["Tile"]) == ["a.png", "d.png"]
    assert table["Tumour"].between(0, 1).all()


def test_the_scale_of_uploads_can_be_told():
    at = visit(tiles="Your own", tile_mpp="0.25")
    at.file_uploader(key="files").upload("large.png", png((400, 400))).run()
    assert not at.error
    assert at.metric or at.warning


def test_a_slide_is_shown_before_it_is_scored():
    at = visit(tab="Slides")
    assert at.selectbox(key="slide").value == "synthetic.tif"
    viewer = component(at, "viewer")
    assert (viewer["width"], viewer["height"], viewer["levels"], viewer["mpp"]) == (2048, 1536, 4, 0.5)
    assert viewer["source"].startswith("/pathology/tiles/")
    assert viewer["heat"] is None
    assert viewer["picked"] is None
    assert "Synthetic tissue, not a patient." in words(at)
    assert "Score this slide" in [b.label for b in at.button]


def test_the_tile_in_the_address_is_read_and_outlined():
    at = visit(tab="Slides", pick="700,700")
    picked = component(at, "viewer")["picked"]
    x, y, w, h = picked["box"]
    assert x <= 700 < x + w
    assert y <= 700 < y + h
    assert w == pytest.approx(32 * 0.972 / 0.5)
    number = picked["said"].partition(" · ")[2]
    assert number in [m.value for m in at.metric] or plain(number) in words(at)
    for nonsense in ("700", "a,b", "99999,1", "-1,-1"):
        assert component(visit(tab="Slides", pick=nonsense), "viewer")["picked"] is None


def test_a_scored_slide_shows_its_map_sums_and_files_to_the_next_visitor(predictor, tmp_path, monkeypatch):
    (tmp_path / "slides").mkdir()
    with open_slide(shelf.SAMPLE / "synthetic.tif") as whole:
        write_pyramid(tmp_path / "slides" / "small.tif", whole.read_at(500, 450, 400, 320, 1), 0.5)
    monkeypatch.setenv("WUNDERKAMMER_DATA", str(tmp_path))
    slide = shelf.find("small.tif")
    place = scored.folder(slide, predictor.sha256, None)
    scored.score(str(slide.path), slide.name, str(place), None)
    at = visit(tab="Slides", slide="small.tif", pick="200,200")
    heat = component(at, "viewer")["heat"]
    assert "/heat.png?v=" in heat["source"]
    assert heat["box"][:2] == [0, 0]
    assert heat["box"][2] >= 400
    assert heat["box"][3] >= 320
    found = scored.found(place)
    at_200 = int(200 / found.cell)
    number = read("", found.heatmap[at_200, at_200], False).number
    assert component(at, "viewer")["picked"]["said"].endswith(f" · {number}")
    assert {"Tissue", "Tumour", "Declined"} <= {m.label for m in at.metric}
    assert "Score this slide" not in [b.label for b in at.button]
    assert len(at.get("download_button")) == len(scored.EXPORTS)


def test_without_microns_per_pixel_the_page_asks(tmp_path, monkeypatch):
    (tmp_path / "slides").mkdir()
    Image.new("RGB", (700, 600), (220, 150, 190)).save(tmp_path / "slides" / "bare.tif")
    monkeypatch.setenv("WUNDERKAMMER_DATA", str(tmp_path))
    at = visit(tab="Slides", slide="bare.tif", pick="100,100")
    assert "does not say how large its pixels are" in at.warning[0].value
    assert "Score this slide" not in [b.label for b in at.button]
    assert component(at, "viewer")["picked"] is None
    at.number_input(key="mpp").set_value(0.5).run()
    assert not at.exception
    assert component(at, "viewer")["mpp"] == 0.5
    assert component(at, "viewer")["picked"]["box"][2] == pytest.approx(32 * 0.972 / 0.5)
    assert "Score this slide" in [b.label for b in at.button]


def test_microns_that_a_tile_may_not_have_a_slide_may_not_have(tmp_path, monkeypatch):
    (tmp_path / "slides").mkdir()
    Image.new("RGB", (700, 600), (220, 150, 190)).save(tmp_path / "slides" / "bare.tif")
    monkeypatch.setenv("WUNDERKAMMER_DATA", str(tmp_path))
    slides, tiles = visit(tab="Slides", slide="bare.tif", mpp="3"), visit(tiles="Your own", tile_mpp="3")
    for field in (slides.number_input(key="mpp"), tiles.number_input(key="tile_mpp")):
        assert (field.min, field.max, field.value) == (*MPP_RANGE, None)
    assert "Score this slide" not in [b.label for b in slides.button]


def test_a_slide_that_cannot_be_read_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "broken.svs").write_bytes(b"nothing")
    monkeypatch.setenv("WUNDERKAMMER_DATA", str(tmp_path))
    at = visit(tab="Slides", slide="broken.svs")
    assert "broken" in at.error[0].value


def test_an_upload_is_chosen_and_stays_under_its_own_name(tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "_folder", tmp_path)
    at = visit(tab="Slides")
    at.file_uploader(key="slide-file-0").upload("My slide.tif", (shelf.SAMPLE / "synthetic.tif").read_bytes()).run()
    assert not at.exception
    listed = at.selectbox(key="slide").value
    assert listed.startswith("My slide.tif · upload-")
    assert component(at, "viewer")["name"] == "My slide.tif"
    assert "Synthetic tissue" not in words(at)
    shared = visit(tab="Slides", slide=listed)
    assert component(shared, "viewer")["name"] == "My slide.tif"


def test_an_upload_that_is_no_slide_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "_folder", tmp_path)
    at = visit(tab="Slides")
    at.file_uploader(key="slide-file-0").upload("notes.tif", b"hello").run()
    assert not at.exception
    assert "notes" in at.error[0].value
    assert at.selectbox(key="slide").value == "synthetic.tif"


def test_work_shows_how_far_it_is_and_can_be_cancelled_by_who_asked(monkeypatch):
    ticket = SimpleNamespace(state="running", progress=(30, 120), ahead=0, seconds=10.0, error=None,
                             look=lambda: None)
    ticket.cancel = lambda: setattr(ticket, "state", "cancelled")
    asked = []
    monkeypatch.setattr(scored, "ticket", lambda place: ticket if asked else None)
    monkeypatch.setattr(scored, "ask", lambda place, slide, mpp: asked.append((place, slide.name, mpp)))
    at = visit(tab="Slides")
    next(b for b in at.button if b.label == "Score this slide").click().run()
    assert asked[0][1:] == ("synthetic.tif", None)
    assert at.progress[0].value == 25
    assert at.progress[0].text == "Scoring: 30 of 120"
    other = visit(tab="Slides")
    assert other.progress[0].value == 25
    assert not [b for b in other.button if b.label == "Cancel"]
    at.button(key="score-cancel").click().run()
    assert ticket.state == "cancelled"
    assert "Score this slide" in [b.label for b in at.button]


def test_failures_of_work_are_sentences(monkeypatch):
    failed = SimpleNamespace(state="failed", error="no way to the <index>", progress=(0, 0), ahead=0, seconds=0.0)
    monkeypatch.setattr(scored, "fetching", lambda: failed)
    monkeypatch.setattr(scored, "ticket", lambda place: failed)
    monkeypatch.setattr(shelf, "has_real", lambda: False)
    at = visit(tab="Slides")
    assert [(e.title, e.value) for e in at.error] == [("No real slide could be fetched", r"no way to the \<index\>"),
                                                      ("The slide could not be scored", r"no way to the \<index\>")]
    assert "Get a real slide" in [b.label for b in at.button]


def test_a_full_queue_is_a_sentence(monkeypatch):
    def full(*_):
        raise ValueError("8 pieces of work are waiting already: try again in a while.")

    monkeypatch.setattr(scored, "ask", full)
    at = visit(tab="Slides")
    next(b for b in at.button if b.label == "Score this slide").click().run()
    assert "pieces of work are waiting" in at.error[0].value


def test_a_model_that_cannot_be_loaded_is_a_sentence(monkeypatch, tmp_path):
    import streamlit as st

    st.cache_resource.clear()
    monkeypatch.setenv("WUNDERKAMMER_PATHOLOGY", str(tmp_path / "none.safetensors"))
    at = visit()
    st.cache_resource.clear()
    assert at.error[0].title == "The model could not be loaded"
    assert not at.tabs


def test_the_real_slide_is_chosen_when_it_has_come(monkeypatch, tmp_path):
    ticket = SimpleNamespace(state="running", progress=(0, 0), ahead=0, seconds=1.0, error=None,
                             look=lambda: None)
    asked = []
    monkeypatch.setattr(scored, "fetching", lambda: ticket if asked else None)
    monkeypatch.setattr(scored, "ask_for_real", lambda: asked.append(1))
    monkeypatch.setattr(shelf, "RAW", tmp_path)
    at = visit(tab="Slides")
    next(b for b in at.button if b.label == "Get a real slide").click().run()
    assert at.progress[0].text == "Getting a real slide: starting"
    Image.new("RGB", (700, 600), (220, 150, 190)).save(tmp_path / "real.tif")
    at.run()
    assert not at.exception
    assert at.selectbox(key="slide").value == "real.tif"
    assert "Get a real slide" not in [b.label for b in at.button]
    assert "means nothing" in words(at)
