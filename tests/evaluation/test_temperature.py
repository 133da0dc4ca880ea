"""Samplers of which it is known what a temperature does to them: sharpened ones, ones that lost programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from constellation.evaluation.analysis import analyse, resamples
from constellation.evaluation.entries import Entries
from constellation.evaluation.methods import methods
from constellation.evaluation.null import NullPools
from constellation.evaluation.statistics import Estimate
from constellation.evaluation.study import AnalysisConfig, SetKey, StudyResults
from constellation.evaluation.temperature import (
    AT_BEST,
    CHANGE,
    CHANGE_AT_BEST,
    CROSSOVER,
    KEPT,
    LOST,
    MATCHED,
    RAISED,
    REST,
    SHARPENED,
    UNCLEAR,
    Match,
    Temperatures,
    match,
    reading,
    solved_by_one,
    temperature,
)
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet
from tests.evaluation.counted import chance, counted, counted_study

VALUES, FURTHER = (0.8, 1.0, 1.25), (0.5,)
TASKS, N, TUNING_N = 60, 128, 256
Sampler = Callable[[float, int], SampleSet]  # (temperature, trajectory) -> samples


def right(bank: int, sharpness: float) -> np.ndarray:
    """[TASKS] share of the first of eight categories under p^sharpness / Z."""
    logits = np.random.default_rng(bank).normal(0, 2, (TASKS, 8))
    logits[:, 0] += 1.5  # oftener the likeliest than not, so that sharpening gains at small k
    return softmax(sharpness * logits, axis=1)[:, 0]


def expected(share: np.ndarray, n: int) -> SampleSet:
    """The counts that a sampler gives on average, rounded."""
    return counted(np.rint(n * share).astype(int).tolist(), n)


def drawn(share: np.ndarray, n: int, *seed: int) -> SampleSet:
    return counted(np.random.default_rng(seed).binomial(n, share).tolist(), n)


def heated(
    start: dict[int, Sampler], last: dict[int, Sampler], trajectories: int = 2, at: Match | None = None
) -> StudyResults:
    """A study of two samplers; each is given on the hard bank, 0, and on the tuning tasks, 1."""
    models, rows = {"gen_v0": start, "v1": last}, [[0] * TASKS] * trajectories
    study = counted_study({"theta0": [[0] * TASKS], "gen_v0": rows, "v1": rows}, n=1)
    each = range(trajectories)
    samples = {
        key: models[key.model][0](1.0, key.trajectory) if key.model in models else counted([0] * TASKS, N)
        for key in study.samples
    }
    wanted = [(model, value) for model in models for value in VALUES]
    tuned = [*wanted, *(("gen_v0", value) for value in FURTHER)]
    tuning = {(model, value): [models[model][1](value, r) for r in each] for model, value in tuned}
    found = at or match(solved_by_one(tuning, "gen_v0"), solved_by_one(tuning, "v1")[1.0])
    read = [key for key in dict.fromkeys([*wanted, ("gen_v0", found.temperature)]) if key[1] != 1.0]
    return replace(
        study,
        samples=samples,
        analysis=AnalysisConfig(resamples=500),
        parts={
            "temperature": Temperatures(
                values=VALUES,
                own=1.0,
                samples=N,
                evaluated={
                    (model, value): [models[model][0](value, r) for r in each] for model, value in read
                },
                tuning=tuning,
                match=found,
            )
        },
    )


def part_of(study: StudyResults) -> Temperatures:
    part = study.parts["temperature"]
    assert isinstance(part, Temperatures)
    return part


def with_part(study: StudyResults, **fields: Any) -> StudyResults:
    return replace(study, parts={**study.parts, "temperature": replace(part_of(study), **fields)})


def answered(study: StudyResults) -> tuple[Entries, dict[str, Any]]:
    rows, facts = temperature(study, part_of(study), resamples(study))
    return Entries(rows), facts


def sharpened(sharpness: float) -> dict[int, Sampler]:
    """Every trajectory's the same, without noise."""

    def sampler(bank: int, n: int) -> Sampler:
        return lambda t, _: expected(right(bank, sharpness / t), n)

    return {0: sampler(0, N), 1: sampler(1, TUNING_N)}


