"""Every choice of the config is on the page; every figure names the stages it shows."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from constellation.conductor import canonical_json
from constellation.evaluation.analysis import analyse
from constellation.evaluation.methods import Choices, methods
from constellation.evaluation.question import Results
from constellation.evaluation.questions import QUESTIONS
from constellation.evaluation.report import render, traces
from constellation.evaluation.study import StudyResults
from constellation.runtime.nested import dotted
from launch.common import load_config
from tests.evaluation.synthetic import study
from tests.tiny_study import NANO

ALL = "arm,selectors,controls,null,reach,temperature,critics,other_base"
CONFIG: dict[str, Any] = json.loads(canonical_json(load_config(NANO, [f"--config.questions={ALL}"])))


@pytest.fixture(scope="module")
def analysed() -> tuple[StudyResults, Results]:
    found = study(tasks=6, resamples=50)
    return found, analyse(found)


def section(analysed: tuple[StudyResults, Results], config: dict[str, Any]) -> str:
    """The text of the methods alone."""
    found, results = analysed
    page = render(replace(found, config=config), results, {})
    match = re.search(r'<h2 id="methods">(.*?)<h2', page, re.DOTALL)
    assert match is not None
    return match.group(1)


@pytest.mark.parametrize("field", dotted(CONFIG))
def test_the_prose_says_every_field(analysed, field: str) -> None:
    changed = copy.deepcopy(CONFIG)
    *parents, name = field.split(".")
    target = changed
    for parent in parents:
        target = target[parent]
    value = target[name]
    if isinstance(value, bool):
        target[name] = not value
    elif isinstance(value, list):
        target[name] = value[:-1]
    else:
        target[name] = f"{value}!" if isinstance(value, str) else value + 17
    assert section(analysed, changed) != section(analysed, CONFIG)


def test_a_field_without_prose_is_listed(analysed) -> None:
    text = section(analysed, CONFIG | {"novel": {"field": "<3"}})
    assert "<code>novel.field = &lt;3</code>" in text and "Also set" in text
    assert "Also set" not in section(analysed, CONFIG)


def test_values_of_the_paper_are_marked() -> None:
    choose = Choices({"trajectories": 8, "lora": {"rank": 16, "alpha": 32.0}})
    assert choose("lora.rank") == '<b>16</b><span class="mark"> (A)</span>'
    assert choose("trajectories") == '<b>8</b><span class="mark"> (A: 4)</span>'
    assert choose("lora.alpha") == "<b>32.0</b>"
    assert Choices({"a": {"b": 1}, "c": 2, "reach": {"at": 3}}).rest([]) == {"a.b": 1, "c": 2}
    assert Choices({"reach": {"at": 3}}).rest(["reach"]) == {"reach.at": 3}


def test_samples_are_counted_from_the_sets() -> None:
    found = study(tasks=5, n=8, split_seeds=3, trajectories=2, doubled=True, resamples=10)
    counts = methods(found)["samples"]
    # theta0 once on three banks; v1 and v2 for each trajectory; gen_v0 under two more splits on hard
    assert counts["evaluation"] == {"theta0": 120, "gen_v0": 2 * (120 + 80), "v1": 240, "v2": 240}
    assert counts["null"] == {"gen_v0": 2 * 5 * 8}
    assert counts["training"] == {"v1": 64_000, "v2": 64_000, "critic": 24_000}


def test_a_figure_names_what_all_questions_read_and_what_its_own_does() -> None:
    read = {"study": {"samples_v1": "a"}, "selection": {"scores_v1": "b"}, "reach": {"log_probs": "c"}}
    figures = ("pass_at_k", "divergent_groups", "selectors", "reliability", "reach_curves")
    found = traces(replace(study(tasks=2, resamples=10), sources=read), dict.fromkeys(figures, ""), QUESTIONS)
    assert found == {
        "pass_at_k": {"samples_v1": "a"},
        "divergent_groups": {"samples_v1": "a"},
        "selectors": {"samples_v1": "a", "scores_v1": "b"},
        "reliability": {"samples_v1": "a", "scores_v1": "b"},
        "reach_curves": {"samples_v1": "a", "log_probs": "c"},
    }
