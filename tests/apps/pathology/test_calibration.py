"""Probabilities against slow references, scikit-learn, simulation and properties."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import beta, binom
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score, roc_curve

from apps.pathology import calibration as c

fair = settings(deadline=None, max_examples=50)  # the machine may be busy


def drawn(n: int, scale: float = 1.0, bias: float = 0.0, seed: int = 0, spread: float = 3.0):
    """Logits whose true probability is expit(scale * logit + bias), and labels drawn with it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, n)
    return logits, (rng.random(n) < expit(scale * logits + bias)).astype(np.uint8)


@st.composite
def scored(draw, least: int = 4, most: int = 60):
    """Probabilities with many ties, and labels of both classes."""
    n = draw(st.integers(least, most))
    p = draw(st.lists(st.integers(0, 16).map(lambda i: i / 16), min_size=n, max_size=n))
    y = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda v: 0 < sum(v) < len(v)))
    return np.array(p), np.array(y)


# -- calibration -------------------------------------------------------------------------------------------------------


def test_the_affine_fit_is_the_logistic_regression_of_scikit_learn():
    logits, labels = drawn(500, 0.4, -0.7)
    ours = c.fit(logits, labels, "affine")
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logits[:, None], labels)
    assert ours.scale == pytest.approx(theirs.coef_[0, 0], rel=1e-4)
    assert ours.bias == pytest.approx(theirs.intercept_[0], rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(ours.probability(logits), theirs.predict_proba(logits[:, None])[:, 1], atol=1e-4)


def test_the_temperature_is_the_one_of_least_loss():
    logits, labels = drawn(500, 0.5)
    scale = c.fit(logits, labels, "temperature").scale
    grid = np.geomspace(0.05, 5, 4001)
    losses = [c.nll(expit(s * logits), labels) for s in grid]
    assert scale == pytest.approx(grid[np.argmin(losses)], rel=2e-3)


@pytest.mark.parametrize(("scale", "bias", "kind"), [(1, 0, "identity"), (0.4, 0, "temperature"), (0.6, 1.2, "affine")])
def test_the_kind_is_the_least_that_the_data_asks_for(scale, bias, kind):
    fitted = c.fit(*drawn(3000, scale, bias))
    assert fitted.kind == kind
    assert fitted.scale == pytest.approx(scale, abs=0.06)
    assert fitted.bias == pytest.approx(bias, abs=0.15)
    assert set(fitted.nll) == {"identity", "temperature", "affine"}
    assert fitted.n == 3000


def test_calibration_mends_overconfidence_on_samples_it_has_not_seen():
    logits, labels = drawn(3000, 0.3, 0.5, seed=1)
    fitted = c.fit(*drawn(1000, 0.3, 0.5, seed=2))
    before, after = expit(logits), fitted.probability(logits)
    assert c.ece(after, labels) < 0.03 < 0.1 < c.ece(before, labels)
    assert c.nll(after, labels) < c.nll(before, labels)
    assert c.auroc(after, labels) == pytest.approx(c.auroc(before, labels), abs=1e-6)


def test_the_cross_validated_loss_is_near_the_loss_on_fresh_samples_and_above_the_fitted_one():
    logits, labels = drawn(400, 0.5, 0.5)
    fitted = c.fit(logits, labels, "affine")
    assert fitted.nll["affine"] > c.nll(fitted.probability(logits), labels)
    assert fitted.nll["affine"] == pytest.approx(c.nll(fitted.probability(logits), labels), abs=0.02)


def test_a_fit_does_not_depend_on_the_order_of_samples():
    logits, labels = drawn(300, 0.5, 0.5)
    turn = np.random.default_rng(0).permutation(300)
    one, other = c.fit(logits, labels), c.fit(logits[turn], labels[turn])
    assert one.kind == other.kind
    assert (one.scale, one.bias) == pytest.approx((other.scale, other.bias), rel=1e-5)
    assert one.nll == pytest.approx(other.nll)


@fair
@given(st.floats(0.01, 100), st.floats(-50, 50), st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=20))
def test_probabilities_are_float32_in_range_and_keep_the_order(scale, bias, logits):
    p = c.Calibration("affine", scale, bias).probability(np.sort(logits))
    assert p.dtype == np.float32
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p) >= 0).all()


