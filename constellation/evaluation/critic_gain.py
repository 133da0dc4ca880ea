"""What a selector is worth, and the claim that the critic is worth more than the first survivor.

Selectors are read where critic scores exist: for these (bank, model) pairs over all their split seeds, six in
the study, and averaged within a task first. At a large k the seeds with fewer candidates drop out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.claims import Claim, NotMeasured
from constellation.evaluation.entries import as_json, keyed, points
from constellation.evaluation.selectors import Selection, combined, divergence, select
from constellation.evaluation.statistics import Bootstrap, wider
from constellation.evaluation.study import SetKey, StudyResults
from constellation.samples import SampleSet

Array = NDArray[np.float64]

ACCURACY = "accuracy of the pick"
GAIN = "gain over the first survivor"
LEAD = "difference between two selectors"
ROOM = "share of the room"
DIVERGENT = "divergent tasks"

Picks = Mapping[tuple[str, str, int], Selection]  # (bank, model, k) -> [S, K, T] of S split seeds


def picks(study: StudyResults) -> Picks:
    """(bank, model, k) -> what the selectors pick, wherever critic scores exist."""
    pairs = sorted({key[:2] for key in study.critic_scores})
    return {
        (bank, model, k): picked(study, bank, model, k)
        for bank, model in pairs
        for most in [max(study.samples[key].n for key in study.critic_scores if key[:2] == (bank, model))]
        for k in group_sizes(study, [most])
    }


def picked(study: StudyResults, bank: str, model: str, k: int) -> Selection:
    """Every selector on every group of k, [S, K, T], under the split seeds with so many candidates."""
    seeds = study.scored_splits(bank, model, k) or study.scored_splits(bank, model)  # `cut` refuses these

    def of_trajectories(arrays: Sequence[Array]) -> Array:  # of the base all have the same
        return np.broadcast_to(arrays, (study.trajectories, len(arrays[0])))

    keys = [[SetKey(bank, model, seed, r) for r in study.trajectories_of(model)] for seed in seeds]
    found = [[select(study.samples[key], k, study.columns(key)) for key in row] for row in keys]
    return combined([combined(row, of_trajectories) for row in found])


def group_sizes(study: StudyResults, pools: Iterable[int]) -> list[int]:
    """The k of selection that all of these pools can fill; small_k always, for the claim rests on it."""
    smallest, choice = min(pools), study.analysis
    return sorted({choice.small_k, *(k for k in choice.selection_ks if k <= smallest)})


def critic_gain(study: StudyResults, bootstrap: Bootstrap, picks: Picks) -> Claim | NotMeasured:
    """Accuracy of the critic's pick minus that of the first survivor at small_k, claimed positive."""
    bank, model, k = study.analysis.primary_bank, study.selection_model, study.analysis.small_k
    text = "The critic picks better than the first surviving candidate."
    if (bank, model, k) not in picks:
        return NotMeasured(text, f"no critic scored the candidates of {model} on the {bank} bank")
    found = picks[bank, model, k]
    gains = found.accuracy["critic"] - found.accuracy["naive"]  # [S, K, T]
    values = gains.mean(0)[..., None]  # [K, T, 1]
    both = bootstrap.both(bank, values)
    estimate = wider(*both)
    seeds = study.scored_splits(bank, model, k)
    per_split = dict(zip(seeds, gains.mean((1, 2)), strict=True))
    positive = sum(gain > 0 for gain in per_split.values())
    on_divergent = found.on_divergent["critic"] - found.on_divergent["naive"]
    return Claim(
        text=text,
        directions=(+1,),
        both=both,
        values=values,
        openings=("The critic helps", "The critic does not help", "Whether the critic helps stays open"),
        sentence=(
            f"with {k} candidates on the {bank} bank, its pick gains {points(*estimate.at(0)[:3])} points "
            f"over the first survivor, ahead on {positive} of {len(seeds)} split seeds"
        ),
        details={
            "bank": bank,
            "model": model,
            "k": k,
            "per_split": per_split,
            "positive_splits": positive,
            "divergent_share": found.divergent.mean(),
            "on_divergent": as_json(bootstrap(bank, on_divergent.mean(0), within=found.divergent.mean(0))),
        },
    )


def selection(bootstrap: Bootstrap, picks: Picks) -> dict[str, Any]:
    """Every selector, overall and on divergent groups: {bank: {model: {k: ...}}}."""
    result: dict[str, Any] = {}
    for (bank, model, k), found in picks.items():
        names = list(found.accuracy)
        accuracy = np.stack([found.accuracy[name].mean(0) for name in names], axis=-1)  # [K, T, selectors]
        on_divergent = np.stack([found.on_divergent[name].mean(0) for name in names], axis=-1)
        parts = {
            "overall": bootstrap(bank, accuracy),
            "gain": bootstrap(bank, accuracy - accuracy[..., [names.index("naive")]]),
            "on_divergent": bootstrap(bank, on_divergent, within=found.divergent.mean(0)),
        }
        columns = {part: keyed(names, estimate) for part, estimate in parts.items()}
        result.setdefault(bank, {}).setdefault(model, {})[k] = {
            "divergent_share": found.divergent.mean(),
            "selectors": {name: {part: column[name] for part, column in columns.items()} for name in names},
        }
    return result


def divergences(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """Share of k-groups whose survivors disagree on a held-out input: {bank: {model: {k: estimate}}}."""
    result: dict[str, Any] = {}
    for bank in study.tasks:
        result[bank] = {}
        for model in study.models:
            n = study.pool_size(bank, model)
            ks = [k for k in study.analysis.selection_ks if k <= n]

            def share(samples: SampleSet, ks: list[int] = ks) -> Array:
                return np.stack([divergence(samples, k) for k in ks], axis=1)  # [T, len(ks)]

            result[bank][model] = keyed(ks, bootstrap(bank, study.per_task(bank, model, share))) if ks else {}
    return result
