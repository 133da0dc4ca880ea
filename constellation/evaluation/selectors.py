"""Which of k candidates to hand in: the critic, all other selectors, and where survivors diverge.

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

COLUMNS = {  # what selectors read about every distinct program -> its name in error messages
    "critic": "critic score",  # float64, the critic's logit(yes) - logit(no)
    "prior_critic": "prior-only critic score",  # the same of one that is shown the program without examples
    "log_likelihood": "log-likelihood",  # float64, ln p(program | visible examples) under the generator
    "probe_cluster": "probe cluster",  # int, shared by a task's programs of one behaviour on generated probes
    "posterior": "posterior",  # float64, the exact probability that the program generalises
}


@dataclass(frozen=True)
class Groups:
    """A pool cut into G disjoint groups of k candidates a task; arrays are [T, G, k]."""

    survives: NDArray[np.bool_]  # the candidate fits every visible example
    correct: NDArray[np.bool_]  # it also generalises (a generalising program fits by definition)
    program: NDArray[np.int32]  # index of its distinct program
    cluster: NDArray[np.int32]  # candidates of a task with the same held-out outputs share it
    length: NDArray[np.int32]  # its tokens
    columns: Columns  # those of `COLUMNS` that were given

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
    """Raises UserError unless a column is one of `COLUMNS`, of this sample set, and complete."""
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
    """[T, G, k] the summed weight, 1 each by default, of a group's survivors with a candidate's label."""
    tasks, count, k = label.shape
    group = np.repeat(np.arange(tasks * count), k)
    labels = label.ravel().astype(np.int64) - label.min(initial=0)
    _, ballot = np.unique(group * (labels.max(initial=0) + 1) + labels, return_inverse=True)
    weight = groups.survives if weight is None else np.where(groups.survives, weight, 0.0)
    mass = np.asarray(np.bincount(ballot, weight.ravel()), np.float64)
    return mass[ballot].reshape(label.shape)


def uniform(groups: Groups) -> Array:
    """[T, G] the chance of a survivor drawn uniformly among the *distinct* surviving programs."""
    share = groups.survives / np.maximum(votes(groups, groups.program), 1)
    total = share.sum(-1)
    return (share * groups.correct).sum(-1) / np.where(total > 0, total, 1)


class Information(IntEnum):
    """What a selector may know beyond the candidates; each level includes those before it."""

    VISIBLE = 0  # the visible examples, and inputs made up from theirs
    HELD_OUT_INPUTS = 1  # the inputs on which the pick will be judged
    LAW = 2  # the law that the tasks are drawn from
    HELD_OUT_OUTPUTS = 3  # the right outputs on the held-out inputs


class Selector(NamedTuple):
    """A rule for choosing among survivors, and on what terms it competes."""

    # groups -> [T, G, k], largest for the survivor that it hands in; None for one drawn uniformly
    prefers: Callable[[Groups], NDArray[Any]] | None
    information: Information = Information.VISIBLE  # what it may know
    learned: bool = False  # whether a model was trained to judge candidates for it; the generator was not
    needs: tuple[str, ...] = ()  # the columns of `COLUMNS` it reads

    def hits(self, groups: Groups) -> Array:
        """[T, G] chance that what it hands in is correct."""
        return uniform(groups) if self.prefers is None else pick(groups, self.prefers(groups))


def highest(name: str, *, learned: bool = False, **terms: Any) -> Selector:
    """The selector that prefers the highest value of a column."""
    return Selector(lambda groups: groups.columns[name], learned=learned, needs=(name,), **terms)


SELECTORS: Mapping[str, Selector] = {
    # the first survivor: paper A's baseline, verifier-filtered best of k
    "naive": Selector(lambda groups: np.zeros(groups.survives.shape)),
    "uniform": Selector(None),
    "shortest": Selector(lambda groups: -groups.length),
    "likeliest": highest("log_likelihood"),
    # a survivor of the largest cluster of behaviour on generated probes: a vote without held-out inputs
    "probe_majority": Selector(
        lambda groups: votes(groups, groups.columns["probe_cluster"]), needs=("probe_cluster",)
    ),
    # a survivor of the largest output cluster, counted in samples (AlphaCode, MBR-exec)
    "majority": Selector(lambda groups: votes(groups, groups.cluster), Information.HELD_OUT_INPUTS),
    # the choice of a critic that sees the program alone: what its prior is worth
    "prior_critic": highest("prior_critic", learned=True),
    "critic": Selector(lambda groups: groups.score, learned=True, needs=("critic",)),
    # as critic_mass, without held-out inputs
    "probe_critic_mass": Selector(
        lambda groups: votes(groups, groups.columns["probe_cluster"], expit(groups.score)),
        learned=True,
        needs=("critic", "probe_cluster"),
    ),
    # A survivor of the output cluster with the largest critic mass (DiVeRSe, arXiv 2206.02336), which is the
    # sum of sigmoid(score), the critic's probability that the program generalises, over *samples*. How often
    # the generator draws an output is evidence for it, too, so that a critic that knows nothing makes the
    # majority vote. A sum over distinct programs would drop that evidence. A sum of exp(score), the odds, is
    # unbounded, and a single overconfident program would decide.
    "critic_mass": Selector(
        lambda groups: votes(groups, groups.cluster, expit(groups.score)),
        Information.HELD_OUT_INPUTS,
        learned=True,
        needs=("critic",),
    ),
    # The survivor whose held-out outputs are the most probable under the law that the tasks are drawn from:
    # on average over tasks of that law the best choice for a selector that knows the held-out inputs.
    "ideal_critic": highest("posterior", information=Information.LAW),
    # a correct survivor wherever there is one: the ceiling of every selector
    "oracle": Selector(lambda groups: groups.correct, Information.HELD_OUT_OUTPUTS),
}


class Selection(NamedTuple):
    """What every selector hands in at one k, averaged over a task's groups; arrays are [..., T].

    Accuracy on divergent groups is sum(on_divergent) / sum(divergent).
    """

    accuracy: Mapping[str, Array]  # selector -> chance that its pick is correct
    divergent: Array  # share of the task's groups whose survivors disagree on a held-out input
    on_divergent: Mapping[str, Array]  # selector -> chance that the group diverges *and* the pick is correct

    def gain(self, selector: str = "critic", over: str = "naive") -> Array:
        """Accuracy of a selector minus that of another."""
        return self.accuracy[selector] - self.accuracy[over]


def combined(
    found: Sequence[Selection], how: Callable[[Sequence[Array]], Array] = lambda arrays: np.stack(arrays)
) -> Selection:
    """Selections by the same selectors as one, combined by `how`: by default stacked on a new first axis."""
    names = list(found[0].accuracy)
    return Selection(
        {name: how([one.accuracy[name] for one in found]) for name in names},
        how([one.divergent for one in found]),
        {name: how([one.on_divergent[name] for one in found]) for name in names},
    )


def select(samples: SampleSet, k: int, scores: Array | Columns | None = None) -> Selection:
    """Every selector whose columns are given, on every group of k, [T]; the arguments are those of `cut`.

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


def best_unlearned(tuning: Selection, learned: str = "critic") -> str:
    """The unlearned selector that a learned one must beat: the most accurate in selection on *tuning* tasks.

    On the tasks of the comparison itself the best of several would partly be best by luck. It may know as
    much as the learned selector does, or less. Ties go to the earlier selector.
    """
    allowed = SELECTORS[learned].information
    eligible = [
        name
        for name, selector in SELECTORS.items()
        if name in tuning.accuracy and not selector.learned and selector.information <= allowed
    ]
    return max(eligible, key=lambda name: tuning.accuracy[name].mean())
