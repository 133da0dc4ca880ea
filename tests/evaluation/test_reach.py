"""Reach against enumeration, exact rationals and draws from categorical models."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation.evaluation.analysis import analyse, resamples
from constellation.evaluation.entries import Entries
from constellation.evaluation.reach import (
    CHANGE,
    CLASS_REACH,
    CLASS_REACH_CHANGE,
    EXPANSION,
    GOOD_TURING,
    MASS,
    MASS_CHANGE,
    MISSING,
    PASSED,
    PROGRAMS,
    REACH,
    RIGHT,
    KnownPrograms,
    classes,
    expansion,
    generalising,
    known_of,
    log_mass,
    reach,
    solved_in,
)
from constellation.evaluation.study import SetKey, StudyResults
from constellation.runtime.errors import UserError
from tests.evaluation.synthetic import KINDS, known_programs, sample_set, study


def right_programs(tasks: list[int], log_prob: list[float]) -> KnownPrograms:
    """Programs of these tasks as the only model finds them."""
    count = len(tasks)
    return KnownPrograms(
        bank="hard",
        samples=1,
        task=np.array(tasks),
        text=np.array([f"program {d}" for d in range(count)], np.object_),
        atoms=np.ones(count, int),
        structures=((),) * count,
        secret=np.zeros(count, bool),
        log_prob={("model", 0): np.array(log_prob)},
    )


def test_a_categorical_model_by_enumeration() -> None:
    chances = [0.05, 0.2, 0.35, 0.4]  # the first two programs are known to be right
    known = right_programs([0, 0], [math.log(0.05), math.log(0.2)])
    mass = log_mass(known, np.ones((1, 2), bool), "model")
    for budget in (1, 2, 5):
        solved = sum(
            math.prod(chances[i] for i in draws)
            for draws in itertools.product(range(4), repeat=budget)
            if min(draws) < 2
        )
        assert solved_in(mass, [budget])[0, 0, 0] == pytest.approx(solved, rel=1e-12)


@given(st.integers(1, 10**30), st.integers(0, 10**30), st.integers(1, 2000))
def test_exact_for_any_probability(right: int, wrong: int, budget: int) -> None:
    chance = Fraction(right, right + wrong)
    exact = 1 - (1 - chance) ** budget
    got = solved_in(math.log(chance.numerator) - math.log(chance.denominator), [budget])[0]
    assert got == pytest.approx(float(exact), rel=1e-9)


def test_ends() -> None:
    assert solved_in([-np.inf, 0.0], [1, 10**6]).tolist() == [[0, 0], [1, 1]]
    tiny = solved_in(-600.0, [10**6])[0]
    assert tiny == pytest.approx(math.exp(-600 + math.log(10**6)), rel=1e-12)


def test_masses_of_unlikely_programs_add_up_without_underflow() -> None:
    known = right_programs([0, 0, 2], [-800.0, -800.0, 1e-7])
    mass = log_mass(known, np.ones((1, 3), bool), "model")
    np.testing.assert_allclose(mass, [[-800 + math.log(2), -np.inf, 0]], rtol=1e-12)  # never above 1


def test_counts_right_programs_among_the_first_samples() -> None:
    drawn = sample_set([["right a", "fits:x:1", "right a", "false b"], ["junk", "right a", "right c", "bad"]])
    assert generalising(drawn, 4) == {
        (0, "right a"): 2,
        (0, "false b"): 1,
        (1, "right a"): 1,
        (1, "right c"): 1,
    }
    assert generalising(drawn, 2) == {(0, "right a"): 1, (1, "right a"): 1}


def test_refuses_more_samples_than_there_are() -> None:
    with pytest.raises(UserError, match=r"lower reach\.samples"):
        generalising(sample_set([["right a"]]), 2)


def answered(results: StudyResults) -> Entries:
    return Entries(reach(results, known_programs(results), resamples(results)).entries)


@pytest.fixture(scope="module")
def drawn() -> StudyResults:
    return study(tasks=60, n=64, trajectories=2, resamples=400)


@pytest.fixture(scope="module")
def rows(drawn: StudyResults) -> Entries:
    return answered(drawn)


def test_the_base_is_the_same_in_every_trajectory(drawn: StudyResults) -> None:
    known = known_programs(drawn)
    assert known.models == ("theta0", "gen_v0", "v1", "v2")
    assert known.log_prob_of("theta0", 1) is known.log_prob_of("theta0", 0)
    assert (known.log_prob_of("v2", 1) != known.log_prob_of("v2", 0)).any()


def test_known_programs_are_the_secret_one_and_those_of_the_trajectorys_first_samples(
    drawn: StudyResults,
) -> None:
    programs = known_programs(drawn)
    known = known_of(drawn, programs)
    for k in range(2):
        seen = set()
        for model in drawn.models:
            key = SetKey("hard", model, 1234, 0 if model == "theta0" else k)
            seen |= set(generalising(drawn.samples[key], programs.samples))
        want = [
            text == KINDS[0] or (task, text) in seen
            for task, text in zip(programs.task, programs.text, strict=True)
        ]
        assert known.own[k].tolist() == want
    assert not known.own.all() and (known.own[0] != known.own[1]).any()


def test_right_samples_and_good_turing_tell_what_m_misses(drawn: StudyResults, rows: Entries) -> None:
    """Here all right programs there are have a row, so that the chance to be right is known exactly."""
    programs, tasks = known_programs(drawn), len(drawn.tasks["hard"])
    known = known_of(drawn, programs)
    everything = np.ones_like(known.own)
    for model in drawn.models:
        chance = np.exp(log_mass(programs, everything, model))  # [K, T]
        mass = np.exp(known.log_mass[model])
        assert (mass <= chance + 1e-12).all() and (mass < chance).any()
        right, missing, good_turing = (
            rows.one(quantity=name, models=(model,)).estimate for name in (RIGHT, MISSING, GOOD_TURING)
        )
        assert 0 < (chance - mass).mean() < good_turing
        pools = 1 if model == "theta0" else 2
        error = np.sqrt((chance * (1 - chance))[:pools].sum() / 64) / (pools * tasks)
        assert abs(right - chance.mean()) < 3 * error
        assert abs(missing - (chance - mass).mean()) < 3 * error
        assert rows.one(quantity=PASSED, models=(model,), k=1).estimate == pytest.approx(right)


def test_good_turing_by_hand(drawn: StudyResults, rows: Entries) -> None:
    once, first = 0, known_programs(drawn).samples
    for k in range(2):
        samples = drawn.samples[SetKey("hard", "v1", 1234, k)]
        for row in samples.program[:, :first]:
            right = [program for program in row.tolist() if samples.right[program]]
            once += sum(right.count(program) == 1 for program in right)
    found = rows.one(quantity=GOOD_TURING, models=("v1",)).estimate
    assert found == pytest.approx(once / first / 60 / 2, rel=1e-12)


def with_log_prob(drawn: StudyResults, log_prob: dict[tuple[str, int], np.ndarray]) -> StudyResults:
    return replace(drawn, parts={"reach": replace(known_programs(drawn), log_prob=log_prob)})


def test_what_is_missing_is_what_was_left_out(drawn: StudyResults, rows: Entries) -> None:
    programs = known_programs(drawn)
    hidden = {key: np.where(programs.secret, own, -np.inf) for key, own in programs.log_prob.items()}
    part = answered(with_log_prob(drawn, hidden))

    def gap(quantity: str, **fields: str) -> float:
        """By how much the estimate differs between all programs and some."""
        return rows.one(quantity=quantity, models=("gen_v0",), **fields).estimate - (
            part.one(quantity=quantity, models=("gen_v0",), **fields).estimate
        )

    lost = gap(MASS, of="all")
    assert lost > 0.005
    assert -gap(MISSING) == pytest.approx(lost, abs=2e-6)


def moved(drawn: StudyResults, **shifts: float) -> StudyResults:
    """With every model's probabilities those of the base, moved by so many nats."""
    log_prob = known_programs(drawn).log_prob
    base = np.minimum(log_prob["theta0", 0], -7.0)
    return with_log_prob(drawn, {key: base + shifts.get(key[0], 0.0) for key in log_prob})


