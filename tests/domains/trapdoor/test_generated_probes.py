"""Generated probes: what they may know, what they look like, and the clusters they make."""

from __future__ import annotations

import dataclasses
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.domains.domain import Verdict
from constellation.domains.task import Example, Split, Task, split
from constellation.domains.trapdoor.generated_probes import GENERATED_PROBES, generated_probes, probe_clusters
from constellation.domains.trapdoor.inputs import FAMILIES, draw_inputs, token_counts_vary
from constellation.domains.trapdoor.language import evaluate, parse
from constellation.samples import SampleSet, collect

TEXTS = [
    "GetToken(x, Word, 1)",
    "GetToken(x, Alphanum, 1)",
    "```\nGetToken(x, Word, 1)\n```",  # a program stands in it
    "GetUpto(x, Word, 1)",
    "GetToken(x, Word, 9)",  # faults almost everywhere, with the value of the next, which never does
    'Const("")',
    "Upper(x)",  # does not fit, as `sampled` has it
    "Upper(x",
]


@pytest.mark.parametrize("family", FAMILIES)
def test_probes_are_new_and_like_the_visible_inputs(family: str):
    for seed in range(10):
        visible = [(text,) for text in draw_inputs(random.Random(seed), family, 2)]
        probes = generated_probes(visible)
        assert len(set(probes)) == len(probes) == GENERATED_PROBES
        assert not set(probes) & set(visible)
        assert probes == generated_probes(visible) and probes[:5] == generated_probes(visible, 5)
        texts = [text for (text,) in probes]
        assert token_counts_vary(texts) and len(set(map(len, texts))) > 3
        punctuation = set(re.sub("[A-Za-z0-9]", "", "".join(text for (text,) in visible))) | {" "}
        assert set(re.sub("[A-Za-z0-9]", "", "".join(texts))) <= punctuation


def test_fresh_runs_keep_kind_and_case():
    probes = [text for (text,) in generated_probes([("Ann-USA_12 de",)], 300)]
    tokens = "([A-Z][a-z]*|[A-Z]+|[0-9]+|[a-z]+)"
    assert all(re.fullmatch(f"{tokens}([-_ ]{tokens})*", text) for text in probes)
    same_shape = [text for text in probes if re.fullmatch("[A-Z][a-z]*-[A-Z]+_[0-9]+ [a-z]+", text)]
    assert 100 < len(same_shape) < 250  # half are neither shorter nor longer in tokens
    for kept in ("Ann", "USA", "12", "de"):
        assert 0.3 < sum(kept in re.split("[-_ ]", text) for text in same_shape) / len(same_shape) < 0.7
    assert {len(text.split("-")[0]) for text in same_shape} == {1, 2, 3, 4, 5, 6}


def test_every_task_has_its_own_draws():
    first, second = (set(generated_probes([(text,)])) for text in ("kkkk", "jjjj"))
    assert len(first & second) <= 2


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), min_size=1, max_size=4))
def test_any_inputs_can_be_perturbed(visible: list[tuple[str, str]]):
    probes = generated_probes(visible)
    assert len(set(probes)) == len(probes) <= GENERATED_PROBES and not set(probes) & set(visible)
    assert all(len(probe) == 2 for probe in probes)


def test_what_holds_no_letter_or_digit_cannot_be():
    assert generated_probes([("--",), ("",)]) == []


def sampled(tasks: list[Task]) -> SampleSet:
    rows = [TEXTS[t % 2 :] + TEXTS[: t % 2] for t in range(len(tasks))]
    answers = [[np.zeros(1, np.int32)] * len(TEXTS)] * len(tasks)
    finished = [[True] * len(TEXTS)] * len(tasks)

    def judged(t: int, text: str) -> Verdict:
        return Verdict(valid=text != "Upper(x", fits="Upper" not in text)

    return collect([task.id for task in tasks], answers, finished, rows, {}).judge(judged)


def test_programs_share_a_cluster_iff_they_behave_alike_on_the_probes(hard: list[Task]):
    tasks = hard[:6]
    splits = {task.id: split(task, 1) for task in tasks}
    samples = sampled(tasks)
    found = probe_clusters(tasks, samples, lambda task: splits[task.id])
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found < 0, ~samples.fits)
    for t, task in enumerate(tasks):
        probes = generated_probes([example.inputs for example in splits[task.id].visible])
        rows = [r for r in range(samples.programs_of(t).start, samples.programs_of(t).stop) if found[r] >= 0]
        behaviour = {}
        for row in rows:
            results = [evaluate(parse(samples.text[row].strip("`\n")), inputs) for inputs in probes]
            behaviour[row] = [(result.value, bool(result.faults)) for result in results]
        for a in rows:
            for b in rows:
                assert (found[a] == found[b]) == (behaviour[a] == behaviour[b])
        assert len(set(found[rows])) > 2


def test_clusters_know_only_the_visible_inputs(hard: list[Task]):
    tasks = hard[:6]
    splits = {task.id: split(task, 1) for task in tasks}
    samples = sampled(tasks)

    def censored(task: Task) -> Split:
        visible = tuple(Example(example.inputs, "?") for example in splits[task.id].visible)
        return Split(visible, ())

    blank = [dataclasses.replace(task, id=str(t), family="", program="") for t, task in enumerate(tasks)]
    by_name = {str(t): task for t, task in enumerate(tasks)}
    np.testing.assert_array_equal(
        probe_clusters(blank, samples, lambda task: censored(by_name[task.id])),
        probe_clusters(tasks, samples, lambda task: splits[task.id]),
    )
