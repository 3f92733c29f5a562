"""Web addresses of a slide's tiles and heat map, for the viewer on the page: routes for the site to serve.

A slide is shown under a random token, so that no address tells a path or can be made up to name one. Level k of the
pyramid is the slide halved k times, cut into squares of `SIDE` pixels.
"""

from __future__ import annotations

import io
import math
import re
import secrets
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.pathology.reader import SlideReader, open_slide

SIDE = 256
PREFIX = "/pathology/tiles"
THREADS, SHARE = 4, 2  # that decode tiles, and how many of them one slide may have
ASIDE = 2  # slides that are read through at once, in threads of their own
OPEN = 8  # slides kept open
MEMORY = 256 << 20  # bytes of pixels that they hold together, if more than one is open
TOKENS = 512  # slides that have an address; the one not asked for longest loses it
ENCODED = 512  # tiles kept as JPEG: about 10 MB

_lock = threading.Lock()
_tokens: OrderedDict[str, tuple[Path, str]] = OrderedDict()
_heats: dict[str, Path] = {}
_readers: OrderedDict[Path, SlideReader] = OrderedDict()
_encoded: OrderedDict[tuple[str, int, int, int], bytes] = OrderedDict()
_aside: set[Path] = set()  # slides that are being read through
_threads: anyio.CapacityLimiter | None = None
_shares: WeakValueDictionary[Path, anyio.Semaphore] = WeakValueDictionary()  # of the threads, while somebody asks


def show(path: Path, fingerprint: str, heat: Path | None = None) -> str:
    """Gives a slide, and the heat map that belongs to it, an address and returns that: `/pathology/tiles/<token>`."""
    with _lock:
        token = next((t for t, known in _tokens.items() if known == (path, fingerprint)), None)
        if token is None:
            token = secrets.token_urlsafe(16)
            _tokens[token] = (path, fingerprint)
            while len(_tokens) > TOKENS:
                _heats.pop(_tokens.popitem(last=False)[0], None)
        _tokens.move_to_end(token)
        if heat is not None:
            _heats[token] = heat
    return f"{PREFIX}/{token}"


def levels(size: tuple[int, int]) -> int:
    """Returns how many levels a slide of (width, height) has, the last of them a single tile."""
    return 1 + max(0, math.ceil(math.log2(max(size) / SIDE)))


def point(text: str) -> tuple[int, int] | None:
    """Reads level-0 pixels `x,y` from an address; None if it is something else."""
    found = re.fullmatch(r"(\d{1,9}),(\d{1,9})", text)
    return (int(found[1]), int(found[2])) if found else None


def tile(path: Path, level: int, x: int, y: int) -> bytes | None:
    """Returns the JPEG of a tile, or None if the slide has none there.

    Raises:
        ValueError: if the slide cannot be read.
        TimeoutError: if it has no small levels and is being read through for this tile, which takes a while.
    """
    slide = reader(path)
    if not 0 <= level < levels(slide.size):
        return None
    width, height = (math.ceil(n / 2**level) for n in slide.size)
    w, h = min(SIDE, width - x * SIDE), min(SIDE, height - y * SIDE)
    if x < 0 or y < 0 or w <= 0 or h <= 0:
        return None
    if not slide.at_hand(2**level):
        _read_through(path, slide)
        raise TimeoutError("the slide is being read through; ask again in a second")
    pixels = slide.read_at(x * SIDE * 2**level, y * SIDE * 2**level, w, h, 2**level)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


def reader(path: Path) -> SlideReader:
    """Returns an open reader of the slide, kept for the next who asks; safe to use from several threads."""
    with _lock:
        slide = _readers.get(path)
    slide = slide or open_slide(path)
    with _lock:
        slide = _readers.setdefault(path, slide)
        _readers.move_to_end(path)
        # The file of a reader that falls out closes when the last thread that still reads lets go of it.
        while len(_readers) > OPEN or (len(_readers) > 1 and sum(r.held for r in _readers.values()) > MEMORY):
            _readers.popitem(last=False)
    return slide


def _read_through(path: Path, slide: SlideReader) -> None:
    """Begins to read a slide through beside the tiles of others, or leaves it for later if enough are under way."""

    def work() -> None:
        with suppress(ValueError, OSError):  # the next who asks for a tile is told
            slide.read_through()
        with _lock:
            _aside.discard(path)

    with _lock:
        if path in _aside or len(_aside) >= ASIDE:
            return
        _aside.add(path)
    threading.Thread(target=work, daemon=True).start()  # daemon: the server ends without waiting for it


async def _tile(request: Request) -> Response:
    global _threads
    token = request.path_params["token"]
    place = tuple(request.path_params[name] for name in ("level", "x", "y"))
    if not all(re.fullmatch("[0-9]{1,9}", number) for number in place):
        return _none("the slide has no such tile")
    level, x, y = map(int, place)
    with _lock:
        known = _tokens.get(token)
        if known:
            _tokens.move_to_end(token)
        data = _encoded.get((token, level, x, y))
    if known is None:
        return _none("this slide is not shown any more; load the page again")
    if data is None:
        _threads = _threads or anyio.CapacityLimiter(THREADS)  # made here, for it belongs to the running event loop
        share = _shares.setdefault(known[0], anyio.Semaphore(SHARE))
        try:
            async with share:
                data = await anyio.to_thread.run_sync(tile, known[0], level, x, y, limiter=_threads)
        except TimeoutError as error:
            return _none(str(error), status=503)
        except (ValueError, OSError):
            data = None
    if data is None:
        return _none("the slide has no such tile")
    with _lock:
        _encoded[(token, level, x, y)] = data
        while len(_encoded) > ENCODED:
            _encoded.popitem(last=False)
    return _picture(data, "image/jpeg")


async def _heat(request: Request) -> Response:
    with _lock:
        path = _heats.get(request.path_params["token"])
    try:
        return _picture(await anyio.Path(path).read_bytes(), "image/png") if path else _none("no heat map yet")
    except OSError:
        return _none("the heat map is gone; score the slide again")


def _picture(data: bytes, kind: str) -> Response:
    headers = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}
    return Response(data, media_type=kind, headers=headers)


def _none(why: str, status: int = 404) -> Response:
    return Response(why, status_code=status, media_type="text/plain", headers={"Cache-Control": "no-store"})


routes = [
    Route(PREFIX + "/{token}/{level}/{x}_{y}.jpg", _tile),
    Route(PREFIX + "/{token}/heat.png", _heat),
]
