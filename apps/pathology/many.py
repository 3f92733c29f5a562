"""Many slides, side by side: a pool of processes here, or the same call on a Ray cluster; each slide is done once.

A slide is done if its folder holds every export of just this slide, model, microns per pixel and alpha. On this machine
a slide whose worker was killed goes on inside the slide, from the `partial.npz` in its folder, as it does without a
list. A cluster shares no disk, so there the slide starts over.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from apps.pathology import export
from apps.pathology.heatmap import SlideResult
from apps.pathology.slide import PARTIAL, is_finished, is_of
from core import jobs
from core.log import Progress


@dataclass(frozen=True)
class Job:
    """One slide and how to score it; small, for it travels to the worker."""

    path: str
    weights: str
    mpp: float | None
    alpha: float
    device: str
    out: str | None
    """Where the cells that are scored are kept meanwhile; None where this disk cannot be seen."""


def score(job: Job) -> dict[str, bytes]:
    """Scores a slide where this process runs; every export by file name, as bytes that travel back."""
    return export.files(_predictor(job.weights, job.device, job.alpha).slide(job.path, job.mpp, out=job.out))


@cache
def _predictor(weights: str, device: str, alpha: float):
    from apps.pathology.predict import load

    return load(weights, device, alpha=alpha)


def score_list(listing: Path, *, out: Path, weights: str = "default", mpp: float | None = None, alpha: float = 0.05,
               device: str = "auto", workers: int = 1, cluster: str | None = None) -> int:
    """Scores the slides that a text file names, one per line; a finished one is never done twice.

    What lies there of the same slide with another model, microns per pixel or alpha is replaced; another alpha on this
    machine scores nothing anew.

    Args:
        listing: paths, relative to the file's own folder or absolute; empty lines and lines after # are passed over.
        out: gets one folder per slide, named after it.
        workers: processes, or tasks at once on the cluster.
        cluster: None here, `auto` or an address for Ray; the slides must be readable there under the same paths, and
            the weights there as here.

    Returns:
        0 if every slide has its result, 1 if some failed (each is named on stderr with the reason).

    Raises:
        ValueError: if the list is empty, or a slide on it is not there, or two share a folder, or a folder holds
            something else.
    """
    if not listing.is_file():
        raise ValueError(f"{listing} is not a file; pass a text file with one slide per line")
    try:
        lines = [line.split("#")[0].strip() for line in listing.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{listing} is not a text file ({error.reason}); pass one slide per line in UTF-8") from error
    slides = [listing.parent / line for line in lines if line]
    if not slides:
        raise ValueError(f"{listing} names no slide; write one path per line")
    missing = [str(slide) for slide in slides if not slide.exists()]
    if missing and cluster is None:
        raise ValueError(f"{listing} names slides that are not there: {', '.join(missing[:3])}"
                         + (f" and {len(missing) - 3} more" if len(missing) > 3 else ""))
    places = folders((slide.absolute() for slide in slides), out)
    work = [Job(str(slide), weights, mpp, alpha, device, str(folder.resolve()) if cluster is None else None)
            for slide, folder in places.items()]
    with Progress(len(work), "slides", "slide") as bar:
        report = jobs.run(score, work, key=lambda job: Path(job.path).stem, write=_write, out=out, done=_done,
                          workers=workers, cluster=cluster, progress=bar.update)
    print(report, file=sys.stderr)
    return 1 if report.failed else 0


def folders(slides: Iterable[Path], out: Path) -> dict[Path, Path]:
    """Returns slide -> folder; ValueError if two slides share one, or if one holds the result of another slide."""
    places: dict[Path, Path] = {}
    taken: dict[str, Path] = {}
    for slide in slides:
        folder = out / slide.stem
        if other := taken.get(slide.stem.casefold()):
            raise ValueError(f"{other} and {slide} would both go to {folder}; give each an --out of its own")
        try:
            found = SlideResult.load(folder)
        except (ValueError, FileNotFoundError):  # none, or none that can be read
            found = None
        if found is not None and not is_of(found, slide):
            raise ValueError(f"{folder} holds the result of {found.slide}, another slide or an older state of {slide}; "
                             "move it away, or choose another --out")
        places[slide], taken[slide.stem.casefold()] = folder, slide
    return places


def _done(folder: Path, job: Job) -> bool:
    """Tells whether a folder holds the job's result; ValueError if it is not, and holds what is not ours to replace."""
    predictor = _predictor(job.weights, "cpu", job.alpha)
    with suppress(ValueError, OSError):  # a slide that cannot be read: the worker will say so, and stop no other
        if is_finished(job.path, folder, mpp=job.mpp, fingerprint=predictor.sha256,
                       uncertain=predictor.conformal.uncertain):
            return True
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose another --out")
    others = {file.name for file in folder.glob("[!.]*")} - {*export.NAMES, PARTIAL}
    if others:
        raise ValueError(f"{folder} holds {min(others)}, which is no part of a slide's result; choose another --out")
    return False


def _write(folder: Path, files: dict[str, bytes]) -> None:
    export.publish_files(files, folder)
