"""LoRA against peft and torch.optim, and the critic's scores with an adapter."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from peft import PeftModel

from constellation.critic import answer_ids
from constellation.domains.task import split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.model.config import ModelConfig
from constellation.model.lora import Adapter, init_adapter, stack, unstack
from constellation.model.model import Generator, Model
from constellation.model.prefix import common_prefix
from constellation.model.score import next_token_logits
from constellation.runtime import keys
from constellation.selftraining.batches import Batch, pack
from constellation.selftraining.star import warm_start_examples
from constellation.selftraining.update import make_optimizer, make_update
from third_party import model_reference, training_reference
from third_party.comparison.logits import TOLERANCE, LeftPadded, prompt_tasks, whole_logits
from third_party.comparison.table import Row, relative_norm

RANK, ALPHA = 16, 32
STEPS, EXAMPLES = 20, 4
RATE, DECAY, CLIP = 1e-3, 0.1, 1.0
DTYPES = torch.float32, torch.float64  # of torch: the one is ours, the other says how much it rounds


def lora_rows(model: Model, reference: PeftModel, batch: LeftPadded) -> Iterator[Row]:
    """Forward, gradients and critic with a random adapter, then twenty steps from a fresh one."""
    fresh, adapter = make_adapters(model.config, "compare_pytorch")
    put_adapter(reference, adapter)
    training = _training_batch(model)
    ours = whole_logits(model.config, model.params, adapter, batch)
    theirs = model_reference.logits(reference, batch.ids, batch.attention)
    error = relative_norm(ours, theirs)
    yield Row("LoRA forward", "relative norm of the logits' error", error, TOLERANCE)
    yield _critic_row(model, adapter, reference)
    yield _gradient_row(model, adapter, reference, training)
    yield _steps_row(model, fresh, reference, training)


def make_adapters(config: ModelConfig, name: str) -> tuple[Adapter, Adapter]:
    """A fresh adapter, and the same with a random B: at zero it would hide A's gradient."""
    fresh, rng = init_adapter(config, keys.fold(0, name), RANK, ALPHA), keys.host_rng(0, name)
    weights = {
        projection: {"a": pair["a"], "b": jnp.asarray(rng.normal(0, 0.05, pair["b"].shape), jnp.float32)}
        for projection, pair in fresh.weights.items()
    }
    return fresh, dataclasses.replace(fresh, weights=weights)


def put_adapter(reference: PeftModel, adapter: Adapter) -> None:
    """Gives peft's layers our weights."""
    training_reference.write_adapter(reference, jax.tree.map(np.asarray, adapter.weights))


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
    training_reference.loss_of(reference, batch).backward()
    theirs = training_reference.read_adapter(reference, gradient=True)
    error = relative_norm(gradient(model, adapter, _of_one_trajectory(batch)), theirs)
    return Row("LoRA gradients", "relative norm of the error of A's and B's gradients", error, TOLERANCE)


def gradient(model: Model, adapter: Adapter, batch: Batch) -> Any:
    """The gradient that an update's optimizer is given, on a batch [B, 1, ...] of one trajectory."""
    adapters = stack([adapter])
    states = jax.vmap(_KEEP.init)(adapters.weights)
    _, states, _ = make_update(model.config, _KEEP)(adapters, states, model.params, batch)
    return jax.tree.map(lambda leaf: np.asarray(leaf[0]), states.trace)


_KEEP = optax.trace(decay=0.0)  # its state is the last gradient


def _of_one_trajectory(batch: Batch) -> Batch:
    return jax.tree.map(lambda array: array[:, None], batch)


def _steps_row(model: Model, fresh: Adapter, reference: PeftModel, batch: Batch) -> Row:
    def torch_update(optimizer: torch.optim.Optimizer, batch: Batch) -> None:
        training_reference.update(reference, optimizer, [batch], CLIP)

    ours = change(model, fresh, [_of_one_trajectory(batch)])
    theirs = (torch_change(reference, fresh, torch_update, [batch], dtype) for dtype in DTYPES)
    return steps_row("LoRA training", ours, *theirs)


def steps_row(name: str, ours: Any, single: Any, exact: Any) -> Row:
    """The change after some steps against torch's in float64, and torch's own float32 beside it.

    AdamW's first steps have the size of the rate however small a gradient is, so where one is near zero the
    rounding decides their sign. Where float32 itself is further than TOLERANCE from float64, ours may be as
    far as torch's.
    """
    floor = relative_norm(single, exact)
    measured = (
        f"relative norm of the error of the change after {STEPS} AdamW steps, against torch in float64, "
        f"from which torch in float32 is {floor:.1e}"
    )
    return Row(name, measured, relative_norm(ours, exact), max(TOLERANCE, floor))


def change(model: Model, adapter: Adapter, batches: Sequence[Batch]) -> Any:
    """What our steps on these batches [B, 1, ...] of one trajectory, again and again, add to an adapter."""
    optimizer = make_optimizer(RATE, DECAY, CLIP)
    adapters, update = stack([adapter]), make_update(model.config, optimizer)
    states = jax.vmap(optimizer.init)(adapters.weights)
    for batch in itertools.islice(itertools.cycle(batches), STEPS):
        adapters, states, _ = update(adapters, states, model.params, batch)
    (after,) = unstack(adapters)
    return jax.tree.map(lambda new, old: np.asarray(new) - np.asarray(old), after.weights, adapter.weights)


def torch_change(
    reference: PeftModel,
    adapter: Adapter,
    update: Callable[[torch.optim.Optimizer, Any], None],
    batches: Sequence[Any],
    dtype: torch.dtype,
) -> Any:
    """As `change`, by torch's steps in a precision."""
    put_adapter(reference.to(dtype), adapter)
    optimizer = training_reference.make_optimizer(reference, RATE, DECAY)
    for batch in itertools.islice(itertools.cycle(batches), STEPS):
        update(optimizer, batch)
    after = training_reference.read_adapter(reference)
    reference.float()
    return jax.tree.map(lambda new, old: new - np.asarray(old), after, adapter.weights)
