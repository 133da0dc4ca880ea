"""Which comparisons a model gets, and their table."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from constellation.model.config import ModelConfig
from constellation.model.gguf_file import is_gguf
from constellation.model.lora import layer_weights
from constellation.model.model import check_model, load_model
from constellation.model.tokenizer import Tokenizer
from constellation.model.weights import load_params
from constellation.runtime.errors import UserError
from third_party import model_reference, peers_reference, training_reference
from third_party.benchmarks.harness import resident_peak
from third_party.comparison import logits
from third_party.comparison.decoding import PLAIN, TOKENS, TRUNCATED, greedy_rows, sampling_row
from third_party.comparison.logits import LeftPadded
from third_party.comparison.peers import Peer, peer_rows
from third_party.comparison.table import HEAD, LeftOut, Row, line, worst_position
from third_party.comparison.training import ALPHA, RANK, lora_rows, make_adapters


class Limits(NamedTuple):
    """How far a comparison goes."""

    whole: int = 4 * 2**30  # bytes of float32 weights up to which both sides are loaded whole
    streamed: float = 6.0  # GiB that the process may have held where they are streamed
    tokens: int = TOKENS  # of each greedy continuation


LIMITS = Limits()


def run(model_dir: str | Path, limits: Limits = LIMITS) -> bool:
    """Compares, prints the table, and returns whether every row passed.

    Raises:
        UserError: `model_dir` holds no whole Hugging Face model.
    """
    begun = time.perf_counter()
    passed = show(compare(Path(model_dir), Path(model_dir), limits))
    print(f"peak memory {resident_peak() / 2**30:.2f} GiB, {time.perf_counter() - begun:.0f} seconds")
    return passed


def show(rows: Iterable[Row | LeftOut]) -> bool:
    """Prints every row when it is measured, and returns whether all passed."""
    print(HEAD)
    passed = True
    for row in rows:
        print(line(row), flush=True)
        passed &= isinstance(row, LeftOut) or row.passed
    return passed


def compare(directory: Path, reference_dir: Path, limits: Limits = LIMITS) -> Iterator[Row | LeftOut]:
    """All rows.

    Args:
        directory: of the model that we load.
        reference_dir: of the model that transformers loads; it should be the same.

    Raises:
        UserError: a directory does not hold a whole Hugging Face model.
    """
    if is_gguf(directory):
        raise UserError(f"{directory}: launch.get_model writes a directory of it, which this compares")
    check_model(directory)
    config = ModelConfig.from_dir(directory)
    batch = logits.task_prompts(Tokenizer.from_dir(directory, config.vocab_size))
    streamed, exact = logits.streamed_rows(directory, reference_dir, config, batch)
    yield from streamed
    yield Row("memory, streamed", "peak of the process so far, GiB", resident_peak() / 2**30, limits.streamed)
    yield logits.bfloat16_row(directory, reference_dir, config, batch, exact)
    size = float32_bytes(config)
    if size <= limits.whole:
        yield from _whole_rows(directory, reference_dir, batch, limits.tokens)
    else:
        large = f"float32 weights are {size / 2**30:.1f} GiB, above {limits.whole / 2**30:.0f} GiB"
        yield LeftOut("logits, whole", f"{large}: the streamed rows stand for it")
        yield LeftOut("decoding, LoRA, critic, peers, int4", f"{large}: compare a slice of fewer layers")


def _whole_rows(directory: Path, reference_dir: Path, batch: LeftPadded, tokens: int) -> Iterator[Row]:
    """The rows that need the whole float32 model on both sides."""
    model = load_model(directory)
    config = model.config
    reference = model_reference.load(reference_dir)
    ours = logits.whole_logits(config, model.params, None, batch)
    theirs = model_reference.logits(reference, batch.ids, batch.attention)
    error = worst_position(ours, theirs)
    yield Row("logits, whole", "max abs error / max abs of the position", error, logits.TOLERANCE)
    yield from greedy_rows(model, reference, batch.prompts, float(np.abs(ours - theirs).max()), tokens)
    meant = slice(model.tokenizer.size)  # without the padding tail
    for name, sampling in (("sampling", PLAIN), ("sampling, top-k and top-p", TRUNCATED)):
        yield sampling_row(name, ours[:, meant], theirs[:, meant], sampling)
    adapted = training_reference.add_adapter(reference, RANK, ALPHA)
    yield from lora_rows(model, adapted, batch)
    names = ("one peer", "another peer")  # of one base, each with an adapter of its own
    theirs = peers_reference.Peer(adapted, reference_dir)
    yield from peer_rows([Peer(model, make_adapters(config, name)[1], theirs) for name in names])
    del model  # before the int4 one is loaded
    params, reference = load_params(directory, config, jnp.float32, f"int4:{logits.GROUP}"), adapted.unload()
    logits.multiply_out(reference, config, params)
    yield logits.int4_row(config, params, reference, batch)


def float32_bytes(config: ModelConfig) -> int:
    """Bytes of the weights in float32, without the norms."""
    tables = config.vocab_size * config.hidden_size * (1 if config.tie_word_embeddings else 2)
    return 4 * (config.num_hidden_layers * layer_weights(config) + tables)
