"""The pieces that pages are made of."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from core import ui


@given(st.text())
def test_plain_text_says_the_same_and_means_nothing_to_markdown(text):
    shown = ui.plain(text)
    assert shown.replace("\\", "") == " ".join(text.split()).replace("\\", "")
    unescaped = []
    skip = False
    for character in shown:
        if skip:
            skip = False
        elif character == "\\":
            skip = True
        else:
            unescaped.append(character)
    assert not set(unescaped) & set("`*_{}[]()<>#+-.!|~$:^=&@\n")


def test_a_name_full_of_markup_is_shown_letter_by_letter():
    def script():
        import streamlit as st

        from core import ui

        st.markdown(ui.plain("<img src=x onerror=alert(1)> [a](b) :red[c] $x$"))

    at = AppTest.from_function(script, default_timeout=60).run()
    assert at.markdown[0].value == r"\<img src\=x onerror\=alert\(1\)\> \[a\]\(b\) \:red\[c\] \$x\$"


def test_files_too_large_or_too_many_are_refused_with_a_sentence():
    files = [SimpleNamespace(name=f"{i}.png", size=size) for i, size in enumerate([10, 3 << 20, 20, 30])]
    taken, refused = ui.within(files, megabytes=2, count=2)
    assert [file.name for file in taken] == ["0.png", "2.png"]
    assert refused == ["1\\.png has 3 MB; at most 2 MB are read here.",
                       "3 files came; the first 2 are read, for more there is the command line."]
    assert ui.within(files[:1], megabytes=2, count=2) == (files[:1], [])


@dataclass
class Work:
    state: str = "running"
    progress: tuple[int, int] = (0, 0)
    ahead: int = 0
    seconds: float = 0.0


@pytest.mark.parametrize(("work", "text"), [
    (Work("waiting", ahead=2), "2 ahead in the queue"),
    (Work("waiting", ahead=0), "starts next"),
    (Work(), "starting"),
    (Work(progress=(0, 100)), "starting"),
    (Work(progress=(250, 1000), seconds=10), "250 of 1,000, about 30 s left"),
    (Work(progress=(10, 1000), seconds=10), "10 of 1,000, about 16 min left"),
])
def test_progress_in_words(work, text):
    assert ui._so_far(work) == text


def test_the_time_left_does_not_count_the_start():
    assert ui._so_far(Work(progress=(64, 1000), seconds=60), (60, 64)) == "64 of 1,000"
    assert ui._so_far(Work(progress=(164, 1000), seconds=65), (60, 64)) == "164 of 1,000, about 42 s left"


def test_watching_shows_progress_and_cancels():
    def script():
        import streamlit as st

        from core import ui

        class Ticket:
            progress, ahead, seconds = (1, 4), 0, 3.0

            @property
            def state(self):
                return st.session_state.get("state", "running")

            def look(self):
                st.session_state["seen"] = True

            def cancel(self):
                st.session_state["state"] = "cancelled"

        ticket = Ticket()
        if ticket.state == "running":
            ui.watch(ticket, "Scoring", key="w")
        else:
            st.text(ticket.state)

    at = AppTest.from_function(script, default_timeout=60).run()
    assert at.progress[0].value == 25
    assert at.progress[0].text == "Scoring: 1 of 4"
    assert at.session_state["seen"]
    at.button(key="w-cancel").click().run()
    assert not at.exception
    assert at.text[0].value == "cancelled"


def test_a_card_shows_what_it_says_and_not_its_long_rows_of_numbers():
    def script():
        from core import ui
        from core.card import Card

        ui.card(Card(app="a", name="b|c", model={"depth": 3}, step=1234, licence="MIT", data={"sha256": "ab" * 32},
                     settings={"doubts": [list(range(500))]}))

    at = AppTest.from_function(script, default_timeout=60).run()
    assert not at.exception
    assert at.expander[0].label == r"Model card: b\|c"
    table = at.markdown[0].value
    assert "| Optimizer steps | 1,234 |" in table
    assert "| Licence | MIT |" in table
    assert "abababababab…" in table
    assert [json.value for json in at.json] == ['{"depth": 3}', '{"doubts": ["500 values"]}']


def test_footer_and_head():
    def script():
        from core import ui

        with ui.header("Room", "One sentence.", note="Careful"):
            pass
        ui.footer(model="m_1", device="cpu", milliseconds=12.4)

    at = AppTest.from_function(script, default_timeout=60).run()
    assert at.title[0].value == "Room"
    assert "One sentence." in [m.value for m in at.markdown]
    assert any("Careful" in m.value for m in at.markdown)
    assert at.caption[0].value == r"model m\_1 · 12 ms · on cpu"


def test_a_picker_sends_its_pictures_and_the_choice():
    def script():
        import numpy as np

        from core import ui

        pictures = [ui.Choice(n, n.upper(), np.zeros((8, 8, 3), np.uint8)) for n in ("a", "b")]
        assert ui.picker("Pick", pictures, "b", key="p", on_change=lambda: None) == "b"

    at = AppTest.from_function(script, default_timeout=60).run()
    assert not at.exception
    import json

    data = json.loads(at.get_by_key("p").proto.json)
    assert data["chosen"] == "b"
    assert [c["label"] for c in data["choices"]] == ["A", "B"]
    assert all(c["image"].startswith("data:image/webp;base64,") for c in data["choices"])
