from dataclasses import replace

import numpy as np
import pytest

from constellation.errors import UserError
from constellation.evaluation.study import SetKey
from tests.evaluation.synthetic import study


def test_models_are_compared_on_the_splits_they_share() -> None:
    results = study(tasks=4, n=8, split_seeds=3)
    assert results.scored_splits("hard", "gen_v0") == [1234, 1235, 1236]
    assert results.splits("hard") == [1234]  # the other models have this one alone
    everywhere = {
        SetKey("hard", model, seed): results.samples[SetKey("hard", "gen_v0", seed)]
        for model in results.models
        for seed in (1234, 1235)
    }
    more = replace(results, samples={**results.samples, **everywhere})
    assert more.splits("hard") == [1234, 1235]
    share = more.per_task("hard", "v2", lambda s: s.per_sample(s.generalises).mean(1))
    each = [s.per_sample(s.generalises).mean(1) for key, s in everywhere.items() if key.model == "v2"]
    np.testing.assert_allclose(share, np.mean(each, axis=0))


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
