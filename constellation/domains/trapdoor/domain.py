"""The trapdoor domain (paper A): programs over strings, each seen through examples of what it does."""

from __future__ import annotations

from constellation.domains.domain import Domain, ExactLaw, Provenance, Verdict
from constellation.domains.law import law_of
from constellation.domains.task import EXAMPLES, PROBES, Split, Task, addressed_random, owner
from constellation.domains.trapdoor import (
    banks,
    description,
    inputs,
    posterior,
    prior,
    rivals,
    signature,
    structure,
    synthesis,
    verifier,
)
from constellation.domains.trapdoor.generated_probes import probe_clusters
from constellation.domains.trapdoor.language import Node, interpreter, parse, syntax, tokens
from constellation.domains.trapdoor.pretraining import PRETRAINING
from constellation.domains.trapdoor.prior import ATOMS

PROMPT_VERSION = 2  # raised with every change of a prompt or of the extraction: stored samples are then old


def judge_answer(task: Task, split: Split, text: str) -> Verdict:
    """The verdict on the program in an answer; probes are run where the task has them."""
    return verifier.judge(split, verifier.extract(text), task.probes)


def reserved(text: str) -> bool:
    """Whether a program is of a withheld class, or behaves like an evaluation task."""
    program = verifier.parsed(verifier.extract(text))
    return program is not None and (bool(structure.withheld_classes(program)) or _like_evaluation(program))


def like_evaluation(text: str) -> bool:
    """Whether a program does what an evaluation task asks for; one of a withheld class may well not."""
    program = verifier.parsed(verifier.extract(text))
    return program is not None and _like_evaluation(program)


def _like_evaluation(program: Node) -> bool:
    behaviour = signature.signature(program)
    return behaviour is not None and signature.role_of(behaviour) == "evaluation"


def program_in(answer: str) -> Node:
    """The program's tree, however it is spelt. Raises ParseError: there is none in the answer."""
    return parse(verifier.extract(answer))


# All that decides which tasks `banks` draws.
LAW = (
    banks,
    inputs,
    interpreter,
    prior,
    rivals,
    signature,
    structure,
    syntax,
    synthesis,
    tokens,
    addressed_random,
    owner,
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
    training=banks.training_stream,
    difficulties=range(min(ATOMS), max(ATOMS) + 1),
    extract=verifier.extract,
    judge=judge_answer,
    answer_key=verifier.answer_key,
    in_format=lambda text: verifier.parsed(verifier.extract(text)) is not None,
    reserved=reserved,
    like_evaluation=like_evaluation,
    exact=ExactLaw(
        bank_law=lambda bank: (banks.BANKS[bank].max_atoms, banks.BANKS[bank].withheld),
        ceiling=posterior.bayes_ceiling,
        posterior=posterior.candidate_posterior,
    ),
    provenance=Provenance(
        canonical=program_in,
        atoms=lambda answer: len(syntax.parts_of(program_in(answer))),
        structures=lambda answer: structure.withheld_classes(program_in(answer)),
        probe_clusters=probe_clusters,
    ),
    pretraining=PRETRAINING,
)
