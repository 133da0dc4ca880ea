"""Pretraining of the nano base: views and batches of the corpus, the step, the loop and what it writes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from tokenizers import Tokenizer

from constellation import checkpoints
from constellation.conductor import digest
from constellation.domains.domain import load_domain
from constellation.domains.task import Task, addressed_random, examples_text, read_tasks
from constellation.evaluation import drawing
from constellation.model.config import ModelConfig
from constellation.model.decoder import Params, forward, init_params, logits
from constellation.model.mesh import make_mesh, over_rows
from constellation.model.padding import multiple
from constellation.model.port import save_hf
from constellation.nano import tokenizer as nano_tokenizer
from constellation.nano.corpus import Corpus
from constellation.runtime import keys
from constellation.runtime.errors import UserError
from constellation.runtime.progress import Metrics, Progress, read_metrics

SKELETONS = "training_skeletons.txt"
WIDTH_STEP = 16  # sequences are padded to a multiple of this; few widths mean few compiled programs


class PretrainingBatch(NamedTuple):
    """Sequences from position 0 on."""

    tokens: Any  # [B, T] int32
    weight: Any  # [B, T] float32, of predicting a token from those before it; zero on padding and at t = 0


def pretrain(config: ConfigDict, workdir: str) -> None:
    """Runs the recipe of `configs/nano_pretrain.py`.

    Raises:
        UserError: the domain has nothing to pretrain on, the workdir holds a run with another recipe, or the
            loss is not finite.
    """
    directory, language = Path(workdir), load_domain(config.domain).pretraining
    if language is None:
        raise UserError(f"config.domain = {config.domain!r} has nothing to pretrain on: use another")
    tokenizer = nano_tokenizer.build_tokenizer(language)
    corpus = Corpus(
        directory / "shards",
        language.sources,
        config.corpus.mixture.to_dict(),
        config.corpus.tasks_per_shard,
        config.seed,
    )
    model_config = ModelConfig(
        vocab_size=tokenizer.get_vocab_size(), rms_norm_eps=1e-6, tie_word_embeddings=True, **config.model
    )
    batches_per_view = config.corpus.tasks_per_shard // config.batch_size
    total = config.corpus.shards * config.corpus.views * batches_per_view
    optimizer = make_optimizer(config, total)
    params = init_params(model_config, keys.fold(config.seed, "theta0"))
    state = (params, optimizer.init(params))
    recipe = {"recipe": digest(config)}

    step = 0
    if checkpoints.steps(directory / "checkpoint"):
        state, metadata, step = checkpoints.restore(directory / "checkpoint", template=state)
        if metadata != recipe:
            raise UserError(
                f"{workdir} holds a run with another recipe; give another --workdir, or set the config back"
            )
    train_step = make_train_step(model_config, optimizer)
    with (
        Metrics(directory / "metrics", resumed_from=step or None) as metrics,
        Progress("pretraining", total, "steps", done=step) as progress,
    ):
        for batch in _batches(config, tokenizer, corpus, first=step):
            # One step at a time: several in flight on virtual devices can starve their own collectives.
            *state, measured = jax.block_until_ready(train_step(*state, batch))
            step += 1
            if step % 50 == 0 or step == total:
                measured = {name: float(value) for name, value in measured.items()}
                if not np.isfinite(measured["loss"]):
                    raise UserError(
                        f"the loss is {measured['loss']} at step {step}: lower config.learning_rate"
                    )
                metrics.write(step, **measured)
                done = step - progress.done
                progress.update(done, loss=measured["loss"], accuracy=measured["answer_accuracy"])
            if step % config.checkpoint_every == 0 or step == total:
                checkpoints.save(directory / "checkpoint", step, tuple(state), recipe)
    write_model(directory / "model", model_config, state[0], tokenizer)
    write_skeletons(corpus, config.corpus.shards, directory / "model")
    drawing.pretraining(read_metrics(directory / "metrics"), directory / "pretraining.png")


def make_train_step(config: ModelConfig, optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """A jitted (params, opt_state, batch) -> (params, opt_state, metrics); the first two are donated.

    All parameters are trained, data-parallel over the devices there are. On a CPU it pays to make one device
    of every core (launch/pretrain.py does): XLA then runs each part of the batch on one thread, instead of
    handing every small operation to all of them.

    Metrics: loss (weighted mean cross entropy), answer_accuracy (share of the targets of weight 1 whose token
    is the most likely one), grad_norm.
    """

    def sums_of(params: Params, batch: PretrainingBatch) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        rows, width = batch.tokens.shape
        positions = jnp.broadcast_to(jnp.arange(width), (rows, width))
        mask = jnp.broadcast_to(jnp.tril(jnp.ones((width, width), bool)), (rows, width, width))
        hidden = forward(config, params, None, batch.tokens, positions, mask)[:, :-1]
        scores = logits(config, params, hidden)  # [B, T-1, V]
        targets, weight = batch.tokens[:, 1:], batch.weight[:, 1:]
        loss = (optax.softmax_cross_entropy_with_integer_labels(scores, targets) * weight).sum()
        correct = ((scores.argmax(-1) == targets) & (weight == 1.0)).sum()
        return loss, (loss, correct)

    # Weights of a batch differ by device, so sums are added up across devices, not means.
    gradient_of = over_rows(jax.grad(sums_of, has_aux=True), make_mesh(jax.device_count()), reduce=True)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Params, opt_state: Any, batch: PretrainingBatch) -> tuple[Params, Any, dict[str, Any]]:
        gradient, (loss, correct) = gradient_of(params, batch)
        total, answers = batch.weight.sum(), (batch.weight == 1.0).sum()
        gradient = jax.tree.map(lambda g: g / total, gradient)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        metrics = {
            "loss": loss / total,
            "answer_accuracy": correct / answers,
            "grad_norm": optax.tree.norm(gradient),
        }
        return optax.apply_updates(params, updates), opt_state, metrics

    return step


def make_optimizer(config: ConfigDict, total: int) -> optax.GradientTransformation:
    """AdamW; the rate warms up, stays, and falls linearly to zero over the last 30 % of the steps.

    Norms and the embedding are not decayed.
    """
    falling = int(0.3 * total)
    schedule = optax.join_schedules(
        [
            optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps),
            optax.constant_schedule(config.learning_rate),
            optax.linear_schedule(config.learning_rate, 0.0, falling),
        ],
        [config.warmup_steps, total - falling],
    )

    def decayed(params: Params) -> Any:
        return jax.tree.map(lambda weight: weight.ndim == 3, params)

    adamw = optax.adamw(schedule, b2=0.98, weight_decay=config.weight_decay, mask=decayed)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)


def write_model(directory: Path, config: ModelConfig, params: Params, tokenizer: Tokenizer) -> None:
    """Writes what `model.dir` accepts: weights, config, tokenizer with chat template, generation config."""
    save_hf(directory, config, params)
    nano_tokenizer.save_tokenizer(tokenizer, directory)
    end, pad = map(tokenizer.token_to_id, (nano_tokenizer.END, nano_tokenizer.PAD))
    generation = json.dumps({"eos_token_id": [end], "pad_token_id": pad, "do_sample": True}, indent=2)
    (directory / "generation_config.json").write_text(generation + "\n", encoding="utf-8")


def write_skeletons(corpus: Corpus, count: int, directory: Path) -> None:
    """Lists the skeletons of all pretraining programs beside the model: a study says which tasks are new."""
    skeletons = {task.skeleton for index in range(count) for task in read_tasks(corpus.path(index))}
    (directory / SKELETONS).write_text("\n".join(sorted(skeletons)) + "\n", encoding="utf-8")


def _batches(
    config: ConfigDict, tokenizer: Tokenizer, corpus: Corpus, first: int
) -> Iterator[PretrainingBatch]:
    """The batches from step `first` on: shard by shard, and within a shard view by view."""
    per_view = corpus.shard_size // config.batch_size
    shard, skipped = divmod(first, per_view * config.corpus.views)
    for number, tasks in enumerate(corpus.shards(shard, config.corpus.shards), start=shard):
        for view in range(config.corpus.views):
            if skipped >= per_view:
                skipped -= per_view
                continue
            rng = addressed_random("views", config.seed, number, view)
            yield from view_batches(tasks, tokenizer, rng, config)[skipped:]
            skipped = 0


def view_batches(
    tasks: list[Task], tokenizer: Tokenizer, rng: random.Random, config: ConfigDict
) -> list[PretrainingBatch]:
    """Every task once, through freshly drawn visible examples, in random batches of similar length."""
    counts, weights = [int(count) for count in config.corpus.visible], list(config.corpus.visible.values())
    prompts = []
    for task in tasks:
        visible = rng.sample(task.examples, rng.choices(counts, weights)[0])
        prompts.append(f"{nano_tokenizer.USER}{examples_text(visible)}{nano_tokenizer.ASSISTANT}")

    def encoded(texts: list[str]) -> list[np.ndarray]:
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    prompt_ids = encoded(prompts)
    answer_ids = encoded([task.program + nano_tokenizer.END for task in tasks])
    order = sorted(range(len(tasks)), key=lambda i: (len(prompt_ids[i]) + len(answer_ids[i]), rng.random()))
    size = config.batch_size
    groups = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
    rng.shuffle(groups)
    vocabulary = tokenizer.get_vocab()
    opens = vocabulary[nano_tokenizer.spelt(nano_tokenizer.ARROW)]
    closes = vocabulary[nano_tokenizer.spelt(nano_tokenizer.NEWLINE)]

    def batch(group: list[int]) -> PretrainingBatch:
        longest = max(len(prompt_ids[i]) + len(answer_ids[i]) for i in group)
        tokens = np.zeros((size, multiple(longest, WIDTH_STEP)), np.int32)
        # A token is a target if it belongs to an answer, or, with less weight, to the output of an example.
        weight = np.zeros(tokens.shape, np.float32)
        for row, i in enumerate(group):
            prompt, answer = prompt_ids[i], answer_ids[i]
            end = len(prompt) + len(answer)
            tokens[row, :end] = np.concatenate([prompt, answer])
            # opened minus closed before a token: one within an output, none within an input
            within = np.cumsum(prompt == opens) - np.cumsum(prompt == closes)
            weight[row, 1 : len(prompt)] = config.output_weight * within[:-1]
            weight[row, len(prompt) - 1] = 0.0  # the marker of the assistant's turn
            weight[row, len(prompt) : end] = 1.0
        return PretrainingBatch(tokens, weight)

    return [batch(group) for group in groups]
