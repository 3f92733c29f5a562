"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

UMASK = os.umask(0)  # it can only be read by setting it: once, before there are threads
os.umask(UMASK)


@contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to; it becomes `path` when the block ends well, and vanishes when it does not.

    A reader sees the old file or the new one, never half of either, whenever the process or the machine dies.

    Raises:
        OSError: in one sentence, if the folder cannot be written or the disk is full.
    """
    path = Path(path)
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f".{path.name}.*.part"):  # of a process that was killed while it wrote
            if not _alive(stale):
                stale.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.{os.getpid()}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(name)
        yield part
        part.chmod(0o666 & ~UMASK)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise type(error)(f"{path} cannot be written: {error.strerror or error}; free space or choose another folder") \
            from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def write(path: Path, write_to: Callable[[IO[bytes]], Any]) -> None:
    """Publishes a file through a function that writes to an open binary file."""
    with publishing(path) as part, open(part, "wb") as file:
        write_to(file)


@contextmanager
def owning(folder: Path) -> Iterator[None]:
    """Holds a run's folder, so that a second training cannot silently write into it; it may be held again inside.

    Raises:
        ValueError: if another process (or thread) holds it.
        OSError: in one sentence, if the folder cannot be written.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        lock = FileLock(Path(folder).resolve() / ".lock", timeout=0, is_singleton=True)
        lock.acquire()
    except Timeout:
        raise ValueError(f"another training is writing into {folder}; wait for it or choose another folder") from None
    except OSError as error:
        raise type(error)(f"{folder} cannot be written: {error.strerror}; choose another folder with --out") from error
    try:
        yield
    finally:
        lock.release()


def _alive(part: Path) -> bool:
    pid = part.name.split(".")[-3]
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # a rename is durable once its folder is
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
