"""From logits to probabilities one may act on: calibration, abstention, and the scores that judge them.

Everything is numpy in and plain numbers out; what is fitted goes to and from a plain dict, since it lives in the card.
Letters: N samples; p is the probability of class 1 (tumour), y its label.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from numbers import Real
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, expit

from core.checked import typed

Kind = Literal["identity", "temperature", "affine"]
Metric = Callable[[NDArray, NDArray], float]
LARGEST_BIAS = 100.0
SCALE_BOUNDS = (1e-2, 1e2)  # separable validation data would drive the slope to infinity


@dataclass(frozen=True)
class Calibration:
    """An increasing map from logits to probabilities: `expit(scale * logit + bias)`.

    With bias 0 it is temperature scaling (Guo et al. 2017, arXiv 1706.04599), temperature = 1 / scale; with a bias it
    is Platt's (1999), which also moves the decision threshold.
    """

    kind: Kind = "identity"
    scale: float = 1.0
    bias: float = 0.0
    n: int = 0
    """Samples it was fitted on."""
    nll: dict[str, float] = field(default_factory=dict)
    """Cross-validated negative log-likelihood of each candidate on those samples, in nats."""

    def probability(self, logits: ArrayLike) -> NDArray[np.float32]:
        """Return calibrated probabilities, float32 in [0, 1], of logits of any shape."""
        return expit(self.scale * np.asarray(logits, dtype=np.float64) + self.bias).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """Rebuild what `to_dict` wrote.

        Raises:
            ValueError: if a value is missing, of another type, not finite, or the scale is out of its bounds.
        """
        made = typed(cls, values)
        if not SCALE_BOUNDS[0] <= made.scale <= SCALE_BOUNDS[1]:
            raise ValueError(f"scale is {made.scale:g}, wanted {SCALE_BOUNDS[0]:g} to {SCALE_BOUNDS[1]:g}")
        if abs(made.bias) > LARGEST_BIAS:
            raise ValueError(f"bias is {made.bias:g}, wanted at most {LARGEST_BIAS:g} either way")
        return made


def fit(logits: ArrayLike, labels: ArrayLike, kind: Kind | Literal["auto"] = "auto", folds: int = 5) -> Calibration:
    """Fit a calibration by maximum likelihood.

    Args:
        logits: (N,) finite.
        labels: (N,) 0 or 1, both present.
        kind: one of the candidates, or "auto" for the one with the least cross-validated NLL (stratified, deterministic
            folds); a richer one must be better by more than the standard error of the difference.

    Raises:
        ValueError: if the shapes differ, a logit is not finite, or a class is missing.
    """
    z, y = _checked(logits, labels, "logits")
    folds = min(folds, int(y.sum()), int((1 - y).sum()))
    losses: dict[Kind, NDArray] = {}
    candidates: tuple[Kind, ...] = ("identity", "temperature", "affine")
    if folds >= 2:
        # Dealt round-robin by class and logit, each fold gets the same share of both classes and of all logits.
        order = np.lexsort((z, y))
        fold = np.empty(len(z), dtype=np.int64)
        fold[order] = np.arange(len(z)) % folds
        for candidate in candidates:
            loss = np.empty(len(z))
            for k in range(folds):
                scale, bias = _maximum_likelihood(z[fold != k], y[fold != k], candidate)
                held_out = fold == k
                loss[held_out] = _loss(scale * z[held_out] + bias, y[held_out])
            losses[candidate] = loss
    if kind == "auto":
        kind = "identity"
        for candidate in candidates[1:] if losses else ():
            gain = losses[kind] - losses[candidate]
            if gain.mean() > gain.std() / math.sqrt(len(z)):
                kind = candidate
    scale, bias = _maximum_likelihood(z, y, kind)
    return Calibration(kind, scale, bias, len(z), {name: float(loss.mean()) for name, loss in losses.items()})


def _maximum_likelihood(z: NDArray, y: NDArray, kind: Kind) -> tuple[float, float]:
    """Return scale and bias; the loss is convex in both."""
    if kind == "identity":
        return 1.0, 0.0
    from scipy.optimize import minimize

    def loss(parameters: NDArray) -> tuple[float, NDArray]:
        a, b = parameters
        error = expit(a * z + b) - y
        return float(_loss(a * z + b, y).mean()), np.array([(error * z).mean(), error.mean()])

    free = (-100.0, 100.0) if kind == "affine" else (0.0, 0.0)
    found = minimize(loss, (1.0, 0.0), jac=True, bounds=[SCALE_BOUNDS, free], method="L-BFGS-B",
                     options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000})  # fmt: skip
    return float(found.x[0]), float(found.x[1])


def _loss(z: NDArray, y: NDArray) -> NDArray:
    """Return the negative log-likelihood of each sample from its logit, without overflow."""
    return np.logaddexp(0.0, z) - y * z


# -- abstention --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conformal:
    """Split-conformal prediction sets of two classes (Vovk et al. 2005; Angelopoulos and Bates 2021, arXiv 2107.07511).

    A class is in the set of a sample if the model's doubt about it, 1 - p(class), is at most the finite-sample quantile
    of the doubts about the true class in the calibration samples. The rank is chosen so that, with probability
    `confidence` over the calibration samples, new ones drawn like them miss their class at a rate <= alpha (Vovk 2012,
    arXiv 1209.2673, proposition 2a), class-conditionally (Mondrian) for each of the two classes: the plain rank would
    keep the rate only on average over many calibrations, of which a user has one. A predictor that answers only
    where the set is the one class it takes for more probable is thus "answered and wrong" at a rate <= alpha. Not
    promised: the error among the answered (it is that divided by their share), and anything about another scanner.

    Class-conditional quantiles depend on ranks alone, so fitting a `Calibration` on the same samples spoils nothing.
    """

    alpha: float
    quantiles: tuple[float, float]
    """The largest doubt, in [0, 1], with which class 0 and class 1 are still in the set."""
    confidence: float = 0.95
    n: int = 0

    @classmethod
    def fit(cls, prob: ArrayLike, labels: ArrayLike, alpha: float = 0.05, confidence: float = 0.95) -> Conformal:
        """Take the quantiles from samples that did not train the model: prob (N,) in [0, 1], labels (N,) 0 or 1.

        Raises:
            ValueError: if alpha is not within (0, 1), or prob and labels are unusable.
        """
        if not (isinstance(alpha, Real) and 0 < alpha < 1):
            raise ValueError(f"alpha is {alpha!r}, wanted a risk between 0 and 1, such as 0.05")
        if not (isinstance(confidence, Real) and 0 < confidence < 1):
            raise ValueError(f"confidence is {confidence!r}, wanted a number between 0 and 1, such as 0.95")
        p, y = _checked(prob, labels, "probabilities")
        zero, one = (_finite_sample_quantile(group, alpha, confidence) for group in (p[y == 0], 1 - p[y == 1]))
        return cls(alpha, (zero, one), confidence, len(p))

    def sets(self, prob: ArrayLike) -> NDArray[np.bool_]:
        """Return (N, 2) bool: whether class 0 and class 1 are in the set of each sample."""
        p = np.asarray(prob, dtype=np.float64)
        return np.stack([p <= self.quantiles[0], 1 - p <= self.quantiles[1]], axis=-1)

    def uncertain(self, prob: ArrayLike) -> NDArray[np.bool_]:
        """Return (N,) bool: where the set is not the more probable class alone: both are plausible, or neither is."""
        zero, one = np.moveaxis(self.sets(prob), -1, 0)
        likely = np.asarray(prob) >= 0.5
        return (one != likely) | (zero == likely)


def _finite_sample_quantile(doubt: NDArray, alpha: float, confidence: float) -> float:
    """Return the smallest doubt that covers 1 - alpha with the given confidence; 1 where there are too few for any.

    The k-th smallest of n covers a share of new samples that is Beta(k, n - k + 1) distributed, or more with ties; it
    reaches 1 - alpha as surely as a Binomial(n, 1 - alpha) stays below k.
    """
    n = len(doubt)
    below = bdtr(np.arange(n), n, 1 - alpha)  # of k = 1 ... n
    rank = int(np.searchsorted(below, confidence))
    return float(np.sort(doubt)[rank]) if rank < n else 1.0


# -- scores ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bin:
    """A row of `reliability` as a card keeps it."""

    low: float
    high: float
    mean: float | None
    observed: float | None
    n: int


def reliability(prob: ArrayLike, labels: ArrayLike, bins: int = 15, equal_mass: bool = False) -> list[dict[str, Any]]:
    """Compare mean probability and observed frequency of class 1 in bins of its probability.

    Bins are [low, high), the last closed: of equal width on [0, 1], or between quantiles (ties stay together, so there
    may be fewer). Each is a dict {low, high, mean, observed, n}; mean and observed are None where n is 0.
    """
    p, y = _checked(prob, labels, "probabilities", classes=False)
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1))) if equal_mass else np.linspace(0, 1, bins + 1)
    if len(edges) == 1:  # all probabilities are the same
        edges = np.repeat(edges, 2)
    place = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, len(edges) - 2)
    rows = []
    for i, (low, high) in enumerate(pairwise(edges)):
        inside = place == i
        n = int(inside.sum())
        mean, observed = (float(p[inside].mean()), float(y[inside].mean())) if n else (None, None)
        rows.append({"low": float(low), "high": float(high), "mean": mean, "observed": observed, "n": n})
    return rows


def ece(prob: ArrayLike, labels: ArrayLike, bins: int = 15, equal_mass: bool = False) -> float:
    """Return the expected calibration error: |mean probability - observed frequency| of a bin, averaged over samples.

    The bins are those of `reliability`: by the probability of class 1 (not by the confidence in the predicted class,
    as in Guo et al., which folds two opposite errors onto each other).
    """
    rows = [row for row in reliability(prob, labels, bins, equal_mass) if row["n"]]
    return sum(row["n"] * abs(row["mean"] - row["observed"]) for row in rows) / sum(row["n"] for row in rows)


def ece_by_chance(prob: ArrayLike, bins: int = 15, draws: int = 1000, seed: int = 0) -> dict[str, float]:
    """Return {mean, high}: the `ece` that these probabilities would show if they were true, and its 97.5 % quantile.

    Labels are drawn from the probabilities themselves ("consistency resampling", Broecker and Smith 2007): an ECE is
    never 0 on a finite sample, and resampling the sample inflates it further, so that it has no honest interval.
    """
    p = np.asarray(prob, dtype=np.float64)
    rng = np.random.default_rng(seed)
    found = [ece(p, rng.random(len(p)) < p, bins) for _ in range(draws)]
    return {"mean": float(np.mean(found)), "high": float(np.quantile(found, 0.975))}


def auroc(prob: ArrayLike, labels: ArrayLike) -> float:
    """Return the area under the ROC curve; ties count one half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, prob))


