"""What the temperature of sampling does to the findings, and how much of a round it can imitate.

Sharpening a distribution raises what is likely and lowers what is not, and raising the temperature undoes it:
a sampler of categories p that is sharpened to p^(1/t) / Z gives p back at temperature 1/t times as high. A
round that lost pass@large_k might have lost programs or might only write them less often. Four comparisons
bear on this, all on the primary bank, in the first trajectories, and exploratory:

- the crossover at each temperature, both models at the same one;
- D(k) with each model at its own best temperature for that k, which is chosen on tuning tasks, for k up to
  the number of samples of these;
- the *sharpening* reading at large_k (`reading`);
- the *matched* start, sampled at the temperature at which its pass@1 is that of the last round. One
  temperature for all trajectories is found on tuning tasks; intervals do not cover how well it was found. Of
  the round's change from the start, sharpening reproduces the matched start's change, and not the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from constellation.evaluation import drawing
from constellation.evaluation.crossover import crossing_claim
from constellation.evaluation.curves import change, pooled_curves
from constellation.evaluation.entries import Entry, entries, entry, points
from constellation.evaluation.null import NullPools, divide, doubled
from constellation.evaluation.pass_at_k import pass_at_k
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.statistics import Bootstrap, Estimate
from constellation.evaluation.study import AnalysisConfig, Part, StudyResults, trajectory_count
from constellation.runtime.errors import UserError
from constellation.runtime.keys import host_rng
from constellation.samples import SampleSet

Array = NDArray[np.float64]
Sets = Mapping[tuple[str, float], Sequence[SampleSet]]  # (model, temperature) -> of the first trajectories
SHARPENED, LOST, KEPT, UNCLEAR = "sharpened", "lost", "kept", "unclear"

CROSSOVER = "crossover, both models at one temperature"
CHANGE = "change of pass@k, both models at one temperature"
RAISED = "change of pass@k, the later model at another temperature"
AT_BEST = "pass@k at the best temperature"
CHANGE_AT_BEST = "change of pass@k, each model at its best temperature"
TUNED = "pass@1 of tuning tasks"
MATCHED = "change of pass@k to the matched temperature"
REST = "change of pass@k beyond that to the matched temperature"


class Match(NamedTuple):
    """The temperature at which the start solves as much with one sample as the last round does."""

    temperature: float
    clipped: bool  # whether none that was tried reaches the last round, and this one comes nearest


@dataclass(frozen=True)
class Temperatures(Part):
    """The start and the last round at several temperatures, in the first R trajectories."""

    values: tuple[float, ...]  # the temperatures of the comparison, increasing
    own: float  # the temperature of all other samples, one of `values`, at which the study's sets are read
    samples: int  # n, samples a task of the primary bank; the study's own sets may have more
    # of the primary bank under its split: both models at every other value, and the start at the match
    evaluated: Sets
    tuning: Sets  # of tuning tasks: both models at every value, and the start at further temperatures
    match: Match  # found on the tuning tasks

    @property
    def trajectories(self) -> int:
        """How many trajectories have these samples, R."""
        return len(next(iter(self.evaluated.values())))

    def check(self, study: StudyResults) -> None:
        """Refuses samples of other tasks than the primary bank's."""
        for (model, _), sets in self.evaluated.items():
            for samples in sets:
                study.check_tasks(study.analysis.primary_bank, model, study.primary_split, samples)

    def drawn(self) -> Iterator[tuple[str, str, int]]:
        for purpose, tried in (("temperature", self.evaluated), ("tuning", self.tuning)):
            for (model, _), sets in tried.items():
                yield purpose, model, sum(samples.program.size for samples in sets)


def solved_by_one(tuning: Sets, model: str) -> dict[float, float]:
    """Increasing temperature -> a model's mean pass@1 over trajectories and tuning tasks."""
    return {
        temperature: float(np.mean([own.per_sample(own.right).mean() for own in tuning[name, temperature]]))
        for name, temperature in sorted(tuning)
        if name == model
    }


def match(passed: Mapping[float, float], target: float) -> Match:
    """Where pass@1 over increasing temperatures takes a value, read off straight lines between its points.

    Of several such places the highest, which changes the model least; if there is none, the point that comes
    nearest to the value.
    """
    temperatures, above = list(passed), np.array(list(passed.values())) - target
    for i in reversed(range(len(above))):
        if above[i] == 0:
            return Match(temperatures[i], False)
        if i and (above[i - 1] < 0) != (above[i] < 0):
            share = float(above[i] / (above[i] - above[i - 1]))
            return Match(temperatures[i] - share * (temperatures[i] - temperatures[i - 1]), False)
    return Match(temperatures[int(np.abs(above).argmin())], True)


