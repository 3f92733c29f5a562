"""Maps for visitors: computed once, kept whole, shared."""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.pathology import scored
from apps.pathology.heatmap import SlideResult
from apps.pathology.reader import open_slide
from apps.pathology.shelf import SAMPLE, Slide
from data.slides.pyramid import write_pyramid


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Slide:
    """A piece of the sample slide that is scored in a moment."""
    path = tmp_path_factory.mktemp("slides") / "small.tif"
    with open_slide(SAMPLE / "synthetic.tif") as slide:
        write_pyramid(path, slide.read_at(500, 450, 400, 320, 1), 0.5)
    return Slide("A small one.tif", path)


@pytest.fixture(scope="session")
def map_of_small(small, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("maps") / "map"
    calls = []
    scored.score(str(small.path), small.name, str(place), None, progress=lambda *counts: calls.append(counts))
    assert calls[-1][0] == calls[-1][1] > 10
    return place


def test_a_finished_map_holds_everything_a_visitor_can_take_along(map_of_small):
    assert {scored.LAYER, *scored.EXPORTS} <= {path.name for path in map_of_small.iterdir()}
    result = scored.found(map_of_small)
    assert isinstance(result, SlideResult)
    assert result.slide == "A small one.tif"
    features = json.loads((map_of_small / "tiles.geojson").read_text())["features"]
    tiles = [f for f in features if f["properties"]["objectType"] == "tile"]
    assert len(tiles) == int(np.isfinite(result.heatmap).sum())
    layer = np.asarray(Image.open(map_of_small / scored.LAYER))
    assert np.array_equal(layer[..., 3] > 0, np.isfinite(result.heatmap))


def test_the_map_says_what_the_model_says_of_the_tile(map_of_small, small):
    """The tile shown beside the map is the very tile that was scored: probability and abstention agree."""
    result = scored.found(map_of_small)
    predictor = scored.predictor()
    with open_slide(small.path) as reader:
        rows, columns = np.nonzero(np.isfinite(result.heatmap))
        for row, column in list(zip(rows, columns, strict=True))[:: max(1, len(rows) // 6)]:
            x, y = (column + 0.1) * result.cell, (row + 0.1) * result.cell
            cell = scored.cell(reader, 0.5, x, y)
            assert (cell.row, cell.column) == (row, column)
            answer = predictor(cell.tile())
            probability, uncertain = cell.value(result)
            assert answer.probability[0] == probability
            assert answer.uncertain[0] == uncertain == bool(result.uncertain[row, column])


def test_a_cell_is_found_by_any_of_its_pixels_and_nowhere_else(small):
    with open_slide(small.path) as reader:
        side = 32 * 0.972 / 0.5
        first = scored.cell(reader, 0.5, 0, 0)
        assert first.box == pytest.approx([0, 0, side, side])
        assert scored.cell(reader, 0.5, side - 0.01, side - 0.01) == first
        assert scored.cell(reader, 0.5, side + 0.01, 0).column == 1
        for x, y in ((-1, 0), (0, -1), (reader.size[0], 0), (0, reader.size[1])):
            assert scored.cell(reader, 0.5, x, y) is None
        assert first.value(None) is None


def test_half_a_map_counts_as_none(map_of_small, tmp_path):
    assert scored.found(tmp_path) is None
    for name in ("slide.npz", scored.LAYER):
        (tmp_path / name).write_bytes((map_of_small / name).read_bytes()[:50])
    assert scored.found(tmp_path) is None
    assert not tmp_path.exists(), "a damaged map is cleared away, or it would never be made again"


def test_a_map_belongs_to_slide_model_and_scale(small):
    places = {scored.folder(small, "model", None), scored.folder(small, "other", None),
              scored.folder(small, "model", 0.5), scored.folder(Slide("b", SAMPLE / "synthetic.tif"), "model", None)}
    assert len(places) == 4
    assert scored.folder(Slide("another name", small.path), "model", None) in places


@dataclass
class Desk:
    """Takes work and does none."""

    calls: list = field(default_factory=list)

    def submit(self, function, *args):
        @dataclass
        class Ticket:
            state: str = "waiting"

        self.calls.append((function, args))
        return Ticket()


@pytest.fixture
def desk(monkeypatch):
    monkeypatch.setattr(scored, "_tickets", {})
    desk = Desk()
    monkeypatch.setattr(scored, "desk", lambda: desk)
    return desk


def test_two_visitors_share_the_work(desk, small, tmp_path):
    assert scored.ticket(tmp_path) is None
    first = scored.ask(tmp_path, small, None)
    assert scored.ask(tmp_path, small, None) is first is scored.ticket(tmp_path)
    assert len(desk.calls) == 1
    assert desk.calls[0] == (scored.work, (str(small.path), small.name, str(tmp_path), None))
    for ended in ("failed", "cancelled", "done"):
        first.state = ended
        again = scored.ask(tmp_path, small, None)
        assert again is not first
        first = again


def test_tickets_do_not_pile_up(desk, small, tmp_path, monkeypatch):
    monkeypatch.setattr(scored, "KEPT", 5)
    for i in range(20):
        scored.ask(tmp_path / str(i), small, None).state = "done"
    assert len(scored._tickets) <= 7
    assert scored.ticket(tmp_path / "19")


def test_only_the_latest_maps_are_kept(map_of_small, small, tmp_path, monkeypatch):
    monkeypatch.setattr(scored, "KEPT", 1)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / scored.LAYER).write_bytes(b"")
    (tmp_path / "unfinished").mkdir()
    os.utime(tmp_path / "old" / scored.LAYER, (1, 1))
    scored.score(str(small.path), small.name, str(tmp_path / "new"), None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "unfinished"]


@pytest.mark.parametrize(("script", "words"), [
    ("import sys; print('error: no way to the index', file=sys.stderr); sys.exit(2)", "no way to the index"),
    ("import sys; sys.exit(1)", "it said nothing"),
])
def test_a_failed_download_is_one_sentence(tmp_path, monkeypatch, script, words):
    (tmp_path / "data" / "slides").mkdir(parents=True)
    (tmp_path / "data" / "slides" / "prepare.py").write_text(script)
    monkeypatch.setattr(scored, "ROOT", tmp_path)
    with pytest.raises(ValueError) as error:
        scored.fetch()
    assert str(error.value) == words


def test_the_download_is_the_data_recipes_own_command(tmp_path, monkeypatch):
    (tmp_path / "data" / "slides").mkdir(parents=True)
    (tmp_path / "data" / "slides" / "prepare.py").write_text("import sys; print(sys.executable)")
    monkeypatch.setattr(scored, "ROOT", tmp_path)
    assert scored.fetch().strip() == sys.executable
    assert (Path(scored.__file__).parents[2] / "data" / "slides" / "prepare.py").is_file()
