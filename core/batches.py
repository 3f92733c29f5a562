"""The order of samples as a pure function of (seed, step): a run resumes without any loader state."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

Sample = Callable[[int, np.random.Generator], Any]


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order in which one epoch visits the samples 0..n-1."""
    return np.random.default_rng((seed, epoch)).permutation(n)


def indices(seed: int, n: int, positions: range) -> list[int]:
    """Maps positions in the endless stream of epochs to sample numbers in 0..n-1."""
    return [int(permutation(seed, position // n, n)[position % n]) for position in positions]


class Batches:
    """Endless batches of `size` samples over all ranks; `batches(step)` yields from that step on.

    `sample(index, rng)` makes one sample. Its random generator is seeded by the sample's position in the
    stream, so augmentation too is the same whatever the number of workers, ranks or interruptions.

    Args:
        sample: a function from (index, random generator) to a sample; picklable when workers > 0.
        n: number of samples.
        size: samples per step over all ranks; a multiple of `world`.
        workers: loader processes per rank; 0 makes the samples in the training process.
        collate: from a list of samples to a batch.
    """

    def __init__(
        self,
        sample: Sample,
        n: int,
        size: int,
        *,
        seed: int = 0,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        collate: Callable[[list[Any]], Any] = default_collate,
    ) -> None:
        if n < 1:
            raise ValueError("there is no sample to train on; check the data folder and its split")
        if size < 1:
            raise ValueError(f"a batch of {size} samples was asked for; it must hold at least one")
        if size % world:
            raise ValueError(f"a batch of {size} does not divide among {world} processes; make it a multiple of it")
        self.sample, self.n, self.size, self.seed = sample, n, size, seed
        self.workers, self.rank, self.world, self.collate = workers, rank, world, collate

    def positions(self, step: int) -> range:
        """This rank's positions in the endless stream at a step: a contiguous part of the global batch."""
        local = self.size // self.world
        begin = step * self.size + self.rank * local
        return range(begin, begin + local)

    def __call__(self, step: int) -> Iterator[Any]:
        loader = DataLoader(
            _Positions(self.sample, self.n, self.seed),
            batch_sampler=_Steps(self, step),
            num_workers=self.workers,
            collate_fn=self.collate,
            pin_memory=torch.cuda.is_available(),
            prefetch_factor=4 if self.workers else None,
            worker_init_fn=_leave_interrupts_to_the_trainer,
            multiprocessing_context=_forkserver(self.sample) if self.workers else None,
        )
        return iter(loader)


class _Positions(Dataset):
    """Looks a sample up by its position in the stream; this is what loader workers hold."""

    def __init__(self, sample: Sample, n: int, seed: int) -> None:
        self.sample, self.n, self.seed = sample, n, seed

    def __getitem__(self, position: int) -> Any:
        (index,) = indices(self.seed, self.n, range(position, position + 1))
        return self.sample(index, np.random.default_rng((self.seed, 1, position)))


class _Steps(Sampler):
    def __init__(self, batches: Batches, first: int) -> None:
        self.batches, self.first = batches, first

    def __iter__(self) -> Iterator[list[int]]:
        step = self.first
        while True:
            yield list(self.batches.positions(step))
            step += 1


def _forkserver(sample: Sample) -> Any:
    """The server that loader workers are forked from; it imports what they need once (seconds), not each of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, sample.__module__])
    return context


def _leave_interrupts_to_the_trainer(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
