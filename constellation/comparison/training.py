"""LoRA against peft and torch.optim, and the critic's scores with an adapter."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from peft import PeftModel

from constellation import keys
from constellation.comparison import batch as batches
from constellation.comparison import whole
from constellation.comparison.batch import LeftPadded
from constellation.comparison.errors import relative_norm, worst_position
from constellation.comparison.table import Row
from constellation.model.lora import Adapter, init_adapter
from constellation.model.model import Model
from constellation.model.score import next_token_logits
from constellation.selftraining.batches import Batch, collate
from constellation.selftraining.update import cross_entropy, make_optimizer, make_update
from constellation.selftraining.warm_start import warm_start_examples
from constellation.tasks import trapdoor
from constellation.tasks.prompts import CRITIC_ANSWERS
from constellation.tasks.task import split
from third_party import model_reference, training_reference

TOLERANCE = 1e-4
RANK, ALPHA = 16, 32
STEPS, EXAMPLES, BATCH = 20, 16, 4
RATE, DECAY, CLIP = 1e-3, 0.1, 1.0


def lora_rows(model: Model, reference: PeftModel, batch: LeftPadded) -> list[Row]:
    """Forward, gradients and critic with a random adapter, then twenty steps from a fresh one."""
    fresh = init_adapter(model.config, keys.fold(0, "compare_pytorch"), RANK, ALPHA)
    rng = keys.host_rng(0, "compare_pytorch")
    weights = {  # B at zero would hide A's gradient
        name: {"a": pair["a"], "b": jnp.asarray(rng.normal(0, 0.05, pair["b"].shape), jnp.float32)}
        for name, pair in fresh.weights.items()
    }
    adapter = dataclasses.replace(fresh, weights=weights)
    training_reference.write_adapter(reference, adapter.weights)
    training = _training_batches(model)
    ours = whole.logits(model.config, model.params, adapter, batch)
    theirs = model_reference.logits(reference, batch.ids, batch.attention)
    return [
        Row("LoRA forward", "relative norm of the logits' error", relative_norm(ours, theirs), TOLERANCE),
        _critic_row(model, adapter, reference),
        _gradient_row(model, adapter, reference, training[0]),
        _steps_row(model, fresh, reference, training),
    ]


def _training_batches(model: Model) -> list[Batch]:
    """Warm-start examples, those of like length together, so that none share a row: peft knows no such."""
    tasks = trapdoor.training_tasks("warm_start", EXAMPLES, max_atoms=3)
    examples = sorted(warm_start_examples(model, tasks, lambda task: split(task, 0)), key=lambda e: e.length)
    return [collate(examples[start : start + BATCH]) for start in range(0, EXAMPLES, BATCH)]


def _critic_row(model: Model, critic: Adapter, reference: PeftModel) -> Row:
    """logit(yes) - logit(no) for several programs of each task, which ours scores behind one prompt."""
    yes_no = [model.tokenizer.encode(answer)[0] for answer in CRITIC_ANSWERS]
    tasks = batches.tasks()
    theirs, prompts, questions = [], [], []
    for task in tasks:
        visible = split(task, 0).visible
        conversations = [model.chat(trapdoor.critic_messages(visible, other.program)) for other in tasks]
        shared = len(os.path.commonprefix(conversations))
        prompts.append(conversations[0][:shared])
        questions.append([conversation[shared:] for conversation in conversations])
        padded = LeftPadded.of(conversations)
        logits = model_reference.logits(reference, padded.ids, padded.attention)
        last = np.cumsum(padded.real.sum(1)) - 1
        theirs.append(logits[last][:, yes_no])
    ours = np.stack(next_token_logits(model, critic, prompts, questions, yes_no))  # [tasks, programs, 2]
    scores = ours[..., 0] - ours[..., 1]
    expected = np.stack(theirs)[..., 0] - np.stack(theirs)[..., 1]
    measured = f"max abs error / max abs of {scores.size} scores logit(yes) - logit(no)"
    error = worst_position(scores.reshape(1, -1), expected.reshape(1, -1))
    return Row("critic scores", measured, error, TOLERANCE)


def _gradient_row(model: Model, adapter: Adapter, reference: PeftModel, batch: Batch) -> Row:
    def loss(adapter: Adapter, params: Any) -> jax.Array:
        return cross_entropy(model.config, params, adapter, batch) / batch.weight.sum()

    ours = jax.jit(jax.grad(loss))(adapter, model.params)
    training_reference.loss_of(reference, batch).backward()
    theirs = training_reference.read_adapter(reference, gradient=True)
    error = relative_norm(ours.weights, theirs)
    return Row("LoRA gradients", "relative norm of the error of A's and B's gradients", error, TOLERANCE)


def _steps_row(model: Model, fresh: Adapter, reference: PeftModel, training: list[Batch]) -> Row:
    start = jax.tree.map(np.array, fresh.weights)
    training_reference.write_adapter(reference, start)
    torch_optimizer = training_reference.make_optimizer(reference, RATE, DECAY)
    optimizer = make_optimizer(RATE, DECAY, CLIP)
    adapter, state = fresh, optimizer.init(fresh.weights)
    update = make_update(model.config, optimizer)
    for step in range(STEPS):
        batch = training[step % len(training)]
        adapter, state, _ = update(adapter, state, model.params, batch)
        training_reference.update(reference, torch_optimizer, batch, CLIP)
    ours = jax.tree.map(lambda new, old: np.asarray(new) - old, adapter.weights, start)
    theirs = jax.tree.map(np.subtract, training_reference.read_adapter(reference), start)
    measured = f"relative norm of the error of the change after {STEPS} AdamW steps"
    return Row("LoRA training", measured, relative_norm(ours, theirs), TOLERANCE)
