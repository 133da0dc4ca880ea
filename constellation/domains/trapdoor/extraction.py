"""The program in an answer, whatever stands around it: thoughts, prose, code fences."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from constellation.domains.trapdoor.language import ParseError, parse
from constellation.domains.trapdoor.language.syntax import VARIABLES

MOST_CANDIDATES = 64  # that are parsed; an answer can be made of thousands of lines


def extract(text: str) -> str:
    """The program in an answer: all of it, or else the last code block, code span or line that is one.

    What follows the last `</think>` is the answer; thoughts that never end have none. An answer without a
    program is returned as it is, stripped: the verifier will find that it does not parse.
    """
    if _is_program(text.strip()):
        return text.strip()
    _, mark, answer = text.rpartition("</think>")
    if not mark and "<think>" in answer:
        return ""
    answer = answer.strip()
    for candidate in itertools.islice(_candidates(answer), MOST_CANDIDATES):
        if _is_program(candidate):
            return candidate
    return answer


def _candidates(answer: str) -> Iterator[str]:
    """Where a program may stand, the likeliest first; whichever comes last was said last."""
    yield answer
    blocks = answer.split("```")[1::2]
    for block in reversed(blocks):
        yield block.strip()
        yield block.partition("\n")[2].strip()  # without the language's name
    for span in reversed(answer.split("`")[1::2]):
        yield span.strip()
    for line in reversed(answer.splitlines()):
        for candidate in (line.strip(), line.partition(": ")[2].strip()):  # the whole, or behind a label
            if candidate not in VARIABLES:  # a program alone or in code, but in prose a word
                yield candidate


def _is_program(text: str) -> bool:
    try:
        parse(text)
    except ParseError:
        return False
    return True
