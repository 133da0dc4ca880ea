"""Our side of the benchmark of a config's model: the generator and the update as a study calls them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from constellation.generator import sample
from constellation.model.config import ModelConfig
from constellation.model.lora import init_adapter, stack
from constellation.model.model import DTYPES, Generator, Model, load_model
from constellation.runtime import keys
from constellation.runtime.errors import UserError
from constellation.selftraining.batches import collate
from constellation.selftraining.update import make_optimizer, make_update
from third_party.benchmarks.limits import matmul_peak, memory_bandwidth
from third_party.benchmarks.random_model import random_model, random_params
from third_party.benchmarks.timing import fastest, resident_peak
from third_party.benchmarks.workload import Measurement, Workload, failed, sampled

RATE, CLIP = 1e-4, 1.0


class Limits(NamedTuple):
    """What the device can do at most.

    Attributes:
        platform: "gpu", "cpu" or "tpu".
        device: its name.
        bandwidth: bytes a second, read and written together.
        peak: operations a second of a matrix product in the dtype asked for.
    """

    platform: str
    device: str
    bandwidth: float
    peak: float


def measure_limits(model: ModelConfig, quantization: str, dtype: str) -> Iterator[Limits]:
    """Yields one: of the first device, `peak` in "float32" or "bfloat16".

    Raises:
        UserError: another dtype or quantisation, or a group that does not divide a projection's inputs.
    """
    if dtype not in DTYPES:
        raise UserError(f"model.dtype = {dtype!r}: use {' or '.join(map(repr, DTYPES))}")
    jax.eval_shape(partial(random_params, model, quantization, jnp.dtype(dtype)))
    device = jax.devices()[0]
    yield Limits(device.platform, device.device_kind, memory_bandwidth(), matmul_peak(jnp.dtype(dtype)))


def measure_sampling(work: Workload, name: str) -> Iterator[Measurement]:
    """Yields "prefill" and "decode" for every number of samples, which is that of the rows as well.

    Prefill is a run to the first token of every sample, decode what a run to the last takes longer.
    """
    generator, sizes, prompts = Generator(_model(work)), work.sizes, [work.prompts()]
    ids, address = [[f"task {i}" for i in range(sizes.tasks)]], keys.Address(0, "benchmark", "sampling")

    def run(samples: int, tokens: int) -> Callable[[], object]:
        config = dataclasses.replace(work.sampling, n=samples, max_new_tokens=tokens)
        return lambda: sample(generator, prompts, ids, address, config, rows=samples)

    for samples in sizes.samples:
        try:
            first = fastest(run(samples, 1), sizes.repeats)
            whole = fastest(run(samples, sizes.answer_tokens), sizes.repeats)
        except jax.errors.JaxRuntimeError as error:  # out of memory
            yield from failed(("prefill", "decode"), name, str(error), samples)
            continue
        prefilled, decoded = sizes.tasks * work.prompt_tokens, sizes.tasks * work.decoded(samples)
        yield from sampled(name, samples, prefilled, decoded, first, whole, peak_memory())


def measure_update(work: Workload, name: str) -> Iterator[Measurement]:
    """Yields one "update"."""
    model, examples = _model(work), work.examples()
    optimizer = make_optimizer(RATE, 0.0, CLIP)
    update = make_update(model.config, optimizer, model.mesh, work.sizes.micro_batch, work.remat)
    key = keys.fold(0, "benchmark", "adapter")
    adapters = stack([init_adapter(model.config, key, work.rank, work.alpha)])
    opt_states = jax.vmap(optimizer.init)(adapters.weights)

    def run() -> None:
        nonlocal adapters, opt_states
        adapters, opt_states, metrics = update(adapters, opt_states, model.params, collate([examples]))
        if not np.isfinite(metrics["loss"]).all():
            raise FloatingPointError("the loss is not finite")

    seconds = fastest(run, work.sizes.repeats)
    tokens = sum(example.length for example in examples)
    yield Measurement("update", name, 0, tokens, seconds, peak_memory())


def _model(work: Workload) -> Model:
    if work.directory:
        model = load_model(work.directory, work.quantization, work.dtype)
        return dataclasses.replace(model, stop_ids=())  # every answer has its full length
    return random_model(work.config, work.quantization, work.dtype)


def peak_memory() -> int:
    """Most bytes that this process has held: on its accelerator, or resident where there is none."""
    stats = jax.devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] if stats else resident_peak()
