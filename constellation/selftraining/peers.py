"""Peer-predictive self-training (2604.13356, our reconstruction): models teach one another without labels.

To a prompt x, n models answer one after the other in a permutation that is drawn for the prompt; each reads
the earlier answers as text. One answer is the reference r: the last, or a majority's. Of every answer y_i,

    PMI_i = log p_S(r | x, y_i) - log p_S(r | x)     under a scorer S
    w_i = sigmoid(-PMI_i / tau)                      without a gradient
    L = sum_i w_i CE_i / sum_i T_i                   over answers of T_i tokens, as in `update`

An answer that makes the reference likely is updated less, one that says nothing of it or speaks against it
more. No verdict is read; the controls are the values of `ARMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from constellation.domains.domain import Domain
from constellation.domains.task import Splitter, Task
from constellation.runtime.keys import Address, host_rng
from constellation.selftraining.batches import TrainingExample
from constellation.selftraining.star import answers_example, target_ids

if TYPE_CHECKING:  # programs that only read a finished study need no JAX
    from constellation.model.model import Generator, Model

Array = NDArray[np.float64]


class Arm(NamedTuple):
    """What the peers learn from.

    Attributes:
        weight: "pmi" for w, "inverted" for 1 - w, "shuffled" for w permuted among a peer's answers of a
            round, "one" for 1.
        answers: "sequence" where peers read one another, "alone" where nobody reads anything.
        target: "own" answers, the "reference", or the answer that a "majority" agrees with; "" as the config
            says.
        keeps: "all" answers, own ones that equal the "consensus", those of the right "format", or those that
            a judge finds "right".
    """

    weight: str = "pmi"
    answers: str = "sequence"
    target: str = ""
    keeps: str = "all"


ARMS: dict[str, Arm | None] = {
    "pst": Arm(),
    "towards_reference": Arm(target="reference"),
    "uniform": Arm(weight="one"),
    "inverted": Arm(weight="inverted"),
    "shuffled": Arm(weight="shuffled"),
    "self_only": Arm("one", "alone", "own"),
    "format_only": Arm("one", "alone", "own", "format"),
    "oracle": Arm("one", "alone", "own", "right"),
    "consensus": Arm("one", target="own", keeps="consensus"),
    "majority": Arm("one", target="majority"),
    "untrained": None,  # a copy that nothing is done to
}


class Answers(NamedTuple):
    """What n peers answered to T problems of one trajectory.

    Attributes:
        order: [T, n] the peer that answered at each place.
        texts: of each problem, the answers in that order.
        finished: [T, n] bool, whether an answer came to its end.
    """

    order: NDArray[np.int_]
    texts: list[list[str]]
    finished: NDArray[np.bool_]

    def place(self, peer: int) -> NDArray[np.int_]:
        """[T] where a peer answered."""
        return (self.order == peer).argmax(1)


def draw_order(address: Address, trajectory: int, problems: Sequence[str], peers: int) -> NDArray[np.int_]:
    """[T, n] a permutation of the peers for each problem, by its id."""
    drawn = [host_rng(*address.parts(trajectory), problem).permutation(peers) for problem in problems]
    return np.array(drawn, np.int_).reshape(len(problems), peers)


def peer_prompt(
    model: Model, domain: Domain, split: Splitter, task: Task, earlier: Sequence[str]
) -> list[int]:
    """A problem behind which the earlier answers stand, through the model's own template."""
    return model.chat(domain.messages_behind(split(task), earlier))


class Agreement(NamedTuple):
    """What the answers to T problems say together, without a judge.

    Attributes:
        key: [T, n] int, equal within a problem for answers that say the same; what came to no end says
            nothing that another says.
        majority: [T] where the most frequent answer stands, if any came to its end; of equally frequent
            ones, the later.
        reference: [T] where the reference stands: the last answer (paper B), or the majority's.
    """

    key: NDArray[np.int_]
    majority: NDArray[np.int_]
    reference: NDArray[np.int_]


def agreement(
    reference: str, domain: Domain, tasks: Sequence[Task], split: Splitter, answers: Answers
) -> Agreement:
    """The agreement of answers; `reference` is "last" or "majority"."""
    n = answers.order.shape[1]
    keys = np.zeros((len(answers.texts), n), np.int_)
    for t, (task, texts) in enumerate(zip(tasks, answers.texts, strict=True)):
        seen: dict[Any, int] = {}
        shown = split(task)
        for place, text in enumerate(texts):
            said = domain.answer_key(shown, text) if answers.finished[t, place] else ("no end", place)
            keys[t, place] = seen.setdefault(said, len(seen))
    votes = (keys[:, :, None] == keys[:, None, :]).sum(2) * answers.finished  # [T, n]
    majority = n - 1 - votes[:, ::-1].argmax(1)
    return Agreement(keys, majority, majority if reference == "majority" else np.full(len(keys), n - 1))


