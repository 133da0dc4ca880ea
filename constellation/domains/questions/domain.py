"""The domain of questions from files, as `questions:<file>[,<file>...]`; the repository has none of these."""

from __future__ import annotations

import hashlib
from functools import partial

from constellation.domains.domain import Domain, question
from constellation.domains.law import law_of
from constellation.domains.questions import answers, files, streams
from constellation.domains.task import addressed_random
from constellation.runtime.errors import UserError

VERSION = 1  # raised with every change of a prompt, of the extraction, or of math-verify

SYSTEM = rf"""\
You solve mathematical problems. Think step by step, and end with: {files.final_answer("...")}"""


def make_domain(arguments: str) -> Domain:
    """The domain of the questions in the files whose names are given, with commas between them.

    Raises UserError: none is given, or as `files.read_questions`.
    """
    paths = [path for path in arguments.split(",") if path]
    if not paths:
        raise UserError("config.domain = 'questions' names no file: give 'questions:<file>[,<file>...]'")
    tasks = files.read_questions(paths)
    content = int(hashlib.blake2b(repr(tasks).encode(), digest_size=16).hexdigest(), 16)
    return Domain(
        name=f"questions:{arguments}",
        version=f"questions prompts {VERSION}",
        law=law_of(streams, addressed_random, content),
        system=SYSTEM,
        banks=("hard",),
        bank=partial(streams.bank_stream, tasks),
        training=partial(streams.training_stream, tasks),
        difficulties=files.LEVELS,
        messages=question,
        judge=answers.judge,
        answer_key=answers.answer_key,
        in_format=lambda text: r"\boxed{" in text,
        worked=False,
        critic_question="right?",
    )
