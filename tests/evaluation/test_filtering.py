"""The forecast against enumerated and simulated filters, the toy that makes it a null, and the residuals."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from constellation.evaluation.analysis import analyse, resamples
from constellation.evaluation.entries import Entries
from constellation.evaluation.filtering import (
    BELOW_IDEAL,
    CHANGE,
    FORECAST,
    IDEAL,
    LOWER_BOUND,
    MEASURED,
    RESIDUAL,
    SECRET,
    filtering,
    forecast,
    forecast_curves,
    ideal_pass_at_k,
    kept,
)
from constellation.evaluation.pass_at_k import pass_curve
from constellation.evaluation.study import SetKey, StudyResults
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet
from tests.evaluation.synthetic import exact_posterior, random_set, sample_set, study

masses = st.lists(st.floats(0.01, 1), min_size=1, max_size=4).map(np.array)


@given(masses, st.floats(0, 1), st.integers(1, 4), st.integers(1, 5))
def test_kept_is_the_sum_over_all_sequences_of_draws(weights, rest, samples, keep):
    weights = np.append(weights, rest)
    q = weights / weights.sum()
    expected = np.zeros(len(q) - 1)
    for draws in itertools.product(range(len(q)), repeat=samples):
        generalising = [y for y in dict.fromkeys(draws) if y < len(expected)]
        expected[generalising[:keep]] += np.prod(q[list(draws)])
    assert kept(q[:-1], samples, keep) == pytest.approx(expected, rel=1e-9)


def test_many_draws_do_not_overflow():
    q = np.full(8, 0.05)
    assert kept(q, 200, 8) == pytest.approx(1 - (1 - q) ** 200, rel=1e-9)
    assert kept(q, 200, 1) == pytest.approx(q / 0.4 * (1 - 0.6**200), rel=1e-12)


def zipf(size: int, exponent: float) -> np.ndarray:
    weights = np.arange(1.0, size + 1) ** -exponent
    return weights / weights.sum()


def curve(q: np.ndarray, truth: np.ndarray, k: int) -> np.ndarray:
    """Expected pass@k of every round [R, P] where the secret behaviour is drawn from `truth`."""
    return (truth * (1 - (1 - q) ** k)).sum(1)


@pytest.mark.parametrize("samples", [1, 4, 8])
def test_a_calibrated_sampler_that_learns_nothing_sharpens_and_slows_down(samples):
    toys = [zipf(1000, exponent) for exponent in (0.8, 1.0, 1.2, 1.5)]
    rounds = [forecast(pi, np.arange(len(pi)), pi, samples, 1, 3) for pi in toys]
    one = np.mean([curve(q, pi, 1) for q, pi in zip(rounds, toys, strict=True)], axis=0)
    many = np.mean([curve(q, pi, 64) for q, pi in zip(rounds, toys, strict=True)], axis=0)
    gains = np.diff(one)
    assert (gains > 0).all() and (np.diff(gains) < 0).all()
    assert (np.diff(many) < 0).all()


@given(masses, st.integers(0, 4))
def test_one_draw_a_task_raises_the_posterior_to_a_power(weights, rounds):
    pi = weights / weights.sum()
    power = pi ** (rounds + 1)
    assert forecast(pi, np.arange(len(pi)), pi, 1, 1, rounds)[-1] == pytest.approx(power / power.sum())


def test_a_lone_behaviour_is_a_fixed_point_and_nothing_kept_changes_nothing():
    alone = forecast(np.array([0.3, 0.1, 0.6]), np.array([0, 0, 1]), np.array([0.9, 0.9, 0.0]), 8, 1, 2)
    assert alone == pytest.approx(np.array([[0.3, 0.1, 0.6], [0.75, 0.25, 0], [0.75, 0.25, 0]]))
    none = forecast(np.array([0.3, 0.7]), np.array([0, 1]), np.zeros(2), 8, 1, 2)
    assert (none == [0.3, 0.7]).all()


@given(masses, masses, st.integers(1, 8), st.integers(1, 3), st.floats(0.1, 1))
def test_a_round_sums_to_its_total(q, pi, samples, keep, total):
    size = min(len(q), len(pi))
    q, pi = total * q[:size] / q[:size].sum(), pi[:size] / pi[:size].sum()
    rounds = forecast(q, np.arange(size), pi, samples, keep, 3, total)
    assert rounds.sum(1) == pytest.approx(total)


@pytest.mark.parametrize("keep", [1, 2])
def test_the_forecast_is_what_a_filter_keeps(keep):
    """Simulated rounds: tasks with secrets from the posterior, draws, the first `keep` right ones."""
    q = np.array([0.25, 0.1, 0.05, 0.2, 0.02, 0.08, 0.3])
    cluster = np.array([0, 0, 1, 1, 1, 2, 3])
    truth = np.array([0.5, 0.3, 0.2])  # of behaviours 0, 1, 2; programs of 3 never generalise
    posterior = np.array([*truth, 0.0])[cluster]
    rng, samples = np.random.default_rng(0), 6
    counts = np.zeros(len(q))
    for secret in rng.choice(3, size=8000, p=truth):
        draws = rng.choice(len(q), size=samples, p=q)
        counts[list(dict.fromkeys(draws[cluster[draws] == secret].tolist()))[:keep]] += 1
    expected = forecast(q, cluster, posterior, samples, keep, 1)[1]
    assert expected[-1] == counts[-1] == 0
    # programs kept together are counted apart: only for keep = 1 are they independent draws
    error = np.sqrt(expected / counts.sum())
    assert (abs(counts / counts.sum() - expected)[:-1] < 4.5 * error[:-1]).all()


def posterior_of(samples: SampleSet) -> np.ndarray:
    """Some posterior: of a fitting program by its outputs."""
    return np.where(samples.fits, 1 / (2.0 + samples.key), np.nan)


@pytest.mark.parametrize("unfit_stays", [False, True])
def test_curves_of_any_pool(unfit_stays):
    samples, ks = random_set(0, tasks=30, n=24), (1, 2, 12, 24)
    result = forecast_curves(samples, posterior_of(samples), ks, 4, 1, 3, unfit_stays)
    correct = samples.per_sample(samples.right)
    assert result.pass_at_k[0] == pytest.approx(pass_curve(correct, ks))
    assert (result.pass_at_k[:, ~correct.any(1)] == 0).all()
    assert (result.pass_at_k >= 0).all() and (result.pass_at_k <= 1).all()
    assert (np.diff(result.pass_at_k, axis=2) >= -1e-12).all()


def test_unfit_answers_vanish_or_stay():
    samples = sample_set([["right a"] * 64 + ["fits:x:1"] * 64 + ["junk"] * 192 + ["bad"] * 192])
    posterior = np.where(samples.right, 0.75, np.where(samples.fits, 0.25, np.nan))
    full = forecast_curves(samples, posterior, (1,), 1, 1, 1).pass_at_k[:, 0, 0]
    held = forecast_curves(samples, posterior, (1,), 1, 1, 1, unfit_stays=True).pass_at_k[:, 0, 0]
    assert held[0] == full[0] == pytest.approx(1 / 8)
    assert full[1] == pytest.approx(0.75, abs=0.01)  # equal draws of one task exchange as in a large pool
    assert held[1] == pytest.approx(0.75 / 4, abs=0.01)


def test_an_unfit_program_with_the_right_outputs_is_never_kept():
    q, cluster = np.array([0.2, 0.6, 0.2]), np.array([0, 0, 1])
    result = forecast(q, cluster, np.array([0.5, 0.0, 0.5]), 3, 1, 1)[1]
    assert result == pytest.approx([0.5, 0, 0.5])


def test_a_pool_gives_the_curve_of_the_distribution_it_was_drawn_from():
    """Without a systematic error, where no draw of a round is worth so many that the pool has too few."""
    ks, n, rng = (1, 8, 32), 128, np.random.default_rng(1)
    posterior, pools, exact = {"junk": 0.0}, [], []
    for t in range(400):
        q, pi = rng.dirichlet(np.full(8, 0.5)), rng.dirichlet(np.full(8, 0.5))
        q, pi = 0.6 * (q + 0.05) / 1.4, (q + pi) / 2
        secret = rng.choice(8, p=pi)
        names = [f"right {t}" if b == secret else f"fits:{b}:{t}" for b in range(8)]
        posterior |= dict(zip(names, pi, strict=True))
        pools.append(rng.choice([*names, "junk"], size=n, p=[*q, 0.4]).tolist())
        chance = forecast(q, np.arange(8), pi, 4, 1, 2, total=0.6)[:, secret]
        exact.append(1 - (1 - chance[:, None]) ** np.array(ks))
    samples = sample_set(pools)
    by_program = np.array([posterior[text] for text in samples.text])
    result = forecast_curves(samples, by_program, ks, 4, 1, 2, unfit_stays=True)
    assert (result.draws <= n).mean() > 0.99
    error = result.pass_at_k - np.array(exact).transpose(1, 0, 2)  # [R, T, K]
    assert (abs(error.mean(1)) < 4 * stats.sem(error, axis=1)).all()


def test_a_certain_answer_stays_certain():
    samples = sample_set([["right a"] * 8, ["right a"] * 4 + ["junk"] * 4])
    result = forecast_curves(samples, np.where(samples.fits, 1.0, np.nan), (1, 8), 2, 1, 2)
    assert (result.pass_at_k[1:] == 1).all() and (result.pass_at_k[0, 0] == 1).all()
    assert result.pass_at_k[0, 1, 0] == pytest.approx(0.5)


def test_a_k_beyond_the_pool_is_refused():
    samples = random_set(1)
    with pytest.raises(UserError, match="needs at least"):
        forecast_curves(samples, posterior_of(samples), (samples.n + 1,), 2, 1, 1)


def test_the_ideal_sampler_draws_independently():
    curve = ideal_pass_at_k(np.array([0.0, 0.3, 1.0]), (1, 8, 64))
    assert curve == pytest.approx(1 - stats.binom.pmf(0, [[1, 8, 64]], [[0.0], [0.3], [1.0]]))


@pytest.fixture(scope="module")
def results() -> StudyResults:
    return study(tasks=12, n=16, trajectories=2, exact=True, resamples=100)


def answered(results: StudyResults) -> Entries:
    """The rows of the hard bank."""
    answer = filtering(results, exact_posterior(results), resamples(results))
    return Entries(answer.entries).where(bank="hard")


@pytest.fixture(scope="module")
def found(results: StudyResults) -> Entries:
    return answered(results)


def rate(results: StudyResults, model: str) -> np.ndarray:
    """[K, T] share of right samples on the hard bank: pass@1."""
    keys = [SetKey("hard", model, 1234, k) for k in range(2)]
    return np.array([s.per_sample(s.right).mean(1) for s in (results.samples[key] for key in keys)])


def test_the_ceiling_is_that_of_independent_draws(results: StudyResults, found: Entries) -> None:
    ceiling = exact_posterior(results).ceiling["hard"]
    ideal = found.where(quantity=IDEAL)
    assert ideal.values("k") == [1, 2, 4, 8, 16]
    for k in ideal.values("k"):
        assert ideal.one(k=k).estimate == pytest.approx(np.mean(1 - (1 - ceiling["sampler"]) ** k))
    below = rate(results, "gen_v0").mean() - ceiling["sampler"].mean()
    assert found.one(quantity=BELOW_IDEAL, k=1).estimate == pytest.approx(below)
    assert found.one(quantity=SECRET).estimate == pytest.approx(ceiling["secret"].mean())


@pytest.mark.parametrize("name, unfit_stays", [("full adoption", False), ("unfit stays", True)])
def test_residual_is_measured_minus_the_forecast_of_the_same_trajectory(
    results: StudyResults, found: Entries, name: str, unfit_stays: bool
) -> None:
    made = [
        forecast_curves(results.samples[key], posterior, [1, 8], 8, 1, 2, unfit_stays).pass_at_k
        for key, posterior in exact_posterior(results).filter.items()
        if key.bank == "hard"
    ]
    of_rounds = np.mean(made, axis=(0, 2))[1:]  # [rounds, k]
    for model, expected in zip(results.rounds, of_rounds, strict=True):
        own = found.where(models=(model,), of=name)
        forecasts = own.where(quantity=FORECAST)
        assert [forecasts.one(k=k).estimate for k in (1, 8)] == pytest.approx(expected)
        measured = found.one(quantity=MEASURED, models=(model,), k=1).estimate
        assert measured == pytest.approx(rate(results, model).mean())
        residual = own.one(quantity=RESIDUAL, k=1)
        assert residual.estimate == pytest.approx(measured - expected[0]) and residual.tested
        change = found.one(quantity=CHANGE, models=("gen_v0", model), k=1, of=name)
        assert change.estimate == pytest.approx(expected[0] - rate(results, "gen_v0").mean())
        low, high = (own.one(quantity=LOWER_BOUND, k=k).estimate for k in (1, 8))
        assert 0 <= low <= high <= 1


def test_a_round_that_only_filters_leaves_no_residual() -> None:
    """Every task's prompt has two behaviours, each equally likely to be right; what does not fit stays."""
    plain = study(tasks=12, n=16, exact=True, rounds=1, resamples=100)
    key, exact = SetKey("hard", "gen_v0", 1234), exact_posterior(plain)
    samples = plain.samples[key]
    even = replace(exact, filter={**exact.filter, key: np.ones(len(samples.text))}, star_samples=1)
    sets = {**plain.samples, key._replace(model="v1"): samples}
    same = replace(plain, parts={**plain.parts, "filtering": even}, samples=sets)
    residual = answered(same).where(quantity=RESIDUAL, models=("v1",), of="unfit stays")
    # one draw a task and equal posteriors: the kept answers are spread as the fitting ones were
    for k in (1, 2, 4, 8):
        assert residual.one(k=k).estimate == pytest.approx(0, abs=1e-9)
        assert residual.one(k=k).interval == pytest.approx([0, 0], abs=1e-9)


