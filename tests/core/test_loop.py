import os
import signal

import pytest
import torch
from filelock import FileLock

from core import checkpoint, log
from core.loop import Fit
from tests.core.training import assert_same_run, loss_fn, train


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Forty steps in one go, with batch norm, dropout, moving average, accumulation, clipping."""
    out = tmp_path_factory.mktemp("alone")
    train(out)
    return out


def at_call(count, act):
    """A loss that does something at its count-th call; a step makes two."""
    calls = 0

    def loss(model, batch):
        nonlocal calls
        calls += 1
        value, values = loss_fn(model, batch)
        return (act(value) if calls == count else value), values

    return loss


@pytest.mark.parametrize("workers", [0, 2])
def test_twenty_steps_and_twenty_more_are_forty_bit_for_bit(alone, tmp_path, workers):
    train(tmp_path, steps=20, workers=workers)
    assert checkpoint.load(tmp_path / "last.pt", "toy")["step"] == 20
    train(tmp_path, steps=40, workers=workers)
    assert_same_run(alone, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_at_any_step_a_run_goes_on_bit_for_bit(alone, tmp_path, number):
    def interrupt(value):
        os.kill(os.getpid(), number)
        return value

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=r"stopped after step 17 of 40.*the same command goes on"):
        train(tmp_path, save_every=1000, loss=at_call(2 * 17 - 1, interrupt))
    assert signal.getsignal(number) == before
    train(tmp_path)
    assert_same_run(alone, tmp_path)


def test_a_finished_run_is_left_as_it_is(alone):
    before = {path.name: path.read_bytes() for path in alone.iterdir()}
    scores = train(alone, loss=None)
    assert scores == checkpoint.load(alone / "last.pt", "toy")["best"]
    assert {path.name: path.read_bytes() for path in alone.iterdir()} == before


@pytest.mark.parametrize("accumulate", [3, 5, 12])
def test_the_parts_of_a_batch_add_up_to_the_whole(tmp_path, accumulate):
    for parts in (1, accumulate):
        train(tmp_path / str(parts), plain=True, accumulate=parts)
    whole, cut = (checkpoint.load(tmp_path / str(parts) / "last.pt", "toy") for parts in (1, accumulate))
    for name, tensor in whole["model"].items():
        torch.testing.assert_close(tensor, cut["model"][name], rtol=0, atol=1e-6)
    records = [log.read(tmp_path / str(parts) / "log.jsonl") for parts in (1, accumulate)]
    for one, other in zip(*records, strict=True):
        assert one.pop("event") == other.pop("event")
        assert one == pytest.approx(other, rel=1e-4)


def test_more_parts_than_samples_are_refused(tmp_path):
    with pytest.raises(ValueError, match="a batch of 12 cannot be accumulated in 13 parts"):
        train(tmp_path, accumulate=13)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_last_good_state(tmp_path, bad):
    with pytest.raises(ValueError, match=r"not finite at step 3 \(learning rate 0\.0015, 0\.003\); no state was saved"):
        train(tmp_path, loss=at_call(6, lambda value: value * bad))
    train(tmp_path, steps=20)
    with pytest.raises(ValueError, match=rf"not finite at step 24 .*the last good state is {tmp_path / 'last.pt'}"):
        train(tmp_path, loss=at_call(8, lambda value: value * bad))
    state = checkpoint.load(tmp_path / "last.pt", "toy")
    assert state["step"] == 20
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state["model"].values())


def test_the_state_of_another_app_or_model_is_refused(alone, tmp_path):
    before = (alone / "last.pt").read_bytes()
    with pytest.raises(ValueError, match="is a run of 'toy', not of 'go'; choose another folder"):
        train(alone, app="go")
    with pytest.raises(ValueError, match=r"last\.pt belongs to another model or optimizer"):
        train(alone, plain=True)
    assert (alone / "last.pt").read_bytes() == before


def test_two_trainings_in_one_folder_are_refused(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(ValueError, match="another training is writing into"):
        train(tmp_path)


@pytest.mark.parametrize("name", ["steps", "accumulate", "log_every", "save_every"])
def test_options_that_make_no_sense_are_refused(name):
    with pytest.raises(ValueError, match=rf"fit\.{name} is 0; it must be at least 1"):
        Fit(**{name: 0})


def test_the_log_tells_the_schedule_and_the_times_lie_beside(alone):
    records = log.read(alone / "log.jsonl")
    trained = [record for record in records if record["event"] == "train"]
    assert [record["step"] for record in trained] == list(range(5, 41, 5))
    assert [record["step"] for record in records if record["event"] == "evaluate"] == [10, 20, 30, 40]
    assert trained[0]["lr"] == pytest.approx(3e-3 * 5 / 6)
    assert trained[-1]["lr"] == 0
    assert trained[-1]["loss"] < trained[0]["loss"]
    times = log.read(alone / "times.jsonl")
    assert [record["step"] for record in times] == [record["step"] for record in records]
    assert all(record["seconds"] > 0 and 0 <= record["waiting"] <= 1 for record in times if record["event"] == "train")
