import time
from itertools import product

import numpy as np
import pytest
import scipy.stats

from constellation.evaluation.statistics import Bootstrap, bootstrap_mean, minimum_detectable_effect, resample


def test_resamples_are_multinomial() -> None:
    weights = resample(7, 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(weights.sum(1), 1)
    counts = weights * 7
    np.testing.assert_allclose(counts, counts.round(), atol=1e-12)
    # a count of draws is binomial(7, 1/7): mean 1, variance 6/7
    np.testing.assert_allclose(counts.mean(0), 1, atol=0.03)
    np.testing.assert_allclose(counts.var(0), 6 / 7, atol=0.04)


def test_interval_of_the_complete_bootstrap_distribution() -> None:
    values = np.array([0.0, 1.0, 5.0])
    every = np.array([np.bincount(draw, minlength=3) / 3 for draw in product(range(3), repeat=3)])
    means = [values[list(draw)].mean() for draw in product(range(3), repeat=3)]
    estimate = bootstrap_mean(values, every, level=0.8)
    assert estimate.value == pytest.approx(2.0)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(means, [0.1, 0.9])))


def test_interval_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    values = rng.beta(0.3, 0.5, size=200)
    ours = bootstrap_mean(values, resample(200, 20_000, rng))
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2)
    # an end of 20,000 draws has a standard error of about 0.02 standard errors of the mean
    tolerance = 0.1 * theirs.standard_error
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=tolerance)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=tolerance)


def test_pairing_makes_a_constant_difference_certain() -> None:
    rng = np.random.default_rng(3)
    before = rng.random(50)
    estimate = bootstrap_mean((before + 0.25) - before, resample(50, 1_000, rng))
    assert estimate == pytest.approx((0.25, 0.25, 0.25))


def test_mean_within_a_part_agrees_with_scipy() -> None:
    rng = np.random.default_rng(4)
    share = rng.random(150) * (rng.random(150) < 0.4)
    values = share * (rng.random(150) < 0.5)
    ours = bootstrap_mean(values, resample(150, 20_000, rng), within=share)

    def ratio(v: np.ndarray, s: np.ndarray, axis: int = -1) -> np.ndarray:
        return v.sum(axis) / s.sum(axis)

    theirs = scipy.stats.bootstrap(
        (values, share), ratio, paired=True, n_resamples=20_000, method="percentile", rng=5, vectorized=True
    )
    assert ours.value == pytest.approx(values.sum() / share.sum())
    tolerance = 0.1 * theirs.standard_error
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=tolerance)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=tolerance)


def test_an_empty_part_has_no_mean() -> None:
    estimate = bootstrap_mean(np.zeros(5), resample(5, 100, np.random.default_rng(0)), within=np.zeros(5))
    assert np.isnan(estimate).all()


def test_many_statistics_at_once_are_each_their_own() -> None:
    rng = np.random.default_rng(6)
    values, weights = rng.random((40, 3, 2)), resample(40, 500, rng)
    together = Bootstrap({"hard": weights}, 0.9)("hard", values)
    assert together.value.shape == (3, 2)
    for i, j in product(range(3), range(2)):
        alone = bootstrap_mean(values[:, i, j], weights, 0.9)
        np.testing.assert_allclose([part[i, j] for part in together], alone)


def test_detectable_effect_is_detected_with_its_power() -> None:
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 0.3, size=(200, 4_000))
    effect = minimum_detectable_effect(noise[:, 0] / noise[:, 0].std(ddof=1) * 0.3, power=0.8)
    samples = noise + effect  # [T, studies]
    reach = scipy.stats.norm.ppf(0.975) * samples.std(0, ddof=1) / np.sqrt(200)
    assert (samples.mean(0) - reach > 0).mean() == pytest.approx(0.8, abs=0.025)


def test_ten_thousand_resamples_take_less_than_a_second() -> None:
    start = time.process_time()
    weights = resample(200, 10_000, np.random.default_rng(0))
    bootstrap_mean(np.random.default_rng(1).random((200, 64)), weights)
    assert time.process_time() - start < 1
