"""The group is a group, and every layer of the net commutes with it."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from apps.pathology.p4m import D4, G, P4MConv, P4MDenseNet, central_third, halve, plane_index

SMALL = {"stem": 3, "growth": 4, "blocks": (1, 2, 2)}


def act(g: int, x: torch.Tensor) -> torch.Tensor:
    """Turn square pictures or maps on Z2, (..., side, side), by element g of D4."""
    index = torch.from_numpy(plane_index(x.shape[-1])[g].ravel())
    return x.flatten(-2)[..., index].unflatten(-1, x.shape[-2:])


def act_regular(g: int, x: torch.Tensor) -> torch.Tensor:
    """Turn maps on p4m, (B, C, side, side, G), by element g of D4: in the plane and along the group axis."""
    index = torch.from_numpy(D4.cayley[D4.inverse[g]])
    return act(g, x[..., index].movedim(-1, 2)).movedim(2, -1)


def lived_in(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every normalisation statistics, scales and shifts far from the initial 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            n = module.num_features
            module.running_mean.copy_(torch.randn(n, generator=generator) * 0.3)
            module.running_var.copy_(torch.rand(n, generator=generator) + 0.2)
            with torch.no_grad():
                module.weight.copy_(torch.randn(n, generator=generator).abs() + 0.3)
                module.bias.copy_(torch.randn(n, generator=generator) * 0.3)
    return model.eval()


def net(seed: int = 0, **sizes) -> P4MDenseNet:
    torch.manual_seed(seed)
    return lived_in(P4MDenseNet(**(sizes or SMALL)), seed)


def pictures(side: int, n: int = 2, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def eight_ways(x: torch.Tensor) -> list[torch.Tensor]:
    """Turn and mirror with torch's own functions, which know nothing of our tables."""
    return [torch.rot90(y, k, (-2, -1)) for y in (x, x.flip(-1)) for k in range(4)]


def test_the_tables_are_those_of_a_group_of_order_eight():
    table = D4.cayley
    assert G == 8
    assert all(sorted(row) == list(range(G)) for row in table.tolist() + table.T.tolist())
    assert table[0].tolist() == table[:, 0].tolist() == list(range(G))
    assert not table[np.arange(G), D4.inverse].any()
    assert not table[D4.inverse, np.arange(G)].any()
    assert (table[table] == table[:, table]).all()  # (g h) k == g (h k) for all 512 triples
    assert (table != table.T).any(), "D4 does not commute"


@pytest.mark.parametrize("side", [1, 2, 5, 8])
def test_the_eight_actions_are_the_quarter_turns_and_mirrors_of_torch(side):
    x = torch.arange(side * side, dtype=torch.float32).reshape(1, side, side)
    ours = {act(g, x).numpy().tobytes() for g in range(G)}
    assert ours == {y.contiguous().numpy().tobytes() for y in eight_ways(x)}


def test_acting_twice_is_acting_by_the_product():
    x = torch.randn(2, 3, 4, 4, G)
    for g in range(G):
        for h in range(G):
            assert torch.equal(act_regular(g, act_regular(h, x)), act_regular(int(D4.cayley[g, h]), x))


@pytest.mark.parametrize("side", [32, 90, 94, 96])
def test_a_logit_is_the_same_in_all_eight_orientations(side):
    model = net()
    x = pictures(side)
    with torch.inference_mode():
        logits = torch.stack([model(y) for y in eight_ways(x)])
    assert logits[0].std() > 1e-3, "a constant net would pass"
    assert (logits - logits[0]).abs().max() < 1e-5