def test_exact_sharpening_is_undone_by_its_inverse_and_matched_by_itself() -> None:
    rows, facts = answered(heated(sharpened(1), sharpened(1.25)))
    assert facts["sharpening"]["verdict"] == SHARPENED
    assert rows.one(quantity=CHANGE, of="1", k=64).estimate < -0.02
    assert {row.estimate for row in rows.where(quantity=RAISED, of="1.25")} == {0}
    assert facts["matched"] == {"temperature": 0.8, "clipped": False}
    assert {row.estimate for row in rows.where(quantity=REST)} == {0}
    matched, changed = rows.where(quantity=MATCHED), rows.where(quantity=CHANGE, of="1")
    for name in ("k", "estimate", "interval"):
        assert [getattr(row, name) for row in matched] == [getattr(row, name) for row in changed]
    assert len(matched) == 64


def test_sharpening_between_the_temperatures_that_were_tried() -> None:
    def noisy(sharpness: float, arm: int) -> dict[int, Sampler]:
        """With the noise of sampling where the models are compared, without where they are matched."""

        def hard(t: float, r: int) -> SampleSet:
            return drawn(right(0, sharpness / t), N, arm, round(100 * t), r)

        return {0: hard, 1: sharpened(sharpness)[1]}

    rows, facts = answered(heated(noisy(1, 1), noisy(1.5, 2), trajectories=4))
    assert facts["matched"]["temperature"] == pytest.approx(1 / 1.5, abs=0.02)  # of a chord
    for k in (1, 8, 64):
        low, high = rows.one(quantity=REST, k=k).interval
        assert low <= 0 <= high
    low, high = rows.one(quantity=CHANGE, of="1", k=64).interval
    assert high < 0
    assert facts["sharpening"]["verdict"] == LOST  # 1.25 undoes less than was sharpened


def test_programs_that_are_gone_are_lost_at_every_temperature() -> None:
    keep = np.arange(TASKS) % 4 > 0

    def gone(bank: int, n: int) -> Sampler:
        return lambda t, _: expected(right(bank, 1 / t) * keep, n)

    rows, facts = answered(heated(sharpened(1), {0: gone(0, N), 1: gone(1, TUNING_N)}))
    assert facts["sharpening"]["verdict"] == LOST
    at_64 = rows.where(quantity=CHANGE, k=64)
    assert at_64.values("of") == ["0.8", "1", "1.25"] and all(row.interval[1] < 0 for row in at_64)
    assert {judged["verdict"] for judged in facts["crossover"].values()} == {"not supported"}


def test_a_round_that_learned_nothing_is_kept_and_matches_where_it_is() -> None:
    rows, facts = answered(heated(sharpened(1), sharpened(1)))
    assert facts["sharpening"]["verdict"] == KEPT
    assert facts["matched"]["temperature"] == 1.0
    assert {row.estimate for row in rows.where(quantity=CHANGE_AT_BEST)} == {0}


def test_differences_are_those_of_pass_at_k() -> None:
    rows, facts = answered(heated(sharpened(1), sharpened(1.25), at=Match(0.8, False)))

    def level(sharpness: float, k: int) -> float:
        return float(np.mean([chance(round(N * share), k, N) for share in right(0, sharpness)]))

    for value in VALUES:
        for k in (1, 8, 64):
            change = rows.one(quantity=CHANGE, of=f"{value:g}", k=k).estimate
            np.testing.assert_allclose(change, level(1.25 / value, k) - level(1 / value, k), atol=1e-9)
    assert list(facts["best"]) == rows.where(quantity=CHANGE_AT_BEST).values("k") == [2**i for i in range(7)]
    for k, chosen in facts["best"].items():
        pair = [level(1 / chosen["gen_v0"], k), level(1.25 / chosen["v1"], k)]
        both = [rows.one(quantity=AT_BEST, models=(model,), k=k).estimate for model in chosen]
        np.testing.assert_allclose(both, pair, atol=1e-9)
        change = rows.one(quantity=CHANGE_AT_BEST, k=k).estimate
        np.testing.assert_allclose(change, pair[1] - pair[0], atol=1e-9)


