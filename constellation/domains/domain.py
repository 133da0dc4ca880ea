"""The seam between a domain and everything else: what a model is asked, and how its answers are judged.

A domain is one folder here, or any module, with a `Domain` called DOMAIN or, where it takes arguments, a
function `make_domain` from these to a `Domain`. Generator, critic, self-training, stages and commands take it
as an argument; none of them knows a domain by name.
"""

from __future__ import annotations

import importlib
import itertools
import random
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from constellation.domains.task import Split, Splitter, Task, examples_text
from constellation.runtime.errors import UserError

Message = Mapping[str, str]

CRITIC_QUESTION = "generalises?"
CRITIC_ANSWERS = ("yes", "no")
ANOTHER = "\n\nAnother answer:\n"  # stands before what another model has answered


@dataclass(frozen=True)
class Verdict:
    """What a verifier says of an answer.

    Attributes:
        valid: whether it is an answer at all, as a program that parses.
        faults: of a program, over all examples of the split; any fault on an example makes it wrong.
        fits: right as far as the prompt tells: on every visible example. What does not fit, no one hands in.
        right: right on the visible and the held-out examples (paper A's "correct").
        key: hashable, the domain's `answer_key`.
        probe_correct: on how many of the task's probe inputs it is right; -1 where they were not run.
        flexible: right, be it in another format than was asked for; None where there is one format alone.
    """

    valid: bool
    faults: int = 0
    fits: bool = False
    right: bool = False
    key: Any = ()
    probe_correct: int = -1
    flexible: bool | None = None

    @property
    def matches(self) -> bool:
        """Whether it is right in whatever format."""
        return self.right if self.flexible is None else self.flexible


class TrainingStream(Protocol):
    """The tasks of a training role without end, for one batch of one trajectory."""

    def __call__(
        self, role: str, max_atoms: int, seed: int, batch: int, trajectory: int, withheld: bool
    ) -> Iterator[Task]:
        """`max_atoms` is the difficulty; `withheld` asks for the classes that no other training sees."""


@dataclass(frozen=True)
class ExactLaw:
    """The law that a domain's tasks are drawn from, where it is tractable: (max_atoms, withheld).

    Attributes:
        bank_law: that of a bank's tasks.
        ceiling: (tasks, split, *law) to each task's "sampler", pass@1 of the ideal sampler, and "secret", the
            ideal critic's score: [T].
        posterior: (tasks, split, `SampleSet`, *law) to the probability that a distinct answer is right: [D];
            NaN where it cannot be.
    """

    bank_law: Callable[[str], tuple[int, bool]]
    ceiling: Callable[[Sequence[Task], Splitter, int, bool], Mapping[str, NDArray[np.float64]]]
    posterior: Callable[[Sequence[Task], Splitter, Any, int, bool], NDArray[np.float64]]


@dataclass(frozen=True)
class Provenance:
    """What can be told of an answer's text, where answers are programs.

    Attributes:
        canonical: equal for two spellings of one program.
        atoms: its difficulty.
        structures: the withheld classes that it belongs to.
        probe_clusters: (tasks, `SampleSet`, split) to [D] which answers of a task behave alike on inputs made
            up from its visible ones; -1 for none.
    """

    canonical: Callable[[str], Hashable]
    atoms: Callable[[str], int]
    structures: Callable[[str], tuple[str, ...]]
    probe_clusters: Callable[[Sequence[Task], Any, Splitter], NDArray[np.int32]]


@dataclass(frozen=True)
class Pretraining:
    """What a small base model of a domain's own is pretrained on.

    Attributes:
        sources: of the corpus, by name: tasks without end, drawn in a worker process.
        wrong: a wrong answer to a task, as a model might give it.
        loose: the right answer in another format than is asked for; None where there is one format alone.
        operators: where answers are nested calls, the lexemes that open one, as `Upper(`.
        leaves: likewise the arguments that are no calls; a lexeme holds the `, ` or `)` behind one.
        quotes: likewise the lexemes that end a quoted argument.
        words: further lexemes, wherever they stand.
    """

    sources: Mapping[str, Callable[[random.Random], Iterator[Task]]]
    wrong: Callable[[Task, random.Random], str]
    loose: Callable[[Task], str] | None = None
    operators: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    quotes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


def question(split: Split) -> list[Message]:
    """The prompt of a task that is one question."""
    return [{"role": "user", "content": split.visible[0].inputs[0]}]


def visible_examples(split: Split) -> list[Message]:
    """The prompt that shows the visible examples, and nothing else."""
    return [{"role": "user", "content": examples_text(split.visible)}]


