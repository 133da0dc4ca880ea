"""Pretraining of a nano base: views and batches of the corpus, the step, the loop and what it writes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jinja2
import numpy as np
import optax
from ml_collections import ConfigDict
from tokenizers import Tokenizer

from constellation import checkpoints
from constellation.conductor import digest
from constellation.domains.domain import Domain, Pretraining, load_domain
from constellation.domains.task import Task, addressed_random, read_tasks
from constellation.evaluation import drawing
from constellation.experiments.config import refuse
from constellation.model.config import ModelConfig
from constellation.model.decoder import Params, forward, init_params, logits
from constellation.model.mesh import make_mesh, over_rows
from constellation.model.model import load_model
from constellation.model.padding import multiple
from constellation.model.port import save_hf
from constellation.model.sampling import SamplingConfig
from constellation.nano import tokenizer as nano_tokenizer
from constellation.nano.answers import Answer, Answered
from constellation.nano.corpus import Corpus
from constellation.nano.documents import draw_document
from constellation.nano.tokenizer import ARROW, NANO, NEWLINE, STYLES, Style, spelt
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
        UserError: the domain has nothing to pretrain on, a field is not as it must be, `config.start` is no
            model of this recipe's shape, the workdir holds a run with another recipe, or the loss is not
            finite.
    """
    directory, style = Path(workdir), STYLES[config.style]
    shards = Path(config.corpus.directory or directory / "shards")
    domains = {name: _domain(name) for name in config.corpus.domains}
    _check(config, domains)
    tokenizer = nano_tokenizer.build_tokenizer(*(_language(each) for each in domains.values()), style=style)
    corpora = {name: _corpus(config, shards, domain) for name, domain in domains.items()}
    shape = config.model.to_dict()
    model_config = ModelConfig(
        vocab_size=tokenizer.get_vocab_size(),
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        **shape.pop("family"),
        **shape,
    )
    answered = _answered(config, corpora, domains)
    views = Views(config, tokenizer, style, domains, corpora, answered)
    total = config.corpus.shards * config.corpus.views * views.batches
    optimizer = make_optimizer(config, total)
    params = _start(config, model_config, tokenizer)
    state = (params, optimizer.init(params))
    recipe = {"recipe": digest([config, *(answers.digest for answers in answered.values())])}

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
        for batch in views.batches_from(step):
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
    write_model(directory / "model", model_config, state[0], tokenizer, style)
    write_skeletons(corpora.values(), config.corpus.shards, directory / "model", config.start)
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


def write_model(
    directory: Path, config: ModelConfig, params: Params, tokenizer: Tokenizer, style: Style = NANO
) -> None:
    """Writes what `model.dir` accepts: weights, config, tokenizer with chat template, generation config."""
    save_hf(directory, config, params)
    nano_tokenizer.save_tokenizer(tokenizer, directory, style)
    end, pad = map(tokenizer.token_to_id, (style.end, style.pad))
    generation = json.dumps({"eos_token_id": [end], "pad_token_id": pad, "do_sample": True}, indent=2)
    (directory / "generation_config.json").write_text(generation + "\n", encoding="utf-8")


def write_skeletons(corpora: Iterable[Corpus], count: int, directory: Path, start: str = "") -> None:
    """Lists the skeletons of all pretraining tasks beside the model: a study says which tasks are new.

    Those of the model at `start`, which it went on from, are among them.
    """
    paths = (corpus.path(index) for corpus in corpora for index in range(count))
    skeletons = {task.skeleton for path in paths for task in read_tasks(path)}
    if start and (earlier := Path(start, SKELETONS)).exists():
        skeletons.update(earlier.read_text(encoding="utf-8").splitlines())
    (directory / SKELETONS).write_text("\n".join(sorted(skeletons)) + "\n", encoding="utf-8")


