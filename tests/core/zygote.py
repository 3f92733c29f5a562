"""Forks trainings that are to be killed: torch is imported once, not for each of them.

Reads one order a line from stdin, `{"train": {...}, "life": {...}}`; answers each with `{"status", "errors"}`.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # the first optimizer step would import it, for seconds, in every child

from core.cli import main
from tests.core.training import loss_fn, train


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(place: str, count: int) -> None:
    """Arranges for death in the middle of the save: at the count-th call of a function that publishing a file needs."""
    calls = 0
    real_save, real_fsync, real_replace = torch.save, os.fsync, os.replace

    def due() -> bool:
        nonlocal calls
        calls += 1
        return calls == count

    def save(state: Any, file: Any) -> None:
        if due():
            whole = io.BytesIO()
            real_save(state, whole)
            file.write(whole.getvalue()[: whole.tell() // 2])
            file.flush()
            die()
        real_save(state, file)

    def fsync(descriptor: int) -> None:
        if due():
            die()
        real_fsync(descriptor)

    def replace(part: Any, path: Any) -> None:
        last = due()
        if last and place == "before rename":
            die()
        real_replace(part, path)
        if last:
            die()

    if place == "half written":
        torch.save = save
    elif place == "before sync":
        os.fsync = fsync
    else:
        os.replace = replace


def live(options: dict[str, Any], life: dict[str, Any]) -> None:
    """Trains: as another user, with room for small files only, or until a death on the way, if `life` says so."""
    loss, calls = loss_fn, 0

    def loss_then_die(model: Any, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == life["calls"]:
            threading.Timer(life["seconds"], die).start()
        return loss_fn(model, batch)

    if "place" in life:
        kill_at(life["place"], life["count"])
    if "seconds" in life:
        loss = loss_then_die
    if "largest_file" in life:
        resource.setrlimit(resource.RLIMIT_FSIZE, (life["largest_file"],) * 2)
    if "user" in life:
        os.setuid(life["user"])
    out = Path(options.pop("out"))
    main(lambda: train(out, loss=loss, **options))


if __name__ == "__main__":
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(writing, 2)
            code = 0
            try:
                live(order["train"], order["life"])
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading) as errors:
            said = errors.read()
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status), "errors": said}), flush=True)
