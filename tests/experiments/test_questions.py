"""A question is one name: of its modules on both floors, of its template, and of what a config may list."""

from __future__ import annotations

from pathlib import Path

import pytest

from constellation.conductor import Stage
from constellation.evaluation import questions as answered
from constellation.experiments import star
from constellation.experiments.check import check
from constellation.experiments.question import stages_in
from constellation.experiments.questions import QUESTIONS
from constellation.runtime.errors import UserError
from launch.common import load_config
from tests.tiny_study import NANO, ROOT, tiny_config

TEMPLATES = ROOT / "constellation/evaluation/templates"


def test_every_question_has_its_template_and_its_stages() -> None:
    names = [question.name for question in answered.QUESTIONS]
    assert len(set(names)) == len(names) and set(answered.OF_STAGES) <= set(QUESTIONS)
    for name in names:
        assert (TEMPLATES / f"{name}.html.j2").is_file(), name


def test_the_stages_of_a_question_are_found_in_any_nest() -> None:
    one, two, three = (Stage(name, "", Path()) for name in ("one", "two", "three"))
    assert stages_in({"a": (one, "a name", None), "b": [{1: two}, (three, 7)]}) == [one, two, three]
    assert stages_in(None) == []


def test_what_a_config_may_list_is_said_once_and_has_a_section() -> None:
    options = [*star.OPTIONS, *(option for question in QUESTIONS.values() for option in question.options)]
    assert sorted(options) == sorted(
        ["arm", "selectors", "reach", "controls", "null", "temperature", "critics", "other_base"]
    )
    sections = load_config(NANO)
    for name, question in QUESTIONS.items():
        if name in question.options:
            assert name in sections, name


@pytest.mark.parametrize("option, needed", [("null", "controls"), ("other_base", "critics")])
def test_an_option_that_extends_another_needs_it(tmp_path: Path, option: str, needed: str) -> None:
    with pytest.raises(UserError, match=f"config.questions has '{option}', which needs '{needed}': add it"):
        check(tiny_config(tmp_path, questions=option))
    check(tiny_config(tmp_path, questions=f"{option},{needed}", critics__model_dir="other"))


def test_the_section_of_a_question_is_read_only_where_it_is_asked(tmp_path: Path) -> None:
    wrong = {"controls__samples": 0, "reach__at": 0, "critics__samples": 0, "arm__max_atoms": 0}
    check(tiny_config(tmp_path, **wrong))
    for field in wrong:
        question = field.partition("__")[0]
        with pytest.raises(UserError, match=field.replace("__", r"\.")):
            check(tiny_config(tmp_path, **wrong, questions=question))
