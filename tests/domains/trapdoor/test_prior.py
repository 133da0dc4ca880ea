"""The density against the draws and against exhaustive sums; draws and density are written separately."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest
from scipy import stats

from constellation.domains.trapdoor import prior
from constellation.domains.trapdoor.language import Node, Side, TokenClass, parse, to_text
from constellation.domains.trapdoor.language.syntax import CASES, MAX_INDEX, parts_of

INDICES = [i for i in range(-MAX_INDEX, MAX_INDEX + 1) if i]
LOWER, UPPER = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TABLES = {
    name: table
    for name, table in [*vars(prior).items(), *((f"ATOMS[{m}]", t) for m, t in prior.ATOMS.items())]
    if isinstance(table, prior.Table)
}


def density(atom: Node) -> float:
    return math.exp(prior.log_atom_density(atom))


def with_cases(nodes: list[Node]) -> list[Node]:
    return [*nodes, *(Node(case, (node,)) for case in CASES for node in nodes)]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_sums_to_one(name: str):
    table = TABLES[name]
    assert sum(math.exp(table.log_density(value)) for value in table.values) == pytest.approx(1, abs=1e-12)
    assert table.log_density("nothing like it") == -math.inf


def test_all_substrings_have_the_weight_of_their_kind():
    atoms = with_cases([Node("SubStr", (prior.X, i, j)) for i in INDICES for j in INDICES])
    weight = math.exp(prior.KIND.log_density("SubStr"))
    assert math.fsum(map(density, atoms)) == pytest.approx(weight, rel=1e-12)


def test_all_tokens_have_the_weight_of_their_kind():
    patterns = [*TokenClass, *prior.DELIMITERS]
    atoms = with_cases([Node("GetToken", (prior.X, pattern, i)) for pattern in patterns for i in INDICES])
    weight = math.exp(prior.KIND.log_density("GetToken"))
    assert math.fsum(map(density, atoms)) == pytest.approx(weight, rel=1e-12)


def test_all_constants_have_the_weight_of_their_kind():
    words = [
        "".join(letters)
        for alphabet in (LOWER, UPPER)
        for length in (1, 2, 3)
        for letters in itertools.product(alphabet, repeat=length)
    ]
    atoms = [Node("Const", (text,)) for text in [*prior.DELIMITERS, *words]]
    weight = math.exp(prior.KIND.log_density("Const"))
    assert math.fsum(map(density, atoms)) == pytest.approx(weight, rel=1e-9)


def test_all_spans_have_the_weight_of_their_kind():
    anchors = list(
        itertools.product([*TokenClass, *prior.ANCHOR_DELIMITERS], (1, 2, 3, 4, -1, -2, -3, -4), Side)
    )
    plain = math.fsum(
        density(Node("GetSpan", (prior.X, *first, *last)))
        for first, last in itertools.product(anchors, anchors)
    )
    one = Node("GetSpan", (prior.X, *anchors[0], *anchors[-4]))
    cases = math.fsum(map(density, with_cases([one]))) / density(one)
    assert plain * cases == pytest.approx(math.exp(prior.KIND.log_density("GetSpan")), rel=1e-9)


def test_atoms_are_drawn_as_often_as_their_density_says():
    rng, draws = random.Random(1), 20_000
    seen = Counter(prior.draw_atom(rng) for _ in range(draws))
    # a bin for each atom expected at least ten times, and one for all others together
    expected = {atom: draws * density(atom) for atom in seen}
    common = [atom for atom in seen if expected[atom] >= 10]
    observed = [seen[atom] for atom in common]
    wanted = [expected[atom] for atom in common]
    assert len(common) > 150
    p = stats.chisquare([*observed, draws - sum(observed)], [*wanted, draws - sum(wanted)]).pvalue
    assert p > 1e-3


@pytest.mark.parametrize("kind", ["Const", "SubStr", "GetSpan"])
def test_rare_atoms_are_drawn_as_often_as_their_density_says(kind: str):
    """Most are too rare to be counted one by one; their mean log density is minus the kind's entropy."""
    rng = random.Random(2)
    atoms = [atom for atom in (prior.draw_atom(rng) for _ in range(8000)) if kind in to_text(atom)]
    logs = [prior.log_atom_density(atom) for atom in atoms]
    mean, error = math.fsum(logs) / len(logs), stats.sem(logs)
    assert mean == pytest.approx(-entropy(kind) + prior.KIND.log_density(kind), abs=4 * error)