def temperature(study: StudyResults, part: Temperatures, bootstrap: Bootstrap) -> Answer:
    """All four comparisons. A large_k beyond half the samples a task is refused."""
    choice, own, deciding = study.analysis, part.own, study.deciding_ks
    ks = range(1, part.samples // 2 + 1)
    if choice.large_k not in ks:
        raise UserError(
            f"a verdict on pass@{choice.large_k} needs at least {2 * choice.large_k} samples a task, there "
            f"are {part.samples} at each temperature: raise temperature.samples or lower evaluation.large_k"
        )
    bank, models = choice.primary_bank, study.first_and_last
    start, last = models
    rng = host_rng(choice.seed, "bootstrap", "temperature trajectories")
    drawn = bootstrap.first_trajectories(part.trajectories, rng)
    passed = {  # [R, T, len(ks)] each
        (model, value): curves(study, part, model, value, ks) for model in models for value in part.values
    }
    # at the study's own temperature a change belongs to a finding, or is tested with the study's changes
    tested = {value: () if value == own else (1, *deciding) for value in part.values}
    rows: list[Entry] = []

    verdicts = {}
    for value in part.values:
        name, changed = f"{value:g}", passed[last, value] - passed[start, value]
        at_both = changed[..., [ks.index(k) for k in deciding]]
        claim = crossing_claim(drawn, bank, models, deciding, at_both, f" at temperature {name}")
        verdicts[name] = claim.judged(choice, study.scope)
        rows.append(claim.entry(CROSSOVER, bank, models, None, name))
        rows += entries(CHANGE, bank, models, ks, drawn(bank, changed), tested=tested[value], of=name)

    chosen = best_temperatures(study, part)
    for k, at in chosen.items():
        pair = np.stack([passed[model, at[model]][..., ks.index(k)] for model in models], axis=-1)
        estimate, difference = drawn(bank, pair), drawn(bank, pair[..., 1] - pair[..., 0])
        rows += [entry(AT_BEST, bank, (model,), k, estimate.at(i)) for i, model in enumerate(models)]
        rows.append(entry(CHANGE_AT_BEST, bank, models, k, difference, tested=True))

    reference = passed[start, own]
    raised = {own: bootstrap(bank, change(study, bank, last, ks))} | {
        value: drawn(bank, passed[last, value] - reference) for value in part.values if value > own
    }
    for value, estimate in raised.items():
        rows += entries(RAISED, bank, models, ks, estimate, tested=tested[value], of=f"{value:g}")
    large = {value: estimate.at(ks.index(choice.large_k)) for value, estimate in raised.items()}
    measured = ", ".join(
        f"{points(*estimate[:3])} points at temperature {value:g}" for value, estimate in large.items()
    )

    matched = curves(study, part, start, part.match.temperature, ks)
    rows += entries(MATCHED, bank, (start, start), ks, drawn(bank, matched - reference))
    rest = drawn(bank, passed[last, own] - matched)
    rows += entries(REST, bank, models, ks, rest, tested=(1, *deciding))
    rows += [
        Entry(TUNED, "tuning", (model,), 1, share, of=f"{value:g}")
        for model in models
        for value, share in solved_by_one(part.tuning, model).items()
    ]
    facts = {
        "own": f"{own:g}",
        "trajectories": part.trajectories,
        "samples": part.samples,
        "tuning_tasks": len(part.tuning[start, own][0].task_ids),
        "crossover": verdicts,
        "best": chosen,
        "sharpening": {
            "verdict": reading(large.pop(own), list(large.values()), choice),
            "sentence": f"pass@{choice.large_k} of {last} minus that of {start} at temperature {own:g}: "
            f"{measured}.",
            "null": null_readings(study, part, bootstrap),
        },
        "matched": part.match._asdict(),
    }
    return Answer(rows, facts)


def curves(study: StudyResults, part: Temperatures, model: str, value: float, ks: Sequence[int]) -> Array:
    """[R, T, len(ks)] a model's pass@k at a temperature on the primary bank."""
    if value == part.own:
        keys = study.primary_keys(study.analysis.primary_bank, model, part.trajectories)
        return pooled_curves([study.samples[key] for key in keys], ks)
    return pooled_curves(part.evaluated[model, value], ks)


def best_temperatures(study: StudyResults, part: Temperatures) -> dict[int, dict[str, float]]:
    """k -> model -> the temperature at which k samples solve most tuning tasks; k = 1, 2, 4, ...

    k goes up to the samples of a tuning task and to half the samples of a task of the bank: the choice needs
    an unbiased estimate only, and what is then compared is measured on other tasks with 2 k samples or more.
    """
    n = min(own.n for sets in part.tuning.values() for own in sets)
    ks = [2**i for i in range(min(n, part.samples // 2).bit_length())]
    best = {}
    for model in study.first_and_last:
        solved = [pooled_curves(part.tuning[model, value], ks).mean((0, 1)) for value in part.values]
        best[model] = np.argmax(solved, axis=0)  # [len(ks)]
    return {k: {model: part.values[at[i]] for model, at in best.items()} for i, k in enumerate(ks)}


def null_readings(study: StudyResults, part: Temperatures, bootstrap: Bootstrap) -> dict[str, Any]:
    """How often each reading is given when the start stands for its own round, and nothing was learned.

    At the study's temperature two random halves of the start's doubled pool stand for start and round (see
    `null`); at higher temperatures its samples there stand for the round's. Trajectories are those that have
    both. Empty without a doubled pool.
    """
    choice, fresh = study.analysis, study.parts.get("null")
    if not isinstance(fresh, NullPools):
        return {}
    bank, k = choice.primary_bank, choice.large_k
    count = min(part.trajectories, trajectory_count(key for key in fresh.pools if key.bank == bank))
    correct, total, n = doubled(study, fresh, bank, count)
    rng = host_rng(choice.seed, "null", bank, "temperature")
    halves = divide(correct, total, [n, n], choice.halvings, rng)  # [2, S, K, T]
    before, after = np.moveaxis(pass_at_k(n, halves, k), 1, 3)  # [K, T, S] each
    rng = host_rng(choice.seed, "bootstrap", "null temperature trajectories")
    drawn = bootstrap.first_trajectories(count, rng)
    own = drawn(bank, after - before)
    higher = [
        drawn(bank, curves(study, part, study.start, value, [k])[:count] - before)
        for value in part.values
        if value > part.own
    ]
    readings = [reading(own.at(s), [one.at(s) for one in higher], choice) for s in range(choice.halvings)]
    return {
        "trajectories": count,
        "rates": {name: readings.count(name) / len(readings) for name in (SHARPENED, LOST, KEPT, UNCLEAR)},
    }


def reading(own: Estimate, higher: Sequence[Estimate], choice: AnalysisConfig) -> str:
    """What became of the start's pass@large_k in the last round.

    It is read from the last round's pass@large_k minus the start's: `own` with both at the study's
    temperature, over all trajectories and split seeds, and `higher` with the last round at each higher one.

    The round is *below* the start where the one-sided p of a difference below 0 is at most 1 - level, and *no
    lower* where the estimate is at least 0 or its one-sided lower bound above -margin. In this order:
    "sharpened" if it is below at the study's temperature and no lower at a higher one; "lost" if it is below
    at all of them; "kept" if it is no lower at the study's temperature; else "unclear".
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


def temperature_curves(results: Results) -> Figure | None:
    """The change with both models at one temperature or at their best; and from the start at the study's."""
    rows, facts = results.entries, results.facts[QUESTION.name]
    start, last = results.study.first_and_last
    figure, (together, against) = drawing.panels(2, height=3.6, sharey=True)
    for value, paint in zip(facts["crossover"], ("#3f7fce", drawing.INK, "#cf4a35"), strict=True):
        drawing.band(together, rows.where(quantity=CHANGE, of=value), paint, f"both at {value}")
    drawing.band(together, rows.where(quantity=CHANGE_AT_BEST), "#3a9a7c", "each at its best", "o")
    raised, paints = rows.where(quantity=RAISED), iter(("#cf4a35", "#e39a2d"))
    for value in raised.values("of"):
        paint = drawing.INK if value == facts["own"] else next(paints)
        drawing.band(against, raised.where(of=value), paint, f"{last} at {value}")
    matched = f"{start} at {facts['matched']['temperature']:.2f}"
    drawing.band(against, rows.where(quantity=MATCHED), drawing.START, matched)
    together.set(title=f"{last} minus {start}", ylabel="difference of pass@k, points")
    against.set_title(f"minus {start} at {facts['own']}")
    for ax in (together, against):
        ax.axhline(0, color=drawing.RULE, linewidth=1.2, zorder=0)
        drawing.k_axis(ax, rows.where(quantity=REST).values("k"))
        ax.legend(loc="best")
    return figure


QUESTION = Question(
    name="temperature",
    title="Sampling at other temperatures",
    answer=temperature,
    figures={"temperature_curves": temperature_curves},
    missing="the study was sampled at one temperature",
)
