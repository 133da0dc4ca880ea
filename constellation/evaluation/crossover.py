"""Where the curves cross: D(k) = pass@k(round) - pass@k(start), and the k at which it changes sign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from constellation.evaluation import drawing
from constellation.evaluation.claims import Claim, NotMeasured
from constellation.evaluation.curves import change, check_verdict, curve_ks, verdict_ks
from constellation.evaluation.entries import Entries, Entry, entries, points
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.statistics import Bootstrap, wider
from constellation.evaluation.study import StudyResults

Array = NDArray[np.float64]
CHANGE = "change of pass@k"
NULL_CHANGE = "null of the change of pass@k"  # of rows of the question `null`


def crossover(study: StudyResults, bootstrap: Bootstrap) -> Claim | NotMeasured:
    """Change from the start to the last round: claimed positive at small_k and negative at large_k.

    A large_k beyond half the samples a task is refused.
    """
    ks, bank, models = study.deciding_ks, study.analysis.primary_bank, study.first_and_last
    if not study.rounds:
        return NotMeasured(claim_text(ks), "the study ran no round of self-training")
    check_verdict(study, bank, models, ks[1])
    return crossing_claim(bootstrap, bank, models, ks, change(study, bank, models[1], ks))


def claim_text(ks: Sequence[int]) -> str:
    """The claim of a crossover between these two k."""
    return f"Self-training raises pass@{ks[0]} and lowers pass@{ks[1]}: the curves cross."


def crossing_claim(
    bootstrap: Bootstrap,
    bank: str,
    models: tuple[str, str],
    ks: Sequence[int],
    values: Array,
    where: str = "",
) -> Claim:
    """The claim that of two changes of pass@k, values [K, T, 2], the first lies above 0, the second below."""
    both = bootstrap.both(bank, values)
    small, large = (points(*wider(*both).at(i)[:3]) for i in (0, 1))
    return Claim(
        text=claim_text(ks),
        directions=(+1, -1),
        both=both,
        values=values,
        openings=(
            "The curves cross",
            "The curves do not cross as claimed",
            "Whether the curves cross stays open",
        ),
        sentence=(
            f"from {models[0]} to {models[1]} on the {bank} bank{where}, pass@{ks[0]} changes by {small} "
            f"points and pass@{ks[1]} by {large}"
        ),
        details={"bank": bank, "models": models, "ks": ks},
    )


def changes_and_crossings(study: StudyResults, part: None, bootstrap: Bootstrap) -> Answer:
    """D(k) of every round and arm on every bank, and the last round's K*."""
    compared = [(bank, model) for bank in study.tasks for model in (*study.rounds, *study.arms)]
    rows = [row for bank, model in compared for row in changes(study, bootstrap, bank, model)]
    banks = study.tasks if study.rounds else ()
    return Answer(rows, {"crossing": {bank: crossing(study, bootstrap, bank) for bank in banks}})


def changes(study: StudyResults, bootstrap: Bootstrap, bank: str, model: str) -> list[Entry]:
    """D(k) of a round or arm; tested up to n/2 at powers of two and the deciding k, except the finding's."""
    allowed = verdict_ks(study, bank, study.start, model)
    tested = {*study.deciding_ks, *(2**i for i in range(len(allowed).bit_length()))} & set(allowed)
    if (bank, model) == (study.analysis.primary_bank, study.sequence[-1]):
        tested -= set(study.deciding_ks)
    ks = sorted(tested.union(curve_ks(study, bank, study.start, model)))
    values = change(study, bank, model, ks)
    estimate, each = bootstrap(bank, values), values.mean(1)
    return entries(CHANGE, bank, (study.start, model), ks, estimate, tested=tested, by_trajectory=each)


def crossing(study: StudyResults, bootstrap: Bootstrap, bank: str) -> dict[str, Any]:
    """K* of the last round with its interval; None stands for a K*, or an end, that is censored.

    Ends of the interval are quantiles over the resamples, in the order "never ahead" < every K* < "never
    behind", so that a censored replicate counts at its end of the scale. There is no t interval, because a
    censored K* has no mean.
    """
    ks = verdict_ks(study, bank, *study.first_and_last)
    values = change(study, bank, study.rounds[-1], ks)  # [K, T, n/2]
    at = float(first_behind(values.mean((0, 1))))
    each = first_behind(values.mean(1))  # [K]
    replicates = first_behind(bootstrap.draws(bank, values))  # [R]
    ends = [(1 - bootstrap.level) / 2, (1 + bootstrap.level) / 2]
    low, high = np.quantile(replicates, ends, method="inverted_cdf")
    return {
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


def first_behind(difference: Array) -> Array:
    """[...] K*: the first k from which on D(k), [..., n/2], stays below 0, after having been above.

    Infinite where D is not below 0 at the end, 0 where it is but was never above. Both are censored: within
    1..n/2 there is no such change of sign.
    """
    behind = difference < 0
    tail = np.logical_and.accumulate(behind[..., ::-1], axis=-1).sum(-1)  # how long it has been behind
    first = np.where(tail == 0, np.inf, difference.shape[-1] - tail + 1)
    return np.where((tail > 0) & ~(difference > 0).any(-1), 0, first)


def crossed(k: float) -> int | None:
    """K*, or None where it is censored."""
    return int(k) if 0 < k < np.inf else None


def sentence(at: float, low: float, high: float, limit: int) -> str:
    """K* with its interval in words: "23 [12, beyond 64]"."""

    def end(k: float) -> str:
        return "below 1" if k == 0 else f"beyond {limit}" if np.isinf(k) else f"{k:.0f}"

    none = {0.0: "no crossing, never ahead", np.inf: f"no crossing, not behind at k = {limit}"}
    return f"{none.get(at, end(at))} [{end(low)}, {end(high)}]"


def change_at_k(results: Results) -> Figure | None:
    """D(k) of every round and arm, which is ahead of the start above 0.

    Dotted curves are the null: that of halvings in each round's colour where there is a doubled pool, and
    elsewhere that of another warm start.
    """
    study, rows = results.study, results.entries.where(quantity=CHANGE)
    if not rows:
        return None
    pairs = {model: (study.start, model) for model in study.models[2:]}
    paints = {model: drawing.colour(study, model) for model in pairs}
    figure, axes = drawing.curves_by_bank(
        [
            drawing.Curve(rows.where(models=pair), paints[model], f"{model} \N{MINUS SIGN} {study.start}")
            for model, pair in pairs.items()
        ],
        "change of pass@k, points",
        height=3.0,
    )
    for bank, ax in axes.items():
        drawing.zero_line(ax)
        nulls = results.entries.where(quantity=NULL_CHANGE, bank=bank)
        halvings, restarted = nulls.where(of="halvings"), nulls.where(of="another warm start")
        for model in study.rounds:
            drawing.null_curve(ax, halvings.where(models=pairs[model]), paints[model])
        if not halvings:
            ks = rows.where(bank=bank).values("k")
            drawing.null_curve(ax, Entries(row for row in restarted if row.k in ks))
        drawing.mark(ax, *study.deciding_ks)
    return figure


QUESTION = Question(
    name="crossover",
    title="Where the curves cross",
    answer=changes_and_crossings,
    figures={"change_at_k": change_at_k},
    always=True,
)
