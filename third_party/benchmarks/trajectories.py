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
from constellation.runtime.keys import Address, host_rng
from constellation.selftraining.batches import collate, draw_batches
from constellation.selftraining.update import make_optimizer, make_update
from constellation.selftraining.warm_start import warm_start_examples
from third_party.benchmarks.limits import least_seconds

TASKS, POOL, SAMPLES, UPDATES = 48, 256, 32, 8
BATCH, RANK, ALPHA = 32, 16, 32.0
QUANTIZATION = "int4:32"


class TrajectoriesRow(NamedTuple):
    """One kind of work.

    Attributes:
        work: what.
        alone: seconds of one trajectory.
        together: seconds of all, each doing as much.
    """

    work: str
    alone: float
    together: float


def trajectories_benchmark(
    model_dir: str | Path, trajectories: int = 8, repeats: int = 3
) -> Iterator[TrajectoriesRow]:
    """The fastest of several runs of each, one and all in turn, so that a busy machine slows them alike.

    Yields a row when it is measured: on a GPU compiling takes minutes.
    """
    model = load_model(model_dir, QUANTIZATION)
    tasks = trapdoor.make_bank("tuning_hard", TASKS)
    splits = [split(task, 0) for task in tasks]
    prompts, ids = [model.chat(trapdoor.messages(of)) for of in splits], [task.id for task in tasks]
    programs = [[model.tokenizer.encode(task.program) for task in tasks[:16]] for _ in tasks]
    sampling = SamplingConfig(n=SAMPLES, max_new_tokens=40)
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

    pools = [
        warm_start_examples(
            model, trapdoor,
            trapdoor.training_tasks("warm_start", POOL, 3, 0, 0, trajectory),
            lambda task: split(task, 0),
        )
        for trajectory in range(trajectories)
    ]
    drawn = [
        draw_batches([e.length for e in pool], UPDATES, BATCH, host_rng(r), host_rng(0, "order"))
        for r, pool in enumerate(pools)
    ]
    optimizer = make_optimizer(1e-3, 0.0, 1.0)
    whole = [example for pool in pools for example in pool]
    updates = {}
    for count in (1, trajectories):
        memory = Memory(model.config, QUANTIZATION, "float32", RANK, jax.default_backend(), count)
        rows = memory.micro_batch(whole, BATCH, remat=False)
        updates[count] = make_update(model.config, optimizer, micro_batch=rows)

    def updated(count: int) -> Adapter:
        each = stack(adapters[:count])
        opt_states = jax.vmap(optimizer.init)(each.weights)
        for step in range(UPDATES):
            batch = collate([[pools[r][i] for i in drawn[r][step]] for r in range(count)])
            each, opt_states, _ = updates[count](each, opt_states, model.params, batch)
        return each

    work = {"sampling": sampled, "scoring": scored, "updates": updated}
    for name, run in work.items():
        yield TrajectoriesRow(
            name, *least_seconds(partial(run, 1), partial(run, trajectories), repeats=repeats)
        )


def _trained(adapter: Adapter, key: jax.Array) -> Adapter:
    """With B unlike zero, so that the trajectories differ."""
    return jax.tree.map(lambda x: x + 1e-3 * jax.random.normal(key, x.shape), adapter)
