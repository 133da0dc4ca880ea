"""The trapdoor domain behind the seam that generator, critic, self-training and evaluation know.

A domain offers `make_bank`, `messages`, `extract`, `judge` (absent where a domain has no verifier) and
`answer_key` (what a majority votes on).
"""

from __future__ import annotations

from collections.abc import Hashable

from constellation.language import ParseError, parse
from constellation.tasks import banks, prompts
from constellation.tasks.structure import withheld_classes
from constellation.tasks.task import Split, Task
from constellation.verifier import Verdict, judge

NAME = "trapdoor"
VERSION = f"{NAME} prompts {prompts.PROMPT_VERSION}"  # part of what identifies stored samples

make_bank = banks.make_bank
training_tasks = banks.training_tasks
critic_messages = prompts.critic_messages
extract = prompts.extract


def messages(split: Split) -> list[prompts.Message]:
    """The generator's prompt for a task under a split."""
    return prompts.generator_messages(split.visible)


def judge_answer(task: Task, split: Split, text: str) -> Verdict:
    """The verifier's verdict on an answer; probes are run where the task has them."""
    return judge(split, extract(text), task.probes)


def answer_key(verdict: Verdict) -> Hashable:
    """What a majority votes on: the outputs on the held-out inputs."""
    return verdict.outputs


def withheld(text: str) -> bool:
    """Whether a program belongs to a structural class that no training may see."""
    try:
        return bool(withheld_classes(parse(extract(text))))
    except ParseError:
        return False
