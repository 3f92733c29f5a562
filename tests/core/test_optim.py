import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from core.optim import Average, adamw, constant, cosine, groups


@given(st.integers(1, 500), st.integers(0, 100), st.floats(0, 1))
def test_cosine_rises_to_one_and_falls_to_its_floor(steps, warmup, floor):
    factors = [cosine(steps, warmup, floor)(step) for step in range(max(steps, warmup + 2))]
    assert all(factor > 0 for factor in factors[:warmup])
    assert all(floor - 1e-12 <= factor <= 1 + 1e-12 for factor in factors[warmup:])
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    assert factors[warmup] == pytest.approx(1)
    if steps > warmup + 1:
        assert factors[steps - 1] == pytest.approx(floor)
        assert cosine(steps, warmup, floor)(10 * steps) == pytest.approx(floor)


@given(st.integers(0, 10**6))
def test_schedules_depend_on_the_step_alone(step):
    assert constant()(step) == 1
    assert cosine(1000, 10)(step) == cosine(1000, 10)(step)


def test_half_way_down_is_half_way():
    assert cosine(101, 0, 0.2)(50) == pytest.approx(0.6)
    assert [cosine(10, 4)(step) for step in range(4)] == [0.2, 0.4, 0.6, 0.8]


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=60), st.floats(0.01, 0.999))
def test_the_moving_average_is_the_closed_sum(values, decay):
    """After n updates: the start and each value, weighted with what the later updates keep of it."""
    model = nn.Linear(1, 1, bias=False).double()
    start = float(model.weight.detach())
    average = Average(model, decay)
    for step, value in enumerate(values):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update(model, step)
    keeps = np.array([min(decay, (1 + step) / (10 + step)) for step in range(len(values))])
    after = np.array([np.prod(keeps[step + 1 :]) for step in range(len(values))])
    expected = start * np.prod(keeps) + float(((1 - keeps) * after) @ np.array(values))
    assert float(average.model.weight) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_average_holds_buffers_and_counters_and_leaves_the_model_alone():
    model = nn.BatchNorm1d(2)
    average = Average(model, 0.5)
    before = average.model.running_mean.clone()
    model(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    average.update(model, 100)
    torch.testing.assert_close(average.model.running_mean, (before + model.running_mean) / 2)
    assert average.model.num_batches_tracked == 1
    assert not average.model.training
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.out.weight = self.into.weight


def test_weights_that_two_layers_share_are_averaged_once():
    model = Tied()
    nn.init.zeros_(model.into.weight)
    average = Average(model, 0.5)
    nn.init.ones_(model.into.weight)
    average.update(model, 100)
    assert average.model.out.weight is average.model.into.weight
    assert torch.equal(average.model.into.weight, torch.full((2, 2), 0.5))


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, 1.5])
def test_a_decay_outside_of_zero_to_one_is_refused(decay):
    with pytest.raises(ValueError, match="the decay of the moving average is"):
        Average(nn.Linear(1, 1), decay)


def test_each_parameter_is_in_one_group_and_only_matrices_decay():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    frozen = net[1].bias.requires_grad_(False)
    made = groups([(net[3], 0.1), (net, 0.01)], weight_decay=0.5)
    rows = [
        (group["lr"], group["weight_decay"], [tuple(parameter.shape) for parameter in group["params"]])
        for group in made
    ]
    assert rows == [
        (0.1, 0.5, [(2, 2)]),
        (0.1, 0.0, [(2,)]),
        (0.01, 0.5, [(2, 1, 3, 3)]),
        (0.01, 0.0, [(2,), (2,)]),
    ]
    members = [id(parameter) for group in made for parameter in group["params"]]
    assert len(members) == len(set(members)) == 5
    assert id(frozen) not in members


def test_adamw_steps_with_each_groups_rate():
    body, head = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    before = [net.weight.item() for net in (body, head)]
    optimizer = adamw([(body, 0.1), (head, 0.3)])
    (body.weight + head.weight).sum().backward()
    optimizer.step()
    moved = [old - net.weight.item() for old, net in zip(before, (body, head), strict=True)]
    assert moved == pytest.approx([0.1, 0.3], rel=1e-4)  # the first step of Adam is the learning rate
