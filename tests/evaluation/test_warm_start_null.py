"""Starts that stand for the rounds of other trajectories, against the same by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from constellation.evaluation.analysis import resamples
from constellation.evaluation.findings import conclude
from constellation.evaluation.null import nulls
from constellation.evaluation.reach import known_of
from constellation.evaluation.study import StudyResults
from constellation.evaluation.warm_start_null import another_warm_start, divisions, several
from constellation.runtime.keys import host_rng
from tests.evaluation.counted import chance, counted_study
from tests.evaluation.synthetic import known_programs, study


@pytest.fixture(scope="module")
def shifted() -> StudyResults:
    """Six trajectories, of which a warm start makes some better than others on every task."""
    rng = np.random.default_rng(0)
    level = rng.uniform(0.1, 0.4, 60)
    counts = [rng.binomial(32, level + shift).tolist() for shift in (0, 0.1, 0, 0.1, 0.2, 0.05)]
    return counted_study({"theta0": [[0] * 60], "gen_v0": counts, "v1": counts, "v2": counts})


@pytest.fixture(scope="module")
def drawn() -> StudyResults:
    return study(tasks=12, trajectories=4, resamples=200)


def test_no_trajectory_plays_two_parts(shifted: StudyResults) -> None:
    for parts in (2, 3):
        found = divisions(shifted, parts)
        assert found.shape == (shifted.analysis.halvings, parts, 6 // parts)
        assert all(len(set(row.ravel())) == 6 for row in found)
    assert len({tuple(row.ravel()) for row in divisions(shifted, 2)}) > 100


def test_verdicts_are_those_of_studies_of_so_many_trajectories(shifted: StudyResults) -> None:
    bootstrap, choice = resamples(shifted), shifted.analysis
    found = several(shifted, bootstrap)
    assert list(found) == ["pairs, 3 trajectories", "triples, 2 trajectories"]
    counts = [
        shifted.per_task("hard", "gen_v0", lambda s: s.per_sample(s.generalises).sum(1))[k] for k in range(6)
    ]
    small, large = (np.array([[chance(int(c), k) for c in row] for row in counts]) for k in (8, 16))  # [K, T]
    two = bootstrap.first_trajectories(2, host_rng(choice.seed, "bootstrap", "null", "triples"))
    outcomes: Counter[str] = Counter()
    for start, first, last in divisions(shifted, 3)[:25]:
        gained, lost = (two("hard", level[last] - level[start]) for level in (small, large))
        second = two("hard", small[last] - 2 * small[first] + small[start])
        outcomes[conclude(gained, lost, second, choice)] += 1
    some = several_of_first(shifted, 25)
    for name, share in some["triples, 2 trajectories"]["hard"]["overall"].items():
        assert share == outcomes[name] / 25


def several_of_first(shifted: StudyResults, count: int) -> dict:
    """The same of the first pseudo-studies alone."""
    fewer = replace(shifted, analysis=replace(shifted.analysis, halvings=count))
    np.testing.assert_array_equal(divisions(fewer, 3), divisions(shifted, 3)[:count])
    return several(fewer, resamples(fewer))


def test_several_trajectories_are_rarely_misled_where_one_is_often(shifted: StudyResults) -> None:
    """Another warm start is no learning: over tasks alone it is found all the same."""
    bootstrap = resamples(shifted)
    one = nulls(shifted, bootstrap)["pairs"]["hard"]["overall"]
    of_three = several(shifted, bootstrap)["pairs, 3 trajectories"]["hard"]["overall"]
    assert one["compounding"] > 0.2
    assert of_three["compounding"] < one["compounding"] / 3


def test_few_trajectories_cannot_be_divided() -> None:
    for trajectories in (1, 2, 3):
        few = study(tasks=4, trajectories=trajectories, resamples=10)
        assert several(few, resamples(few)) == {} == another_warm_start(few, resamples(few))


def test_reach_of_the_programs_of_either_trajectory(drawn: StudyResults) -> None:
    bootstrap, known, choice = resamples(drawn), known_of(drawn, known_programs(drawn)), drawn.analysis
    found = another_warm_start(drawn, bootstrap)
    assert found["trajectories"] == 2
    programs = known.programs

    def solved(model: str, of: int, asked: np.ndarray, budget: int) -> np.ndarray:
        mass = np.zeros(12)
        np.add.at(mass, programs.task[asked], np.exp(programs.of(model, of)[asked]))
        return 1 - (1 - mass) ** budget  # [T]

    changes, rates = [], []
    two = bootstrap.first_trajectories(2, host_rng(choice.seed, "bootstrap", "null", "reach"))
    for starts, lasts in divisions(drawn, 2):
        rows = []
        for one, other in zip(starts, lasts, strict=True):
            asked = known.own[one] | known.own[other]
            last = solved("gen_v0", other, asked, 1024)
            before = [solved("theta0", 0, asked, 1024), solved("gen_v0", one, asked, 1024)]
            rows.append(np.stack([last - level for level in before], axis=-1))
        changes.append(np.mean(rows, axis=(0, 1))[1])
        rates.append(two("hard", np.array(rows)).p_above <= 0.05)
    reached = found["reach"]
    assert reached["rate"] == np.mean(np.all(rates, axis=1))
    assert reached["rate_over_start"] == np.mean(np.array(rates)[:, 1])
    np.testing.assert_allclose(reached["change"][1024], np.quantile(changes, [0.025, 0.975]), atol=1e-9)
    np.testing.assert_allclose(reached["statistic"]["interval"], reached["change"][1024], atol=1e-9)


def test_mass_by_class_and_curves_by_bank(drawn: StudyResults) -> None:
    found, programs = another_warm_start(drawn, resamples(drawn)), known_programs(drawn)
    masses = np.array([np.exp(programs.of("gen_v0", k)) for k in range(4)])[
        :, programs.secret
    ]  # all know them
    halves = divisions(drawn, 2)
    moved = [(masses[last].sum(1) - masses[start].sum(1)).mean() / 12 for start, last in halves]
    ledger = found["mass_ledger"]["secret program"]["change"]
    assert ledger["estimate"] == pytest.approx(np.mean(moved))
    np.testing.assert_allclose(ledger["interval"], np.quantile(moved, [0.025, 0.975]))
    whole = sum(
        found["mass_ledger"][f"{which} gen_v0's samples"]["change"]["estimate"] for which in ("in", "not in")
    )
    assert found["mass_ledger"]["all"]["change"]["estimate"] == pytest.approx(whole)
    for bank in drawn.tasks:
        curve = drawn.per_task(bank, "gen_v0", lambda s: s.per_sample(s.generalises).mean(1)).mean(
            1
        )  # pass@1
        moved = [(curve[last] - curve[start]).mean() for start, last in halves]
        np.testing.assert_allclose(
            found["change_at_k"][bank][1], np.quantile(moved, [0.025, 0.975]), atol=1e-12
        )
