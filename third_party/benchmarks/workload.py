"""What the benchmark of a config's model measures, and the rows that come of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from constellation.model.config import ModelConfig
from constellation.model.sampling import SamplingConfig
from constellation.runtime import keys
from constellation.runtime.errors import UserError
from constellation.selftraining.batches import Batch, TrainingExample
from third_party.benchmarks.costs import ByteSizes, decode_bytes, sampling_flops, update_flops
from third_party.benchmarks.harness import Measurement, failure

RATE, CLIP = 1e-4, 1.0  # learning rate and largest norm of a gradient, of every update


class Sizes(NamedTuple):
    """How much is measured."""

    samples: tuple[int, ...]  # the numbers of samples that are decoded side by side
    shared_tokens: int  # that all prompts begin with
    own_tokens: int  # of each prompt behind these
    answer_tokens: int  # of every answer; no token ends one early
    tasks: int  # prompts that we sample in one run, one after the other; the references sample one
    rows: int  # sequences of an update, each a prompt and its answer
    micro_batch: int  # sequences that are differentiated at a time
    repeats: int  # timed runs, after one that compiles; the fastest counts


GPU = Sizes((1, 8, 64, 256), 600, 100, 128, tasks=8, rows=32, micro_batch=4, repeats=2)
CPU = Sizes((1, 8, 64), 96, 32, 9, tasks=2, rows=4, micro_batch=2, repeats=1)


class Workload(NamedTuple):
    """A model and what is done with it."""

    platform: str  # of the device: "gpu" or "cpu"
    config: ModelConfig
    directory: str  # of our weights; they are random if it is empty
    quantization: str
    dtype: str
    sampling: SamplingConfig  # but for its sizes
    rank: int
    alpha: float
    remat: bool
    sizes: Sizes

    @property
    def itemsize(self) -> int:
        """Bytes of a value of `dtype`."""
        return 4 if self.dtype == "float32" else 2

    @property
    def prompt_tokens(self) -> int:
        return self.sizes.shared_tokens + self.sizes.own_tokens

    def prompts(self) -> list[list[int]]:
        """Random ids: `tasks` prompts with one beginning."""
        rng = keys.host_rng(0, "benchmark", "prompts")
        shared = rng.integers(0, self.config.vocab_size, self.sizes.shared_tokens).tolist()
        own = rng.integers(0, self.config.vocab_size, (self.sizes.tasks, self.sizes.own_tokens)).tolist()
        return [shared + one for one in own]

    def examples(self) -> list[TrainingExample]:
        """The sequences of an update, of random ids: with one beginning, as the prompts."""
        rng = keys.host_rng(0, "benchmark", "examples")
        shape = self.sizes.rows, self.prompt_tokens + self.sizes.answer_tokens
        ids = rng.integers(0, self.config.vocab_size, shape).astype(np.int32)
        ids[:, : self.sizes.shared_tokens] = ids[0, : self.sizes.shared_tokens]
        return [TrainingExample(row[: self.prompt_tokens], (row[self.prompt_tokens :],), (0,)) for row in ids]


class Sampler(NamedTuple):
    """What the costs of sampling depend on."""

    prompts: int  # that one run samples
    # Whether the beginning of all prompts is computed once, and all samples of a prompt read one cache; if
    # not, every sample has its own copy.
    shared: bool
    stored: ByteSizes  # of the model


def sampled(
    work: Workload, name: str, samples: int, sampler: Sampler, first: float, whole: float, peak: int
) -> Iterator[Measurement]:
    """Yields "prefill" and "decode" of so many samples of each prompt.

    Args:
        first, whole: seconds of a run to the first token of every sample, and of one to the last.
        peak: most bytes that the process has held until then.
    """
    (prompts, shared, stored), config = sampler, work.config
    prompt, answer = work.prompt_tokens, work.sizes.answer_tokens
    copies, beginning = (1, work.sizes.shared_tokens) if shared else (samples, 0)
    rows = prompts * copies
    flops = rows * sampling_flops(config, prompt, (1,)) - (rows - 1) * sampling_flops(config, beginning, ())
    cached = beginning + rows * (prompt - beginning)
    moved = stored.weights(config) + cached * stored.cached_token(config)
    yield Measurement("prefill", name, samples, prompts * prompt, first, peak, flops=flops, moved=moved)
    if whole <= first:
        yield failure("decode", name, "shorter than what the prefill varies by", samples)
        return
    tokens = prompts * samples * (answer - 1)  # the first of each belongs to the prefill
    until_first, until_last = (sampling_flops(config, prompt, (n,) * samples) for n in (1, answer))
    flops = prompts * (until_last - until_first)
    moved = prompts * decode_bytes(config, prompt, answer, samples, copies, stored)
    yield Measurement("decode", name, samples, tokens, whole - first, peak, flops=flops, moved=moved)


def updated(work: Workload, name: str, seconds: float, peak: int, shared: bool) -> Measurement:
    """An "update" of the workload's examples; `shared` is as in `Sampler`."""
    examples = work.examples()
    beginning = TrainingExample(examples[0].prompt[: work.sizes.shared_tokens], (), ())
    again = len(examples) - 1 if shared else 0  # how often it is in the sequences, but not computed

    def flops(remat: bool) -> float:
        costs = (update_flops(work.config, example, work.rank, remat) for example in examples)
        return sum(costs) - again * update_flops(work.config, beginning, work.rank, remat)

    once, with_recomputed = flops(False), flops(work.remat)
    tokens = sum(example.length for example in examples)
    return Measurement(
        "update", name, 0, tokens, seconds, peak, flops=once, recomputed=with_recomputed - once
    )


def without_padding(batch: Batch, width: int) -> Batch:
    """A batch whose rows all have `width` tokens, [B, ..., width], without what `collate` adds to that."""
    cut = {name: getattr(batch, name)[..., :width] for name in ("tokens", "positions", "document", "branch")}
    return batch._replace(**cut)


def choose_sizes(platform: str, given: Mapping[str, Any]) -> Sizes:
    """The sizes for a platform, "gpu" or "cpu", with what the user gave instead.

    Raises:
        UserError: one that is too small.
    """
    sizes = (CPU if platform == "cpu" else GPU)._replace(**given)
    least = {"tasks": 2, "answer_tokens": 2}  # a beginning is shared by two; decoding starts at the second
    for name, value in sizes._asdict().items():
        values = value if name == "samples" else (value,)
        if not values or min(values) < least.get(name, 1):
            raise UserError(f"--{name}={','.join(map(str, values))}: give at least {least.get(name, 1)}")
    return sizes._replace(samples=tuple(sorted(set(sizes.samples))))


def make_workload(
    config: ConfigDict, model: ModelConfig, directory: str, platform: str, sizes: Sizes
) -> Workload:
    """The workload of an experiment's config."""
    return Workload(
        platform=platform,
        config=model,
        directory=directory,
        quantization=config.model.quantization,
        dtype=config.model.dtype,
        sampling=SamplingConfig(n=1, **config.sampling),
        rank=config.lora.rank,
        alpha=config.lora.alpha,
        remat=config.training.remat,
        sizes=sizes,
    )
