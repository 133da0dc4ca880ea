import time
from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.evaluation.statistics import (
    Bootstrap,
    bootstrap_variance,
    holm,
    minimum_detectable_effect,
    resample,
    student_t,
    variance_components,
)


def bootstrap(trajectories: int, tasks: int, resamples: int, seed: int = 0, level: float = 0.95) -> Bootstrap:
    rng = np.random.default_rng(seed)
    of_trajectories = resample(trajectories, resamples, rng)
    return Bootstrap(of_trajectories, {"hard": resample(tasks, resamples, rng)}, level)


def crossed(
    rng: np.random.Generator, shape: tuple[int, int], of_trajectories: float, of_tasks: float, residual: float
) -> np.ndarray:
    """[K, T] of the crossed design around 0, given its standard deviations."""
    trajectories, tasks = shape
    return (
        of_trajectories * rng.standard_normal((trajectories, 1))
        + of_tasks * rng.standard_normal((1, tasks))
        + residual * rng.standard_normal(shape)
    )


def test_resamples_are_multinomial() -> None:
    weights = resample(7, 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(weights.sum(1), 1)
    counts = weights * 7
    np.testing.assert_allclose(counts, counts.round(), atol=1e-12)
    # a count of draws is binomial(7, 1/7): mean 1, variance 6/7
    np.testing.assert_allclose(counts.mean(0), 1, atol=0.03)
    np.testing.assert_allclose(counts.var(0), 6 / 7, atol=0.04)


def every(units: int) -> np.ndarray:
    """[U^U, U] the weights of every possible resample."""
    return np.array([np.bincount(d, minlength=units) / units for d in product(range(units), repeat=units)])


def test_interval_of_the_complete_bootstrap_distribution() -> None:
    values = np.array([0.0, 1.0, 5.0])
    complete = Bootstrap(np.ones((27, 1)), {"hard": every(3)}, 0.8)
    means = [values[list(draw)].mean() for draw in product(range(3), repeat=3)]
    estimate = complete("hard", values[None])
    assert estimate.value == pytest.approx(2.0)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(means, [0.1, 0.9])))
    assert (estimate.lower, estimate.upper) == pytest.approx(tuple(np.quantile(means, [0.2, 0.8])))
    assert estimate.p_above == pytest.approx(2 / 28)  # one mean of 27 is 0, and the study itself counts
    assert estimate.p_below == 1


def test_trajectories_and_tasks_are_drawn_independently() -> None:
    """Every pair of a resample of 2 trajectories and one of 3 tasks, by plain loops."""
    values = np.random.default_rng(8).random((2, 3))
    of_trajectories, of_tasks = every(2), every(3)
    complete = Bootstrap(np.repeat(of_trajectories, 27, axis=0), {"hard": np.tile(of_tasks, (4, 1))}, 0.9)
    means = [
        np.mean([values[k, t] for k in trajectories for t in tasks])
        for trajectories in product(range(2), repeat=2)
        for tasks in product(range(3), repeat=3)
    ]
    np.testing.assert_allclose(complete.draws("hard", values), means)
    assert bootstrap_variance(values) == pytest.approx(np.var(means))


def test_interval_over_tasks_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).beta(0.3, 0.5, size=200)
    ours = bootstrap(1, 200, 20_000)("hard", values[None])
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2)
    # an end of 20,000 draws has a standard error of about 0.02 standard errors of the mean
    tolerance = 0.1 * theirs.standard_error
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=tolerance)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=tolerance)


def test_equal_trajectories_are_as_one() -> None:
    values = np.random.default_rng(2).random((1, 60))
    one, four = bootstrap(1, 60, 500, seed=3), bootstrap(4, 60, 500, seed=4)
    same_tasks = Bootstrap(four.trajectories, one.tasks, 0.95)
    np.testing.assert_allclose(one("hard", values), same_tasks("hard", np.repeat(values, 4, axis=0)))


