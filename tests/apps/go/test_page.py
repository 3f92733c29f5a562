"""The Go page, without a browser, with a net that has learned nothing."""

import json
import time
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from apps.go import thinking
from apps.go.game import Game
from tests.apps.go import untrained

DOOR = str(Path(__file__).parents[3] / "cabinet" / "door.py")


@pytest.fixture(scope="module", autouse=True)
def model(tmp_path_factory):
    """A server of a net without training; its worker goes at the end."""
    path = untrained.write(tmp_path_factory.mktemp("go") / "go.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WUNDERKAMMER_GO", str(path))
        for desk in (thinking.desk, thinking.study):
            desk.cache_clear()
        st.cache_resource.clear()
        yield path
        for desk in (thinking.desk, thinking.study):
            if desk.cache_info().currsize:
                desk().close()
            desk.cache_clear()
        st.cache_resource.clear()


def settled(at: AppTest) -> AppTest:
    """Runs the page until the model is there and nothing is being thought about."""
    until = time.monotonic() + 240
    while True:
        assert not at.exception, at.exception[0].stack_trace
        ready = "go_table" in at.session_state and at.session_state.go_table.ticket is None
        work = at.session_state.go_work if "go_work" in at.session_state else None
        if (ready or at.error) and work is None:
            return at
        assert time.monotonic() < until
        time.sleep(0.1)
        at.run()


def visit(**address: str) -> AppTest:
    """Opens the page at an address."""
    at = AppTest.from_file(DOOR, default_timeout=180).run()
    at.switch_page("../apps/go/page.py")
    for name, value in address.items():
        at.query_params[name] = value
    return settled(at.run())


def board(at: AppTest, key: str = "go_board") -> dict:
    return json.loads(at.get_by_key(key).proto.json)


def press(at: AppTest, key: str) -> AppTest:
    return settled(at.button(key=key).click().run())


def words(at: AppTest) -> str:
    return " ".join([m.value for m in at.markdown] + [c.value for c in at.caption] + [s.value for s in at.subheader])


def test_a_new_game_waits_for_the_visitor():
    at = visit()
    data = board(at)
    assert (data["game"], data["rows"], data["columns"], data["toMove"], data["open"]) == ("go", 9, 9, 1, True)
    assert len(data["legal"]) == 82
    assert at.subheader[0].value == "Your turn, Black"
    assert at.expander[0].label == "Model card: untrained"
    assert {m.label for m in at.metric} == {"Black wins", "Expected score"}
    assert "64 visits · model untrained" in words(at)
    assert (at.query_params["size"], at.query_params["colour"]) == ("9", "black")


def test_the_game_in_the_address_goes_on():
    at = visit(size="5", colour="white", visits="16", moves="cc", komi="0.5")
    assert board(at)["toMove"] == -1
    assert board(at)["stones"][12] == 1
    at.session_state.go_table.click(0, board(at)["serial"])
    settled(at.run())
    moves = at.query_params["moves"]
    assert moves.startswith("ccaa")
    assert len(moves) == 6
    assert at.subheader[0].value == "Your turn, White"
    again = visit(**at.query_params)
    assert board(again)["stones"] == board(at)["stones"]
    press(at, "go_undo")
    assert at.query_params["moves"] == "cc"


def test_overlays_are_drawn_when_they_are_wanted():
    at = visit(moves="eecc", go_shows="Policy")
    data = board(at)
    assert data["heat"]
    assert not data["moves"] + data["own"] + data["line"]
    at.get_by_key("go_shows").set_value(["Search", "Ownership", "Line"])
    settled(at.run())
    data = board(at)
    assert not data["heat"]
    assert data["moves"][0]["best"]
    assert len(data["own"]) == 81
    assert data["line"][0]["n"] == 1
    assert "at first sight" in words(at)
    assert list(at.dataframe[0].value.columns) == ["Move", "Net", "Search", "Wins", "Then"]


def test_an_illegal_move_is_told():
    at = visit(moves="ee", colour="both")
    at.session_state.go_table.click(40, board(at)["serial"])
    settled(at.run())
    assert at.warning[0].value == r"E5\: occupied\."


