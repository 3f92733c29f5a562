from itertools import chain, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.batches import Batches, indices, permutation
from tests.core.training import sample

seeds = st.integers(0, 2**32)


def numbers(index, rng):
    """A sample that tells its number and one random one."""
    return index, float(rng.random())


def steps(batches, first, count):
    return [[column.tolist() for column in batch] for batch in islice(batches(first), count)]


@given(seeds, st.integers(0, 50), st.integers(1, 300))
def test_each_epoch_is_a_permutation(seed, epoch, n):
    assert sorted(permutation(seed, epoch, n)) == list(range(n))
    assert indices(seed, n, range(epoch * n, (epoch + 1) * n)) == permutation(seed, epoch, n).tolist()


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(permutation(seed, epoch, 30)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


@given(seeds, st.integers(1, 40), st.integers(1, 15), st.integers(0, 30))
def test_from_any_step_on_the_stream_is_the_same(seed, n, size, first):
    batches = Batches(numbers, n, size, seed=seed)
    assert steps(batches, first, 3) == steps(batches, 0, first + 3)[first:]


@given(seeds, st.integers(1, 40), st.integers(1, 5), st.sampled_from([1, 2, 3, 4]), st.integers(0, 20))
def test_ranks_share_the_batch_of_one_process(seed, n, local, world, step):
    ranks = [Batches(numbers, n, local * world, seed=seed, rank=rank, world=world) for rank in range(world)]
    parts = [steps(rank, step, 2) for rank in ranks]
    together = [[list(chain.from_iterable(part[i][column] for part in parts)) for column in (0, 1)] for i in range(2)]
    assert together == steps(Batches(numbers, n, local * world, seed=seed), step, 2)


@given(seeds, st.integers(1, 40), st.integers(1, 15))
def test_an_epoch_sees_every_sample_once_whatever_the_batch(seed, n, size):
    batches = Batches(numbers, n, size, seed=seed)
    seen = [index for batch, _ in steps(batches, 0, -(-2 * n // size)) for index in batch][: 2 * n]
    assert sorted(seen[:n]) == sorted(seen[n:]) == list(range(n))


def test_augmentation_differs_from_epoch_to_epoch():
    random = [number for _, numbers_ in steps(Batches(numbers, 5, 5), 0, 20) for number in numbers_]
    assert len(set(random)) == 100


def test_loader_processes_change_nothing():
    alone, helped = (Batches(sample, 17, 6, seed=1, workers=workers) for workers in (0, 2))
    for one, other in zip(islice(alone(3), 4), islice(helped(3), 4), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_no_samples_and_batches_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="no sample to train on; check the data folder"):
        Batches(numbers, 0, 4)
    with pytest.raises(ValueError, match="a batch of 10 does not divide among 4 processes"):
        Batches(numbers, 20, 10, world=4)