@pytest.mark.parametrize(
    ("shifts", "verdict"),
    [
        ({"v2": 1.0}, "supported"),
        ({"v2": 1.0, "gen_v0": 2.0}, "not supported"),  # above the base, below the start
        ({"gen_v0": -1.0, "v2": -0.5}, "not supported"),  # above the start, below the base
        ({}, "not supported"),  # no change at all
    ],
)
def test_expansion_is_over_base_and_start(drawn: StudyResults, shifts: dict, verdict: str) -> None:
    changed = moved(drawn, **shifts)
    known = known_of(changed, known_programs(changed))
    claim = expansion(changed, resamples(changed), known, "v2")
    assert claim.judged(changed.analysis, changed.scope)["verdict"] == verdict
    signs = [np.sign(shifts.get("v2", 0) - shifts.get(before, 0)) for before in ("theta0", "gen_v0")]
    assert np.sign(claim.estimate.value).tolist() == signs


def test_expansion_and_the_changes_at_the_tabulated_budgets_are_tested(
    drawn: StudyResults, rows: Entries
) -> None:
    facts = reach(drawn, known_programs(drawn), resamples(drawn)).facts
    row = rows.one(quantity=EXPANSION, models=("theta0", "gen_v0", "v2"), k=1024)
    assert row.tested and row.p == facts["expansion"]["p"]
    for i, before in enumerate(("theta0", "gen_v0")):
        change = rows.where(quantity=CHANGE, models=(before, "v2"))
        assert {one.k for one in change if one.tested} == {64, 1024, 16384} < set(change.values("k"))
        assert change.one(k=1024).estimate == pytest.approx(facts["expansion"]["estimate"][i])
        levels = [rows.one(quantity=REACH, models=(model,), k=1024).estimate for model in (before, "v2")]
        assert change.one(k=1024).estimate == pytest.approx(levels[1] - levels[0])