class Question(NamedTuple):
    """What a scorer is asked: how likely a reference is with and without an answer.

    `finished` says whether the reference came to its end.
    """

    task: Task
    answer: str
    reference: str
    finished: bool = True


def pmi(
    scorer: Generator,
    domain: Domain,
    split: Splitter,
    questions: Sequence[Sequence[Question]],
    per_token: bool,
    log_prob: Callable[..., list[list[Array]]],
) -> list[Array]:
    """log p_S(r | x, y) - log p_S(r | x), in nats, of the questions of each of R trajectories.

    The scorer reads the answer as a peer's, behind the problem. A reference that came to its end has the stop
    id there. With `per_token` the difference is divided by the reference's tokens. `log_prob` is that of
    `model.score`, or stands in for it.
    """
    model = scorer.model
    prompts: list[list[list[int]]] = []
    texts: list[list[list[NDArray[np.int32]]]] = []
    for own in questions:
        behind = [peer_prompt(model, domain, split, each.task, [each.answer]) for each in own]
        alone = [peer_prompt(model, domain, split, each.task, []) for each in own]
        references = [[target_ids(model, each.reference, each.finished)] for each in own]
        prompts.append([*behind, *alone])
        texts.append([*references, *references])
    found = []
    for own, scores, references in zip(questions, log_prob(scorer, prompts, texts), texts, strict=True):
        with_answer, without = np.concatenate([np.zeros(0), *scores]).reshape(2, len(own))
        tokens = np.array([len(reference[0]) for reference in references[: len(own)]])
        found.append((with_answer - without) / (tokens if per_token else 1))
    return found


def weights(kind: str, scores: Array, tau: float, rng: np.random.Generator) -> Array:
    """The weights [A] of a peer's answers of a round from their PMI [A], as `Arm.weight` says."""
    if kind == "one":
        return np.ones_like(scores)
    w = expit(-scores / tau)
    if kind == "shuffled":
        return rng.permutation(w)
    return 1 - w if kind == "inverted" else w


class Target(NamedTuple):
    """An answer that a peer learns, whether it came to its end, and its weight."""

    answer: str
    finished: bool
    weight: float


class Learning(NamedTuple):
    """What a config says of a round's targets.

    Attributes:
        target: of an arm that leaves it to the config.
        learns_last: whether a peer learns the problems, too, that it answers as the last one.
        tau: the temperature of the weights, in the unit of PMI.
    """

    target: str
    learns_last: bool
    tau: float


def learnt_by(peer: int, order: NDArray[np.int_], learns_last: bool) -> NDArray[np.bool_]:
    """[T] which problems a peer learns from, of those with this order [T, n]: the same in every arm."""
    return learns_last | (order[:, -1] != peer)


def sequence_targets(
    arm: Arm,
    learning: Learning,
    peer: int,
    answers: Answers,
    agreed: Agreement,
    scores: Array,
    rng: np.random.Generator,
) -> list[Target | None]:
    """What a peer learns of each of T problems where the peers have read one another; None for nothing.

    `scores` are the PMI [T, n] of the answers; `rng` is what "shuffled" permutes with.
    """
    problems, own = np.arange(len(answers.texts)), answers.place(peer)
    places = {"own": own, "reference": agreed.reference, "majority": agreed.majority}
    place = places[arm.target or learning.target]
    learnt = learnt_by(peer, answers.order, learning.learns_last)
    if arm.keeps == "consensus":
        learnt &= agreed.key[problems, own] == agreed.key[problems, agreed.majority]
    w = np.zeros(len(problems))
    w[learnt] = weights(arm.weight, scores[problems, own][learnt], learning.tau, rng)
    return [
        Target(answers.texts[t][at], bool(answers.finished[t, at]), float(w[t])) if learnt[t] else None
        for t, at in enumerate(place.tolist())
    ]


def peer_examples(
    model: Model, domain: Domain, split: Splitter, tasks: Sequence[Task], targets: Sequence[Target | None]
) -> list[TrainingExample]:
    """Each problem alone and its weighted target: what a peer learns is to give it without its peers."""
    return [
        answers_example(
            model, domain, split(task), [target_ids(model, target.answer, target.finished)], (target.weight,)
        )
        for task, target in zip(tasks, targets, strict=True)
        if target
    ]
