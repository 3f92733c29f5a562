"""Run state on disk: written whole or not at all, read back exactly."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from core import files

VERSION = 1


def save(path: Path, app: str, state: dict[str, Any]) -> None:
    """Publishes the state of a run (tensors, numbers, strings, lists and dicts of them)."""

    def save_to(file: IO[bytes]) -> None:
        try:
            torch.save({"version": VERSION, "app": app, **state}, file)
        except RuntimeError as error:  # torch's zip writer reports a full disk as a RuntimeError
            file.flush()
            raise OSError(28, f"the disk is full or went away ({str(error).splitlines()[0]})") from error

    files.write(path, save_to)


def load(path: Path, app: str) -> dict[str, Any]:
    """Reads the state of a run of `app`, on the CPU.

    Raises:
        ValueError: if the file is damaged, was written by another app, or by a newer version.
    """
    with open(path, "rb") as file:
        try:
            if damaged := zipfile.ZipFile(file).testzip():  # torch itself does not compare the checksums it wrote
                raise zipfile.BadZipFile(f"{damaged} has another checksum")
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a wrong byte can raise almost anything
            first = " ".join(str(error).split())[:90] or type(error).__name__
            raise ValueError(f"{path} is not a readable run state ({first}); "
                             "delete it to start the run anew, or put back a copy") from error
    if not isinstance(state, dict) or type(state.get("version")) is not int or "app" not in state:
        raise ValueError(f"{path} is not a run state of this project; choose another folder for the run")
    if state["app"] != app:
        raise ValueError(f"{path} is a run of {state['app']!r}, not of {app!r}; choose another folder for the run")
    if state["version"] > VERSION:
        raise ValueError(f"{path} has format {state['version']}, this program reads up to {VERSION}; update it")
    return state
