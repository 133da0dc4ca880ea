from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from constellation.evaluation.analysis import resamples
from constellation.evaluation.bayes import forecast_curves
from constellation.evaluation.beyond_filtering import beyond_filtering
from constellation.evaluation.study import SetKey, StudyResults
from tests.evaluation.synthetic import study


@pytest.fixture(scope="module")
def results() -> StudyResults:
    return study(tasks=12, n=16, trajectories=2, exact=True, resamples=100)


@pytest.fixture(scope="module")
def found(results: StudyResults) -> dict[str, Any]:
    return beyond_filtering(results, resamples(results))


def rate(results: StudyResults, model: str) -> np.ndarray:
    """[K, T] share of right samples on the hard bank: pass@1."""
    keys = [SetKey("hard", model, 1234, k) for k in range(2)]
    return np.array([s.per_sample(s.right).mean(1) for s in (results.samples[key] for key in keys)])


def test_the_ceiling_is_that_of_independent_draws(results: StudyResults, found: dict[str, Any]) -> None:
    assert results.exact is not None
    sampler = results.exact.ceiling["hard"]["sampler"]
    entry = found["ceiling"]["hard"]
    assert list(entry["pass_at_k"]) == [1, 2, 4, 8, 16]
    for k, estimate in entry["pass_at_k"].items():
        assert estimate["estimate"] == pytest.approx(np.mean(1 - (1 - sampler) ** k))
    below = rate(results, "gen_v0").mean() - sampler.mean()
    assert entry["start_minus_ideal"][1]["estimate"] == pytest.approx(below)
    secret = results.exact.ceiling["hard"]["secret"]
    assert entry["secret"]["estimate"] == pytest.approx(secret.mean())


@pytest.mark.parametrize("name, unfit_stays", [("full adoption", False), ("unfit stays", True)])
def test_residual_is_measured_minus_the_forecast_of_the_same_trajectory(
    results: StudyResults, found: dict[str, Any], name: str, unfit_stays: bool
) -> None:
    assert results.exact is not None
    for number, model in enumerate(results.rounds, 1):
        expected = np.mean(
            [
                forecast_curves(results.samples[key], posterior, [1, 8], 8, 1, 2, unfit_stays).pass_at_k[
                    number
                ]
                for key, posterior in results.exact.filter.items()
                if key.bank == "hard"
            ],
            axis=(0, 1),
        )
        entry = found["forecast"]["hard"][model][name]
        assert [entry["pass_at_k"][k]["estimate"] for k in (1, 8)] == pytest.approx(expected)
        measured = found["forecast"]["hard"][model]["measured"][1]["estimate"]
        assert measured == pytest.approx(rate(results, model).mean())
        assert entry["residual"][1]["estimate"] == pytest.approx(measured - expected[0])
        assert entry["change"][1]["estimate"] == pytest.approx(expected[0] - rate(results, "gen_v0").mean())
        assert 0 <= entry["lower_bound"][1] <= entry["lower_bound"][8] <= 1


def test_a_round_that_only_filters_leaves_no_residual() -> None:
    """Every task's prompt has two behaviours, each equally likely to be right; what does not fit stays."""
    plain = study(tasks=12, n=16, exact=True, rounds=1, resamples=100)
    assert plain.exact is not None
    key = SetKey("hard", "gen_v0", 1234)
    samples = plain.samples[key]
    even = replace(
        plain.exact, filter={**plain.exact.filter, key: np.ones(len(samples.text))}, star_samples=1
    )
    same = replace(plain, exact=even, samples={**plain.samples, key._replace(model="v1"): samples})
    entry = beyond_filtering(same, resamples(same))["forecast"]["hard"]["v1"]["unfit stays"]
    # one draw a task and equal posteriors: the kept answers are spread as the fitting ones were
    for k in (1, 2, 4, 8):
        assert entry["residual"][k]["estimate"] == pytest.approx(0, abs=1e-9)
        assert entry["residual"][k]["interval"] == pytest.approx([0, 0], abs=1e-9)


def test_every_round_is_read_as_far_as_its_samples_go(results: StudyResults) -> None:
    few = study(tasks=12, n=4, trajectories=2)
    less = {key: few.samples[key] for key in few.samples if key.model == "v1"}
    mixed = replace(results, samples={**results.samples, **less})
    found = beyond_filtering(mixed, resamples(mixed))["forecast"]["hard"]
    assert list(found["v1"]["measured"]) == list(found["v1"]["full adoption"]["residual"]) == [1, 2, 4]
    assert list(found["v2"]["measured"]) == list(found["v2"]["unfit stays"]["change"]) == [1, 2, 4, 8, 16]


def test_nothing_without_the_exact_posterior_and_no_forecast_without_rounds(results: StudyResults) -> None:
    bare = replace(results, exact=None)
    assert beyond_filtering(bare, resamples(bare)) == {"ceiling": {}, "forecast": {}}
    none = study(tasks=6, n=16, rounds=0, exact=True)
    found = beyond_filtering(none, resamples(none))
    assert found["forecast"] == {} and set(found["ceiling"]) == {"easy", "hard", "withheld"}