def test_separable_samples_give_a_finite_steep_map_and_two_samples_are_enough():
    for n in (1, 50):
        logits, labels = np.r_[-np.ones(n), np.ones(n)], np.r_[np.zeros(n), np.ones(n)]
        fitted = c.fit(logits, labels, "temperature")
        assert 1 < fitted.scale <= 100
        assert np.isfinite(c.fit(logits, labels).probability([-1e6, 1e6])).all()


def test_what_is_fitted_survives_json():
    logits, labels = drawn(200, 0.5, 0.5)
    fitted = c.fit(logits, labels)
    again = c.Calibration.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted


@pytest.mark.parametrize(
    ("values", "labels", "says"),
    [
        ([0.1, np.nan], [0, 1], "1 of 2 logits are not finite"),
        ([0.1, 0.2], [1, 1], "both classes"),
        ([0.1, 0.2], [1, 2], "other values than 0 and 1"),
        ([0.1], [0, 1], r"shape \(1,\)"),
        ([], [], "give at least one"),
        ([[0.1, 0.2]], [[0, 1]], "shape"),
    ],
)
def test_unusable_samples_are_refused(values, labels, says):
    with pytest.raises(ValueError, match=says):
        c.fit(values, labels)


def test_logits_are_not_taken_for_probabilities():
    for judge in (c.ece, c.selective_risk, c.sensitivity_at_specificity, c.reliability):
        with pytest.raises(ValueError, match="are these logits"):
            judge([-2.0, 3.0], [0, 1])


# -- abstention --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [59, 97, 400])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_risk_is_kept_as_surely_as_promised(n, alpha):
    """Over many calibrations of a poor, miscalibrated model: how many of them cover 1 - alpha of either class."""
    rng = np.random.default_rng(n)
    rounds, labels, kept = 2000, np.repeat([0, 1], n), []
    for _ in range(rounds):
        conformal = c.Conformal.fit(np.r_[rng.beta(2, 4, n), rng.beta(4, 2, n)], labels, alpha)
        kept.append(beta.cdf(conformal.quantiles, 2, 4) >= 1 - alpha)
    rank = next(k for k in range(1, n + 1) if beta.sf(1 - alpha, k, n - k + 1) >= 0.95)
    surely = beta.sf(1 - alpha, rank, n - rank + 1)  # a little more than 0.95, since ranks are whole
    assert np.abs(np.mean(kept, 0) - surely).max() < 4 * np.sqrt(surely * (1 - surely) / rounds)


def test_answered_and_wrong_stays_below_the_stated_risk():
    fit_logits, fit_labels = drawn(4000, seed=1)
    logits, labels = drawn(20000, seed=2)
    for alpha in (0.02, 0.05, 0.1):
        conformal = c.Conformal.fit(expit(fit_logits), fit_labels, alpha)
        answered = ~conformal.uncertain(expit(logits))
        wrong = answered & ((logits > 0) != labels)
        for y in (0, 1):
            assert wrong[labels == y].mean() < alpha + 0.02
        assert 0.3 < answered.mean() < 0.98


@fair
@given(scored(), st.sampled_from([0.05, 0.1, 0.25, 0.5]))
def test_at_most_the_share_alpha_of_the_calibration_samples_is_missed(sample, alpha):
    p, y = sample
    conformal = c.Conformal.fit(p, y, alpha)
    sets = conformal.sets(p)
    for label in (0, 1):
        assert (~sets[y == label, label]).mean() <= alpha
    for chance, chosen, declined in zip(p, sets, conformal.uncertain(p), strict=True):
        assert declined == (chosen.tolist() != [chance < 0.5, chance >= 0.5])


@fair
@given(scored(), st.sampled_from([0.05, 0.1, 0.25]))
def test_the_sets_depend_on_ranks_alone(sample, alpha):
    p, y = sample
    warped = p**3 / (p**3 + (1 - p) ** 3 * 0.5)  # increasing: another calibration
    before = c.Conformal.fit(p, y, alpha).sets(p)
    assert (before == c.Conformal.fit(warped, y, alpha).sets(warped)).all()


