"""What several trajectories cost as one program: sampling, scoring and updates, as multiples of one alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax

from constellation.domains.task import split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.generator import rows_of, sample
from constellation.memory import Memory
from constellation.model.lora import Adapter, init_adapter, stack
from constellation.model.model import Generator, load_model
from constellation.model.sampling import SamplingConfig
from constellation.model.score import log_prob
from constellation.runtime.keys import Address
from constellation.selftraining.star import warm_start_examples
from third_party.benchmarks import ours
from third_party.benchmarks.harness import fastest

RANK, ALPHA = 16, 32.0
QUANTIZATION = "int4:32"


class Sizes(NamedTuple):
    """How much each trajectory does."""

    tasks: int = 48  # that are sampled and scored
    samples: int = 32  # of each task
    updates: int = 8
    batch: int = 32  # examples of an update


SIZES = Sizes()


class TrajectoriesRow(NamedTuple):
    """What one kind of work costs."""

    work: str
    alone: float  # seconds of one trajectory
    together: float  # seconds of all, each doing as much


def trajectories_benchmark(
    model_dir: str | Path, trajectories: int = 8, repeats: int = 3, sizes: Sizes = SIZES
) -> Iterator[TrajectoriesRow]:
    """Yields each row as soon as it is measured, because compiling takes minutes on a GPU."""
    model = load_model(model_dir, QUANTIZATION)
    tasks = trapdoor.make_bank("tuning_hard", sizes.tasks)
    splits = [split(task, 0) for task in tasks]
    prompts, ids = [model.chat(trapdoor.messages(of)) for of in splits], [task.id for task in tasks]
    programs = [[model.tokenizer.encode(task.program) for task in tasks[:16]] for _ in tasks]
    sampling = SamplingConfig(n=sizes.samples, max_new_tokens=40)
    address = Address(0, "benchmark", "trajectories")
    each = address.keys(trajectories)
    adapters = [_trained(init_adapter(model.config, key, RANK, ALPHA), key) for key in each]

    def generator(count: int) -> Generator:
        return Generator(model, stack(adapters[:count]))

    def sampled(count: int) -> None:
        rows = rows_of(count, jax.default_backend())
        sample(generator(count), [prompts] * count, [ids] * count, address, sampling, rows=rows)

    def scored(count: int) -> None:
        log_prob(generator(count), [prompts] * count, [programs] * count)

    seen = sizes.updates * sizes.batch
    pools = [
        warm_start_examples(
            model,
            trapdoor,
            trapdoor.training_tasks("warm_start", seen, 3, 0, 0, trajectory),
            lambda task: split(task, 0),
        )
        for trajectory in range(trajectories)
    ]
    whole = [example for pool in pools for example in pool]
    by_length = [sorted(pool, key=lambda example: example.length) for pool in pools]
    steps = [
        [pool[start : start + sizes.batch] for pool in by_length] for start in range(0, seen, sizes.batch)
    ]
    updates = {}
    for count in (1, trajectories):
        memory = Memory(model.config, QUANTIZATION, "float32", RANK, jax.default_backend(), count)
        rows = memory.micro_batch(whole, sizes.batch, remat=False)
        updates[count] = ours.updates(model, stack(adapters[:count]), rows)

    def updated(count: int) -> None:
        updates[count]([groups[:count] for groups in steps])

    for work, run in {"sampling": sampled, "scoring": scored, "updates": updated}.items():
        alone, together = fastest(partial(run, 1), partial(run, trajectories), repeats=repeats)
        yield TrajectoriesRow(work, alone, together)


def _trained(adapter: Adapter, key: jax.Array) -> Adapter:
    """The adapter with B unlike zero, so that the trajectories differ."""
    return jax.tree.map(lambda x: x + 1e-3 * jax.random.normal(key, x.shape), adapter)
