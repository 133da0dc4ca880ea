"""A real pretrained model, where it has been fetched:

python -m launch.get_model --name=smollm2-135m-instruct --out=models/smollm2-135m-instruct
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from transformers import PreTrainedModel

from constellation.generator import sample
from constellation.model import decoder
from constellation.model.export import divergence, prompt_logits
from constellation.model.lora import init_adapter, stack
from constellation.model.model import Generator, Model, load_model
from constellation.model.sampling import SamplingConfig
from constellation.runtime.keys import Address
from constellation.selftraining.batches import TrainingExample, collate
from constellation.selftraining.update import make_update
from third_party import model_reference, training_reference
from third_party.comparison.logits import LeftPadded
from third_party.comparison.table import relative_norm
from third_party.sampling_reference import greedy

DIRECTORY = Path(__file__).parents[2] / "models" / "smollm2-135m-instruct"
FETCHED = (DIRECTORY / "config.json").exists()
pytestmark = pytest.mark.skipif(not FETCHED, reason=f"{DIRECTORY} has not been fetched")

QUESTIONS = (
    "The capital of France is", "Write a haiku about rain.", "What is 12 + 345?", "def factorial(n):",
    "Name three birds.", "Translate 'good morning' into Spanish.", "Why is the sky blue?",
    "List the days of the week.", "Who wrote Hamlet?", "Continue: 2, 4, 8, 16,",
)  # fmt: skip
ANSWERS = "Paris.", "Drops on the window", "357"


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(DIRECTORY)


@pytest.fixture(scope="module")
def hf() -> PreTrainedModel:
    return model_reference.load(DIRECTORY)


@pytest.fixture(scope="module")
def prompts(model: Model) -> list[list[int]]:
    return [model.chat([{"role": "user", "content": question}]) for question in QUESTIONS]


def test_the_template_writes_its_own_system_turn(model: Model, prompts: list[list[int]]) -> None:
    text = model.tokenizer.decode(prompts[0])
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert text.endswith(f"<|im_start|>user\n{QUESTIONS[0]}<|im_end|>\n<|im_start|>assistant\n")
    assert model.tokenizer.decode(list(model.stop_ids)) == "<|im_end|>"


def test_logits_equal_transformers(model: Model, hf: PreTrainedModel, prompts: list[list[int]]) -> None:
    batch = LeftPadded.from_prompts(prompts)
    tokens, positions, mask = map(jnp.asarray, (batch.tokens, batch.positions, batch.mask))
    hidden = decoder.forward(model.config, model.params, None, tokens, positions, mask)
    ours = decoder.logits(model.config, model.params, hidden[batch.real])
    want = model_reference.logits(hf, batch.ids, batch.attention)
    np.testing.assert_allclose(ours, want, rtol=0, atol=1e-4 * np.abs(want).max())


def test_128_greedy_tokens_equal_transformers(
    model: Model, hf: PreTrainedModel, prompts: list[list[int]]
) -> None:
    """Up to the first token that leads by less than the error of logits."""
    endless = Generator(dataclasses.replace(model, stop_ids=()))
    sampling = SamplingConfig(n=1, temperature=0, max_new_tokens=128)
    ids = [str(number) for number in range(len(prompts))]
    (drawn,) = sample(endless, [prompts], [ids], Address(0, "sampling", "real"), sampling)
    theirs, lead = greedy(hf, prompts, 128, model.tokenizer.size)
    same = 0
    for (answer,), want, margins in zip(drawn, theirs, lead, strict=True):
        certain = int(np.argmax(np.append(margins < 1e-3, True)))
        np.testing.assert_array_equal(answer.ids[:certain], want[:certain])
        same += certain
    assert same > 0.9 * 128 * len(prompts)


def test_lora_gradients_equal_pefts(model: Model, prompts: list[list[int]]) -> None:
    def ids(tokens: list[int]) -> np.ndarray:
        return np.array(tokens, np.int32)

    examples = [
        TrainingExample(ids(prompt), (ids(model.tokenizer.encode(answer)),), (0,))
        for prompt, answer in zip(prompts, ANSWERS, strict=False)
    ]
    adapter = init_adapter(model.config, jax.random.key(0), 4, 8)
    rng = np.random.default_rng(0)
    drawn = {
        name: parts | {"b": jnp.asarray(rng.normal(0, 0.02, parts["b"].shape), jnp.float32)}
        for name, parts in adapter.weights.items()
    }
    start = jax.tree.map(np.asarray, drawn)
    descend, adapters = optax.sgd(1.0), stack([dataclasses.replace(adapter, weights=drawn)])
    states = jax.vmap(descend.init)(adapters.weights)
    update = make_update(model.config, descend)
    after, _, metrics = update(adapters, states, model.params, collate([examples]))
    ours = jax.tree.map(lambda old, new: old - np.asarray(new[0]), start, after.weights)

    theirs = training_reference.load_peft(DIRECTORY, 4, 8)
    training_reference.write_adapter(theirs, start)
    loss = training_reference.loss_of(theirs, training_reference.one_a_row(examples))
    loss.backward()
    assert float(metrics["loss"][0]) == pytest.approx(loss.item(), rel=1e-4)
    assert relative_norm(ours, training_reference.read_adapter(theirs, gradient=True)) < 1e-3


def test_smaller_groups_are_nearer(model: Model, prompts: list[list[int]]) -> None:
    """Int4 in groups of 32 is nearer to the dense model than in groups of 64."""
    dense = prompt_logits(model, None, prompts)
    near, far = (
        divergence(dense, prompt_logits(load_model(DIRECTORY, f"int4:{group}"), None, prompts))
        for group in (32, 64)
    )
    assert 1e-4 < near < far
