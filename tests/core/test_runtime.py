from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from core.runtime import Hardware, Runtime, describe, find_device, start

CPU = Runtime(torch.device("cpu"), seed=3)


def test_a_world_of_another_size_than_asked_for_is_an_error(monkeypatch):
    with pytest.raises(ValueError, match=r"1 process started, 2 asked for by --hardware\.world: start .* `torchrun"):
        with start(Hardware(world=2)):
            pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ValueError, match=r"2 processes started, 1 asked for"):
        with start(Hardware(world=1)):
            pass


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gpu", "device 'gpu' is not known; use auto, cpu, cuda"),
        ("meta", "device 'meta' is not supported"),
        ("cuda:7", "device cuda:7 asked for, 2 CUDA devices seen"),
    ],
)
def test_a_device_that_is_not_there_is_refused(monkeypatch, name, sentence):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=sentence):
        find_device(name)


def test_auto_takes_a_gpu_and_ranks_of_one_machine_take_one_each(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [find_device("auto", rank) for rank in (0, 1)] == [torch.device("cuda:0"), torch.device("cuda:1")]
    assert find_device("cuda:1", 0) == torch.device("cuda:1")
    with pytest.raises(ValueError, match="device cuda:2 asked for, 2 CUDA devices seen"):
        find_device("auto", 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == torch.device("cpu")


def test_randomness_is_a_function_of_seed_step_and_rank():
    def draw(step, **changes):
        Runtime(torch.device("cpu"), **{"seed": 3, **changes}).reseed(step)
        return torch.rand(1).item()

    assert draw(5) == draw(5)
    drawn = [draw(5), draw(6), draw(5, seed=4), draw(5, rank=1)]
    assert len(set(drawn)) == 4


@given(st.integers(0, 200), st.integers(1, 9))
def test_shares_hold_each_sample_once(n, world):
    shares = [list(Runtime(torch.device("cpu"), rank=rank, world=world).share(n)) for rank in range(world)]
    assert sorted(chain.from_iterable(shares)) == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_batches_of_any_shape_move_and_pictures_are_laid_out_channels_last():
    batch = {"pictures": torch.rand(2, 3, 4, 4), "pair": (torch.ones(2), [torch.zeros(2, 2)]), "name": "x"}
    moved = CPU.to_device(batch)
    assert moved["pictures"].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved["pictures"], batch["pictures"])
    assert type(moved["pair"]) is tuple
    assert type(moved["pair"][1]) is list
    assert moved["name"] == "x"


def test_a_placed_model_keeps_its_numbers():
    model = nn.Conv2d(3, 4, 3)
    weight = model.weight.detach().clone()
    placed = CPU.place(model)
    assert placed.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(placed.weight, weight)


@pytest.mark.parametrize("name", ["threads", "world"])
def test_hardware_that_makes_no_sense_is_refused(name):
    with pytest.raises(ValueError, match=rf"hardware\.{name} is -1; it must be at least 0"):
        Hardware(**{name: -1})


def test_precision_is_what_was_asked_for():
    with start(Hardware(device="cpu", precision="bfloat16")) as runtime, runtime.precision():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with start(Hardware(device="cpu")) as runtime, runtime.precision():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_alone_every_vote_and_value_is_ones_own():
    assert (CPU.any(True), CPU.any(False)) == (True, False)
    assert CPU.gather("x") == ["x"]
    assert CPU.from_first({"step": 3}) == {"step": 3}
    assert CPU.first


def test_the_processor_has_a_name():
    assert "cores" in describe()