def test_a_study_without_known_programs_reports_none() -> None:
    results = analyse(replace(study(tasks=3, resamples=5), parts={}))
    assert "reach" not in results.facts and not results.entries.where(question="reach")


PARTITIONS = (
    ("secret program", "other programs"),
    ("no withheld class", "withheld: outer_constants"),
    ("in gen_v0's samples", "not in gen_v0's samples"),
    ("3 atoms",),
)


@pytest.mark.parametrize("trajectories", [1, 3])
def test_each_partition_adds_up_to_all(trajectories: int) -> None:
    drawn = study(tasks=12, n=16, trajectories=trajectories, resamples=20)
    known, rows = known_of(drawn, known_programs(drawn)), answered(drawn)
    for quantity in (PROGRAMS, MASS, MASS_CHANGE, CLASS_REACH, CLASS_REACH_CHANGE):
        named = {"all", *(name for names in PARTITIONS for name in names)}
        assert set(rows.where(quantity=quantity).values("of")) == named
    for names in PARTITIONS:
        programs = [rows.one(quantity=PROGRAMS, of=name).estimate for name in names]
        assert sum(programs) == pytest.approx(rows.one(quantity=PROGRAMS, of="all").estimate)
        for model in drawn.models:
            masses = rows.where(quantity=MASS, models=(model,))
            whole, parts = masses.one(of="all").estimate, [masses.one(of=name).estimate for name in names]
            assert sum(parts) == pytest.approx(whole, rel=1e-12)
            assert whole == pytest.approx(np.exp(known.log_mass[model]).mean(), rel=1e-12)


def test_secret_mass_by_hand() -> None:
    drawn = study(tasks=12, n=16, resamples=20)
    rows = Entries(row for row in answered(drawn) if row.of == "secret program")

    def found(quantity: str) -> dict[str, float]:
        return {row.models[-1]: row.estimate for row in rows.where(quantity=quantity)}

    secret = {model: np.exp(known_programs(drawn).log_prob[model, 0][::2]) for model in drawn.models}
    masses = {model: chance.mean() for model, chance in secret.items()}
    assert found(MASS) == pytest.approx(masses)
    assert found(MASS_CHANGE) == pytest.approx({m: masses[m] - masses["gen_v0"] for m in ("v1", "v2")})
    # far beyond the 16 samples of a task
    solved = {model: (1 - (1 - chance) ** 1024).mean() for model, chance in secret.items()}
    assert found(CLASS_REACH) == pytest.approx(solved)
    assert found(CLASS_REACH_CHANGE) == pytest.approx({m: solved[m] - solved["gen_v0"] for m in ("v1", "v2")})


def test_empty_classes_are_left_out() -> None:
    drawn = study(tasks=2, n=256, resamples=2)
    known = known_of(drawn, known_programs(drawn))
    found = classes(drawn, known.programs, known.own, np.arange(1))
    assert found and all(own.any() for own in found.values())
