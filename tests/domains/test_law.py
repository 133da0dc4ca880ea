"""The law of a domain's tasks: what leaves it as it is, what changes it, and that nothing is left out."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

import pytest

from constellation.domains import task
from constellation.domains.law import law_of
from constellation.domains.trapdoor import DOMAIN, banks, prior, synthesis
from constellation.domains.trapdoor.domain import LAW

PRIOR = '''
"""A prior."""
import random

from typing import NamedTuple

LENGTH = {1: 0.5, 2: 0.25, 3: 0.25}  # of a word


class Rule(NamedTuple):
    """What is rejected."""

    name: str
    most: int = 60


def draw(rng: random.Random, most: int) -> str:
    """A word."""
    length = rng.choices(list(LENGTH), LENGTH.values())[0]
    return "a" * min(length, most)


def rejected(word: str) -> bool:
    return len(word) > 2 and f"{word}!" != "b"
'''


def load(directory: Path, source: str, name: str = "prior") -> ModuleType:
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.py").write_text(source)
    spec = importlib.util.spec_from_file_location(name, directory / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "old, new",
    [
        ('"""A word."""', '"""One word, drawn."""'),
        ('    """A word."""\n', ""),
        ("  # of a word", ""),
        ("0.25, 3: 0.25}", "0.250,\n    3: 0.25,\n}"),
        ("(rng: random.Random, most: int) -> str", "(rng, most)"),
        ("import random\n", "import random\nimport re\n"),
        ('"a" *', "'a' *"),
    ],
)
def test_wording_and_layout_leave_it_as_it_is(tmp_path, old, new):
    assert PRIOR.count(old) == 1
    changed = load(tmp_path / "changed", PRIOR.replace(old, new))
    assert law_of(changed) == law_of(load(tmp_path / "first", PRIOR))


@pytest.mark.parametrize(
    "old, new",
    [
        ("3: 0.25", "3: 0.26"),
        ("most: int = 60", "most: int = 61"),
        ("    name: str\n", ""),
        ("min(length, most)", "max(length, most)"),
        ("> 2 and", ">= 2 and"),
        ("!= ", "== "),
        ('{word}!"', '{word}?"'),
        ('    return "a" * min(length, most)\n', "    return None\n"),
    ],
)
def test_a_table_and_a_rule_are_part_of_it(tmp_path, old, new):
    assert PRIOR.count(old) == 1
    changed = load(tmp_path / "changed", PRIOR.replace(old, new))
    assert law_of(changed) != law_of(load(tmp_path / "first", PRIOR))


def test_a_definition_may_move_and_numbers_and_functions_count(tmp_path):
    whole = load(tmp_path, PRIOR)
    head, tail = PRIOR[: PRIOR.index("def rejected")], PRIOR[PRIOR.index("def rejected") :]
    parts = load(tmp_path, tail, "rules"), load(tmp_path, head, "tables")
    assert law_of(*parts) == law_of(whole) != law_of(parts[1])
    assert law_of(parts[1], parts[0].rejected) == law_of(whole)
    assert len({law_of(whole), law_of(whole, 12), law_of(whole, 64)}) == 3


def imported(module: ModuleType) -> dict[str, ModuleType]:
    """The project's modules that a module imports from, by what it imports: "module.name" -> module."""
    found = {}
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("constellation.domains"):
            for alias in node.names:
                value = getattr(importlib.import_module(node.module or ""), alias.name)
                home = value if isinstance(value, ModuleType) else inspect.getmodule(value)
                found[f"{node.module}.{alias.name}"] = home or importlib.import_module(node.module or "")
    return found


def test_everything_that_the_banks_draw_by_is_in_the_law_of_the_domain():
    modules = {part for part in LAW if isinstance(part, ModuleType)}
    open_ends, reached = [banks], {banks}
    while open_ends:
        for name, module in imported(open_ends.pop()).items():
            if module is task:  # also reads and writes tasks: its parts are in the law by themselves
                own = getattr(task, name.rpartition(".")[2])
                assert own in LAW or own in (task.Task, task.Example), name
            elif module not in reached:
                reached.add(module)
                open_ends.append(module)
    assert {synthesis, prior} < reached == modules


def test_the_domain_states_its_law(tmp_path):
    assert DOMAIN.law == law_of(*LAW)
    source = inspect.getsource(prior)
    assert source.count('{"Const": 0.22,') == 1
    changed = load(tmp_path, source.replace('{"Const": 0.22,', '{"Const": 0.23,'))
    assert law_of(*(changed if part is prior else part for part in LAW)) != DOMAIN.law
