"""Reach: what a model could write in B samples, for B far beyond the samples that were drawn.

pass@k from n samples ends at k = n, and beyond a model can hold programs that no pool shows. But how
probable a program is *given to it* a model says exactly. Let m be the probability, at temperature 1 and
untruncated, that an answer is one of the task's *known* generalising programs. Then

    reach(B) = mean over tasks of 1 - (1 - m)^B

is what B samples solve by known programs. The known programs of a trajectory are the secret one and those
among the first samples of the base and of each of the trajectory's models, as many of each. So every model is
asked for the same programs, differences are paired, no model contributes more, and trajectories remain
replicates of each other.

m is a lower bound of the chance P to be right. What it misses, three ways:

- c / n - m: of all n samples that were drawn c are right, and E[c / n] = P, so this is the *missing mass*,
  unbiased but noisy;
- N1 / n', with N1 the right programs that the n' of a model's samples that were looked at show once (Good
  1953, Good & Turing): in expectation above the mass of all that they never show, of which the other models'
  samples know some more;
- the spellings of a program that no model used: the likeliest, by the tokenizer itself, is always counted.

*Expansion* claims that the last round's reach at one B, fixed in the config, lies above both the base's and
the start's (intersection-union: the larger of two one-sided p-values).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from constellation.evaluation.claims import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED, intervals, verdict
from constellation.evaluation.curves import pooled_curves
from constellation.evaluation.entries import as_json, keyed, points
from constellation.evaluation.known import KnownPrograms, generalising
from constellation.evaluation.statistics import Bootstrap, minimum_detectable_effect, wider
from constellation.evaluation.study import SetKey, StudyResults
from constellation.samples import SampleSet

Array = NDArray[np.float64]
DRAWN = tuple(2**i for i in range(21))  # budgets of the curves, up to a million
OPENINGS = {
    SUPPORTED: "Reach expands",
    NOT_SUPPORTED: "Reach does not expand",
    INCONCLUSIVE: "Whether reach expands stays open",
}


class Known(NamedTuple):
    """The known programs as each trajectory knows them.

    programs: of all trajectories.
    own: [K, D] bool, those in a trajectory's known set.
    log_mass: model -> [K, T] float64, ln m; -inf for a probability of 0.
    """

    programs: KnownPrograms
    own: NDArray[np.bool_]
    log_mass: Mapping[str, Array]


def known_of(study: StudyResults) -> Known | None:
    """The study's known programs; None where it has none."""
    programs = study.known
    if programs is None:
        return None
    tasks = study.tasks[programs.bank]
    keys = [(int(t), str(text)) for t, text in zip(programs.task, programs.text, strict=True)]
    own = np.tile([tasks[t].program == text for t, text in keys], (study.trajectories, 1))
    for model in study.models:
        for trajectory in range(study.trajectories):
            seen = generalising(pool(study, programs, model, trajectory), programs.samples)
            own[trajectory] |= [key in seen for key in keys]
    masses = {model: log_mass(programs, own, model, len(tasks)) for model in programs.models}
    return Known(programs, own, masses)


def pool(study: StudyResults, programs: KnownPrograms, model: str, trajectory: int) -> SampleSet:
    """A model's samples on the programs' bank, under the primary split; the base's stand for all."""
    own = 0 if model == study.base else trajectory
    return study.samples[SetKey(programs.bank, model, study.primary_split, own)]


def log_mass(programs: KnownPrograms, own: NDArray[np.bool_], model: str, tasks: int) -> Array:
    """[K, T] ln of the probability of a task's programs together, for the subsets `own` [K, D]."""
    return np.array(
        [
            log_sum(programs, subset, programs.of(model, trajectory), tasks)
            for trajectory, subset in enumerate(own)
        ]
    )


def log_sum(programs: KnownPrograms, subset: NDArray[np.bool_], log_prob: Array, tasks: int) -> Array:
    """[T] ln of the probability of a task's programs together, of a subset [D] that has `log_prob` [D]."""
    result = np.full(tasks, -np.inf)
    np.logaddexp.at(result, programs.task[subset], log_prob[subset])
    return np.minimum(result, 0)  # rounding may lift a sum that is all but certain


