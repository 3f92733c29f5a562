import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from core import jobs, pool
from tests.core import pieces
from tests.core.pieces import Piece

ROOT = Path(__file__).resolve().parents[2]
DRIVER = """
import sys
from pathlib import Path
from core import jobs
from tests.core import pieces
out, marks, seconds, function = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
work = [pieces.Piece(number, marks, seconds) for number in range(24)]
try:
    print(jobs.run(getattr(pieces, function), work, key=pieces.key, write=pieces.write, out=out, workers=2))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


def results(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}


def executions(marks: Path) -> Counter[int]:
    return Counter(int(mark.name.split("-")[0]) for mark in marks.iterdir())


def run(function, work, out, **options):
    return jobs.run(function, work, key=pieces.key, write=pieces.write, out=out, **{"workers": 2, **options})


def test_killed_workers_cost_no_piece_and_change_no_byte(tmp_path, marks):
    work = [Piece(number, marks, 0.01) for number in range(200)]
    kills, over, chance = [], threading.Event(), random.Random(1)

    def kill_workers() -> None:
        while not over.wait(chance.uniform(0.02, 0.15)):
            recent = sorted(marks.iterdir(), key=lambda mark: int(mark.name.split("-")[2]))[-2:]
            if recent and len(kills) < 20:
                pid = int(chance.choice(recent).name.split("-")[1])
                try:
                    os.kill(pid, signal.SIGKILL)
                    kills.append(pid)
                except ProcessLookupError:
                    pass

    killer = threading.Thread(target=kill_workers)
    killer.start()
    try:
        report = run(pieces.digest, work, tmp_path / "out")
    finally:
        over.set()
        killer.join()
    assert len(kills) >= 10
    assert report.failed == []
    assert report.skipped == []
    assert sorted(report.done) == [pieces.key(piece) for piece in work]
    assert results(tmp_path / "out") == {pieces.key(piece): pieces.digest(piece) for piece in work}
    assert not (tmp_path / "out" / ".writing").exists()


def test_a_piece_that_raises_is_reported_and_stops_nothing(tmp_path, marks):
    work = [Piece(number, marks) for number in range(12)]
    report = run(pieces.digest_but_seven_raises, work, tmp_path / "out")
    [(key, trace)] = report.failed
    assert key == "piece-007.bin"
    assert "ZeroDivisionError: seven is not wanted" in trace
    assert "digest_but_seven_raises" in trace
    assert len(report.done) == 11
    assert str(report).splitlines()[1:] == ["  piece-007.bin: ZeroDivisionError: seven is not wanted"]
    again = run(pieces.digest, work, tmp_path / "out")
    assert again.done == ["piece-007.bin"]
    assert len(again.skipped) == 11
    assert set(executions(marks).values()) == {1}


def test_a_piece_that_kills_its_worker_each_time_is_given_up(tmp_path, marks):
    report = run(pieces.digest_but_seven_kills, [Piece(number, marks) for number in range(10)], tmp_path / "out")
    [(key, trace)] = report.failed
    assert key == "piece-007.bin"
    assert "SIGKILL" in trace
    assert len(report.done) == 9
    assert executions(marks)[7] == 5


@pytest.mark.parametrize(
    ("how", "failure"),
    [
        ("exit", "SystemExit: 3"),
        ("lambda", "misbehave.<locals>.<lambda>"),
        ("print", None),
        ("read", None),
        ("fork", None),
    ],
)
def test_what_a_function_does_to_its_process_stays_there(tmp_path, how, failure):
    report = jobs.run(
        pieces.misbehave, [how, "well"], key=str, write=lambda path, got: path.write_text(got), out=tmp_path, workers=1
    )
    if failure is None:
        assert report.failed == []
        assert (tmp_path / how).read_text() == ("" if how == "read" else how)
    else:
        assert [key for key, trace in report.failed if failure in trace] == [how]
    assert (tmp_path / "well").read_text() == "well"


def test_workers_have_one_compute_thread_and_see_their_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"]
    jobs.run(
        pieces.environment, names, key=str, write=lambda path, got: path.write_text(got),
        out=tmp_path, workers=1, threads=3, gpus=2,
    )  # fmt: skip
    assert [(tmp_path / name).read_text() for name in names] == ["3", "3", "0,1"]
    assert pool._share(2) == ["0,1", "2,3"]
    assert pool._share(0.5) == list("00112233")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert pool._share(1) == ["5", "7"]
    with pytest.raises(ValueError, match="asks for 3 GPUs and this machine shows 2"):
        pool._share(3)


def test_a_large_result_comes_back_whole(tmp_path):
    jobs.run(pieces.blank, [30_000_000], key=str, write=pieces.write, out=tmp_path)
    assert (tmp_path / "30000000").stat().st_size == 30_000_000


def test_progress_counts_up_to_all_pieces(tmp_path, marks):
    work = [Piece(number, marks) for number in range(9)]
    run(pieces.digest, work[:3], tmp_path / "out")
    seen = []
    run(pieces.digest_but_seven_raises, work, tmp_path / "out", progress=lambda *counts: seen.append(counts))
    assert seen == [(done, 9) for done in range(3, 10)]


def test_a_result_may_be_a_folder(tmp_path):
    def write(path: Path, result: bytes) -> None:
        path.mkdir()
        (path / "inside").write_bytes(result)

    report = jobs.run(pieces.blank, [3], key=str, write=write, out=tmp_path)
    assert report.done == ["3"]
    assert (tmp_path / "3" / "inside").read_bytes() == bytes(3)
    assert jobs.run(pieces.blank, [3], key=str, write=write, out=tmp_path).skipped == ["3"]


@pytest.mark.parametrize("folder", [False, True])
def test_what_is_not_the_items_result_is_replaced_whole(tmp_path, folder):
    def write(path: Path, result: bytes) -> None:
        if folder:
            path.mkdir()
            path /= "inside"
        path.write_bytes(result)

    def stale(path: Path) -> None:
        shutil.rmtree(path) if folder else path.unlink()
        write(path, b"stale")
        if folder:
            (path / "left over").touch()

    def done(path: Path, item: int) -> bool:
        return (path / "inside" if folder else path).read_bytes() == bytes(item)

    def run() -> jobs.Report:
        return jobs.run(pieces.blank, [3, 4], key=str, write=write, out=tmp_path, done=done)

    assert sorted(run().done) == ["3", "4"]
    stale(tmp_path / "4")
    report = run()
    assert (report.done, report.skipped) == (["4"], ["3"])
    assert done(tmp_path / "4", 4)
    assert not folder or not (tmp_path / "4" / "left over").exists()
    assert not (tmp_path / ".writing").exists()


@pytest.mark.parametrize(("wrong", "says"), [
    ({"workers": -1}, "workers is -1: a whole number of 1 or more"),
    ({"workers": 0}, "workers is 0"),
    ({"threads": 0}, "threads is 0"),
    ({"gpus": -1}, "gpus is -1: 0, a fraction, or a whole number"),
    ({"gpus": 1.5}, "gpus is 1.5"),
    ({"gpus": float("nan")}, "gpus is nan"),
])
def test_absurd_numbers_are_refused(tmp_path, wrong, says):
    with pytest.raises(ValueError, match=says):
        jobs.run(pieces.blank, [1], key=str, write=pieces.write, out=tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_a_write_that_fails_leaves_nothing_half_written(tmp_path):
    def full(path: Path, result: bytes) -> None:
        path.write_bytes(result)
        raise OSError(28, "No space left on device")

    def wrong(path: Path, result: bytes) -> None:
        path.write_bytes(result)
        raise KeyError("no such column")

    with pytest.raises(OSError, match="No space left"):
        jobs.run(pieces.blank, [1, 2, 3], key=str, write=full, out=tmp_path)
    assert results(tmp_path) == {}
    assert not (tmp_path / ".writing").exists()
    report = jobs.run(pieces.blank, [1, 2], key=str, write=wrong, out=tmp_path)
    assert sorted(key for key, trace in report.failed if "no such column" in trace) == ["1", "2"]
    assert results(tmp_path) == {}
    assert not (tmp_path / ".writing").exists()


@pytest.mark.parametrize(
    "key", ["", ".", "..", "../a", "a/b", "a\\b", "a\0", "c:x", "a\n", "a.", " a", "ż" * 101, ".lock"]
)
def test_a_key_that_is_no_file_name_is_refused(tmp_path, key):
    with pytest.raises(ValueError, match="cannot name a file"):
        jobs.run(pieces.blank, [1], key=lambda item: key, write=pieces.write, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_items_with_one_key_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two items have the key 'A'"):
        jobs.run(pieces.blank, ["a", "b", "A"], key=str, write=pieces.write, out=tmp_path)


def test_a_function_that_no_other_process_can_find_is_refused(tmp_path):
    with pytest.raises(ValueError, match="use a function at the top of a module"):
        jobs.run(lambda item: item, [1], key=str, write=pieces.write, out=tmp_path)


def drive(out: Path, marks: Path, seconds: float, function: str = "digest") -> subprocess.Popen:
    command = [sys.executable, "-c", DRIVER, str(out), str(marks), str(seconds), function]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, seconds: float = 60.0) -> None:
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


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_after_an_interrupt_the_same_command_does_only_the_rest(tmp_path, marks, end):
    out = tmp_path / "out"
    driver = drive(out, marks, 0.1)
    wait_for(lambda: out.exists() and len(results(out)) >= 4)
    driver.send_signal(end)
    output, errors = driver.communicate(timeout=30)
    assert driver.returncode == (130 if end == signal.SIGINT else -end), errors
    assert "Traceback" not in errors
    first = results(out)
    assert 4 <= len(first) < 24
    wait_for(lambda: all(gone(int(mark.name.split("-")[1])) for mark in marks.iterdir()))
    before = executions(marks)

    driver = drive(out, marks, 0.0)
    output, errors = driver.communicate(timeout=60)
    assert driver.returncode == 0, errors
    assert f"{24 - len(first)} done, {len(first)} already there, 0 failed" in output
    work = [Piece(number, marks) for number in range(24)]
    after = executions(marks)
    assert all(after[piece.number] - before[piece.number] == (pieces.key(piece) not in first) for piece in work)
    assert results(out) == {pieces.key(piece): pieces.digest(piece) for piece in work}
    assert not (out / ".writing").exists()


def test_two_runs_in_one_folder_are_refused(tmp_path, marks):
    out = tmp_path / "out"
    driver = drive(out, marks, 0.1)
    try:
        wait_for(lambda: out.exists() and results(out))
        with pytest.raises(ValueError, match="in use by another run"):
            run(pieces.digest, [Piece(1, marks)], out)
    finally:
        driver.send_signal(signal.SIGINT)
        driver.communicate(timeout=30)
    assert run(pieces.digest, [Piece(99, marks)], out).done == ["piece-099.bin"]


SCRIPT = """
import sys
from pathlib import Path
from core import jobs
print("loaded", __name__, file=sys.stderr)
def double(item):
    return str(2 * item)
if __name__ == "__main__":
    jobs.run(double, [4], key=str, write=Path.write_text, out=sys.argv[1])
"""


def test_a_function_of_the_script_itself_needs_a_module_name(tmp_path):
    (tmp_path / "doubling.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    out = str(tmp_path / "out")
    asked = [sys.executable, "doubling.py", out], [sys.executable, "-m", "doubling", out]
    script, module = (
        subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        for words in asked
    )
    assert script.returncode == 1
    assert "move it to a module, or start the script with python -m" in script.stderr
    assert script.stderr.count("loaded") == 1
    assert module.returncode == 0, module.stderr
    assert (tmp_path / "out" / "4").read_text() == "8"
