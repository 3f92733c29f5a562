"""Running means, confidence intervals, and their sums across ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from torch import Tensor

from core.runtime import Runtime


class Means:
    """Weighted means of named values, summed in float64 where the values live, so that adding never waits for a GPU.

    >>> means = Means()
    >>> means.add({"loss": torch.tensor(2.0)}, weight=3)
    >>> means.add({"loss": torch.tensor(6.0)})
    >>> means.value()
    {'loss': 3.0}
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self._sums: dict[str, Tensor | float] = dict(state["sums"]) if state else {}
        self._weights: dict[str, float] = dict(state["weights"]) if state else {}

    def add(self, values: dict[str, Any], weight: float = 1.0) -> None:
        """Adds one value per name (0-d tensors or numbers), each standing for `weight` samples."""
        for name, value in values.items():
            if isinstance(value, Tensor):
                value = value.item() if value.device.type == "cpu" else value.detach().double()
            self._sums[name] = self._sums.get(name, 0.0) + value * weight
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def finite(self) -> bool:
        """True while no value was NaN or infinite."""
        return all(math.isfinite(total) for total in self._sums.values())

    def value(self) -> dict[str, float]:
        """The means of what this rank has added."""
        return {name: float(total) / self._weights[name] for name, total in self._sums.items()}

    def merge(self, runtime: Runtime) -> None:
        """Moves the sums of all ranks to the first one; what is added later comes on top."""
        if runtime.world == 1:
            return
        states = runtime.gather(self.state())
        self._sums, self._weights = {}, {}
        for state in states if runtime.first else []:
            for name, total in state["sums"].items():
                self._sums[name] = self._sums.get(name, 0.0) + total
                self._weights[name] = self._weights.get(name, 0.0) + state["weights"][name]

    def reduce(self, runtime: Runtime) -> dict[str, float]:
        """The means over all ranks; the others' part only on the first rank."""
        if runtime.world == 1:
            return self.value()
        merged = Means(self.state())
        merged.merge(runtime)
        return merged.value() if runtime.first else self.value()

    def state(self) -> dict[str, Any]:
        """What a run state keeps of it: plain numbers."""
        return {"sums": {name: float(total) for name, total in self._sums.items()}, "weights": dict(self._weights)}


def gather_rows(runtime: Runtime, indices: range, rows: np.ndarray, n: int) -> np.ndarray:
    """Puts the rows that each rank computed for its `indices` of 0..n-1 together: (n, ...) on every rank.

    Raises:
        AssertionError: if some row was not computed exactly once.
    """
    parts = runtime.gather((list(indices), rows))
    order = np.concatenate([np.asarray(part[0], dtype=np.int64) for part in parts])
    assert sorted(order.tolist()) == list(range(n)), "evaluation did not count each sample once"
    result = np.empty((n, *rows.shape[1:]), rows.dtype)
    result[order] = np.concatenate([part[1] for part in parts])
    return result


def bootstrap(
    metric: Callable[[np.ndarray], float], n: int, *, level: float = 0.95, resamples: int = 2000, seed: int = 0,
    strata: np.ndarray | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron 1979) of a metric of resampled indices 0..n-1.

    Args:
        metric: from an index array (n,) to a number.
        strata: (n,) labels within which to resample, so that each keeps its count.
    """
    rng = np.random.default_rng(seed)
    members = [np.arange(n)] if strata is None else [np.flatnonzero(strata == s) for s in np.unique(strata)]
    values = [metric(np.concatenate([rng.choice(m, len(m)) for m in members])) for _ in range(resamples)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def wilson(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) of a proportion; draws may count as half a success."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    p = successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return min(p, max(0.0, float(centre - half))), max(p, min(1.0, float(centre + half)))
