import errno
import io
import json
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core import log
from core.log import Log, Progress


def test_records_are_the_same_bytes_and_what_differs_lies_beside(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with Log(tmp_path / name) as diary:
            diary.write("train", 5, {"loss": torch.tensor(1 / 3), "rate": 0.1}, {"seconds": 1.5})
            diary.write("evaluate", 5, {"accuracy": 0.123456789, "n": 7, "bad": float("nan")})
    text = (tmp_path / "one" / "log.jsonl").read_text()
    assert text == (tmp_path / "two" / "log.jsonl").read_text()
    assert [json.loads(line) for line in text.splitlines()] == [
        {"event": "train", "step": 5, "loss": 0.333333, "rate": 0.1},
        {"event": "evaluate", "step": 5, "accuracy": 0.123457, "n": 7, "bad": None},
    ]
    [first, second] = log.read(tmp_path / "one" / "times.jsonl")
    assert first["seconds"] == 1.5
    assert first["time"] <= second["time"]


def test_going_on_from_a_step_drops_what_will_be_written_again_and_a_torn_line(tmp_path):
    with Log(tmp_path) as diary:
        for step in (1, 2, 3, 4):
            diary.write("train", step, {"loss": 1.0 / step})
    whole = (tmp_path / "log.jsonl").read_bytes()
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"event": "train", "st')
    with Log(tmp_path, step=2) as diary:
        assert [record["step"] for record in log.read(tmp_path / "log.jsonl")] == [1, 2]
        for step in (3, 4):
            diary.write("train", step, {"loss": 1.0 / step})
    assert (tmp_path / "log.jsonl").read_bytes() == whole
    assert [record["step"] for record in log.read(tmp_path / "times.jsonl")] == [1, 2, 3, 4]


@pytest.mark.parametrize("line", ["{}", "[]", "5", "null", '{"step": "x"}', '{"step": 1.5}', '{"step": true}'])
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    (tmp_path / "log.jsonl").write_text(f'{{"event": "train", "step": 1}}\n{line}\n')
    before = (tmp_path / "log.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"log\.jsonl: line 2 is no record"):
        Log(tmp_path, step=1)
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_without_stderr_there_is_no_bar_and_no_error(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr("sys.stderr", stream)
        with Progress(3, "tiles") as bar:
            bar.update(2)
            bar.say("loss 0.5")
            bar(3, 5)


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.floats(-1e30, 1e30) | st.integers(-(2**53), 2**53)))
def test_what_is_written_is_read_back_to_six_digits(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("log")
    values = {f"value {name}": value for name, value in values.items()}
    with Log(folder) as diary:
        diary.write("train", 1, values)
    [record] = log.read(folder / "log.jsonl")
    assert record == {"event": "train", "step": 1, **{k: pytest.approx(v, rel=1e-5) for k, v in values.items()}}


def test_a_rank_that_keeps_no_log_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Log(None, tensorboard=True) as diary:
        diary.write("train", 1, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_files_are_written_by_a_flag(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for flag in (False, True):
        assert not (tmp_path / "tensorboard").exists()
        with Log(tmp_path, tensorboard=flag) as diary:
            diary.write("train", 3, {"loss": torch.tensor(0.25), "name": "text"}, {"seconds": 2.0})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["train/loss", "train/seconds"]
    [event] = events.Scalars("train/loss")
    assert (event.step, event.value) == (3, 0.25)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
def test_a_disk_that_is_full_is_told_in_one_sentence(tmp_path):
    with Log(tmp_path) as diary:
        diary._records.close()
        diary._records = open("/dev/full", "ab", buffering=0)  # noqa: SIM115  (closed by the log)
        with pytest.raises(OSError, match="cannot be written: No space left on device; free space") as caught:
            diary.write("train", 1, {"loss": 1.0})
    assert caught.value.__cause__.errno == errno.ENOSPC


def test_the_bar_counts_to_the_total_and_can_be_silent(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for silent in (False, True):
        screen = Terminal()
        monkeypatch.setattr("sys.stderr", screen)
        with Progress(4, "tiles", "tile", start=1, disable=silent) as bar:
            bar.update(2)
            bar(4, 8)
            bar.say("loss 0.5")
            bar.update(8)
        shown = screen.getvalue()
        assert (shown == "") == silent
        if not silent:
            assert "tiles: 100%" in shown
            assert "8/8" in shown
            assert "loss 0.5" in shown
