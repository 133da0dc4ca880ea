import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats

from constellation.evaluation.analysis import analyse, pooled_mean, stages, subset_masks
from constellation.evaluation.study import SetKey, StudyResults, TaskInfo
from tests.evaluation.synthetic import KINDS, study


@pytest.fixture(scope="module")
def results() -> StudyResults:
    return study()


@pytest.fixture(scope="module")
def analysed(results: StudyResults) -> dict[str, Any]:
    return analyse(results)


def test_is_json_without_nan(analysed: dict[str, Any]) -> None:
    assert json.loads(json.dumps(analysed, allow_nan=False)) == analysed


def test_curves_start_at_the_share_and_end_at_any_of_n(
    results: StudyResults, analysed: dict[str, Any]
) -> None:
    for bank in results.tasks:
        for model in results.models:
            samples = results.samples[SetKey(bank, model, 1234)]  # the one split that all models share
            for name, column in (("pass_at_k", samples.generalises), ("visible_fit_at_k", samples.fits)):
                curve, hit = analysed[name][bank][model], samples.per_sample(column)
                assert list(curve) == [str(k) for k in range(1, 33)]
                assert curve["1"] == pytest.approx(hit.mean(), abs=1e-6)
                assert curve["32"] == pytest.approx(hit.any(1).mean(), abs=1e-6)


def test_change_is_the_difference_of_the_curves(analysed: dict[str, Any]) -> None:
    for bank, rounds in analysed["change_at_k"].items():
        for model, by_k in rounds.items():
            for k, entry in by_k.items():
                curves = analysed["pass_at_k"][bank]
                assert entry["estimate"] == pytest.approx(curves[model][k] - curves["gen_v0"][k], abs=2e-6)
                assert entry["interval"][0] <= entry["estimate"] <= entry["interval"][1]


def test_gains_add_up_to_the_change(analysed: dict[str, Any]) -> None:
    for bank, gains in analysed["gains"].items():
        for k in ("8", "16"):
            total = sum(gain["ks"][k]["estimate"] for gain in gains)
            assert total == pytest.approx(analysed["change_at_k"][bank]["v2"][k]["estimate"], abs=3e-6)


def test_parts_of_a_bank_add_up_to_it(results: StudyResults, analysed: dict[str, Any]) -> None:
    for bank, parts in analysed["subsets"].items():
        for pair in (("at most 3 atoms", "exactly 4 atoms"), ("skeleton seen in training", "skeleton new")):
            if pair[0] not in parts:
                continue
            assert sum(parts[name]["tasks"] for name in pair) == len(results.tasks[bank])
            whole = sum(
                parts[name]["tasks"] * parts[name]["pass_at_k"]["v2"]["8"]["estimate"] for name in pair
            )
            expected = analysed["pass_at_k"][bank]["v2"]["8"] * len(results.tasks[bank])
            assert whole == pytest.approx(expected, abs=1e-3)
    assert {"cased_span", "outer_constants", "twice_from_the_end"} <= set(analysed["subsets"]["withheld"])
    assert (
        "exactly 4 atoms" in analysed["subsets"]["hard"]
        and "exactly 4 atoms" not in analysed["subsets"]["easy"]
    )


def test_a_part_with_every_task_or_none_is_left_out() -> None:
    tasks = [TaskInfo(str(t), 2, (), t > 0, "x", (), ()) for t in range(3)]
    assert list(subset_masks(tasks)) == ["skeleton seen in training", "skeleton new"]


def test_false_generalising_counts_samples(results: StudyResults, analysed: dict[str, Any]) -> None:
    samples = results.samples[SetKey("easy", "v1", 1234)]
    texts = [str(samples.text[p]) for p in samples.program.ravel()]
    right, wrong = texts.count(KINDS[0]), texts.count(KINDS[5])  # the latter generalises but errs on probes
    entry = analysed["false_generalising"]["easy"]["v1"]
    assert wrong > 0 and entry["estimate"] == pytest.approx(wrong / (right + wrong), abs=1e-6)
    assert entry["probed_samples_per_task"] == pytest.approx((right + wrong) / 24, abs=1e-6)


