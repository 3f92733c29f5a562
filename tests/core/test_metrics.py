import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from core.metrics import Means, bootstrap, gather_rows, wilson
from core.runtime import Runtime

CPU = Runtime(torch.device("cpu"))
numbers = st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(numbers, st.floats(0.1, 100)), min_size=1, max_size=40), st.integers(0, 40))
def test_means_are_weighted_means_and_go_on_from_their_state(pairs, cut):
    means = Means()
    for number, (value, weight) in enumerate(pairs):
        if number == cut:
            means = Means(means.state())
        means.add({"value": value, "tensor": torch.tensor(value, dtype=torch.float64)}, weight)
    values, weights = zip(*pairs, strict=True)
    expected = np.average(values, weights=weights)
    assert means.value() == {name: pytest.approx(expected, rel=1e-9, abs=1e-6) for name in ("value", "tensor")}
    assert means.reduce(CPU) == means.value()


def test_many_small_numbers_are_summed_in_double_precision():
    means = Means()
    for _ in range(10_000):
        means.add({"loss": torch.tensor(0.1)})
    assert means.value()["loss"] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_value_that_is_not_finite_is_remembered(bad):
    means = Means()
    means.add({"loss": 1.0, "other": 2.0})
    assert means.finite()
    means.add({"loss": torch.tensor(bad)})
    means.add({"loss": 1.0})
    assert not means.finite()


@dataclasses.dataclass(frozen=True)
class Peers(Runtime):
    """The runtime of one rank, which is told what the others would have sent."""

    sent: tuple = ()

    def gather(self, value):
        return list(self.sent)


def test_sums_of_ranks_move_to_the_first_one_and_are_not_counted_twice():
    parts = [Means(), Means()]
    parts[0].add({"loss": 1.0}, weight=3)
    parts[1].add({"loss": 5.0})
    sent = tuple(part.state() for part in parts)
    first, second = (Peers(torch.device("cpu"), rank=rank, world=2, sent=sent) for rank in (0, 1))
    assert parts[0].reduce(first) == {"loss": 2.0}
    parts[0].merge(first)
    parts[1].merge(second)
    assert parts[0].value() == {"loss": 2.0}
    assert parts[1].state() == {"sums": {}, "weights": {}}


@given(st.integers(1, 60), st.integers(1, 5))
def test_rows_of_all_ranks_come_together_in_order(n, world):
    rows = np.arange(2 * n).reshape(n, 2)
    sent = tuple((list(range(rank, n, world)), rows[rank::world]) for rank in range(world))
    for rank in range(world):
        peers = Peers(torch.device("cpu"), rank=rank, world=world, sent=sent)
        share = peers.share(n)
        assert np.array_equal(gather_rows(peers, share, rows[share.start :: share.step], n), rows)


def test_a_sample_counted_twice_or_not_at_all_is_noticed():
    for indices in ([0, 1, 1], [0, 1], [0, 1, 3]):
        peers = Peers(torch.device("cpu"), world=1, sent=((indices, np.zeros((len(indices), 1))),))
        with pytest.raises(AssertionError, match="count each sample once"):
            gather_rows(peers, range(3), np.zeros((3, 1)), 3)


def test_the_bootstrap_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap(lambda chosen: float(values[chosen].mean()), 400)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


@given(st.lists(st.integers(0, 1), min_size=2, max_size=40), st.floats(0.5, 0.99), st.integers(0, 9))
def test_bootstrap_repeats_itself_and_keeps_the_count_of_each_stratum(labels, level, seed):
    strata, counts = np.array(labels), set()

    def metric(chosen):
        counts.add((len(chosen), int(strata[chosen].sum())))
        return float(chosen.mean())

    options = {"level": level, "resamples": 20, "seed": seed, "strata": strata}
    low, high = bootstrap(metric, len(labels), **options)
    assert (low, high) == bootstrap(metric, len(labels), **options)
    assert 0 <= low <= high <= len(labels) - 1
    assert counts == {(len(labels), sum(labels))}


@given(st.integers(1, 2000), st.floats(0, 1), st.floats(0.5, 0.999))
def test_wilson_solves_the_score_equation(n, share, level):
    successes = round(share * n)
    low, high = wilson(successes, n, level)
    assert 0 <= low <= successes / n <= high <= 1
    z = stats.norm.ppf((1 + level) / 2)
    for bound in (low, high):
        if 1e-9 < bound < 1 - 1e-9:
            assert abs(successes / n - bound) == pytest.approx(z * np.sqrt(bound * (1 - bound) / n), rel=1e-6, abs=1e-9)


def test_wilson_knows_nothing_of_no_games_and_the_published_example():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)  # Newcombe 1998, table I, method 3
