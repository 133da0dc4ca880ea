"""Seconds of a LoRA update: ours beside peft and torch, on one padded batch and on STaR data."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from constellation.model.config import ModelConfig
    from constellation.model.model import Model
    from constellation.selftraining.batches import Batch, TrainingExample

RANK, ALPHA = 16, 32
RATE, CLIP = 1e-3, 1.0
ROWS, PROMPT, ANSWER = 64, 80, 24  # the padded batch: 64 sequences of 104 tokens
TASKS, SAMPLES, KEPT = 96, 64, 4  # the STaR data: distinct generalising programs kept of a task's samples
SEQUENCES = 64  # of torch's batches; ours hold as many answers on average


class UpdateRow(NamedTuple):
    """The fastest of several runs of one implementation.

    Attributes:
        name: of the implementation.
        answer_tokens: targets trained on.
        seconds: of the updates, collation included.
        flops: of the matrix products that its sequences need, without padding; of frozen weights no gradient.
    """

    name: str
    answer_tokens: int
    seconds: float
    flops: float

    @property
    def answer_tokens_per_second(self) -> float:
        """Targets a second."""
        return self.answer_tokens / self.seconds


def update_benchmark(model_dir: str | Path, repeats: int = 10) -> dict[str, list[UpdateRow]]:
    """Times ours, dense and int4, and torch's in turn, so that a busy machine slows them alike.

    Returns:
        {title: rows}: the same padded batch for all, then a pass through STaR data, where ours shares
        prompts among answers and packs rows, and torch's has a sequence an answer, sorted by length. Ours
        comes first.
    """
    from constellation.model.model import load_model
    from constellation.runtime import keys
    from constellation.selftraining.batches import TrainingExample, draw_batches
    from third_party.training_reference import separate

    dense, int4 = load_model(model_dir), load_model(model_dir, "int4:32")
    rng = keys.host_rng(0, "benchmark", "update")

    def tokens(count: int) -> np.ndarray:
        return rng.integers(0, dense.config.vocab_size, count).astype(np.int32)

    padded = [TrainingExample(tokens(PROMPT), (tokens(ANSWER),), (0,)) for _ in range(ROWS)]
    pool = _star_pool(int4)
    sequences = sorted(separate(pool), key=lambda example: example.length)
    groups = [sequences[start : start + SEQUENCES] for start in range(0, len(sequences), SEQUENCES)]
    drawn = draw_batches(
        [example.length for example in pool], len(groups), len(pool) // len(groups), rng, rng
    )
    shared = [[pool[index] for index in batch] for batch in drawn]
    title = f"STaR data: {len(sequences)} programs of {len(pool)} tasks, all of them once"
    return {
        f"LoRA update, {ROWS} x {PROMPT + ANSWER} tokens": _compare(
            dense, int4, [padded], [padded], _truncated, repeats
        ),
        title: _compare(dense, int4, shared, groups, lambda batch: batch, repeats),
    }


def _compare(
    dense: Model,
    int4: Model,
    ours: Sequence[Sequence[TrainingExample]],
    theirs: Sequence[Sequence[TrainingExample]],
    finished: Callable[[Batch], Batch],
    repeats: int,
) -> list[UpdateRow]:
    runs = {
        "ours": (_our_updates(dense, finished), ours),
        "ours, int4 base": (_our_updates(int4, finished), ours),
        "peft and torch": (_their_updates(dense, finished), theirs),
    }
    best = dict.fromkeys(runs, float("inf"))
    for repeat in range(1 + repeats):
        for name, (run, groups) in runs.items():
            begun = time.perf_counter()
            run(groups)
            if repeat:  # the first compiles
                best[name] = min(best[name], time.perf_counter() - begun)
    return [
        UpdateRow(
            name,
            sum(example.targets for group in groups for example in group),
            best[name],
            sum(update_flops(dense.config, example) for group in groups for example in group),
        )
        for name, (_, groups) in runs.items()
    ]


def _our_updates(model: Model, finished: Callable[[Batch], Batch]) -> Callable[[Sequence], None]:
    import jax

    from constellation.model.lora import init_adapter, stack
    from constellation.runtime import keys
    from constellation.selftraining.batches import collate
    from constellation.selftraining.update import make_optimizer, make_update

    optimizer = make_optimizer(RATE, 0.0, CLIP)
    update = make_update(model.config, optimizer)
    adapters = stack([init_adapter(model.config, keys.fold(0, "benchmark"), RANK, ALPHA)])
    state: list[Any] = [adapters, jax.vmap(optimizer.init)(adapters.weights)]

    def run(groups: Sequence[Sequence[TrainingExample]]) -> None:
        for group in groups:
            adapters, opt_states = state
            *state[:], metrics = update(adapters, opt_states, model.params, finished(collate([group])))
        jax.block_until_ready(metrics)

    return run


def _their_updates(model: Model, finished: Callable[[Batch], Batch]) -> Callable[[Sequence], None]:
    from third_party import training_reference

    reference = training_reference.load_peft(model.dir, RANK, ALPHA)
    optimizer = training_reference.make_optimizer(reference, RATE)

    def run(groups: Sequence[Sequence[TrainingExample]]) -> None:
        for group in groups:
            batch = finished(training_reference.one_a_row(group))
            training_reference.update(reference, optimizer, batch, CLIP)

    return run


def update_flops(
    config: ModelConfig, example: TrainingExample, rank: int = RANK, remat: bool = False
) -> float:
    """Multiplications and additions of forward and backward, the projections' weights being frozen.

    Args:
        rank: of the adapter, on all projections.
        remat: whether to count the layers' forward a second time: what the backward recomputes. It spares
            the last product of a layer, whose output nothing needs.
    """
    from constellation.model.lora import layer_weights, projection_shapes

    shapes = projection_shapes(config)
    down = shapes["down_proj"]
    frozen = layer_weights(config)
    adapted = sum(rank * (out + inner) for out, inner in shapes.values())
    linear = 2 * frozen + 3 * adapted  # frozen weights have no gradient
    pairs, passes = _pairs(example), 3  # a backward is two forwards
    if remat:
        linear += frozen - down[0] * down[1] + adapted - rank * down[0]
        passes += 1
    pair = 2 * config.num_attention_heads * config.head_dim  # scores and values
    layer = example.length * linear + passes * pairs * pair
    head = config.vocab_size * config.hidden_size
    return 2 * (config.num_hidden_layers * layer + 2 * example.targets * head)


def _pairs(example: TrainingExample) -> float:
    """How many (query, key) pairs are not masked."""
    prompt = len(example.prompt)
    return prompt**2 / 2 + sum(len(answer) * (prompt + len(answer) / 2) for answer in example.answers)


def _star_pool(model: Model) -> list[TrainingExample]:
    """Up to KEPT distinct generalising programs of each task, sampled from the model as it is."""
    from constellation.domains.task import split
    from constellation.domains.trapdoor import DOMAIN as trapdoor
    from constellation.domains.trapdoor.banks import training_tasks
    from constellation.domains.trapdoor.verifier import judge
    from constellation.generator import sample
    from constellation.model.model import Generator
    from constellation.model.sampling import SamplingConfig
    from constellation.runtime.keys import Address
    from constellation.selftraining.warm_start import generator_example

    tasks = training_tasks("star", TASKS, max_atoms=3)
    splits = [split(task, 0) for task in tasks]
    prompts = [model.chat(trapdoor.messages(one)) for one in splits]
    config = SamplingConfig(n=SAMPLES, max_new_tokens=40)
    ids, address = [task.id for task in tasks], Address(0, "benchmark", "update")
    (drawn,) = sample(Generator(model), [prompts], [ids], address, config)
    pool = []
    for one, samples in zip(splits, drawn, strict=True):
        texts = dict.fromkeys(trapdoor.extract(model.tokenizer.decode(answer.ids)) for answer in samples)
        programs = [text for text in texts if judge(one, text).right][:KEPT]
        if programs:
            pool.append(generator_example(model, trapdoor, one, programs))
    return pool


def _truncated(batch: Batch) -> Batch:
    """Without the padding that `collate` adds to the width."""
    width = PROMPT + ANSWER
    return batch._replace(
        tokens=batch.tokens[..., :width],
        positions=batch.positions[..., :width],
        document=batch.document[..., :width],
        branch=batch.branch[..., :width],
    )
