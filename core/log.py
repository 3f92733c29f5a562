"""One record per event: a progress bar for people, log.jsonl for programs, TensorBoard by a flag."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from core.files import publishing


class Progress:
    """A bar on stderr with rate and time left; `update` takes the count done so far.

    >>> with Progress(3, "tiles", disable=True) as bar:
    ...     bar.update(3)
    """

    def __init__(self, total: int, label: str = "", unit: str = "it", *, start: int = 0, disable: bool = False) -> None:
        # Without a terminal a line every ten seconds is enough, and where stderr is closed (`2>&-`) there is no bar.
        disable = disable or sys.stderr is None or sys.stderr.closed
        quiet = disable or not sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=start, desc=label or None, unit=unit, disable=disable,
                         dynamic_ncols=True, mininterval=10.0 if quiet else 0.1)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def update(self, done: int, total: int | None = None) -> None:
        """Moves the bar to `done`; can be passed wherever a `progress(done, total)` function is wanted."""
        if total is not None and total != self._bar.total:
            self._bar.total = total
        self._bar.update(done - self._bar.n)

    __call__ = update

    def say(self, text: str) -> None:
        """Shows a short text behind the bar."""
        self._bar.set_postfix_str(text, refresh=False)


class Log:
    """The diary of a run.

    `log.jsonl` holds what was learned: it is a pure function of the run's configuration, so an interrupted and
    resumed run writes the same bytes as one that was left alone. `times.jsonl` holds what differs each time:
    the date, the seconds, the rate.

    Args:
        folder: the run's folder; None keeps no files (ranks other than the first).
        step: the step the run resumes from; records of later steps, which will be made again, are dropped.
        tensorboard: write TensorBoard event files under `folder/tensorboard` too.
    """

    def __init__(self, folder: Path | None, step: int = 0, *, tensorboard: bool = False) -> None:
        self.folder = folder
        self._board: Any = None
        if folder is None:
            return
        for name in ("log.jsonl", "times.jsonl"):
            _keep_until(folder / name, step)
        # Unbuffered: a line that a full disk refuses is refused once, not again when the file is closed.
        self._records = open(folder / "log.jsonl", "ab", buffering=0)  # noqa: SIM115  (closed by close)
        self._times = open(folder / "times.jsonl", "ab", buffering=0)  # noqa: SIM115
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def write(self, event: str, step: int, values: dict[str, Any], times: dict[str, float] | None = None) -> None:
        """Writes one record: its event (`train`, `evaluate`), the number of steps done, and named values."""
        if self.folder is None:
            return
        record = {"event": event, "step": step, **{key: _plain(value) for key, value in values.items()}}
        _append(self._records, record)
        clock = {"event": event, "step": step, "time": round(time.time(), 3),
                 **{key: _plain(value) for key, value in (times or {}).items()}}
        _append(self._times, clock)
        if self._board is not None:
            for key, value in {**values, **(times or {})}.items():
                if isinstance(_plain(value), int | float):
                    self._board.add_scalar(f"{event}/{key}", value, step)

    def close(self) -> None:
        """Closes the files."""
        if self.folder is not None:
            self._records.close()
            self._times.close()
        if self._board is not None:
            self._board.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Reads a log.jsonl; a last line cut short by a crash is left out.

    Raises:
        ValueError: naming the file and the line that is JSON but no record of a step.
    """
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(record, dict) or type(record.get("step")) is not int:
            raise ValueError(f"{path}: line {number} is no record of a step; delete the line, or move the file away")
        records.append(record)
    return records


def _append(file: IO[bytes], record: dict[str, Any]) -> None:
    line = json.dumps(record).encode() + b"\n"
    try:
        if file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise type(error)(f"{file.name} cannot be written: {error.strerror}; free space, and start again") from error


def _keep_until(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = [record for record in read(path) if record["step"] <= step]
    with publishing(path) as part:
        part.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")


def _plain(value: Any) -> Any:
    """Rounds a float to 6 significant digits, so that a line of the log can be read; NaN becomes null."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
