"""The site as visitors use it: what they click, type, drag and read."""

import io
import json
import re
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from apps.pathology.reading import read

PHONE = {"width": 390, "height": 844, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


def asked(page: Page) -> dict[str, str]:
    """What the page's address says."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def stage(page: Page):
    """The viewer's canvas, when all tiles in view have come."""
    canvas = page.get_by_role("application")
    expect(canvas).to_have_attribute("aria-busy", "false", timeout=120_000)
    return canvas


def pixels(canvas) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(canvas.screenshot())).convert("RGB")).astype(int)


def test_from_home_to_a_probability(visit):
    page = visit().open()
    expect(page.get_by_role("heading", name="Wunderkammer")).to_be_visible()
    expect(page.get_by_role("img", name="What Pathology makes of a sample")).to_be_visible()
    page.get_by_role("link", name="Open Pathology").click()
    expect(page).to_have_url(re.compile("/pathology"))
    expect(page.get_by_text("Research use only")).to_be_visible()
    samples = page.get_by_role("radiogroup", name="Sample tiles").get_by_role("radio")
    expect(samples.first).to_be_checked(timeout=120_000)
    page.get_by_role("radio", name="tumour b2").click()
    expect(page.get_by_text("Drawn with tumour in the middle.")).to_be_visible()
    expect(page.get_by_text(re.compile(r"Tumour probability|The model declines to answer")).first).to_be_visible()
    expect(page.get_by_text(re.compile("held-out patch(es)? (was|were)? ?scored like this"))).to_be_visible()
    expect(page.get_by_role("img", name="The patch", exact=True)).to_be_visible()
    assert asked(page)["sample"] == "tumour-b2"
    page.reload()
    expect(page.get_by_role("radio", name="tumour b2")).to_be_checked()


def test_samples_by_keyboard(visit):
    page = visit().open("/pathology?sample=normal-a1")
    first = page.get_by_role("radio", name="normal a1")
    expect(first).to_be_checked()
    first.focus()
    page.keyboard.press("ArrowLeft")
    last = page.get_by_role("radio", name="tumour b2")
    expect(last).to_be_checked()
    expect(last).to_be_focused()
    expect(page.get_by_text("Drawn with tumour in the middle.")).to_be_visible()
    assert page.get_by_role("radiogroup", name="Sample tiles").locator("[tabindex='0']").count() == 1


def test_results_can_be_taken_along(visit):
    page = visit().open("/pathology?sample=tumour-a1")
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON").click()
    told = json.loads(download.value.path().read_text("utf-8"))
    assert told["tiles"][0]["name"] == "tumour-a1"
    number = read("", told["tiles"][0]["probability"], False).number
    assert number in page.locator("body").inner_text()


def test_a_slide_is_shown_moved_and_read(visit):
    visitor = visit()
    page = visitor.open("/pathology?tab=Slides&slide=small.tif")
    canvas = stage(page)
    tiles = [url for url in visitor.requests if "/pathology/tiles/" in url]
    assert tiles
    assert not [url for url in tiles if "small" in url]
    seen = pixels(canvas)
    assert seen.std(axis=(0, 1)).min() > 5, "tissue is drawn"
    box = canvas.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    page.mouse.move(*middle)
    page.mouse.wheel(0, -800)
    expect(page).to_have_url(re.compile("position="))
    x, y, wide = map(int, asked(page)["position"].split(","))
    assert wide < 400
    page.mouse.down()
    page.mouse.move(middle[0] + 150, middle[1] + 60, steps=4)
    page.mouse.up()
    page.wait_for_function(f"!location.search.includes('{x}%2C{y}%2C')")
    moved = tuple(map(int, asked(page)["position"].split(",")))
    assert moved[0] < x
    assert moved[1] < y
    assert "pick" not in asked(page), "a drag is no click"

    page.mouse.click(*middle)
    expect(page.get_by_text(re.compile(r"^At \d+, \d+ px"))).to_be_visible()
    picked = tuple(map(int, asked(page)["pick"].split(",")))
    assert abs(picked[0] - moved[0]) <= 2
    assert abs(picked[1] - moved[1]) <= 2
    told = re.compile(r"(tumour|declines) · ([<>] )?\d\.\d\d")
    expect(page.get_by_role("status").filter(has_text=told)).to_have_count(1)

    page.reload()
    expect(page.get_by_text(re.compile(r"^At \d+, \d+ px"))).to_be_visible()
    stage(page)
    assert tuple(map(int, asked(page)["position"].split(","))) == moved
    page.mouse.move(*middle)
    page.mouse.wheel(0, -1)
    page.wait_for_function(f"!location.search.includes('position={'%2C'.join(map(str, moved))}&')")
    again = tuple(map(int, asked(page)["position"].split(",")))
    assert np.abs(np.subtract(again, moved)).max() <= 5, "the view is where it was"


def test_the_viewer_by_keyboard_and_buttons(visit):
    page = visit().open("/pathology?tab=Slides&slide=small.tif")
    canvas = stage(page)
    assert "Arrow keys move" in canvas.get_attribute("aria-label")
    canvas.focus()
    page.keyboard.press("+")
    expect(page).to_have_url(re.compile("position="))
    x, _, wide = map(int, asked(page)["position"].split(","))
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"!location.search.includes('{x}%2C')")
    assert int(asked(page)["position"].split(",")[0]) > x
    page.get_by_role("button", name="Zoom in").click()
    page.wait_for_function(f"!location.search.includes('%2C{wide}')")
    assert int(asked(page)["position"].split(",")[2]) < wide
    page.get_by_role("button", name="Show the whole slide").click()
    page.wait_for_function("location.search.includes('position=200%2C160%2C')")
    canvas.focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("pick=200%2C160"))
    expect(page.get_by_text(re.compile(r"^At \d+, \d+ px"))).to_be_visible()