def test_the_net_of_the_paper_s_size_is_exactly_invariant_too():
    model = lived_in(P4MDenseNet())
    assert 100_000 < sum(p.numel() for p in model.parameters()) < 140_000
    with torch.inference_mode():
        logits = torch.stack([model(y) for y in eight_ways(pictures(96))])
    assert (logits - logits[0]).abs().max() < 1e-5


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("side", [32, 44])
def test_every_intermediate_map_turns_by_the_regular_representation(side, training):
    model = net().train(training)
    x = pictures(side)
    with torch.no_grad():
        before = [m.clone() for m in model.group_features(x)]
        for g in range(G):
            after = model.group_features(act(g, x))
            for b, a in zip(before, after, strict=True):
                assert (a - act_regular(g, b)).abs().max() < 1e-5 * b.abs().max()
                if g:
                    assert (a - b).abs().max() > 0.1, "an invariant map would hide a wrong action"


def test_the_map_for_grad_cam_turns_with_the_picture():
    model, x = net(), pictures(48)
    with torch.inference_mode():
        before = model.features(x)
        for g in range(G):
            torch.testing.assert_close(model.features(act(g, x)), act(g, before), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.classify(before), model(x))


def test_without_a_head_it_is_a_backbone():
    whole, bare, x = net(), net(**SMALL, head=False), pictures(32)
    bare.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("head.")}, strict=True)
    with torch.inference_mode():
        assert torch.equal(bare(x), whole.features(x))
        assert bare(x).shape == (2, bare.channels, 4, 4)
    with pytest.raises(ValueError, match="without a head"):
        bare.classify(bare(x))


def test_a_filter_that_is_not_turned_breaks_the_symmetry():
    """The tests above can fail: spoil one index table and they do."""
    model = net()
    model.stages[0]["dense"].layers[0].index[3] = model.stages[0]["dense"].layers[0].index[0]
    with torch.inference_mode():
        logits = torch.stack([model(y) for y in eight_ways(pictures(32))])
    assert (logits - logits[0]).abs().max() > 1e-4


@pytest.mark.parametrize("side", [6, 7, 8, 9])
def test_halving_keeps_the_symmetry_of_even_and_odd_sides(side):
    x = torch.randn(1, 2, side, side, G)
    assert halve(x).shape[2] == (side + 1) // 2
    for g in range(G):
        torch.testing.assert_close(halve(act_regular(g, x)), act_regular(g, halve(x)), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("side", "third"), [(1, 1), (2, 2), (3, 1), (6, 2), (7, 3), (12, 4), (48, 16)])
def test_the_central_third_is_centred(side, third):
    x = torch.arange(side, dtype=torch.float32).expand(side, side)
    middle = central_third(x)
    assert middle.shape == (third, third)
    assert middle[0].mean() == x[0].mean()


@pytest.mark.parametrize("shape", [(1, 3, 33, 32), (1, 1, 32, 32), (3, 32, 32)])
def test_pictures_that_cannot_be_scored_symmetrically_are_refused(shape):
    with pytest.raises(ValueError, match="even H and W"):
        net()(torch.zeros(shape))


def test_an_off_centre_filter_is_refused():
    with pytest.raises(ValueError, match="off centre"):
        P4MConv(2, 2, 4)


# -- the kept filters of eval mode -------------------------------------------------------------------------------------


