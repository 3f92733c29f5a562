import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from core.desk import Desk
from tests.core import pieces

ROOT = Path(__file__).resolve().parents[2]


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


def test_a_ticket_shows_its_progress_and_gives_its_result():
    with Desk() as desk:
        ticket = desk.submit(pieces.count_to, 20, seconds=0.02)
        seen = []
        while ticket.state in ("waiting", "running"):
            seen.append(ticket.progress)
            time.sleep(0.005)
        assert ticket.result() == 20
        assert (ticket.state, ticket.progress, ticket.error) == ("done", (20, 20), None)
        assert seen == sorted(seen)
        assert len(set(seen)) > 3
        assert 0.4 < ticket.seconds < 60
        assert not ticket.cancel()


def test_tickets_wait_their_turn_in_a_queue_of_bounded_length(tmp_path):
    with Desk(workers=1, queue=2) as desk:
        first = desk.submit(pieces.pid_after, 60, tmp_path)
        wait_for(lambda: list(tmp_path.iterdir()))
        second, third = desk.submit(pieces.remembered, 2), desk.submit(pieces.remembered, 3)
        assert [ticket.ahead for ticket in (first, second, third)] == [0, 1, 2]
        assert [ticket.state for ticket in (first, second, third)] == ["running", "waiting", "waiting"]
        with pytest.raises(ValueError, match="2 pieces of work are waiting already: try again in a while"):
            desk.submit(pieces.remembered, 4)
        with pytest.raises(TimeoutError, match="the work goes on"):
            second.result(timeout=0.01)
        assert second.cancel()
        assert third.ahead == 1
        assert first.cancel()
        assert third.result(timeout=60) == [3]
        with pytest.raises(CancelledError):
            second.result()


def test_cancelling_what_runs_ends_its_process_and_a_new_one_goes_on(tmp_path):
    with Desk() as desk:
        ticket = desk.submit(pieces.pid_after, 60, tmp_path)
        wait_for(lambda: list(tmp_path.iterdir()))
        [mark] = tmp_path.iterdir()
        assert ticket.cancel()
        assert ticket.state == "cancelled"
        assert gone(int(mark.name))
        with pytest.raises(CancelledError):
            ticket.result()
        assert desk.submit(pieces.pid_after, 0).result(timeout=60) != int(mark.name)


def test_what_nobody_looks_at_gives_way_only_to_those_who_wait(tmp_path):
    with Desk(workers=1, queue=1, patience=0.5) as desk:
        left = desk.submit(pieces.pid_after, 60, tmp_path)
        wait_for(lambda: list(tmp_path.iterdir()))
        time.sleep(0.6)
        assert left.state == "running", "nobody else wants anything"
        waits = desk.submit(pieces.remembered, 1)
        left.look()
        waits.look()
        assert left.state == "running", "somebody looked a moment ago"
        time.sleep(0.6)
        waits.look()
        assert left.state == "cancelled"
        assert waits.result(timeout=60) == [1]


def test_a_queue_of_the_gone_is_no_queue(tmp_path):
    with Desk(workers=1, queue=1, patience=0.5) as desk:
        runs = desk.submit(pieces.pid_after, 60, tmp_path)
        wait_for(lambda: list(tmp_path.iterdir()))
        gone = desk.submit(pieces.remembered, 1)
        with pytest.raises(ValueError, match="1 pieces of work are waiting already"):
            desk.submit(pieces.remembered, 2)
        time.sleep(0.6)
        runs.look()
        last = desk.submit(pieces.remembered, 2)
        assert (runs.state, gone.state, last.ahead) == ("running", "cancelled", 1)


def test_a_worker_that_dies_fails_its_own_ticket_only():
    with Desk() as desk:
        before, dying, after = (desk.submit(*call) for call in ((pieces.blank, 1), (pieces.die,), (pieces.blank, 2)))
        assert before.result(timeout=60) == bytes(1)
        with pytest.raises(RuntimeError, match="the worker process was killed by signal SIGKILL"):
            dying.result(timeout=60)
        assert dying.state == "failed"
        assert after.result(timeout=60) == bytes(2)


def test_errors_for_people_are_one_sentence_and_others_a_traceback():
    with Desk() as desk:
        for kind in ("value", "os"):
            ticket = desk.submit(pieces.refuse, kind)
            with pytest.raises(ValueError, match=r"^3 eggs were seen, 2 wanted$"):
                ticket.result(timeout=60)
            assert ticket.error == "3 eggs were seen, 2 wanted"
        ticket = desk.submit(pieces.refuse, "key")
        with pytest.raises(RuntimeError, match="KeyError"):
            ticket.result(timeout=60)
        assert ticket.error.startswith("Traceback")
        assert "in refuse" in ticket.error
        with pytest.raises(ValueError, match="use a function at the top of a module"):
            desk.submit(lambda: None)


def test_a_function_that_returns_none_is_done():
    with Desk() as desk:
        ticket = desk.submit(pieces.environment, "NO_SUCH_VARIABLE")
        assert ticket.result(timeout=60) is None
        assert ticket.state == "done"


def test_what_a_module_keeps_is_there_for_the_next_ticket():
    with Desk() as desk:
        tickets = [desk.submit(pieces.remembered, number) for number in range(3)]
        assert [ticket.result(timeout=60) for ticket in tickets] == [[0], [0, 1], [0, 1, 2]]
        assert desk.submit(pieces.environment, "OMP_NUM_THREADS").result(timeout=60) == "1"


def test_many_visitors_get_each_their_own_result():
    with Desk(workers=2, queue=100) as desk:
        results: dict[int, bytes] = {}

        def visit(number: int) -> None:
            results[number] = desk.submit(pieces.blank, number).result(timeout=60)

        visitors = [threading.Thread(target=visit, args=(number,)) for number in range(50)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join()
        assert results == {number: bytes(number) for number in range(50)}


def test_close_cancels_all_and_leaves_no_process(tmp_path):
    desk = Desk(workers=2)
    tickets = [desk.submit(pieces.pid_after, 60, tmp_path) for _ in range(3)]
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    desk.close()
    assert [ticket.state for ticket in tickets] == ["cancelled"] * 3
    assert all(gone(int(mark.name)) for mark in tmp_path.iterdir())
    with pytest.raises(ValueError, match="takes no more work"):
        desk.submit(pieces.blank, 1)


SERVER = """
import sys
from pathlib import Path
with open("starts", "a") as file:
    file.write(__name__ + "\\n")
from core.desk import Desk
from tests.core import pieces
desk = Desk()
ticket = desk.submit(pieces.pid_after, 600, Path("marks"))
while not any(Path("marks").iterdir()):
    pass
print("up", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_workers_never_run_the_server_script_and_end_with_the_server(tmp_path, end):
    (tmp_path / "marks").mkdir()
    (tmp_path / "server.py").write_text(SERVER)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "server.py"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdout.readline() == "up\n"
        [mark] = (tmp_path / "marks").iterdir()
        assert not gone(int(mark.name))
        if end == "kill":
            server.kill()
        else:
            server.stdin.write("\n")
            server.stdin.flush()
        assert server.wait(timeout=30) == (-9 if end == "kill" else 0)
    wait_for(lambda: gone(int(mark.name)))
    assert (tmp_path / "starts").read_text() == "__main__\n"
