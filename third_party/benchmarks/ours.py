"""Our side of the benchmarks: the generator and the update as a study calls them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from constellation.generator import sample
from constellation.model.lora import Adapter, init_adapter, stack
from constellation.model.model import Generator, Model, load_model
from constellation.runtime.keys import Address
from constellation.selftraining.batches import Batch, TrainingExample, collate, without_prefix
from constellation.selftraining.update import make_optimizer, make_update
from third_party.benchmarks.costs import ByteSizes
from third_party.benchmarks.harness import resident_peak
from third_party.benchmarks.workload import CLIP, RATE, Sampler, Workload
from third_party.random_model import random_model

ADDRESS = Address(0, "benchmark", "full size")


class Ours:
    """Our generator and update on the model of a workload."""

    def __init__(self, work: Workload):
        self.work = work
        if work.directory:
            model = load_model(work.directory, work.quantization, work.dtype)
            self.model = dataclasses.replace(model, stop_ids=())  # every answer has its full length
        else:
            self.model = random_model(work.config, work.quantization, work.dtype)
        stored = ByteSizes(work.quantization, work.itemsize, work.sampling.int8_kv)
        self.sampler = Sampler(work.sizes.tasks, shared=True, stored=stored)
        self.prompts = work.prompts()
        self.ids = [f"task {index}" for index in range(len(self.prompts))]

    def sample(self, samples: int, tokens: int) -> None:
        """Draws answers of so many tokens, with as many rows as there are samples of a prompt.

        Raises:
            MemoryError: the device has too little.
        """
        config = dataclasses.replace(self.work.sampling, n=samples, max_new_tokens=tokens)
        try:
            sample(Generator(self.model), [self.prompts], [self.ids], ADDRESS, config, rows=samples)
        except jax.errors.JaxRuntimeError as error:
            raise MemoryError(str(error)) from None

    def updater(self) -> Callable[[], None]:
        """A run of one update."""
        work, (prefix, (examples,)) = self.work, without_prefix([self.work.examples()])
        adapter = init_adapter(work.config, ADDRESS.key(), work.rank, work.alpha)
        run = updates(self.model, stack([adapter]), work.sizes.micro_batch, work.remat, prefix=prefix)
        return lambda: run([[examples]])

    def peak_memory(self) -> int:
        """Most bytes that this process has held: on its accelerator, or resident where there is none."""
        stats = jax.devices()[0].memory_stats()
        return stats["peak_bytes_in_use"] if stats else resident_peak()


Steps = Sequence[Sequence[Sequence[TrainingExample]]]  # the examples of every update of each trajectory


def updates(
    model: Model,
    adapters: Adapter,
    micro_batch: int = 0,
    remat: bool = False,
    finish: Callable[[Batch], Batch] = lambda batch: batch,
    prefix: tuple[int, ...] = (),
) -> Callable[[Steps], None]:
    """A run of updates, one after the other, each going on from the last.

    Args:
        adapters: of the R trajectories.
        finish: what becomes of a batch once it is collated.
        prefix: as for `make_update`.
    """
    optimizer = make_optimizer(RATE, 0.0, CLIP)
    update = make_update(model.config, optimizer, model.mesh, micro_batch, remat, prefix=prefix)
    opt_states = jax.vmap(optimizer.init)(adapters.weights)

    def run(steps: Steps) -> None:
        nonlocal adapters, opt_states
        for groups in steps:
            batch = finish(collate(groups))
            adapters, opt_states, metrics = update(adapters, opt_states, model.params, batch)
        if not np.isfinite(metrics["loss"]).all():  # waits
            raise FloatingPointError("the loss is not finite")

    return run
