"""Every number of a study of peers, as rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from constellation.evaluation.entries import Entry, entry
from constellation.evaluation.pass_at_k import pass_curve
from constellation.evaluation.peers.gap import quantile_gap, relative, threshold_gap
from constellation.evaluation.peers.results import (
    AGGREGATE,
    BANK,
    BEFORE,
    MEAN,
    PST,
    InSequence,
    PeersResults,
    RoundData,
)
from constellation.evaluation.peers.votes import budgets, majority_at_k, voters
from constellation.evaluation.statistics import Bootstrap
from constellation.samples import SampleSet

Array = NDArray[np.float64]


def exact(samples: SampleSet) -> Array:
    """[T] the share of a problem's samples that are right, and written as asked."""
    return samples.per_sample(samples.right).mean(1)


def flexible(samples: SampleSet) -> Array:
    """[T] likewise, however written."""
    return samples.per_sample(samples.flexible).mean(1)


def format_errors(samples: SampleSet) -> Array:
    """[T] the share of samples that are not written as asked."""
    return 1 - samples.per_sample(samples.fits).mean(1)


MATCHES: dict[str, Callable[[SampleSet], Array]] = {
    "exact match": exact,
    "flexible match": flexible,
    "format errors": format_errors,
}


def measures(study: PeersResults, bootstrap: Bootstrap) -> list[Entry]:
    """The rows, of every model and arm."""
    return [
        *_matches(study, bootstrap),
        *_in_sequence(study, bootstrap),
        *_gaps(study, bootstrap),
        *_curves(study, bootstrap),
        *_collapse(study, bootstrap),
        *(row for each in study.rounds for row in _round(study, each)),
        *_errors(study),
        *_budget(study),
    ]


def _rows(
    study: PeersResults,
    bootstrap: Bootstrap,
    quantity: str,
    values: Mapping[str, Array],
    of: str = "",
    k: int | None = None,
    tested: bool = True,
) -> Iterator[Entry]:
    """A quantity [K, T] of every model; its change by every arm; and PST's change against the others'."""
    for model, own in values.items():
        yield entry(quantity, BANK, [model], k, bootstrap(BANK, own), of=of, by_trajectory=own.mean(1))
    for model in study.arms:
        change = values[model] - values[BEFORE]
        estimate = bootstrap(BANK, change)
        row = entry(f"change of {quantity}", BANK, [BEFORE, model], k, estimate, tested=tested, of=of)
        yield row._replace(by_trajectory=change.mean(1))
        if model != PST and PST in values:
            against = bootstrap(BANK, values[PST] - values[model])
            yield entry(f"difference of {quantity}", BANK, [model, PST], k, against, tested=tested, of=of)


def _by_peer(
    study: PeersResults,
    bootstrap: Bootstrap,
    quantity: str,
    value_of: Callable[[str, str], Array],
    of: str = "{}",
    k: int | None = None,
    tested: bool = True,
) -> Iterator[Entry]:
    """The rows of a quantity of (model, peer) for each peer, and for their mean, which alone is `tested`."""
    values = {model: [value_of(model, peer) for peer in study.peers] for model in study.models}
    for index, peer in enumerate(study.peers):
        each = {model: own[index] for model, own in values.items()}
        yield from _rows(study, bootstrap, quantity, each, of.format(peer), k, tested=False)
    means = {model: np.mean(own, 0) for model, own in values.items()}
    yield from _rows(study, bootstrap, quantity, means, of.format(MEAN), k, tested)


def _matches(study: PeersResults, bootstrap: Bootstrap) -> Iterator[Entry]:
    """Matches of samples and of greedy answers."""
    for name, statistic in MATCHES.items():
        for how, greedy in (("", False), ("greedy ", True)):
            value_of = partial(study.per_problem, statistic=statistic, greedy=greedy)
            yield from _by_peer(study, bootstrap, f"{how}{name}", value_of)


def _in_sequence(study: PeersResults, bootstrap: Bootstrap) -> Iterator[Entry]:
    """The aggregate: the reference of the greedy answers in sequence."""
    for name, column in (("exact match", "right"), ("flexible match", "flexible")):
        values = {
            model: np.stack([own.at_reference(getattr(own, column)) for own in answers]).astype(float)
            for model, answers in study.sequences.items()
        }
        yield from _rows(study, bootstrap, f"greedy {name}", values, AGGREGATE)


def gap_of(study: PeersResults, model: str, peer: str, kind: str, level: float) -> Array:
    """[K, T] a peer's gap, or the mean of the peers'; kind is "quantile" or "threshold"."""
    if peer == MEAN:
        return np.mean([gap_of(study, model, own, kind, level) for own in study.peers], 0)
    how = quantile_gap if kind == "quantile" else threshold_gap
    pairs = zip(study.samples[model, peer], study.verification[model, peer], strict=True)
    return np.stack([how(samples, scores, level) for samples, scores in pairs])


def _gaps(study: PeersResults, bootstrap: Bootstrap) -> Iterator[Entry]:
    """The GV-gap, absolute and relative, by every threshold."""
    for level in study.quantiles:
        yield from _gap(study, bootstrap, "quantile", level)
    for level in study.thresholds:
        yield from _gap(study, bootstrap, "threshold", level)


