from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from constellation.evaluation.analysis import resamples
from constellation.evaluation.critic_gain import picks
from constellation.evaluation.selector_gains import (
    exchanged_rate,
    on_fixed_tasks,
    selector_gains,
    tallies,
    tuned,
)
from constellation.evaluation.selectors import SELECTORS, cut
from constellation.evaluation.study import SetKey, StudyResults
from constellation.runtime.errors import UserError
from tests.evaluation.synthetic import study


@pytest.fixture(scope="module")
def results() -> StudyResults:
    drawn = study(tasks=40, n=16, trajectories=2, selectors=True, resamples=100)
    return replace(drawn, analysis=replace(drawn.analysis, small_k=8))


@pytest.fixture(scope="module")
def found(results: StudyResults) -> dict[str, Any]:
    return selector_gains(results, resamples(results), picks(results))


def hits(results: StudyResults, model: str, k: int, name: str) -> float:
    """Mean over split seeds and trajectories on the hard bank."""
    keys = [key for key in results.critic_scores if key[:2] == ("hard", model)]
    groups = [cut(results.samples[key], k, results.columns(key)) for key in keys]
    return float(np.mean([SELECTORS[name].hits(group) for group in groups]))


def test_the_extension_is_the_critic_minus_the_rival_of_the_tuning_tasks(
    results: StudyResults, found: dict[str, Any]
) -> None:
    extension = found["extension"]
    tuning = {
        name: np.mean([SELECTORS[name].hits(cut(samples, 8, columns)) for samples, columns in results.tuning])
        for name in ("naive", "uniform", "shortest", "likeliest", "probe_majority")
    }
    assert extension["rival"] == max(tuning, key=lambda name: tuning[name])
    for name, value in tuning.items():
        assert extension["tuning_accuracy"][name] == pytest.approx(value)
    expected = hits(results, "gen_v0", 8, "critic") - hits(results, "gen_v0", 8, extension["rival"])
    assert extension["estimate"] == pytest.approx(expected)
    assert extension["rival"] in extension["sentence"]
    widths = {name: np.diff(extension[f"interval_{name}"])[0] for name in ("bootstrap", "student")}
    assert np.diff(extension["interval"])[0] == max(widths.values()) > min(widths.values())
    assert 0 < extension["minimum_detectable_effect"] < 0.5
    assert found["rivals"]["hard"]["gen_v0"][8]["critic"]["estimate"] == pytest.approx(expected)


def test_every_learned_selector_meets_a_rival_that_knows_no_more(found: dict[str, Any]) -> None:
    for entries in found["rivals"]["hard"]["v2"].values():
        assert set(entries) == {"critic", "prior_critic", "critic_mass", "probe_critic_mass"}
        for name, entry in entries.items():
            rival = SELECTORS[entry["rival"]]
            assert not rival.learned and rival.information <= SELECTORS[name].information


def test_without_tuning_tasks_the_extension_is_not_measured(results: StudyResults) -> None:
    alone = replace(results, tuning=(), selector_columns={})
    found = selector_gains(alone, resamples(alone), picks(alone))
    assert found["extension"]["estimate"] is None and "Not measured" in found["extension"]["sentence"]
    assert found["rivals"] == {} and found["room"]["hard"]["gen_v0"][8]["all"]["estimate"] > 0


def test_room_is_a_ratio_of_means(results: StudyResults, found: dict[str, Any]) -> None:
    naive, critic, oracle = (hits(results, "v2", 4, name) for name in ("naive", "critic", "oracle"))
    room = found["room"]["hard"]["v2"][4]["all"]["estimate"]
    assert room == pytest.approx((critic - naive) / (oracle - naive))


