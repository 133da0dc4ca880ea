"""The Bayes ceiling of the banks, what filtering alone would make of a round, and what it did beyond that.

*The ideal sampler* draws programs from the exact posterior given the visible examples. It is a calibrated
sampler and no upper bound: one that writes the likeliest behaviour more often does better at small k.

*The null.* On a prompt, a generator answers program y with probability q_y. A round of self-training draws s
answers to each task, keeps the first K distinct ones that generalise, and trains on those. Of all tasks with
this prompt a share pi_b has a secret program of behaviour b, by the exact posterior. So an answer y, whose
behaviour is b, becomes a training target with expected multiplicity

    pi_b * P(y is among the first K distinct answers of behaviour b in s draws from q),    (1)

for K = 1 that is pi_b * (q_y / q_b) * (1 - (1 - q_b)^s). A learner that fits these targets perfectly on every
prompt and does nothing else answers with (1), normalised: *full adoption* of the filter. Nothing is tuned,
hence "parameter-free". Applied to a calibrated sampler, q = pi, and one draw a task, q becomes proportional
to pi^2, then pi^3: pass@1 rises by less and less and pass@k falls at large k, though nothing was learnt about
any task. With more draws 1 - (1 - q)^s saturates, and the sharpening stops at a fixed point.

A real generator also writes programs that do not even fit the visible examples. They have pi = 0, so full
adoption says that one round removes them all. But they are errors, which a calibrated sampler does not make.
So there is a second forecast, as free of parameters: each task's share of answers that fit stays what it was,
and only the choice among those that fit is filtered (*unfit stays*). The two are a bracket.

*The residual* is a round's measured pass@k minus its forecast, task by task and trajectory by trajectory:
what training did beyond filtering. All is of the primary split; arms, which train on other tasks, have none.

*From a finite pool.* The forecast probability q' of a task's correct behaviour comes from counts, and
1 - (1 - q')^k of a noisy q' is biased even for round 0: at q = 1/64, n = 128 and k = 64 by -9 points. But all
that a round does to the curve is to change the worth of a draw: its k draws fail as often as a * k draws of
round 0 do, with the *exchange rate* a = log(1 - q') / log(1 - q). That is steady where counts are small (for
a rare behaviour it tends to s * pi_b / P(solved)), and of pass@(a * k) under round 0 there is the unbiased
estimate of `pass_at_k`, continued to real k. A task that none of the n samples solved stays at 0, as it does
there. Where a * k exceeds n the pool says nothing, and pass@n is taken instead, which is too low on average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import binom

from constellation.evaluation.curves import pooled_curves, verdict_ks
from constellation.evaluation.drawing import INK, Curve, colour, curves_by_bank, mark, zero_line
from constellation.evaluation.entries import Entry, entries, entry
from constellation.evaluation.pass_at_k import pass_at_k
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import Part, SetKey, StudyResults
from constellation.samples import SampleSet

Array = NDArray[np.float64]
FORECASTS = {"full adoption": False, "unfit stays": True}  # `of` in rows -> `unfit_stays`
STYLES = {"full adoption": (0, (4, 2)), "unfit stays": (0, (1, 1.5))}

MEASURED, IDEAL = "pass@k under the primary split", "pass@k of the ideal sampler"
BELOW_IDEAL = "pass@k minus that of the ideal sampler"
SECRET = "probability that an ideal critic gives the hidden program's outputs"
FORECAST, CHANGE = "forecast of pass@k", "forecast of the change of pass@k"
RESIDUAL = "pass@k minus its forecast"
LOWER_BOUND = "share of tasks whose forecast is a lower bound"


@dataclass(frozen=True)
class ExactPosterior(Part):
    """What the exact posterior says of the banks under the primary split.

    Attributes:
        ceiling: bank -> "sampler", the ideal sampler's pass@1, and "secret", the probability that an ideal
            critic gives the secret program's outputs; [T] each, by the law of the *bank's* tasks.
        bank_atoms: bank -> the most atoms of that law.
        filter: sets of the start on those banks -> [D] the probability that a distinct program generalises,
            by the law of the *STaR* tasks, since a round filters answers to those.
        star_atoms: the most atoms of that law.
        star_samples, star_keep: samples a task of a round, and programs of a task that it trains on at most.
    """

    ceiling: Mapping[str, Mapping[str, Array]]
    bank_atoms: Mapping[str, int]
    filter: Mapping[SetKey, Array]
    star_atoms: int
    star_samples: int
    star_keep: int


class Forecast(NamedTuple):
    """The predicted curve of every round, from round 0 on: R = rounds + 1.

    Attributes:
        pass_at_k: [R, T, K] float64; round 0's is the measured one.
        draws: [R, T, K] float64, how many draws of round 0 the round's k draws are worth. Where they are more
            than n, on a task that some of the n samples solve, pass_at_k is a lower bound.
    """

    pass_at_k: Array
    draws: Array


def ideal_pass_at_k(sampler: Array, ks: Sequence[int]) -> Array:
    """[T, K] pass@k of the ideal sampler, whose pass@1 on each task is `sampler` [T]."""
    return 1 - (1 - sampler[:, None]) ** np.asarray(ks)


def forecast_curves(
    samples: SampleSet,
    posterior: Array,
    ks: Sequence[int],
    star_samples: int,
    keep: int,
    rounds: int,
    unfit_stays: bool = False,
) -> Forecast:
    """The forecast of self-training's rounds from round 0's samples of T tasks.

    Args:
        posterior: [D] exact probability that a distinct program generalises, given the visible examples and
            all inputs; not read where the program does not fit.
        ks: the K values of k, at most n.
        star_samples, keep: s and K in (1).
        unfit_stays: hold each task's share of answers that fit at round 0's, instead of full adoption.

    Raises:
        UserError: when a k exceeds n.
    """
    counts = samples.counts  # [D]
    correct = samples.sum_by_task(counts * samples.right)  # [T]
    chance = np.zeros((rounds + 1, len(correct)))  # [R, T] of a correct answer
    for t in range(len(correct)):
        rows = samples.programs_of(t)
        mass, fits = counts[rows] / samples.n, samples.fits[rows]
        filtered = np.where(fits, posterior[rows], 0.0)
        total = mass[fits].sum() if unfit_stays else 1.0
        masses = forecast(mass, samples.key[rows], filtered, star_samples, keep, rounds, total)
        chance[:, t] = masses[:, samples.right[rows]].sum(1)
    mixed = (correct > 0) & (correct < samples.n)  # elsewhere any number of draws is worth the same
    rate = np.ones_like(chance)
    with np.errstate(divide="ignore"):  # an answer that has become certain is worth any number of draws
        rate[:, mixed] = np.log1p(-np.minimum(chance[:, mixed], 1)) / np.log1p(-chance[0, mixed])
    draws = rate[:, :, None] * np.asarray(ks)
    draws[0] = ks  # to the last digit, so that a k beyond n is refused
    worth = np.concatenate([draws[:1], np.minimum(draws[1:], samples.n)])
    return Forecast(pass_at_k(samples.n, correct[:, None], worth), draws)


def forecast(
    mass: Array,
    cluster: NDArray[np.integer],
    posterior: Array,
    samples: int,
    keep: int,
    rounds: int,
    total: float = 1.0,
) -> Array:
    """How probable each answer to one prompt is, round after round: (1), normalised, again and again.

    Args:
        mass: [P] probability of each distinct program in round 0.
        cluster: [P] int, shared by programs with the same held-out outputs.
        posterior: [P] pi, the probability that the program generalises: 0 or the same within a cluster.
        samples, keep: s and K in (1).
        total: what the probabilities sum to after a round; the rest stays with answers that are never kept.

    Returns:
        [rounds + 1, P] float64, from round 0 on. Where no program can be kept, nothing changes.
    """
    result = [np.asarray(mass, np.float64)]
    for _ in range(rounds):
        target = np.zeros_like(result[-1])
        for behaviour in np.unique(cluster[posterior > 0]):
            rows = (cluster == behaviour) & (posterior > 0)
            target[rows] = posterior[rows] * kept(result[-1][rows], samples, keep)
        result.append(total * target / target.sum() if target.any() else result[-1])
    return np.array(result)


def kept(mass: Array, samples: int, keep: int) -> Array:
    """[P] the probability of each program to be among the first `keep` distinct ones that generalise.

    Program p is kept iff for some t < s and d < K the first t draws hold d distinct others and not p, and the
    next one is p. The probabilities of (t, d) without p come from those of one program fewer, for all p at
    once: another program may stand at any 1..t of the t draws. What `mass` [P] lacks to 1 belongs to answers
    that do not generalise.
    """
    draws = np.arange(samples)
    before = np.zeros((len(mass), keep, samples))  # [P, d, t]
    before[:, 0] = max(1 - mass.sum(), 0.0) ** draws
    if keep > 1:
        times = draws[:, None] - draws[None, :]  # [t, t'] how often another program occurs in t draws
        ways = np.where(times > 0, binom(draws[:, None], np.maximum(times, 0)), 0.0)
        for other, probability in enumerate(mass):
            occurs = ways * probability ** np.maximum(times, 0)
            without = np.arange(len(mass)) != other
            before[without, 1:] += before[without, :-1] @ occurs.T
    return mass * before.sum((1, 2))


def filtering(study: StudyResults, exact: ExactPosterior, bootstrap: Bootstrap) -> Answer:
    """The ceiling of every bank, and every round with its forecasts."""
    rows = []
    for bank in study.tasks:
        rows += ceiling(study, exact, bootstrap, bank)
        if study.rounds:
            rows += forecasts(study, exact, bootstrap, bank)
    return Answer(rows, {"bank_atoms": exact.bank_atoms, "star_atoms": exact.star_atoms})


def ceiling(study: StudyResults, exact: ExactPosterior, bootstrap: Bootstrap, bank: str) -> list[Entry]:
    """pass@k of ideal sampler and start, their difference, and the ideal critic's chance for the secret."""
    ks = powers(study, bank, study.start)
    own = measured(study, bank, study.start, ks)
    ideal = np.broadcast_to(ideal_pass_at_k(exact.ceiling[bank]["sampler"], ks), own.shape)
    secret = np.broadcast_to(exact.ceiling[bank]["secret"], own.shape[:2])
    return [
        entry(SECRET, bank, (), None, bootstrap(bank, secret)),
        *entries(IDEAL, bank, (), ks, bootstrap(bank, ideal)),
        *entries(MEASURED, bank, (study.start,), ks, bootstrap(bank, own)),
        *entries(BELOW_IDEAL, bank, (study.start,), ks, bootstrap(bank, own - ideal)),
    ]


