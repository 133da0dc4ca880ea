"""The trapdoor domain behind the seam that generator, critic, self-training and evaluation know.

A domain offers tasks (`make_bank`, `training_tasks`), prompts (`messages`, `critic_messages`, `extract`),
`judge_answer` (absent where a domain has no verifier), `answer_key` (what a majority votes on), and what no
training may see (`reserved`).
"""

from __future__ import annotations

from collections.abc import Hashable

from constellation.domains.task import Split, Task
from constellation.domains.trapdoor import banks, description, extraction, prompts
from constellation.domains.trapdoor.language import ParseError, parse
from constellation.domains.trapdoor.signature import role_of, signature
from constellation.domains.trapdoor.structure import withheld_classes
from constellation.verifier import Verdict, judge

NAME = "trapdoor"
VERSION = f"{NAME} prompts {prompts.PROMPT_VERSION}"  # part of what identifies stored samples

make_bank = banks.make_bank
bank_stream = banks.bank_stream
training_stream = banks.training_stream
training_tasks = banks.training_tasks
DESCRIPTION = description.DESCRIPTION
critic_messages = prompts.critic_messages
extract = extraction.extract


def messages(split: Split) -> list[prompts.Message]:
    """The generator's prompt for a task under a split."""
    return prompts.generator_messages(split.visible)


def judge_answer(task: Task, split: Split, text: str) -> Verdict:
    """The verifier's verdict on an answer; probes are run where the task has them."""
    return judge(split, extract(text), task.probes)


def answer_key(verdict: Verdict) -> Hashable:
    """What a majority votes on: the outputs on the held-out inputs."""
    return verdict.outputs


def reserved(text: str) -> bool:
    """Whether no training may see a program: of a withheld class, or behaving like an evaluation task."""
    try:
        program = parse(extract(text))
    except ParseError:
        return False
    return bool(withheld_classes(program)) or behaves_like_evaluation(text)


def behaves_like_evaluation(text: str) -> bool:
    """Whether a program does what an evaluation task asks for; one of a withheld class may well not."""
    try:
        behaviour = signature(parse(extract(text)))
    except ParseError:
        return False
    return behaviour is not None and role_of(behaviour) == "evaluation"
