"""What filtering alone predicts of self-training, from round 0's samples and the exact posterior.

*The null.* On a prompt, a generator answers program y with probability q_y. A round of self-training draws s
answers to each task, keeps the first K distinct ones that generalise, and trains on those. Of all tasks with
this prompt a share pi_b has a secret program of behaviour b, by the exact posterior. So an answer y, whose
behaviour is b, becomes a training target with expected multiplicity

    pi_b * P(y is among the first K distinct answers of behaviour b in s draws from q),    (1)

for K = 1 that is pi_b * (q_y / q_b) * (1 - (1 - q_b)^s). A learner that fits these targets perfectly on every
prompt and does nothing else answers with (1), normalised: *full adoption* of the filter. Nothing is tuned,
hence "parameter-free". Applied to a calibrated sampler, q = pi, and one draw a task, q becomes proportional
to pi^2, then pi^3: pass@1 rises by less and less and pass@k falls at large k, though nothing was learnt about
any task. With more draws 1 - (1 - q)^s saturates, and the sharpening stops at a fixed point. What a measured
round does beyond its forecast is what training did beyond filtering.

A real generator also writes programs that do not even fit the visible examples. They have pi = 0, so full
adoption says that one round removes them all. But they are errors, which a calibrated sampler does not make.
So there is a second forecast, as free of parameters: each task's share of answers that fit stays what it was,
and only the choice among those that fit is filtered (`unfit_stays`).

*From a finite pool.* The forecast probability q' of a task's correct behaviour comes from counts, and
1 - (1 - q')^k of a noisy q' is biased even for round 0: at q = 1/64, n = 128 and k = 64 by -9 points. But all
that a round does to the curve is to change the worth of a draw: its k draws fail as often as a * k draws of
round 0 do, with the *exchange rate* a = log(1 - q') / log(1 - q). That is steady where counts are small (for
a rare behaviour it tends to s * pi_b / P(solved)), and of pass@(a * k) under round 0 there is the unbiased
estimate of `pass_at_k`, continued to real k. A task that none of the n samples solved stays at 0, as it does
there. Where a * k exceeds n nothing in the pool tells, and pass@n stands in, a lower bound: see
`Forecast.draws`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import binom

from constellation.evaluation.pass_at_k import pass_at_k
from constellation.samples import SampleSet

Array = NDArray[np.float64]


def ideal_pass_at_k(sampler: Array, ks: Sequence[int]) -> Array:
    """[T, K] pass@k of the ideal sampler, whose pass@1 on each task is `sampler` [T]."""
    return 1 - (1 - sampler[:, None]) ** np.asarray(ks)


class Forecast(NamedTuple):
    """The predicted curve of every round, from round 0 on: R = rounds + 1.

    Attributes:
        pass_at_k: [R, T, K] float64; round 0's is the measured one.
        draws: [R, T, K] float64, how many draws of round 0 the round's k draws are worth. Where they are more
            than the n samples of a task that some of them solve, pass_at_k is a lower bound.
    """

    pass_at_k: Array
    draws: Array


def forecast_curves(
    samples: SampleSet,
    posterior: Array,
    ks: Sequence[int],
    star_samples: int,
    keep: int,
    rounds: int,
    unfit_stays: bool = False,
) -> Forecast:
    """The parameter-free forecast of self-training's rounds on the tasks of a bank.

    Args:
        samples: of round 0, T tasks x n samples.
        posterior: [D] of each distinct program, the exact probability that it generalises given the visible
            examples and all inputs; anything where a program does not fit.
        ks: the K values of k, at most n.
        star_samples: samples a task of a round, s in (1).
        keep: the most distinct programs of a task that a round trains on, K in (1).
        rounds: how many to forecast.
        unfit_stays: hold each task's share of answers that fit at round 0's, instead of full adoption.

    Raises:
        UserError: when a k exceeds n.
    """
    counts = np.bincount(samples.program.ravel(), minlength=len(samples.text))  # [D]
    correct = np.bincount(
        samples.task, weights=counts * samples.right, minlength=len(samples.task_ids)
    )  # [T]
    chance = np.zeros((rounds + 1, len(correct)))  # [R, T] of a correct answer
    for t in range(len(correct)):
        rows = samples.programs_of(t)
        mass, fits = counts[rows] / samples.n, samples.fits[rows]
        masses = forecast(
            mass,
            samples.key[rows],
            np.where(fits, posterior[rows], 0.0),
            star_samples,
            keep,
            rounds,
            mass[fits].sum() if unfit_stays else 1.0,
        )
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
        samples: draws a task, s.
        keep: distinct programs kept a task at most, K.
        rounds: how many.
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
    """The probability of each program to be among the first `keep` distinct ones that generalise.

    Program p is kept iff for some t < s and d < K the first t draws hold d distinct others and not p, and the
    next one is p. The probabilities of (t, d) without p come from those of one program fewer, for all p at
    once: another program may stand at any 1..t of the t draws.

    Args:
        mass: [P] probabilities of the programs that generalise; answers that do not have the rest.
        samples: independent draws, s.
        keep: K >= 1.

    Returns:
        [P] float64.
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
