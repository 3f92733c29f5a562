"""The Go room as visitors use it."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from apps.go.game import Game

PHONE = {"width": 390, "height": 844, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
READY = 240_000  # the first time on a machine everything is compiled


def moves(page: Page) -> str:
    """The moves as the page's address says them."""
    return parse_qs(urlsplit(page.url).query).get("moves", [""])[0]


def wait_for_moves(page: Page, number: int) -> None:
    page.wait_for_function(f"(new URLSearchParams(location.search).get('moves') ?? '').length === {2 * number}")


def point(page: Page, name: str):
    return page.get_by_role("gridcell", name=re.compile(f"^{name}, "))


def settle(page: Page) -> None:
    """Waits until it is the visitor's turn, and the page is not being made anew."""
    turn = page.get_by_role("status").filter(has_text=re.compile("White .+ Your turn, Black"))
    expect(turn).to_have_count(1)
    expect(page.get_by_text("64 visits · model untrained")).to_be_visible()  # the last thing: a look at the position
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def opened(visitor, path: str) -> Page:
    page = visitor.open(path)
    expect(page.get_by_role("grid")).to_be_visible(timeout=READY)
    return page


@pytest.mark.parametrize(("options", "scheme"), [({}, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_three_moves_undo_pass_and_the_record(visit, options, scheme):
    visitor = visit(**options, color_scheme=scheme)
    page = opened(visitor, "/go?visits=16")
    expect(page.get_by_role("heading", name="Your turn, Black")).to_be_visible()
    for turn in range(3):  # wherever the other has not played
        free = page.get_by_role("gridcell", name=re.compile("^[C-G][3-7], empty")).first
        name = free.get_attribute("aria-label").partition(",")[0]
        free.tap() if options else free.click()
        expect(point(page, name)).to_have_attribute("aria-label", re.compile(f"{name}, black stone"))
        settle(page)
        wait_for_moves(page, 2 * turn + 2)
    expect(page.get_by_role("heading", name="Your turn, Black")).to_be_visible()
    assert page.get_by_role("gridcell", name=re.compile("white stone, last move")).count() <= 1
    assert visitor.overflow() <= 0

    page.get_by_role("button", name="Undo").click()
    wait_for_moves(page, 4)
    page.get_by_role("button", name="Pass", exact=True).click()
    wait_for_moves(page, 6)
    settle(page)
    assert moves(page)[8:10] == "tt"
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as SGF").click()
    game = Game.from_sgf(download.value.path().read_bytes())
    assert len(game.moves) == 6
    assert game.moves[4].vertex == "pass"
    assert game.info["PB"] == "Visitor"
    assert "16 visits" in game.info["PW"]

    shared = visit().open(page.url.removeprefix(visitor.site))
    expect(shared.get_by_role("gridcell", name=re.compile("black stone"))).to_have_count(
        page.get_by_role("gridcell", name=re.compile("black stone")).count())


def test_by_keyboard_and_why_a_move_is_illegal(visit):
    page = opened(visit(), "/go?colour=both&moves=eettcctt")
    middle = point(page, "E5")
    middle.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("E5: occupied.")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(point(page, "F5")).to_be_focused()
    assert page.locator("[role=gridcell][tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    wait_for_moves(page, 5)
    assert moves(page) == "eettcctt" + "fe"
    expect(point(page, "F5")).to_have_attribute("aria-label", re.compile("F5, black stone, last move"))
    expect(page.get_by_text("E5: occupied.")).to_have_count(0)


def test_a_move_right_after_an_illegal_one_is_not_lost(visit):
    page = opened(visit(), "/go?colour=both&moves=ee")
    for i, milliseconds in enumerate((0, 20, 50, 100, 150, 200, 300, 400)):  # before, while and after the answer comes
        point(page, "E5").focus()
        page.keyboard.press("Enter")
        page.wait_for_timeout(milliseconds)
        point(page, f"{'ABCDEFGH'[i]}9").focus()
        page.keyboard.press("Enter")
        wait_for_moves(page, 2 + i)
    assert moves(page) == "ee" + "".join(f"{column}a" for column in "abcdefgh")


def test_a_tap_on_a_large_board_aims_first(visit):
    page = opened(visit(**PHONE), "/go?size=19&colour=both")
    target = point(page, "Q16")
    target.tap()
    page.wait_for_timeout(600)
    assert moves(page) == ""
    target.tap()
    wait_for_moves(page, 1)
    assert moves(page) == "pd"


def test_a_review_lists_mistakes_and_another_visitor_plays_meanwhile(visit, tmp_path):
    game = Game("go", 9)
    for move in ("E5", "C3", "G3", "G7", "C7", "A1", "J1", "A9", "J9", "E3", "E7"):
        game.play(move)
    (tmp_path / "x.sgf").write_text(game.to_sgf())
    page = opened(visit(), "/go?go_view=Review")
    page.locator("input[type=file]").set_input_files(tmp_path / "x.sgf")
    expect(page.get_by_role("gridcell", name=re.compile("stone"))).to_have_count(11)
    page.get_by_role("button", name="Review this game").click()
    other = opened(visit(), "/go?visits=16")
    point(other, "E5").click()
    wait_for_moves(other, 2)
    expect(page.get_by_text("Mistakes of")).to_be_visible(timeout=READY)
    page.get_by_role("button", name="◀").click()
    expect(page.get_by_role("gridcell", name=re.compile("stone"))).to_have_count(10)