def forecasts(study: StudyResults, exact: ExactPosterior, bootstrap: Bootstrap, bank: str) -> list[Entry]:
    """Each round's forecasts, what was measured, and the residuals.

    On the primary bank the residuals at k = 1, small_k and large_k are tested, if k is at most n/2.
    """
    choice, start = study.analysis, study.start
    tested = {1, choice.small_k, choice.large_k} if bank == choice.primary_bank else set()
    ks, pool = powers(study, bank, start), study.pool_size(bank, start)
    before = measured(study, bank, start, ks)
    predicted = {name: predictions(study, exact, bank, ks, stays) for name, stays in FORECASTS.items()}
    rows = []
    for number, model in enumerate(study.rounds, 1):
        own = powers(study, bank, start, model)  # those of ks that the round's pool answers
        curve = measured(study, bank, model, own)
        wanted = tested.intersection(verdict_ks(study, bank, start, model))
        rows += entries(MEASURED, bank, (model,), own, bootstrap(bank, curve))
        for name, found in predicted.items():
            expected, draws = (part[:, number, :, : len(own)] for part in found)  # [K, T, len(own)]
            change, beyond = expected - before[..., : len(own)], curve - expected
            bound = zip(own, (draws > pool).mean((0, 1)), strict=True)
            rows += entries(FORECAST, bank, (model,), own, bootstrap(bank, expected), of=name)
            rows += entries(CHANGE, bank, (start, model), own, bootstrap(bank, change), of=name)
            rows += entries(RESIDUAL, bank, (model,), own, bootstrap(bank, beyond), tested=wanted, of=name)
            rows += [Entry(LOWER_BOUND, bank, (model,), k, share, of=name) for k, share in bound]
    return rows


