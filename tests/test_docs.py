"""README and docs: no longer than promised, what they name is there, and the domain that they show is one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from configs import nano, peers_nano
from constellation.domains.domain import Domain
from constellation.domains.task import split
from constellation.runtime.nested import dotted

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]

FOLDERS = "configs|constellation|docs|launch|tests|third_party"
_PATH = re.compile(rf"(?<![\w./>-])(?:{FOLDERS})/[\w./-]*\w/?")  # in prose, commands and the tree alike
_FILE = re.compile(r"`(\w+\.py|Makefile|requirements[\w-]*\.txt)`")  # named without its folder
_LINK = re.compile(r"\]\(([^)#:]+)\)")
_PROGRAM = re.compile(r"\blaunch\.(\w+)")
_FIELD = re.compile(r"\bconfig\.(?!json)(\w+(?:\.\w+)*)")
_EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = {ROOT / path for path in _PATH.findall(text)}
    named |= {page.parent / path for path in _LINK.findall(text)}
    named |= {ROOT / "launch" / f"{program}.py" for program in _PROGRAM.findall(text)}
    assert named
    assert not sorted(str(path) for path in named if not path.exists())
    tracked = [*ROOT.glob("*"), *(file for top in FOLDERS.split("|") for file in (ROOT / top).rglob("*"))]
    assert not set(_FILE.findall(text)) - {file.name for file in tracked}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_fields_that_a_page_names_are_there(page: Path) -> None:
    known = {*dotted(nano.get_config()), *dotted(peers_nano.get_config())}
    sections = {field.rpartition(".")[0] for field in known}
    for field in _FIELD.findall(page.read_text(encoding="utf-8")):
        assert field in known | sections, f"config.{field}"


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {ROOT / path for path in _LINK.findall(README.read_text(encoding="utf-8"))}
    assert set(PAGES) - {README} <= linked


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= 1800


def test_the_domain_of_the_readme_is_one() -> None:
    text = README.read_text(encoding="utf-8")
    [example] = [found for found in _EXAMPLE.findall(text) if "DOMAIN = " in found]
    module: dict[str, Any] = {}
    exec(example, module)
    domain = module["DOMAIN"]
    assert isinstance(domain, Domain)
    assert f"--config.domain={domain.name}" in text and f"`{domain.name.replace('.', '/')}.py`" in text
    drawn = [*domain.make_bank("hard", 20), *domain.training_tasks("star", 20, max(domain.difficulties))]
    assert len({task.id for task in drawn}) == len(drawn)
    assert drawn[:20] == domain.make_bank("hard", 20)
    for task in drawn:
        shown = split(task, split_seed=1234)
        right, wrong = (domain.verdict(task, shown, text) for text in (f"{task.program} ", "no such steps"))
        assert right.valid and right.fits and right.right
        assert not (wrong.valid or wrong.fits or wrong.right)
        assert right.key == domain.answer_key(shown, task.program) != wrong.key
        assert all(example.inputs[0] in domain.messages(shown)[0]["content"] for example in shown.visible)