@dataclass(frozen=True)
class Domain:
    """What a study needs to know of a domain; a value that is handed on.

    Attributes:
        name: of its folder in `constellation.domains`, or the dotted name of its module; where that takes
            arguments, with them: `load_domain` of the name is the same domain, in another process, too.
        system: the system message for models that do not know the domain.
        bank: (bank, seed) to its tasks without end, or to a UserError behind the last there is. Tuning banks
            have the names "tuning_<bank>".
        training: the tasks of a training role: "warm_start", "star", "critic" or "calibration".
        judge: the verdict on a text; None where nothing can judge, as when models learn without labels.
        version: of prompts and extraction; part of what identifies stored samples.
        law: a hash of what decides which tasks are drawn; part of what identifies stored tasks.
        banks: names of the evaluation banks; the first is the easiest.
        difficulties: what `max_atoms` may be.
        messages: the generator's prompt for a split.
        extract: the answer in a text, whatever stands around it.
        answer_key: what a majority votes on: equal for answers that say the same, be it right or wrong.
        in_format: whether an answer has the format that is asked for, be it right or wrong.
        reserved: whether no training may see an answer: of a withheld class, or an evaluation task's.
        like_evaluation: whether an answer does what an evaluation task asks for.
        worked: whether a task's program is an answer as a model writes it, not its result alone.
        critic_question: what a critic is asked about an answer; it says one of CRITIC_ANSWERS.
        exact: the law of its tasks; None where it is not tractable.
        provenance: of answers; None where answers are no programs.
        pretraining: None where no base is pretrained on the domain alone.
    """

    name: str
    system: str
    bank: Callable[[str, int], Iterator[Task]]
    training: TrainingStream
    judge: Callable[[Task, Split, str], Verdict] | None
    version: str = "1"
    law: str = "1"
    banks: tuple[str, ...] = ("easy", "hard")
    difficulties: range = range(1, 5)
    messages: Callable[[Split], list[Message]] = visible_examples
    extract: Callable[[str], str] = str.strip
    answer_key: Callable[[Split, str], Hashable] = lambda split, text: text.strip()
    in_format: Callable[[str], bool] = lambda text: True
    reserved: Callable[[str], bool] = lambda text: False
    like_evaluation: Callable[[str], bool] = lambda text: False
    worked: bool = True
    critic_question: str = CRITIC_QUESTION
    exact: ExactLaw | None = None
    provenance: Provenance | None = None
    pretraining: Pretraining | None = None

    def make_bank(self, name: str, size: int, seed: int = 0) -> list[Task]:
        return list(itertools.islice(self.bank(name, seed), size))

    def training_tasks(
        self,
        role: str,
        count: int,
        max_atoms: int,
        seed: int = 0,
        batch: int = 0,
        trajectory: int = 0,
        withheld: bool = False,
    ) -> list[Task]:
        stream = self.training(role, max_atoms, seed, batch, trajectory, withheld)
        return list(itertools.islice(stream, count))

    def verdict(self, task: Task, split: Split, text: str) -> Verdict:
        """The judge's verdict on a text. Raises UserError: the domain has no judge."""
        if self.judge is None:
            raise UserError(f"domain {self.name} has no judge: STaR and whatever reads verdicts need one")
        return self.judge(task, split, text)

    def unjudged(self) -> Domain:
        """The same without a judge: what learns from it cannot see a verdict."""
        return replace(self, judge=None)

    def messages_behind(self, split: Split, earlier: Sequence[str]) -> list[Message]:
        """The generator's prompt, with what other models have answered at the end of its last turn."""
        *turns, last = self.messages(split)
        shown = "".join(f"{ANOTHER}{text}" for text in earlier)
        return [*turns, {**last, "content": last["content"] + shown}]

    def critic_messages(self, split: Split, answer: str) -> list[Message]:
        """The critic's prompt: the generator's conversation, then a question about its answer.

        It begins with the generator's prompt, so all candidates of a task share that prefix.
        """
        return [
            *self.messages(split),
            {"role": "assistant", "content": answer},
            {"role": "user", "content": self.critic_question},
        ]


def load_domain(name: str) -> Domain:
    """The domain of a folder here, or of a module by its dotted name; behind a colon stand its arguments.

    Raises UserError: there is none, or it does not take these arguments.
    """
    folder, colon, arguments = name.partition(":")
    module = folder if "." in folder else f"{__package__}.{folder}"
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):  # the module is there and imports what is not
            raise
        found = None
    if make_domain := getattr(found, "make_domain", None):
        return make_domain(arguments)
    domain = getattr(found, "DOMAIN", None)
    if not isinstance(domain, Domain):
        raise UserError(
            f"config.domain = {name!r} is no domain: give a folder of constellation/domains, or the dotted "
            "name of a module that has a DOMAIN"
        )
    if colon:
        raise UserError(f"config.domain = {name!r}: {folder} takes no arguments, give {folder!r} alone")
    return domain
