"""The interval of a difference against scipy's, and how often it is right on counts of known chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from constellation.evaluation.pass_at_k import pass_at_k
from third_party.comparison.agreement import POWER, Agreement, agreement

LEVEL = 0.95


def between(ours: np.ndarray, theirs: np.ndarray, level: float = LEVEL) -> Agreement:
    return agreement(ours, theirs, level, 2000, np.random.default_rng(0))


def test_tasks_alike_leave_students_interval() -> None:
    means = np.random.default_rng(1).normal(0.5, 0.1, (2, 4))
    ours, theirs = np.repeat(means[..., None], 30, -1)  # [R, T] each
    found = between(ours, theirs)
    low, high = stats.ttest_ind(*means).confidence_interval(LEVEL)
    assert found.difference == pytest.approx((low + high) / 2)
    assert found.half_width == pytest.approx((high - low) / 2)


def test_replicates_alike_leave_the_paired_bootstrap() -> None:
    ours, theirs = np.random.default_rng(1).random((2, 40))
    found = between(np.tile(ours, (3, 1)), np.tile(theirs, (3, 1)))
    plain = stats.bootstrap(
        (ours - theirs,), np.mean, n_resamples=2000, random_state=np.random.default_rng(2)
    )
    assert found.half_width == pytest.approx(stats.norm.ppf(0.975) * plain.standard_error, rel=0.05)


def test_what_both_sides_share_is_no_uncertainty() -> None:
    """The tasks are the same: how much they differ in difficulty says nothing of the difference."""
    rng = np.random.default_rng(1)
    difficulty, noise = rng.random(40), rng.normal(0, 0.01, (2, 3, 40))
    assert between(*(difficulty + noise)).half_width == pytest.approx(between(*noise).half_width)


def test_nothing_varies() -> None:
    assert between(np.zeros((2, 5)), np.zeros((2, 5))) == Agreement(0, 0, 0, 0)


@pytest.fixture(scope="module")
def trained() -> np.ndarray:
    """pass@8 of 300 times two sides of one truth, whose generators differ by training: [300, 2, R, T]."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 2, 50)
    training = rng.normal(0, 0.2, (300, 2, 4, 1)) + rng.normal(0, 0.3, (300, 2, 4, 50))
    chances = 1 / (1 + np.exp(-(logits + training)))
    return pass_at_k(16, rng.binomial(16, chances), 8)


def test_sides_of_one_truth_agree_as_often_as_the_level_says(trained: np.ndarray) -> None:
    apart = 0
    for index, (ours, theirs) in enumerate(trained):
        found = agreement(ours, theirs, LEVEL, 200, np.random.default_rng(index))
        apart += abs(found.difference) > found.half_width
    assert stats.binomtest(apart, len(trained), 1 - LEVEL, alternative="greater").pvalue > 0.01


def test_the_detectable_difference_is_seen_as_often_as_it_says(trained: np.ndarray) -> None:
    detectable = np.mean([between(*sides).detectable for sides in trained[:20]])
    seen = 0
    for index, (ours, theirs) in enumerate(trained):
        found = agreement(ours + detectable, theirs, LEVEL, 200, np.random.default_rng(index))
        seen += abs(found.difference) > found.half_width
    assert seen / len(trained) == pytest.approx(POWER, abs=0.1)