def test_t_agrees_with_scipy() -> None:
    each = np.random.default_rng(5).normal(0.4, 1, size=(6, 3))
    ours = student_t(each.mean(0), each, 0.9)
    for sign, p in (("greater", ours.p_above), ("less", ours.p_below)):
        np.testing.assert_allclose(p, scipy.stats.ttest_1samp(each, 0, alternative=sign).pvalue)
    interval = scipy.stats.ttest_1samp(each, 0).confidence_interval(0.9)
    np.testing.assert_allclose([ours.low, ours.high], [interval.low, interval.high])
    bound = scipy.stats.ttest_1samp(each, 0, alternative="greater").confidence_interval(0.9)
    np.testing.assert_allclose(ours.lower, bound.low)


@pytest.mark.parametrize("decides", ["t", "bootstrap"])
def test_the_wider_interval_and_the_larger_p_decide(decides: str) -> None:
    rng = np.random.default_rng(6)
    # trajectories alone differ, and their bootstrap is too narrow; or tasks differ, of which t knows nothing
    values = 0.3 + crossed(rng, (4, 50), 1, 0, 0) if decides == "t" else 0.3 + crossed(rng, (4, 50), 0, 1, 0)
    both = bootstrap(4, 50, 2_000)
    found, t = both("hard", values), student_t(values.mean(), values.mean(1), 0.95)
    draws = both.draws("hard", values)
    low, high = (t.low, t.high) if decides == "t" else np.quantile(draws, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((float(low), float(high)))
    assert found.p_above == pytest.approx(max(float(t.p_above), (1 + (draws <= 0).sum()) / 2_001))


@pytest.mark.parametrize(
    ("of_trajectories", "of_tasks", "residual"), [(0.3, 1, 0.5), (1, 0.3, 1), (0, 1, 1), (0, 0, 1)]
)
def test_the_interval_covers(of_trajectories: float, of_tasks: float, residual: float) -> None:
    """Whichever part varies, at least as often as it says; 400 studies have a standard error of 1.1 %."""
    rng = np.random.default_rng(7)
    crossing, studies = bootstrap(4, 40, 400, level=0.9), 400
    values = [crossed(rng, (4, 40), of_trajectories, of_tasks, residual) for _ in range(studies)]
    found = crossing("hard", np.stack(values, axis=-1))
    assert ((found.low <= 0) & (found.high >= 0)).mean() > 0.9 - 3 * 0.015
    assert (found.p_above <= 0.1).mean() < 0.1 + 3 * 0.015
    if of_tasks == 1 and of_trajectories == 0.3:  # tasks alone would not do
        alone = Bootstrap(np.ones((400, 1)), crossing.tasks, 0.9)
        narrow = alone("hard", np.stack(values, axis=-1)[:1])
        assert ((narrow.low <= 0) & (narrow.high >= 0)).mean() < 0.9 - 3 * 0.015


def test_pairing_makes_a_constant_difference_certain() -> None:
    before = np.random.default_rng(3).random((3, 50))
    estimate = bootstrap(3, 50, 1_000)("hard", (before + 0.25) - before)
    assert estimate[:5] == pytest.approx((0.25,) * 5)
    assert list(estimate[5:]) == pytest.approx([1 / 1_001, 1])


def test_no_effect_at_all_is_not_certain() -> None:
    estimate = bootstrap(3, 10, 100)("hard", np.zeros((3, 10)))
    assert [float(part) for part in estimate] == [0, 0, 0, 0, 0, 1, 1]
    assert estimate.p_two_sided() == 1


def test_mean_within_a_part_agrees_with_scipy() -> None:
    rng = np.random.default_rng(4)
    share = rng.random(150) * (rng.random(150) < 0.4)
    values = share * (rng.random(150) < 0.5)
    ours = bootstrap(1, 150, 20_000)("hard", values[None], within=share)

    def ratio(v: np.ndarray, s: np.ndarray, axis: int = -1) -> np.ndarray:
        return v.sum(axis) / s.sum(axis)

    theirs = scipy.stats.bootstrap(
        (values, share), ratio, paired=True, n_resamples=20_000, method="percentile", rng=5, vectorized=True
    )
    assert ours.value == pytest.approx(values.sum() / share.sum())
    tolerance = 0.1 * theirs.standard_error
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=tolerance)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=tolerance)


