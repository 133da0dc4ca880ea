"""What the temperature of sampling does to the findings, and how much of a round it can imitate.

Sharpening a distribution raises what is likely and lowers what is not, and raising the temperature undoes it:
a sampler of categories p that is sharpened to p^(1/t) / Z gives p back at temperature 1/t times as high. A
round that lost pass@large_k might have lost programs or might only write them less often. Four readings, all
on the primary bank, in the first trajectories, and exploratory:

- the crossover at each temperature, both models at the same one;
- D(k) with each model at its own best temperature for that k, which is chosen on tuning tasks, for k up to
  their samples;
- the *sharpening* reading at large_k (`reading`);
- the *matched* start, sampled where its pass@1 is that of the last round. The temperature is found on tuning
  tasks and is one for all trajectories; intervals do not cover how well it was found. Of the round's change
  from the start, sharpening reproduces the matched start's change, and not the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.claims import verdict
from constellation.evaluation.curves import change
from constellation.evaluation.entries import as_json, keyed, points
from constellation.evaluation.null import divide, doubled
from constellation.evaluation.pass_at_k import pass_at_k
from constellation.evaluation.statistics import Bootstrap, Estimate
from constellation.evaluation.study import AnalysisConfig, SetKey, StudyResults, first
from constellation.evaluation.tempered import Tempered, pooled_curves, solved_by_one
from constellation.runtime.errors import UserError
from constellation.runtime.keys import host_rng

Array = NDArray[np.float64]
SHARPENED, LOST, KEPT, UNCLEAR = "sharpened", "lost", "kept", "unclear"


def temperature(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """All readings; empty where the study has no samples at other temperatures.

    Returns:
        {"bank", "models": (start, last round), "own", "trajectories", "samples", "tasks" (of tuning),
        "crossover": {temperature: {"verdict", "p" (one-sided), "change_at_k": {k: D(k)}}},
        "best": {k: {"temperature": {model: ...}, "pass_at_k": {model: ...}, "change": D(k)}},
        "sharpening": {"verdict", "sentence", "from_start": {temperature: {k: the last round there minus the
        start at its own}}}, "matched": {"temperature", "clipped", "pass_at_1" (on tuning tasks): {model:
        {temperature: ...}}, "sharpening": {k: matched start minus start}, "rest": {k: last round minus
        matched start}}}.

    Raises:
        UserError: large_k is beyond half the samples a task.
    """
    tempered, choice = study.tempered, study.analysis
    if tempered is None:
        return {}
    ks = range(1, tempered.samples // 2 + 1)
    if choice.large_k not in ks:
        raise UserError(
            f"a verdict on pass@{choice.large_k} needs at least {2 * choice.large_k} samples a task, there "
            f"are {tempered.samples} at each temperature: raise temperatures.samples or lower large_k"
        )
    bank, start, last = choice.primary_bank, study.start, study.rounds[-1]
    drawn = few(study, tempered, bootstrap)
    reference = curves(study, tempered, start, tempered.own, ks)
    matched = curves(study, tempered, start, tempered.match.temperature, ks)
    return {
        "bank": bank,
        "models": (start, last),
        "own": f"{tempered.own:g}",
        "trajectories": tempered.trajectories,
        "samples": tempered.samples,
        "tasks": len(tempered.tuning[start, tempered.own][0].task_ids),
        "crossover": {
            f"{value:g}": crossover(drawn(bank, both(study, tempered, value, ks)), ks, choice)
            for value in tempered.values
        },
        "best": {
            k: best(study, tempered, drawn, k, chosen) for k, chosen in choices(study, tempered).items()
        },
        "sharpening": sharpening(study, tempered, bootstrap, drawn, ks, reference),
        "matched": {
            **tempered.match._asdict(),
            "pass_at_1": {
                model: {f"{t:g}": share for t, share in solved_by_one(tempered.tuning, model).items()}
                for model in (start, last)
            },
            "sharpening": keyed(ks, drawn(bank, matched - reference)),
            "rest": keyed(ks, drawn(bank, curves(study, tempered, last, tempered.own, ks) - matched)),
        },
    }


def few(study: StudyResults, tempered: Tempered, bootstrap: Bootstrap) -> Bootstrap:
    """The resamples of the trajectories that were sampled at other temperatures."""
    rng = host_rng(study.analysis.seed, "bootstrap", "temperature trajectories")
    return bootstrap.of_first(tempered.trajectories, rng)


def curves(study: StudyResults, tempered: Tempered, model: str, value: float, ks: Sequence[int]) -> Array:
    """[R, T, len(ks)] a model's pass@k at a temperature on the primary bank."""
    if value == tempered.own:
        key = SetKey(study.analysis.primary_bank, model, study.primary_split)
        sets = [study.samples[key._replace(trajectory=r)] for r in range(tempered.trajectories)]
    else:
        sets = list(tempered.evaluated[model, value])
    return pooled_curves(sets, ks)