def test_best_temperatures_are_those_of_the_tuning_tasks() -> None:
    n = 8  # at 0.8 one task is always solved, at 1 two are half of the time, at 1.25 none
    by_value = {0.8: [8, 0, 0], 1.0: [4, 4, 0], 1.25: [0, 0, 0], 0.5: [8, 8, 8]}

    def tuning(t: float, _: int) -> SampleSet:
        return counted(by_value[t] + [0] * (TASKS - 3), n)

    arm = {0: sharpened(1)[0], 1: tuning}
    _, facts = answered(heated(arm, arm))
    for model in ("gen_v0", "v1"):
        assert {k: at[model] for k, at in facts["best"].items()} == {1: 0.8, 2: 1.0, 4: 1.0, 8: 1.0}


def test_own_samples_are_cut_to_as_many_and_to_the_first_trajectories() -> None:
    def late(t: float, r: int) -> SampleSet:
        """Right ones after the first N samples, and in the last trajectory alone before."""
        return drawn(right(0, 1 / t), N, 7) if t != 1 else counted([2 * N if r == 2 else 0] * TASKS, 2 * N)

    arm = {0: late, 1: sharpened(1)[1]}
    whole = heated(arm, arm, trajectories=3)
    cut = {key: sets[:2] for key, sets in part_of(whole).evaluated.items()}
    rows, facts = answered(with_part(whole, evaluated=cut))
    assert facts["trajectories"] == 2
    assert rows.one(quantity=RAISED, of="1.25", k=64).estimate > 0.1
    assert rows.one(quantity=CHANGE, of="1", k=1).estimate == 0


def test_how_often_a_start_is_read_as_its_own_round() -> None:
    """Its halves differ by luck alone: seldom is anything lost, and what is lost is not regained by less."""
    study = heated(sharpened(1), sharpened(1.5), trajectories=3)
    fresh = drawn(right(0, 1), N, 9)
    pools = {SetKey("hard", "gen_v0", study.primary_split, r): fresh for r in range(2)}
    with_pools = replace(study, parts={**study.parts, "null": NullPools(pools)})
    assert answered(study)[1]["sharpening"]["null"] == {}
    sharpening = answered(with_pools)[1]["sharpening"]
    null = sharpening["null"]
    assert sharpening["verdict"] == LOST and null["trajectories"] == 2
    assert sum(null["rates"].values()) == pytest.approx(1)
    assert null["rates"][LOST] == 0 and null["rates"][SHARPENED] <= 0.1 < null["rates"][KEPT]

    # where it is colder instead, and half of the pool is worse than the other, both show
    evaluated = {**part_of(study).evaluated, ("gen_v0", 1.25): [counted([0] * TASKS, N)] * 3}
    rates = answered(with_part(with_pools, evaluated=evaluated))[1]["sharpening"]["null"]["rates"]
    assert rates[SHARPENED] == 0 and rates[LOST] == pytest.approx(null["rates"][SHARPENED], abs=0.01)


def test_what_is_tested_is_what_no_finding_holds() -> None:
    rows, facts = answered(heated(sharpened(1), sharpened(1.25)))
    tested = {(row.quantity, row.of, row.k) for row in rows if row.tested}
    assert list(facts["crossover"]) == ["0.8", "1", "1.25"]
    assert tested == {(CROSSOVER, value, None) for value in facts["crossover"]} | {
        (quantity, of, k)
        for quantity, of in ((CHANGE, "0.8"), (CHANGE, "1.25"), (RAISED, "1.25"), (REST, ""))
        for k in (1, 8, 64)
    } | {(CHANGE_AT_BEST, "", k) for k in facts["best"]}
    for row in rows.where(tested=True):
        assert 0 < row.p <= 1


def estimate(value: float, lower: float, upper: float) -> Estimate:
    """A normal one of which the one-sided bounds are given."""
    ends = [lower, upper, lower, upper]
    return Estimate(*map(np.asarray, [value, *ends, 0.01 if lower > 0 else 0.5, 0.01 if upper < 0 else 0.5]))


BELOW, HIGHER, OPEN = estimate(-0.05, -0.08, -0.02), estimate(0.02, -0.02, 0.06), estimate(-0.02, -0.05, 0.01)
CLOSE = estimate(-0.001, -0.008, 0.006)