def test_every_round_is_read_as_far_as_its_samples_go(results: StudyResults) -> None:
    few = study(tasks=12, n=4, trajectories=2)
    less = {key: few.samples[key] for key in few.samples if key.model == "v1"}
    rows = answered(replace(results, samples={**results.samples, **less}))
    for model, ks in (("v1", [1, 2, 4]), ("v2", [1, 2, 4, 8, 16])):
        assert rows.where(quantity=MEASURED, models=(model,)).values("k") == ks
        assert rows.where(quantity=RESIDUAL, models=(model,), of="full adoption").values("k") == ks
        assert rows.where(quantity=CHANGE, models=("gen_v0", model), of="unfit stays").values("k") == ks


def test_nothing_without_the_exact_posterior_and_no_forecast_without_rounds() -> None:
    bare = analyse(study(tasks=6, n=16, resamples=10))
    assert "filtering" not in bare.facts and not bare.entries.where(question="filtering")
    none = analyse(study(tasks=6, n=16, rounds=0, exact=True, resamples=10))
    found = none.entries.where(question="filtering")
    assert found.where(quantity=IDEAL).values("bank") == ["easy", "hard", "withheld"]
    assert set(found.values("quantity")) == {SECRET, IDEAL, MEASURED, BELOW_IDEAL}
