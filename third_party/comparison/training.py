"""LoRA against peft and torch.optim, and the critic's scores with an adapter."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from peft import PeftModel

from constellation.critic import answer_ids
from constellation.domains.task import split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.model.config import ModelConfig
from constellation.model.decoder import Params
from constellation.model.lora import Adapter, init_adapter, stack, unstack
from constellation.model.model import Generator, Model
from constellation.model.prefix import common_prefix
from constellation.model.score import next_token_logits
from constellation.runtime import keys
from constellation.selftraining.batches import Batch, pack
from constellation.selftraining.star import warm_start_examples
from constellation.selftraining.update import cross_entropy, make_optimizer, make_update
from third_party import model_reference, training_reference
from third_party.comparison.logits import TOLERANCE, LeftPadded, prompt_tasks, whole_logits
from third_party.comparison.table import Row, relative_norm

RANK, ALPHA = 16, 32
STEPS, EXAMPLES = 20, 4
RATE, DECAY, CLIP = 1e-3, 0.1, 1.0


def lora_rows(model: Model, reference: PeftModel, batch: LeftPadded) -> Iterator[Row]:
    """Forward, gradients and critic with a random adapter, then twenty steps from a fresh one."""
    fresh = init_adapter(model.config, keys.fold(0, "compare_pytorch"), RANK, ALPHA)
    rng = keys.host_rng(0, "compare_pytorch")
    weights = {  # B at zero would hide A's gradient
        name: {"a": pair["a"], "b": jnp.asarray(rng.normal(0, 0.05, pair["b"].shape), jnp.float32)}
        for name, pair in fresh.weights.items()
    }
    adapter = dataclasses.replace(fresh, weights=weights)
    training_reference.write_adapter(reference, jax.tree.map(np.asarray, adapter.weights))
    training = _training_batch(model)
    ours = whole_logits(model.config, model.params, adapter, batch)
    theirs = model_reference.logits(reference, batch.ids, batch.attention)
    error = relative_norm(ours, theirs)
    yield Row("LoRA forward", "relative norm of the logits' error", error, TOLERANCE)
    yield _critic_row(model, adapter, reference)
    yield _gradient_row(model, adapter, reference, training)
    yield _steps_row(model, fresh, reference, training)


def _training_batch(model: Model) -> Batch:
    """Warm-start examples, those of like length, so that none share a row: peft knows no such."""
    tasks = trapdoor.training_tasks("warm_start", 4 * EXAMPLES, max_atoms=3)
    examples = warm_start_examples(model, trapdoor, tasks, lambda task: split(task, 0))
    return pack(sorted(examples, key=lambda example: example.length)[-EXAMPLES:])


def _critic_row(model: Model, critic: Adapter, reference: PeftModel) -> Row:
    """logit(yes) - logit(no) for several programs of each task, which ours scores behind one prompt."""
    yes_no = answer_ids(model)
    tasks = prompt_tasks()
    theirs, prompts, questions = [], [], []
    largest = 0.0  # scores are small differences of logits, and rounded as these are
    for task in tasks:
        shown = split(task, 0)
        conversations = [model.chat(trapdoor.critic_messages(shown, other.program)) for other in tasks]
        shared = common_prefix(conversations)
        prompts.append(conversations[0][:shared])
        questions.append([conversation[shared:] for conversation in conversations])
        padded = LeftPadded.from_prompts(conversations)
        logits = model_reference.logits(reference, padded.ids, padded.attention)
        last = np.cumsum(padded.real.sum(1)) - 1
        theirs.append(logits[last][:, yes_no])
        largest = max(largest, float(np.abs(logits[last]).max()))
    (scored,) = next_token_logits(Generator(model, stack([critic])), [prompts], [questions], yes_no)
    ours = np.stack(scored)  # [tasks, programs, 2]
    scores = ours[..., 0] - ours[..., 1]
    expected = np.stack(theirs)[..., 0] - np.stack(theirs)[..., 1]
    error = float(np.abs(scores - expected).max() / largest)
    measured = f"max abs error of {scores.size} scores logit(yes) - logit(no) / max abs of a logit"
    return Row("critic scores", measured, error, TOLERANCE)


def _gradient_row(model: Model, adapter: Adapter, reference: PeftModel, batch: Batch) -> Row:
    ours = _gradient(adapter, model.params, model.config, batch)
    training_reference.loss_of(reference, batch).backward()
    theirs = training_reference.read_adapter(reference, gradient=True)
    error = relative_norm(ours.weights, theirs)
    return Row("LoRA gradients", "relative norm of the error of A's and B's gradients", error, TOLERANCE)


@functools.partial(jax.jit, static_argnums=2)
@jax.grad
def _gradient(adapter: Adapter, params: Params, config: ModelConfig, batch: Batch) -> jax.Array:
    return cross_entropy(config, params, adapter, batch) / (batch.target >= 0).sum()


def _steps_row(model: Model, fresh: Adapter, reference: PeftModel, batch: Batch) -> Row:
    """The change after some steps against torch's in float64, and torch's own float32 beside it.

    AdamW's first steps have the size of the rate however small a gradient is, so where one is near zero the
    rounding decides their sign. Where float32 itself is further than TOLERANCE from float64, ours may be as
    far as torch's.
    """
    start = jax.tree.map(np.array, fresh.weights)
    single = _torch_change(reference, start, batch)
    exact = _torch_change(reference.double(), start, batch)
    reference.float()
    optimizer = make_optimizer(RATE, DECAY, CLIP)
    adapters, update = stack([fresh]), make_update(model.config, optimizer)
    states = jax.vmap(optimizer.init)(adapters.weights)
    rows = jax.tree.map(lambda array: array[:, None], batch)  # of one trajectory
    for _ in range(STEPS):
        adapters, states, _ = update(adapters, states, model.params, rows)
    (adapter,) = unstack(adapters)
    ours = jax.tree.map(lambda new, old: np.asarray(new) - old, adapter.weights, start)
    floor = relative_norm(single, exact)
    measured = (
        f"relative norm of the error of the change after {STEPS} AdamW steps, against torch in float64, "
        f"from which torch in float32 is {floor:.1e}"
    )
    return Row("LoRA training", measured, relative_norm(ours, exact), max(TOLERANCE, floor))


def _torch_change(reference: PeftModel, start: Any, batch: Batch) -> Any:
    training_reference.write_adapter(reference, start)
    optimizer = training_reference.make_optimizer(reference, RATE, DECAY)
    for _ in range(STEPS):
        training_reference.update(reference, optimizer, [batch], CLIP)
    return jax.tree.map(np.subtract, training_reference.read_adapter(reference), start)
