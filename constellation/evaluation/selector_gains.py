"""What selectors are worth beside each other: equal rivals, the share of the room, calibration.

The *primary extension* of the finding on the critic: its accuracy minus that of the best unlearned selector
that knows no more than it does, on the primary bank at small_k. The rival is chosen among the candidates of
tuning tasks, so that the numbers compared have no part in the choice. Claimed positive; one claim, hence no
correction. All else here is exploratory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.calibration import Calibration, Tally, calibration, tally
from constellation.evaluation.claims import INCONCLUSIVE, intervals, verdict
from constellation.evaluation.critic_gain import Picks
from constellation.evaluation.entries import as_json, keyed, points
from constellation.evaluation.selectors import (
    SELECTORS,
    Selection,
    best_unlearned,
    combined,
    divergence,
    select,
)
from constellation.evaluation.statistics import Bootstrap, minimum_detectable_effect, wider
from constellation.evaluation.study import SetKey, StudyResults
from constellation.runtime.keys import host_rng

Array = NDArray[np.float64]
BINS = 10  # of the reliability diagram


def selector_gains(study: StudyResults, bootstrap: Bootstrap, picks: Picks) -> dict[str, Any]:
    """The primary extension, each learned selector against its rival, shares of the room, calibration."""
    chosen_on = tuned(study, picks)
    return {
        "extension": extension(study, bootstrap, picks, chosen_on),
        "rivals": rivals(study, bootstrap, picks, chosen_on),
        "room": rooms(study, bootstrap, picks),
        "calibration": calibrations(study, bootstrap),
        "tuning_tasks": len(study.tuning[0][0].task_ids) if study.tuning else 0,
        "information": {name: selector.information.name for name, selector in SELECTORS.items()},
        "learned": [name for name, selector in SELECTORS.items() if selector.learned],
    }


def tuned(study: StudyResults, picks: Picks) -> dict[int, Selection]:
    """Selection on the tuning tasks, at each k at which there are picks and enough samples."""
    smallest = min((samples.n for samples, _ in study.tuning), default=0)
    ks = sorted({k for _, _, k in picks if k <= smallest})

    def mean(arrays: Sequence[Array]) -> Array:
        return np.mean(arrays, axis=0)

    return {k: combined([select(samples, k, columns) for samples, columns in study.tuning], mean) for k in ks}


def extension(
    study: StudyResults, bootstrap: Bootstrap, picks: Picks, chosen_on: dict[int, Selection]
) -> dict[str, Any]:
    """Critic minus its rival on the primary bank, of the selection model, at small_k."""
    choice = study.analysis
    bank, model, k = choice.primary_bank, study.selection_model, choice.small_k
    if (bank, model, k) not in picks or k not in chosen_on:
        reason = f"no {k} candidates of {model} for tuning tasks and for the {bank} bank were scored"
        return {"verdict": INCONCLUSIVE, "estimate": None, "sentence": f"Not measured: {reason}."}
    rival, found = best_unlearned(chosen_on[k]), picks[bank, model, k].accuracy
    values = (found["critic"] - found[rival]).mean(0)[..., None]  # [K, T, 1]
    both = bootstrap.both(bank, values)
    estimate = wider(*both)
    outcome = verdict(estimate, (+1,), float(estimate.p_above[0]), choice)
    return {
        "verdict": outcome,
        "bank": bank,
        "model": model,
        "k": k,
        "rival": rival,
        **as_json(estimate.at(0)),
        **{name: None if one is None else one[0] for name, one in intervals(*both).items()},
        "minimum_detectable_effect": minimum_detectable_effect(values, 1 - choice.level, choice.power)[0],
        "p": estimate.p_above[0],
        "false_positive_rate": exchanged_rate(study, bootstrap, bank, values[..., 0]),
        "scope": study.scope,
        "tuning_accuracy": {name: hits.mean() for name, hits in chosen_on[k].accuracy.items()},
        "sentence": (
            f"With {k} candidates of {model} on the {bank} bank the critic's pick gains "
            f"{points(*estimate.at(0)[:3])} points over that of {rival}, on tuning tasks the best unlearned "
            "selector that knows no more."
        ),
    }


def exchanged_rate(study: StudyResults, bootstrap: Bootstrap, bank: str, lead: Array) -> float:
    """How often a lead is found where there is none: with the two exchanged on every task at random.

    Args:
        lead: [K, T] of one selector over the other. On a task its sign turns in all trajectories.
    """
    choice = study.analysis
    rng = host_rng(choice.seed, "null", bank, "exchanged")
    signs = rng.choice([-1, 1], (lead.shape[1], choice.halvings))
    return float((bootstrap(bank, lead[..., None] * signs).p_above <= 1 - choice.level).mean())


def rivals(
    study: StudyResults, bootstrap: Bootstrap, picks: Picks, chosen_on: dict[int, Selection]
) -> dict[str, Any]:
    """Every learned selector minus the unlearned one that is best at that k on tuning tasks.

    Returns:
        {bank: {model: {k: {learned selector: {rival, estimate, interval}}}}}.
    """
    choice = study.analysis
    extended = (choice.primary_bank, study.selection_model, choice.small_k, "critic")  # the primary extension
    result: dict[str, Any] = {}
    for (bank, model, k), found in picks.items():
        if k not in chosen_on:
            continue
        entries = result.setdefault(bank, {}).setdefault(model, {}).setdefault(k, {})
        for name in (name for name in found.accuracy if SELECTORS[name].learned):
            rival = best_unlearned(chosen_on[k], name)
            lead = (found.accuracy[name] - found.accuracy[rival]).mean(0)
            entries[name] = {
                "rival": rival,
                **as_json(bootstrap(bank, lead), (bank, model, k, name) != extended),
            }
    return result


def rooms(study: StudyResults, bootstrap: Bootstrap, picks: Picks) -> dict[str, Any]:
    """What share of the oracle's lead over the first survivor the critic wins.

    Both leads are averaged before they are divided. "all": over all tasks. "fixed": with each task weighted
    by the chance that the *start's* candidates diverge on it, so that the tasks are those of every model.

    Returns:
        {bank: {model: {k: {"all" | "fixed": estimate or None}}}}.
    """
    result: dict[str, Any] = {}
    for bank, model, k in picks:
        won, size = (lead(picks, bank, model, k, name).mean(0) for name in ("critic", "oracle"))
        fixed = on_fixed_tasks(study, picks, bank, model, k)
        result.setdefault(bank, {}).setdefault(model, {})[k] = {
            "all": as_json(bootstrap(bank, won, within=size)),
            "fixed": as_json(bootstrap(bank, fixed[0], within=fixed[1])) if fixed else None,
        }
    return result


def lead(picks: Picks, bank: str, model: str, k: int, name: str) -> Array:
    """[S, K, T] accuracy of a selector minus that of the first survivor."""
    accuracy = picks[bank, model, k].accuracy
    return accuracy[name] - accuracy["naive"]


def on_fixed_tasks(
    study: StudyResults, picks: Picks, bank: str, model: str, k: int
) -> tuple[Array, Array] | None:
    """The leads of critic and oracle, [K, T] each, weighted by the start's divergence at k, the same split.

    For the start itself a group's lead is weighted by the divergence of the pool's *other* groups, since luck
    in its own draws would count twice. With D and g the means of divergence and lead over G groups, and m
    that of their product, the mean over pairs of unlike groups is (G D g - m) / (G - 1).

    Returns:
        None where no split has two groups of the start, or samples of it.
    """
    found, seeds = picks[bank, model, k], study.scored_splits(bank, model, k)
    leads: dict[str, list[Array]] = {"critic": [], "oracle": []}
    for s, seed in enumerate(seeds):
        keys = [SetKey(bank, study.start, seed, r) for r in range(study.trajectories)]
        if not all(key in study.samples for key in keys):
            continue
        groups = study.samples[keys[0]].n // k
        if groups < 1 + (model == study.start):
            continue
        weight = np.array([divergence(study.samples[key], k) for key in keys])  # [K, T]
        for name, values in leads.items():
            value = lead(picks, bank, model, k, name)[s]
            product = (found.on_divergent[name] - found.on_divergent["naive"])[s]
            others = (groups * weight * value - product) / max(groups - 1, 1)
            values.append(others if model == study.start else weight * value)
    if not leads["critic"]:
        return None
    won, size = (np.mean(values, axis=0) for values in leads.values())
    return won, size


def calibrations(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """The critic's probabilities at natural prevalence: every surviving sample counts once.

    Returns:
        {bank: {model: {figure of `Calibration`: estimate, "bins": [{share, forecast, observed}]}}}; a bin's
        `observed` is an estimate, bins without samples are left out.
    """
    result: dict[str, Any] = {}
    for bank, model in sorted({key[:2] for key in study.critic_scores}):
        sums = tallies(study, bank, model)  # [K, T, 3 B + 1]

        def figures(means: Array) -> Array:
            return np.stack(calibration(unpacked(means)), axis=-1)

        drawn, forecast, observed, _ = unpacked(sums)
        total, expected = drawn.mean((0, 1)), forecast.mean((0, 1))
        result.setdefault(bank, {})[model] = {
            **keyed(Calibration._fields, bootstrap.of_means(bank, sums, figures)),
            "bins": [
                {
                    "share": total[b] / total.sum(),
                    "forecast": expected[b] / total[b],
                    "observed": as_json(bootstrap(bank, observed[..., b], within=drawn[..., b])),
                }
                for b in np.flatnonzero(total)
            ],
        }
    return result


def tallies(study: StudyResults, bank: str, model: str) -> Array:
    """[K, T, 3 B + 1] the parts of `Tally` side by side, a sample, averaged over split seeds.

    A sample: a split seed with more of them has no more weight.
    """
    rows = [
        np.mean(
            [
                np.concatenate([*parts[:3], parts[3][:, None]], axis=1) / study.samples[key].n
                for seed in study.scored_splits(bank, model)
                for key in [SetKey(bank, model, seed, r)]
                for parts in [tally(study.samples[key], study.critic_scores[key], BINS)]
            ],
            axis=0,
        )
        for r in study.trajectories_of(model)
    ]
    return np.broadcast_to(rows, (study.trajectories, *rows[0].shape))


def unpacked(sums: Array) -> Tally:
    """The parts of `tallies`."""
    drawn, forecast, observed = np.split(sums[..., :-1], 3, axis=-1)
    return Tally(drawn, forecast, observed, sums[..., -1])
