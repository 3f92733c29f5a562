"""The web addresses of tiles: right pixels, random tokens, bounded memory, and 404 for all else."""

import asyncio
import io
import threading
import time
from collections import OrderedDict

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from apps.pathology import tiles
from apps.pathology.reader import SlideReader, open_slide
from apps.pathology.shelf import SAMPLE
from tests.apps.pathology.slides import Painted

SLIDE = SAMPLE / "synthetic.tif"  # 2048 x 1536


@pytest.fixture
def client():
    return TestClient(Starlette(routes=tiles.routes))


def test_the_last_level_is_one_tile():
    assert tiles.levels((256, 10)) == 1
    assert tiles.levels((257, 10)) == 2
    assert tiles.levels((2048, 1536)) == 4
    assert tiles.levels((1, 1)) == 1


@pytest.mark.parametrize(("level", "x", "y", "size"), [(0, 0, 0, (256, 256)), (0, 7, 5, (256, 256)),
                                                       (3, 0, 0, (256, 192)), (2, 1, 1, (256, 128))])
def test_a_tile_shows_its_part_of_the_slide(client, level, x, y, size):
    answer = client.get(f"{tiles.show(SLIDE, 'f')}/{level}/{x}_{y}.jpg")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.size == size
    with open_slide(SLIDE) as slide:
        side = 256 * 2**level
        wanted = slide.read_at(x * side, y * side, *size, 2.0**level)
    assert np.abs(np.asarray(picture).astype(int) - wanted).mean() < 4


@pytest.mark.parametrize("place", ["4/0_0.jpg", "0/8_0.jpg", "0/0_6.jpg", "3/1_0.jpg", "99999999999/0_0.jpg",
                                   "0/99999999999999999999_0.jpg", "9" * 5000 + "/0_0.jpg",
                                   "0/0_" + "9" * 5000 + ".jpg", "0/\u0661_0.jpg", "-1/0_0.jpg", "0/0_0.png",
                                   "a/0_0.jpg", "", "heat.png", "../../../pyproject.toml",
                                   "%2e%2e/%2e%2e/pyproject.toml"])
def test_there_is_nothing_else(client, place):
    assert client.get(f"{tiles.show(SLIDE, 'nothing')}/{place}").status_code == 404


@pytest.mark.parametrize("token", ["", "x", "synthetic.tif", "..", "%2e%2e", "AAAAAAAAAAAAAAAAAAAAAA"])
def test_a_token_that_was_not_given_out_opens_nothing(client, token):
    assert client.get(f"{tiles.PREFIX}/{token}/0/0_0.jpg").status_code == 404
    assert client.get(f"{tiles.PREFIX}/{token}/heat.png").status_code == 404


def test_tokens_are_random_stable_and_bounded(client, monkeypatch):
    first = tiles.show(SLIDE, "one")
    assert tiles.show(SLIDE, "one") == first
    assert tiles.show(SLIDE, "two") != first
    assert str(SLIDE) not in first
    assert len(first) - len(tiles.PREFIX) > 20
    monkeypatch.setattr(tiles, "TOKENS", 3)
    for i in range(5):
        tiles.show(SLIDE, f"other {i}")
    assert len(tiles._tokens) == 3
    assert client.get(f"{first}/0/0_0.jpg").status_code == 404


def test_the_heat_map_comes_with_its_slide(client, tmp_path):
    heat = tmp_path / "layer.png"
    heat.write_bytes(b"png")
    address = tiles.show(SLIDE, "heat", heat)
    answer = client.get(f"{address}/heat.png?v=1")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"png", "image/png")
    heat.unlink()
    assert client.get(f"{address}/heat.png?v=2").status_code == 404


def test_a_damaged_slide_is_no_server_error(client, tmp_path):
    path = tmp_path / "bad.tif"
    path.write_bytes(SLIDE.read_bytes()[:100_000])
    assert client.get(f"{tiles.show(path, 'bad')}/0/3_3.jpg").status_code == 404
    assert client.get(f"{tiles.show(tmp_path / 'gone.tif', 'gone')}/0/0_0.jpg").status_code == 404


class Slow(Painted):
    """A slide without levels whose pixels come only when the test says so."""

    def __init__(self):
        super().__init__(5_000, 1_200)
        self.go, self.asked = threading.Event(), threading.Event()

    def chunk(self, level, column, row):
        self.asked.set()
        assert self.go.wait(60)
        return super().chunk(level, column, row)


