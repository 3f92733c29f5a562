"""One child process that runs functions for its parent, over a private pipe.

Why not `multiprocessing`? Its spawned children first run the parent's main script again (which, for a Streamlit site,
is a page), and its executor gives up all work when one child dies. Here a child is a fresh interpreter that knows
nothing of the parent's script, and its death concerns the one call it was busy with.

A child dies with its parent, however the parent dies: one of its threads always reads the pipe, and the pipe's end is
its own end.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from inspect import Parameter, signature
from io import BytesIO
from types import FunctionType
from typing import Any

DEATHS = 5  # of one piece of work before it is given up; workers killed by chance do not meet one piece that often
_BOOT = "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from core.worker import serve; serve()"


class Died(Exception):
    """The child ended before it answered; the text says how."""


@dataclass(frozen=True)
class Failure:
    """What a call raised: its traceback, and the sentence for people where there is one (ValueError, OSError)."""

    traceback: str
    sentence: str | None = None

    @staticmethod
    def fatal(death: Exception) -> Failure:
        """The failure of a piece of work of which DEATHS workers died."""
        return Failure(f"Given up, for {DEATHS} workers died of it; the last: {death}")


def thread_limits(threads: int) -> dict[str, str]:
    """Returns the environment that holds torch, BLAS and numba to so many threads; set it before they are imported."""
    libraries = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA")
    return {f"{name}_NUM_THREADS": str(threads) for name in libraries} | {"VECLIB_MAXIMUM_THREADS": str(threads)}


def pack(function: Callable, *args: Any, **kwargs: Any) -> bytes:
    """Pickles a call for a fresh interpreter; raises ValueError where that interpreter could not find the function."""
    buffer = BytesIO()
    try:
        _Pickler(buffer, protocol=5).dump((function, args, kwargs))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        name = getattr(function, "__qualname__", repr(function))
        raise ValueError(
            f"{name} cannot be sent to another process with its arguments ({error}): "
            "use a function at the top of a module, and plain data."
        ) from error
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """Names what the running script defines by its module, for in the child `__main__` is something else."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type | FunctionType) and obj.__module__ == "__main__":
            spec = getattr(sys.modules["__main__"], "__spec__", None)
            if spec is None:
                raise ValueError(
                    f"{obj.__qualname__} is defined in the script itself, where other processes cannot find it: "
                    "move it to a module, or start the script with python -m."
                )
            return _named, (spec.name, obj.__qualname__)
        return NotImplemented


def _named(module: str, qualname: str) -> Any:
    found: Any = import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


class Worker:
    """A child process: one call at a time, from one thread at a time, though any thread may `kill` it."""

    def __init__(self, threads: int = 1, environment: dict[str, str] | None = None) -> None:
        """Starts the child, with so many compute threads, and returns when it is up; raises Died if it cannot."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | thread_limits(threads) | (environment or {}),
            start_new_session=True,  # Ctrl-C is for the parent, and what the child starts can be ended with it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self.pid = self._process.pid
        try:
            self._send([os.path.abspath(path) for path in sys.path])
            self._receive()
        except BaseException:
            self.close()
            raise

    def call(self, packed: bytes, progress: Callable[[int, int], None] | None = None) -> Any:
        """Makes a call from `pack` and returns its result, or a Failure; raises Died if the child ends first.

        If the function has a parameter `progress`, its reports (done, total) come to ours, at most 20 a second.
        """
        self._send((packed, progress is not None))
        while True:
            kind, value = self._receive()
            if kind != "progress":
                return outcome(kind, value)
            if progress is not None:
                progress(*value)

    @property
    def alive(self) -> bool:
        """Whether the child still runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Ends the child at once, and whatever it has started; a call under way in another thread raises Died."""
        if self._process.returncode is None:  # not yet reaped, so that its number still means this child
            _kill_group(self.pid)
        self._process.wait()

    def close(self) -> None:
        """Ends the child and lets go of the pipe; not while another thread is in `call`."""
        self.kill()
        for pipe in (self._to, self._from):
            with suppress(OSError):  # what was not yet sent can no longer be sent
                pipe.close()

    def _send(self, message: Any) -> None:
        try:
            pickle.dump(message, self._to, protocol=5)
            self._to.flush()
        except OSError as error:
            raise self._death() from error

    def _receive(self) -> tuple[str, Any]:
        try:
            return pickle.load(self._from)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._death() from error

    def _death(self) -> Died:
        with suppress(subprocess.TimeoutExpired):  # the pipe closes a moment before the process ends, by its own code
            self._process.wait(timeout=1)
        _kill_group(self.pid)
        code = self._process.wait()
        if code >= 0:
            return Died(f"the worker process ended with exit code {code}")
        hint = "; the machine may be out of memory" if code == -9 else ""
        return Died(f"the worker process was killed by signal {signal.Signals(-code).name}{hint}")


def _kill_group(pid: int) -> None:
    try:
        if hasattr(os, "killpg"):
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):  # gone already (some systems say so by EPERM)
        pass


def serve() -> None:
    """Answers the parent's calls until the pipe closes; this is the child's whole life."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what a function prints must not get between the answers
    if hasattr(os, "register_at_fork"):  # a forked grandchild that held the pipe would hide this child's death
        pipe = (incoming.fileno(), outgoing.fileno())
        os.register_at_fork(after_in_child=lambda: [os.dup2(nothing, fd) for fd in pipe])
    calls: queue.SimpleQueue[tuple[bytes, bool]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(incoming, calls), daemon=True).start()
    lock = threading.Lock()

    def send(kind: str, value: Any) -> None:
        with lock:
            pickle.dump((kind, value), outgoing, protocol=5)
            outgoing.flush()

    send("ready", None)
    while True:
        packed, wants_progress = calls.get()
        send(*attempt(packed, (lambda done, total: send("progress", (done, total))) if wants_progress else None))


def attempt(packed: bytes, progress: Callable[[int, int], None] | None = None) -> tuple[str, Any]:
    """Makes a call from `pack`; returns ("result", the result pickled) or ("failure", a Failure), never raises."""
    try:
        function, args, kwargs = pickle.loads(packed)
        if progress is not None and _takes_progress(function):
            kwargs["progress"] = _throttled(progress)
        # Pickled on its own, whole, before its first byte leaves: a result that cannot be pickled spoils no pipe.
        return "result", pickle.dumps(function(*args, **kwargs), protocol=5)
    except BaseException as error:  # SystemExit too: a function may end itself, not the worker
        sentence = str(error) if isinstance(error, ValueError | OSError) else None
        return "failure", Failure(traceback.format_exc(), sentence)


def outcome(kind: str, value: Any) -> Any:
    """Turns what `attempt` returned, in the process that asked for it, into the result or a Failure."""
    if kind == "failure":
        return value
    try:
        return pickle.loads(value)
    except Exception as error:
        return Failure(traceback.format_exc(), f"The result cannot be read back in this process: {error}")


def _read(incoming: Any, calls: queue.SimpleQueue) -> None:
    try:
        while True:
            calls.put(pickle.load(incoming))
    except (EOFError, OSError, pickle.UnpicklingError):  # the parent is gone
        _kill_group(os.getpid())
        os._exit(0)


def _takes_progress(function: Callable) -> bool:
    try:
        parameter = signature(function).parameters.get("progress")
    except (TypeError, ValueError):  # some builtins have no signature
        return False
    return parameter is not None and parameter.kind in (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def _throttled(report: Callable[[int, int], None], interval: float = 0.05) -> Callable[[int, int], None]:
    last = -interval

    def progress(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= interval or done == total:
            last = now
            report(int(done), int(total))

    return progress
