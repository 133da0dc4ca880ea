"""The gap, the votes and the AUC against their definitions, by other ways of computing them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy, mannwhitneyu

from constellation.evaluation.pass_at_k import pass_curve
from constellation.evaluation.peers.gap import gap, quantile_gap, relative, threshold_gap
from constellation.evaluation.peers.measures import _auc
from constellation.evaluation.peers.results import InSequence
from constellation.evaluation.peers.votes import budgets, majority_at_k, voters
from tests.evaluation.peers.answered import answered

ROWS = st.lists(st.lists(st.integers(0, 3), min_size=8, max_size=8), min_size=1, max_size=4)


@given(ROWS)
@settings(deadline=None)
def test_majority_at_k_is_a_mean_over_disjoint_groups(values):
    """Value 0 is right, value 3 no answer at all."""
    samples = answered(values, right={0}, invalid={3})
    for k in (1, 2, 4, 8):
        found = majority_at_k(samples, k)
        for row, share in zip(values, found, strict=True):
            groups = [row[start : start + k] for start in range(0, 8 - k + 1, k)]
            assert share == pytest.approx(float(np.mean([vote(group) for group in groups])))


def vote(group: list[int]) -> float:
    counts = {value: group.count(value) for value in group if value != 3}
    winners = [value for value, count in counts.items() if count == max(counts.values())]
    return float(Fraction(winners.count(0), len(winners))) if winners else 0.0


def test_a_vote_of_one_is_a_sample_and_budgets_are_powers_of_two():
    samples = answered([[0, 0, 1, 2], [1, 1, 4, 0]], right={0}, loose={4})
    right = samples.per_sample(samples.right)
    np.testing.assert_allclose(majority_at_k(samples, 1), right.mean(1))
    np.testing.assert_allclose(majority_at_k(samples, 1), pass_curve(right, [1])[:, 0])
    assert budgets(16) == [1, 2, 4, 8, 16] and budgets(20) == [1, 2, 4, 8, 16]


@given(ROWS)
def test_distinct_answers_and_entropy(values):
    distinct, nats = voters(np.array(values))
    for row, count, found in zip(values, distinct, nats, strict=True):
        assert count == pytest.approx(len(set(row)))
        assert found == pytest.approx(entropy(np.bincount(row)), abs=1e-12)


def test_the_gap_is_what_filtering_adds():
    utility = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], float)
    scores = np.array([[0.9, 0.8, 0.1, 0.2], [0.5, 0.6, 0.1, 0.2], [0.1, 0.2, 0.3, 0.4]])
    # threshold 0.5: {1, 0}, then wrong ones alone, then nobody, who all stay
    np.testing.assert_allclose(gap(utility, scores, np.array(0.5)), [0.0, 0.0, 0.0])
    np.testing.assert_allclose(gap(utility, scores, np.array([0.85, 0.5, 0.5])), [0.5, 0.0, 0.0])
    np.testing.assert_allclose(gap(utility, scores, np.array([0.7, 0.7, 0.0])), [0.0, 0.0, 0.0])
    np.testing.assert_allclose(gap(utility, -scores, np.array([-0.15, 0.0, 0.0])), [-0.5, 0.0, 0.0])


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.25, 0.7, 0.8]))
@settings(deadline=None, max_examples=50)
def test_the_gap_of_samples_by_its_definition(seed, level):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 4, (5, 8))
    samples = answered(values.tolist(), right={0}, unfinished={3})
    verification = np.where(samples.ended, rng.random(len(samples.task)), np.nan)
    for how in (quantile_gap, threshold_gap):
        found = how(samples, verification, level)
        for t in range(5):
            rows = samples.program[t]
            scores = np.where(np.isnan(verification[rows]), 0.0, verification[rows])
            threshold = np.quantile(scores, level) if how is quantile_gap else level
            kept = [i for i in range(8) if scores[i] >= threshold] or list(range(8))
            right = samples.right[rows]
            assert found[t] == pytest.approx(right[kept].mean() - right.mean())


def test_a_model_that_knows_which_of_its_answers_are_right_has_the_whole_gap():
    samples = answered([[0, 1, 1, 2], [1, 2, 1, 2], [0, 0, 0, 0]], right={0})
    knows = samples.right.astype(float)
    np.testing.assert_allclose(threshold_gap(samples, knows, 0.5), [0.75, 0.0, 0.0])
    summed, counted = relative(threshold_gap(samples, knows, 0.5), samples.per_sample(samples.right).mean(1))
    assert counted.tolist() == [1, 1, 0]  # a problem that is always right has no relative gap
    assert summed.sum() / counted.sum() == pytest.approx((1.0 + 0.0) / 2)


@given(st.integers(0, 2**32 - 1))
def test_auc_is_mann_whitneys(seed):
    rng = np.random.default_rng(seed)
    right, scores = rng.random((6, 3)) < 0.5, rng.integers(0, 5, (6, 3)).astype(float)
    scores[0, 0] = np.nan
    answers = InSequence(*[right] * 5, reference=np.full(6, 2))  # whose own score does not count
    labels, values = right[:, :2].ravel()[1:], scores[:, :2].ravel()[1:]
    found = _auc(answers, scores)
    if labels.all() or not labels.any():
        assert np.isnan(found)
    else:
        statistic = mannwhitneyu(values[labels], values[~labels]).statistic
        assert found == pytest.approx(statistic / (labels.sum() * (~labels).sum()))
