"""Gain a round: whether it shrinks, as it stands, against the headroom that was left, and in logits.

A gain shrinks by itself where little is left to gain. Beside pass@k stand therefore the share of the headroom
that a round closes, mean gain / (1 - mean pass@k before), and the change of logit(mean pass@k), for which
equal odds ratios are equal gains.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from constellation.evaluation.claims import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED, Claim, NotMeasured
from constellation.evaluation.curves import check_verdict, second_difference, task_curves
from constellation.evaluation.entries import as_json, points, signed
from constellation.evaluation.statistics import Bootstrap, wider
from constellation.evaluation.study import StudyResults

Array = NDArray[np.float64]


def deceleration(study: StudyResults, bootstrap: Bootstrap) -> Claim | NotMeasured:
    """The second round's gain minus the first round's at pass@small_k, claimed negative.

    Raises:
        UserError: small_k is beyond half the samples a task.
    """
    choice = study.analysis
    bank, k = choice.primary_bank, choice.small_k
    text = f"The second round adds less to pass@{k} than the first."
    if len(study.rounds) < 2:
        return NotMeasured(text, "the study ran fewer than two rounds of self-training")
    models = study.sequence[1:4]
    check_verdict(study, bank, models, k)
    values = second_difference(study, bank, models, k)[..., None]  # [K, T, 1]
    both = bootstrap.both(bank, values)
    estimate = wider(*both)
    levels = [task_curves(study, bank, model, [k]).mean() for model in models]
    first, second = (signed(gain) for gain in np.diff(levels))
    return Claim(
        text=text,
        directions=(-1,),
        both=both,
        values=values,
        openings={
            SUPPORTED: "Gains slow down",
            NOT_SUPPORTED: "Gains do not slow down",
            INCONCLUSIVE: "Whether gains slow down stays open",
        },
        sentence=(
            f"on the {bank} bank, pass@{k} moves by {first} points in the first round and {second} in the "
            f"second, a difference of {points(*estimate.at(0)[:3])}"
        ),
        details={"bank": bank, "models": models, "k": k},
    )


Scale = Callable[[Array], Array]
SCALES: dict[str, Scale] = {  # of mean pass@k before and after, [R, 2], to a gain, [R]
    "gain": lambda means: means[:, 1] - means[:, 0],
    "share_of_headroom": lambda means: (means[:, 1] - means[:, 0]) / (1 - means[:, 0]),
    "logit": lambda means: logit(means[:, 1]) - logit(means[:, 0]),
}


def second_difference_on(scale: Scale) -> Scale:
    """Of mean pass@k of three models in a row, [R, 3]: the second gain minus the first."""
    return lambda means: scale(means[:, 1:]) - scale(means[:, :2])


def headroom(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """Each round's gain in pass@small_k on every scale, and how it differs from that of the round before.

    Returns:
        {bank: {"rounds": [{from, to, scale: estimate}], "changes": [{models, scale: estimate}]}}.
    """
    k = study.analysis.small_k
    result: dict[str, Any] = {}
    for bank in study.tasks:
        models = study.sequence[1:]
        levels = [task_curves(study, bank, model, [k])[..., 0] for model in models]  # [K, T] each
        rounds, changes = [], []
        for i in range(1, len(models)):
            pair = np.stack(levels[i - 1 : i + 1], axis=-1)  # [K, T, 2]
            gains = {name: bootstrap.of_means(bank, pair, scale) for name, scale in SCALES.items()}
            rounds.append({"from": models[i - 1], "to": models[i]} | entries(gains))
        for i in range(2, len(models)):
            triple = np.stack(levels[i - 2 : i + 1], axis=-1)  # [K, T, 3]
            differences = {
                name: bootstrap.of_means(bank, triple, second_difference_on(scale))
                for name, scale in SCALES.items()
            }
            # as it stands, the difference is a finding or among the exploratory numbers
            changes.append(
                {"models": models[i - 2 : i + 1]} | entries(differences, tested=SCALES.keys() - {"gain"})
            )
        result[bank] = {"rounds": rounds, "changes": changes}
    return result


def entries(estimates: dict[str, Any], tested: Collection[str] = ()) -> dict[str, Any]:
    """Estimates by scale as findings.json spells them."""
    return {name: as_json(estimate, name in tested) for name, estimate in estimates.items()}
