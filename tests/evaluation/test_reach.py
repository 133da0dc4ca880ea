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
from constellation.evaluation.known import KnownPrograms, generalising
from constellation.evaluation.reach import expansion, known_of, log_mass, of_model, reach
from constellation.evaluation.study import SetKey, StudyResults
from tests.evaluation.synthetic import KINDS, study


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
    mass = log_mass(known, np.ones((1, 2), bool), "model", 1)
    for budget in (1, 2, 5):
        solved = sum(
            math.prod(chances[i] for i in draws)
            for draws in itertools.product(range(4), repeat=budget)
            if min(draws) < 2
        )
        assert reach(mass, [budget])[0, 0, 0] == pytest.approx(solved, rel=1e-12)


@given(st.integers(1, 10**30), st.integers(0, 10**30), st.integers(1, 2000))
def test_exact_for_any_probability(right: int, wrong: int, budget: int) -> None:
    chance = Fraction(right, right + wrong)
    exact = 1 - (1 - chance) ** budget
    got = reach(math.log(chance.numerator) - math.log(chance.denominator), [budget])[0]
    assert got == pytest.approx(float(exact), rel=1e-9)


def test_ends() -> None:
    assert reach([-np.inf, 0.0], [1, 10**6]).tolist() == [[0, 0], [1, 1]]
    tiny = reach(-600.0, [10**6])[0]
    assert tiny == pytest.approx(math.exp(-600 + math.log(10**6)), rel=1e-12)


def test_masses_of_unlikely_programs_add_up_without_underflow() -> None:
    known = right_programs([0, 0, 2], [-800.0, -800.0, 1e-7])
    mass = log_mass(known, np.ones((1, 3), bool), "model", 3)
    np.testing.assert_allclose(mass, [[-800 + math.log(2), -np.inf, 0]], rtol=1e-12)  # never above 1


@pytest.fixture(scope="module")
def drawn() -> StudyResults:
    return study(tasks=60, n=64, trajectories=2, resamples=400)


def test_known_programs_are_the_secret_one_and_those_of_the_trajectorys_first_samples(
    drawn: StudyResults,
) -> None:
    known = known_of(drawn)
    assert known is not None and drawn.known is not None
    for k in range(2):
        seen = set()
        for model in drawn.models:
            key = SetKey("hard", model, 1234, 0 if model == "theta0" else k)
            seen |= set(generalising(drawn.samples[key], drawn.known.samples))
        want = [
            text == KINDS[0] or (task, text) in seen
            for task, text in zip(drawn.known.task, drawn.known.text, strict=True)
        ]
        assert known.own[k].tolist() == want
    assert not known.own.all() and (known.own[0] != known.own[1]).any()


def test_right_samples_and_good_turing_tell_what_m_misses(drawn: StudyResults) -> None:
    """Here all right programs there are have a row, so that the chance to be right is known exactly."""
    known, tasks = known_of(drawn), len(drawn.tasks["hard"])
    assert known is not None and drawn.known is not None
    everything = np.ones_like(known.own)
    for model in drawn.models:
        chance = np.exp(log_mass(drawn.known, everything, model, tasks))  # [K, T]
        mass = np.exp(known.log_mass[model])
        assert (mass <= chance + 1e-12).all() and (mass < chance).any()
        found = of_model(drawn, resamples(drawn), known, model)
        assert 0 < (chance - mass).mean() < found["good_turing"]["estimate"]
        pools = 1 if model == "theta0" else 2
        error = np.sqrt((chance * (1 - chance))[:pools].sum() / 64) / (pools * tasks)
        assert abs(found["right"]["estimate"] - chance.mean()) < 3 * error
        assert abs(found["missing"]["estimate"] - (chance - mass).mean()) < 3 * error


def test_good_turing_by_hand(drawn: StudyResults) -> None:
    known = known_of(drawn)
    assert known is not None and drawn.known is not None
    once = 0
    for k in range(2):
        samples = drawn.samples[SetKey("hard", "v1", 1234, k)]
        for row in samples.program[:, : drawn.known.samples]:
            right = [program for program in row.tolist() if samples.generalises[program]]
            once += sum(right.count(program) == 1 for program in right)
    found = of_model(drawn, resamples(drawn), known, "v1")["good_turing"]["estimate"]
    assert found == pytest.approx(once / drawn.known.samples / 60 / 2, rel=1e-12)


def test_what_is_missing_is_what_was_left_out(drawn: StudyResults) -> None:
    assert drawn.known is not None
    secret = drawn.known.secret
    everything = analyse(drawn)["reach"]["models"]["gen_v0"]
    hidden = {key: np.where(secret, log_prob, -np.inf) for key, log_prob in drawn.known.log_prob.items()}
    part = analyse(replace(drawn, known=replace(drawn.known, log_prob=hidden)))["reach"]["models"]["gen_v0"]
    lost = everything["mass"]["estimate"] - part["mass"]["estimate"]
    assert lost > 0.005
    assert part["missing"]["estimate"] - everything["missing"]["estimate"] == pytest.approx(lost, abs=2e-6)


def moved(drawn: StudyResults, **shifts: float) -> StudyResults:
    """With every model's probabilities those of the base, moved by so many nats."""
    assert drawn.known is not None
    base = np.minimum(drawn.known.log_prob["theta0", 0], -7.0)
    log_prob = {key: base + shifts.get(key[0], 0.0) for key in drawn.known.log_prob}
    return replace(drawn, known=replace(drawn.known, log_prob=log_prob))


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
    known = known_of(changed)
    assert known is not None
    found = expansion(changed, resamples(changed), known, "v2")
    assert found["verdict"] == verdict
    signs = [np.sign(shifts.get("v2", 0) - shifts.get(before, 0)) for before in ("theta0", "gen_v0")]
    assert np.sign(found["estimate"]).tolist() == signs


def test_a_study_without_known_programs_reports_none(drawn: StudyResults) -> None:
    assert analyse(replace(study(tasks=3, resamples=5), known=None))["reach"] == {}