def test_a_slide_that_is_read_through_keeps_nobody_waiting(client, monkeypatch, tmp_path):
    slow = Slow()
    monkeypatch.setattr(tiles, "open_slide", lambda path: open_slide(path) if path == SLIDE else SlideReader(slow))
    address, far = tiles.show(tmp_path / "slow.tif", "slow"), tiles.levels((5_000, 5_000)) - 1
    try:
        for _ in range(2 * tiles.THREADS):
            answer = client.get(f"{address}/{far}/0_0.jpg")
            assert (answer.status_code, answer.headers["cache-control"]) == (503, "no-store")
        assert slow.asked.wait(60)
        assert client.get(f"{tiles.show(SLIDE, 'others')}/1/1_1.jpg").status_code == 200
    finally:
        slow.go.set()
    wait_for(lambda: not tiles._aside)
    answer = client.get(f"{address}/{far}/0_0.jpg")
    assert answer.status_code == 200
    assert Image.open(io.BytesIO(answer.content)).getpixel((80, 80))[1] < 200, "tissue in the middle"


def test_a_slide_that_cannot_be_read_through_is_read_once(client, monkeypatch, tmp_path):
    class Damaged(Painted):
        def chunk(self, level, column, row):
            self.reads += 1
            raise ValueError("damaged")

    source = Damaged(5_000, 1_200)
    monkeypatch.setattr(tiles, "open_slide", lambda path: SlideReader(source))
    far = f"{tiles.show(tmp_path / 'damaged.tif', 'd')}/{tiles.levels((5_000, 5_000)) - 1}/0_0.jpg"
    assert client.get(far).status_code == 503
    wait_for(lambda: not tiles._aside)
    assert client.get(far).status_code == 404
    assert client.get(far).status_code == 404
    assert source.reads == 1


def test_one_slide_never_has_all_threads(monkeypatch, tmp_path):
    """Ten requests for a slow slide, then one for another, on one event loop as in the server."""
    slow = Slow()
    monkeypatch.setattr(tiles, "open_slide", lambda path: open_slide(path) if path == SLIDE else SlideReader(slow))
    monkeypatch.setattr(tiles, "_threads", None)
    hog, other = tiles.show(tmp_path / "hog.tif", "hog"), tiles.show(SLIDE, "not the hog")

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(Starlette(routes=tiles.routes))
        async with httpx.AsyncClient(transport=transport, base_url="http://site") as site:
            hogged = [asyncio.create_task(site.get(f"{hog}/0/{x}_9.jpg")) for x in range(10)]
            await asyncio.to_thread(slow.asked.wait, 60)
            try:
                answer = await asyncio.wait_for(site.get(f"{other}/0/2_2.jpg"), 60)
            finally:
                slow.go.set()
            return [answer.status_code, *[(await task).status_code for task in hogged]]

    assert asyncio.run(ask()) == [200] * 11


def wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_open_slides_hold_a_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "_readers", OrderedDict())
    monkeypatch.setattr(tiles, "MEMORY", 3 * 500 * 400 * 3)
    for i in range(6):
        Image.new("RGB", (500, 400)).save(tmp_path / f"{i}.png")
        assert tiles.reader(tmp_path / f"{i}.png").held == 500 * 400 * 3
    assert [path.stem for path in tiles._readers] == ["3", "4", "5"]


def test_open_slides_and_kept_tiles_are_bounded(client, tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "OPEN", 2)
    monkeypatch.setattr(tiles, "ENCODED", 3)
    for i in range(4):
        path = tmp_path / f"{i}.tif"
        path.write_bytes(SLIDE.read_bytes())
        assert client.get(f"{tiles.show(path, 'x')}/3/0_0.jpg").status_code == 200
    assert len(tiles._readers) <= 2
    assert len(tiles._encoded) <= 3


@pytest.mark.parametrize(("text", "found"), [("12,34", (12, 34)), ("0,0", (0, 0)), ("", None), ("1", None),
                                             ("-1,2", None), ("1.5,2", None),
                                             ("1,2,3", None), ("1,2\n", None), ("9999999999,1", None)])
def test_a_point_in_an_address(text, found):
    assert tiles.point(text) == found