def test_selection_is_reported_where_scores_exist(analysed: dict[str, Any]) -> None:
    assert {bank: list(models) for bank, models in analysed["selection"].items()} == {
        "easy": ["gen_v0", "v2"],
        "hard": ["gen_v0", "v2"],
    }
    entry = analysed["selection"]["hard"]["gen_v0"]["8"]["selectors"]
    assert entry["critic"]["gain"]["estimate"] == analysed["findings"]["critic_gain"]["estimate"]
    assert entry["oracle"]["overall"]["estimate"] >= entry["critic"]["overall"]["estimate"]


def test_rounds_extend_without_touching_what_was_there() -> None:
    two, five = analyse(study(rounds=2)), analyse(study(rounds=5))
    for model in two["models"]:
        assert two["pass_at_k"]["hard"][model] == five["pass_at_k"]["hard"][model]
    kept = ("estimate", "interval", "p")  # the correction depends on the other findings
    for name in kept:
        assert two["findings"]["deceleration"][name] == five["findings"]["deceleration"][name]
    assert len(five["gains"]["hard"]) == len(five["headroom"]["hard"]["rounds"]) == 5
    assert len(five["headroom"]["hard"]["changes"]) == 4


@pytest.fixture(scope="module")
def crossed() -> StudyResults:
    """Four trajectories, and of the first round a quarter of the samples."""
    many, few = study(tasks=12, trajectories=4, doubled=True), study(tasks=12, n=8, trajectories=4)
    less = {key: value for key, value in few.samples.items() if key.model == "v1"}
    return replace(many, samples={**many.samples, **less}, analysis=replace(many.analysis, small_k=4))


def test_every_model_is_read_as_far_as_its_samples_go(crossed: StudyResults) -> None:
    found = analyse(crossed)
    longest = {model: max(map(int, curve)) for model, curve in found["pass_at_k"]["hard"].items()}
    assert longest == {"theta0": 32, "gen_v0": 32, "v1": 8, "v2": 32}
    assert found["samples_per_task"]["hard"] == longest
    assert {name: max(map(int, by_k)) for name, by_k in found["change_at_k"]["hard"].items()} == {
        "v1": 8,
        "v2": 32,
    }
    assert [list(gain["ks"]) for gain in found["gains"]["hard"]] == [["4"], ["4"]]
    assert found["crossing"]["hard"]["limit"] == 16
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_mean_and_trajectories_agree(crossed: StudyResults) -> None:
    found = analyse(crossed)
    for model in ("gen_v0", "v1", "v2"):
        each = np.array(found["pass_at_k_by_trajectory"]["hard"][model])
        assert each.shape == (4, len(found["pass_at_k"]["hard"][model]))
        np.testing.assert_allclose(each.mean(0), list(found["pass_at_k"]["hard"][model].values()), atol=2e-6)
    assert found["pass_at_k_by_trajectory"]["hard"]["theta0"] == []
    for entry in found["change_at_k"]["hard"]["v2"].values():
        assert np.mean(entry["by_trajectory"]) == pytest.approx(entry["estimate"], abs=2e-6)
    finding = found["findings"]["crossover"]
    np.testing.assert_allclose(np.mean(finding["by_trajectory"], axis=1), finding["estimate"], atol=2e-6)


def test_stages_are_averaged_over_trajectories(crossed: StudyResults) -> None:
    found = {stage["name"]: stage for stage in stages(crossed)}
    assert list(found) == ["theta0", "gen_v0", "v1", "v2", "critic"]
    assert found["v1"]["kept"] == round(1140 + (0 + 1 + 2 + 3) / 4)
    assert len(found["v1"]["losses"]) == 4 and len(found["critic"]["losses"]) == 1
    assert found["theta0"]["samples"] is None


def test_pools_of_several_trajectories_are_the_units() -> None:
    values = [np.array([1.0, 2.0, np.nan]), np.array([3.0, 3.0, 6.0]), np.array([np.nan] * 3)]
    interval = scipy.stats.ttest_1samp([1.5, 4.0], 0).confidence_interval(0.9)
    assert pooled_mean(values, 0.9) == {"estimate": 2.75, "interval": pytest.approx(list(interval))}
    alone = scipy.stats.ttest_1samp([3.0, 3.0, 6.0], 0).confidence_interval(0.9)
    assert pooled_mean(values[1:2], 0.9) == {"estimate": 4, "interval": pytest.approx(list(alone))}
    assert pooled_mean(values[2:], 0.9) == {"estimate": None, "interval": None}
