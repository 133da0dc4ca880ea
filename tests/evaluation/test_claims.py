from dataclasses import replace

import numpy as np
import pytest

from constellation.evaluation.claims import FAMILY, Claim, NotMeasured, verdict
from constellation.evaluation.statistics import Bootstrap, Estimate, minimum_detectable_effect, resample
from constellation.evaluation.study import AnalysisConfig

CHOICE = AnalysisConfig()


def interval(*ends: tuple[float, float]) -> Estimate:
    """Of these two-sided intervals; the verdict reads nothing else."""
    low, high = np.array(ends).T
    return Estimate(
        (low + high) / 2, low, high, low, high, np.full(len(low), np.nan), np.full(len(low), np.nan)
    )


@pytest.mark.parametrize(
    ("low", "high", "direction", "p", "expected"),
    [
        (0.001, 0.2, +1, 0.01, "supported"),
        (0.001, 0.005, +1, 0.01, "supported"),  # small but certain: the sign decides first
        (-0.001, 0.2, +1, 0.05, "supported"),  # the p-value is one-sided, the interval two-sided
        (0.001, 0.2, +1, 0.06, "inconclusive"),  # not after the correction
        (-0.2, -0.001, +1, 0.99, "not supported"),
        (-0.009, 0.009, +1, 0.5, "not supported"),  # any effect is below the margin of 0.01
        (-0.009, 0.011, +1, 0.4, "inconclusive"),
        (-0.3, 0.005, +1, 0.9, "inconclusive"),
        (0.001, 0.2, -1, 0.99, "not supported"),
        (-0.009, 0.009, -1, 0.5, "not supported"),
        (-0.011, 0.009, -1, 0.4, "inconclusive"),
        (-0.2, -0.001, -1, 0.01, "supported"),
    ],
)
def test_rule_for_one_number(low: float, high: float, direction: int, p: float, expected: str) -> None:
    assert verdict(interval((low, high)), (direction,), p, CHOICE) == expected


def test_a_claim_about_two_fails_with_either() -> None:
    up, down, unclear = (0.02, 0.2), (-0.2, -0.02), (-0.1, 0.1)
    assert verdict(interval(up, down), (+1, -1), 0.01, CHOICE) == "supported"
    assert verdict(interval(up, unclear), (+1, -1), 0.3, CHOICE) == "inconclusive"
    assert verdict(interval(unclear, up), (+1, -1), 0.9, CHOICE) == "not supported"
    assert verdict(interval(down, down), (+1, -1), 0.9, CHOICE) == "not supported"


def claim_of(values: np.ndarray, directions: tuple[int, ...]) -> Claim:
    rng = np.random.default_rng(0)
    tasks = {"hard": resample(values.shape[1], 400, rng)}
    bootstrap = Bootstrap(resample(values.shape[0], 400, rng), tasks, 0.95)
    openings = "Yes", "No", "Open"
    return Claim(
        "It is.", directions, bootstrap.both("hard", values), values, openings, "so", {"bank": "hard"}
    )


def test_finding_of_two_numbers() -> None:
    values = np.random.default_rng(1).normal([0.3, -0.3], 0.4, size=(4, 50, 2))
    claim = claim_of(values, (+1, -1))
    assert claim.p_value() == max(float(claim.estimate.p_above[0]), float(claim.estimate.p_below[1]))
    found = claim.judged(CHOICE, "here", 0.02, FAMILY)
    assert (found["verdict"], found["sentence"], found["scope"]) == ("supported", "Yes: so.", "here")
    assert found["bank"] == "hard" and found["p_adjusted"] == 0.02
    np.testing.assert_allclose(found["bound"], [claim.estimate.lower[0], claim.estimate.upper[1]])
    np.testing.assert_allclose(found["interval"][1], [claim.estimate.low[1], claim.estimate.high[1]])
    np.testing.assert_allclose(found["by_trajectory"], values.mean(1).T)
    boot, student = (found[f"interval_{name}"] for name in ("bootstrap", "student"))
    assert not np.allclose(boot, student)
    widest = np.where(np.diff(boot) >= np.diff(student), boot, student)
    np.testing.assert_allclose(found["interval"], widest)
    # what can be detected at the strictest of Holm's three steps
    expected = minimum_detectable_effect(values, 0.05 / 3, 0.8)
    np.testing.assert_allclose(found["minimum_detectable_effect"], expected)


def test_finding_of_one_number_holds_numbers() -> None:
    claim = claim_of(np.random.default_rng(1).normal(0.3, 0.4, size=(1, 50, 1)), (+1,))
    found = claim.judged(replace(CHOICE, margin=0), "here", 0.2)
    assert found["verdict"] == "inconclusive" and found["sentence"] == "Open: so."
    assert np.ndim(found["estimate"]) == 0 and np.shape(found["interval"]) == (2,)


def test_what_was_not_measured_supports_nothing() -> None:
    found = NotMeasured("It is.", "nobody looked").judged(CHOICE, "here", 1.0)
    assert found["verdict"] == "inconclusive" and found["estimate"] is None
    assert found["sentence"] == "Not measured: nobody looked."
