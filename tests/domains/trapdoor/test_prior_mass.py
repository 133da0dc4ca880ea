"""The sum-product against programs enumerated one by one, run by the interpreter and judged by synthesis."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from constellation.domains.task import Task
from constellation.domains.trapdoor import prior
from constellation.domains.trapdoor.banks import BANKS
from constellation.domains.trapdoor.language import Node, Side, evaluate, parse
from constellation.domains.trapdoor.language.syntax import CASES, concat
from constellation.domains.trapdoor.prior_mass import Atoms
from constellation.domains.trapdoor.structure import withheld_classes
from constellation.domains.trapdoor.synthesis import ablations

INDICES = (1, 2, 3, 4, -1, -2, -3)
NAMES = ("Ann B. Lee", "bob-Ray 7", "X1 y22 z")
CODES = ("AB-12:7", "cd-3:45", "EF-6:78")


class Behaviour(NamedTuple):
    """Atoms alike in all that the rules and the examples can see."""

    outputs: tuple[str, ...]
    atom: Node  # one of them
    density: float


@cache
def behaviours(inputs: tuple[str, ...]) -> list[Behaviour]:
    """Every atom but constants, all 318,000: where the plain one does not fault, under every case."""
    anchors = list(itertools.product([*prior.CLASS.values, *prior.ANCHOR_DELIMITERS], INDICES, Side))
    plain = [Node("SubStr", (prior.X, i, j)) for i in range(-9, 10) for j in range(-9, 10) if i and j]
    plain += [Node("GetToken", (prior.X, c, i)) for c in prior.CLASS.values for i in INDICES]
    plain += [Node("GetSpan", (prior.X, *first, *last)) for first in anchors for last in anchors]
    found: dict[tuple, list] = {}
    for atom in plain:
        outputs = run(atom, inputs)
        density = math.exp(prior.log_atom_density(atom))
        if outputs is not None and density:
            from_the_end = atom.op != "GetSpan" and atom.args[-1] < 0
            found.setdefault((outputs, atom.op, from_the_end), [atom, 0.0])[1] += density
    result = []
    for (outputs, _, _), (atom, density) in found.items():
        result.append(Behaviour(outputs, atom, density))
        for case in CASES:
            cased = Node(case, (atom,))
            ratio = math.exp(prior.log_atom_density(cased) - prior.log_atom_density(atom))
            changed = run(cased, inputs)
            assert changed is not None
            result.append(Behaviour(changed, cased, density * ratio))
    return result


def run(program: Node, inputs: Sequence[str]) -> tuple[str, ...] | None:
    results = []
    for text in inputs:
        result = evaluate(program, (text,))
        if result.faults:
            return None
        results.append(result.value)
    return tuple(results)


def continuing(
    inputs: tuple[str, ...], outputs: Sequence[str | None], done: Sequence[str]
) -> list[Behaviour]:
    """The atoms that may follow what is done already; constants are read off the first output."""
    rest = [
        None if output is None else output[len(before) :]
        for output, before in zip(outputs, done, strict=True)
    ]
    assert rest[0] is not None
    constants = [Node("Const", (rest[0][:size],)) for size in range(1, len(rest[0]) + 1)]
    known = [
        Behaviour((atom.args[0],) * len(inputs), atom, math.exp(prior.log_atom_density(atom)))
        for atom in constants
    ]
    return [
        each
        for each in itertools.chain(known, behaviours(inputs))
        if each.density
        and all(r is None or r.startswith(piece) for r, piece in zip(rest, each.outputs, strict=True))
    ]


def programs(
    inputs: tuple[str, ...], outputs: Sequence[str | None], atoms: int, done: Sequence[str] = ()
) -> Iterator[tuple[list[Node], float, tuple[str, ...]]]:
    """Every program of so many atoms that agrees with the known outputs, alike ones as one."""
    done = done or [""] * len(inputs)
    if atoms == 0:
        if all(output is None or output == value for output, value in zip(outputs, done, strict=True)):
            yield [], 1.0, tuple(done)
        return
    for each in continuing(inputs, outputs, done):
        values = [before + piece for before, piece in zip(done, each.outputs, strict=True)]
        for parts, density, final in programs(inputs, outputs, atoms - 1, values):
            yield [each.atom, *parts], each.density * density, final


def enumerated_masses(
    inputs: tuple[str, ...], outputs: Sequence[str | None], max_atoms: int
) -> dict[tuple[bool, bool], float]:
    """The mass for (withheld, all_inputs)."""
    terms: dict[tuple[bool, bool], list[float]] = {(w, a): [] for w in (False, True) for a in (False, True)}
    for atoms in range(1, max_atoms + 1):
        share = math.exp(prior.ATOMS[max_atoms].log_density(atoms))
        for parts, density, values in programs(inputs, outputs, atoms):
            ops = [part.op for part in parts]
            if ops == ["Const"] or ("Const", "Const") in itertools.pairwise(ops):
                continue
            program = concat(*parts)
            withheld = bool(withheld_classes(program))
            terms[withheld, False].append(share * density)
            if not any(explains(variant, inputs, values) for variant in ablations(program)):
                terms[withheld, True].append(share * density)
    return {key: math.fsum(values) for key, values in terms.items()}


def explains(program: Node, inputs: Sequence[str], values: Sequence[str]) -> bool:
    return all(evaluate(program, (text,)).value == value for text, value in zip(inputs, values, strict=True))


@pytest.mark.parametrize(
    ("inputs", "outputs", "max_atoms"),
    [
        (NAMES, ("Ann", "bob", "X"), 1),
        (NAMES, ("Lee", "7", "z"), 3),
        (NAMES, ("Lee.", "7.", "z."), 3),
        (NAMES, ("-LEE:", "-7:", "-Z:"), 3),
        (NAMES, ("Ae", "b7", None), 2),
        (NAMES, ("-n", "-b", "-z"), 4),
        (NAMES[:2], ("n-An", "b-Bo"), 3),
        (CODES, ("712", "453", "786"), 3),
        (CODES, ("A7", "C45", "E78"), 3),
        (CODES[:1], ("7A",), 2),
        (CODES, ("1x", None, None), 2),
    ],
)
def test_the_mass_is_the_sum_over_all_programs(inputs, outputs, max_atoms):
    expected = enumerated_masses(inputs, outputs, max_atoms)
    assert any(expected.values())
    for (withheld, all_inputs), mass in expected.items():
        exact = Atoms(inputs, all_inputs).mass(outputs, max_atoms, withheld)
        assert exact == pytest.approx(mass, rel=1e-9, abs=0)


def test_what_no_program_does_has_no_mass():
    atoms = Atoms(CODES)
    assert atoms.mass(("Zzzz", "Qqqq", "Yyyy"), 4) == 0
    assert atoms.mass(("", "", "x"), 4) == 0
    assert Atoms(("a b", "")).mass(("a", ""), 4) == 0  # every atom faults on an empty input


def test_the_mass_is_the_share_of_draws():
    """Of programs drawn from the prior, counted with the rules that need no other example."""
    inputs, outputs, draws, rng = ("Ann Lee 42", "bob Ray"), ("Ann", "bob"), 20_000, random.Random(0)
    hits = 0
    for _ in range(draws):
        program = prior.draw_program(rng, 2)
        hits += run(program, inputs) == outputs and not withheld_classes(program)
    mass = Atoms(inputs).mass(outputs, 2)
    assert stats.binomtest(hits, draws, mass).pvalue > 1e-3
    assert hits > 100


@pytest.mark.parametrize(("bank", "withheld"), [("tuning_hard", False), ("withheld", True)])
def test_the_secret_program_is_counted(banks: dict[str, list[Task]], bank: str, withheld: bool):
    """Its task passed all rules, among them those that are applied here."""
    most = BANKS[bank].max_atoms
    for task in banks[bank]:
        program = parse(task.program)
        mass = Atoms([example.inputs[0] for example in task.examples], all_inputs=True).mass(
            [example.output for example in task.examples], most, withheld
        )
        assert mass >= math.exp(prior.log_density(program, most)) * (1 - 1e-9)


@settings(max_examples=30)
@given(st.permutations(range(4)), st.lists(st.booleans(), min_size=4, max_size=4), st.integers(1, 6))
def test_the_order_of_examples_is_nothing_and_another_one_only_narrows(order, known, max_atoms):
    inputs = [("Ann Lee 42", "Bob Ray 7", "Cy Zed 105", "Di Moe 3")[i] for i in order]
    outputs = [("A42", "B7", "C105", "D3")[i] for i in order]
    shown = [output if k else None for output, k in zip(outputs, known, strict=True)]
    shown[0] = outputs[0]
    some = Atoms(inputs).mass(shown, max_atoms)
    assert Atoms(inputs[::-1]).mass(shown[::-1], max_atoms) == pytest.approx(some, rel=1e-12)
    assert Atoms(inputs).mass(outputs, max_atoms) <= some * (1 + 1e-12)
    assert Atoms(inputs[:1]).mass(shown[:1], max_atoms) >= some * (1 - 1e-12)