def predictions(
    study: StudyResults, exact: ExactPosterior, bank: str, ks: Sequence[int], unfit_stays: bool
) -> Forecast:
    """The forecasts from each trajectory's own samples of the start, stacked: [K, R, T, len(ks)] each."""
    filtered = exact.star_samples, exact.star_keep, len(study.rounds), unfit_stays
    keys = study.primary_keys(bank, study.start)
    made = [forecast_curves(study.samples[key], exact.filter[key], ks, *filtered) for key in keys]
    return Forecast(*map(np.array, zip(*made, strict=True)))


def measured(study: StudyResults, bank: str, model: str, ks: Sequence[int]) -> Array:
    """[K, T, len(ks)] pass@k under the primary split."""
    return pooled_curves([study.samples[key] for key in study.primary_keys(bank, model)], ks)


def powers(study: StudyResults, bank: str, *models: str) -> list[int]:
    """Powers of two and the two k of the findings, as far as these models' pools and the curves go."""
    most = min(study.analysis.max_k, study.pool_size(bank, *models))
    wanted = {*study.deciding_ks, *(2**i for i in range(most.bit_length()))}
    return sorted(k for k in wanted if k <= most)


def forecast_figure(results: Results) -> Figure:
    """pass@k of the last round, its two forecasts, the start and the ideal sampler."""
    study, last = results.study, results.study.sequence[-1]
    rows = results.entries.where(question=QUESTION.name)
    curves = [Curve(rows.where(quantity=IDEAL), INK, "ideal sampler")]
    for model in dict.fromkeys(study.first_and_last):
        curves.append(Curve(rows.where(quantity=MEASURED, models=(model,)), colour(study, model), model))
    predicted, paint = rows.where(quantity=FORECAST, models=(last,)), colour(study, last)
    for name in predicted.values("of"):
        label = f"{last} forecast, {name}"
        curves.append(Curve(predicted.where(of=name), paint, label, style=STYLES[name]))
    figure, axes = curves_by_bank(curves, "pass@k, % of tasks", height=3.3)
    for ax in axes.values():
        ax.set_ylim(0, 100)
    return figure


def residual_figure(results: Results) -> Figure | None:
    """What every round did beyond both forecasts, over k."""
    study, rows = results.study, results.entries.where(quantity=RESIDUAL)
    if not study.rounds:
        return None
    curves = [
        Curve(rows.where(models=(model,), of=name), colour(study, model), f"{model}, {name}", style=style)
        for model in study.rounds
        for name, style in STYLES.items()
    ]
    figure, axes = curves_by_bank(curves, "measured minus forecast, points", height=3.0)
    for ax in axes.values():
        zero_line(ax)
        mark(ax, *study.deciding_ks)
    return figure


QUESTION = Question(
    name="filtering",
    title="Beyond filtering",
    answer=filtering,
    figures={"forecast": forecast_figure, "residual": residual_figure},
    missing="the exact posterior was not computed",
)
