"""The controls' numbers: pass@k by its definition, the right pairs, the trajectories that have them alone."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from constellation.evaluation.analysis import analyse, resamples
from constellation.evaluation.claims import Claim
from constellation.evaluation.controls import DIFFERENCE, Controls, controls
from constellation.evaluation.entries import Entries
from constellation.evaluation.reach import CHANGE
from constellation.evaluation.report import render
from constellation.evaluation.selection import GAIN, LEAD, critic_gain, selectors_of
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
    return with_part(counted_study(COUNTS), Controls(sets, {}, {}))


def with_part(results: StudyResults, part: Controls) -> StudyResults:
    return replace(results, parts={**results.parts, "controls": part})


def part_of(results: StudyResults) -> Controls:
    part = results.parts["controls"]
    assert isinstance(part, Controls)
    return part


def answered(results: StudyResults) -> Entries:
    return Entries(row.rounded() for row in controls(results, part_of(results), resamples(results)).entries)


@pytest.mark.parametrize("trajectories", [1, 2])
def test_differences_are_those_of_pass_at_k_in_the_trajectories_that_have_controls(trajectories: int) -> None:
    results = controlled(trajectories)
    assert controls(results, part_of(results), resamples(results)).facts["trajectories"] == trajectories
    rows = answered(results).where(quantity=DIFFERENCE)

    def level(counts: list[list[int]], k: int) -> float:
        return float(np.mean([[chance(c, k) for c in row] for row in counts[:trajectories]]))

    sets = COUNTS | {"permuted": CONTROL}
    pairs = (("gen_v0", "permuted"), ("permuted", "v1"))
    tested = {(*row.models, row.k) for row in rows.where(tested=True)}
    assert tested == {(*pair, k) for pair in pairs for k in (1, 8, 16)}
    for k in range(1, 33):
        for row in rows.where(k=k):
            before, after = row.models
            expected = level(sets[after], k) - level(sets[before], k)
            np.testing.assert_allclose(row.estimate, expected, atol=1e-6)
    for model in ("v1", "permuted"):
        assert rows.where(models=("gen_v0", model)).values("k") == list(range(1, 33))


def test_of_the_first_trajectories_nothing_else_is_read() -> None:
    few, all_ = (answered(study(trajectories=k, controlled=2)) for k in (2, 3))
    quantities = [DIFFERENCE, GAIN, LEAD]  # of reach more programs are known where there are more samples
    assert set(quantities) <= set(few.values("quantity"))
    for one, other in zip(few, all_, strict=True):
        assert one.quantity not in quantities or one.estimate == other.estimate


def test_nothing_is_tested_beyond_half_a_pool() -> None:
    results = controlled(n=32)
    key = SetKey("hard", "permuted", 1, 1)
    short = Controls({**part_of(results).samples, key: counted(CONTROL[1], 30)}, {}, {})
    tested = answered(with_part(results, short)).where(tested=True)
    assert {row.k for row in tested if "permuted" in row.models} == {1, 8}  # 16 is more than 15


def test_each_bank_has_its_own_controls_and_those_on_withheld_tasks_are_compared() -> None:
    results = study(controlled=1)
    part = part_of(results)
    only = {key: own for key, own in part.samples.items() if key[:2] != ("withheld", "permuted")}
    rows = answered(with_part(results, replace(part, samples=only))).where(quantity=DIFFERENCE)
    withheld = ("own_withheld", "secret_solved", "secret")
    from_start = {(row.bank, row.models[1]) for row in rows if row.models[0] == "gen_v0"}
    assert from_start == {
        *(("hard", model) for model in ("v1", "permuted", *withheld)),
        *(("withheld", model) for model in ("v1", *withheld)),
    }
    pairs = {(row.bank, *row.models) for row in rows.where(tested=True)}
    compared = itertools.combinations(withheld, 2)
    assert {(bank, *pair) for pair in compared for bank in ("hard", "withheld")} <= pairs


def test_a_round_that_was_sampled_again_is_read_there() -> None:
    few = [[1, 0, 2, 8], [1, 0, 3, 8]]
    again = {SetKey("hard", "v1", 1, k): counted(COUNTS["v1"][k], 32) for k in range(2)}
    results = counted_study(COUNTS | {"v1": few}, n={"theta0": 32, "gen_v0": 32, "v1": 8})
    own = controlled()
    choice = replace(results.analysis, small_k=4)
    twice = Controls({**part_of(own).samples, **again}, {}, {})
    found = answered(with_part(replace(results, analysis=choice), twice))
    same = answered(replace(own, analysis=choice))
    assert [row.estimate for row in found] == [row.estimate for row in same]
    pair = ("gen_v0", "v1")
    assert found.where(models=pair, tested=True).values("k") == [1, 4, 16]  # elsewhere it is itself a change
    assert not same.where(models=pair, tested=True)


def test_a_critic_of_permuted_labels_against_the_true_one() -> None:
    results = study(trajectories=2, controlled=2)
    rows = answered(results)
    null = rows.one(quantity=GAIN, of="permuted_critic", bank="hard", models=("gen_v0",), k=8)
    lead = rows.one(quantity=LEAD, of="critic minus permuted_critic", k=8)
    assert lead.estimate > 0  # the true one is of right programs, the other noise

    part, columns = part_of(results), selectors_of(results).columns
    true = replace(part, scores={key: columns[key]["critic"] for key in part.scores})
    rows = answered(with_part(results, true))
    of_true, nothing = rows.one(quantity=GAIN), rows.one(quantity=LEAD)
    assert nothing.estimate == 0 and nothing.p == 1
    np.testing.assert_allclose(of_true.estimate, null.estimate + lead.estimate, atol=2e-6)
    claim = critic_gain(results, resamples(results))
    assert isinstance(claim, Claim)
    np.testing.assert_allclose(of_true.estimate, claim.details["per_split"][1234], atol=1e-6)


def test_a_study_without_controls() -> None:
    results = counted_study(COUNTS)
    found = analyse(results)
    assert "controls" not in found.facts and not found.entries.where(question="controls")
    assert "Not measured: the study trained no controls." in render(results, found, {})


def test_refuses_controls_of_different_trajectories() -> None:
    results = study(trajectories=3, controlled=2)
    part, key = part_of(results), SetKey("hard", "secret", 1234, 1)
    left = {other: own for other, own in part.samples.items() if other != key}
    with pytest.raises(UserError, match=r"controls of secret on hard .* \[0\], not of \[0, 1\]"):
        with_part(results, replace(part, samples=left))


def test_refuses_controls_of_other_tasks() -> None:
    other = {SetKey("hard", "permuted", 1, k): counted(CONTROL[k][:3], 32) for k in range(2)}
    with pytest.raises(UserError, match=r"samples of permuted on hard .* are of other tasks"):
        with_part(counted_study(COUNTS), Controls(other, {}, {}))


@pytest.mark.parametrize(("shift", "verdict"), [(2.0, "supported"), (0.0, "not supported")])
def test_expansion_is_measurable_where_the_secret_programs_show_it(shift: float, verdict: str) -> None:
    whole = study(trajectories=3, controlled=2)
    known = known_programs(whole)
    level = np.full(len(known.task), -8.0)
    models = (*whole.models, *CONTROLS)
    asked = {(model, k): level for model in models for k in range(1 if model == "theta0" else 2)}
    asked |= {("secret", k): level + shift for k in range(2)}
    part = replace(part_of(whole), known={"withheld": replace(known, bank="withheld", log_prob=asked)})
    results = analyse(with_part(whole, part))
    claims = results.facts["controls"]["expansion"]["withheld"]
    assert {name: claim["verdict"] for name, claim in claims.items()} == {
        "v1": "not supported",
        "permuted": "not supported",
        "own_withheld": "not supported",
        "secret_solved": "not supported",
        "secret": verdict,
    }
    rows = results.entries.where(question="controls", bank="withheld", quantity=CHANGE, k=1024)
    lead = rows.one(models=("secret_solved", "secret"), tested=True)
    assert lead.estimate == pytest.approx(claims["secret"]["estimate"][1], abs=1e-5)
    assert rows.one(models=("own_withheld", "secret_solved")).estimate == 0
    # a trajectory knows one or two programs of a task
    gains = [(1 - n * np.exp(-8.0)) ** 1024 - (1 - n * np.exp(-8.0 + shift)) ** 1024 for n in (1, 2)]
    assert min(gains) - 1e-6 <= min(claims["secret"]["estimate"])
    assert max(claims["secret"]["estimate"]) <= max(gains) + 1e-6
    page = render(with_part(whole, part), results, {})
    assert ("Expansion is not measurable here" in page) == (shift == 0)
