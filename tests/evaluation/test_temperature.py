"""Samplers of which it is known what a temperature does to them: sharpened ones, ones that lost programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from constellation.evaluation.analysis import resamples
from constellation.evaluation.exploratory import exploratory
from constellation.evaluation.methods import methods
from constellation.evaluation.statistics import Estimate
from constellation.evaluation.study import AnalysisConfig, SetKey, StudyResults
from constellation.evaluation.temperature import KEPT, LOST, SHARPENED, UNCLEAR, reading, temperature
from constellation.evaluation.tempered import Match, Tempered, match, solved_by_one
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
        tempered=Tempered(
            values=VALUES,
            own=1.0,
            samples=N,
            evaluated={(model, value): [models[model][0](value, r) for r in each] for model, value in read},
            tuning=tuning,
            match=found,
        ),
    )


def sharpened(sharpness: float) -> dict[int, Sampler]:
    """Every trajectory's the same, without noise."""

    def sampler(bank: int, n: int) -> Sampler:
        return lambda t, _: expected(right(bank, sharpness / t), n)

    return {0: sampler(0, N), 1: sampler(1, TUNING_N)}


def test_exact_sharpening_is_undone_by_its_inverse_and_matched_by_itself() -> None:
    study = heated(sharpened(1), sharpened(1.25))
    found = temperature(study, resamples(study))
    assert found["sharpening"]["verdict"] == SHARPENED
    assert found["crossover"]["1"]["change_at_k"][64]["estimate"] < -0.02
    assert {entry["estimate"] for entry in found["sharpening"]["from_start"]["1.25"].values()} == {0}
    matched = found["matched"]
    assert (matched["temperature"], matched["clipped"]) == (0.8, False)
    assert {entry["estimate"] for entry in matched["rest"].values()} == {0}
    for k, entry in matched["sharpening"].items():
        assert entry == found["crossover"]["1"]["change_at_k"][k]


def test_sharpening_between_the_temperatures_that_were_tried() -> None:
    def noisy(sharpness: float, arm: int) -> dict[int, Sampler]:
        """With the noise of sampling where the models are compared, without where they are matched."""

        def hard(t: float, r: int) -> SampleSet:
            return drawn(right(0, sharpness / t), N, arm, round(100 * t), r)

        return {0: hard, 1: sharpened(sharpness)[1]}

    study = heated(noisy(1, 1), noisy(1.5, 2), trajectories=4)
    found = temperature(study, resamples(study))
    assert found["matched"]["temperature"] == pytest.approx(1 / 1.5, abs=0.02)  # of a chord
    for k in (1, 8, 64):
        low, high = found["matched"]["rest"][k]["interval"]
        assert low <= 0 <= high
    low, high = found["crossover"]["1"]["change_at_k"][64]["interval"]
    assert high < 0
    assert found["sharpening"]["verdict"] == LOST  # 1.25 undoes less than was sharpened


def test_programs_that_are_gone_are_lost_at_every_temperature() -> None:
    keep = np.arange(TASKS) % 4 > 0

    def gone(bank: int, n: int) -> Sampler:
        return lambda t, _: expected(right(bank, 1 / t) * keep, n)

    study = heated(sharpened(1), {0: gone(0, N), 1: gone(1, TUNING_N)})
    found = temperature(study, resamples(study))
    assert found["sharpening"]["verdict"] == LOST
    assert all(at["change_at_k"][64]["interval"][1] < 0 for at in found["crossover"].values())
    assert {at["verdict"] for at in found["crossover"].values()} == {"not supported"}


def test_a_round_that_learned_nothing_is_kept_and_matches_where_it_is() -> None:
    study = heated(sharpened(1), sharpened(1))
    found = temperature(study, resamples(study))
    assert found["sharpening"]["verdict"] == KEPT
    assert found["matched"]["temperature"] == 1.0
    assert {entry["estimate"] for at in found["best"].values() for entry in [at["change"]]} == {0}


def test_differences_are_those_of_pass_at_k() -> None:
    study = heated(sharpened(1), sharpened(1.25), at=Match(0.8, False))
    found = temperature(study, resamples(study))

    def level(sharpness: float, k: int) -> float:
        return float(np.mean([chance(round(N * share), k, N) for share in right(0, sharpness)]))

    for value in VALUES:
        for k in (1, 8, 64):
            change = found["crossover"][f"{value:g}"]["change_at_k"][k]["estimate"]
            np.testing.assert_allclose(change, level(1.25 / value, k) - level(1 / value, k), atol=1e-9)
    for k, at in found["best"].items():
        chosen = at["temperature"]
        pair = [level(1 / chosen["gen_v0"], k), level(1.25 / chosen["v1"], k)]
        both = [at["pass_at_k"][model]["estimate"] for model in chosen]
        np.testing.assert_allclose(both, pair, atol=1e-9)
        np.testing.assert_allclose(at["change"]["estimate"], pair[1] - pair[0], atol=1e-9)


