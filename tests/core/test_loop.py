import os
import signal

import pytest
import torch
from filelock import FileLock

from core import checkpoint, log, loop
from core.loop import Fit
from core.runtime import Runtime
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


@pytest.mark.parametrize("key", ["step", "best", "means", "model", "optimizer"])
def test_a_state_that_lacks_a_part_is_refused(alone, tmp_path, key):
    state = checkpoint.load(alone / "last.pt", "toy")
    checkpoint.save(tmp_path / "last.pt", "toy", {k: v for k, v in state.items() if k not in (key, "version", "app")})
    with pytest.raises(ValueError, match=rf"belongs to another model or optimizer \('{key}'\)"):
        train(tmp_path, steps=60)


@pytest.mark.parametrize(("key", "value"), [("step", "7"), ("step", -1), ("step", True), ("step", 2.5), ("best", [1]),
                                            ("best", None), ("means", [1]), ("means", {"a": "b"})])
def test_a_state_with_a_part_of_another_kind_is_refused(alone, tmp_path, key, value):
    state = {**checkpoint.load(alone / "last.pt", "toy"), key: value}
    checkpoint.save(tmp_path / "last.pt", "toy", {k: v for k, v in state.items() if k not in ("version", "app")})
    with pytest.raises(ValueError, match=r"belongs to another model or optimizer \("):
        train(tmp_path, steps=60)


def test_a_finished_run_says_so(alone, capsys):
    train(alone)
    assert f"{alone} is at step 40 of 40: there is nothing left to train" in capsys.readouterr().err


def test_two_trainings_in_one_folder_are_refused(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(ValueError, match="another training is writing into"):
        train(tmp_path)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_gpu_says_that_the_loss_may_have_gone_wrong_before(device, tmp_path):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    said = loop._diverged(40, optimizer, tmp_path / "last.pt", Runtime(torch.device(device)))
    assert ("not finite at or before step 40 (learning rate 0.5)" in said) == (device == "cuda")
    assert ("not finite at step 40" in said) == (device == "cpu")


@pytest.mark.parametrize(("name", "value", "wanted"), [
    *[(name, 0, "at least 1") for name in ("steps", "accumulate", "log_every", "save_every")],
    ("clip", -1.0, "at least 0"), ("clip", float("nan"), "at least 0"), ("clip", float("inf"), "at least 0 and finite"),
    ("evaluate_every", -3, "at least 0"), ("average", 1.0, "at least 0 and at most 0.999999"),
])
def test_options_that_make_no_sense_are_refused(name, value, wanted):
    with pytest.raises(ValueError, match=rf"fit\.{name} is {value:g}; it must be {wanted}$"):
        Fit(**{name: value})


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