def _gap(study: PeersResults, bootstrap: Bootstrap, kind: str, level: float) -> Iterator[Entry]:
    each = itertools.product(study.models, study.peers)
    gaps = {key: gap_of(study, *key, kind, level) for key in each}
    of = f"{{}}, {kind} {level:g}"
    yield from _by_peer(study, bootstrap, "GV-gap", lambda *key: gaps[key], of)
    for model in study.models:
        parts = [relative(gaps[model, peer], study.per_problem(model, peer, exact)) for peer in study.peers]
        for name, own in ((MEAN, np.mean(parts, axis=0)), *zip(study.peers, parts, strict=True)):
            estimate = bootstrap(BANK, *own)
            yield entry("relative GV-gap", BANK, [model], None, estimate, of=of.format(name))


def _curves(study: PeersResults, bootstrap: Bootstrap) -> Iterator[Entry]:
    """pass@k and majority@k."""
    ks = budgets(study.n)
    for k in ks:
        yield from _at_k(study, bootstrap, k, tested=k in (ks[0], ks[-2], ks[-1]))


def _at_k(study: PeersResults, bootstrap: Bootstrap, k: int, tested: bool) -> Iterator[Entry]:
    statistics: dict[str, Callable[[SampleSet], Array]] = {
        "pass@k": lambda samples: pass_curve(samples.per_sample(samples.right), [k])[:, 0],
        "majority@k": lambda samples: majority_at_k(samples, k),
    }
    for quantity, statistic in statistics.items():
        value_of = partial(study.per_problem, statistic=statistic)
        yield from _by_peer(study, bootstrap, quantity, value_of, k=k, tested=tested)


def _collapse(study: PeersResults, bootstrap: Bootstrap) -> Iterator[Entry]:
    """Distinct answers and their entropy among a problem's samples: what collapses when all say the same."""

    def both(samples: SampleSet) -> Array:
        return np.stack(voters(samples.per_sample(samples.key)), axis=1)  # [T, 2]

    found = {model: study.per_problem(model, MEAN, both) for model in study.models}
    for index, (quantity, unit) in enumerate(
        (("distinct answers", "answers"), ("entropy of answers", "nats"))
    ):
        values = {model: own[..., index] for model, own in found.items()}
        for row in _rows(study, bootstrap, quantity, values, MEAN, tested=False):
            yield row._replace(unit=unit)


def _round(study: PeersResults, data: RoundData) -> Iterator[Entry]:
    """A round from inside: is the reference better than the peers, and do weights find wrong answers?"""
    models, number = (data.arm,), data.number

    def row(quantity: str, values: Sequence[float], of: str = "", unit: str = "share") -> Entry:
        own = np.array(values)
        mean = float(np.nanmean(own)) if np.isfinite(own).any() else float("nan")
        return Entry(quantity, "training", models, number, mean, of=of, by_trajectory=own, unit=unit)

    yield row("reference right", [own.at_reference(own.right).mean() for own in data.answers])
    for index, peer in enumerate(study.peers):
        yield row("answer right", [own.at_peer(own.right, index).mean() for own in data.answers], peer)
    for place in range(len(study.peers)):
        yield row("answer right", [own.right[:, place].mean() for own in data.answers], f"place {place + 1}")
    yield row("format errors", [1 - own.fits.mean() for own in data.answers])
    for quantity, which, unit in (("distinct answers", 0, "answers"), ("entropy of answers", 1, "nats")):
        yield row(quantity, [voters(own.key)[which].mean() for own in data.answers], unit=unit)
    if data.pmi is not None:
        yield row("AUC of PMI", [_auc(*own) for own in zip(data.answers, data.pmi, strict=True)])
    if data.weight is not None:
        shares = [
            (w * ~own.right).sum() / w.sum() if w.sum() else np.nan
            for own, w in zip(data.answers, data.weight, strict=True)
        ]
        yield row("share of weight on wrong answers", shares)
        wrong = [
            (~own.right)[w > 0].mean() if (w > 0).any() else np.nan
            for own, w in zip(data.answers, data.weight, strict=True)
        ]
        yield row("share of learnt answers that are wrong", wrong)
        yield row("mean weight", [w[w > 0].mean() if (w > 0).any() else np.nan for w in data.weight], unit="")


def _auc(answers: InSequence, scores: Array) -> float:
    """The probability that a right answer scores above a wrong one (Mann-Whitney), NaN without either.

    The reference itself is left out: it makes itself likely, be it right or wrong. Scores of all scorers are
    compared with one another.
    """
    right, scored = answers.right, np.isfinite(scores)
    np.put_along_axis(scored, answers.reference[:, None], False, axis=1)
    labels, ranks = right[scored], rankdata(scores[scored])
    positive, negative = labels.sum(), (~labels).sum()
    if not positive or not negative:
        return float("nan")
    return float((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _errors(study: PeersResults) -> Iterator[Entry]:
    """The correlation of the greedy errors of two peers, before."""
    for i, one in enumerate(study.peers):
        for other in study.peers[i + 1 :]:
            values = [
                _correlation(*(own.per_sample(own.right)[:, 0] for own in pair))
                for pair in zip(study.greedy[BEFORE, one], study.greedy[BEFORE, other], strict=True)
            ]
            yield Entry(
                "correlation of errors",
                BANK,
                (BEFORE,),
                None,
                float(np.mean(values)),
                of=f"{one}, {other}",
                unit="",
            )


def _correlation(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    if one.all() or other.all() or not one.any() or not other.any():
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _budget(study: PeersResults) -> Iterator[Entry]:
    """What every arm learnt from, in tokens."""
    for (arm, number), tokens in study.learnt.items():
        mean, quantity = float(tokens.mean()), "answer tokens learnt"
        yield Entry(quantity, "training", (arm,), number, mean, by_trajectory=tokens, unit="tokens")
