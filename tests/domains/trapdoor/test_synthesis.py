"""Each rejection rule on hand-made tasks, and all of them on drawn ones."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import pytest

from constellation.domains.task import EXAMPLES, PROBES, Example, Task
from constellation.domains.trapdoor import synthesis
from constellation.domains.trapdoor.inputs import FAMILIES
from constellation.domains.trapdoor.language import Node, evaluate, parse, to_text
from constellation.domains.trapdoor.language.syntax import parts_of, skeleton
from constellation.domains.trapdoor.pretraining import draw_wide_program
from constellation.domains.trapdoor.prior import draw_program
from constellation.domains.trapdoor.signature import ROLES, role_of, signature
from constellation.domains.trapdoor.structure import withheld_classes
from constellation.domains.trapdoor.synthesis import ablations, rejection, synthesise

WORDS = "ant bee cat dog elk fox gnu hen ibis jay kid".split()


class Exhausted(Exception):
    pass


def attempts(text: str, count: int = 1, **kwargs) -> tuple[list[Task], Counter[str]]:
    """What becomes of one program on `count` draws of inputs."""
    programs = iter([parse(text)] * count)

    def draw(rng: random.Random) -> Node:
        for program in programs:
            return program
        raise Exhausted

    accepted: list[Task] = []
    rejected: Counter[str] = Counter()
    try:
        for task in synthesise(random.Random(0), draw, rejected=rejected, **{"roles": ROLES} | kwargs):
            accepted.append(task)
    except Exhausted:
        pass
    return accepted, rejected


def examples_of(text: str, inputs: list[str]) -> tuple[Example, ...]:
    results = [evaluate(parse(text), (x,)) for x in inputs]
    assert not any(result.faults for result in results)
    return tuple(Example((x,), result.value) for x, result in zip(inputs, results, strict=True))


# A rule, a program, eleven inputs on which the rule rejects it, and a twelfth that saves it.
RULES = {
    "constant": (
        "Upper(GetToken(x, Word, -1))",
        [*(f"{w} end" for w in WORDS[1:]), "ant bee end"],
        "ant stop",
    ),
    "identity": ("GetToken(x, NonSpace, 1)", [*WORDS[1:], "ant-bee"], "yak zebu"),
    "piece": (
        "Concat(SubStr(x, 1, 1), GetToken(x, Number, 1))",
        [*(f"{w[0]}{i} {w}" for i, w in enumerate(WORDS[1:])), "a7 b c"],
        "yak-7",
    ),
    "inputs": ("Upper(GetToken(x, Word, 1))", [f"{w} {w}" for w in WORDS], "yak"),
    "ablation": (
        "Upper(GetToken(x, Alphanum, 1))",
        [*(f"{i} {w}" for i, w in enumerate(WORDS[1:])), "77 a b"],
        "yak 7",
    ),
    "rival": (
        "Concat(SubStr(x, 1, 2), Upper(GetToken(x, Word, 1)))",
        [*(f"1{i}{w} 3" for i, w in enumerate(WORDS[1:9])), "57ant 3 4", "68bee 3", "79cat 3"],
        "1234yak",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_rejects_and_sees_all_twelve_examples(rule: str):
    text, eleven, twelfth = RULES[rule]
    assert len(eleven) == EXAMPLES - 1
    assert rejection(parse(text), examples_of(text, eleven)) == rule
    assert rejection(parse(text), examples_of(text, [*eleven, twelfth])) == ""


def test_a_rival_may_add_a_constant_to_tasks_of_three_parts():
    text = 'Concat(Const("<"), SubStr(x, 1, 1), SubStr(x, 2, 3))'
    assert rejection(parse(text), examples_of(text, [*WORDS, "ant bee"])) == "rival"


@pytest.mark.parametrize(
    ("rule", "text", "kwargs"),
    [
        ("fault", "GetToken(x, Number, 9)", {}),
        ("fault", "Concat(x, x, x, x, x, x, x, x)", {}),  # too long
        ("signature", 'Const("ab")', {}),
        ("identity", "SubStr(x, 1, -1)", {}),
        ("piece", "Concat(SubStr(x, 1, 1), SubStr(x, 2, 2))", {}),
        ("ablation", "Upper(Upper(x))", {}),
        ("constants", 'Concat(SubStr(x, 1, 2), Const("a"), Const("b"))', {}),
        ("signature", "Count(x, Alphanum)", {}),
        ("structure", "Concat(Upper(SubStr(x, 1, 2)), Lower(SubStr(x, 1, 2)))", {}),
        ("structure", "Upper(x)", {"withheld": "two_cases"}),
        ("role", "Upper(GetToken(x, Char, 2))", {"roles": ()}),
    ],
)
def test_the_stream_rejects(rule: str, text: str, kwargs: dict):
    accepted, rejected = attempts(text, 8, **kwargs)
    assert not accepted and rejected[rule] >= 6
    assert set(rejected) <= {rule, "constant", "inputs", "ablation", "fault"}


def test_a_fault_on_the_last_example_rejects(monkeypatch: pytest.MonkeyPatch):
    text = "Upper(GetToken(x, Word, 1))"
    inputs = [*(f"{i} {w}" for i, w in enumerate(WORDS)), "yak"]
    monkeypatch.setattr(synthesis, "stream_inputs", lambda *_: iter(inputs))
    assert len(attempts(text)[0]) == 1
    inputs[-1] = "7"
    assert attempts(text) == ([], Counter(fault=1))


def test_probes_never_repeat_an_example(monkeypatch: pytest.MonkeyPatch):
    # families of 240 inputs, of which twelve are examples: independent draws would meet one of them
    for family in FAMILIES:
        monkeypatch.setitem(
            FAMILIES, family, lambda rng: f"{'b ' * rng.randrange(1, 3)}c{rng.randrange(120)}"
        )
    accepted, _ = attempts("Upper(GetToken(x, Word, 2))", 5, probes=True)
    assert len(accepted) == 5
    for task in accepted:
        assert len({example.inputs for example in (*task.examples, *task.probes)}) == EXAMPLES + PROBES


def test_probes_are_fault_free_and_new(monkeypatch: pytest.MonkeyPatch):
    accepted, _ = attempts("Upper(GetToken(x, Word, 2))", 30, probes=True)
    assert accepted
    for task in accepted:
        inputs = [example.inputs[0] for example in (*task.examples, *task.probes)]
        assert len(task.probes) == PROBES and len(set(inputs)) == EXAMPLES + PROBES
        assert all(evaluate(parse(task.program), e.inputs)[:2] == (e.output, 0) for e in task.probes)

    drawn = synthesis.draw_inputs

    def mostly_faulting(rng, family, count, exclude, *shape):
        texts = drawn(rng, family, count, exclude, *shape)
        return [str(hash(text)) for text in texts] if exclude else texts  # probes without a word

    monkeypatch.setattr(synthesis, "draw_inputs", mostly_faulting)
    accepted, rejected = attempts("Upper(GetToken(x, Word, 2))", 30, probes=True)
    assert not accepted and rejected["probes"]


def test_ablations_take_out_one_node_each():
    text = 'Concat(Upper(GetToken(x, Word, 1)), Const("-"), If(Contains(x, Digit), Trim(x), x))'
    token, last = "Upper(GetToken(x, Word, 1))", "If(Contains(x, Digit), Trim(x), x)"
    assert {to_text(variant) for variant in ablations(parse(text))} == {
        f'Concat(Const("-"), {last})',
        f"Concat({token}, {last})",
        f'Concat({token}, Const("-"))',
        f'Concat(GetToken(x, Word, 1), Const("-"), {last})',
        f'Concat(Upper(x), Const("-"), {last})',
        f'Concat({token}, Const("-"), Trim(x))',
        f'Concat({token}, Const("-"), x)',
        f'Concat({token}, Const("-"), If(Contains(x, Digit), x, x))',
    }
    assert list(ablations(parse("x"))) == []


@pytest.mark.parametrize("draw", [lambda rng: draw_program(rng, 6), draw_wide_program])
def test_accepted_tasks_are_what_they_say(draw):
    rejected: Counter[str] = Counter()
    tasks = list(islice(synthesise(random.Random(3), draw, roles=ROLES, rejected=rejected), 60))
    for task in tasks:
        program = parse(task.program)
        inputs, outputs = [e.inputs[0] for e in task.examples], [e.output for e in task.examples]
        assert len(set(inputs)) == EXAMPLES and len(set(outputs)) > 1 and inputs != outputs
        assert [evaluate(program, (x,))[:2] for x in inputs] == [(output, 0) for output in outputs]
        assert task.program == to_text(program) and task.skeleton == skeleton(program)
        assert task.atoms == len(parts_of(program))
        assert task.atoms == 1 or not all(o in x for o, x in zip(outputs, inputs, strict=True))
        assert 'Const("' not in task.program or not any(
            a.op == b.op == "Const" for a, b in zip(parts_of(program), parts_of(program)[1:], strict=False)
        )
        assert task.signature == signature(program) and task.role == role_of(task.signature)
        assert task.structures == withheld_classes(program) == () and task.probes == ()
    assert len({task.id for task in tasks}) == len(tasks)
    assert {"fault", "structure", "signature", "ablation"} <= set(rejected)


def test_a_stream_is_a_function_of_its_generator():
    def stream(seed: int) -> list[Task]:
        return list(islice(synthesise(random.Random(seed), lambda r: draw_program(r, 4), roles=ROLES), 10))

    assert stream(0) == stream(0) != stream(1)


def test_a_withheld_class_can_be_asked_for():
    stream = synthesise(
        random.Random(0), lambda rng: draw_program(rng, 4), roles=ROLES, withheld="twice_from_the_end"
    )
    assert all("twice_from_the_end" in task.structures for task in islice(stream, 8))
