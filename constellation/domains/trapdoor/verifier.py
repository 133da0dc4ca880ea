"""The verifier of programs: runs one on a task's examples. Total, exact and free."""

from __future__ import annotations

from collections.abc import Sequence

from constellation.domains.domain import Verdict
from constellation.domains.task import Example, Split
from constellation.domains.trapdoor.language import Node, ParseError, evaluate, parse


def judge(split: Split, text: str, probes: Sequence[Example] = ()) -> Verdict:
    """The verdict on a program's text; never raises, whatever a model writes."""
    try:
        program = parse(text)
    except ParseError:
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


def outputs_on(program: Node, examples: Sequence[Example]) -> tuple[str | None, ...]:
    """A program's output on each input, None where it faults."""
    return _run(program, examples)[0]


def _run(program: Node, examples: Sequence[Example]) -> tuple[tuple[str | None, ...], int]:
    results = [evaluate(program, example.inputs) for example in examples]
    outputs = tuple(None if result.faults else result.value for result in results)
    return outputs, sum(result.faults for result in results)


def _correct(outputs: Sequence[str | None], examples: Sequence[Example]) -> bool:
    return all(output == example.output for output, example in zip(outputs, examples, strict=True))
