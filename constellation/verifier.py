"""The verifier: runs a candidate on a task's examples. The only truth of the study; total, exact and free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from constellation.domains.task import Example, Split
from constellation.domains.trapdoor.language import Node, ParseError, evaluate, parse


@dataclass(frozen=True)
class Verdict:
    """What a candidate does.

    Attributes:
        parsed: whether the text is a program.
        faults: faults over all examples of the split; any fault on an example makes it wrong (strict mode).
        fits: correct on every visible example (what lets a candidate survive).
        generalises: correct on every visible and every held-out example (paper A's "correct").
        outputs: its outputs on the held-out inputs, None where it faults; () for what is no program.
        probe_correct: on how many of the task's probe inputs it is right; -1 unless it generalises.
    """

    parsed: bool
    faults: int = 0
    fits: bool = False
    generalises: bool = False
    outputs: tuple[str | None, ...] = ()
    probe_correct: int = -1


def judge(split: Split, text: str, probes: Sequence[Example] = ()) -> Verdict:
    """The verdict on a program's text; never raises, whatever a model writes."""
    try:
        program = parse(text)
    except ParseError:
        return Verdict(parsed=False)
    visible, visible_faults = _run(program, split.visible)
    held_out, held_out_faults = _run(program, split.held_out)
    fits = _correct(visible, split.visible)
    generalises = fits and _correct(held_out, split.held_out)
    probe_correct = -1
    if generalises and probes:
        outputs, _ = _run(program, probes)
        probe_correct = sum(output == probe.output for output, probe in zip(outputs, probes, strict=True))
    return Verdict(True, visible_faults + held_out_faults, fits, generalises, held_out, probe_correct)


def _run(program: Node, examples: Sequence[Example]) -> tuple[tuple[str | None, ...], int]:
    results = [evaluate(program, example.inputs) for example in examples]
    outputs = tuple(None if result.faults else result.value for result in results)
    return outputs, sum(result.faults for result in results)


def _correct(outputs: Sequence[str | None], examples: Sequence[Example]) -> bool:
    return all(output == example.output for output, example in zip(outputs, examples, strict=True))
