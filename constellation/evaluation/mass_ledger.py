"""The mass ledger: where training moves probability, program by program.

One fixed set of programs, a trajectory's known generalising ones (`reach`), is looked up under every model.
Sampling plays no part: the same programs, exact probabilities. What a class of programs gains from one model
to the next, another or the wrong answers have lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.entries import keyed
from constellation.evaluation.known import KnownPrograms, generalising
from constellation.evaluation.reach import Known, log_mass, pool, reach
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import StudyResults


def mass_ledger(study: StudyResults, bootstrap: Bootstrap, known: Known) -> dict[str, Any]:
    """Of each class its mass under every model, and what that mass would solve in reach_at samples.

    A mass is the mean over tasks of the probability that an answer is a known program of the class, and its
    *reach* the mean of 1 - (1 - m)^B, far beyond the largest k of the samples.

    Returns:
        {class: {"programs" a task, "mass" | "reach": {model: estimate}, "change" | "reach_change" from the
        start: {model: estimate}}}.
    """
    programs, tasks = known.programs, len(study.tasks[known.programs.bank])
    result: dict[str, Any] = {}
    for name, own in classes(study, programs, known.own, range(study.trajectories)).items():
        log_masses = {model: log_mass(programs, own, model, tasks) for model in programs.models}  # [K, T]
        values = {
            model: np.stack([np.exp(m), reach(m, [study.analysis.reach_at])[..., 0]], axis=-1)
            for model, m in log_masses.items()
        }  # [K, T, 2]
        result[name] = {"programs": own.sum(1).mean() / tasks, "change": {}, "reach_change": {}}
        for model, value in values.items():
            of_both = keyed(("mass", "reach"), bootstrap(programs.bank, value))
            if model not in (study.base, study.start):
                changed = bootstrap(programs.bank, value - values[study.start])
                of_both |= keyed(("change", "reach_change"), changed, tested=True)
            for part, entry in of_both.items():
                result[name].setdefault(part, {})[model] = entry
    return result


def classes(
    study: StudyResults, programs: KnownPrograms, own: NDArray[np.bool_], starts: Sequence[int]
) -> dict[str, NDArray[np.bool_]]:
    """All of the known programs and their named parts, [N, D] bool each, without empty parts.

    By the parts a program concatenates, by withheld class, the secret program against others, and by whether
    the start's samples show it. Of the last two kinds, "not in the samples" are by selection programs that
    the start finds improbable: that a round finds them likelier is no surprise, that the *mass* does tells.

    Args:
        own: [N, D] those that are asked for.
        starts: [N] the trajectory of which each has the start's samples.
    """
    masks = {"all": np.ones_like(programs.secret)}
    for atoms in np.unique(programs.atoms):
        masks[f"{atoms} atom{'s' if atoms > 1 else ''}"] = programs.atoms == atoms
    for name in sorted({name for names in programs.structures for name in names}):
        masks[f"withheld: {name}"] = np.array([name in names for names in programs.structures])
    masks["no withheld class"] = np.array([not names for names in programs.structures])
    masks["secret program"] = programs.secret
    masks["other programs"] = ~programs.secret
    parts = {name: own & mask for name, mask in masks.items()}
    keys = list(zip(programs.task.tolist(), programs.text.tolist(), strict=True))
    seen = [
        generalising(pool(study, programs, study.start, k), programs.samples)
        for k in range(study.trajectories)
    ]
    inside = np.array([[key in own_samples for key in keys] for own_samples in seen])[list(starts)]
    parts[f"in {study.start}'s samples"] = own & inside
    parts[f"not in {study.start}'s samples"] = own & ~inside
    return {name: part for name, part in parts.items() if name == "all" or part.any()}
