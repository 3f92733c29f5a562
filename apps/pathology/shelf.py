"""The slides a visitor can look at: the samples, the server's own folders, what was uploaded.

Nothing a visitor sends becomes a path: a name is looked up in the listing, an upload gets a name of our own, and the
web address of a slide's tiles (tiles.py) holds a random token that means something in this process only.
"""

from __future__ import annotations

import atexit
import hashlib
import itertools
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from apps.pathology.reader import open_slide
from apps.pathology.sources import ADVICE, readable

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data" / "slides" / "sample"
RAW = ROOT / "data" / "slides" / "raw"
SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".scn", ".bif", ".mrxs", ".svslide", ".vms", ".vmu", ".dcm")
UPLOADS = ("svs", "tif", "tiff", "ndpi", "scn", "bif")  # the formats that are one file
UPLOAD_MB = 500  # from 512 on the uploader would say 1 GB
MOST_UNSEEN = 250_000_000  # pixels that are read through for the first look at an upload: some seconds
STEEPEST = 32  # times that a level may be smaller than the one before: a tile between them is averaged from the finer
ROOM = 8 * 1024**3  # bytes that all uploads together may take
KEEP = 24 * 3600  # seconds an upload stays

_PREFIX = "wunderkammer-slides-"
_lock = threading.Lock()
_folder: Path | None = None
_uploads: dict[str, Slide] = {}


@dataclass(frozen=True)
class Slide:
    """A slide under the name that people choose it by."""

    name: str
    path: Path
    synthetic: bool = False
    """A drawing by this project, not tissue of a patient."""

    def fingerprint(self) -> str:
        """Returns 16 hexadecimal digits of the slide's size and of what stands at its start, middle and end."""
        digest, piece = hashlib.sha256(), 1 << 20
        size = self.path.stat().st_size
        digest.update(str(size).encode())
        with open(self.path, "rb") as file:
            for start in sorted({0, max(0, size // 2 - piece // 2), max(0, size - piece)}):
                file.seek(start)
                digest.update(file.read(piece))
        return digest.hexdigest()[:16]


def listing() -> dict[str, Slide]:
    """Returns the slides by name: the samples, then those of data/slides/raw and of $WUNDERKAMMER_DATA/slides."""
    own = os.environ.get("WUNDERKAMMER_DATA")
    slides: dict[str, Slide] = {}
    for folder in (SAMPLE, RAW, *([Path(own) / "slides"] if own else [])):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix.lower() in SUFFIXES and path.is_file():
                name = readable(path.name)
                slides.setdefault(name, Slide(name, path, synthetic=folder == SAMPLE))
    return slides


def has_real() -> bool:
    """True if a slide is at hand that is not a drawing."""
    return any(not slide.synthetic for slide in listing().values())


def find(name: str) -> Slide | None:
    """Returns the slide of that name from the listing, or the upload that `keep` gave that name, or None."""
    with _lock:
        upload = _uploads.get(name)
    if upload is not None and upload.path.exists():
        return upload
    return listing().get(name)


def keep(name: str, data: BinaryIO) -> str:
    """Stores an uploaded slide for a day, and returns the name under which `find` gives it back.

    That name holds a random token, so only who is told it can ask for the slide; the file is called after the token
    alone.

    Raises:
        ValueError: if the ending is not one of `UPLOADS`, the file is too large, or the uploads of all visitors
            have no room left.
    """
    ending = name.rpartition(".")[2].lower()
    if "." not in name or ending not in UPLOADS:
        raise ValueError(f"{shown(name)} is not a slide that can be uploaded; wanted is one of {', '.join(UPLOADS)}")
    _expire()
    folder = _home()
    token = "upload-" + secrets.token_urlsafe(12)
    path = folder / f"{token}.{ending}"
    room = ROOM - sum(_size(other) for other in folder.iterdir())
    try:
        if not _copy(data, path, min(UPLOAD_MB << 20, room)):
            if room < UPLOAD_MB << 20:
                raise ValueError("the server has no room for more slides now; try again in a few hours")
            raise ValueError(f"{shown(name)} has more than {UPLOAD_MB} MB, too much for an upload; put it into the "
                             "server's folder $WUNDERKAMMER_DATA/slides, and choose it from the list")
        _probe(path)
    except (ValueError, OSError) as error:
        path.unlink(missing_ok=True)
        raise ValueError(str(error).replace(path.name, shown(name))) from error
    listed = f"{shown(name)} · {token}"
    with _lock:
        _uploads[listed] = Slide(shown(name), path)
    return listed


def shown(name: str) -> str:
    """Returns a visitor's file name as it can be shown: its last part, printable, at most 80 characters."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(c if c.isprintable() else "?" for c in last)[-80:] or "a file without a name"


def _probe(path: Path) -> None:
    """Raises ValueError or OSError for a file that is no slide, was cut off, or takes too long to look at from afar."""
    with open_slide(path) as slide:
        steps = [coarse / fine for fine, coarse in itertools.pairwise(slide.level_downsamples)]
        if slide.unseen > MOST_UNSEEN or max(steps, default=1) > STEEPEST:
            size = " x ".join(f"{n:,}" for n in slide.size)
            raise ValueError(f"{path.name} has {size} pixels and lacks the smaller levels to look at it from afar; "
                             f"{ADVICE}, or score it on the command line: python -m apps.pathology FILE")
        slide.read_at(slide.size[0] - 1, slide.size[1] - 1, 1, 1, 1)
        if len(slide.level_downsamples) > 1:  # else a small picture would take the whole slide to make
            slide.thumbnail(64)


def _copy(data: BinaryIO, path: Path, limit: int) -> bool:
    """Copies a file of at most `limit` bytes; False, with part of it copied, if it is longer."""
    data.seek(0)
    with open(path, "xb") as file:
        while piece := data.read(1 << 20):
            limit -= len(piece)
            if limit < 0:
                return False
            file.write(piece)
    return True


def _home() -> Path:
    """The folder of this process's uploads, readable to its user alone; it goes when the process ends."""
    global _folder
    with _lock:
        if _folder is None:
            _remove(old for old in Path(tempfile.gettempdir()).glob(_PREFIX + "*") if _age(old) > 2 * KEEP)
            _folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
            atexit.register(shutil.rmtree, _folder, ignore_errors=True)
        return _folder


def _expire() -> None:
    with _lock:
        for listed, slide in list(_uploads.items()):
            if _age(slide.path) > KEEP:
                slide.path.unlink(missing_ok=True)
                del _uploads[listed]


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
