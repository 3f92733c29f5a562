"""A desk for a server's visitors: work of more than a moment goes to worker processes, by a short queue.

    desk = Desk(workers=1, queue=8)               # one for the whole server
    ticket = desk.submit(score_slide, path)       # returns at once
    ticket.state, ticket.ahead, ticket.progress   # to show, as often as you like
    ticket.result()                               # or ticket.cancel()

The server process stays free for clicks. Workers stay too, so what a function keeps in its module (a loaded model, say)
is there for the next ticket. They end with the server, even if that is killed.
"""

from __future__ import annotations

import atexit
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from typing import Any, Literal

from core.worker import Died, Failure, Worker, pack

State = Literal["waiting", "running", "done", "failed", "cancelled"]


class Ticket:
    """One piece of work handed in at a `Desk`; all of it may be read from any thread.

    Attributes:
        state: "waiting", "running", "done", "failed" or "cancelled".
        progress: (done, total) as the function last reported; (0, 0) before it does.
        error: None, or why it failed: one sentence for ValueError and OSError, else the traceback.
        seconds: how long it ran, or has run until now.
    """

    def __init__(self, desk: Desk, packed: bytes) -> None:
        self._desk, self._packed = desk, packed
        self._result: Any = None
        self._started = self._ended = 0.0
        self._seen = time.monotonic()
        self.state: State = "waiting"
        self.progress = (0, 0)
        self.error: str | None = None
        self._for_people = False

    @property
    def ahead(self) -> int:
        """How many tickets must end before this one starts; 0 once it runs."""
        return self._desk._ahead(self)

    @property
    def seconds(self) -> float:
        """How long it ran, or has run until now."""
        return (self._ended or time.monotonic()) - self._started if self._started else 0.0

    def look(self) -> None:
        """Says that somebody still wants this: work that nobody looks at gives way, after the desk's `patience`."""
        self._desk._look(self)

    def result(self, timeout: float | None = None) -> Any:
        """Waits for the result, and returns it.

        Raises:
            ValueError: if the function raised ValueError or OSError, with that sentence.
            RuntimeError: if it raised something else (with the traceback), or its worker died.
            concurrent.futures.CancelledError: if it was cancelled.
            TimeoutError: if it has not ended after `timeout` seconds; it goes on.
        """
        with self._desk._changed:
            if not self._desk._changed.wait_for(lambda: self.state not in ("waiting", "running"), timeout):
                raise TimeoutError(f"no result after {timeout:g} seconds; the work goes on.")
        if self.state == "cancelled":
            raise CancelledError("the work was cancelled.")
        if self.state == "failed":
            raise (ValueError if self._for_people else RuntimeError)(self.error)
        return self._result

    def cancel(self) -> bool:
        """Takes the ticket from the queue, or ends the process that works on it; False if it had ended already."""
        return self._desk._cancel(self)


class Desk:
    """A few worker processes behind a queue of bounded length; safe to use from many threads.

    Args:
        workers: pieces of work at once, each in a process of its own; they start with the first ticket.
        queue: how many tickets may wait.
        threads: compute threads of a worker.
        patience: seconds after the last `look` at a ticket until it is cancelled if it is in the way of another: its
            visitor has gone, and should find the work well under way when it is asked for again.
    """

    def __init__(self, workers: int = 1, queue: int = 8, threads: int = 1, patience: float = math.inf) -> None:
        self._size, self._threads, self._patience = queue, threads, patience
        self._changed = threading.Condition()  # guards all that follows, and every ticket's state
        self._waiting: deque[Ticket] = deque()
        self._running: dict[Ticket, Worker | None] = {}
        self._idle = workers
        self._closed = False
        self._tenders = [threading.Thread(target=self._tend, daemon=True) for _ in range(workers)]
        for tender in self._tenders:
            tender.start()
        atexit.register(self.close)

    def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Ticket:
        """Hands in a call of a function at the top of a module.

        If the function has a parameter `progress`, it gets one to call as progress(done, total).

        Raises:
            ValueError: if the queue is full, the desk closed, or the call cannot be sent to another process.
        """
        ticket = Ticket(self, pack(function, *args, **kwargs))
        with self._changed:
            if self._closed:
                raise ValueError("the server is closing and takes no more work.")
            if len(self._waiting) - self._idle >= self._size:
                self._give_way(self._waiting)
            if len(self._waiting) - self._idle >= self._size:
                raise ValueError(f"{len(self._waiting)} pieces of work are waiting already: try again in a while.")
            self._waiting.append(ticket)
            self._changed.notify_all()
        return ticket

    def close(self) -> None:
        """Ends the workers; waiting and running tickets are cancelled."""
        with self._changed:
            self._closed = True
            for ticket in [*self._waiting, *self._running]:
                self._cancel(ticket)
            self._changed.notify_all()
        for tender in self._tenders:
            tender.join()
        atexit.unregister(self.close)

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _ahead(self, ticket: Ticket) -> int:
        with self._changed:
            if ticket not in self._waiting:
                return 0
            return max(0, self._waiting.index(ticket) + 1 - self._idle)

    def _look(self, ticket: Ticket) -> None:
        with self._changed:
            ticket._seen = time.monotonic()
            if ticket.state == "waiting" and not self._idle:
                self._give_way(self._running)

    def _give_way(self, tickets: Iterable[Ticket]) -> None:
        """Cancels the tickets whose visitors have gone."""
        for ticket in [t for t in tickets if time.monotonic() - t._seen > self._patience]:
            self._cancel(ticket)

    def _cancel(self, ticket: Ticket) -> bool:
        with self._changed:
            if ticket.state == "waiting":
                self._waiting.remove(ticket)
            elif ticket.state == "running":
                if worker := self._running[ticket]:
                    worker.kill()
            else:
                return False
            self._end(ticket, "cancelled")
            return True

    def _end(self, ticket: Ticket, state: State) -> None:
        ticket.state, ticket._ended, ticket._packed = state, time.monotonic(), b""
        self._changed.notify_all()

    def _next(self) -> Ticket | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            ticket = self._waiting.popleft()
            ticket.state, ticket._started = "running", time.monotonic()
            self._running[ticket] = None
            self._idle -= 1
            return ticket

    def _tend(self) -> None:
        """Works off tickets with one worker process, which is replaced when it dies."""
        worker: Worker | None = None
        while ticket := self._next():
            try:
                worker = worker or Worker(self._threads)
                outcome = self._call(worker, ticket)
            except (Died, OSError) as error:
                outcome = Failure("", f"The work was lost: {error}.")
            if worker and not worker.alive:  # it died of the ticket, or was killed because the ticket was cancelled
                worker.close()
                worker = None
            with self._changed:
                self._idle += 1
                del self._running[ticket]
                if ticket.state == "cancelled":
                    continue
                if isinstance(outcome, Failure):
                    ticket.error = outcome.sentence or outcome.traceback
                    ticket._for_people = bool(outcome.traceback and outcome.sentence)
                else:
                    ticket._result = outcome
                self._end(ticket, "failed" if ticket.error is not None else "done")
        if worker:
            worker.close()

    def _call(self, worker: Worker, ticket: Ticket) -> Any:
        def progress(done: int, total: int) -> None:
            ticket.progress = (done, total)

        with self._changed:
            if ticket.state == "cancelled":  # while its worker was being started
                return None
            self._running[ticket] = worker
        return worker.call(ticket._packed, progress)
