"""Many independent pieces of work: a pool of processes here, Ray tasks on a cluster, each piece landed once.

    report = run(score, slides, key=name, write=save, out=folder, workers=4)

`function` runs elsewhere, `write` runs here: each result comes back and appears under its name whole. So no disk is
shared with the machines that compute, and a file that is there is done, unless `done` says that it is another's. That
is the whole protocol: killed at any instant, the same command goes on.
"""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from core import cluster as ray_cluster
from core import pool
from core.worker import Failure

Item = TypeVar("Item")
Result = TypeVar("Result")

FORBIDDEN = set('/\\:*?"<>|')


@dataclass
class Report:
    """What became of the pieces, by key; `failed` holds (key, traceback)."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.done) + len(self.skipped) + len(self.failed)

    def __str__(self) -> str:
        text = f"{len(self.done)} done, {len(self.skipped)} already there, {len(self.failed)} failed"
        lines = [f"{key}: {trace.strip().splitlines()[-1]}" for key, trace in self.failed]
        return "\n  ".join([text, *lines])


def run(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    key: Callable[[Item], str],
    write: Callable[[Path, Result], Any],
    out: Path | str,
    done: Callable[[Path, Item], bool] | None = None,
    workers: int | None = None,
    threads: int = 1,
    gpus: float = 0,
    cluster: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Runs `function(item)` for every item whose result is not there yet, and returns what became of each.

    A piece that raises is reported and stops nothing else. A piece whose worker or node dies runs again; one of which
    five workers die is reported. Results must depend on the item alone, for who runs what is left to chance.

    Args:
        function: a function at the top of a module; it runs in a fresh process, which it shares with later pieces.
        key: names the piece's result, a file (or folder) in `out`; different for every item.
        write: writes a result to the path it is given, in this process; it may make a folder there.
        out: the folder of the results, made if need be; one run at a time may use it.
        done: asked in this process whether what lies at a path is the item's result; if not, it is replaced as a whole.
            By default whatever is there is the result.
        workers: pieces at once, 1 or more; by default as many as fit this machine, or the cluster.
        threads: compute threads (on a cluster: CPUs) of a piece, 1 or more.
        gpus: GPUs of a piece: 0, a fraction that several pieces share, or a whole number.
        cluster: None for processes on this machine; "auto" or an address for Ray.
        progress: called as progress(done, total), what is skipped or failed counted too.

    Raises:
        ValueError: if a key is no safe file name or comes twice, another run uses `out`, there is no such cluster, or
            `workers`, `threads` or `gpus` is no such number.
        OSError: if a result cannot be written.
    """
    _check(workers, threads, gpus)
    pieces = _named(items, key)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(out / ".lock").acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"{out} is in use by another run: wait until it ends, or choose another folder.") from error
    with lock:
        writing = out / ".writing"
        shutil.rmtree(writing, ignore_errors=True)  # what a killed run left half written
        todo = {name: item for name, item in pieces.items() if not _landed(out / name, item, done)}
        report = Report(skipped=[name for name in pieces if name not in todo])
        if progress:
            progress(len(report.skipped), len(pieces))
        if not todo:
            return report
        writing.mkdir()
        if cluster is None:
            landing = pool.outcomes(function, todo, workers, threads, gpus)
        else:
            landing = ray_cluster.outcomes(function, todo, workers, threads, gpus, cluster)
        try:
            with closing(landing) as outcomes:
                for name, result in outcomes:
                    if not isinstance(result, Failure):
                        result = _publish(writing / name, out / name, write, result)
                    if isinstance(result, Failure):
                        report.failed.append((name, result.traceback))
                    else:
                        report.done.append(name)
                    if progress:
                        progress(len(report), len(pieces))
        finally:
            shutil.rmtree(writing, ignore_errors=True)
    return report


def _check(workers: int | None, threads: int, gpus: float) -> None:
    for name, count in (("workers", workers), ("threads", threads)):
        if count is not None and count < 1:
            raise ValueError(f"{name} is {count}: a whole number of 1 or more is wanted.")
    if not (0 <= gpus <= 1 or (gpus > 1 and gpus % 1 == 0)):
        raise ValueError(f"gpus is {gpus:g}: 0, a fraction, or a whole number of GPUs for each piece is wanted.")


def _landed(path: Path, item: Item, done: Callable[[Path, Item], bool] | None) -> bool:
    return path.exists() and (done is None or done(path, item))


def _named(items: Iterable[Item], key: Callable[[Item], str]) -> dict[str, Item]:
    """Returns key -> item; raises ValueError for a key that is not a safe file name on every system, or comes twice."""
    pieces: dict[str, Item] = {}
    seen: set[str] = set()
    for item in items:
        name = key(item)
        safe = (
            0 < len(name.encode("utf-8", "replace")) <= 200
            and name.isprintable()
            and not FORBIDDEN & set(name)
            and name[0] not in ". "
            and name[-1] not in ". "
        )
        if not safe:
            raise ValueError(
                f"the key {name!r} cannot name a file: a key has 1 to 200 bytes, no {' '.join(sorted(FORBIDDEN))} "
                "and no control characters, and neither starts nor ends with a dot or a space."
            )
        if name.casefold() in seen:  # casefold: some file systems do not tell A from a
            raise ValueError(f"two items have the key {name!r}: each piece needs a result of its own.")
        seen.add(name.casefold())
        pieces[name] = item
    return pieces


def _publish(part: Path, path: Path, write: Callable[[Path, Any], Any], result: Any) -> Failure | None:
    """Writes a result under its name in a side folder, then moves it where it counts, whole and on the disk.

    What is there and not done makes way, into the side folder: a folder in use cannot be replaced at one stroke.
    """
    try:
        write(part, result)
        if not part.exists():
            raise FileNotFoundError(f"write was to make {part.name} at the path it was given, and did not")
    except OSError:  # the disk is full or gone: no later piece would fare better
        raise
    except Exception:
        return Failure(traceback.format_exc())
    for file in (part, *part.rglob("*")):
        _sync(file)
    if path.is_dir():
        os.replace(path, part.with_name(f".{part.name}"))
    os.replace(part, path)
    _sync(path.parent)
    return None


def _sync(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return  # only POSIX has folders that can be opened
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
