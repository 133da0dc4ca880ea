"""What the benchmark of a config's model measures, and the rows that come of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from constellation.model.config import ModelConfig
from constellation.model.sampling import SamplingConfig
from constellation.runtime import keys
from constellation.runtime.errors import UserError
from constellation.selftraining.batches import TrainingExample


class Sizes(NamedTuple):
    """How much is measured; the least time of `repeats` runs counts.

    Attributes:
        samples: the numbers of samples that are decoded side by side.
        shared_tokens, own_tokens: of a prompt: what all prompts begin with, and what is behind it.
        answer_tokens: of every answer; no token ends one early.
        tasks: prompts that we sample in one run, one after the other; the references sample one. Our prefill
            takes 8 at a time and leaves what is missing empty.
        rows: sequences of an update, each a prompt and its answer.
        micro_batch: of these, differentiated at a time.
        repeats: timed runs, after one that compiles.
    """

    samples: tuple[int, ...]
    shared_tokens: int
    own_tokens: int
    answer_tokens: int
    tasks: int
    rows: int
    micro_batch: int
    repeats: int


GPU = Sizes((1, 8, 64, 256), 600, 100, 128, tasks=8, rows=32, micro_batch=4, repeats=2)
CPU = Sizes((1, 8, 64), 96, 32, 9, tasks=2, rows=4, micro_batch=2, repeats=1)


class Workload(NamedTuple):
    """A model and what is done with it.

    Attributes:
        platform: of the device, "gpu" or "cpu".
        directory: with our weights; random ones if empty.
        sampling: but for its sizes.
    """

    platform: str
    config: ModelConfig
    directory: str
    quantization: str
    dtype: str
    sampling: SamplingConfig
    rank: int
    alpha: float
    remat: bool
    sizes: Sizes

    @property
    def prompt_tokens(self) -> int:
        """Of one prompt."""
        return self.sizes.shared_tokens + self.sizes.own_tokens

    def decoded(self, samples: int) -> int:
        """Tokens of the samples of one task, but for the first of each, which belongs to the prefill."""
        return samples * (self.sizes.answer_tokens - 1)

    def prompts(self) -> list[list[int]]:
        """Random ids: `tasks` prompts with one beginning."""
        rng = keys.host_rng(0, "benchmark", "prompts")
        shared = rng.integers(0, self.config.vocab_size, self.sizes.shared_tokens).tolist()
        own = rng.integers(0, self.config.vocab_size, (self.sizes.tasks, self.sizes.own_tokens)).tolist()
        return [shared + one for one in own]

    def examples(self) -> list[TrainingExample]:
        """The sequences of an update, of random ids."""
        rng = keys.host_rng(0, "benchmark", "examples")
        shape = self.sizes.rows, self.prompt_tokens + self.sizes.answer_tokens
        ids = rng.integers(0, self.config.vocab_size, shape).astype(np.int32)
        return [TrainingExample(row[: self.prompt_tokens], (row[self.prompt_tokens :],), (0,)) for row in ids]


class Measurement(NamedTuple):
    """One timed run of one implementation.

    Attributes:
        part: prefill, decode or update.
        name: of the implementation.
        samples: decoded side by side; 0 in an update.
        tokens: of the prompts, of the answers but for their first, or of the sequences trained on.
        seconds: that they took.
        peak_memory: most bytes that the process has held until then.
        failed: why there is nothing of this but a name; empty where there is.
    """

    part: str
    name: str
    samples: int
    tokens: int = 0
    seconds: float = 0.0
    peak_memory: int = 0
    failed: str = ""

    @property
    def tokens_per_second(self) -> float:
        """`tokens` over `seconds`."""
        return self.tokens / self.seconds


def sampled(
    name: str,
    samples: int,
    prompt_tokens: int,
    new_tokens: int,
    first: float,
    whole: float,
    peak_memory: int,
) -> Iterator[Measurement]:
    """Yields "prefill" and "decode".

    Args:
        prompt_tokens, new_tokens: of all prompts; of all answers, but for their first.
        first, whole: seconds of a run to the first token of every sample, and of one to the last.
    """
    yield Measurement("prefill", name, samples, prompt_tokens, first, peak_memory)
    if whole > first:
        yield Measurement("decode", name, samples, new_tokens, whole - first, peak_memory)
    else:
        yield from failed(["decode"], name, "shorter than what the prefill varies by", samples)


def failed(parts: Iterable[str], name: str, reason: str, samples: int = 0) -> Iterator[Measurement]:
    """What is left to say of parts that came to nothing; of the reason its first line."""
    for part in parts:
        yield Measurement(part, name, samples, failed=(reason.strip().splitlines() or ["unknown"])[0][:160])


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
