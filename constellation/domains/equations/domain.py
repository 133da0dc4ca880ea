"""The domain of equations: questions with one exact value, answered in worked steps."""

from __future__ import annotations

from functools import partial

from constellation.domains.domain import Domain, Pretraining, question
from constellation.domains.equations import answers, arithmetic, questions, systems, working
from constellation.domains.law import law_of
from constellation.domains.task import addressed_random, owner

VERSION = 1  # raised with every change of a prompt or of the extraction

SYSTEM = f"""\
You solve equations and do arithmetic, exactly. Write one calculation a line, as 3*-4=-12, and nothing
else; fractions are in lowest terms, as -7/2. The last line is `{working.ANSWER}` and what is asked for."""
QUESTION = "right?"  # of the critic


DOMAIN = Domain(
    name="equations",
    version=f"equations prompts {VERSION}",
    law=law_of(arithmetic, systems, working, questions, addressed_random, owner),
    system=SYSTEM,
    banks=tuple(questions.BANKS),
    bank=questions.bank_stream,
    training=questions.training_stream,
    difficulties=questions.LEVELS,
    messages=question,
    judge=answers.judge,
    answer_key=answers.answer_key,
    in_format=lambda text: answers.answer_in(text).as_asked,
    critic_question=QUESTION,
    pretraining=Pretraining(
        words=(f"\n{working.ANSWER}", "=?", QUESTION),
        sources={
            name: partial(questions.stream, roles=("pretraining",), levels=levels)
            for name, levels in questions.SOURCES.items()
        },
        wrong=questions.wrong_answer,
        loose=lambda task: task.program.replace(working.ANSWER, "= "),
    ),
)
