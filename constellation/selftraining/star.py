"""What a generator is trained on: secret programs at the warm start, its own verified programs in a round.

A round is that of STaR (2203.14465, our reconstruction): the generator's own programs that generalise. As its
control, verdicts are permuted within a task: as many programs of each task count as right, but at random
which. What a training gains from those, it does not gain from the verifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from constellation.domains.domain import Domain
from constellation.domains.task import Split, Splitter, Task
from constellation.samples import SampleSet
from constellation.selftraining.batches import TrainingExample

if TYPE_CHECKING:
    from constellation.model.model import Model

Mask = NDArray[np.bool_]


def generator_example(model: Model, domain: Domain, split: Split, programs: Sequence[str]) -> TrainingExample:
    """A generator's prompt with programs as its answers; their first stop id is learnt too."""
    return answers_example(model, domain, split, [target_ids(model, program) for program in programs])


def answers_example(
    model: Model,
    domain: Domain,
    split: Split,
    answers: Sequence[NDArray[np.int32]],
    weights: tuple[float, ...] = (),
) -> TrainingExample:
    """A generator's prompt with answers [A] to it, and their weights, 1 by default.

    A target has no thoughts, also for a model that thinks when it is sampled.
    """
    prompt = np.array(model.chat(domain.messages(split), thinking=False), np.int32)
    return TrainingExample(prompt, tuple(answers), (0,) * len(answers), weights)


def target_ids(model: Model, text: str, finished: bool = True) -> NDArray[np.int32]:
    """The tokens of an answer, with the first stop id if it came to its end."""
    stop = model.stop_ids[:1] if finished else ()
    return np.array([*model.tokenizer.encode(text), *stop], np.int32)


def warm_start_examples(
    model: Model, domain: Domain, tasks: Sequence[Task], split: Splitter
) -> list[TrainingExample]:
    """One example a task, with its secret program as the answer: the one place where that is a target."""
    return [generator_example(model, domain, split(task), [task.program]) for task in tasks]


def star_examples(
    model: Model, domain: Domain, tasks: Sequence[Task], split: Splitter, kept: Sequence[Sequence[str]]
) -> list[TrainingExample]:
    """A round's pool: each task with its `kept_programs`, if there are any. It may be empty."""
    return [
        generator_example(model, domain, split(task), programs)
        for task, programs in zip(tasks, kept, strict=True)
        if programs
    ]


def kept_programs(
    domain: Domain,
    samples: SampleSet,
    keep: int,
    right: Mask | None = None,
    reserved: Callable[[str], bool] | None = None,
) -> list[list[str]]:
    """For each task, the first `keep` distinct programs that generalise, as sampled; perhaps none.

    Nothing is read of the secret program. Reserved programs are dropped.

    Args:
        right: [D], which programs count as right; those that generalise by default.
        reserved: whether a program is; by default as the domain says.
    """
    right = samples.right if right is None else right
    reserved = reserved or domain.reserved
    kept = []
    for t in range(len(samples.task_ids)):
        accepted = samples.rows_where(right, t)  # in order of first appearance
        programs = dict.fromkeys(domain.extract(str(samples.text[row])) for row in accepted)
        kept.append([program for program in programs if not reserved(program)][:keep])
    return kept


def permuted_star_verdicts(domain: Domain, samples: SampleSet, rng: np.random.Generator) -> Mask:
    """[D] verdicts for `kept_programs`, which then keeps as many programs of each task as by the true ones.

    They are exchanged among the task's distinct programs that a round may keep at all: answers that are
    programs, not reserved, and those of one program counted once.
    """
    eligible = np.zeros(len(samples.task), np.bool_)
    for t in np.unique(samples.task[samples.right]):  # elsewhere there is nothing to exchange
        first: dict[str, int] = {}
        for row in samples.rows_where(samples.valid, int(t)):
            first.setdefault(domain.extract(str(samples.text[row])), row)
        eligible[[row for program, row in first.items() if not domain.reserved(program)]] = True
    return permuted(samples.right, samples.task, eligible, rng)


def permuted_labels(samples: SampleSet, rng: np.random.Generator) -> Mask:
    """[D] labels for `critic_examples`, exchanged among the survivors of each task."""
    return permuted(samples.right, samples.task, samples.fits, rng)


def permuted(right: Mask, task: NDArray[np.int32], among: Mask, rng: np.random.Generator) -> Mask:
    """[D] the true verdicts `right` exchanged at random within each task.

    Only the programs `among` exchange theirs; those of all others become False.
    """
    result = np.zeros_like(right)
    for t in np.unique(task[among]):
        rows = np.flatnonzero(among & (task == t))
        result[rows] = rng.permutation(right[rows])
    return result
