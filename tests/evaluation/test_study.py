from dataclasses import replace

import numpy as np
import pytest

from constellation.evaluation.study import SetKey, StudyResults
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet
from tests.evaluation.synthetic import study


def share(samples: SampleSet) -> np.ndarray:
    return samples.per_sample(samples.right).mean(1)


@pytest.fixture(scope="module")
def four() -> StudyResults:
    return study(tasks=4, n=8, split_seeds=2, trajectories=4, doubled=True)


def test_models_are_compared_on_the_splits_they_share() -> None:
    results = study(tasks=4, n=8, split_seeds=3)
    assert results.splits("hard") == [1234]  # the other models have this one alone
    everywhere = {
        SetKey("hard", model, seed): results.samples[SetKey("hard", "gen_v0", seed)]
        for model in results.models
        for seed in (1234, 1235)
    }
    more = replace(results, samples={**results.samples, **everywhere})
    assert more.splits("hard") == [1234, 1235]
    each = [share(s) for key, s in everywhere.items() if key.model == "v2"]
    np.testing.assert_allclose(more.per_task("hard", "v2", share), [np.mean(each, axis=0)])


def test_a_row_a_trajectory_and_the_base_for_all(four: StudyResults) -> None:
    trained = [share(four.samples[SetKey("hard", "v1", 1234, k)]) for k in range(4)]
    assert len({tuple(row) for row in trained}) > 1
    np.testing.assert_array_equal(four.per_task("hard", "v1", share), trained)
    base = share(four.samples[SetKey("hard", "theta0", 1234)])
    np.testing.assert_array_equal(four.per_task("hard", "theta0", share), [base] * 4)


def test_the_smallest_pool_of_the_models_asked_for(four: StudyResults) -> None:
    key = SetKey("hard", "v1", 1234, 2)
    small = study(tasks=4, n=6, split_seeds=1).samples[SetKey("hard", "v1", 1234)]
    mixed = replace(four, samples={**four.samples, key: small})
    assert mixed.pool_size("hard", "gen_v0", "v2") == 8
    assert mixed.pool_size("hard", "gen_v0", "v1") == 6


def test_scope() -> None:
    assert study(tasks=4, n=8).scope == "this trajectory"
    assert study(tasks=4, n=8, trajectories=2).scope == "trajectories from this base"


def test_refuses_a_missing_trajectory(four: StudyResults) -> None:
    left = {key: value for key, value in four.samples.items() if key.trajectory != 2}
    with pytest.raises(UserError, match=r"of trajectories \[0, 1, 3\], not of \[0, 1, 2, 3\]"):
        replace(four, samples=left)


def test_refuses_a_base_for_each_trajectory(four: StudyResults) -> None:
    again = {SetKey("hard", "theta0", 1234, 1): four.samples[SetKey("hard", "theta0", 1234)]}
    with pytest.raises(UserError, match=r"of theta0 on hard .* \[0, 1\], not of \[0\]"):
        replace(four, samples={**four.samples, **again})


def test_refuses_samples_of_other_tasks() -> None:
    results = study(tasks=4, n=8)
    key = SetKey("easy", "v1", 1234)
    with pytest.raises(UserError, match=r"samples of v1 on easy \(split 1234\) are of other tasks"):
        replace(results, samples={**results.samples, key: results.samples[SetKey("hard", "v1", 1234)]})


def test_refuses_models_without_a_common_split() -> None:
    results = study(tasks=4, n=8)
    samples = {key: value for key, value in results.samples.items() if key != SetKey("easy", "v1", 1234)}
    with pytest.raises(UserError, match="no split seed of bank easy"):
        replace(results, samples=samples)