def test_a_slide_is_scored_and_its_map_taken_along(visit):
    page = visit().open("/pathology?tab=Slides&slide=small.tif")
    stage(page)
    page.get_by_role("button", name="Score this slide").click()
    opacity = page.get_by_label("Heat map opacity")
    expect(opacity).to_be_visible(timeout=180_000)
    canvas = stage(page)
    opacity.fill("0")
    bare = pixels(canvas)
    opacity.fill("100")
    expect(page).to_have_url(re.compile("opacity=100"))
    assert np.abs(pixels(canvas) - bare).mean() > 5, "the map lies over the tissue"
    with page.expect_download() as download:
        page.get_by_role("button", name="GeoJSON").click()
    assert download.value.suggested_filename == "small-tiles.geojson"
    features = json.loads(download.value.path().read_text("utf-8"))["features"]
    assert any(feature["properties"]["objectType"] == "tile" for feature in features)

    second = visit().open("/pathology?tab=Slides&slide=small.tif&opacity=30")
    expect(second.get_by_label("Heat map opacity")).to_have_value("30")
    assert second.get_by_role("button", name="Score this slide").count() == 0


def test_a_visitor_does_not_wait_for_anothers_slide(visit):
    first = visit().open("/pathology?tab=Slides&slide=large.tif")
    stage(first)
    first.get_by_role("button", name="Score this slide").click()
    expect(first.get_by_text(re.compile(r"Scoring: [\d,]+ of [\d,]+, about .+ left"))).to_be_visible(timeout=180_000)

    second = visit().open("/pathology")
    second.get_by_role("radio", name="tumour a2").click()
    expect(second.get_by_text("Drawn with tumour in the middle.")).to_be_visible()
    second.get_by_role("tab", name="Slides").click()
    stage(second).click()
    expect(second.get_by_text(re.compile(r"^At [\d,]+, [\d,]+ px"))).to_be_visible()
    expect(first.get_by_text(re.compile("Scoring: "))).to_be_visible()  # and all that time the work goes on

    first.get_by_role("button", name="Cancel").click()
    expect(first.get_by_role("button", name="Score this slide")).to_be_visible()


def test_changing_the_slide_forgets_the_place(visit):
    page = visit().open("/pathology?tab=Slides&slide=small.tif&position=100,100,50&pick=100,100")
    expect(page.get_by_text(re.compile(r"^At \d+, \d+ px"))).to_be_visible()
    page.get_by_role("combobox").click()
    page.get_by_role("option", name="synthetic.tif").click()
    expect(page.get_by_text("Synthetic tissue, not a patient.")).to_be_visible()
    stage(page)
    expect(page.get_by_text(re.compile(r"^At \d+, \d+ px"))).to_have_count(0)
    assert not {"position", "pick"} & asked(page).keys()


@pytest.mark.parametrize("path", ["/", "/pathology", "/pathology?tiles=Your+own", "/pathology?tab=Slides&pick=700,700"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_is_wide_enough(visit, path, scheme):
    visitor = visit(**PHONE, color_scheme=scheme)
    page = visitor.open(path)
    if path == "/":
        expect(page.get_by_role("link", name="Open Pathology")).to_be_visible()
    elif "Slides" in path:
        stage(page)
        expect(page.get_by_text(re.compile(r"^At \d+, \d+ px"))).to_be_visible()
    elif "own" in path:
        expect(page.get_by_text("Upload tiles of")).to_be_visible()
    else:
        expect(page.get_by_text("How far its probabilities can be trusted")).to_be_visible()
    assert visitor.overflow() <= 0
    ground = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert (light > 200) == (scheme == "light")


def test_two_fingers_zoom_and_a_tap_reads(visit):
    visitor = visit(**PHONE)
    page = visitor.open("/pathology?tab=Slides&slide=small.tif")
    canvas = stage(page)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, apart: float | None) -> None:
        points = [] if apart is None else [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 30)
    for apart in (50, 70, 90):
        touch("touchMove", apart)
    touch("touchEnd", None)
    expect(page).to_have_url(re.compile("position="))
    wide = int(asked(page)["position"].split(",")[2])
    assert wide < 300, "three times nearer than the whole slide"
    assert "pick" not in asked(page)
    page.touchscreen.tap(x, y)
    expect(page).to_have_url(re.compile("pick="))
    expect(page.get_by_text(re.compile(r"^At \d+, \d+ px"))).to_be_visible()


def test_an_uploaded_slide_is_private_to_its_address(visit, data):
    page = visit().open("/pathology?tab=Slides")
    page.get_by_role("button", name="Upload a slide").click()
    page.locator("input[type=file]").set_input_files(data / "slides" / "small.tif")
    expect(page).to_have_url(re.compile("slide=small.tif.+upload-"))
    stage(page)
    other = visit().open("/pathology?tab=Slides")
    stage(other)
    other.get_by_role("combobox").click()
    expect(other.get_by_role("option", name="small.tif", exact=True)).to_be_visible()
    assert other.get_by_role("option", name=re.compile("upload-")).count() == 0
    told = visit().open(page.url.removeprefix(visit().site))
    stage(told)
    expect(told.get_by_role("combobox")).to_have_value(re.compile("upload-"))