def entropy(kind: str) -> float:
    """Of an atom given its kind, from the tables as the module's docstring describes them."""

    def entropy_of(weights: list[float]) -> float:
        total = sum(weights)
        return -sum(w / total * math.log(w / total) for w in weights)

    case = entropy_of([0.62, 0.14, 0.12, 0.07, 0.05])
    classes = entropy_of([0.22, 0.22, 0.14, 0.10, 0.08, 0.06, 0.06, 0.05, 0.04, 0.03])
    index = entropy_of([0.32, 0.18, 0.08, 0.03, 0.24, 0.11, 0.04])
    if kind == "SubStr":
        offset, length = entropy_of([0.4, 0.2, 0.15, 0.1, 0.08, 0.07]), entropy_of([0.3, 0.3, 0.25, 0.15])
        return case + entropy_of([0.5, 0.25, 0.25]) + offset + length
    if kind == "GetSpan":
        pattern = entropy_of([0.5, 0.5]) + 0.5 * classes + 0.5 * math.log(8)
        return case + 2 * (pattern + index + math.log(2))
    word = math.log(2) + entropy_of([0.4, 0.3, 0.3]) + (0.4 + 2 * 0.3 + 3 * 0.3) * math.log(26)
    return entropy_of([0.75, 0.25]) + 0.75 * math.log(16) + 0.25 * word


@pytest.mark.parametrize("most", prior.ATOMS)
def test_numbers_of_atoms(most: int):
    rng, draws = random.Random(most), 1500
    programs = [prior.draw_program(rng, most) for _ in range(draws)]
    seen = Counter(len(parts_of(program)) for program in programs)
    assert set(seen) == set(range(1, most + 1))
    expected = [draws * math.exp(prior.ATOMS[most].log_density(n)) for n in range(1, most + 1)]
    if most > 1:
        assert stats.chisquare([seen[n] for n in range(1, most + 1)], expected).pvalue > 1e-3
    for program in programs[:300]:
        atoms = parts_of(program)
        factorised = prior.ATOMS[most].log_density(len(atoms)) + sum(map(prior.log_atom_density, atoms))
        assert prior.log_density(program, most) == pytest.approx(factorised)
        assert math.isfinite(factorised) and parse(to_text(program)) == program


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "Upper(x)",
        'Const("")',
        'Const("aB")',
        'Const("abcd")',
        'Const("é")',
        'Const("7")',
        'Upper(Const("a"))',
        "Upper(Lower(GetToken(x, Word, 1)))",
        "Trim(GetToken(x, Word, 1))",
        "GetToken(x1, Word, 1)",
        "GetToken(x, Char, 1)",
        'GetToken(x, "-", 1)',
        "GetToken(x, Word, 5)",
        "GetToken(Upper(x), Word, 1)",
        "SubStr(x, 7, 7)",
        "SubStr(x, 1, 5)",
        "SubStr(x, 2, 1)",
        "SubStr(x, -1, -2)",
        "SubStr(x, -1, 1)",
        "SubStr(x, 1, -5)",
        'GetSpan(x, "#", 1, end, Word, 1, start)',
        "GetSpan(x, Word, 1, end, Space, 1, start)",
        "GetUpto(x, Word, 1)",
        "Concat(Concat(SubStr(x, 1, 1), SubStr(x, 1, 1)), SubStr(x, 1, 1))",
        "Concat(SubStr(x, 1, 1), x)",
        "Upper(Concat(SubStr(x, 1, 1), SubStr(x, 1, 1)))",
        "Concat(SubStr(x, 1, 1), SubStr(x, 1, 1), SubStr(x, 1, 1), SubStr(x, 1, 1), SubStr(x, 1, 1))",
    ],
)
def test_what_the_prior_cannot_draw_has_no_density(text: str):
    assert prior.log_density(parse(text), 4) == -math.inf
