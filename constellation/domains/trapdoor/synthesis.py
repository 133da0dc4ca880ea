"""Random tasks that are worth solving: draw a program and inputs, reject what is trivial or ambiguous.

The rules see all 12 examples of a task and know no split.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator

from constellation.domains.task import EXAMPLES, PROBES, Example, Task
from constellation.domains.trapdoor.inputs import FAMILIES, draw_inputs, stream_inputs, token_counts_vary
from constellation.domains.trapdoor.language import Node, evaluate, to_text
from constellation.domains.trapdoor.language.syntax import SIGNATURES, Kind, concat, parts_of, skeleton
from constellation.domains.trapdoor.rivals import has_rival
from constellation.domains.trapdoor.signature import role_of, signature
from constellation.domains.trapdoor.structure import withheld_classes

_FAMILY_NAMES = tuple(FAMILIES)
_MAX_OUTPUT = 60  # characters; longer outputs make prompts long, not tasks hard
_PROBE_DRAWS = 4  # batches of inputs tried for fault-free probes


def synthesise(
    rng: random.Random,
    draw_program: Callable[[random.Random], Node],
    *,
    roles: Collection[str],
    withheld: str | None = None,
    probes: bool = False,
    alike: float = 0.0,
    rejected: Counter[str] | None = None,
) -> Iterator[Task]:
    """An endless stream of accepted tasks.

    Args:
        rng: the stream's generator; the stream is a function of its state.
        draw_program: a program prior.
        roles: accept only tasks whose signature is reserved for one of these roles.
        withheld: None accepts programs outside every withheld class, a class's name only those in that class.
        probes: whether to add the 64 probe inputs of a bank task.
        alike: the share of a task's inputs that have one shape; see `stream_inputs`.
        rejected: counts the rejections by rule, if given.
    """
    while True:
        program = draw_program(rng)
        task_or_rule = _attempt(rng, program, roles, withheld, probes, alike)
        if isinstance(task_or_rule, Task):
            yield task_or_rule
        elif rejected is not None:
            rejected[task_or_rule] += 1


def _attempt(
    rng: random.Random,
    program: Node,
    roles: Collection[str],
    withheld: str | None,
    probes: bool,
    alike: float,
) -> Task | str:
    """A task, or the name of the rule that rejects this program on these inputs."""
    structures = withheld_classes(program)
    if structures if withheld is None else withheld not in structures:
        return "structure"
    if _adjacent_constants(program):
        return "constants"
    family = rng.choice(_FAMILY_NAMES)
    # The cheapest rule first: most programs fault soon, most others are another role's.
    inputs = stream_inputs(rng, family, frozenset(), alike)
    first = _run(program, itertools.islice(inputs, 1))
    if first is None:
        return "fault"
    behaviour = signature(program)
    if behaviour is None:
        return "signature"
    role = role_of(behaviour)
    if role not in roles:
        return "role"
    others = _run(program, itertools.islice(inputs, EXAMPLES - 1))
    if others is None:
        return "fault"
    examples = first + others
    rule = rejection(program, examples)
    if rule:
        return rule
    probe_examples = _draw_probes(rng, program, family, examples, alike) if probes else ()
    if probe_examples is None:
        return "probes"
    return Task(
        id=f"{behaviour}-{_hash(examples)}",
        examples=examples,
        program=to_text(program),
        atoms=len(parts_of(program)),
        skeleton=skeleton(program),
        structures=structures,
        role=role,
        family=family,
        probes=probe_examples,
    )


def _adjacent_constants(program: Node) -> bool:
    """Two constants in a row are one constant: a program of fewer parts."""
    parts = parts_of(program)
    return any(a.op == b.op == "Const" for a, b in itertools.pairwise(parts))


def _run(program: Node, inputs: Iterable[str]) -> tuple[Example, ...] | None:
    """The program's examples on the inputs, or None at the first fault or overlong output."""
    examples = []
    for text in inputs:
        result = evaluate(program, (text,))
        if result.faults or len(result.value) > _MAX_OUTPUT:
            return None
        examples.append(Example((text,), result.value))
    return tuple(examples)


def _hash(examples: tuple[Example, ...]) -> str:
    return hashlib.blake2b(repr(examples).encode("utf-8", "backslashreplace"), digest_size=4).hexdigest()


def rejection(program: Node, examples: tuple[Example, ...]) -> str:
    """The first rule that rejects a program on its fault-free examples, or "" where none does."""
    if len({example.output for example in examples}) == 1:
        return "constant"
    if all(example.output == example.inputs[0] for example in examples):
        return "identity"
    parts = len(parts_of(program))
    if parts > 1 and all(example.output in example.inputs[0] for example in examples):
        return "piece"
    if not token_counts_vary([example.inputs[0] for example in examples]):
        return "inputs"
    if any(_explains(variant, examples) for variant in ablations(program)):
        return "ablation"
    return "rival" if has_rival(examples, parts) else ""


def _explains(program: Node, examples: tuple[Example, ...]) -> bool:
    return all(evaluate(program, example.inputs).value == example.output for example in examples)


def ablations(program: Node) -> Iterator[Node]:
    """Every program with one node taken out: a part dropped, or an operator replaced by an argument."""
    if program.op == "Concat":
        for position in range(len(program.args)):
            yield concat(*program.args[:position], *program.args[position + 1 :])
    for position, kind in enumerate(_kinds(program)):
        argument = program.args[position]
        if kind is Kind.STRING:
            if program.op != "Concat":
                yield argument
            for variant in ablations(argument):
                yield Node(program.op, (*program.args[:position], variant, *program.args[position + 1 :]))


def _kinds(program: Node) -> tuple[Kind, ...]:
    if program.op == "Concat":
        return (Kind.STRING,) * len(program.args)
    return SIGNATURES.get(program.op, ())


def _draw_probes(
    rng: random.Random, program: Node, family: str, examples: tuple[Example, ...], alike: float
) -> tuple[Example, ...] | None:
    """64 further inputs on which the secret program does not fault, or None where they are too rare."""
    known = {example.inputs[0] for example in examples}
    probes: list[Example] = []
    for _ in range(_PROBE_DRAWS):
        for text in draw_inputs(rng, family, PROBES, frozenset(known), alike, examples[0].inputs[0]):
            known.add(text)
            result = evaluate(program, (text,))
            if not result.faults:
                probes.append(Example((text,), result.value))
            if len(probes) == PROBES:
                return tuple(probes)
    return None
