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
from constellation.evaluation.methods import Choices, figure_sources, figure_stages, methods
from constellation.evaluation.plots import FIGURES
from constellation.evaluation.question import Results
from constellation.evaluation.report import render
from constellation.evaluation.study import StudyResults
from constellation.runtime.nested import dotted
from launch.common import load_config
from tests.evaluation.synthetic import study
from tests.tiny_study import NANO

ALL = "arm,selectors,controls,null,reach,temperature,critics,other_base"
CONFIG: dict[str, Any] = json.loads(canonical_json(load_config(NANO, [f"--config.questions={ALL}"])))
SOURCES = {
    name: f"digest of {name}"
    for name in (
        "samples_theta0_hard_1234", "samples_gen_v0_hard_1234", "samples_gen_v0_hard_1235",
        "samples_v1_easy_1234",
        "scores_gen_v0_hard_1235", "gen_v0", "v1", "v1_4_atoms", "v1_samples", "critic", "critic_samples",
        "tasks_v1", "bank_hard", "scores_v2_hard_1234", "columns_gen_v0_hard_1234",
        "samples_v2_4_atoms_hard_1234",
        "samples_gen_v0_tuning_hard_1234", "columns_gen_v0_tuning_hard_1234",
        "scores_permuted_critic_hard_1234", "scores_refreshed_v2_hard_1234", "ceiling_hard",
        "posterior_3_atoms_gen_v0_hard_1234", "posterior_4_atoms_gen_v0_hard_1234", "controls_v1_hard",
        "known_programs_hard", "controls_known_programs_hard", "log_probs_v1_hard", "null_pool_hard",
    )
}  # fmt: skip


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


def test_a_figure_names_what_it_shows_and_no_more() -> None:
    found = replace(study(tasks=2, resamples=10, controlled=1, exact=True), sources={"study": SOURCES})
    assert set(figure_stages(found)) == set(FIGURES)
    stages = {name: list(figure_sources(found, name)) for name in FIGURES}
    start = "samples_gen_v0_hard_1234"
    curves = ["samples_theta0_hard_1234", start, "samples_v1_easy_1234"]
    assert stages["divergence"] == curves
    selected = ["samples_gen_v0_hard_1235", "scores_gen_v0_hard_1235", "columns_gen_v0_hard_1234"]
    ideal = ["posterior_3_atoms_gen_v0_hard_1234", "posterior_4_atoms_gen_v0_hard_1234"]
    assert stages["selectors"] == [start, *selected, "scores_permuted_critic_hard_1234", *ideal]
    tuned = ["samples_gen_v0_tuning_hard_1234", "columns_gen_v0_tuning_hard_1234"]
    assert stages["rivals"] == [start, *selected[:2], "scores_v2_hard_1234", selected[2], *tuned]
    assert stages["reliability"] == [start, *selected[:2], "scores_v2_hard_1234"]
    assert figure_sources(found, "divergence")[start] == f"digest of {start}"