def both(study: StudyResults, tempered: Tempered, value: float, ks: Sequence[int]) -> Array:
    """[R, T, len(ks)] D(k), both models at one temperature."""
    after = curves(study, tempered, study.rounds[-1], value, ks)
    return after - curves(study, tempered, study.start, value, ks)


def crossover(changed: Estimate, ks: range, choice: AnalysisConfig) -> dict[str, Any]:
    """Whether D(small_k) > 0 > D(large_k), judged as the finding is, but for the correction; and D(k)."""
    of_both = Estimate(*(part[[ks.index(choice.small_k), ks.index(choice.large_k)]] for part in changed))
    p = float(max(of_both.p_above[0], of_both.p_below[1]))
    return {"verdict": verdict(of_both, (+1, -1), p, choice), "p": p, "change_at_k": keyed(ks, changed)}


def choices(study: StudyResults, tempered: Tempered) -> dict[int, dict[str, float]]:
    """k -> model -> the value at which k samples solve most tuning tasks; k = 1, 2, 4, ...

    As far as there are so many samples of a tuning task, and twice as many of one of the bank.

    To choose needs an unbiased estimate alone; what is then compared has other tasks, and twice k samples.
    """
    models = (study.start, study.rounds[-1])
    n = min(own.n for sets in tempered.tuning.values() for own in sets)
    most = min(n, tempered.samples // 2)
    ks = [2**i for i in range(most.bit_length())]
    solved = {
        model: [pooled_curves(tempered.tuning[model, value], ks).mean((0, 1)) for value in tempered.values]
        for model in models
    }
    return {
        k: {model: tempered.values[int(np.argmax([curve[i] for curve in solved[model]]))] for model in models}
        for i, k in enumerate(ks)
    }


def at_best(study: StudyResults, tempered: Tempered, k: int, chosen: dict[str, float]) -> Array:
    """[R, T, 2] pass@k of the start and of the last round, each at its chosen temperature."""
    return np.concatenate(
        [curves(study, tempered, model, chosen[model], [k]) for model in (study.start, study.rounds[-1])], -1
    )


def best(
    study: StudyResults, tempered: Tempered, bootstrap: Bootstrap, k: int, chosen: dict[str, float]
) -> dict[str, Any]:
    """Both models at their chosen temperatures, and their difference."""
    bank, values = study.analysis.primary_bank, at_best(study, tempered, k, chosen)
    return {
        "temperature": chosen,
        "pass_at_k": keyed(chosen, bootstrap(bank, values)),
        "change": as_json(bootstrap(bank, values[..., 1] - values[..., 0])),
    }


def sharpening(
    study: StudyResults,
    tempered: Tempered,
    bootstrap: Bootstrap,
    drawn: Bootstrap,
    ks: range,
    reference: Array,
) -> dict[str, Any]:
    """The last round at the study's temperature and higher ones, against the start at the study's.

    At the study's own, D(k) as the findings have it, of all trajectories and split seeds.

    Args:
        bootstrap, drawn: of all trajectories, and of those with other temperatures.
        ks, reference: the start's [R, T, len(ks)] pass@k at the study's temperature.
    """
    choice, last = study.analysis, study.rounds[-1]
    bank, k, at = choice.primary_bank, choice.large_k, ks.index(choice.large_k)
    found = {tempered.own: bootstrap(bank, change(study, bank, last, ks))} | {
        value: drawn(bank, curves(study, tempered, last, value, ks) - reference)
        for value in tempered.values
        if value > tempered.own
    }
    large = {value: estimate.at(at) for value, estimate in found.items()}
    measured = ", ".join(
        f"{points(*estimate[:3])} points at temperature {value:g}" for value, estimate in large.items()
    )
    own, *higher = large.values()
    against = f"{study.start} at temperature {tempered.own:g}"
    return {
        "verdict": reading(own, higher, choice),
        "sentence": f"pass@{k} of {last} minus that of {against}: {measured}.",
        "from_start": {f"{value:g}": keyed(ks, estimate) for value, estimate in found.items()},
        "null": null_readings(study, tempered, bootstrap),
    }


def null_readings(study: StudyResults, tempered: Tempered, bootstrap: Bootstrap) -> dict[str, Any]:
    """How often each reading is given of a start that stands for its own round, with nothing learned.

    At the study's temperature two random halves of its doubled pool stand for start and round (see `null`),
    at the higher ones its samples there for the round's; in the trajectories that have both.

    Returns:
        {"trajectories", "rates": {reading: share}}; empty without a doubled pool.
    """
    choice, start = study.analysis, study.start
    bank, k = choice.primary_bank, choice.large_k
    count = min(tempered.trajectories, first(key for key in study.null_pools if key.bank == bank))
    if not count:
        return {}
    correct, total, n = doubled(study, bank, count)
    rng = host_rng(choice.seed, "null", bank, "temperature")
    halves = divide(correct, total, [n, n], choice.halvings, rng)  # [2, S, K, T]
    before, after = np.moveaxis(pass_at_k(n, halves, k), 1, 3)  # [K, T, S] each
    drawn = bootstrap.of_first(count, host_rng(choice.seed, "bootstrap", "null temperature trajectories"))
    own = drawn(bank, after - before)
    higher = [
        drawn(bank, curves(study, tempered, start, value, [k])[:count] - before)
        for value in tempered.values
        if value > tempered.own
    ]
    readings = [reading(own.at(s), [one.at(s) for one in higher], choice) for s in range(choice.halvings)]
    return {
        "trajectories": count,
        "rates": {name: readings.count(name) / len(readings) for name in (SHARPENED, LOST, KEPT, UNCLEAR)},
    }


def reading(own: Estimate, higher: Sequence[Estimate], choice: AnalysisConfig) -> str:
    """What became of the start's pass@large_k in the last round.

    The round is *below* the start where the one-sided p of a difference below 0 is at most 1 - level, and *no
    lower* where the estimate is at least 0 or its one-sided lower bound above -margin. In this order:
    "sharpened" if it is below at the study's temperature and no lower at a higher one; "lost" if it is below
    at all of them; "kept" if it is no lower at the study's temperature; else "unclear".

    Args:
        own: the last round's pass@large_k minus the start's, both at the study's temperature, where all
            trajectories and split seeds tell.
        higher: the last round at each higher temperature minus the start at the study's.
    """

    def below(estimate: Estimate) -> bool:
        return bool(estimate.p_below <= 1 - choice.level)

    def no_lower(estimate: Estimate) -> bool:
        return bool(estimate.value >= 0 or estimate.lower > -choice.margin)

    if below(own):
        if any(map(no_lower, higher)):
            return SHARPENED
        return LOST if all(map(below, higher)) else UNCLEAR
    return KEPT if no_lower(own) else UNCLEAR


def temperature_tests(
    study: StudyResults, tempered: Tempered
) -> Iterator[tuple[str, tuple[str, str], Sequence[int], Array]]:
    """(quantity, models, ks, [R, T, len(ks)] values) of all that is tested here, none of it primary."""
    choice, start, last = study.analysis, study.start, study.rounds[-1]
    ks, own = sorted({1, choice.small_k, choice.large_k}), tempered.own
    for value in tempered.values:
        if value != own:
            name = f"change of pass@k, both at temperature {value:g}"
            yield name, (start, last), ks, both(study, tempered, value, ks)
    reference = curves(study, tempered, start, own, ks)
    for value in tempered.values:
        if value > own:
            name = f"change of pass@k from temperature {own:g} to {value:g}"
            yield name, (start, last), ks, curves(study, tempered, last, value, ks) - reference
    for k, chosen in choices(study, tempered).items():
        pair = at_best(study, tempered, k, chosen)
        name = "change of pass@k, each at its best temperature"
        yield name, (start, last), (k,), pair[..., 1:] - pair[..., :1]
    matched = curves(study, tempered, start, tempered.match.temperature, ks)
    rest = curves(study, tempered, last, own, ks) - matched
    yield "change of pass@k beyond that of the matched temperature", (start, last), ks, rest
