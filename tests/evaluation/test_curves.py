import numpy as np
import pytest

from constellation.evaluation.curves import (
    change,
    check_verdict,
    curve_ks,
    pooled_curves,
    second_difference,
    task_curves,
    verdict_ks,
)
from constellation.evaluation.study import SetKey
from constellation.runtime.errors import UserError
from tests.evaluation.counted import chance, counted, counted_study
from tests.evaluation.synthetic import study

COUNTS = {
    "theta0": [[0, 7, 3]],
    "gen_v0": [[1, 9, 2], [0, 32, 1]],
    "v1": [[4, 9, 0], [1, 30, 2]],
    "v2": [[6, 5, 1], [1, 31, 4]],
}


def test_curves_by_their_definition() -> None:
    results = counted_study(COUNTS)
    level = {
        model: np.array([[[chance(c, k) for k in (1, 8)] for c in row] for row in rows])
        for model, rows in COUNTS.items()
    }
    np.testing.assert_allclose(task_curves(results, "hard", "v1", [1, 8]), level["v1"])
    np.testing.assert_allclose(change(results, "hard", "v2", [1, 8]), level["v2"] - level["gen_v0"])
    expected = (level["v2"] - 2 * level["v1"] + level["gen_v0"])[..., 1]
    np.testing.assert_allclose(
        second_difference(results, "hard", ("gen_v0", "v1", "v2"), 8), expected, atol=1e-12
    )
    np.testing.assert_allclose(task_curves(results, "hard", "theta0", [1, 8]), level["theta0"].repeat(2, 0))


def test_visible_fit_counts_what_fits() -> None:
    results = study(tasks=5, n=8)
    samples = results.samples[SetKey("hard", "v1", 1234)]
    fitted = task_curves(results, "hard", "v1", [1], "fits")[0, :, 0]
    np.testing.assert_allclose(fitted, samples.fits[samples.program].mean(1))


def test_nothing_is_concluded_beyond_half_the_samples() -> None:
    results = counted_study(COUNTS, n={"theta0": 32, "gen_v0": 40, "v1": 33, "v2": 64})
    assert curve_ks(results, "hard", "v2") == range(1, 65)
    assert curve_ks(results, "hard", "gen_v0", "v2") == range(1, 41)
    assert verdict_ks(results, "hard", "v1", "v2") == range(1, 17)
    check_verdict(results, "hard", ("gen_v0", "v2"), 20)
    with pytest.raises(UserError, match="at least 42 samples a task, there are 40 of gen_v0, v2 on the hard"):
        check_verdict(results, "hard", ("gen_v0", "v2"), 21)


def test_curves_of_sets_of_unlike_size() -> None:
    found = pooled_curves([counted([4, 0, 32], 32), counted([1, 2, 16], 16)], [1, 3])
    wanted = [[(4, 32), (0, 32), (32, 32)], [(1, 16), (2, 16), (16, 16)]]
    np.testing.assert_allclose(found, [[[chance(c, k, n) for k in (1, 3)] for c, n in row] for row in wanted])
