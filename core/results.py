"""Measured figures on file: results.json, one section per command, and the tables in READMEs that are made from it."""

from __future__ import annotations

import datetime
import json
import os
import sys
from pathlib import Path
from typing import Any

from core.files import publishing


def read(path: Path) -> dict[str, Any]:
    """The sections of a file of results, none if it is not there; asked before long work, which it then can take.

    Raises:
        ValueError: if the file is no file of results, or its folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path.parent} cannot be written; choose another file")
    try:
        results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no readable file of results ({error}); choose another file") from error
    if not isinstance(results, dict) or not all(isinstance(section, dict) for section in results.values()):
        raise ValueError(f"{path} is no file of results: it holds other JSON; choose another file")
    return results


def no_sample(sha256: str, sample: str, path: Path, own: Path) -> None:
    """Keeps scores on a sample of ours, wherever it lies, out of a room's own results.

    Args:
        sha256, sample: of the data that is scored, and of the sample.
        path, own: the file that the scores are to go to, and the room's own.

    Raises:
        ValueError: if both are the same.
    """
    if sha256 == sample and Path(path).resolve() == own:
        raise ValueError("only this project's sample is here, whose scores are no results: set WUNDERKAMMER_DATA to "
                         "the folder of the real data, or pass --folder sample --out FILE to see how it works")


def record(path: Path, name: str, section: dict[str, Any], program: str) -> None:
    """Puts one section into the file of results, with the date and the command that made it.

    Args:
        program: the module that was run, such as "apps.go.evaluate"; its arguments are this process's.
    """
    results = read(path)
    command = f"python -m {program} " + " ".join(sys.argv[1:])
    results[name] = {"date": datetime.date.today().isoformat(), "command": command.strip(), **section}
    with publishing(path) as part:
        part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def between_marks(path: Path, text: str, begin: str = "<!-- results -->", end: str = "<!-- /results -->") -> None:
    """Replaces what stands between two marks in a text file.

    Raises:
        ValueError: if the marks are not there.
    """
    before = path.read_text(encoding="utf-8")
    if begin not in before or end not in before:
        raise ValueError(f"{path} has no lines {begin} and {end} to write the table between")
    head, tail = before.split(begin)[0], before.split(end)[1]
    with publishing(path) as part:
        part.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")


def table(rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
