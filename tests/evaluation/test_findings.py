from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from constellation.evaluation.analysis import analyse, resamples
from constellation.evaluation.claims import Claim
from constellation.evaluation.controls import DIFFERENCE
from constellation.evaluation.findings import Claims, conclude, findings, overall, primary_claims
from constellation.evaluation.reach import EXPANSION
from constellation.evaluation.selection import GAIN, LEAD
from constellation.evaluation.statistics import Estimate
from constellation.evaluation.study import AnalysisConfig, StudyResults
from tests.evaluation.counted import counted_study
from tests.evaluation.synthetic import study

CHOICE = AnalysisConfig()


def claims_of(results: StudyResults) -> Claims:
    return primary_claims(results, resamples(results))


def normal(value: float, error: float) -> Estimate:
    """An estimate with normal error: intervals and p-values by the textbook."""
    ends = (
        value + sign * norm.ppf(q) * error for q, sign in ((0.975, -1), (0.975, 1), (0.95, -1), (0.95, 1))
    )
    p = norm.sf(value / error), norm.cdf(value / error)
    return Estimate(*(np.asarray(part) for part in (value, *ends, *p)))


UP, DOWN, FLAT, OPEN = normal(0.05, 0.01), normal(-0.05, 0.01), normal(0, 0.004), normal(0.01, 0.03)


@pytest.mark.parametrize(
    ("small", "large", "second", "expected"),
    [
        (UP, UP, DOWN, "compounding"),  # a higher ceiling
        (UP, DOWN, UP, "compounding"),  # acceleration
        (DOWN, DOWN, UP, "compounding"),  # whatever the gain
        (UP, DOWN, DOWN, "amplification"),
        (UP, DOWN, FLAT, "amplification"),  # the bound of the second difference is within the margin
        (UP, DOWN, normal(0.004, 0.004), "inconclusive"),  # acceleration by 1.06 points is not excluded
        (UP, OPEN, DOWN, "inconclusive"),
        (UP, DOWN, None, "inconclusive"),  # one round can show no acceleration, nor its absence
        (UP, UP, None, "compounding"),
        (FLAT, DOWN, DOWN, "no gain"),
        (DOWN, DOWN, None, "no gain"),
        (OPEN, OPEN, OPEN, "inconclusive"),
        (FLAT, normal(0.018, 0.01), OPEN, "no gain"),  # p = 0.036 is 0.072 of two
        (UP, normal(0.018, 0.01), normal(0.018, 0.01), "inconclusive"),  # nor do two such add up
        (UP, normal(0.018, 0.01), normal(0.021, 0.01), "compounding"),  # 0.018 of two
    ],
)
def test_rule_over_all(small: Estimate, large: Estimate, second: Estimate | None, expected: str) -> None:
    assert conclude(small, large, second, CHOICE) == expected


