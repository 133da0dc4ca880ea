"""The Bayes ceiling of the banks, and what each round did beyond filtering.

Filtering alone, by a learner that learns nothing else, already changes pass@k; `bayes` forecasts by how much,
with no parameter to tune, from the start's samples and the exact posterior under the law of the STaR tasks.
The *residual* is a round's measured pass@k minus its forecast, task by task and trajectory by trajectory.
There are two forecasts, full adoption of the filter, and one that leaves the share of answers that fit as it
was: a bracket. Everything is of the primary split; arms, which train on other tasks, have no forecast.

The ideal sampler draws programs from the posterior given the visible examples. It is a calibrated sampler and
no upper bound: one that writes the likeliest behaviour more often does better at small k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.bayes import Forecast, forecast_curves, ideal_pass_at_k
from constellation.evaluation.curves import pooled_curves, verdict_ks
from constellation.evaluation.entries import as_json, keyed
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import Exact, SetKey, StudyResults

Array = NDArray[np.float64]
FORECASTS = {"full adoption": False, "unfit stays": True}  # -> `unfit_stays` of `forecast_curves`


def beyond_filtering(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """{"ceiling": ..., "forecast": ..., and whose laws these rest on}; empty without `StudyResults.exact`."""
    exact = study.exact
    if exact is None:
        return {"ceiling": {}, "forecast": {}}
    return {
        "ceiling": {bank: ceiling(study, exact, bootstrap, bank) for bank in exact.ceiling},
        "forecast": {bank: forecasts(study, exact, bootstrap, bank) for bank in study.tasks if study.rounds},
        "bank_atoms": exact.bank_atoms,
        "star_atoms": exact.star_atoms,
    }


def ceiling(study: StudyResults, exact: Exact, bootstrap: Bootstrap, bank: str) -> dict[str, Any]:
    """pass@k of the ideal sampler and the start, their difference, the ideal critic's score of the secret."""
    ks = powers(study, bank, study.start)
    shape = study.trajectories, len(study.tasks[bank])
    ideal = np.broadcast_to(ideal_pass_at_k(exact.ceiling[bank]["sampler"], ks), (*shape, len(ks)))
    own = measured(study, bank, study.start, ks)
    return {
        "pass_at_k": keyed(ks, bootstrap(bank, ideal)),
        "start": keyed(ks, bootstrap(bank, own)),
        "start_minus_ideal": keyed(ks, bootstrap(bank, own - ideal)),
        "secret": as_json(bootstrap(bank, np.broadcast_to(exact.ceiling[bank]["secret"], shape))),
    }


def forecasts(study: StudyResults, exact: Exact, bootstrap: Bootstrap, bank: str) -> dict[str, Any]:
    """Each round's forecast beside what was measured.

    Returns:
        {round: {"measured": {k: estimate}, "full adoption" | "unfit stays": {"pass_at_k", "change" from the
        start, "residual": {k: estimate}, "lower_bound": {k: share of tasks}}}}. These tasks' forecast is
        pass@n of the start's n samples, on average too low: see `bayes`. On the primary bank a residual at
        k = 1, small_k and large_k, as far as n/2, has its p-value, too.
    """
    choice = study.analysis
    wanted = {1, choice.small_k, choice.large_k} if bank == choice.primary_bank else set()
    ks = powers(study, bank, study.start)
    predicted = {
        name: predictions(study, exact, bank, ks, unfit_stays) for name, unfit_stays in FORECASTS.items()
    }
    before, pool = measured(study, bank, study.start, ks), study.pool_size(bank, study.start)
    result: dict[str, Any] = {}
    for number, model in enumerate(study.rounds, 1):
        own = powers(study, bank, study.start, model)  # those of ks that the round's pool answers
        curve = measured(study, bank, model, own)
        result[model] = {"measured": keyed(own, bootstrap(bank, curve))}
        for name, of_each in predicted.items():
            expected = np.array([one.pass_at_k[number, :, : len(own)] for one in of_each])  # [K, T, len(own)]
            draws = np.array([one.draws[number, :, : len(own)] for one in of_each])
            beyond = bootstrap(bank, curve - expected)
            residual = keyed(own, beyond)
            for k in wanted & set(own) & set(verdict_ks(study, bank, study.start, model)):
                residual[k]["p"] = beyond.at(own.index(k)).p_two_sided()
            result[model][name] = {
                "pass_at_k": keyed(own, bootstrap(bank, expected)),
                "change": keyed(own, bootstrap(bank, expected - before[..., : len(own)])),
                "residual": residual,
                "lower_bound": dict(zip(own, (draws > pool).mean((0, 1)), strict=True)),
            }
    return result


def predictions(
    study: StudyResults, exact: Exact, bank: str, ks: Sequence[int], unfit_stays: bool
) -> list[Forecast]:
    """The forecast of every round from each trajectory's own samples of the start."""
    return [
        forecast_curves(
            study.samples[key],
            exact.filter[key],
            ks,
            exact.star_samples,
            exact.star_keep,
            len(study.rounds),
            unfit_stays,
        )
        for r in range(study.trajectories)
        for key in [SetKey(bank, study.start, study.primary_split, r)]
    ]


def measured(study: StudyResults, bank: str, model: str, ks: Sequence[int]) -> Array:
    """[K, T, len(ks)] pass@k under the primary split."""
    keys = [SetKey(bank, model, study.primary_split, r) for r in range(study.trajectories)]
    return pooled_curves([study.samples[key] for key in keys], ks)


def powers(study: StudyResults, bank: str, *models: str) -> list[int]:
    """Powers of two and the two k of the findings, as far as these models' pools and the curves go."""
    choice = study.analysis
    most = min(choice.max_k, study.pool_size(bank, *models))
    wanted = {choice.small_k, choice.large_k, *(2**i for i in range(most.bit_length()))}
    return sorted(k for k in wanted if k <= most)
