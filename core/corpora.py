"""Where a data set lies: beside the project, or where `WUNDERKAMMER_DATA` says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"


def folder(name: str, given: str | Path, holds: Callable[[Path], object]) -> Path:
    """The folder of a data set: the given one (`sample` is ours), else `$WUNDERKAMMER_DATA/<name>`, data/<name>, or the
    sample; in the folder itself or in `raw`, where `prepare` puts what it gets.

    Args:
        holds: true of a folder with files of that data set.

    Raises:
        ValueError: if the given folder, or that of `WUNDERKAMMER_DATA`, does not exist.
    """
    sample = DATA / name / "sample"
    if str(given) == "sample":
        return sample
    if given:
        if not Path(given).is_dir():
            raise ValueError(f"{given} is not a folder; pass the folder that holds the {name} files")
        return _inner(Path(given), holds) or Path(given)
    if root := os.environ.get("WUNDERKAMMER_DATA"):
        home = Path(root) / name
        if not home.is_dir():
            raise ValueError(f"WUNDERKAMMER_DATA is {root!r}, which has no folder {name}; set it to the one above "
                             f"{name}")
        return _inner(home, holds) or home
    return _inner(DATA / name, holds) or sample


def _inner(home: Path, holds: Callable[[Path], object]) -> Path | None:
    return next((f for f in (home, home / "raw") if holds(f)), None)
