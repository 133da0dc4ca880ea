from dataclasses import replace
from math import comb

import numpy as np
import pytest

from constellation.evaluation.findings import (
    both,
    critic_gain,
    crossover,
    deceleration,
    findings,
    signed,
    verdict,
)
from constellation.evaluation.statistics import Bootstrap, resample
from constellation.evaluation.study import AnalysisConfig, SetKey, StudyResults, TaskInfo
from constellation.samples import SampleSet
from tests.evaluation.synthetic import random_set, sample_set, study
from tests.evaluation.test_selection import enumerate_groups


@pytest.mark.parametrize(
    ("low", "high", "direction", "expected"),
    [
        (0.001, 0.2, +1, "supported"),
        (0.001, 0.005, +1, "supported"),  # small but certain: the sign decides first
        (-0.2, -0.001, +1, "not supported"),
        (-0.009, 0.009, +1, "not supported"),  # any effect is below the margin of 0.01
        (-0.009, 0.011, +1, "inconclusive"),
        (-0.3, 0.005, +1, "inconclusive"),
        (0.0, 0.2, +1, "inconclusive"),
        (-0.2, -0.001, -1, "supported"),
        (0.001, 0.2, -1, "not supported"),
        (-0.009, 0.009, -1, "not supported"),
        (-0.011, 0.009, -1, "inconclusive"),
    ],
)
def test_verdict_rule(low: float, high: float, direction: int, expected: str) -> None:
    assert verdict(low, high, direction, margin=0.01) == expected


def test_a_pair_holds_only_if_both_do() -> None:
    assert both("supported", "supported") == "supported"
    assert both("supported", "inconclusive") == "inconclusive"
    assert both("inconclusive", "not supported") == "not supported"


def test_points_have_a_sign_and_zero_has_none() -> None:
    assert [signed(x) for x in (0.031, -0.0312, -0.0001, 0.0)] == ["+3.1", "\u22123.1", "0.0", "0.0"]


def bootstrap_of(results: StudyResults) -> Bootstrap:
    rng = np.random.default_rng(0)
    return Bootstrap({bank: resample(len(tasks), 500, rng) for bank, tasks in results.tasks.items()}, 0.95)


def counted(counts: list[int], n: int = 16) -> SampleSet:
    """A set whose task t has counts[t] correct samples of n."""
    return sample_set([["right a"] * c + ["bad"] * (n - c) for c in counts])


def small_study(counts: dict[str, list[int]], rounds: tuple[str, ...] = ("v1", "v2")) -> StudyResults:
    tasks = len(counts["gen_v0"])
    return StudyResults(
        base="theta0",
        start="gen_v0",
        rounds=rounds,
        tasks={"hard": [TaskInfo(f"task{t}", 3, (), True, "x", (), ()) for t in range(tasks)]},
        samples={SetKey("hard", model, 1): counted(c) for model, c in counts.items()},
        critic_scores={},
        selection_model="gen_v0",
        primary_split=1,
        analysis=AnalysisConfig(large_k=16),
    )


def chance(c: int, k: int) -> float:
    return 1 - comb(16 - c, k) / comb(16, k)


def test_crossover_is_the_change_at_both_k() -> None:
    # what is likely becomes likelier, what is rare is lost
    counts = {"theta0": [1] * 30, "gen_v0": [3] * 20 + [1] * 10, "v1": [4] * 30, "v2": [9] * 20 + [0] * 10}
    results = small_study(counts)
    finding = crossover(results, bootstrap_of(results))
    changes = {
        k: np.mean([chance(a, k) - chance(b, k) for a, b in zip(counts["v2"], counts["gen_v0"], strict=True)])
        for k in (8, 16)
    }
    assert changes[8] < 0 and finding["verdict"] == "not supported"  # the ten lost tasks outweigh the gain
    np.testing.assert_allclose(finding["estimate"], [changes[8], changes[16]])
    np.testing.assert_allclose(finding["estimate"][1], -1 / 3)

    counts["v2"] = [9] * 26 + [0] * 4
    counts["gen_v0"] = [1] * 30
    results = small_study(counts)
    finding = crossover(results, bootstrap_of(results))
    assert finding["verdicts"] == ["supported", "supported"] and finding["verdict"] == "supported"
    assert finding["interval"][0][0] > 0 > finding["interval"][1][1]
    assert finding["scope"] == "this trajectory" and finding["sentence"].startswith("The curves cross")


def test_deceleration_is_the_difference_of_the_gains() -> None:
    counts = {"theta0": [0] * 12, "gen_v0": [1, 2] * 6, "v1": [4, 3] * 6, "v2": [4, 4] * 6}
    results = small_study(counts)
    finding = deceleration(results, bootstrap_of(results))
    level = {model: np.mean([chance(c, 8) for c in counts[model]]) for model in counts}
    first, second = level["v1"] - level["gen_v0"], level["v2"] - level["v1"]
    assert finding["estimate"] == pytest.approx(second - first)
    assert [gain["estimate"] for gain in finding["gains"]] == pytest.approx([first, second])
    assert finding["verdict"] == "supported" and finding["interval"][1] < 0


def test_critic_gain_averages_split_seeds_within_a_task() -> None:
    sets = {seed: random_set(seed, tasks=15, n=24) for seed in (4, 5)}
    scores = {seed: np.random.default_rng(seed).normal(size=len(s.text)) for seed, s in sets.items()}
    results = replace(
        small_study({model: [1] * 15 for model in ("theta0", "gen_v0", "v1", "v2")}),
        samples={
            **{SetKey("hard", model, 4): sets[4] for model in ("theta0", "v1", "v2")},
            **{SetKey("hard", "gen_v0", seed): sets[seed] for seed in sets},
        },
        critic_scores={SetKey("hard", "gen_v0", seed): scores[seed] for seed in sets},
        analysis=AnalysisConfig(large_k=24),
    )
    finding = critic_gain(results, bootstrap_of(results))
    gains = []
    for seed, samples in sets.items():
        picked = enumerate_groups(samples, 8, scores[seed])
        gains.append(np.array(picked["critic"]).mean(1) - np.array(picked["naive"]).mean(1))
    assert finding["estimate"] == pytest.approx(np.mean(gains))
    assert finding["per_split"] == pytest.approx(
        {seed: g.mean() for seed, g in zip(sets, gains, strict=True)}
    )
    se = np.mean(gains, axis=0).std(ddof=1) / np.sqrt(15)
    assert finding["minimum_detectable_effect"] == pytest.approx(2.8016 * se, rel=1e-3)
    # everything is won on divergent groups
    assert finding["on_divergent"]["estimate"] * finding["divergent_share"] == pytest.approx(
        finding["estimate"]
    )


def test_what_was_not_run_is_not_measured() -> None:
    results = small_study({"theta0": [0, 1], "gen_v0": [1, 2]}, rounds=())
    for finding in findings(results, bootstrap_of(results)).values():
        assert finding["verdict"] == "inconclusive" and finding["estimate"] is None
        assert finding["sentence"].startswith("Not measured: ")


def test_every_finding_has_what_a_reader_needs() -> None:
    results = study()
    found = findings(results, bootstrap_of(results))
    assert list(found) == ["critic_gain", "crossover", "deceleration"]
    for finding in found.values():
        assert {"verdict", "estimate", "interval", "minimum_detectable_effect", "scope", "sentence"} <= set(
            finding
        )
        assert finding["bank"] == "hard" and {"easy", "hard"} <= set(finding["banks"])
