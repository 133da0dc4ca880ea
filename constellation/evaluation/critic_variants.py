"""The critic under other circumstances: other visible examples, trained anew, on a base of its own.

*Visible examples*: what critic, majority and oracle gain over the first survivor, and the critic's share of
the room, which is the oracle's gain. The more is visible, the fewer wrong programs survive; whether that
leaves less room is read from the difference between neighbouring numbers. A program is right iff it is right
on all examples of a task, visible or not, so the accuracies at all numbers are of one kind.

*Critics*: what one that was trained otherwise gains over the first survivor, what the study's own does on the
same candidates, and the difference.

All of it is of the first trajectories, those that have the variants, under the primary split; all of it is
exploratory.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.critic_gain import group_sizes
from constellation.evaluation.entries import as_json
from constellation.evaluation.exploratory import entry
from constellation.evaluation.selectors import Columns, Selection, select
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import SetKey, StudyResults, first
from constellation.runtime.keys import host_rng
from constellation.samples import SampleSet

Array = NDArray[np.float64]
Sets = Sequence[tuple[SampleSet, Columns]]  # of each trajectory, with a critic's scores
ByK = dict[int, list[Selection]]  # k -> of each trajectory
GAINS = ("critic", "majority", "oracle")
FIXED = "critic"  # the study's own


def critic_variants(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """What the report says of them.

    Returns:
        {"trajectories", "own_visible": examples that the study shows,
         "visible": {examples shown: {k: {"naive", each of GAINS, "share", "divergent_share"}}},
         "critics": {name: {"model", "ks": {k: {"fixed" | "variant": {"gain", "share"}, "difference"}}}},
         "changes": [entries]}. An entry's models are those whose difference it is, the later one last.
    """
    keys = [key for scores in study.variant_scores.values() for key in scores]
    count = max(first(keys), *map(len, study.visible.values()), 0)
    shown: dict[str, Any] = {}
    critics: dict[str, Any] = {}
    changes: list[dict[str, Any]] = []
    if count:
        rng = host_rng(study.analysis.seed, "bootstrap", "variant trajectories")
        drawn = bootstrap.first_trajectories(count, rng)
        by_number = visible_selections(study)
        shown = {str(number): visible_table(study, drawn, found) for number, found in by_number.items()}
        changes = visible_changes(study, drawn, by_number)
        for name in study.variant_scores:
            fixed, variant = critic_selections(study, name)
            critics[name] = critic_table(study, drawn, name, fixed, variant)
            changes.append(critic_change(study, drawn, name, fixed, variant))
    return {
        "trajectories": count,
        "own_visible": own_visible(study),
        "visible": shown,
        "critics": critics,
        "changes": changes,
    }


def own_visible(study: StudyResults) -> int:
    """Examples that the study shows of every task."""
    return len(study.tasks[study.analysis.primary_bank][0].visible)


def visible_selections(study: StudyResults) -> dict[int, ByK]:
    """Examples shown -> selection at every k that all pools can fill; the study's own number among them."""
    if not study.visible:
        return {}
    bank, seed = study.analysis.primary_bank, study.primary_split
    count = len(next(iter(study.visible.values())))
    own = study_sets(study, [SetKey(bank, study.selection_model, seed, r) for r in range(count)])
    sets = {**study.visible, own_visible(study): own}
    ks = group_sizes(study, (samples.n for pools in sets.values() for samples, _ in pools))
    return {number: selections(sets[number], ks) for number in sorted(sets)}


def critic_selections(study: StudyResults, name: str) -> tuple[ByK, ByK]:
    """Selection by the study's own critic and by the one of that name, on the same candidates."""
    scores = study.variant_scores[name]
    fixed = study_sets(study, sorted(scores))
    variant = [(study.samples[key], {"critic": scores[key]}) for key in sorted(scores)]
    ks = group_sizes(study, (samples.n for samples, _ in fixed))
    return selections(fixed, ks), selections(variant, ks)


def study_sets(study: StudyResults, keys: Iterable[SetKey]) -> Sets:
    """Sets of the study with the scores of its own critic."""
    return [(study.samples[key], {"critic": study.critic_scores[key]}) for key in keys]


def selections(sets: Sets, ks: Iterable[int]) -> ByK:
    """What the selectors that read no more than a critic's scores pick at every k."""
    return {k: [select(samples, k, columns) for samples, columns in sets] for k in ks}


def gains(found: Sequence[Selection], selector: str) -> Array:
    """[K, T] accuracy of a selector minus that of the first survivor."""
    return np.stack([own.gain(selector) for own in found])


def share(bootstrap: Bootstrap, bank: str, found: Sequence[Selection]) -> dict[str, Any]:
    """What part of the room the critic wins: a ratio of means."""
    return as_json(bootstrap(bank, gains(found, "critic"), within=gains(found, "oracle")))


def visible_table(study: StudyResults, bootstrap: Bootstrap, found: ByK) -> dict[int, Any]:
    """At one number of visible examples: the first survivor, the gains over it, the critic's share."""
    bank = study.analysis.primary_bank
    return {
        k: {
            "naive": as_json(bootstrap(bank, np.stack([one.accuracy["naive"] for one in own]))),
            **{name: as_json(bootstrap(bank, gains(own, name)), name != "oracle") for name in GAINS},
            "share": share(bootstrap, bank, own),
            "divergent_share": np.mean([one.divergent for one in own]),
        }
        for k, own in found.items()
    }


def visible_changes(study: StudyResults, bootstrap: Bootstrap, found: dict[int, ByK]) -> list[dict[str, Any]]:
    """Every gain's change at small_k from each number of visible examples to the next, and over all."""
    bank, k, numbers = study.analysis.primary_bank, study.analysis.small_k, list(found)
    pairs = [*itertools.pairwise(numbers), *([(numbers[0], numbers[-1])] if len(numbers) > 2 else [])]
    return [
        entry(f"{name} minus first survivor", bank, tuple(f"{v} visible" for v in pair), k, estimate)
        for pair in pairs
        for name in GAINS
        for before, after in [[gains(found[number][k], name) for number in pair]]
        for estimate in [bootstrap(bank, after - before)]
    ]


def critic_table(
    study: StudyResults, bootstrap: Bootstrap, name: str, fixed: ByK, variant: ByK
) -> dict[str, Any]:
    """Both critics on the candidates that they share."""
    bank, model = next(iter(study.variant_scores[name]))[:2]
    return {
        "bank": bank,
        "model": model,
        "ks": {
            k: {
                **{
                    label: {
                        "gain": as_json(bootstrap(bank, gains(own[k], "critic")), label == "variant"),
                        "share": share(bootstrap, bank, own[k]),
                    }
                    for label, own in (("fixed", fixed), ("variant", variant))
                },
                "difference": as_json(bootstrap(bank, difference(fixed[k], variant[k]))),
            }
            for k in fixed
        },
    }


def critic_change(
    study: StudyResults, bootstrap: Bootstrap, name: str, fixed: ByK, variant: ByK
) -> dict[str, Any]:
    """What it gains at small_k beyond the study's own."""
    bank, k = next(iter(study.variant_scores[name])).bank, study.analysis.small_k
    estimate = bootstrap(bank, difference(fixed[k], variant[k]))
    return entry("critic minus first survivor", bank, (FIXED, name), k, estimate)


def difference(fixed: Sequence[Selection], variant: Sequence[Selection]) -> Array:
    """[K, T] accuracy of the variant's picks minus that of the fixed critic's."""
    return gains(variant, "critic") - gains(fixed, "critic")