def test_passes_end_the_game_and_it_is_counted():
    at = visit(moves="eett", colour="both", komi="0.5", size="9")
    press(at, "go_pass")
    assert board(at)["pick"]
    assert not board(at)["open"]
    assert "wins by" in at.subheader[0].value or at.subheader[0].value == "A draw"
    assert "Click a stone" in words(at)
    assert at.button(key="go_pass").disabled
    press(at, "go_undo")
    press(at, "go_resign")
    assert at.subheader[0].value == "White wins, the other resigned"
    assert at.query_params["resigned"] == "black"


def test_another_game_can_be_begun():
    at = visit()
    at.get_by_key("go_size").set_value(13)
    at.get_by_key("go_colour").set_value("white")
    at.run()
    at.selectbox(key="go_handicap").select(4)
    at.run()
    assert at.number_input(key="go_komi").value == 0.5
    press(at, "go_start")
    data = board(at)
    assert (data["rows"], sum(data["stones"])) == (13, 4)
    assert at.query_params["handicap"] == "4"
    assert data["toMove"] == -1
    assert data["open"]


def test_the_strength_stays_until_it_is_changed():
    at = visit(visits="16", colour="both")
    for move in range(3):
        at.session_state.go_table.click(move, board(at)["serial"])
        settled(at.run())
    assert (at.select_slider(key="go_strength").value, at.query_params["visits"]) == (16, "16")
    at.select_slider(key="go_strength").set_value(256)
    settled(at.run())
    assert (at.session_state.go_table.visits, at.query_params["visits"]) == (256, "256")


def test_the_record_can_be_taken_along():
    at = visit(moves="eecc")
    assert [b.label for b in at.get("download_button")] == ["Save as SGF"]


def test_a_game_is_reviewed():
    game = Game("go", 5, 0.5)
    for move in ("C3", "C2", "A1", "D3"):
        game.play(move)
    at = visit(go_view="Review")
    assert "Choose a game" in at.info[0].value
    at.file_uploader(key="go_file_0").upload("x.sgf", game.to_sgf().encode()).run()
    assert not at.exception
    assert at.slider(key="go_at").value == 4
    assert board(at, "go_shown")["stones"][12] == 1
    press(at, "go_ask")
    settled(at)
    assert len(at.session_state.go_found) == 5
    assert at.dataframe or at.success
    at.button(key="go_back").click().run()
    assert at.slider(key="go_at").value == 3
    assert not any(board(at, "go_shown")["stones"][i] for i in (13,))


@pytest.mark.parametrize(("text", "said"), [
    (b"hello", "not a readable SGF"), (b"(;GM[2]SZ[8])", "othello"), (b"(;SZ[100])", "1 to 19"),
    (b"(;SZ[9];B[ee];W[ee])", "where a stone is")])
def test_a_file_that_cannot_be_read_is_a_sentence(text, said):
    at = visit(go_view="Review")
    at.file_uploader(key="go_file_0").upload("x.sgf", text).run()
    assert not at.exception
    assert said in at.error[0].value
    assert "go_reviewed" not in at.session_state


def test_a_review_can_be_cancelled(monkeypatch):
    from types import SimpleNamespace

    ticket = SimpleNamespace(state="running", progress=(3, 12), ahead=0, seconds=4.0, error=None, look=lambda: None)
    ticket.cancel = lambda: setattr(ticket, "state", "cancelled")
    monkeypatch.setattr(thinking, "ask_review", lambda game: ticket)
    at = visit(go_view="Review")
    at.file_uploader(key="go_file_0").upload("x.sgf", b"(;SZ[9];B[ee])").run()
    at.button(key="go_ask").click().run()
    assert at.progress[0].text == "Reviewing: 3 of 12"
    at.button(key="go_review-cancel").click().run()
    assert ticket.state == "cancelled"
    assert "Review this game" in [b.label for b in at.button]


def test_a_game_too_long_is_not_reviewed():
    game = Game("go", 9)
    game.moves = game.moves * 0 + [None] * 401
    with pytest.raises(ValueError, match="at most 400"):
        thinking.ask_review(game)


def test_a_model_that_cannot_be_loaded_is_a_sentence(monkeypatch, tmp_path):
    st.cache_resource.clear()
    monkeypatch.setenv("WUNDERKAMMER_GO", str(tmp_path / "none.safetensors"))
    at = visit()
    st.cache_resource.clear()
    assert at.error[0].title == "The model could not be loaded"
    assert not at.tabs