def test_best_temperatures_are_those_of_the_tuning_tasks() -> None:
    n = 8  # at 0.8 one task is always solved, at 1 two are half of the time, at 1.25 none
    by_value = {0.8: [8, 0, 0], 1.0: [4, 4, 0], 1.25: [0, 0, 0], 0.5: [8, 8, 8]}

    def tuning(t: float, _: int) -> SampleSet:
        return counted(by_value[t] + [0] * (TASKS - 3), n)

    arm = {0: sharpened(1)[0], 1: tuning}
    study = heated(arm, arm)
    best = temperature(study, resamples(study))["best"]
    assert {k: at["temperature"]["v1"] for k, at in best.items()} == {1: 0.8, 2: 1.0, 4: 1.0, 8: 1.0}
    assert {k: at["temperature"]["gen_v0"] for k, at in best.items()} == {1: 0.8, 2: 1.0, 4: 1.0, 8: 1.0}


def test_own_samples_are_cut_to_as_many_and_to_the_first_trajectories() -> None:
    def late(t: float, r: int) -> SampleSet:
        """Right ones after the first N samples, and in the last trajectory alone before."""
        return drawn(right(0, 1 / t), N, 7) if t != 1 else counted([2 * N if r == 2 else 0] * TASKS, 2 * N)

    arm = {0: late, 1: sharpened(1)[1]}
    whole = heated(arm, arm, trajectories=3)
    assert whole.tempered is not None
    cut = {key: sets[:2] for key, sets in whole.tempered.evaluated.items()}
    study = replace(whole, tempered=replace(whole.tempered, evaluated=cut))
    found = temperature(study, resamples(study))
    assert found["trajectories"] == 2
    assert found["sharpening"]["from_start"]["1.25"][64]["estimate"] > 0.1
    assert found["crossover"]["1"]["change_at_k"][1]["estimate"] == 0


def test_how_often_a_start_is_read_as_its_own_round() -> None:
    """Its halves differ by luck alone: seldom is anything lost, and what is lost is not regained by less."""
    study = heated(sharpened(1), sharpened(1.5), trajectories=3)
    fresh = drawn(right(0, 1), N, 9)
    pools = {SetKey("hard", "gen_v0", study.primary_split, r): fresh for r in range(2)}
    with_pools = replace(study, null_pools=pools)
    assert temperature(study, resamples(study))["sharpening"]["null"] == {}
    found = temperature(with_pools, resamples(with_pools))
    null = found["sharpening"]["null"]
    assert found["sharpening"]["verdict"] == LOST and null["trajectories"] == 2
    assert sum(null["rates"].values()) == pytest.approx(1)
    assert null["rates"][LOST] == 0 and null["rates"][SHARPENED] <= 0.1 < null["rates"][KEPT]

    # where it is colder instead, and half of the pool is worse than the other, both show
    assert study.tempered is not None
    evaluated = {**study.tempered.evaluated, ("gen_v0", 1.25): [counted([0] * TASKS, N)] * 3}
    colder = replace(study.tempered, evaluated=evaluated)
    lost = replace(with_pools, tempered=colder)
    rates = temperature(lost, resamples(lost))["sharpening"]["null"]["rates"]
    assert rates[SHARPENED] == 0 and rates[LOST] == pytest.approx(null["rates"][SHARPENED], abs=0.01)


def test_all_that_is_tested_is_exploratory_with_the_same_intervals() -> None:
    study = heated(sharpened(1), sharpened(1.25))
    bootstrap = resamples(study)
    found = temperature(study, bootstrap)
    entries = {
        (e["quantity"], e["k"]): e
        for e in exploratory(study, bootstrap, {})
        if "temperature" in e["quantity"]
    }
    assert len(entries) == 3 * 2 + 3 + len(found["best"]) + 3
    for (quantity, k), entry in entries.items():
        same = {
            "change of pass@k, both at temperature 0.8": found["crossover"]["0.8"]["change_at_k"],
            "change of pass@k, both at temperature 1.25": found["crossover"]["1.25"]["change_at_k"],
            "change of pass@k from temperature 1 to 1.25": found["sharpening"]["from_start"]["1.25"],
            "change of pass@k, each at its best temperature": {
                k: at["change"] for k, at in found["best"].items()
            },
            "change of pass@k beyond that of the matched temperature": found["matched"]["rest"],
        }[quantity][k]
        assert {"estimate": entry["estimate"], "interval": entry["interval"]} == same


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
    study = replace(heated(sharpened(1), sharpened(1)), tempered=None)
    assert temperature(study, resamples(study)) == {}


def test_refuses_too_few_samples_and_other_tasks() -> None:
    study = heated(sharpened(1), sharpened(1.25))
    assert study.tempered is not None
    few = replace(study, tempered=replace(study.tempered, samples=127))
    with pytest.raises(UserError, match=r"pass@64 needs at least 128 samples a task, there are 127"):
        temperature(few, resamples(few))
    other = {("v1", 1.25): [counted([1], N)]}
    with pytest.raises(UserError, match=r"samples of v1 on hard \(split 1\) are of other tasks"):
        replace(study, tempered=replace(study.tempered, evaluated=other))
