"""Batch norm over ranks, here over one that asks for it; over two in test_loop_ranks.py."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from core.batchnorm import RankBatchNorm, over_ranks

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(("plain", "shape"), [
    (nn.BatchNorm1d(4, momentum=0.01), (6, 4)),
    (nn.BatchNorm2d(4, eps=1e-3), (3, 4, 5, 5)),
    (nn.BatchNorm3d(4, momentum=None), (3, 4, 2, 2, 8)),
    (nn.BatchNorm2d(4, affine=False), (3, 4, 5, 5)),
    (nn.BatchNorm2d(4, track_running_stats=False), (3, 4, 5, 5)),
])
def test_it_does_what_torch_does(plain, shape):
    """Three steps far from zero, where a careless sum of squares would cancel; then eval mode."""
    ours = over_ranks(nn.Sequential(copy.deepcopy(plain)), CPU)[0]
    assert type(ours) is RankBatchNorm
    assert ours.state_dict().keys() == plain.state_dict().keys()
    for step in range(3):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(step)) + 50
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        outputs = [norm(i) for norm, i in zip((plain, ours), inputs, strict=True)]
        for y in outputs:
            (y * torch.linspace(-1, 1, y.numel()).view(shape)).sum().backward()
        torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-4)
        torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=0, atol=1e-4)
    for (name, wanted), (_, seen) in zip(plain.state_dict().items(), ours.state_dict().items(), strict=True):
        torch.testing.assert_close(seen, wanted, rtol=1e-6, atol=1e-6, msg=name)
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x), rtol=0, atol=1e-4)


def test_in_eval_mode_it_tells_nobody(monkeypatch):
    ours = RankBatchNorm(nn.BatchNorm2d(4))

    def refuse(*args):
        raise AssertionError("it communicates")

    monkeypatch.setattr("torch.distributed.all_reduce", refuse)
    x = torch.rand(2, 4, 3, 3)
    assert torch.isfinite(copy.deepcopy(ours).eval()(x)).all()
    with pytest.raises(AssertionError, match="communicates"):
        ours(x)


def test_half_precision_stays_half():
    assert RankBatchNorm(nn.BatchNorm2d(4))(torch.rand(2, 4, 3, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_parameters_are_those_of_before_and_other_layers_stay():
    class Active(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), Active(4)), nn.ReLU())
    parameters, layers = list(model.parameters()), [model[0], model[1][1], model[2]]
    assert over_ranks(model, CPU) is model
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert [model[0], model[1][1], model[2]] == layers
    assert type(model[1][0]) is RankBatchNorm


def test_one_value_a_channel_has_no_variance():
    with pytest.raises(ValueError, match="needs more than one"):
        RankBatchNorm(nn.BatchNorm2d(4))(torch.rand(1, 4, 1, 1))
