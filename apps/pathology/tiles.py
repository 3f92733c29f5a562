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
from pathlib import Path

import anyio
import anyio.to_thread
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.pathology.reader import SlideReader, open_slide

SIDE = 256
PREFIX = "/pathology/tiles"
OPEN = 8  # slides kept open
TOKENS = 512  # slides that have an address; the one not asked for longest loses it
ENCODED = 512  # tiles kept as JPEG: about 10 MB

_lock = threading.Lock()
_tokens: OrderedDict[str, tuple[Path, str]] = OrderedDict()
_heats: dict[str, Path] = {}
_readers: OrderedDict[Path, SlideReader] = OrderedDict()
_encoded: OrderedDict[tuple[str, int, int, int], bytes] = OrderedDict()
_threads: anyio.CapacityLimiter | None = None


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
    """Returns the JPEG of a tile, or None if the slide has none there; ValueError if the slide cannot be read."""
    slide = reader(path)
    if not 0 <= level < levels(slide.size):
        return None
    width, height = (math.ceil(n / 2**level) for n in slide.size)
    w, h = min(SIDE, width - x * SIDE), min(SIDE, height - y * SIDE)
    if x < 0 or y < 0 or w <= 0 or h <= 0:
        return None
    pixels = slide.read_at(x * SIDE * 2**level, y * SIDE * 2**level, w, h, 2**level)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


def reader(path: Path) -> SlideReader:
    """Returns an open reader of the slide, kept for the next who asks; safe to use from several threads."""
    with _lock:
        if path in _readers:
            _readers.move_to_end(path)
            return _readers[path]
    slide = open_slide(path)
    with _lock:
        # The file of a reader that falls out closes when the last thread that still reads lets go of it.
        slide = _readers.setdefault(path, slide)
        while len(_readers) > OPEN:
            _readers.popitem(last=False)
    return slide


async def _tile(request: Request) -> Response:
    global _threads
    token, place = request.path_params["token"], tuple(request.path_params[name] for name in ("level", "x", "y"))
    with _lock:
        known = _tokens.get(token)
        if known:
            _tokens.move_to_end(token)
        data = _encoded.get((token, *place))
    if known is None:
        return _none("this slide is not shown any more; load the page again")
    if data is None:
        _threads = _threads or anyio.CapacityLimiter(4)  # made here, for it belongs to the running event loop
        try:
            data = await anyio.to_thread.run_sync(tile, known[0], *place, limiter=_threads)
        except (ValueError, OSError):
            data = None
    if data is None:
        return _none("the slide has no such tile")
    with _lock:
        _encoded[(token, *place)] = data
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


def _none(why: str) -> Response:
    return Response(why, status_code=404, media_type="text/plain", headers={"Cache-Control": "no-store"})


routes = [
    Route(PREFIX + "/{token}/{level:int}/{x:int}_{y:int}.jpg", _tile),
    Route(PREFIX + "/{token}/heat.png", _heat),
]
