from itertools import combinations

import numpy as np
import pytest
import scipy.stats

from constellation.evaluation.diversity import distinct_programs, pooled_mean, rarefied_programs
from tests.evaluation.synthetic import random_set, sample_set


@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_rarefaction_is_the_mean_over_all_subsets(m: int) -> None:
    samples = random_set(11, tasks=12, n=12)
    found = rarefied_programs(samples, m)
    for t in range(len(found)):
        correct = [p for p in samples.program[t] if samples.right[p]]
        if len(correct) < m:
            assert np.isnan(found[t])
        else:
            subsets = [len(set(subset)) for subset in combinations(correct, m)]
            assert found[t] == pytest.approx(np.mean(subsets), abs=1e-10)


def test_all_correct_samples_give_the_plain_count() -> None:
    samples = sample_set([["right a", "right b", "right a", "junk", "false a"]])
    assert rarefied_programs(samples, 4) == pytest.approx([3.0])
    assert distinct_programs(samples) == pytest.approx([3.0])
    assert rarefied_programs(samples, 1) == pytest.approx([1.0])


def test_does_not_grow_with_the_pool_as_the_plain_count_does() -> None:
    rng = np.random.default_rng(0)
    texts = [f"right {i}" for i in range(30)]
    small, large = (sample_set([[str(t) for t in rng.choice(texts, n)] for _ in range(400)]) for n in (6, 24))
    assert distinct_programs(large).mean() > 2.5 * distinct_programs(small).mean()
    expected = 30 * (1 - (29 / 30) ** 4)  # distinct programs among 4 draws from 30 equally likely ones
    assert rarefied_programs(small, 4).mean() == pytest.approx(expected, abs=0.05)
    assert rarefied_programs(large, 4).mean() == pytest.approx(expected, abs=0.05)


def test_an_unsolved_task_has_no_diversity() -> None:
    assert np.isnan(distinct_programs(sample_set([["junk", "fits:x:1"]]))).all()


def test_pools_of_several_trajectories_are_the_units() -> None:
    values = [np.array([1.0, 2.0, np.nan]), np.array([3.0, 3.0, 6.0]), np.array([np.nan] * 3)]
    interval = scipy.stats.ttest_1samp([1.5, 4.0], 0).confidence_interval(0.9)
    mean, found = pooled_mean(values, 0.9)
    assert mean == 2.75 and found == pytest.approx(tuple(interval))
    alone = scipy.stats.ttest_1samp([3.0, 3.0, 6.0], 0).confidence_interval(0.9)
    mean, found = pooled_mean(values[1:2], 0.9)
    assert mean == 4 and found == pytest.approx(tuple(alone))
    assert pooled_mean(values[2:], 0.9) == (None, None)
