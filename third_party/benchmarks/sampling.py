"""New tokens a second of Pass@64 sampling: ours, plain `generate`, and a loop that prefills once."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from constellation.model.config import ModelConfig
from constellation.model.sampling import SamplingConfig


class SamplingRow(NamedTuple):
    """The fastest of several runs of one sampler.

    Attributes:
        name: of the sampler, with its batch.
        tokens: new ones, stop tokens included.
        seconds: of the whole run, prefill and host included.
        flops: of the matrix products that these tokens need, without padding or repeated prompts.
    """

    name: str
    tokens: int
    seconds: float
    flops: float

    @property
    def tokens_per_second(self) -> float:
        """New tokens a second."""
        return self.tokens / self.seconds


def sampling_benchmark(
    model_dir: str | Path,
    n: int = 64,
    tasks: int = 64,
    reference_tasks: int = 8,
    reference_batches: Sequence[int] = (1, 4, 8),
    repeats: int = 3,
    max_new_tokens: int = 40,
) -> list[SamplingRow]:
    """Times the samplers in turn on prompts of the hard bank, so that a busy machine slows them alike.

    Args:
        tasks, reference_tasks: prompts for us, and the first so many of them for the slower references.
        reference_batches: prompts in a batch of n samples each; every one is timed.

    Returns:
        a row for ours, then the best batch of plain generate, then that of prefill-once.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from constellation.domains.task import split
    from constellation.domains.trapdoor import DOMAIN
    from constellation.generator import sample
    from constellation.model.model import Generator, load_model
    from constellation.runtime.keys import Address
    from third_party.sampling_reference import plain_generate, prefill_once

    model = load_model(model_dir, "int4:32")
    reference = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    bank = DOMAIN.make_bank("hard", tasks)
    prompts = [model.chat(DOMAIN.messages(split(task, 1234))) for task in bank]
    ids = [task.id for task in bank]
    config = SamplingConfig(n=n, max_new_tokens=max_new_tokens)
    generator, address = Generator(model), Address(0, "benchmark", "sampling")

    def ours() -> list[list[int]]:
        (drawn,) = sample(generator, [prompts], [ids], address, config)
        return [[len(one.ids) + one.finished for one in samples] for samples in drawn]

    def theirs(sampler: Callable, batch: int) -> list[list[int]]:
        drawn = []
        for start in range(0, reference_tasks, batch):
            group = prompts[start : min(start + batch, reference_tasks)]
            drawn += sampler(reference, group, model.stop_ids, config)
        return [[len(answer) for answer in answers] for answers in drawn]

    runs: dict[tuple[str, str], Callable[[], list[list[int]]]] = {("ours", "256 rows"): ours}
    for name, sampler in (("transformers generate", plain_generate), ("prefill once", prefill_once)):
        for batch in reference_batches:
            runs[name, f"{batch} x {n} rows"] = functools.partial(theirs, sampler, batch)

    ours()  # compiles
    best: dict[str, SamplingRow] = {}
    for _ in range(repeats):
        for (name, rows), run in runs.items():
            begun = time.perf_counter()
            lengths = run()
            seconds = time.perf_counter() - begun
            flops = sum(
                sampling_flops(model.config, len(prompt), counts)
                for prompt, counts in zip(prompts, lengths, strict=False)
            )
            row = SamplingRow(f"{name}, {rows}", sum(map(sum, lengths)), seconds, flops)
            if name not in best or row.tokens_per_second > best[name].tokens_per_second:
                best[name] = row
    return list(best.values())


def sampling_flops(config: ModelConfig, prompt: int, answers: Sequence[int]) -> float:
    """Multiplications and additions of a prefill of `prompt` tokens and of answers of so many new tokens."""
    from constellation.model.lora import layer_weights

    linear = config.num_hidden_layers * layer_weights(config)
    head = config.vocab_size * config.hidden_size
    pair = 2 * config.num_hidden_layers * config.num_attention_heads * config.head_dim  # scores and values
    total = prompt * linear + prompt**2 / 2 * pair
    for tokens in answers:
        # The last token drawn is not fed back; the first comes from the prefill.
        total += (tokens - 1) * linear + tokens * head + ((tokens - 1) * prompt + tokens**2 / 2) * pair
    return 2 * total


def decode_bytes(
    config: ModelConfig, prompt: int, answer: int, samples: int, copies: int, stored: ByteSizes
) -> float:
    """Bytes that all tokens of `samples` answers but the first of each have to be read and written for.

    A step reads the weights and the head once for all samples, `copies` caches of `prompt` tokens, and each
    sample's own cache, to which it adds a token.

    Args:
        answer: tokens of each answer.
        copies: 1 where the samples share the prompt's cache, `samples` where each has its own.
    """
    steps = answer - 1
    cached = steps * copies * prompt + samples * steps * (steps + 1) / 2
    return steps * stored.weights(config) + cached * stored.cached_token(config)


class ByteSizes(NamedTuple):
    """How a model lies in memory.

    Attributes:
        quantization: of the weights; see `Quantization.parse`.
        itemsize: bytes of an activation, of a dense weight and of a scale.
        int8_kv: whether the cache is int8, with a scale for each position and head.
    """

    quantization: str
    itemsize: int
    int8_kv: bool = False

    def weights(self, config: ModelConfig) -> float:
        """Bytes of the projections with their scales, and of the head; norms are too small to count."""
        from constellation.memory import layer_bytes
        from constellation.model.quantize import Quantization

        how = Quantization.parse(self.quantization)
        head = config.vocab_size * config.hidden_size * (1 if how.int8_embedding else self.itemsize)
        head += 4 * config.vocab_size if how.int8_embedding else 0  # float32 scales
        return config.num_hidden_layers * layer_bytes(config, how, self.itemsize) + head

    def cached_token(self, config: ModelConfig) -> float:
        """Bytes of the keys and values of one token in all layers."""
        from constellation.memory import kv_token_bytes

        return kv_token_bytes(config, self.itemsize, self.int8_kv)
