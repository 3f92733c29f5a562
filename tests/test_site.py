"""The site as a whole: it starts, shows the rooms that are there, and waits for torch until a room needs it."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from cabinet import rooms
from cabinet.rooms import ROOMS, headline

ROOT = Path(__file__).parents[1]
DOOR = str(ROOT / "cabinet" / "door.py")


def test_home_shows_a_card_for_each_room_and_no_other():
    at = AppTest.from_file(DOOR, default_timeout=60).run()
    assert not at.exception
    assert at.title[0].value == "Wunderkammer"
    assert [card.value for card in at.subheader] == [room.title for room in ROOMS]
    assert [link.value for link in at.page_link] == [f"Open {room.title} →" for room in ROOMS]


def test_each_room_is_a_folder_under_apps_with_a_page_and_a_miniature():
    assert ROOMS
    for room in ROOMS:
        assert room.page == ROOT / "apps" / room.name / "page.py"
        assert room.page.is_file()
        assert room.miniature.is_file()
        assert room.miniature.stat().st_size < 100_000


def test_first_paint_needs_no_torch():
    code = (
        "import sys, streamlit_app\n"
        "from streamlit.testing.v1 import AppTest\n"
        f"at = AppTest.from_file({DOOR!r}, default_timeout=60).run()\n"
        "assert at.title and not at.exception, at.exception\n"
        "sys.exit(3 if 'torch' in sys.modules else 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


def test_home_shows_the_headline_figure_with_its_date_and_command(tmp_path, monkeypatch):
    room = tmp_path / ROOMS[0].name
    room.mkdir()
    written = {"date": "2020-01-01", "test": {"auroc": {"value": 0.98765, "low": 0.98, "high": 0.99},
                                              "date": "2026-11-24", "command": "python -m apps.pathology.evaluate"}}
    (room / "results.json").write_text(json.dumps(written))
    monkeypatch.setattr(rooms, "APPS", tmp_path)
    assert ROOMS[0].headline() == rooms.Headline("AUROC on held-out tiles", "0.988", "0.980 to 0.990", "2026-11-24",
                                                 "python -m apps.pathology.evaluate")


def test_headline_of_a_bare_number(tmp_path):
    (tmp_path / "r.json").write_text('{"elo": 1234.5, "date": "2026-11-24"}')
    found = headline(tmp_path / "r.json", "Elo", ("elo",))
    assert found is not None
    assert (found.value, found.range, found.date, found.command) == ("1234.500", "", "2026-11-24", "")


@pytest.mark.parametrize("text", [None, "", "[]", "3", "{}", '{"test": {}}', '{"test": {"auroc": null}}',
                                  '{"test": {"auroc": "high"}}', '{"test": {"auroc": {"low": 1}}}', "\x00"])
def test_no_headline_without_a_figure(tmp_path, text):
    if text is not None:
        (tmp_path / "r.json").write_text(text)
    assert headline(tmp_path / "r.json", "AUROC", ("test", "auroc")) is None


def test_the_server_is_for_this_machine_and_tells_nobody():
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    assert config["server"]["address"] == "127.0.0.1"
    assert set(config["server"]["allowedHosts"]) == {"127.0.0.1", "localhost"}
    assert config["browser"]["gatherUsageStats"] is False


def test_one_theme_in_light_and_dark_with_system_fonts():
    theme = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"]
    assert theme["light"].keys() == theme["dark"].keys()
    assert not [font for font in (theme["font"], theme["headingFont"], theme["codeFont"]) if "//" in font]
    assert "fontFaces" not in theme


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_can_be_read_in_both_lights(mode):
    """WCAG 2.2, 1.4.3: a contrast of at least 4.5 for text, also on fields and on the white of primary buttons."""
    colours = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"][mode]
    for text in ("textColor", "linkColor"):
        for ground in ("backgroundColor", "secondaryBackgroundColor"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast("#ffffff", colours["primaryColor"]) >= 4


def contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_nothing_is_named_that_a_browser_would_fetch_from_outside():
    pages = [p for folder in ("cabinet", "core", "apps") for end in ("*.js", "*.css", "*.html", "*.svg")
             for p in (ROOT / folder).rglob(end)]
    assert len(pages) > 5
    for path in pages:
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), path