def test_too_few_samples_for_a_risk_leave_everything_uncertain():
    """0.95 ** 58 is above 0.05 and 0.95 ** 59 below: so many samples must lie on one side to be sure of 95 %."""
    for n, quantiles in ((58, (1.0, 1.0)), (59, (0.25, 0.125))):
        conformal = c.Conformal.fit(np.repeat([0.25, 0.875], n), np.repeat([0, 1], n), 0.05)
        assert conformal.quantiles == quantiles
        assert conformal.uncertain(np.linspace(0, 1, 5)).tolist() == [n == 58, n == 58, True, True, n == 58]


def test_no_answer_contradicts_its_set():
    """A score below one half whose set is {tumour} is no answer `normal`."""
    conformal = c.Conformal(0.05, (0.3, 0.8))
    assert conformal.sets([0.4]).tolist() == [[False, True]]
    assert conformal.uncertain([0.4, 0.6, 0.25, 0.1]).tolist() == [True, False, True, False]


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 5])
def test_a_risk_is_between_0_and_1(alpha):
    with pytest.raises(ValueError, match="between 0 and 1"):
        c.Conformal.fit([0.1, 0.9], [0, 1], alpha)


@pytest.mark.parametrize("confidence", [0, 1, -1, float("nan"), "x"])
def test_a_confidence_is_between_0_and_1(confidence):
    with pytest.raises(ValueError, match="confidence is"):
        c.Conformal.fit([0.1, 0.9], [0, 1], 0.1, confidence)


# -- scores ------------------------------------------------------------------------------------------------------------


def slow_ece(p, y, bins):
    total = 0.0
    for b in range(bins):
        inside = [i for i in range(len(p)) if b / bins <= p[i] < (b + 1) / bins or (b == bins - 1 and p[i] == 1)]
        if inside:
            total += abs(sum(p[i] for i in inside) - sum(y[i] for i in inside)) / len(p)
    return total


def test_the_ece_of_chance_is_that_of_labels_drawn_from_the_probabilities():
    p = np.repeat([0.25, 0.75], 50)  # 2 bins: the mean over them of |Binomial(50, p) / 50 - p|
    mean = np.sum(np.abs(np.arange(51) / 50 - 0.25) * binom.pmf(np.arange(51), 50, 0.25))
    chance = c.ece_by_chance(p, bins=2, draws=4000)
    assert chance["mean"] == pytest.approx(mean, rel=0.02)
    assert chance["mean"] < chance["high"] < 3 * mean


@fair
@given(scored(), st.sampled_from([1, 3, 7, 15]))
def test_ece_is_the_one_of_its_definition(sample, bins):
    p, y = sample
    p = p * 0.999  # off the edges of bins, where 1/3 is a matter of rounding
    assert c.ece(p, y, bins) == pytest.approx(slow_ece(p, y, bins), abs=1e-12)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_reliability_is_the_curve_of_scikit_learn(strategy):
    logits, labels = drawn(2000, 0.5)
    p = expit(logits)
    observed, mean = calibration_curve(labels, p, n_bins=10, strategy=strategy)
    rows = [r for r in c.reliability(p, labels, 10, equal_mass=strategy == "quantile") if r["n"]]
    np.testing.assert_allclose([r["mean"] for r in rows], mean, atol=1e-9)
    np.testing.assert_allclose([r["observed"] for r in rows], observed, atol=1e-9)


@fair
@given(scored(), st.integers(1, 20), st.booleans())
def test_every_sample_is_in_one_bin(sample, bins, equal_mass):
    p, y = sample
    rows = c.reliability(p, y, bins, equal_mass)
    assert len(rows) == bins or (equal_mass and len(rows) <= bins)
    assert sum(r["n"] for r in rows) == len(p)
    assert sum(r["n"] * r["observed"] for r in rows if r["n"]) == pytest.approx(y.sum())
    assert all(r["low"] - 1e-12 <= r["mean"] <= r["high"] + 1e-12 for r in rows if r["n"])
    assert 0 <= c.ece(p, y, bins, equal_mass) <= 1
    json.dumps(rows, allow_nan=False)


