"""Players behind GTP: engines as programs of their own, and our own players in this process."""

from __future__ import annotations

import contextlib
import queue
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from typing import IO, Protocol

from apps.go.gtp import Engine
from apps.go.player import Player, loaded


class Died(Exception):
    """An engine gave no answer: it died, or took too long."""


class Side(Protocol):
    """One who answers GTP commands."""

    scores: bool
    """Whether its count of a finished game is to be believed."""

    def ask(self, command: str) -> str:
        """The answer without its sign; ValueError for "?", `Died` for none."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


class Ours:
    """A player of ours behind the same protocol, without a process."""

    scores = False

    def __init__(self, player: Player, *, visits: int, seed: int) -> None:
        self._engine = Engine(player, visits=visits, seed=seed, resign_below=0.0)

    def ask(self, command: str) -> str:
        return _plain(self._engine.handle(command), command)

    def close(self) -> None:
        pass


class Program:
    """A GTP engine as a process; `timeout` seconds are the most that one answer may take."""

    def __init__(self, command: str, timeout: float) -> None:
        self._command, self._timeout = command, timeout
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        try:
            self._process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                             stderr=self._said, text=True, errors="replace", bufsize=1)
        except OSError as error:
            self._said.close()
            raise ValueError(f"{command!r} cannot be started: {error.strerror or error}") from error
        self._lines: queue.Queue[str | None] = queue.Queue()
        assert self._process.stdout
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()
        self.scores = self._is_gnugo()

    def _is_gnugo(self) -> bool:
        try:
            return "gnu go" in self.ask("name").lower()
        except (Died, ValueError) as error:
            self.close()
            raise ValueError(f"{self._command!r} does not speak GTP: it {error}") from error

    def _read(self, lines: IO[str]) -> None:
        with contextlib.suppress(ValueError, OSError):  # closed under us
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def ask(self, command: str) -> str:
        self._send(command)
        return self._answer(command, time.monotonic() + self._timeout)

    def watch(self, command: str, enough: Callable[[str], bool]) -> str:
        """The last report of an analysis, which is stopped at the first that is enough."""
        self._send(command)
        deadline, report = time.monotonic() + self._timeout, ""
        while (line := self._line(command, deadline)).strip() or not report:
            if line.startswith("?"):
                return self._answer(command, deadline, line)
            if line.startswith("info"):
                report = line
                if enough(report):
                    self._send("")
                    while self._line(command, deadline).strip():
                        pass
                    break
        return report

    def _send(self, command: str) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise Died(self._last_words("has died")) from error

    def _line(self, command: str, deadline: float) -> str:
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            self._process.kill()
            raise Died(f"gave no answer to {command!r} within {self._timeout:g} seconds") from None
        if line is None:
            raise Died(self._last_words(f"died over {command!r}"))
        return line

    def _answer(self, command: str, deadline: float, answer: str = "") -> str:
        """What comes until an empty line, beginning with a sign."""
        while True:
            line = self._line(command, deadline)
            if line.strip():
                if answer or line[0] in "=?":
                    answer += line
            elif answer:
                return _plain(answer, command)

    def _last_words(self, what: str) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._said.seek(max(0, self._said.seek(0, 2) - 400))
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        code = self._process.poll()
        return what + (f" (exit code {code})" if code is not None else "") + (f": {lines[-1][:200]}" if lines else "")

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._process.stdin:
                self._process.stdin.write("quit\n")
                self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()


def _plain(answer: str, command: str) -> str:
    """What stands after the sign and the number.

    Raises:
        ValueError: if the sign is "?".
    """
    text = re.sub(r"^[=?]\d*[ \t]*", "", answer).strip()
    if answer.startswith("?"):
        raise ValueError(f"{command!r} was refused: {text[:200]}")
    return text


def start(name: str, *, seed: int = 0, timeout: float = 60.0) -> Side:
    """Starts a player.

    Args:
        name: "random", a model of ours ("default", a file, ... with "@64" for 64 visits), or a GTP command line.

    Raises:
        ValueError: if there is no such player.
    """
    words = _words(name)
    if len(words) > 1 or shutil.which(words[0]):
        return Program(name, timeout)
    model, _, visits = name.partition("@")
    if visits and not (visits.isdecimal() and 0 < int(visits) < 10**7):
        raise ValueError(f"{name!r} asks for {visits!r} visits; a whole number such as default@64 is wanted")
    return Ours(loaded(model), visits=int(visits or 64), seed=seed)


def _words(name: str) -> list[str]:
    try:
        words = shlex.split(name)
    except ValueError as error:
        raise ValueError(f"{name!r} is no command line: {error}") from error
    if not words:
        raise ValueError("a player has no name; random, default@64 or a GTP command line is wanted")
    return words