def test_a_ratio_over_trajectories_is_of_their_sums() -> None:
    rng = np.random.default_rng(9)
    share = rng.random((3, 80))
    values = share * rng.random((3, 80))
    crossing = bootstrap(3, 80, 300)
    found = crossing("hard", values, within=share)
    assert found.value == pytest.approx(values.sum() / share.sum())
    draws = crossing.draws("hard", values) / crossing.draws("hard", share)
    t = student_t(found.value, values.sum(1) / share.sum(1), 0.95)
    ends = np.quantile(draws, [0.025, 0.975])
    expected = (t.low, t.high) if t.high - t.low > np.ptp(ends) else ends
    assert (found.low, found.high) == pytest.approx(tuple(map(float, expected)))


def test_an_empty_part_has_no_mean() -> None:
    assert np.isnan(bootstrap(2, 5, 100)("hard", np.zeros((2, 5)), within=np.zeros(5))).all()


def test_many_statistics_at_once_are_each_their_own() -> None:
    values, crossing = np.random.default_rng(6).random((3, 40, 3, 2)), bootstrap(3, 40, 500, level=0.9)
    together = crossing("hard", values)
    assert together.value.shape == (3, 2)
    for i, j in product(range(3), range(2)):
        np.testing.assert_allclose(together.at(i, j), crossing("hard", values[..., i, j]))


def test_components_of_a_known_table() -> None:
    """Against the textbook sums of squares."""
    rng = np.random.default_rng(10)
    values = crossed(rng, (5, 30), 2, 1, 0.5)
    total = ((values - values.mean()) ** 2).sum()
    rows = 30 * ((values.mean(1) - values.mean()) ** 2).sum()
    columns = 5 * ((values.mean(0) - values.mean()) ** 2).sum()
    mean_squares = rows / 4, columns / 29, (total - rows - columns) / (4 * 29)
    found = variance_components(values)
    assert found.residual == pytest.approx(mean_squares[2])
    assert found.trajectories == pytest.approx((mean_squares[0] - mean_squares[2]) / 30)
    assert found.tasks == pytest.approx((mean_squares[1] - mean_squares[2]) / 5)
    alone = variance_components(values[:1])
    assert alone.tasks == pytest.approx(values[0].var(ddof=1)) and np.isnan(alone.residual)


def test_a_component_is_not_negative() -> None:
    values = np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert [float(part) for part in variance_components(values)[:2]] == [0, 0]


@pytest.mark.parametrize("trajectories", [1, 8])
def test_detectable_effect_is_detected_with_its_power(trajectories: int) -> None:
    rng = np.random.default_rng(11)
    deviations = (0, 0.3, 0) if trajectories == 1 else (0.02, 0.3, 0.1)
    studies = [crossed(rng, (trajectories, 100), *deviations) for _ in range(800)]
    effect = np.median([minimum_detectable_effect(study, alpha=0.05, power=0.8) for study in studies])
    values = np.stack(studies, axis=-1) + effect  # [K, T, studies]
    found = bootstrap(trajectories, 100, 500)("hard", values)
    # 800 studies of one set of resamples: 1.5 % by their number, and as much again by the resamples
    assert (found.p_above <= 0.05).mean() == pytest.approx(0.8, abs=0.06)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0.001, 0.5))
@settings(deadline=None)
def test_holm_is_its_definition(p: list[float], alpha: float) -> None:
    """Step down: reject the smallest while it is at most alpha over the number of claims left."""
    rejected: set[int] = set()
    for step, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] * (len(p) - step) > alpha:
            break
        rejected.add(i)
    assert set(np.flatnonzero(holm(p) <= alpha)) == rejected


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.03, 0.01, 0.04, 0.02]), [0.06, 0.04, 0.06, 0.06])


def test_ten_thousand_resamples_take_seconds() -> None:
    start = time.process_time()
    bootstrap(8, 200, 10_000)("hard", np.random.default_rng(1).random((8, 200, 64)))
    assert time.process_time() - start < 4
