"""The seam: a domain is found by its name, and without a judge it has none."""

from __future__ import annotations

import pytest

from constellation.domains.domain import load_domain
from constellation.domains.task import split
from constellation.domains.trapdoor import DOMAIN
from constellation.runtime.errors import UserError


def test_a_domain_is_a_folder_or_a_module() -> None:
    assert load_domain("trapdoor") is load_domain("constellation.domains.trapdoor") is DOMAIN


@pytest.mark.parametrize("name", ["trapdor", "json", "json.decoder", "task", "a.b", "trapdor:a", ":a"])
def test_what_is_none_is_refused_by_name(name: str) -> None:
    with pytest.raises(UserError, match=f"config.domain = '{name}' is no domain"):
        load_domain(name)


def test_a_domain_that_imports_what_is_not_there_says_so(tmp_path, monkeypatch) -> None:
    (tmp_path / "faulty_domain").mkdir()
    (tmp_path / "faulty_domain/words.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        load_domain("faulty_domain.words")


def test_a_module_may_take_arguments(tmp_path, monkeypatch) -> None:
    (tmp_path / "arguments_domain").mkdir()
    (tmp_path / "arguments_domain/words.py").write_text(
        "from constellation.domains.domain import Domain\n"
        "def make_domain(arguments): return Domain(arguments, '', iter, iter, None)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_domain("arguments_domain.words:a.b,c:d").name == "a.b,c:d"
    assert load_domain("arguments_domain.words").name == ""


def test_arguments_of_a_domain_without_any_are_refused() -> None:
    for name in ("trapdoor:", "trapdoor:a.jsonl"):
        with pytest.raises(UserError, match=f"config.domain = '{name}': trapdoor takes no arguments"):
            load_domain(name)


def test_an_unjudged_domain_has_no_judge() -> None:
    unjudged = DOMAIN.unjudged()
    assert unjudged.judge is None and unjudged.answer_key is DOMAIN.answer_key
    (task,) = DOMAIN.make_bank("easy", 1)
    with pytest.raises(UserError, match="domain trapdoor has no judge"):
        unjudged.verdict(task, split(task, 0), task.program)


def test_tasks_are_the_first_of_their_streams() -> None:
    assert DOMAIN.make_bank("easy", 3, seed=1) == DOMAIN.make_bank("easy", 5, seed=1)[:3]
    tasks = DOMAIN.training_tasks("star", 3, 2, seed=1, batch=1)
    assert tasks == DOMAIN.training_tasks("star", 4, 2, seed=1, batch=1)[:3]
    assert {task.role for task in tasks} == {"star"}
