"""Which of k candidates to hand in: the critic, the selectors beside it, and divergence.

Paper A's loop at test time: k candidates, the verifier drops those that fail a visible example, a selector
picks one *survivor*, and the pick is judged on the held-out examples. A pool of n samples a task holds n // k
disjoint groups of k in sample order; every figure averages over all of them.

A selector declares what it may know (`Information`), so that learned and unlearned ones are compared on equal
terms: a vote on held-out outputs has seen inputs that the critic never sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from constellation.runtime.errors import UserError
from constellation.samples import SampleSet

Array = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]

COLUMNS = {
    "critic": "critic score",
    "prior_critic": "prior-only critic score",
    "log_likelihood": "log-likelihood",
    "probe_cluster": "probe cluster",
    "posterior": "posterior",
}


@dataclass(frozen=True)
class Groups:
    """A pool cut into G disjoint groups of k candidates a task; arrays are [T, G, k].

    Attributes:
        survives: the candidate fits every visible example.
        correct: it also generalises (a generalising program fits by definition).
        program: int, index of its distinct program.
        cluster: int, candidates of a task with the same held-out outputs share it.
        length: int, its tokens.
        columns: the given ones of `COLUMNS`:
            critic: float64, the critic's logit(yes) - logit(no);
            prior_critic: float64, the same of a critic that was shown the program without the examples;
            log_likelihood: float64, log p(program | visible examples) under the generator, in nats;
            probe_cluster: int, candidates of a task with the same behaviour on its generated probes share it;
            posterior: float64, the exact probability that the candidate generalises (`tasks.posterior`).
    """

    survives: NDArray[np.bool_]
    correct: NDArray[np.bool_]
    program: NDArray[np.int32]
    cluster: NDArray[np.int32]
    length: NDArray[np.int32]
    columns: Columns

    @property
    def score(self) -> Array:
        """[T, G, k] the critic's score; 0 where no critic is given, so that it picks the first survivor."""
        return self.columns.get("critic", np.zeros(self.survives.shape))

    def divergent(self) -> NDArray[np.bool_]:
        """[T, G] whether two survivors disagree on a held-out input; elsewhere every selector ties."""
        highest = np.where(self.survives, self.cluster, np.iinfo(np.int32).min).max(-1)
        lowest = np.where(self.survives, self.cluster, np.iinfo(np.int32).max).min(-1)
        return lowest < highest