@pytest.mark.parametrize("model", ["gen_v0", "v2"])
def test_fixed_tasks_are_those_on_which_other_groups_of_the_start_diverge(
    results: StudyResults, model: str
) -> None:
    won, size = on_fixed_tasks(results, picks(results), "hard", model, 4) or pytest.fail()
    assert size.any()
    seeds = results.scored_splits("hard", model)
    for name, values in (("critic", won), ("oracle", size)):
        expected = np.zeros_like(values)
        for seed in seeds:
            for trajectory in range(2):
                key = SetKey("hard", model, seed, trajectory)
                start = key._replace(model="gen_v0")
                groups = cut(results.samples[key], 4, results.columns(key))
                lead = SELECTORS[name].hits(groups) - SELECTORS["naive"].hits(groups)  # [T, G]
                weight = cut(results.samples[start], 4).divergent()  # [T, G]
                pairs = (
                    [weight[:, g] * lead[:, h] for g, h in permutations(range(4), 2)]
                    if model == "gen_v0"
                    else [weight[:, g] * lead[:, h] for g in range(4) for h in range(4)]
                )
                expected[trajectory] += np.mean(pairs, axis=0) / len(seeds)
        np.testing.assert_allclose(values, expected, atol=1e-12)
    alone = on_fixed_tasks(results, picks(results), "hard", model, 16)  # one group: no other to compare with
    assert (alone is None) == (model == "gen_v0")


def test_calibration_counts_every_surviving_sample(results: StudyResults, found: dict[str, Any]) -> None:
    probabilities, right = [], []
    for key, scores in results.critic_scores.items():
        if key[:2] == ("easy", "gen_v0"):  # one split seed: its trajectories' samples are added up
            samples = results.samples[key]
            survives = samples.per_sample(samples.fits)
            probabilities.append(samples.per_sample(expit(scores))[survives])
            right.append(samples.per_sample(samples.right)[survives])
    p, y = np.concatenate(probabilities), np.concatenate(right)
    entry = found["calibration"]["easy"]["gen_v0"]
    assert entry["brier"]["estimate"] == pytest.approx(np.mean((p - y) ** 2))
    assert entry["prevalence"]["estimate"] == pytest.approx(y.mean())
    assert sum(cell["share"] for cell in entry["bins"]) == pytest.approx(1)
    cells = np.minimum((p * 10).astype(int), 9)
    for cell, b in zip(entry["bins"], np.unique(cells), strict=True):
        assert cell["forecast"] == pytest.approx(p[cells == b].mean())
        assert cell["observed"]["estimate"] == pytest.approx(y[cells == b].mean())


def test_the_rival_is_chosen_at_no_k_that_the_tuning_pools_cannot_fill(results: StudyResults) -> None:
    small = [(samples, columns) for samples, columns in study(n=8, selectors=True).tuning]
    assert set(tuned(replace(results, tuning=small), picks(results))) == {2, 4, 8}


def test_columns_without_scores_or_unlike_ones_are_refused(results: StudyResults) -> None:
    key = SetKey("hard", "gen_v0", 1234)
    left = {other: columns for other, columns in results.selector_columns.items() if other != key}
    with pytest.raises(UserError, match="differ in their selector columns"):
        replace(results, selector_columns=left)
    stray = {**results.selector_columns, SetKey("withheld", "gen_v0", 1234): {}}
    with pytest.raises(UserError, match="has selector columns and no critic scores"):
        replace(results, selector_columns=stray)


def test_a_split_seed_with_more_samples_has_no_more_weight(results: StudyResults) -> None:
    """One whose samples all stand there four times says the same."""
    key = SetKey("hard", "gen_v0", 1235, 1)
    own = results.samples[key]
    longer = replace(
        own,
        program=np.tile(own.program, 4),
        finished=np.tile(own.finished, 4),
        tokens=np.zeros(0, np.int32),
        token_offsets=np.zeros(4 * own.program.size + 1, np.int64),
    )
    repeated = replace(results, samples={**results.samples, key: longer})
    expected = tallies(results, "hard", "gen_v0")
    np.testing.assert_allclose(tallies(repeated, "hard", "gen_v0"), expected, atol=1e-12)


def test_a_lead_of_nothing_is_found_as_often_as_alpha(results: StudyResults) -> None:
    rng, bootstrap = np.random.default_rng(0), resamples(results)
    lead = rng.normal(0.5, 1, (2, 40))  # a true one: exchanged on half of the tasks, nothing is left of it
    many = replace(results, analysis=replace(results.analysis, halvings=400))
    assert 0.0 < exchanged_rate(many, bootstrap, "hard", lead) < 0.12
    assert exchanged_rate(many, bootstrap, "hard", np.zeros((2, 40))) == 0
