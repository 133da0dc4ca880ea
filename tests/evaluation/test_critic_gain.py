from dataclasses import replace

import numpy as np
import pytest

from constellation.evaluation.analysis import resamples
from constellation.evaluation.claims import Claim, NotMeasured
from constellation.evaluation.critic_gain import critic_gain, divergences, picks, selection
from constellation.evaluation.study import SetKey, StudyResults
from tests.evaluation.counted import counted_study
from tests.evaluation.synthetic import random_set, study
from tests.evaluation.test_selectors import enumerate_groups

SEEDS, TRAJECTORIES = (4, 5), 3


@pytest.fixture(scope="module")
def scored() -> StudyResults:
    """Three trajectories, two split seeds of gen_v0's candidates with a critic that guesses."""
    sets = {
        SetKey("hard", "gen_v0", seed, k): random_set(10 * seed + k, tasks=15, n=24)
        for seed in SEEDS
        for k in range(TRAJECTORIES)
    }
    scores = {key: np.random.default_rng(key.trajectory).normal(size=len(s.text)) for key, s in sets.items()}
    others = {SetKey("hard", "v1", 4, k): random_set(k, tasks=15, n=24) for k in range(TRAJECTORIES)}
    base = {SetKey("hard", "theta0", 4): random_set(99, tasks=15, n=24)}
    plain = counted_study({"theta0": [[1] * 15], "gen_v0": [[1] * 15] * 3, "v1": [[1] * 15] * 3}, n=24)
    return replace(plain, samples={**sets, **others, **base}, critic_scores=scores)


def by_loops(results: StudyResults, k: int) -> dict[str, np.ndarray]:
    """Selector -> [S, K, T], and "divergent", with "gain" on divergent groups."""
    found: dict[str, list[list[np.ndarray]]] = {}
    for seed in SEEDS:
        rows: dict[str, list[np.ndarray]] = {}
        for trajectory in range(TRAJECTORIES):
            key = SetKey("hard", "gen_v0", seed, trajectory)
            picked = enumerate_groups(results.samples[key], k, results.critic_scores[key])
            for name, values in picked.items():
                rows.setdefault(name, []).append(np.array(values).mean(1))
        for name, row in rows.items():
            found.setdefault(name, []).append(row)
    return {name: np.array(rows) for name, rows in found.items()}


def test_gain_averages_split_seeds_within_a_task(scored: StudyResults) -> None:
    claim = critic_gain(scored, resamples(scored), picks(scored))
    assert isinstance(claim, Claim)
    expected = by_loops(scored, 8)
    gains = expected["critic"] - expected["naive"]
    np.testing.assert_allclose(claim.values[..., 0], gains.mean(0), atol=1e-12)
    assert claim.details["per_split"] == pytest.approx(dict(zip(SEEDS, gains.mean((1, 2)), strict=True)))
    assert claim.details["positive_splits"] == (gains.mean((1, 2)) > 0).sum()
    assert claim.details["divergent_share"] == pytest.approx(expected["divergent"].mean())
    # everything is won on divergent groups
    on_divergent = claim.details["on_divergent"]["estimate"] * claim.details["divergent_share"]
    assert on_divergent == pytest.approx(gains.mean())


def test_at_a_large_k_only_the_splits_with_so_many_candidates_count(scored: StudyResults) -> None:
    short = {SetKey("hard", "gen_v0", 5, k): random_set(50 + k, tasks=15, n=8) for k in range(TRAJECTORIES)}
    scores = {key: np.random.default_rng(key.trajectory).normal(size=len(s.text)) for key, s in short.items()}
    mixed = replace(
        scored, samples={**scored.samples, **short}, critic_scores={**scored.critic_scores, **scores}
    )
    found = picks(mixed)
    assert {k: len(pick.divergent) for (_, _, k), pick in found.items()} == {2: 2, 4: 2, 8: 2, 16: 1}
    wide = picks(scored)["hard", "gen_v0", 16].accuracy["critic"][0]  # of split seed 4, which both have
    np.testing.assert_array_equal(found["hard", "gen_v0", 16].accuracy["critic"][0], wide)


def test_selectors_over_trajectories(scored: StudyResults) -> None:
    table = selection(resamples(scored), picks(scored))["hard"]["gen_v0"]
    assert list(table) == [2, 4, 8, 16]  # 24 samples hold no group of 32
    for k in (2, 8):
        expected = by_loops(scored, k)
        for name in ("naive", "uniform", "majority", "oracle"):
            entry = table[k]["selectors"][name]
            assert entry["overall"]["estimate"] == pytest.approx(expected[name].mean())
            gain = (expected[name] - expected["naive"]).mean()
            assert entry["gain"]["estimate"] == pytest.approx(gain, abs=1e-12)


def test_divergence_of_every_model(scored: StudyResults) -> None:
    table = divergences(scored, resamples(scored))["hard"]
    assert list(table) == ["theta0", "gen_v0", "v1"]
    groups = enumerate_groups(scored.samples[SetKey("hard", "theta0", 4)], 4, np.zeros(1_000))
    assert table["theta0"][4]["estimate"] == pytest.approx(np.mean(groups["divergent"]))


def test_a_critic_may_score_the_base() -> None:
    """Of which every trajectory has the same candidates."""
    results = study(tasks=6, trajectories=2)
    key = SetKey("hard", "theta0", 1234)
    scores = np.where(results.samples[key].fits, 1.0, np.nan)
    found = picks(replace(results, critic_scores={**results.critic_scores, key: scores}))
    accuracy = found["hard", "theta0", 8].accuracy["critic"]
    assert accuracy.shape == (1, 2, 6)
    np.testing.assert_array_equal(accuracy[:, 0], accuracy[:, 1])


def test_without_scores_there_is_nothing_to_measure() -> None:
    results = counted_study({"theta0": [[0, 1]], "gen_v0": [[1, 2]]})
    claim = critic_gain(results, resamples(results), {})
    assert isinstance(claim, NotMeasured) and "no critic scored" in claim.reason
