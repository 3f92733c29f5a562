"""The engine of `core.jobs` on one machine: child processes, each tended by a thread of this process."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

from core.worker import DEATHS, Died, Failure, Worker, pack


def outcomes(
    function: Callable[[Any], Any], todo: dict[str, Any], workers: int | None, threads: int, gpus: float
) -> Generator[tuple[str, Any], None, None]:
    """Yields (key, result or Failure) for every piece of `todo`, in the order they land; see `core.jobs.run`."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cards = _share(gpus) if gpus else [""] * len(todo)
    count = min(workers or max(1, cpus // threads), len(todo), len(cards))
    waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for name in todo:
        waiting.put(name)
    # Bounded, so that results do not pile up while one is being written.
    landed: queue.Queue[tuple[str, Any] | Exception] = queue.Queue(maxsize=count)
    deaths: Counter[str] = Counter()
    alive: dict[int, Worker] = {}
    stop = threading.Event()

    def tend(slot: int) -> None:
        try:
            while not stop.is_set() and (name := waiting.get()):
                try:
                    if slot not in alive:
                        alive[slot] = _start(threads, {"CUDA_VISIBLE_DEVICES": cards[slot]} if gpus else {})
                    result = alive[slot].call(pack(function, todo[name]))
                except Died as death:
                    alive.pop(slot).close()
                    deaths[name] += 1
                    if deaths[name] < DEATHS:
                        waiting.put(name)  # at the end: should it kill again, it has held up nobody
                        continue
                    result = Failure.fatal(death)
                landed.put((name, result))
        except Exception as error:
            landed.put(error)
        finally:
            if slot in alive:
                alive.pop(slot).close()

    tenders = [threading.Thread(target=tend, args=(slot,), daemon=True) for slot in range(count)]
    try:
        for tender in tenders:
            tender.start()
        for _ in range(len(todo)):
            piece = landed.get()
            if isinstance(piece, Exception):
                raise piece
            yield piece
    finally:  # also on Ctrl-C: what runs is killed, what is done is kept
        stop.set()
        for _ in tenders:
            waiting.put(None)
        while any(tender.is_alive() for tender in tenders):
            for worker in list(alive.values()):
                worker.kill()
            while not landed.empty():  # a thread may be waiting to put its last
                landed.get()
            time.sleep(0.01)


def _start(threads: int, environment: dict[str, str]) -> Worker:
    """Starts a worker; that one dies while it starts may be chance, that five do is not."""
    for _ in range(DEATHS - 1):
        with suppress(Died):
            return Worker(threads, environment)
    try:
        return Worker(threads, environment)
    except Died as death:
        raise RuntimeError(f"no worker process can be started: {death}") from death


def _share(gpus: float) -> list[str]:
    """Returns for each worker the GPUs it sees, as CUDA_VISIBLE_DEVICES; raises ValueError if not one piece fits."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    cards = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    if gpus < 1:
        slots = [card for card in cards for _ in range(int(1 / gpus))]
    else:
        each = int(gpus)
        slots = [",".join(cards[first : first + each]) for first in range(0, len(cards) - each + 1, each)]
    if not slots:
        raise ValueError(f"a piece asks for {gpus:g} GPUs and this machine shows {len(cards)}: ask for fewer.")
    return slots
