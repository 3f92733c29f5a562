"""The Go page, without a browser, with a net that knows nothing."""

import json
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

from apps.go.model import ModelConfig, Net
from core import card
from core.ui import plain

DOOR = str(Path(__file__).parents[3] / "cabinet" / "door.py")


@pytest.fixture(scope="module", autouse=True)
def beginner(tmp_path_factory):
    """The player of these tests."""
    torch.manual_seed(0)
    config = ModelConfig(blocks=1, channels=8, head=4)
    file = tmp_path_factory.mktemp("net") / "beginner.safetensors"
    card.write(file, Net(config).eval().state_dict(), card.Card("go", asdict(config), name="beginner"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WUNDERKAMMER_GO", str(file))
        yield file


def visit(**address: str) -> AppTest:
    """Opens the page at an address and waits until the player is there."""
    at = AppTest.from_file(DOOR, default_timeout=180).run()
    at.switch_page("../apps/go/page.py")
    for name, value in address.items():
        at.query_params[name] = value
    return until(at, lambda: bool(at.tabs))


def until(at: AppTest, there) -> AppTest:
    for _ in range(180):
        at.run()
        assert not at.exception, at.exception[0].stack_trace
        if there():
            return at
        time.sleep(0.5)
    raise AssertionError(" ".join(m.value for m in at.markdown))


def board(at: AppTest) -> dict:
    return json.loads(at.get_by_key("board").proto.json)


def test_the_player_answers_a_move_in_the_address():
    """Black has played E5: the page asks the player, plays its reply and puts it into the address."""
    at = visit(moves="ee", visits="16")
    until(at, lambda: len(at.session_state["table"].game.moves) == 2)
    seen = board(until(at, lambda: at.session_state["table"].thought is not None))
    assert seen["stones"].count(-1) + seen["stones"].count(2) == 1
    assert seen["stones"][40] == 1
    assert at.query_params["moves"].startswith("ee")
    assert any(m.label == "Black wins" for m in at.metric)


def test_the_buttons_do_what_they_say():
    at = visit(colour="both")
    at.button(key="pass").click().run()
    assert [m.vertex for m in at.session_state["table"].game.moves] == ["pass"]
    at.button(key="undo").click().run()
    assert not at.session_state["table"].game.moves
    at.button(key="resign").click().run()
    assert at.session_state["table"].result == "W+R"
    assert at.button(key="resign").disabled
    assert not at.exception


def test_why_a_move_is_illegal_is_said():
    at = visit(colour="both", moves="ee")
    at.session_state["table"].play("E5")
    at.run()
    assert any(plain("E5: occupied") in w.value for w in at.warning)


def test_a_game_is_reviewed():
    at = visit(colour="both", moves="eeccgg", **{"go-tab": "Review"})
    at.session_state["table"].leave()
    at.button(key="review").click()
    until(at, lambda: bool(at.slider))
    assert at.slider(key="at").max == 3
    assert at.session_state["review-ticket"].state == "done"
    assert len(at.session_state["review-ticket"].result()) == 4
