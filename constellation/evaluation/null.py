"""The null: the start against itself, sent through the same analysis as a round.

There are three kinds of pseudo-studies, in which nothing was learned:

- *halvings*: the start's own samples and as many fresh ones form a doubled pool, which is halved at random;
  one half stands for the start and the other for the last round. For a round's gain and the second difference
  each model gets a part of as many samples as the study has of it (equal parts where the pool does not
  suffice). What remains is the noise of sampling, under the primary split. If c of N samples are correct, the
  number of correct ones in a random part is hypergeometric, so that no sample need be looked at again. For
  the critic's gain its own scores are permuted among a task's surviving samples.
- *pairs*: the start of one trajectory stands for the last round of another; of three trajectories, the second
  stands for the first round. This adds the noise of another warm start, of which an analysis of a single
  trajectory, over tasks alone, knows nothing; this analysis is put to the test.
- *pairs* and *triples* of several trajectories: the trajectories are divided at random, so that none plays
  two parts, and a verdict over several is put to the test as the study reaches it. With few trajectories the
  pseudo-studies overlap, and a rate is rough. For reach, both models of a pair are scored on the programs
  that either's trajectory knows, so that neither has a share in the choice that the other lacks.

Each kind gives the distribution of its statistics without any learning, as a mean and central interval, and
the share of pseudo-studies that reach each verdict. This is the verdict's false-positive rate, at alpha and
after Holm's correction over the primary findings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation import findings, reach
from constellation.evaluation.claims import FAMILY, INCONCLUSIVE
from constellation.evaluation.crossover import NULL_CHANGE
from constellation.evaluation.curves import curve_ks, task_curves
from constellation.evaluation.entries import Entry
from constellation.evaluation.gains import NULL_GAIN, SCALES, unit_of
from constellation.evaluation.ledger import changed, sign_test
from constellation.evaluation.pass_at_k import pass_at_k
from constellation.evaluation.question import Answer, Question
from constellation.evaluation.selection import Selectors, selectors_of
from constellation.evaluation.selectors import cut, pick
from constellation.evaluation.statistics import Bootstrap, Estimate, holm
from constellation.evaluation.study import Part, SetKey, StudyResults, trajectory_count
from constellation.runtime.errors import UserError
from constellation.runtime.keys import host_rng
from constellation.samples import SampleSet

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Trajectories = NDArray[np.intp]
# `of` in rows; pairs and triples of several trajectories are "pairs, 3 trajectories"
HALVINGS, PAIRS, RESTARTED = "halvings", "pairs", "another warm start"

STUDIES = "pseudo-studies of a null"
SECOND = "null of the gain minus the gain before"
PICKED = "null of the critic's gain"
TASKS_GAINED, TASKS_LOST = "null of the tasks gained", "null of the tasks lost"
TASKS_CHANGED = "null of the tasks significantly changed"
CLASS_REACH = "null of the change of reach by a class of programs"


@dataclass(frozen=True)
class NullPools(Part):
    """Samples of the start that were drawn afresh under the primary split.

    A bank has them in all trajectories, in the first ones, or not at all; at least as many a task as the
    study's own.
    """

    pools: Mapping[SetKey, SampleSet]

    def check(self, study: StudyResults) -> None:
        for key, samples in self.pools.items():
            study.check_tasks(key.bank, key.model, key.split_seed, samples)
        study.check_trajectories(self.pools, "null pools", trajectory_count(self.pools))
        for bank, model, split_seed, _ in self.pools:
            if (model, split_seed) != (study.start, study.primary_split):
                raise UserError(
                    f"the null pool of {model} on {bank} (split {split_seed}) is not of {study.start} under "
                    f"the primary split {study.primary_split}"
                )

    def drawn(self) -> Iterator[tuple[str, str, int]]:
        for key, samples in self.pools.items():
            yield "null", key.model, samples.program.size


def null(study: StudyResults, part: NullPools | None, bootstrap: Bootstrap) -> Answer:
    """Halvings on every bank with a doubled pool, and the other kinds where there are enough trajectories.

    A pool whose half is too small for large_k is refused.
    """
    rows: list[Entry] = []
    samples = {}
    if part:
        pooled = study.first_trajectories(trajectory_count(part.pools))
        rng = host_rng(study.analysis.seed, "bootstrap", "null trajectories")
        drawn = bootstrap.first_trajectories(pooled.trajectories, rng)
        for bank in sorted({key.bank for key in part.pools}):
            samples[bank], found = halvings(pooled, part, drawn, bank, selectors_of(study))
            rows += found
    if study.trajectories > 1:
        rows += pairs(study, bootstrap)
    rows += several(study, bootstrap)
    rows += another_warm_start(study, bootstrap)
    restarted = study.trajectories // 2 if study.trajectories >= 4 else 0
    return Answer(rows, {"samples": samples, "restarted": restarted})


def halvings(
    study: StudyResults, part: NullPools, bootstrap: Bootstrap, bank: str, scored: Selectors
) -> tuple[int, list[Entry]]:
    """The samples a task of a half on one bank, and the null of random halvings."""
    choice = study.analysis
    correct, total, n = doubled(study, part, bank, study.trajectories)
    if total < 2 * n or choice.large_k > n // 2:
        raise UserError(
            f"the null of pass@{choice.large_k} needs {max(n, 2 * choice.large_k)} samples a task or more of "
            f"{study.start} on the {bank} bank, and as many fresh ones; there are {n} and {total - n}: "
            "sample more or lower evaluation.large_k"
        )
    rng = host_rng(choice.seed, "null", bank)
    before, after = divide(correct, total, [n, n], choice.halvings, rng)  # [S, K, T] each
    table = pass_at_k(n, np.arange(n + 1)[:, None], study.deciding_ks)
    change = np.moveaxis(table[after] - table[before], 0, 2)  # [K, T, S, 2]

    def levels(models: Sequence[str]) -> Array:
        """[models, K, T, S] pass@small_k of parts of the pool that stand for these models."""
        sizes = [study.pool_size(bank, model) for model in models]
        sizes = sizes if sum(sizes) <= total else [total // len(sizes)] * len(sizes)
        parts = divide(correct, total, sizes, choice.halvings, rng)
        each = [pass_at_k(size, part, choice.small_k) for size, part in zip(sizes, parts, strict=True)]
        return np.moveaxis(np.array(each), 1, 3)

    second = None
    if len(study.rounds) > 1:
        start, middle, last = levels(study.sequence[1:4])
        second = bootstrap(bank, last - 2 * middle + start)
    picked = permuted_gains(study, bootstrap, bank, scored)
    rows = verdicts(study, bank, HALVINGS, bootstrap(bank, change), second, picked)
    for models in pairwise(study.sequence[1:]):
        means = levels(models).mean((1, 2)).T  # [S, 2]
        for name, scale in SCALES.items():
            values, unit = scale(means)[:, None], unit_of(name)
            rows += spread(study, NULL_GAIN, bank, [choice.small_k], values, name, models, unit)
        sizes = n, study.pool_size(bank, models[1])
        ks = range(1, min(choice.max_k, *sizes) + 1)
        parts = divide(correct, total, sizes, choice.halvings, rng)
        curves = curve_changes(parts[0], parts[1], sizes, ks)
        rows += spread(study, NULL_CHANGE, bank, ks, curves, HALVINGS, (study.start, models[1]))
    gained, lost = (((b > 0) & (a == 0)).sum(-1) for a, b in ((before, after), (after, before)))  # [S, K]
    significant = (changed(before, after, n) <= 1 - choice.level).sum(-1)
    for quantity, counts in ((TASKS_GAINED, gained), (TASKS_LOST, lost), (TASKS_CHANGED, significant)):
        rows += spread(study, quantity, bank, [None], counts.reshape(-1, 1), HALVINGS, unit="tasks")
    rejected = (sign_test(gained, lost) <= 1 - choice.level).mean()
    return n, rows + rates(study, bank, HALVINGS, {"the sign test": rejected})


def doubled(study: StudyResults, part: NullPools, bank: str, trajectories: int) -> tuple[Counts, int, int]:
    """The start's own and fresh samples as one pool, in the first trajectories.

    Returns:
        [K, T] how many of a task's samples are correct, how many there are, and how many are the study's own.
    """
    keys = study.primary_keys(bank, study.start, trajectories)
    pools = [[study.samples[key], part.pools[key]] for key in keys]
    right = [[pool.per_sample(pool.right).sum(1) for pool in own] for own in pools]
    return np.sum(right, axis=1), sum(pool.n for pool in pools[0]), pools[0][0].n


def divide(correct: Counts, total: int, sizes: Sequence[int], times: int, rng: np.random.Generator) -> Counts:
    """[parts, S, K, T] how many samples are correct in parts of these `sizes`, drawn S = `times` times.

    The parts are drawn at random and without replacement from pools of `total` samples, of which `correct`
    [K, T] are correct. Samples that the sizes leave over are in no part.
    """
    left = np.broadcast_to(correct, (times, *correct.shape))
    result = []
    for size in sizes:
        drawn = rng.hypergeometric(left, total - left, size)
        left, total = left - drawn, total - size
        result.append(drawn)
    return np.array(result)


def permuted_gains(
    study: StudyResults, bootstrap: Bootstrap, bank: str, scored: Selectors
) -> Estimate | None:
    """[S] the critic's gain over the first survivor at small_k, its scores permuted; None without scores.

    The scores are permuted among a task's surviving samples, and these are put in a random order, so that the
    first survivor is another one each time. The gain then has mean 0. With scores permuted among the distinct
    programs the critic would be behind, since programs that are drawn often are right more often.
    """
    choice = study.analysis
    keys = study.primary_keys(bank, study.start)
    if not scored.columns.keys() >= set(keys):
        return None
    rng = host_rng(choice.seed, "null", bank, "critic")
    gains = []
    for samples, columns in scored.critic_sets(study, keys):
        groups = cut(samples, choice.small_k, columns)
        shape, size = groups.survives.shape, groups.survives[0].size
        survivors = np.flatnonzero(groups.survives)
        for _ in range(choice.halvings):
            mixed = rng.permutation(survivors)
            mixed = mixed[np.argsort(mixed // size, kind="stable")]  # within a task
            permuted = np.zeros(shape)
            permuted.flat[survivors] = groups.score.flat[mixed]
            gains.append((pick(groups, permuted) - pick(groups, rng.random(shape))).mean(1))
    values = np.reshape(gains, (study.trajectories, choice.halvings, -1))  # [K, S, T]
    return bootstrap(bank, values.swapaxes(1, 2))


def curve_changes(before: Counts, after: Counts, sizes: tuple[int, int], ks: range) -> Array:
    """[S, len(ks)] D(k) between parts of these sizes; its mean needs only how many tasks have each count."""
    means = []
    for part, n in zip((before, after), sizes, strict=True):
        counts = np.array([np.bincount(half.ravel(), minlength=n + 1) for half in part])  # [S, n + 1]
        means.append(counts @ pass_at_k(n, np.arange(n + 1)[:, None], np.array(ks)) / part[0].size)
    return means[1] - means[0]


def pairs(study: StudyResults, bootstrap: Bootstrap) -> list[Entry]:
    """Verdicts of studies of one trajectory each, for every order of three trajectories, or of only two."""
    alone = Bootstrap(np.ones((len(bootstrap.trajectories), 1)), bootstrap.tasks, bootstrap.level)
    orders = list(permutations(range(study.trajectories), min(study.trajectories, 3)))
    return pseudo_studies(study, alone, PAIRS, np.array(orders)[..., None], two_rounds=len(study.rounds) != 1)


def several(study: StudyResults, bootstrap: Bootstrap) -> list[Entry]:
    """Verdicts of studies of two or more trajectories each, with and without a first round."""
    rows: list[Entry] = []
    for parts, name in ((2, "pairs"), (3, "triples")):
        size = study.trajectories // parts
        if size >= 2 and len(study.rounds) >= parts - 1:
            rng = host_rng(study.analysis.seed, "bootstrap", "null", name)
            drawn = bootstrap.first_trajectories(size, rng)
            rows += pseudo_studies(study, drawn, f"{name}, {size} trajectories", divisions(study, parts))
    return rows


def divisions(study: StudyResults, parts: int) -> Trajectories:
    """[S, parts, K // parts] trajectories, divided at random; what is left over plays no part."""
    rng = host_rng(study.analysis.seed, "null", "trajectories", parts)
    order = rng.permuted(np.tile(np.arange(study.trajectories), (study.analysis.halvings, 1)), axis=1)
    size = study.trajectories // parts
    return order[:, : parts * size].reshape(-1, parts, size)


def pseudo_studies(
    study: StudyResults, bootstrap: Bootstrap, kind: str, parts: Trajectories, two_rounds: bool = True
) -> list[Entry]:
    """Verdicts of S studies whose models are the starts of these trajectories, [S, parts, size].

    Two parts stand for start and last round. Of three parts the second stands for the first round, and there
    is a second difference if the study has `two_rounds`.
    """
    bank = study.analysis.primary_bank
    curve = task_curves(study, bank, study.start, study.deciding_ks)[parts]  # [S, parts, size, T, 2]
    start, *between, last = np.moveaxis(curve, (1, 0), (0, 3))  # [size, T, S, 2] each
    second = None
    if between and two_rounds:
        second = bootstrap(bank, (last - 2 * between[0] + start)[..., 0])
    return verdicts(study, bank, kind, bootstrap(bank, last - start), second)


def verdicts(
    study: StudyResults,
    bank: str,
    kind: str,
    change: Estimate,
    second: Estimate | None,
    picked: Estimate | None = None,
) -> list[Entry]:
    """How the statistics of S pseudo-studies are distributed, and how often each verdict is reached.

    `change` is D at small_k and large_k, [S, 2]. The `second` difference, [S], is None where there are too
    few trajectories or rounds; `picked`, the critic's gain [S], is None where no critic played a part.
    """
    choice, count = study.analysis, len(change.value)
    p_values = {"crossover": np.maximum(change.p_above[:, 0], change.p_below[:, 1])}
    rows = spread(study, NULL_CHANGE, bank, study.deciding_ks, change.value, kind)
    if second is not None:
        p_values["deceleration"] = second.p_below
        rows += spread(study, SECOND, bank, [choice.small_k], second.value[:, None], kind)
    if picked is not None:
        p_values["critic gain"] = picked.p_above
        rows += spread(study, PICKED, bank, [choice.small_k], picked.value[:, None], kind)
    family = np.ones((count, FAMILY))  # what was not measured counts with p = 1
    family[:, : len(p_values)] = np.transpose(list(p_values.values()))
    adjusted = np.array([holm(row) for row in family]).T
    shares: dict[str, float] = {}
    for (name, p), corrected in zip(p_values.items(), adjusted, strict=False):
        shares[name] = (p <= 1 - choice.level).mean()
        shares[f"{name}, corrected"] = (corrected <= 1 - choice.level).mean()
    outcomes = Counter(
        findings.conclude(change.at(s, 0), change.at(s, 1), second.at(s) if second else None, choice)
        for s in range(count)
    )
    names = findings.COMPOUNDING, findings.AMPLIFICATION, findings.NO_GAIN, INCONCLUSIVE
    shares |= {name: outcomes[name] / count for name in names}
    studies = Entry(STUDIES, bank, (study.start,), None, count, of=kind, unit="pseudo-studies")
    return [studies, *rows, *rates(study, bank, kind, shares)]


def rate(verdict: str) -> str:
    """The quantity of the share of pseudo-studies that reach a verdict."""
    return f"null rate of {verdict}"


def rates(study: StudyResults, bank: str, kind: str, shares: Mapping[str, float]) -> list[Entry]:
    """The share of a kind's pseudo-studies that reach each verdict."""
    return [Entry(rate(name), bank, (study.start,), None, share, of=kind) for name, share in shares.items()]


def spread(
    study: StudyResults,
    quantity: str,
    bank: str,
    ks: Sequence[int | None],
    values: Array | Counts,
    of: str,
    models: tuple[str, ...] = (),
    unit: str = "share",
) -> list[Entry]:
    """Mean and central interval of a statistic over the pseudo-studies, [S, len(ks)].

    `models` are those whose numbers of samples the parts have, by default the start alone.
    """
    level = study.analysis.level
    ends = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    found = zip(ks, values.mean(0), zip(*ends, strict=True), strict=True)
    where = bank, models or (study.start,)
    return [Entry(quantity, *where, k, mean, pair, of=of, unit=unit) for k, mean, pair in found]


def another_warm_start(study: StudyResults, bootstrap: Bootstrap) -> list[Entry]:
    """What changes from one half of the starts to the other: the control of the report's curves.

    There are rows with four trajectories or more.
    """
    if study.trajectories < 4:
        return []
    starts, lasts = divisions(study, 2).swapaxes(0, 1)  # [S, K // 2] each
    rows: list[Entry] = []
    for bank in study.tasks:
        ks = curve_ks(study, bank, study.start)
        means = task_curves(study, bank, study.start, ks).mean(1)  # [K, len(ks)]
        rows += spread(study, NULL_CHANGE, bank, ks, (means[lasts] - means[starts]).mean(1), RESTARTED)
    programs = study.parts.get("reach")
    if isinstance(programs, reach.KnownPrograms):
        known = reach.known_of(study, programs)
        rows += restarted_reach(study, bootstrap, known, starts, lasts)
        rows += restarted_mass(study, known, starts, lasts)
    return rows


def restarted_reach(
    study: StudyResults, bootstrap: Bootstrap, known: reach.Known, starts: Trajectories, lasts: Trajectories
) -> list[Entry]:
    """How far reach changes, and how often it is found to expand, or to rise over the start alone."""
    programs, choice, bank, K = known.programs, study.analysis, known.programs.bank, study.trajectories
    budgets = sorted({*reach.DRAWN, choice.reach_at})
    table = np.empty((K, K, len(study.tasks[bank]), len(budgets), 2))
    for one, other in np.ndindex(K, K):
        either = known.own[one] | known.own[other]
        base, start, last = (
            reach.solved_in(programs.log_mass(either, model, k), budgets)  # [T, N]
            for model, k in ((study.base, 0), (study.start, one), (study.start, other))
        )
        table[one, other] = np.stack([last - base, last - start], axis=-1)
    gains = table[starts, lasts]  # [S, K // 2, T, N, 2]
    drawn = bootstrap.first_trajectories(starts.shape[1], host_rng(choice.seed, "bootstrap", "null", "reach"))
    decided = gains[..., budgets.index(choice.reach_at), :].transpose(1, 2, 0, 3)
    above = drawn(bank, decided).p_above <= 1 - choice.level  # [S, 2]
    shares = {"expansion of reach": above.all(1).mean(), "reach above the start": above[:, 1].mean()}
    changes = spread(study, reach.NULL_REACH, bank, budgets, gains[..., 1].mean((1, 2)), RESTARTED)
    return changes + rates(study, bank, RESTARTED, shares)


def restarted_mass(
    study: StudyResults, known: reach.Known, starts: Trajectories, lasts: Trajectories
) -> list[Entry]:
    """How far the mass ledger changes in each class; "in the start's samples" refers to those of `starts`."""
    programs, at, K = known.programs, study.analysis.reach_at, study.trajectories
    either = (known.own[:, None] | known.own).reshape(K * K, -1)  # [K * K, D] of each start and last round
    rows: list[Entry] = []
    for name, own in reach.classes(study, programs, either, np.arange(K).repeat(K)).items():
        table = np.empty((K, K, 2))
        for (one, other), subset in zip(np.ndindex(K, K), own, strict=True):
            masses = [programs.log_mass(subset, study.start, k) for k in (one, other)]
            before, after = (reach.solved_in(mass, [1, at]).mean(0) for mass in masses)  # m is reach(1)
            table[one, other] = after - before
        values = table[starts, lasts].mean(1)  # [S, 2]
        rows += spread(study, reach.NULL_MASS, programs.bank, [None], values[:, :1], name)
        rows += spread(study, CLASS_REACH, programs.bank, [at], values[:, 1:], name)
    return rows


QUESTION = Question(
    name="null", title="What is found where nothing was learned", answer=null, figures={}, always=True
)