@pytest.mark.parametrize(
    ("own", "higher", "word"),
    [
        (BELOW, [HIGHER], SHARPENED),
        (BELOW, [CLOSE], SHARPENED),
        (BELOW, [BELOW, HIGHER], SHARPENED),
        (BELOW, [BELOW], LOST),
        (BELOW, [OPEN], UNCLEAR),
        (BELOW, [BELOW, OPEN], UNCLEAR),
        (HIGHER, [BELOW], KEPT),
        (CLOSE, [BELOW], KEPT),
        (OPEN, [HIGHER], UNCLEAR),
    ],
)
def test_the_words_of_the_reading(own: Estimate, higher: list[Estimate], word: str) -> None:
    assert reading(own, higher, AnalysisConfig()) == word


def test_samples_are_counted_for_the_methods() -> None:
    study = heated(sharpened(1), sharpened(1.25))
    counts = methods(study)["samples"]
    assert counts["temperature"] == {"gen_v0": 2 * 2 * TASKS * N, "v1": 2 * 2 * TASKS * N}
    assert counts["tuning"] == {"gen_v0": 4 * 2 * TASKS * TUNING_N, "v1": 3 * 2 * TASKS * TUNING_N}


def test_without_other_temperatures_nothing_is_said() -> None:
    study = replace(heated(sharpened(1), sharpened(1)), parts={})
    results = analyse(study)
    assert "temperature" not in results.facts and not results.entries.where(question="temperature")


def test_refuses_too_few_samples_and_other_tasks() -> None:
    study = heated(sharpened(1), sharpened(1.25))
    with pytest.raises(UserError, match=r"pass@64 needs at least 128 samples a task, there are 127"):
        answered(with_part(study, samples=127))
    other = {("v1", 1.25): [counted([1], N)]}
    with pytest.raises(UserError, match=r"samples of v1 on hard \(split 1\) are of other tasks"):
        with_part(study, evaluated=other)


CURVE = {0.5: 0.6, 0.7: 0.5, 1.0: 0.4, 1.4: 0.1}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (0.5, (0.7, False)),
        (0.45, (0.85, False)),
        (0.25, (1.2, False)),
        (0.6, (0.5, False)),
        (0.7, (0.5, True)),
        (0.0, (1.4, True)),
    ],
)
def test_straight_lines_between_the_points(target: float, expected: tuple[float, bool]) -> None:
    found = match(CURVE, target)
    assert found.temperature == pytest.approx(expected[0]) and found.clipped == expected[1]


def test_the_highest_of_several_and_the_nearest_of_none() -> None:
    bent = {0.5: 0.2, 0.7: 0.5, 1.0: 0.3, 1.4: 0.1}
    assert match(bent, 0.4).temperature == pytest.approx(0.85)
    assert match(bent, 0.2).temperature == pytest.approx(1.2)
    assert match(bent, 0.6) == Match(0.7, True)
    assert match({1.0: 0.3}, 0.4) == Match(1.0, True)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.floats(0, 1))
def test_the_curve_is_met_there_unless_it_never_comes_so_high_or_low(
    passed: list[float], target: float
) -> None:
    temperatures = [0.2 * (i + 1) for i in range(len(passed))]
    found = match(dict(zip(temperatures, passed, strict=True)), target)
    assert found.clipped == (not min(passed) <= target <= max(passed))
    there = np.interp(found.temperature, temperatures, passed)
    if found.clipped:
        assert abs(there - target) == min(abs(value - target) for value in passed)
    else:
        assert there == pytest.approx(target, abs=1e-9)


def test_pass_at_1_over_trajectories_and_tasks_by_temperature() -> None:
    tuning = {
        ("v1", 1.0): [counted([1], 4)],
        ("gen_v0", 1.4): [counted([1, 1], 4), counted([0, 0], 4)],
        ("gen_v0", 0.7): [counted([4, 2], 4), counted([4, 0], 4)],
    }
    found = solved_by_one(tuning, "gen_v0")
    assert list(found.items()) == [(0.7, 0.625), (1.4, 0.125)]
