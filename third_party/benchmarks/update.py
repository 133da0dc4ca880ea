"""Seconds of a LoRA update: ours beside peft and torch, on one padded batch and on STaR data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from constellation.domains.task import split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.generator import sample
from constellation.model.lora import init_adapter, stack
from constellation.model.model import Generator, Model, load_model
from constellation.model.sampling import SamplingConfig
from constellation.runtime.keys import Address
from constellation.selftraining.batches import Batch, TrainingExample, draw_batches
from constellation.selftraining.star import generator_example
from third_party import training_reference
from third_party.benchmarks import ours, theirs
from third_party.benchmarks.costs import update_flops
from third_party.benchmarks.harness import Measurement, fastest
from third_party.benchmarks.workload import without_padding

RANK, ALPHA = 16, 32
ROWS, PROMPT, ANSWER = 64, 80, 24  # the padded batch: 64 sequences of 104 tokens
TASKS, SAMPLES, KEPT = 96, 64, 4  # the STaR data: distinct generalising programs kept of a task's samples
ADDRESS = Address(0, "benchmark", "update")
SEQUENCES = 64  # of torch's batches; ours hold as many answers on average
REPEATS = 10

Groups = Sequence[Sequence[TrainingExample]]  # the examples of each update


def update_benchmark(model_dir: str | Path) -> dict[str, list[Measurement]]:
    """Times ours, dense and int4, and torch's; collation is included, and the targets are counted.

    Returns:
        {title: rows}: the same padded batch for all, then a pass through STaR data, where ours shares
        prompts among answers and packs rows, and torch's has a sequence an answer, sorted by length. Ours
        comes first.
    """
    dense, int4 = load_model(model_dir), load_model(model_dir, "int4:32")
    rng = ADDRESS.rng()

    def tokens(count: int) -> np.ndarray:
        return rng.integers(0, dense.config.vocab_size, count).astype(np.int32)

    padded = [TrainingExample(tokens(PROMPT), (tokens(ANSWER),), (0,)) for _ in range(ROWS)]
    pool = _star_pool(int4)
    sequences = sorted(training_reference.separate(pool), key=lambda example: example.length)
    groups = [sequences[start : start + SEQUENCES] for start in range(0, len(sequences), SEQUENCES)]
    drawn = draw_batches(
        [example.length for example in pool], len(groups), len(pool) // len(groups), rng, rng
    )
    shared = [[pool[index] for index in batch] for batch in drawn]
    title = f"STaR data: {len(sequences)} programs of {len(pool)} tasks, all of them once"
    width = PROMPT + ANSWER
    return {
        f"LoRA update, {ROWS} x {width} tokens": _compare(
            dense, int4, [padded], [padded], partial(without_padding, width=width)
        ),
        title: _compare(dense, int4, shared, groups, lambda batch: batch),
    }


def _compare(
    dense: Model,
    int4: Model,
    our_groups: Groups,
    their_groups: Groups,
    finish: Callable[[Batch], Batch],
) -> list[Measurement]:
    def our_run(model: Model) -> Callable[[], None]:
        adapter = init_adapter(model.config, ADDRESS.key(), RANK, ALPHA)
        run = ours.updates(model, stack([adapter]), finish=finish)
        return lambda: run([[group] for group in our_groups])

    peft = training_reference.load_peft(dense.dir, RANK, ALPHA)
    runs: dict[str, tuple[Callable[[], None], Groups]] = {
        "ours": (our_run(dense), our_groups),
        "ours, int4 base": (our_run(int4), our_groups),
        "peft and torch": (partial(theirs.updates(peft, finish=finish), their_groups), their_groups),
    }
    timed = fastest(*(run for run, _ in runs.values()), repeats=REPEATS)
    rows = []
    for (name, (_, groups)), seconds in zip(runs.items(), timed, strict=True):
        examples = [example for group in groups for example in group]
        targets = sum(example.targets for example in examples)
        flops = sum(update_flops(dense.config, example, RANK) for example in examples)
        rows.append(Measurement("update", name, 0, targets, seconds, flops=flops))
    return rows


def _star_pool(model: Model) -> list[TrainingExample]:
    """Up to KEPT distinct generalising programs of each task, sampled from the model as it is."""
    tasks = trapdoor.training_tasks("star", TASKS, max_atoms=3)
    splits = [split(task, 0) for task in tasks]
    prompts = [model.chat(trapdoor.messages(one)) for one in splits]
    config = SamplingConfig(n=SAMPLES, max_new_tokens=40)
    (drawn,) = sample(Generator(model), [prompts], [[task.id for task in tasks]], ADDRESS, config)
    pool = []
    for task, one, samples in zip(tasks, splits, drawn, strict=True):
        texts = dict.fromkeys(trapdoor.extract(model.tokenizer.decode(answer.ids)) for answer in samples)
        programs = [text for text in texts if trapdoor.verdict(task, one, text).right][:KEPT]
        if programs:
            pool.append(generator_example(model, trapdoor, one, programs))
    return pool
