import numpy as np
import pytest

from constellation.evaluation.analysis import resamples
from constellation.evaluation.divergence import divergences
from constellation.evaluation.entries import Entries
from constellation.evaluation.study import SetKey
from tests.evaluation.synthetic import study
from tests.evaluation.test_selectors import enumerate_groups


def test_divergence_of_every_model() -> None:
    results = study(tasks=15, n=24, resamples=50)
    rows = Entries(divergences(results, None, resamples(results)).entries).where(bank="hard")
    assert rows.values("models") == [("theta0",), ("gen_v0",), ("v1",), ("v2",)]
    assert rows.values("k") == [2, 4, 8, 16]  # 24 samples hold no group of 32
    groups = enumerate_groups(results.samples[SetKey("hard", "theta0", 1234)], 4, np.zeros(1_000))
    row = rows.one(models=("theta0",), k=4)
    assert row.estimate == pytest.approx(np.mean(groups["divergent"]))
    assert row.interval[0] <= row.estimate <= row.interval[1]