def cut(samples: SampleSet, k: int, scores: Array | Columns | None = None) -> Groups:
    """Cut a pool into its n // k groups, in sample order.

    Args:
        samples: T tasks x n samples.
        k: candidates a group.
        scores: columns of `COLUMNS` by name, [D] each, one value a distinct program; an array alone is the
            critic's. What does not fit may have none: NaN, or -1 for a cluster.

    Raises:
        UserError: when k exceeds n, a column is unknown or of another table, or a survivor has no value.
    """
    tasks, n = samples.program.shape
    if k > n:
        raise UserError(f"selection among {k} needs at least {k} samples a task, there are {n}: sample more")
    columns = {} if scores is None else scores if isinstance(scores, Mapping) else {"critic": scores}
    for name, column in columns.items():
        check_column(samples, name, np.asarray(column))
    program = samples.program[:, : n // k * k].reshape(tasks, n // k, k)
    return Groups(
        survives=samples.fits[program],
        correct=samples.right[program],
        program=program,
        cluster=samples.key[program],
        length=samples.length[program],
        columns={name: np.asarray(column)[program] for name, column in columns.items()},
    )


def check_column(samples: SampleSet, name: str, column: NDArray[Any]) -> None:
    """Raises UserError unless a column of `COLUMNS` is one of this sample set, and complete."""
    if name not in COLUMNS:
        raise UserError(f"no selector reads a column {name!r}: choose from {', '.join(COLUMNS)}")
    if column.shape != samples.task.shape:
        raise UserError(
            f"the {COLUMNS[name]} has shape {column.shape} for {len(samples.task)} distinct programs: "
            "compute it from this sample set"
        )
    of_survivors = column[samples.fits]
    missing = of_survivors < 0 if name == "probe_cluster" else ~np.isfinite(of_survivors)
    if missing.any():
        raise UserError(
            f"a program that fits has no {COLUMNS[name]}: compute it for every survivor of this sample set"
        )


def pick(groups: Groups, preference: NDArray[Any]) -> Array:
    """[T, G] 1 where the survivor of highest preference [T, G, k] is correct; ties go to the earlier sample.

    A group without survivors hands in nothing, which counts as wrong.
    """
    chosen = np.where(groups.survives, preference, -np.inf).argmax(-1)[..., None]
    hit = np.take_along_axis(groups.correct & groups.survives, chosen, -1)[..., 0]
    return hit.astype(np.float64)


def votes(groups: Groups, label: NDArray[Any], weight: NDArray[Any] | None = None) -> Array:
    """[T, G, k] the summed weight of those survivors of a candidate's group that share its label.

    Args:
        label: [T, G, k] int, what candidates vote for.
        weight: [T, G, k] of each survivor's vote, 1 each by default.
    """
    tasks, count, k = label.shape
    group = np.repeat(np.arange(tasks * count), k)
    labels = label.ravel().astype(np.int64) - label.min(initial=0)
    _, ballot = np.unique(group * (labels.max(initial=0) + 1) + labels, return_inverse=True)
    weight = groups.survives if weight is None else np.where(groups.survives, weight, 0.0)
    mass = np.asarray(np.bincount(ballot, weight.ravel()), np.float64)
    return mass[ballot].reshape(label.shape)


def naive(groups: Groups) -> Array:
    """The first survivor: paper A's baseline, verifier-filtered best of k."""
    return pick(groups, np.zeros(groups.survives.shape))


def uniform(groups: Groups) -> Array:
    """A survivor drawn uniformly among the *distinct* surviving programs, in expectation."""
    share = groups.survives / np.maximum(votes(groups, groups.program), 1)
    total = share.sum(-1)
    return (share * groups.correct).sum(-1) / np.where(total > 0, total, 1)


def shortest(groups: Groups) -> Array:
    """The survivor of fewest tokens."""
    return pick(groups, -groups.length)


def likeliest(groups: Groups) -> Array:
    """The survivor that the generator finds most likely, given the visible examples."""
    return pick(groups, groups.columns["log_likelihood"])


def probe_majority(groups: Groups) -> Array:
    """A survivor of the largest cluster of behaviour on generated probes: a vote without held-out inputs."""
    return pick(groups, votes(groups, groups.columns["probe_cluster"]))


def majority(groups: Groups) -> Array:
    """A survivor of the largest output cluster, counted in samples (AlphaCode, MBR-exec).

    It runs the candidates on the held-out inputs, which the critic never sees.
    """
    return pick(groups, votes(groups, groups.cluster))


def prior_critic(groups: Groups) -> Array:
    """The survivor of highest score of a critic that sees the program alone: what its prior is worth."""
    return pick(groups, groups.columns["prior_critic"])


def critic(groups: Groups) -> Array:
    """The survivor of highest critic score."""
    return pick(groups, groups.score)


def probe_critic_mass(groups: Groups) -> Array:
    """As `critic_mass`, with clusters of behaviour on generated probes: without held-out inputs."""
    return pick(groups, votes(groups, groups.columns["probe_cluster"], expit(groups.score)))


def critic_mass(groups: Groups) -> Array:
    """A survivor of the output cluster with the largest critic mass (DiVeRSe, arXiv 2206.02336).

    The mass is sigmoid(score), the critic's probability that the program generalises, summed over *samples*:
    how often the generator draws an output is evidence for it, too, so a critic that knows nothing leaves the
    majority vote. A sum over distinct programs would drop that evidence; one of exp(score), the odds, is
    unbounded, and a single overconfident program would decide.
    """
    return pick(groups, votes(groups, groups.cluster, expit(groups.score)))


def ideal_critic(groups: Groups) -> Array:
    """The survivor whose held-out outputs are most probable under the law that the tasks are drawn from.

    The best choice there is, on average over tasks of that law, for who knows the held-out inputs.
    """
    return pick(groups, groups.columns["posterior"])


def oracle(groups: Groups) -> Array:
    """A correct survivor wherever there is one: the ceiling of every selector."""
    return pick(groups, groups.correct)


class Information(IntEnum):
    """What a selector may know beyond the candidates; each level includes those before it."""

    VISIBLE = 0  # the visible examples, and inputs made up from theirs
    HELD_OUT_INPUTS = 1  # the inputs on which the pick will be judged
    LAW = 2  # the law that the tasks are drawn from
    HELD_OUT_OUTPUTS = 3  # the right outputs on the held-out inputs


class Selector(NamedTuple):
    """A rule for choosing among survivors, and on what terms it competes.

    Attributes:
        hits: groups -> [T, G] chance that what it hands in is correct.
        information: what it may know.
        learned: whether a model was trained to judge candidates for it; the generator was not.
        needs: the columns of `COLUMNS` it reads.
    """

    hits: Callable[[Groups], Array]
    information: Information = Information.VISIBLE
    learned: bool = False
    needs: tuple[str, ...] = ()


SELECTORS: Mapping[str, Selector] = {
    "naive": Selector(naive),
    "uniform": Selector(uniform),
    "shortest": Selector(shortest),
    "likeliest": Selector(likeliest, needs=("log_likelihood",)),
    "probe_majority": Selector(probe_majority, needs=("probe_cluster",)),
    "majority": Selector(majority, Information.HELD_OUT_INPUTS),
    "prior_critic": Selector(prior_critic, learned=True, needs=("prior_critic",)),
    "critic": Selector(critic, learned=True, needs=("critic",)),
    "probe_critic_mass": Selector(probe_critic_mass, learned=True, needs=("critic", "probe_cluster")),
    "critic_mass": Selector(critic_mass, Information.HELD_OUT_INPUTS, learned=True, needs=("critic",)),
    "ideal_critic": Selector(ideal_critic, Information.LAW, needs=("posterior",)),
    "oracle": Selector(oracle, Information.HELD_OUT_OUTPUTS),
}


class Selection(NamedTuple):
    """What every selector hands in at one k, averaged over a task's groups; arrays are [..., T].

    Attributes:
        accuracy: selector -> chance that its pick is correct.
        divergent: share of the task's groups whose survivors disagree on a held-out input.
        on_divergent: selector -> chance that the group diverges *and* the pick is correct; accuracy on
            divergent groups is sum(on_divergent) / sum(divergent).
    """

    accuracy: Mapping[str, Array]
    divergent: Array
    on_divergent: Mapping[str, Array]

    def gain(self, selector: str = "critic", over: str = "naive") -> Array:
        """Accuracy of a selector minus that of another.

        The critic's over the oracle's, a ratio of means, is the critic's share of the *room*; a task's own
        ratio is undefined where there is nothing to win.
        """
        return self.accuracy[selector] - self.accuracy[over]


def combined(
    found: Sequence[Selection], how: Callable[[Sequence[Array]], Array] = lambda arrays: np.stack(arrays)
) -> Selection:
    """Selections by the same selectors as one; by default each stands on a new first axis."""
    names = list(found[0].accuracy)
    return Selection(
        {name: how([one.accuracy[name] for one in found]) for name in names},
        how([one.divergent for one in found]),
        {name: how([one.on_divergent[name] for one in found]) for name in names},
    )


def select(samples: SampleSet, k: int, scores: Array | Columns | None = None) -> Selection:
    """Every selector whose columns are given, on every group of k, [T].

    Args:
        samples, k, scores: as `cut` takes and refuses them.

    Raises:
        AssertionError: selectors differ where all survivors agree, so the samples' verdicts are inconsistent.
    """
    groups = cut(samples, k, scores)
    divergent = groups.divergent()
    picks = {
        name: selector.hits(groups)
        for name, selector in SELECTORS.items()
        if groups.columns.keys() >= set(selector.needs)
    }
    for name, hit in picks.items():  # survivors that agree on every held-out input are all right or all wrong
        if (hit != picks["naive"])[~divergent].any():
            raise AssertionError(f"{name} and naive differ on a group whose survivors all agree")
    return Selection(
        {name: hit.mean(1) for name, hit in picks.items()},
        divergent.mean(1),
        {name: (hit * divergent).mean(1) for name, hit in picks.items()},
    )


def select_each(sets: Sequence[tuple[SampleSet, Columns]], k: int) -> Selection:
    """Selection among each of N sets, [N, T]."""
    return combined([select(samples, k, columns) for samples, columns in sets])


def divergence(samples: SampleSet, k: int) -> Array:
    """[T] share of a task's k-groups whose survivors disagree on a held-out input."""
    return cut(samples, k).divergent().mean(1)


def best_unlearned(tuning: Selection, rival: str = "critic") -> str:
    """The unlearned selector that a learned one must beat: the most accurate on tuning tasks.

    It may know no more than its rival does: the one that knows less is no worse a rival for that. Ties go to
    the earlier in `SELECTORS`.

    Args:
        tuning: selection [T] among the candidates of *tuning* tasks; on the tasks of the comparison itself
            the best of several would be best by luck, too.
        rival: the learned selector.
    """
    allowed = SELECTORS[rival].information
    eligible = [
        name
        for name, selector in SELECTORS.items()
        if name in tuning.accuracy and not selector.learned and selector.information <= allowed
    ]
    return max(eligible, key=lambda name: tuning.accuracy[name].mean())
