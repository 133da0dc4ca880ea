"""The known programs and their probabilities: against one text at a time, and against what is sampled."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import binomtest

from constellation.domains.task import Task, split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.experiments.check import check
from constellation.experiments.reach import collect_known, log_probs
from constellation.generator import sample
from constellation.model.lora import init_adapter, stack, unstack
from constellation.model.model import Generator, Model, load_model
from constellation.model.sampling import SamplingConfig
from constellation.model.score import log_prob
from constellation.runtime.errors import UserError
from constellation.runtime.keys import Address, fold
from constellation.samples import SampleSet, collect
from tests.tiny_study import ROOT, tiny_config, write_tiny_model

TASKS = trapdoor.make_bank("easy", 5, 4)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def judged(model: Model, tasks: list[Task], answers: list[list[list[int]]]) -> SampleSet:
    """Answers, as token ids, with the verifier's verdicts."""
    splits = [split(task, 1234, 2) for task in tasks]
    texts = [[model.tokenizer.decode(ids) for ids in own] for own in answers]
    return collect(
        [task.id for task in tasks],
        [[np.array(ids, np.int32) for ids in own] for own in answers],
        [[True] * len(own) for own in answers],
        texts,
        {},
    ).judge(lambda t, text: trapdoor.verdict(tasks[t], splits[t], text))


def test_known_are_the_secret_programs_and_what_was_seen_with_every_spelling(model_dir: Path) -> None:
    model, tasks = load_model(model_dir), TASKS[:2]
    secret = [model.tokenizer.encode(task.program) for task in tasks]
    spaced = [*secret[0], *model.tokenizer.encode(" ")]  # right, another text
    spelt = letter_by_letter(model, tasks[0].program)
    wrong = model.tokenizer.encode('Const("a")')
    drawn = judged(model, tasks, [[wrong, spaced, spelt, secret[0]], [wrong, wrong, wrong, secret[1]]])
    assert not drawn.right[drawn.program[:, 0]].any()
    table = collect_known(model, trapdoor, tasks, [drawn], 3)
    spaced_text = model.tokenizer.decode(spaced)
    assert list(zip(table["task"], table["text"], strict=True)) == [
        (0, tasks[0].program),
        (0, spaced_text),
        (1, tasks[1].program),  # not among the first three, but the secret one
    ]
    assert table["spellings"][0] == [tuple(secret[0]), tuple(spelt)]
    assert table["spellings"][1] == [tuple(model.tokenizer.encode(spaced_text))]
    assert table["secret"] == [True, True, True]
    assert table["atoms"] == [tasks[0].atoms, tasks[0].atoms, tasks[1].atoms]
    assert [list(names) for names in table["structures"]] == [
        list(tasks[t].structures) for t in table["task"]
    ]


def letter_by_letter(model: Model, text: str) -> list[int]:
    return [id for letter in text for id in model.tokenizer.encode(letter)]


def test_log_probs_by_hand(model_dir: Path) -> None:
    model, tasks = dataclasses.replace(load_model(model_dir), stop_ids=(1, 9)), TASKS[:3]
    one, other = (init_adapter(model.config, fold(0, name), 4, 8.0) for name in ("one", "other"))
    noise = np.random.default_rng(0)  # B begins at zero
    adapters = jax.tree.map(lambda leaf: leaf + noise.normal(0, 0.3, leaf.shape), stack([one, other]))
    splits = [split(task, 1234, 2) for task in tasks]
    table: dict[str, list[Any]] = {
        "task": [0, 2, 2],
        "spellings": [[[5, 6]], [model.tokenizer.encode(tasks[2].program), [7, 8, 9]], [[30]]],
    }
    got = log_probs(Generator(model, adapters), trapdoor, splits, table, log_prob)
    assert [own.shape for own in got] == [(3,), (3,)]
    assert np.abs(got[0] - got[1]).min() > 1e-3
    for adapter, own in zip(unstack(adapters), got, strict=True):
        generator = Generator(model, stack([adapter]))
        for d, (t, ways) in enumerate(zip(table["task"], table["spellings"], strict=True)):
            prompt = model.chat(trapdoor.messages(splits[t]))
            each = [
                log_prob(generator, [[prompt]], [[[[*ids, stop]]]])[0][0][0]
                for ids in ways
                for stop in (1, 9)
            ]
            assert own[d] == pytest.approx(logsumexp(each), abs=1e-4)
    (base,) = log_probs(Generator(model), trapdoor, splits, table, log_prob)
    prompt = model.chat(trapdoor.messages(splits[0]))
    ((by_hand,),) = log_prob(Generator(model), [[prompt]], [[[[5, 6, 1], [5, 6, 9]]]])
    assert base[0] == pytest.approx(logsumexp(by_hand))


def test_probabilities_are_what_is_sampled() -> None:
    """The embedded model on easy tasks: how often each right program is drawn is binomial."""
    n = 192
    model = load_model(ROOT / "constellation" / "assets" / "nano")
    splits = [split(task, 1234, 2) for task in TASKS]
    prompts = [model.chat(trapdoor.messages(of)) for of in splits]
    ids = [task.id for task in TASKS]
    sampling = SamplingConfig(n=n, max_new_tokens=60)
    (drawn,) = sample(Generator(model), [prompts], [ids], Address(0, "test", "reach"), sampling)
    found = judged(model, TASKS, [[list(answer.ids) for answer in own] for own in drawn])
    table = collect_known(model, trapdoor, TASKS, [found], n)
    (found_log_probs,) = log_probs(Generator(model), trapdoor, splits, table, log_prob)
    counts = [
        int((found.text[found.program[t]] == text).sum())
        for t, text in zip(table["task"], table["text"], strict=True)
    ]
    assert sum(counts) > n / 2 and len(counts) > len(TASKS)
    for count, log_p in zip(counts, found_log_probs, strict=True):
        assert binomtest(count, n, min(np.exp(log_p), 1)).pvalue > 1e-4
    right, mass = found.per_sample(found.right).sum(), np.exp(found_log_probs).sum()
    assert right / n == pytest.approx(mass, abs=4 * np.sqrt(len(TASKS) / 4 / n))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reach.samples", 9),
        ("reach.samples", 0),
        ("reach.at", 0),
        ("reach.budgets", (0, 64)),
        ("reach.budgets", ()),
        ("sampling.temperature", 0.7),
        ("sampling.top_k", 20),
        ("sampling.top_p", 0.8),
    ],
)
def test_what_reach_cannot_work_with_is_refused(model_dir: Path, field: str, value: object) -> None:
    config = tiny_config(model_dir, questions="reach")
    check(config)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=field):
        check(config)
