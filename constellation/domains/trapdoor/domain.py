"""The trapdoor domain (paper A): programs over strings, each seen through examples of what it does."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from constellation.domains.domain import Domain, Message, Verdict
from constellation.domains.law import law_of
from constellation.domains.task import EXAMPLES, PROBES, Split, Task, addressed_random, examples_text
from constellation.domains.trapdoor import (
    banks,
    description,
    extraction,
    inputs,
    posterior,
    prior,
    rivals,
    signature,
    structure,
    synthesis,
)
from constellation.domains.trapdoor.generated_probes import probe_clusters
from constellation.domains.trapdoor.language import ParseError, interpreter, parse, printer, syntax, tokens
from constellation.domains.trapdoor.language.syntax import parts_of
from constellation.domains.trapdoor.pretraining import PRETRAINING
from constellation.domains.trapdoor.prior import ATOMS
from constellation.domains.trapdoor.structure import withheld_classes
from constellation.domains.trapdoor.verifier import judge, outputs_on
from constellation.samples import SampleSet

PROMPT_VERSION = 2  # raised with every change of a prompt or of the extraction: stored samples are then old


def messages(split: Split) -> list[Message]:
    """The visible examples alone."""
    return [{"role": "user", "content": examples_text(split.visible)}]


def judge_answer(task: Task, split: Split, text: str) -> Verdict:
    """The verdict on the program in an answer; probes are run where the task has them."""
    return judge(split, extraction.extract(text), task.probes)


def answer_key(split: Split, text: str) -> Hashable:
    """The outputs on the held-out inputs; () for what is no program."""
    try:
        return outputs_on(parse(extraction.extract(text)), split.held_out)
    except ParseError:
        return ()


def reserved(text: str) -> bool:
    """Whether a program is of a withheld class, or behaves like an evaluation task."""
    try:
        program = parse(extraction.extract(text))
    except ParseError:
        return False
    return bool(withheld_classes(program)) or like_evaluation(text)


def like_evaluation(text: str) -> bool:
    """Whether a program does what an evaluation task asks for; one of a withheld class may well not."""
    try:
        behaviour = signature.signature(parse(extraction.extract(text)))
    except ParseError:
        return False
    return behaviour is not None and signature.role_of(behaviour) == "evaluation"


def training(
    role: str, max_atoms: int, seed: int, batch: int = 0, trajectory: int = 0, withheld: bool = False
) -> Iterator[Task]:
    """The tasks of a training role; see `banks.training_stream`."""
    return banks.training_stream(role, max_atoms, seed, batch, trajectory, withheld)


class Exact:
    """The prior in closed form: `domain.ExactLaw`."""

    def bank_law(self, bank: str) -> tuple[int, bool]:
        """The most atoms of a bank's tasks, and whether they are of the withheld classes."""
        return banks.BANKS[bank].max_atoms, banks.BANKS[bank].withheld

    def ceiling(
        self, tasks: Sequence[Task], split: Callable[[Task], Split], max_atoms: int, withheld: bool
    ) -> Mapping[str, NDArray[np.float64]]:
        """What is best possible on each task."""
        return posterior.bayes_ceiling(tasks, split, max_atoms, withheld)

    def posterior(
        self,
        tasks: Sequence[Task],
        split: Callable[[Task], Split],
        samples: SampleSet,
        max_atoms: int,
        withheld: bool,
    ) -> NDArray[np.float64]:
        """The ideal critic's score of every stored candidate."""
        return posterior.candidate_posterior(tasks, split, samples, max_atoms, withheld)


class Programs:
    """What can be told of a program's text: `domain.Provenance`."""

    def canonical(self, text: str) -> Hashable:
        """Its tree, however it is spelt."""
        return parse(extraction.extract(text))

    def atoms(self, text: str) -> int:
        """The parts that it concatenates."""
        return len(parts_of(parse(extraction.extract(text))))

    def structures(self, text: str) -> tuple[str, ...]:
        """The withheld classes that it belongs to."""
        return withheld_classes(parse(extraction.extract(text)))

    def probe_clusters(
        self, tasks: Sequence[Task], samples: SampleSet, split: Callable[[Task], Split]
    ) -> NDArray[np.int32]:
        """Which programs behave alike on generated probes."""
        return probe_clusters(tasks, samples, split)


# All that decides which tasks `banks` draws.
LAW = (
    banks,
    inputs,
    interpreter,
    printer,
    prior,
    rivals,
    signature,
    structure,
    syntax,
    synthesis,
    tokens,
    addressed_random,
    EXAMPLES,
    PROBES,
)

DOMAIN = Domain(
    name="trapdoor",
    version=f"trapdoor prompts {PROMPT_VERSION}",
    law=law_of(*LAW),
    system=description.DESCRIPTION,
    banks=("easy", "hard", "withheld"),
    bank=banks.bank_stream,
    training=training,
    difficulties=range(min(ATOMS), max(ATOMS) + 1),
    messages=messages,
    extract=extraction.extract,
    judge=judge_answer,
    answer_key=answer_key,
    reserved=reserved,
    like_evaluation=like_evaluation,
    exact=Exact(),
    provenance=Programs(),
    pretraining=PRETRAINING,
)
