"""The verifier of programs: finds the one in an answer and runs it on a task's examples.

Total, exact and free. Around a program may stand thoughts, prose, code fences.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from constellation.domains.domain import Verdict
from constellation.domains.task import Example, Split
from constellation.domains.trapdoor.language import Node, ParseError, evaluate, parse
from constellation.domains.trapdoor.language.syntax import VARIABLES

MOST_CANDIDATES = 64  # that are parsed; an answer can be made of thousands of lines


def extract(text: str) -> str:
    """The program in an answer: all of it, or else the last code block, code span or line that is one.

    What follows the last `</think>` is the answer; thoughts that never end have none. An answer without a
    program is returned as it is, stripped: the verifier will find that it does not parse.
    """
    if parsed(text.strip()):
        return text.strip()
    _, mark, answer = text.rpartition("</think>")
    if not mark and "<think>" in answer:
        return ""
    answer = answer.strip()
    for candidate in itertools.islice(_candidates(answer), MOST_CANDIDATES):
        if parsed(candidate):
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


def parsed(text: str) -> Node | None:
    """The program that a text spells, if it is one."""
    try:
        return parse(text)
    except ParseError:
        return None


def judge(split: Split, text: str, probes: Sequence[Example] = ()) -> Verdict:
    """The verdict on a program's text; never raises, whatever a model writes."""
    program = parsed(text)
    if program is None:
        return Verdict(valid=False)
    visible, visible_faults = _run(program, split.visible)
    held_out, held_out_faults = _run(program, split.held_out)
    fits = _correct(visible, split.visible)
    right = fits and _correct(held_out, split.held_out)
    probe_correct = -1
    if right and probes:
        outputs, _ = _run(program, probes)
        probe_correct = sum(output == probe.output for output, probe in zip(outputs, probes, strict=True))
    return Verdict(True, visible_faults + held_out_faults, fits, right, held_out, probe_correct)


def answer_key(split: Split, text: str) -> tuple[str | None, ...]:
    """The outputs of an answer's program on the held-out inputs; () for what is no program."""
    program = parsed(extract(text))
    return () if program is None else _run(program, split.held_out)[0]


def _run(program: Node, examples: Sequence[Example]) -> tuple[tuple[str | None, ...], int]:
    """The output on each input, None where it faults, and the number of faults."""
    results = [evaluate(program, example.inputs) for example in examples]
    outputs = tuple(None if result.faults else result.value for result in results)
    return outputs, sum(result.faults for result in results)


def _correct(outputs: Sequence[str | None], examples: Sequence[Example]) -> bool:
    return all(output == example.output for output, example in zip(outputs, examples, strict=True))
