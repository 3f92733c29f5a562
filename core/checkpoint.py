"""Run state on disk: written whole or not at all, read back exactly."""

from __future__ import annotations

import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

VERSION = 1
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


def save(path: Path, app: str, state: dict[str, Any]) -> None:
    """Publishes the state of a run (tensors, numbers, strings, lists and dicts of them)."""

    def save_to(file: IO[bytes]) -> None:
        try:
            torch.save({"version": VERSION, "app": app, **state}, file)
        except RuntimeError as error:  # torch's zip writer reports a full disk as a RuntimeError
            file.flush()
            raise OSError(28, f"the disk is full or went away ({str(error).splitlines()[0]})") from error

    write(path, save_to)


def load(path: Path, app: str) -> dict[str, Any]:
    """Reads the state of a run of `app`, on the CPU.

    Raises:
        ValueError: if the file is damaged, was written by another app, or by a newer version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path} is not a readable run state ({str(error).splitlines()[0][:90]}); "
                         "delete it to start the run anew, or put back a copy") from error
    if not isinstance(state, dict) or "version" not in state or "app" not in state:
        raise ValueError(f"{path} is not a run state of this project; choose another folder for the run")
    if state["app"] != app:
        raise ValueError(f"{path} is a run of {state['app']!r}, not of {app!r}; choose another folder for the run")
    if state["version"] > VERSION:
        raise ValueError(f"{path} has format {state['version']}, this program reads up to {VERSION}; update it")
    return state


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