def slow(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Score in eval mode by way of the live parameters, as fine-tuning with frozen statistics does."""
    with torch.enable_grad():
        return model(x).detach()


def test_folded_filters_give_the_logits_of_the_live_parameters():
    model, x = net(), pictures(32, n=4)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), slow(model, x), atol=1e-5, rtol=1e-5)


def test_kept_filters_follow_every_way_weights_can_change():
    model, other, x = net(0), net(1), pictures(32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def by_optimizer():
        model(x).sum().backward()
        optimizer.step()

    def by_data_and_eval():  # how an EMA may swap weights in: no version counter sees it, so eval() must
        for parameter in model.parameters():
            parameter.data.mul_(1.1)
        model.eval()

    changes = (
        by_optimizer,
        lambda: model.load_state_dict(other.state_dict()),
        lambda: model.load_state_dict(copy.deepcopy(other.state_dict()), assign=True),
        lambda: model.train()(x * 2) is None or model.eval(),
        by_data_and_eval,
        lambda: model.double().float().stages[0]["dense"].layers[0].norm.running_var.mul_(1.5),
    )
    with torch.no_grad():
        last = model(x)
        for change in changes:
            with torch.enable_grad():
                change()
            now = model(x)
            torch.testing.assert_close(now, slow(model, x), atol=1e-5, rtol=1e-5)
            assert change is changes[2] or not torch.allclose(now, last, atol=1e-6), "the change changed nothing"
            last = now
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.9)
        assert torch.equal(model(x), last)
        assert not torch.equal(twin(x), last)


def test_kept_filters_run_in_the_dtype_asked_for():
    model, x = net(), pictures(32)
    with torch.inference_mode():
        exact = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(x).float()
        assert torch.equal(model(x), exact), "the bfloat16 filters were kept for float32"
        assert 0 < (rough - exact).abs().max() < 0.1 * (1 + exact.abs().max())
        assert model.double()(x.double()).dtype == torch.float64
        torch.testing.assert_close(model.double()(x.double()).float(), exact, atol=1e-5, rtol=1e-5)


def test_threads_share_one_net():
    model, xs = net(), [pictures(32, seed=i) for i in range(24)]

    def score(x):
        with torch.inference_mode():
            return model(x)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(score, xs))
    assert all(torch.equal(a, score(x)) for a, x in zip(together, xs, strict=True))


def test_gradients_pass_through_filters_kept_in_inference_mode():
    """Grad-CAM of a net with frozen parameters, after it has scored."""
    model, x = net().requires_grad_(False), pictures(32)
    with torch.inference_mode():
        logits = model(x)
    features = model.features(x).requires_grad_()
    again = model.classify(features)
    again.sum().backward()
    torch.testing.assert_close(again.detach(), logits)
    assert features.grad.abs().max() > 0
    x.requires_grad_()
    model(x).sum().backward()
    assert x.grad.abs().max() > 0


def test_kept_filters_are_not_part_of_the_state():
    model = net()
    keys = set(model.state_dict())
    with torch.inference_mode():
        model(pictures(32))
    assert set(model.state_dict()) == keys
    assert not any("index" in key or "kept" in key for key in keys)


# -- learning ----------------------------------------------------------------------------------------------------------


def test_gradients_reach_every_parameter_and_channels_last_changes_nothing():
    model, x = net().train(), pictures(32, n=4)
    grads = []
    for y in (x, x.to(memory_format=torch.channels_last)):
        model.zero_grad()
        model(y).square().sum().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    assert all(g.abs().max() > 0 for g in grads[0])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_statistics_are_shared_over_the_group():
    """One number a channel: eight orientations of a batch leave exactly the statistics of the batch."""
    x = pictures(32, n=2)
    one, eight = net(), net()
    with torch.no_grad():
        one.train()(x)
        eight.train()(torch.cat([act(g, x) for g in range(G)]))
    assert one.stem.norm.running_mean.shape == (SMALL["stem"],)
    for a, b in zip(one.buffers(), eight.buffers(), strict=True):
        if a.is_floating_point():
            torch.testing.assert_close(a, b, atol=1e-3, rtol=2e-3)  # the unbiased variance differs by 1/n


def test_it_learns_a_motif_in_one_orientation_and_knows_it_in_the_seven_others():
    """An L-shaped motif in the centre against its absence: orientation is never seen in training."""
    generator = torch.Generator().manual_seed(0)
    motif = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 1, 0]]).repeat_interleave(3, 0).repeat_interleave(3, 1) * 3

    def batch(n):
        x = torch.randn(n, 3, 32, 32, generator=generator)
        label = torch.rand(n, generator=generator).round()
        x[:, :, 12:21, 12:21] += motif * label[:, None, None, None]
        return x, label

    torch.manual_seed(0)
    model = P4MDenseNet(**SMALL)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(30):
        x, label = batch(32)
        loss = nn.functional.binary_cross_entropy_with_logits(model(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, label = batch(128)
    model.eval()
    with torch.inference_mode():
        for turned in eight_ways(x):
            assert ((model(turned) > 0) == label.bool()).float().mean() > 0.95
