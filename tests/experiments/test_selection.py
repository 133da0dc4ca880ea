"""Likelihoods against the model's own logits, token by token."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from constellation.domains.task import Example, Split, Task
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.experiments.selection import log_likelihoods
from constellation.model.lora import Adapter, init_adapter, stack, unstack
from constellation.model.model import Generator, Model, load_model
from constellation.model.score import log_prob, next_token_logits
from constellation.samples import SampleSet, collect
from tests.tiny_study import write_tiny_model

TASKS = [
    Task(f"t{i}-0", tuple(Example((text,), text.upper()) for text in texts), "", 1, "", (), "tuning", "word")
    for i, texts in enumerate((("A", "BC", "d"), ("E", "F", "g")))
]
ANSWERS = [["x", "Upper(x)", "x", "no program"], ["Lower(x)", "no program", "Upper(x)", "Upper(x)"]]


def divided(task: Task) -> Split:
    return Split(task.examples[:2], task.examples[2:])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(write_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def generators(model: Model) -> Adapter:
    """Two, random and far from each other."""
    each = []
    for seed in range(2):
        adapter = init_adapter(model.config, jax.random.key(seed), rank=4, alpha=8)
        for index, pair in enumerate(adapter.weights.values()):
            pair["b"] = jax.random.normal(jax.random.key(10 * seed + index), pair["b"].shape)
        each.append(adapter)
    return stack(each)


def drawn(model: Model, answers: list[list[str]]) -> SampleSet:
    return collect(
        [task.id for task in TASKS],
        [[np.array(model.tokenizer.encode(text), np.int32) for text in row] for row in answers],
        [[True] * len(row) for row in answers],
        answers,
        {},
    ).judge(lambda t, text: trapdoor.verdict(TASKS[t], divided(TASKS[t]), text))


def test_likelihoods_are_sums_over_the_answers_tokens_and_a_stop(model: Model, generators: Adapter) -> None:
    samples = [drawn(model, ANSWERS), drawn(model, [row[::-1] for row in ANSWERS])]
    found = log_likelihoods(Generator(model, generators), trapdoor, TASKS, samples, divided, log_prob)
    everything = list(range(model.config.vocab_size))
    for adapter, own, values in zip(unstack(generators), samples, found, strict=True):
        assert np.array_equal(np.isfinite(values), own.fits) and own.fits.sum() == 3
        for row in np.flatnonzero(own.fits):
            prompt = model.chat(trapdoor.messages(divided(TASKS[own.task[row]])))
            answer = [*model.tokenizer.encode(str(own.text[row])), model.stop_ids[0]]
            beginnings = [answer[:i] for i in range(len(answer))]
            generator = Generator(model, stack([adapter]))
            ((logits,),) = next_token_logits(generator, [[prompt]], [[beginnings]], everything)
            expected = log_softmax(logits, axis=1)[np.arange(len(answer)), answer].sum()
            assert values[row] == pytest.approx(expected, rel=1e-4)