class Views:
    """The batches of a run: shard by shard, and within a shard view by view, those of all domains mixed."""

    def __init__(
        self,
        config: ConfigDict,
        tokenizer: Tokenizer,
        style: Style,
        domains: Mapping[str, Domain],
        corpora: Mapping[str, Corpus],
        answered: Mapping[str, Answered] | None = None,  # of the domains whose answers models wrote
    ):
        self.config, self.tokenizer, self.style = config, tokenizer, style
        self.domains, self.corpora, self.answered = domains, corpora, answered or {}
        models = [Path(model).resolve() for model in config.answers.models]
        self.reader = models.index(Path(config.start).resolve()) if models else -1
        self.template = jinja2.Environment().from_string(style.template)
        self.batches = sum(corpus.shard_size // config.batch_size for corpus in corpora.values())  # of a view
        ids = tokenizer.get_vocab()
        self.opens, self.closes = (ids[spelt(lexeme)] for lexeme in (ARROW, NEWLINE))

    def batches_from(self, first: int) -> Iterator[PretrainingBatch]:
        """The batches from step `first` on."""
        shards, views = self.config.corpus.shards, self.config.corpus.views
        shard, skipped = divmod(first, self.batches * views)
        drawn = (corpus.shards(shard, shards) for corpus in self.corpora.values())
        for number, each in enumerate(zip(*drawn, strict=True), start=shard):
            tasks = dict(zip(self.corpora, each, strict=True))
            answers = {name: pool.shard(number, tasks[name]) for name, pool in self.answered.items()}
            for view in range(views):
                if skipped >= self.batches:
                    skipped -= self.batches
                    continue
                rng = addressed_random("views", self.config.seed, number, view)
                yield from self.view(tasks, rng, answers)[skipped:]
                skipped = 0

    def view(
        self,
        tasks: Mapping[str, list[Task]],
        rng: random.Random,
        answers: Mapping[str, Sequence[Sequence[Answer]]] | None = None,
    ) -> list[PretrainingBatch]:
        """Every task of every domain once, in a freshly drawn document, in random batches of like length."""
        size, batches = self.config.batch_size, []
        for name, own in tasks.items():
            rows = self._rows(name, own, (answers or {}).get(name, [()] * len(own)), rng)
            rows.sort(key=lambda row: (len(row[0]), rng.random()))
            batches += [rows[start : start + size] for start in range(0, len(rows) - size + 1, size)]
        rng.shuffle(batches)
        return [self._batch(rows) for rows in batches]

    def _rows(
        self, name: str, tasks: Sequence[Task], answers: Sequence[Sequence[Answer]], rng: random.Random
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """The tokens of a document of each task, and the weight of each as a target."""
        section, domain = self.config.corpus.domains[name], self.domains[name]

        def drawn(weights: ConfigDict) -> int:
            return int(rng.choices(list(weights), list(weights.values()))[0])

        documents = [
            draw_document(
                domain,
                task,
                section.kinds,
                drawn(section.visible),
                rng,
                drawn(section.earlier),
                read,
                self.reader,
            )
            for task, read in zip(tasks, answers, strict=True)
        ]
        prompts = [
            self.template.render(messages=document.messages, add_generation_prompt=True)
            for document in documents
        ]
        learnt = [document.answer + self.style.end for document in documents]
        rows = []
        encoded = self._encoded(prompts), self._encoded(learnt)
        for document, prompt, answer in zip(documents, *encoded, strict=True):
            # A target is what belongs to an answer or, with less weight, to the output of an example.
            weight = np.ones(len(prompt) + len(answer), np.float32)
            weight[: len(prompt)] = 0.0
            if document.kind == "alone":
                # opened minus closed before a token: one within an output, none within an input
                within = np.cumsum(prompt == self.opens) - np.cumsum(prompt == self.closes)
                weight[1 : len(prompt)] = self.config.output_weight * within[:-1]
                weight[len(prompt) - 1] = 0.0  # the end of what opens the assistant's turn
            rows.append((np.concatenate([prompt, answer]), weight))
        return rows

    def _encoded(self, texts: list[str]) -> list[np.ndarray]:
        encodings = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def _batch(self, rows: list[tuple[np.ndarray, np.ndarray]]) -> PretrainingBatch:
        width = multiple(max(len(tokens) for tokens, _ in rows), WIDTH_STEP)
        shape = len(rows), width
        batch = PretrainingBatch(np.zeros(shape, np.int32), np.zeros(shape, np.float32))
        for row, (tokens, weight) in enumerate(rows):
            batch.tokens[row, : len(tokens)], batch.weight[row, : len(tokens)] = tokens, weight
        return batch


def _domain(name: str) -> Domain:
    """The domain of this name. Raises UserError: there is none, or it has nothing to pretrain on."""
    domain = load_domain(name)
    if domain.pretraining is None:
        raise UserError(f"config.corpus.domains has {name!r}, which has nothing to pretrain on: use another")
    return domain


def _language(domain: Domain) -> Pretraining:
    assert domain.pretraining is not None
    return domain.pretraining


def _check(config: ConfigDict, domains: Mapping[str, Domain]) -> None:
    """Raises UserError for the first field that is not as it must be."""
    answers, known = config.answers, ", ".join(domains)
    models = [Path(model).resolve() for model in answers.models]
    learns = not models or Path(config.start).resolve() in models
    refuse(
        config,
        [
            ("answers.domains", {*answers.domains} <= {*domains}, f"among config.corpus.domains: {known}"),
            (
                "answers.models",
                bool(models) == bool(answers.domains),
                "set with config.answers.domains, or not",
            ),
            ("answers.temperatures", len(answers.temperatures) > 0, "one temperature at least"),
            ("start", learns, "one of config.answers.models: the model that reads the others"),
        ],
    )
    for field, directories in (
        ("start", [config.start] * bool(config.start)),
        ("answers.models", answers.models),
    ):
        for directory in directories:
            if not Path(directory).is_dir():
                raise UserError(f"config.{field}: there is no {directory}; make it first, or name another")
    for temperature in answers.temperatures:
        SamplingConfig(n=1, temperature=temperature, max_new_tokens=answers.max_new_tokens)


def _corpus(config: ConfigDict, shards: Path, domain: Domain) -> Corpus:
    section = config.corpus.domains[domain.name]
    what = section.mixture.to_dict(), section.tasks_per_shard, config.corpus.seed
    # Several runs may share the directory; what exists there is read without question.
    return Corpus(shards / f"{domain.name}-{digest(what)[:8]}", _language(domain).sources, *what)


def _answered(
    config: ConfigDict, corpora: Mapping[str, Corpus], domains: Mapping[str, Domain]
) -> dict[str, Answered]:
    """The answers of `config.answers.models`, on the domains that it names."""
    settings = config.answers.copy_and_resolve_references().to_dict()
    names = settings.pop("domains")
    return {name: Answered(corpora[name], domains[name], **settings) for name in names}


def _start(config: ConfigDict, model_config: ModelConfig, tokenizer: Tokenizer) -> Params:
    """The weights of `config.start`; or fresh ones.

    Raises UserError: the model there is of another shape, or of another tokenizer.
    """
    if not config.start:
        return init_params(model_config, keys.fold(config.seed, "theta0"))
    model = load_model(config.start, mesh=make_mesh(jax.device_count()))  # that of a step
    own = Tokenizer.from_file(str(Path(config.start, "tokenizer.json")))
    for name, same in (
        ("shape", model.config == model_config),
        ("tokenizer", own.get_vocab() == tokenizer.get_vocab()),
    ):
        if not same:
            raise UserError(
                f"config.start = {config.start!r} has another {name} than config.model, config.style and "
                "config.corpus.domains give: set them as it was made"
            )
    return model.params