def many(*counts: int, trajectories: int = 3) -> list[list[int]]:
    """Of each trajectory, 40 tasks of these counts in turn; trajectory and task differ a little."""
    return [
        [max(0, counts[t % len(counts)] + (t // 7 + k) % 2) for t in range(40)] for k in range(trajectories)
    ]


def test_findings_are_corrected_and_the_verdict_over_all_follows_its_rule() -> None:
    # what is likely becomes likelier, soon and then no further; what is rare is lost
    counts = {"theta0": [[1] * 40], "gen_v0": many(1, 3), "v1": many(0, 16), "v2": many(0, 17)}
    counts["v1"] = counts["v2"] = [[0 if c < 3 else c for c in row] for row in counts["v2"]]
    counts["gen_v0"] = [[1 + c // 3 for c in row] for row in counts["gen_v0"]]
    results = counted_study(counts)
    claims = claims_of(results)
    found, verdict = findings(results, claims), overall(results, claims)
    p = {name: claim.p_value() for name, claim in claims.items()}
    assert p["critic_gain"] == 1  # not measured
    order = sorted(p, key=lambda name: p[name])
    for factor, name in zip((3, 2, 1), order, strict=True):
        if p[name] < 1:
            assert found[name]["p_adjusted"] >= min(1, factor * p[name])
    assert found["deceleration"]["verdict"] == "supported"
    assert found["critic_gain"]["verdict"] == "inconclusive"
    assert verdict["scope"] == found["crossover"]["scope"] == "trajectories from this base"
    small, large = results.analysis.small_k, results.analysis.large_k
    assert [test["claim"] for test in verdict["tests"]] == [
        f"pass@{small} rises",
        f"pass@{large} falls",
        f"pass@{large} rises",
        "the second round gains more",
    ]
    crossing, slowing = claims["crossover"], claims["deceleration"]
    assert isinstance(crossing, Claim) and isinstance(slowing, Claim)
    change, second = crossing.estimate, slowing.estimate
    decided = conclude(change.at(0), change.at(1), second.at(0), results.analysis)
    assert verdict["verdict"] == decided and verdict["sentence"].startswith(decided.capitalize())


def test_a_correction_can_only_take_support_away() -> None:
    results = study(tasks=40, trajectories=4)
    claims = claims_of(results)
    for name, finding in findings(results, claims).items():
        assert finding["p_adjusted"] >= finding["p"] == claims[name].p_value()
        assert (finding["verdict"] == "supported") == (finding["p_adjusted"] <= 0.05)


def test_what_was_not_run_is_not_measured() -> None:
    results = counted_study({"theta0": [[0, 1]], "gen_v0": [[1, 2]]})
    claims = claims_of(results)
    for finding in [*findings(results, claims).values(), overall(results, claims)]:
        assert finding["verdict"] == "inconclusive" and finding.get("estimate") is None
        assert finding["sentence"].startswith("Not measured: ")


def test_one_round_makes_a_verdict() -> None:
    results = counted_study({"theta0": [[0] * 9], "gen_v0": [[3, 4, 5] * 3], "v1": [[1, 1, 2] * 3]})
    claims = claims_of(results)
    assert overall(results, claims)["verdict"] == "no gain"
    assert findings(results, claims)["deceleration"]["sentence"].startswith("Not measured")


def test_every_finding_has_what_a_reader_needs() -> None:
    results = replace(study(), rounds=("v1", "v2"))
    found = findings(results, claims_of(results))
    assert list(found) == ["critic_gain", "crossover", "deceleration"]
    wanted = {"verdict", "p", "p_adjusted", "estimate", "interval", "minimum_detectable_effect", "scope"}
    for finding in found.values():
        assert wanted <= set(finding) and finding["bank"] == "hard" and finding["sentence"].endswith(".")


def test_q_is_adjusted_over_every_exploratory_number_of_the_report() -> None:
    whole = analyse(study(controlled=1, exact=True, selectors=True, tasks=8, resamples=100))
    rows = whole.entries.where(tested=True)
    assert all(row.q is not None for row in rows)
    assert not [row for row in whole.entries if row.q is not None and not row.tested]
    assert {DIFFERENCE, GAIN, LEAD, EXPANSION} <= set(rows.where(question="controls").values("quantity"))
    assert len(rows.where(question="filtering")) == 2 * 2 * 3  # rounds, forecasts, and k = 1, 8, 16 of 32
    assert len(rows.where(question="ledger")) == 3 * 2  # banks, rounds
    assert rows.where(question="curves") and not rows.where(question="correctness")
    of_reach = rows.where(question="reach")
    classes = len({row.of for row in of_reach if row.of})
    # expansion; rounds, befores, B; mass and its reach
    assert len(of_reach) == 1 + 2 * 2 * 3 + 2 * 2 * classes
    assert rows.where(question="selection") and "q" not in whole.facts["selection"]["extension"]
    assert not any("q" in finding for finding in (*whole.findings.values(), whole.overall))
    discovered = sum(row.q is not None and row.q <= 0.05 for row in rows)
    assert whole.discoveries == {"tested": len(rows), "discoveries": discovered}
    p = sorted(row.p for row in rows)
    for row in rows:  # Benjamini & Hochberg: the smallest m p_(j) / j of any rank from its own on
        expected = min(len(p) * p[j] / (j + 1) for j in range(len(p)) if p[j] >= row.p)
        assert row.q == pytest.approx(min(1, expected), abs=1e-5)
