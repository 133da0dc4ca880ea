from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from constellation.evaluation.analysis import resamples
from constellation.evaluation.calibration import (
    FORECAST,
    OBSERVED,
    SHARE,
    Calibration,
    calibration,
    calibrations,
    tallies,
    tally,
)
from constellation.evaluation.entries import Entries
from constellation.evaluation.selection import selectors_of
from constellation.evaluation.study import SetKey, StudyResults
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet
from tests.evaluation.synthetic import random_set, sample_set, study


def total(samples: SampleSet, scores: np.ndarray, bins: int = 10) -> Calibration:
    return calibration(tally(samples, scores, bins).sum(0))


def random_scores(samples: SampleSet, seed: int, scale: float = 2.0) -> np.ndarray:
    scores = np.random.default_rng(seed).normal(0, scale, len(samples.text))
    return np.where(samples.fits, scores, np.nan)


def survivors(samples: SampleSet, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Forecast and outcome of every surviving sample, one by one."""
    rows = [int(p) for p in samples.program.ravel() if samples.fits[p]]
    return np.array([expit(scores[p]) for p in rows]), np.array([float(samples.right[p]) for p in rows])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([1, 4, 10]), st.sampled_from([0.5, 3.0, 30.0]))
def test_figures_are_the_published_formulas_over_samples(seed: int, bins: int, scale: float) -> None:
    samples = random_set(seed, tasks=6, n=20)
    scores = random_scores(samples, seed, scale)
    p, y = survivors(samples, scores)
    found = total(samples, scores, bins)
    if len(p) == 0:
        assert np.isnan(found).all()
        return
    edges = np.arange(1, bins) / bins
    cells = [(p[cell], y[cell]) for b in range(bins) for cell in [np.digitize(p, edges) == b] if cell.any()]
    n = len(p)
    assert found.brier == pytest.approx(np.mean((p - y) ** 2))
    assert found.prevalence == pytest.approx(y.mean())
    assert found.reliability == pytest.approx(sum(len(f) * (f.mean() - o.mean()) ** 2 for f, o in cells) / n)
    assert found.resolution == pytest.approx(sum(len(o) * (o.mean() - y.mean()) ** 2 for _, o in cells) / n)
    assert found.uncertainty == pytest.approx(y.var())
    error = sum(len(f) * abs(f.mean() - o.mean()) for f, o in cells) / n
    assert found.expected_calibration_error == pytest.approx(error)
    # Stephenson, Coelho & Jolliffe (2008): within-bin variance and covariance
    variance = sum(len(f) * f.var() for f, _ in cells) / n
    covariance = sum(len(f) * np.cov(f, o, bias=True)[0, 1] for f, o in cells) / n
    assert found.within_bin == pytest.approx(variance - 2 * covariance, abs=1e-12)


def test_bins_hold_their_samples() -> None:
    samples = sample_set([["right a", "right a", "fits:x:1", "bad"], ["right a", "bad", "junk", "bad"]])
    scores = np.where(samples.fits, np.where(samples.task == 0, logit(0.3), 60.0), np.nan)
    drawn, forecast, observed, squared_error = tally(samples, scores, bins=4).swapaxes(0, 1)
    np.testing.assert_array_equal(drawn, [[0, 3, 0, 0], [0, 0, 0, 1]])  # p = 1 is in the last bin
    np.testing.assert_array_equal(observed, [[0, 2, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(forecast, [[0.0, 0.9, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    np.testing.assert_allclose(squared_error.sum(1), [2 * 0.49 + 0.09, 0.0])


def test_a_forecast_of_the_rates_is_calibrated_and_resolves() -> None:
    samples = sample_set([["right a"] * 9 + ["fits:x:1"], ["right a"] * 2 + ["fits:x:1"] * 8])
    scores = logit(np.where(samples.task == 0, 0.9, 0.2))
    found = total(samples, scores)
    assert found.reliability == pytest.approx(0, abs=1e-12)
    assert found.within_bin == pytest.approx(0, abs=1e-12)
    assert found.expected_calibration_error == pytest.approx(0, abs=1e-12)
    assert found.resolution == pytest.approx(0.35**2)  # 0.9 and 0.2 lie 0.35 from 0.55
    assert found.brier == pytest.approx((0.9 * 0.1 + 0.2 * 0.8) / 2)


def test_resamples_of_tasks_are_weighted_sums() -> None:
    samples = random_set(5, tasks=8, n=30)
    scores = random_scores(samples, 5)
    sums = tally(samples, scores)
    draws = np.random.default_rng(0).integers(8, size=(3, 8))
    weights = np.array([np.bincount(draw, minlength=8) for draw in draws]) / 8
    found = calibration(np.tensordot(weights, sums, 1))
    for r, draw in enumerate(draws):
        one = calibration(sums[draw].sum(0))
        np.testing.assert_allclose([part[r] for part in found], one, atol=1e-12)


def test_refuses_survivors_without_a_score() -> None:
    with pytest.raises(UserError, match="no critic score"):
        tally(sample_set([["right a", "bad"]]), np.array([np.nan, 0.0]))


@pytest.fixture(scope="module")
def results() -> StudyResults:
    return study(tasks=40, n=16, trajectories=2, resamples=100)


def test_every_surviving_sample_of_a_study_counts(results: StudyResults) -> None:
    part = selectors_of(results)
    probabilities, right = [], []
    for key, columns in part.columns.items():
        if key[:2] == ("easy", "gen_v0"):  # one split seed: its trajectories' samples are added up
            samples = results.samples[key]
            survives = samples.per_sample(samples.fits)
            probabilities.append(samples.per_sample(expit(columns["critic"]))[survives])
            right.append(samples.per_sample(samples.right)[survives])
    p, y = np.concatenate(probabilities), np.concatenate(right)
    rows = Entries(calibrations(results, part, resamples(results)).entries)
    rows = rows.where(bank="easy", models=("gen_v0",))
    assert rows.one(quantity="Brier score").estimate == pytest.approx(np.mean((p - y) ** 2))
    assert rows.one(quantity="prevalence").estimate == pytest.approx(y.mean())
    assert sum(row.estimate for row in rows.where(quantity=SHARE)) == pytest.approx(1)
    cells = np.minimum((p * 10).astype(int), 9)
    assert rows.where(quantity=OBSERVED).values("of") == [str(b) for b in np.unique(cells)]
    for b in np.unique(cells):
        own = rows.where(of=str(b))
        assert own.one(quantity=FORECAST).estimate == pytest.approx(p[cells == b].mean())
        assert own.one(quantity=OBSERVED).estimate == pytest.approx(y[cells == b].mean())


def test_a_split_seed_with_more_samples_has_no_more_weight(results: StudyResults) -> None:
    """One whose samples all stand there four times says the same."""
    key, part = SetKey("hard", "gen_v0", 1235, 1), selectors_of(results)
    own = results.samples[key]
    longer = replace(
        own,
        program=np.tile(own.program, 4),
        finished=np.tile(own.finished, 4),
        tokens=np.zeros(0, np.int32),
        token_offsets=np.zeros(4 * own.program.size + 1, np.int64),
    )
    repeated = replace(results, samples={**results.samples, key: longer})
    expected = tallies(results, part, "hard", "gen_v0")
    np.testing.assert_allclose(tallies(repeated, part, "hard", "gen_v0"), expected, atol=1e-12)