def test_equal_mass_bins_hold_equal_numbers():
    p = np.random.default_rng(0).permutation(np.linspace(0.001, 0.999, 300) ** 3)
    assert {r["n"] for r in c.reliability(p, p > 0.5, 15, equal_mass=True)} == {20}


def test_scores_are_those_of_scikit_learn():
    logits, labels = drawn(800)
    p = expit(logits)
    ours = c.summary(p, labels)
    assert ours["auroc"] == pytest.approx(roc_auc_score(labels, p))
    assert ours["brier"] == pytest.approx(brier_score_loss(labels, p))
    assert ours["nll"] == pytest.approx(log_loss(labels, p))
    assert ours["accuracy"] == pytest.approx(accuracy_score(labels, p >= 0.5))
    assert all(type(value) is float for value in ours.values())
    json.dumps(ours, allow_nan=False)


@fair
@given(scored(), st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.99, 1.0]))
def test_sensitivity_is_the_best_point_of_the_roc_curve(sample, specificity):
    p, y = sample
    false, true, _ = roc_curve(y, p, drop_intermediate=False)
    best = true[1 - false >= specificity - 1e-9].max()
    assert c.sensitivity_at_specificity(p, y, specificity) == pytest.approx(best)


@fair
@given(scored(most=30))
def test_the_selective_risk_curve_is_the_expectation_over_orders_of_ties(sample):
    p, y = sample
    coverage, risk, aurc = c.selective_risk(p, y)
    confidence, wrong = np.abs(p - 0.5), (p >= 0.5) != y
    for k in range(1, len(p) + 1):
        better = np.array([(confidence > own).sum() for own in confidence])
        tied = np.array([(confidence == own).sum() for own in confidence])
        answered = np.clip((k - better) / tied, 0, 1)  # the probability of being among the first k
        assert risk[k - 1] == pytest.approx((answered * wrong).sum() / k)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(1 - c.accuracy(p, y))
    assert aurc == pytest.approx(risk.mean())


def test_knowing_what_one_knows_lowers_the_area_under_selective_risk():
    logits, labels = drawn(3000)
    informed = c.selective_risk(expit(logits), labels).aurc
    blind = c.selective_risk(np.where(logits > 0, 0.9, 0.1), labels).aurc
    assert informed < 0.5 * blind
    assert blind == pytest.approx(1 - c.accuracy(expit(logits), labels))


# -- bootstrap ---------------------------------------------------------------------------------------------------------


@fair
@given(scored(most=30), st.integers(0, 5))
def test_the_fast_bootstrap_of_auroc_is_the_slow_one(sample, seed):
    p, y = sample

    def slow(p, y):
        return c.auroc(p, y)

    assert c.bootstrap(c.auroc, p, y, 8, seed) == pytest.approx(c.bootstrap(slow, p, y, 8, seed))


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """AUROC of N(1, 1) against N(0, 1) is Phi(1 / sqrt 2) = 0.7602."""
    rng = np.random.default_rng(0)
    hits = 0
    for i in range(120):
        p = expit(np.r_[rng.normal(0, 1, 100), rng.normal(1, 1, 100)])
        low, high = c.bootstrap(c.auroc, p, np.repeat([0, 1], 100), 300, i)
        assert low < c.auroc(p, np.repeat([0, 1], 100)) < high
        hits += low <= 0.76025 <= high
    assert 0.89 <= hits / 120 <= 0.99


def test_the_interval_narrows_with_the_square_root_of_samples_and_is_repeatable():
    widths = []
    for n in (100, 1600):
        logits, labels = drawn(n)
        p = expit(logits)
        low, high = c.bootstrap(c.brier, p, labels, 400, seed=3)
        assert (low, high) == c.bootstrap(c.brier, p, labels, 400, seed=3)
        assert (low, high) != c.bootstrap(c.brier, p, labels, 400, seed=4)
        widths.append(high - low)
    assert 2.5 < widths[0] / widths[1] < 6


def test_it_does_not_import_torch_nor_matplotlib():
    code = "import sys, apps.pathology.calibration; print({'torch', 'matplotlib', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
