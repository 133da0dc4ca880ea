"""Where the curves cross: D(k) = pass@k(round) - pass@k(start), and the k at which it changes sign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.claims import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED, Claim, NotMeasured
from constellation.evaluation.curves import change, check_verdict, verdict_ks
from constellation.evaluation.entries import points
from constellation.evaluation.statistics import Bootstrap, wider
from constellation.evaluation.study import StudyResults

Array = NDArray[np.float64]


def crossover(study: StudyResults, bootstrap: Bootstrap) -> Claim | NotMeasured:
    """Change from the start to the last round: claimed positive at small_k and negative at large_k.

    Raises:
        UserError: large_k is beyond half the samples a task.
    """
    choice = study.analysis
    ks = [choice.small_k, choice.large_k]
    if not study.rounds:
        text = f"Self-training raises pass@{ks[0]} and lowers pass@{ks[1]}: the curves cross."
        return NotMeasured(text, "the study ran no round of self-training")
    bank, models = choice.primary_bank, (study.start, study.rounds[-1])
    check_verdict(study, bank, models, choice.large_k)
    return crossing_claim(bootstrap, bank, models, ks, change(study, bank, models[1], ks))


def crossing_claim(
    bootstrap: Bootstrap,
    bank: str,
    models: tuple[str, str],
    ks: Sequence[int],
    values: Array,
    where: str = "",
) -> Claim:
    """That the first of two changes of pass@k, values [K, T, 2], lies above 0 and the second below."""
    both = bootstrap.both(bank, values)
    estimate = wider(*both)
    small, large = (points(*estimate.at(i)[:3]) for i in (0, 1))
    return Claim(
        text=f"Self-training raises pass@{ks[0]} and lowers pass@{ks[1]}: the curves cross.",
        directions=(+1, -1),
        both=both,
        values=values,
        openings={
            SUPPORTED: "The curves cross",
            NOT_SUPPORTED: "The curves do not cross as claimed",
            INCONCLUSIVE: "Whether the curves cross stays open",
        },
        sentence=(
            f"from {models[0]} to {models[1]} on the {bank} bank{where}, pass@{ks[0]} changes by {small} "
            f"points and pass@{ks[1]} by {large}"
        ),
        details={"bank": bank, "models": models, "ks": ks},
    )


def crossings(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """K* of the last round on each bank; None, for one that is not there or an end among the censored.

    Ends of the interval are quantiles over the resamples, with no t interval beside them (a censored K* has
    no mean), in the order of "never ahead" < every K* < "never behind": a censored replicate counts at its
    end of the scale.
    """
    result: dict[str, Any] = {}
    for bank in study.tasks if study.rounds else ():
        ks = verdict_ks(study, bank, study.start, study.rounds[-1])
        values = change(study, bank, study.rounds[-1], ks)  # [K, T, n/2]
        at = float(first_behind(values.mean((0, 1))))
        each = first_behind(values.mean(1))  # [K]
        replicates = first_behind(bootstrap.draws(bank, values))  # [R]
        ends = [(1 - bootstrap.level) / 2, (1 + bootstrap.level) / 2]
        low, high = np.quantile(replicates, ends, method="inverted_cdf")
        result[bank] = {
            "limit": len(ks),
            "crossing": crossed(at),
            "by_trajectory": [crossed(value) for value in each],
            "interval": [crossed(low), crossed(high)],
            "replicates": len(replicates),
            "never_ahead": (replicates == 0).sum(),
            "never_behind": np.isinf(replicates).sum(),
            "trajectories_never_ahead": (each == 0).sum(),
            "trajectories_never_behind": np.isinf(each).sum(),
            "sentence": sentence(at, low, high, len(ks)),
        }
    return result


def first_behind(difference: Array) -> Array:
    """K*: the first k from which on a curve of differences stays below 0, after having been above.

    Args:
        difference: [..., n/2], D(k) for k = 1..n/2.

    Returns:
        [...] float64; infinite where D is not below 0 at the end, 0 where it is but was never above. Both
        are censored: within 1..n/2 there is no such change of sign.
    """
    behind = difference < 0
    tail = np.logical_and.accumulate(behind[..., ::-1], axis=-1).sum(-1)  # how long it has been behind
    first = np.where(tail == 0, np.inf, difference.shape[-1] - tail + 1)
    return np.where((tail > 0) & ~(difference > 0).any(-1), 0, first)


def crossed(k: float) -> int | None:
    """K* where there is one."""
    return int(k) if 0 < k < np.inf else None


def sentence(at: float, low: float, high: float, limit: int) -> str:
    """K* with its interval in words: "23 [12, beyond 64]"."""

    def end(k: float) -> str:
        return "below 1" if k == 0 else f"beyond {limit}" if np.isinf(k) else f"{k:.0f}"

    none = {0.0: "no crossing, never ahead", np.inf: f"no crossing, not behind at k = {limit}"}
    return f"{none.get(at, end(at))} [{end(low)}, {end(high)}]"
