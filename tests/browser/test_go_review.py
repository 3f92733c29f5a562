"""The page that a review writes, opened from the disk as a reader does."""

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from apps.go import reviewed, sheet, vertex
from apps.go.game import Game
from apps.go.player import Analysis, Candidate
from apps.go.thinking import Thought

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "color_scheme": "dark"}
DESK = {"viewport": {"width": 1200, "height": 900}}


def thought(game: Game, best: str, winrate: float) -> Thought:
    policy = np.zeros(game.spec.actions)
    policy[vertex.parse(game.spec, best)] = 1
    moves = [Candidate(best, 63, winrate, 1.0, 1.0, [best, "pass"])]
    owned = np.full((9, 9), 0.9)
    return Thought(Analysis(best, winrate, 1.0, owned, policy, 63 * policy, [best, "J1"], moves), 64, 1.0)


@pytest.mark.parametrize("options", [DESK, PHONE], ids=["desktop", "phone"])
def test_a_reader_walks_through_the_game(browser: Browser, tmp_path, options):
    game = Game("go", 9)
    for move in ("E5", "A1", "C3"):
        game.play(move)
    rates = (("E5", 0.5), ("D4", 0.5), ("C3", 0.9), ("G7", 0.1))
    thoughts = [thought(game.at(i), best, rate) for i, (best, rate) in enumerate(rates)]
    path = tmp_path / "review.html"
    text = sheet.page(game, thoughts, reviewed.mistakes(game, thoughts), "<i>A</i> – " + 60 * "B", "9x9", "by us")
    path.write_text(text, encoding="utf-8")
    context = browser.new_context(**options)
    try:
        page, errors, asked = context.new_page(), [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        expect(page.get_by_role("heading", level=1)).to_contain_text("<i>A</i>")
        board = page.locator("#walk")
        expect(board.get_by_role("gridcell", name="stone")).to_have_count(0)
        page.get_by_role("button", name="2 · White A1").click()
        expect(board.get_by_role("gridcell", name="stone")).to_have_count(1)
        expect(board.locator(".mark")).to_have_count(2)
        expect(page.get_by_role("status").filter(has_text="Move 2, White A1, costs 40 %")).to_be_visible()
        page.get_by_role("button", name="One move on").click()
        expect(board.get_by_role("gridcell", name="stone")).to_have_count(2)
        expect(board.locator(".number")).to_have_count(0)
        page.get_by_role("button", name="Line").click()
        expect(board.locator(".number")).to_have_count(2)
        page.get_by_role("slider").press("End")
        expect(board.get_by_role("gridcell", name="stone")).to_have_count(3)
        expect(page.locator("article .board .mark.better")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert asked == [path.as_uri()]
        assert not errors
    finally:
        context.close()