def auprc(prob: ArrayLike, labels: ArrayLike) -> float:
    """Return the average precision, the step-wise area under the precision-recall curve."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, prob))


def brier(prob: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean squared difference of probability and label."""
    return float(np.mean((np.asarray(prob, np.float64) - np.asarray(labels, np.float64)) ** 2))


def nll(prob: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean negative log-likelihood in nats; probabilities are kept 1e-7 away from 0 and 1."""
    p = np.clip(np.asarray(prob, np.float64), 1e-7, 1 - 1e-7)
    return float(-np.log(np.where(np.asarray(labels) == 1, p, 1 - p)).mean())


def accuracy(prob: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of samples on the right side of 0.5."""
    return float(np.mean((np.asarray(prob) >= 0.5) == (np.asarray(labels) == 1)))


def sensitivity_at_specificity(prob: ArrayLike, labels: ArrayLike, specificity: float = 0.95) -> float:
    """Return the largest sensitivity of any threshold whose specificity is at least the given one."""
    p, y = _checked(prob, labels, "probabilities")
    negatives = np.sort(p[y == 0])
    allowed = math.floor((1 - specificity) * len(negatives) + 1e-9)  # false positives
    if allowed >= len(negatives):
        return 1.0
    return float(np.mean(p[y == 1] > negatives[len(negatives) - 1 - allowed]))


class SelectiveRisk(NamedTuple):
    """Error among the most confident, as more and more are answered."""

    coverage: NDArray  # (N,) share answered, 1/N .. 1
    risk: NDArray  # (N,) share of those that are wrong
    aurc: float  # mean of risk over coverage: the area under the curve


def selective_risk(prob: ArrayLike, labels: ArrayLike) -> SelectiveRisk:
    """Return the selective-risk curve with confidence |p - 0.5| (Geifman and El-Yaniv 2017, arXiv 1705.08500).

    Equally confident samples count as answered in random order: each carries the mean error of its ties.
    """
    p, y = _checked(prob, labels, "probabilities", classes=False)
    wrong = ((p >= 0.5) != (y == 1)).astype(np.float64)
    _, tie, size = np.unique(-np.abs(p - 0.5), return_inverse=True, return_counts=True)
    share = np.bincount(tie, weights=wrong) / size
    answered = np.arange(1, len(p) + 1)
    risk = np.cumsum(np.repeat(share, size)) / answered
    return SelectiveRisk(answered / len(p), risk, float(risk.mean()))


def summary(prob: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Return every score of a set of probabilities by name, as plain numbers."""
    return {
        "auroc": auroc(prob, labels),
        "auprc": auprc(prob, labels),
        "accuracy": accuracy(prob, labels),
        "sensitivity_at_95_specificity": sensitivity_at_specificity(prob, labels, 0.95),
        "sensitivity_at_99_specificity": sensitivity_at_specificity(prob, labels, 0.99),
        "ece": ece(prob, labels),
        "ece_equal_mass": ece(prob, labels, equal_mass=True),
        "nll": nll(prob, labels),
        "brier": brier(prob, labels),
        "aurc": selective_risk(prob, labels).aurc,
    }


def bootstrap(
    metric: Metric, prob: ArrayLike, labels: ArrayLike, n: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval of a metric over n resamples, drawn with replacement within each class.

    Equal seeds draw equal resamples, so two models' intervals on the same samples are of the same draws.
    """
    p, y = _checked(prob, labels, "probabilities")
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(y == c) for c in (0, 1)]
    values: list[float] = []
    while len(values) < n:
        rows = min(64, n - len(values))
        draws = np.hstack([c[rng.integers(0, len(c), (rows, len(c)))] for c in classes])  # (rows, N)
        if metric is auroc:
            values += _auroc_of_draws(p, y, draws)
        else:
            values += [metric(p[draw], y[draw]) for draw in draws]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _auroc_of_draws(p: NDArray, y: NDArray, draws: NDArray) -> list[float]:
    """Return the AUROC of each row of indices, all at once, from how often each distinct score was drawn."""
    distinct, rank = np.unique(p, return_inverse=True)
    rows, places = len(draws), len(distinct)
    cell = (2 * np.arange(rows)[:, None] + y[draws].astype(np.int64)) * places + rank[draws]
    counts = np.bincount(cell.ravel(), minlength=2 * rows * places).reshape(rows, 2, places)
    negative, positive = counts[:, 0], counts[:, 1]
    below = np.cumsum(negative, axis=1) - 0.5 * negative  # negatives with a lower score, ties half
    return ((positive * below).sum(1) / (negative.sum(1) * positive.sum(1))).tolist()


def _checked(values: ArrayLike, labels: ArrayLike, what: str, classes: bool = True) -> tuple[NDArray, NDArray]:
    """Return both as float64 (N,) after the checks that every function here needs."""
    v, y = np.asarray(values, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if v.ndim != 1 or v.shape != y.shape or not len(v):
        raise ValueError(f"{what} have shape {v.shape}, labels {y.shape}: give at least one, each with a label")
    if not np.isfinite(v).all():
        raise ValueError(f"{int((~np.isfinite(v)).sum())} of {len(v)} {what} are not finite: check the model's weights")
    if what == "probabilities" and (v.min() < 0 or v.max() > 1):
        raise ValueError(f"probabilities span {v.min():.3g} to {v.max():.3g}, wanted 0 to 1: are these logits?")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("labels hold other values than 0 and 1: give 1 for tumour and 0 for none")
    if classes and len(np.unique(y)) < 2:
        raise ValueError(f"all {len(y)} labels are {int(y[0])}: both classes are needed")
    return v, y
