from collections import Counter
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import scipy.stats

from constellation.evaluation.analysis import resamples
from constellation.evaluation.claims import Claim
from constellation.evaluation.critic_gain import critic_gain, picks
from constellation.evaluation.findings import conclude
from constellation.evaluation.null import curve_band, distribution, divide, nulls, verdicts
from constellation.evaluation.statistics import Bootstrap, resample
from constellation.evaluation.study import AnalysisConfig
from constellation.runtime.errors import UserError
from tests.evaluation.counted import chance, counted_study
from tests.evaluation.synthetic import study

DOUBLED = [[0, 3, 30, 64, 9, 20] * 5, [1, 2, 28, 64, 9, 21] * 5]


def doubled_study(**counts: list[list[int]]):
    own = [[c // 2 for c in row] for row in DOUBLED]
    fresh = [[c - c // 2 for c in row] for row in DOUBLED]
    models = {"theta0": [[0] * 30], "gen_v0": own, "v1": own, "v2": own, **counts}
    return counted_study(models, fresh=fresh)


def test_parts_of_a_pool_are_hypergeometric() -> None:
    correct = np.array([[0, 3, 10, 21]])
    parts = divide(correct, 21, [7, 7, 7], 20_000, np.random.default_rng(0))  # [3, S, 1, T]
    assert parts.shape == (3, 20_000, 1, 4)
    np.testing.assert_array_equal(parts.sum(0), np.broadcast_to(correct, (20_000, 1, 4)))
    for part in parts:
        for t, c in enumerate(correct[0]):
            expected = scipy.stats.hypergeom(21, c, 7).pmf(np.arange(8))
            found = np.bincount(part[:, 0, t], minlength=8) / 20_000
            np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(20_000))


def test_what_is_left_over_is_in_no_part() -> None:
    parts = divide(np.array([[10]]), 10, [3, 3, 3], 50, np.random.default_rng(0))
    assert (parts == 3).all()  # all 10 are correct, 3 in each part


def test_band_of_a_curve_is_that_of_its_means() -> None:
    before, after = divide(np.array(DOUBLED), 64, [32, 32], 30, np.random.default_rng(1))
    means = [
        [
            np.mean([chance(b, k) - chance(a, k) for a, b in zip(first.flat, second.flat, strict=True)])
            for k in (1, 4)
        ]
        for first, second in zip(before, after, strict=True)
    ]
    expected = np.quantile(means, [0.05, 0.95], axis=0).T
    np.testing.assert_allclose(
        curve_band(before, after, (32, 32), range(1, 5), 0.9)[::3], expected, atol=1e-12
    )


def test_halvings_find_nothing_but_noise() -> None:
    results = doubled_study()
    found = nulls(results, resamples(results))["halvings"]["hard"]
    assert found["samples"] == 32 and found["replicates"] == results.analysis.halvings == 200
    assert found["statistics"].pop("critic gain") is None and found["rates"].pop("critic_gain") is None
    for statistic in found["statistics"].values():
        low, high = statistic["interval"]
        assert low < 0 < high and abs(statistic["estimate"]) < 0.02
    assert found["rates"]["crossover"] <= 0.05 and found["rates"]["deceleration"] <= 0.1
    assert sum(found["overall"].values()) == pytest.approx(1)
    assert found["overall"]["amplification"] <= 0.05
    # of the tasks with 3 of 64 correct, a half misses all with chance 1/8, and so does the other: 10 of them
    chances = [scipy.stats.hypergeom(64, c, 32).pmf(0) if c < 64 else 0 for c in (*DOUBLED[0], *DOUBLED[1])]
    solved = [chance for chance, c in zip(chances, (*DOUBLED[0], *DOUBLED[1]), strict=True) if c > 0]
    assert found["tasks_gained"]["estimate"] == pytest.approx(sum(solved) / 2, abs=0.3)  # of 2 trajectories
    assert found["tasks_lost"]["estimate"] == pytest.approx(sum(solved) / 2, abs=0.3)
    assert list(found["change_at_k"]["v2"]) == list(range(1, 33))


def test_what_did_change_is_found() -> None:
    """The same rules on pseudo-studies that gained at small k and lost at large k: they are not blind."""
    rng = np.random.default_rng(2)
    bootstrap = Bootstrap(resample(4, 300, rng), {"hard": resample(50, 300, rng)}, 0.95)
    change = rng.normal([0.2, -0.2], 0.1, (4, 50, 7, 2))
    second = rng.normal(-0.1, 0.1, (4, 50, 7))
    found = verdicts(bootstrap("hard", change), bootstrap("hard", second), AnalysisConfig())
    assert (
        found["rates"] == found["adjusted_rates"] == {"crossover": 1, "deceleration": 1, "critic_gain": None}
    )
    assert found["overall"] == {"compounding": 0, "amplification": 1, "no gain": 0, "inconclusive": 0}


def test_pairs_are_studies_of_one_trajectory_each() -> None:
    counts = [[0, 3, 15, 32, 4, 10] * 5, [1, 2, 14, 32, 4, 10] * 5, [4, 8, 20, 32, 9, 10] * 5]
    results = counted_study({"theta0": [[0] * 30], "gen_v0": counts})
    bootstrap = resamples(results)
    found = nulls(results, bootstrap)
    assert found["halvings"] == {}
    alone = Bootstrap(np.ones((500, 1)), bootstrap.tasks, 0.95)
    small, large = (np.array([[chance(c, k) for c in row] for row in counts]) for k in (8, 16))
    outcomes: Counter[str] = Counter()
    slower = []
    for start, first, last in permutations(range(3), 3):
        change = (alone("hard", (level[last] - level[start])[None]) for level in (small, large))
        second = alone("hard", (small[last] - 2 * small[first] + small[start])[None])
        outcomes[conclude(next(change), next(change), second, results.analysis)] += 1
        slower.append(second.p_below <= 0.05)
    assert len(outcomes) > 1
    assert found["pairs"]["hard"]["overall"] == {
        name: outcomes[name] / 6 for name in ("compounding", "amplification", "no gain", "inconclusive")
    }
    assert found["pairs"]["hard"]["rates"]["deceleration"] == np.mean(slower) > 0


def test_two_trajectories_make_no_second_difference() -> None:
    results = counted_study({"theta0": [[0] * 6], "gen_v0": [[0, 3, 9, 20, 4, 1], [9, 8, 12, 30, 9, 4]]})
    found = nulls(results, resamples(results))["pairs"]["hard"]
    assert found["replicates"] == 2 and found["rates"]["deceleration"] is None
    assert found["statistics"]["change of pass@8"]["estimate"] == pytest.approx(0)


def test_a_single_study_has_no_null() -> None:
    results = study(tasks=4)
    assert nulls(results, resamples(results)) == {"halvings": {}, "pairs": {}}


def test_refuses_a_pool_too_small_for_its_k() -> None:
    short = counted_study({"theta0": [[0] * 3], "gen_v0": [[1, 2, 3]]}, n=15, fresh=[[1, 2, 3]])
    with pytest.raises(UserError, match="pass@16 needs 32 samples a task or more of gen_v0 on the hard bank"):
        nulls(short, resamples(short))


def test_distribution_is_central() -> None:
    found = distribution(np.arange(101.0), 0.9)
    assert found["estimate"] == 50 and found["interval"] == pytest.approx([5, 95])


def test_a_critic_of_permuted_scores_gains_nothing_on_average() -> None:
    drawn = study(tasks=40, trajectories=2, doubled=True)
    found = nulls(drawn, resamples(drawn))["halvings"]["hard"]
    null, replicates = found["statistics"]["critic gain"], drawn.analysis.halvings
    low, high = null["interval"]
    deviation = (high - low) / 2 / 1.96
    assert abs(null["estimate"]) < 4 * deviation / np.sqrt(replicates) and deviation < 0.02
    assert found["rates"]["critic_gain"] <= 0.15  # of 40
    assert all(found["adjusted_rates"][name] <= found["rates"][name] for name in found["rates"])
    claim = critic_gain(drawn, resamples(drawn), picks(drawn))
    assert (
        isinstance(claim, Claim) and float(claim.estimate.value[0]) > high
    )  # the true one is of right programs


def test_parts_of_the_second_difference_have_the_sizes_of_the_study() -> None:
    """The noise of two samples a task, not that of a third of the pool."""
    fair = [[16] * 400]
    sizes = {"theta0": 32, "gen_v0": 32, "v1": 2, "v2": 2}
    counts = {"theta0": [[0] * 400], "gen_v0": fair, "v1": [[1] * 400], "v2": [[1] * 400]}
    small = replace(
        counted_study(counts, n=sizes, fresh=fair),
        analysis=AnalysisConfig(small_k=1, large_k=16, resamples=100, halvings=400),
    )
    found = nulls(small, resamples(small))["halvings"]["hard"]
    low, high = found["statistics"]["second difference"]["interval"]
    # Var(v2 - 2 v1 + gen_v0) of means of 2, 2 and 32 of 64 without replacement, nearly (1 + 4) / 8 + 1 / 128
    deviation = np.sqrt((5 / 8 + 1 / 128) / 400)
    assert (high - low) / 2 == pytest.approx(1.96 * deviation, rel=0.15)
    # and of either round's gain: of means of 32 and 2, and of 2 and 2
    for model, variance in (("v1", 1 / 8 + 1 / 128), ("v2", 2 / 8)):
        low, high = found["gains"][model]["gain"]["interval"]
        assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(variance / 400), rel=0.15)