def reach(log_mass: ArrayLike, budgets: Sequence[int]) -> Array:
    """1 - (1 - m)^B, exact to rounding however small m or large B.

    Args:
        log_mass: [...] ln m, at most 0.
        budgets: the N values of B.

    Returns:
        [..., N] float64.
    """
    log_mass = np.asarray(log_mass, np.float64)
    with np.errstate(divide="ignore"):  # ln(1 - m), each way where it is the exact one (Maechler 2012)
        small, large = np.log1p(-np.exp(log_mass)), np.log(-np.expm1(log_mass))
    log_miss = np.where(log_mass < -np.log(2), small, large)
    return -np.expm1(log_miss[..., None] * np.asarray(budgets, np.float64))


def reach_results(study: StudyResults, bootstrap: Bootstrap, known: Known) -> dict[str, Any]:
    """Every model's reach and mass, the changes over base and start, and whether reach expands."""
    programs, choice = known.programs, study.analysis
    return {
        "bank": programs.bank,
        "samples": programs.samples,
        "budgets": choice.reach_budgets,
        "at": choice.reach_at,
        "programs_per_task": known.own.sum(1).mean() / len(study.tasks[programs.bank]),
        "models": {model: of_model(study, bootstrap, known, model) for model in study.models},
        "curve": {
            model: keyed(DRAWN, bootstrap(programs.bank, reach(mass, DRAWN)))
            for model, mass in known.log_mass.items()
        },
        "change": {
            model: {
                before: keyed(DRAWN, bootstrap(programs.bank, reach_change(known, before, model, DRAWN)))
                for before in (study.base, study.start)
            }
            for model in known.log_mass
            if model not in (study.base, study.start)
        },
        "expansion": expansion(study, bootstrap, known, study.rounds[-1]) if study.rounds else None,
    }


def of_model(study: StudyResults, bootstrap: Bootstrap, known: Known, model: str) -> dict[str, Any]:
    """A model's reach at the config's budgets, and m and pass@k beside what its samples say."""
    programs, bank = known.programs, known.programs.bank
    mass = np.exp(known.log_mass[model])  # [K, T]
    pools = [pool(study, programs, model, k) for k in range(study.trajectories)]
    right = np.array([drawn.per_sample(drawn.generalises).mean(1) for drawn in pools])  # [K, T]
    once = np.zeros_like(right)
    for k, drawn in enumerate(pools):
        for (task, _), count in generalising(drawn, programs.samples).items():
            once[k, task] += (count == 1) / programs.samples
    ks = [k for k in DRAWN if k <= min(drawn.n for drawn in pools)]
    return {
        "pass_at_k": dict(zip(ks, pooled_curves(pools, ks).mean((0, 1)), strict=True)),
        "reach": keyed(
            study.analysis.reach_budgets,
            bootstrap(bank, reach(known.log_mass[model], study.analysis.reach_budgets)),
        ),
        "mass": as_json(bootstrap(bank, mass)),
        "right": as_json(bootstrap(bank, right)),
        "missing": as_json(bootstrap(bank, right - mass)),
        "good_turing": as_json(bootstrap(bank, once)),
    }


def reach_change(known: Known, before: str, after: str, budgets: Sequence[int]) -> Array:
    """[K, T, N] how much more `after` reaches than `before`."""
    return reach(known.log_mass[after], budgets) - reach(known.log_mass[before], budgets)


def expansion(study: StudyResults, bootstrap: Bootstrap, known: Known, model: str) -> dict[str, Any]:
    """Whether a model's reach lies above the base's and the start's, at the config's B."""
    choice, bank = study.analysis, known.programs.bank
    before = (study.base, study.start)
    values = np.concatenate(
        [reach_change(known, name, model, [choice.reach_at]) for name in before], axis=2
    )  # [K, T, 2]
    both = bootstrap.both(bank, values)
    estimate = wider(*both)
    p = float(estimate.p_above.max())
    outcome = verdict(estimate, (1, 1), p, choice)
    over = [f"{points(*estimate.at(i)[:3])} points from {name}" for i, name in enumerate(before)]
    return {
        "verdict": outcome,
        "model": model,
        "before": before,
        "p": p,
        "estimate": estimate.value,
        "interval": np.stack([estimate.low, estimate.high], axis=-1),
        **intervals(*both),
        "bound": estimate.lower,
        "minimum_detectable_effect": minimum_detectable_effect(values, 1 - choice.level, choice.power),
        "by_trajectory": values.mean(1).T,
        "sentence": (
            f"{OPENINGS[outcome]}: on the {bank} bank, reach in {choice.reach_at} samples changes by "
            f"{' and '.join(over)} to {model}."
        ),
    }
