"""Many slides, side by side: a pool of processes here, or the same call on a Ray cluster; each slide is done once."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from apps.pathology import export
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


def score(job: Job) -> dict[str, bytes]:
    """Scores a slide where this process runs; every export by file name, as bytes that travel back."""
    return export.files(_predictor(job.weights, job.device, job.alpha).slide(job.path, job.mpp))


@cache
def _predictor(weights: str, device: str, alpha: float):
    from apps.pathology.predict import load

    return load(weights, device, alpha=alpha)


def score_list(listing: Path, *, out: Path, weights: str = "default", mpp: float | None = None, alpha: float = 0.05,
               device: str = "auto", workers: int = 1, cluster: str | None = None) -> int:
    """Scores the slides that a text file names, one per line; a finished one is never done twice.

    Args:
        listing: paths, relative to the file's own folder or absolute; empty lines and lines after # are passed over.
        out: gets one folder per slide, named after it.
        workers: processes, or tasks at once on the cluster.
        cluster: None here, `auto` or an address for Ray; the slides must be readable there under the same paths.

    Returns:
        0 if every slide has its result, 1 if some failed (each is named on stderr with the reason).

    Raises:
        ValueError: if the list is empty, or a slide on it is not there.
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
    work = [Job(str(slide.resolve()), weights, mpp, alpha, device) for slide in slides]
    with Progress(len(work), "slides", "slide") as bar:
        report = jobs.run(score, work, key=lambda job: Path(job.path).stem, write=_write, out=out, workers=workers,
                          cluster=cluster, progress=bar.update)
    print(report, file=sys.stderr)
    return 1 if report.failed else 0


def _write(folder: Path, files: dict[str, bytes]) -> None:
    export.publish_files(files, folder)
