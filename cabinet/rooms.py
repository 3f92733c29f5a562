"""The rooms of the house that can be visited: one entry each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

APPS = Path(__file__).parents[1] / "apps"


@dataclass(frozen=True)
class Room:
    """A room: its folder under apps/ is its address, and holds page.py, miniature.jpg and results.json."""

    name: str
    title: str
    sentence: str
    figure: str
    """What the headline figure is called."""
    where: tuple[str, ...]
    """Where in results.json it stands."""

    @property
    def page(self) -> Path:
        """The Streamlit page."""
        return APPS / self.name / "page.py"

    @property
    def miniature(self) -> Path:
        """The small picture that the room itself has made."""
        return APPS / self.name / "miniature.jpg"

    def headline(self) -> Headline | None:
        """Returns the figure to show, or None where nothing was measured yet."""
        return headline(APPS / self.name / "results.json", self.figure, self.where)


@dataclass(frozen=True)
class Headline:
    """A measured figure, with what it takes to measure it again."""

    figure: str
    value: str
    range: str
    date: str
    command: str


ROOMS = [
    Room("pathology", "Pathology", "Is there tumour in this lymph node? Tiles with a calibrated probability, whole "
         "slides with a heat map.", figure="AUROC on held-out tiles", where=("test", "auroc")),
    Room("go", "Go", "Play against a small net and its search, see what both think, and have your own games reviewed.",
         figure="Top-1 agreement, held-out games", where=("test", "top1")),
]


def headline(results: Path, figure: str, where: tuple[str, ...]) -> Headline | None:
    """Reads a figure from results.json, a number or a record of `value`, `low` and `high`; None if it is not there.

    Its date and command are those of the innermost section around it that has any.
    """
    try:
        found = json.loads(results.read_text("utf-8"))
        date = command = ""
        for key in where:
            date, command = found.get("date", date), found.get("command", command)
            found = found[key]
        value = found["value"] if isinstance(found, dict) else found
        span = f"{found['low']:.3f} to {found['high']:.3f}" if isinstance(found, dict) and "low" in found else ""
        return Headline(figure, f"{value:.3f}", span, str(date), str(command))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
