"""The controls' numbers: pass@k by its definition, the right pairs, the trajectories that have them alone."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from constellation.evaluation.analysis import analyse, resamples
from constellation.evaluation.claims import Claim
from constellation.evaluation.controls import controls
from constellation.evaluation.critic_gain import critic_gain, picks
from constellation.evaluation.null import nulls
from constellation.evaluation.report import render
from constellation.evaluation.study import SetKey, StudyResults
from constellation.runtime.errors import UserError
from tests.evaluation.counted import chance, counted, counted_study
from tests.evaluation.synthetic import CONTROLS, known_programs, study

COUNTS = {
    "theta0": [[0, 0, 0, 0]],
    "gen_v0": [[3, 0, 9, 32], [1, 2, 8, 32]],
    "v1": [[9, 0, 16, 32], [5, 0, 20, 32]],
}
CONTROL = [[4, 1, 9, 30], [6, 6, 6, 6]]


def controlled(trajectories: int = 2, n: int = 32) -> StudyResults:
    keys = [SetKey("hard", "permuted", 1, k) for k in range(trajectories)]
    sets = {key: counted(CONTROL[key.trajectory], n) for key in keys}
    return replace(counted_study(COUNTS), controls=sets)


@pytest.mark.parametrize("trajectories", [1, 2])
def test_differences_are_those_of_pass_at_k_in_the_trajectories_that_have_controls(trajectories: int) -> None:
    results = controlled(trajectories)
    found = controls(results, resamples(results))

    def level(counts: list[list[int]], k: int) -> float:
        return float(np.mean([[chance(c, k) for c in row] for row in counts[:trajectories]]))

    assert found["trajectories"] == trajectories
    sets = COUNTS | {"permuted": CONTROL}
    entries = {(*entry["models"], entry["k"]): entry["estimate"] for entry in found["changes"]}
    pairs = (("gen_v0", "permuted"), ("permuted", "v1"))
    assert set(entries) == {(*pair, k) for pair in pairs for k in (1, 8, 16)}
    for (before, after, k), estimate in entries.items():
        np.testing.assert_allclose(estimate, level(sets[after], k) - level(sets[before], k), atol=1e-12)
    curves = found["change_at_k"]["hard"]
    assert list(curves) == ["v1", "permuted"]
    for model, by_k in curves.items():
        for k in (1, 7, 32):
            expected = level(sets[model], k) - level(COUNTS["gen_v0"], k)
            np.testing.assert_allclose(by_k[k]["estimate"], expected, atol=1e-12)


def test_of_the_first_trajectories_nothing_else_is_read() -> None:
    few, all_ = study(trajectories=2, controlled=2), study(trajectories=3, controlled=2)
    one, other = (controls(results, resamples(results)) for results in (few, all_))
    for part in ("changes", "critic"):
        assert [entry["estimate"] for entry in one[part]] == [entry["estimate"] for entry in other[part]]


def test_nothing_is_said_beyond_half_a_pool() -> None:
    results = controlled(n=32)
    key = SetKey("hard", "permuted", 1, 1)
    short = replace(results, controls={**results.controls, key: counted(CONTROL[1], 30)})
    found = controls(short, resamples(short))
    for entry in found["changes"]:
        assert "permuted" not in entry["models"] or entry["k"] != 16  # more than 15
    assert {entry["k"] for entry in found["changes"] if "permuted" in entry["models"]} == {1, 8}


def test_each_bank_has_its_own_controls_and_those_on_withheld_tasks_are_compared() -> None:
    results = study(controlled=1)
    only = {key: own for key, own in results.controls.items() if key[:2] != ("withheld", "permuted")}
    results = replace(results, controls=only)
    found = controls(results, resamples(results))
    withheld = ("own_withheld", "secret_solved", "secret")
    assert set(found["change_at_k"]["hard"]) == {"v1", "permuted", *withheld}
    assert set(found["change_at_k"]["withheld"]) == {"v1", *withheld}
    pairs = {(entry["bank"], *entry["models"]) for entry in found["changes"]}
    compared = itertools.combinations(withheld, 2)
    assert {(bank, *pair) for pair in compared for bank in ("hard", "withheld")} <= pairs


def test_a_round_that_was_sampled_again_beside_them_is_read_there() -> None:
    few = [[1, 0, 2, 8], [1, 0, 3, 8]]
    again = {SetKey("hard", "v1", 1, k): counted(COUNTS["v1"][k], 32) for k in range(2)}
    results = counted_study(COUNTS | {"v1": few}, n={"theta0": 32, "gen_v0": 32, "v1": 8})
    own = controlled()
    results = replace(
        results, controls={**own.controls, **again}, analysis=replace(results.analysis, small_k=4)
    )
    found = controls(results, resamples(results))
    own = replace(own, analysis=results.analysis)
    same = controls(own, resamples(own))
    assert found["change_at_k"] == same["change_at_k"]
    others = [e["estimate"] for e in found["changes"] if e["models"] != ("gen_v0", "v1")]
    assert others == [e["estimate"] for e in same["changes"]]
    alone = {e["k"]: e["estimate"] for e in found["changes"] if e["models"] == ("gen_v0", "v1")}
    assert alone == {k: same["change_at_k"]["hard"]["v1"][k]["estimate"] for k in (1, 4, 16)}


def test_a_critic_of_permuted_labels_beside_the_true_one() -> None:
    results = study(trajectories=2, controlled=2)
    (null, difference) = controls(results, resamples(results))["critic"]
    assert null["models"] == ("permuted_critic",) and difference["models"] == ("permuted_critic", "critic")
    assert difference["estimate"] > 0  # the true one is of right programs, the other noise

    true = {key: results.critic_scores[key] for key in results.control_scores}
    same = replace(results, control_scores=true)
    of_true, nothing = controls(same, resamples(same))["critic"]
    assert nothing["estimate"] == 0 and nothing["p"] == 1
    np.testing.assert_allclose(of_true["estimate"], null["estimate"] + difference["estimate"], atol=1e-12)
    claim = critic_gain(results, resamples(results), picks(results))
    assert isinstance(claim, Claim)
    np.testing.assert_allclose(of_true["estimate"], claim.details["per_split"][1234], atol=1e-12)


def test_a_study_without_controls() -> None:
    results = counted_study(COUNTS)
    assert controls(results, resamples(results)) == {
        "trajectories": 0,
        "changes": [],
        "critic": [],
        "change_at_k": {},
        "reach": {},
    }


def test_refuses_controls_of_different_trajectories() -> None:
    results = study(trajectories=3, controlled=2)
    key = SetKey("hard", "secret", 1234, 1)
    left = {other: own for other, own in results.controls.items() if other != key}
    with pytest.raises(UserError, match=r"controls of secret on hard .* \[0\], not of \[0, 1\]"):
        replace(results, controls=left)


def test_the_null_of_fewer_trajectories_is_that_of_their_study() -> None:
    doubled = study(trajectories=3, doubled=True)
    pools = {key: pool for key, pool in doubled.null_pools.items() if key.trajectory < 2}
    fewer = replace(doubled, null_pools=pools)
    found = nulls(fewer, resamples(fewer))["halvings"]["hard"]
    two = doubled.first_trajectories(2)
    alone = nulls(two, resamples(two))["halvings"]["hard"]
    for name, statistic in found["statistics"].items():
        assert statistic == alone["statistics"][name]
    assert found["tasks_gained"] == alone["tasks_gained"]


@pytest.mark.parametrize(("shift", "verdict"), [(2.0, "supported"), (0.0, "not supported")])
def test_expansion_is_measurable_where_the_secret_programs_show_it(shift: float, verdict: str) -> None:
    whole = study(trajectories=3, controlled=2)
    known = known_programs(whole)
    level = np.full(len(known.task), -8.0)
    models = (*whole.models, *CONTROLS)
    asked = {(model, k): level for model in models for k in range(1 if model == "theta0" else 2)}
    asked |= {("secret", k): level + shift for k in range(2)}
    controlled = replace(whole, control_known={"withheld": replace(known, bank="withheld", log_prob=asked)})
    results = analyse(controlled)
    found = results["controls"]["reach"]["withheld"]["expansion"]
    assert {name: entry["verdict"] for name, entry in found.items()} == {
        "v1": "not supported",
        "permuted": "not supported",
        "own_withheld": "not supported",
        "secret_solved": "not supported",
        "secret": verdict,
    }
    differences = results["controls"]["reach"]["withheld"]["differences"]
    at = {(*entry["models"], entry["k"]): entry["estimate"] for entry in differences}
    assert at["secret_solved", "secret", 1024] == pytest.approx(found["secret"]["estimate"][1], abs=1e-5)
    assert at["own_withheld", "secret_solved", 1024] == 0
    # a trajectory knows one or two programs of a task
    gains = [(1 - n * np.exp(-8.0)) ** 1024 - (1 - n * np.exp(-8.0 + shift)) ** 1024 for n in (1, 2)]
    assert min(gains) - 1e-6 <= min(found["secret"]["estimate"])
    assert max(found["secret"]["estimate"]) <= max(gains) + 1e-6
    page = render(controlled, results, {})
    assert ("Expansion is not measurable here" in page) == (shift == 0)
