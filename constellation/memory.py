"""How much memory of a device sampling, scoring and training take, and what fits a budget.

Bytes are counted from shapes: exactly for what persists, and from above for the workspace of a compiled
program, since XLA decides what it keeps. On a CPU it holds an int4 as a byte, and where it is given bfloat16
it multiplies float32 copies of the head and of the KV cache.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from constellation.generator import padded_prompt, prefill_size, rows_of, width_of
from constellation.model.config import ModelConfig
from constellation.model.decoder import FEW_LAYERS
from constellation.model.decoding import CHUNK, ENGINE
from constellation.model.lora import layer_weights, projection_shapes
from constellation.model.prefix import shared_length
from constellation.model.quantize import Quantization
from constellation.model.sampling import SamplingConfig
from constellation.model.score import rows_a_batch
from constellation.runtime.errors import UserError
from constellation.selftraining.batches import TrainingExample, longest_row, without_prefix

GIB = 2**30
FLOAT32 = 4


def layer_bytes(config: ModelConfig, how: Quantization, itemsize: int, int4: float = 0.5) -> float:
    """Bytes of one layer's projections with their scales.

    `itemsize` is that of a dense weight and of a scale, `int4` the bytes that an int4 takes.
    """
    if how.group is None:
        return float(itemsize * layer_weights(config))
    shapes = projection_shapes(config).values()
    return sum(out * (inner * int4 + inner // (how.group or inner) * itemsize) for out, inner in shapes)


def kv_token_bytes(config: ModelConfig, itemsize: int, int8: bool) -> float:
    """Bytes of one token's keys and values in all layers; those in int8 have a scale for each head."""
    head = config.head_dim + itemsize if int8 else config.head_dim * itemsize
    return 2 * config.num_hidden_layers * config.num_key_value_heads * head


class Footprint(NamedTuple):
    """Bytes on one device."""

    weights: float
    adapter: float
    optimizer: float  # its state and the gradients
    kv: float
    workspace: float

    @property
    def total(self) -> float:
        return sum(self)


@dataclasses.dataclass(frozen=True)
class Memory:
    """The footprints of one model, adapter included.

    Attributes:
        config, quantization, dtype: of the model.
        rank: of the adapter on all seven projections.
        platform: "cpu" or "gpu".
        trajectories: that are sampled, scored and trained together, each with its adapter.
        devices: among which the model is divided (`mesh.model`).
        budget: bytes that a device may give; 0 for no limit.
    """

    config: ModelConfig
    quantization: str
    dtype: str
    rank: int
    platform: str
    trajectories: int = 1
    devices: int = 1
    budget: float = 0.0

    def sampling_rows(self, prompts: Sequence[Sequence[int]], sampling: SamplingConfig) -> int:
        """How many samples of these prompts, in all trajectories, to decode at a time on a slice.

        `rows_of` the trajectories, or what fits the budget. Raises UserError: none fits.
        """
        prefix, longest = shared_length(prompts), max(map(len, prompts), default=1)
        prompt = padded_prompt(longest - prefix)
        return self._largest(
            lambda rows: self.sampling(rows, prefix, prompt, sampling),
            rows_of(self.trajectories, self.platform),
            "sample at a time",
        )

    def micro_batch(self, pool: Sequence[TrainingExample], batch_size: int, remat: bool) -> int:
        """How many rows of each trajectory's batch to differentiate at a time; 0 for all.

        On a CPU as many in all as one trajectory alone has: more only leave its caches. Raises UserError: not
        even one fits.
        """
        if not pool:
            return 0
        prefix, (pool,) = without_prefix([pool])
        width, targets = longest_row(pool)
        most = -(-batch_size // self.trajectories) if self.platform == "cpu" else batch_size
        rows = self._largest(
            lambda rows: self.training(rows, width, targets, remat, len(prefix)),
            most,
            f"row of {width} tokens",
        )
        return 0 if rows == batch_size else rows

    def check_scoring(self, prefix: int, width: int) -> None:
        """Raises UserError where scoring does not fit, which says what it would take."""
        self._largest(lambda _: self.scoring(prefix, width), 1, "batch of candidates to score")

    def sampling(self, rows: int, prefix: int, prompt: int, sampling: SamplingConfig) -> Footprint:
        """The footprint of decoding `rows` samples at a time, their padded prompts behind a shared prefix."""
        c, answer = self.config, sampling.max_new_tokens
        # One prompt a slot, and those that are prefilled for the next tasks.
        prefilled = prefill_size(prompt)
        width = width_of(sampling.n, rows, ENGINE.merges(c, self.dtype))
        prompts = max(rows // width, 1) + 2 * prefilled
        token = self.kv_token(sampling.int8_kv)
        kv = prefix * self.kv_token(False) + (prompts * prompt + rows * answer) * token
        copies = 3.0 if self._upcasts else 1.0  # of the answers' KV, written at the end of a chunk
        decoding = copies * rows * answer * token + (3 + CHUNK) * FLOAT32 * rows * c.vocab_size
        prefill = 4 * FLOAT32 * prefilled * c.num_attention_heads * prompt * (prefix + prompt)
        prefill += 3 * FLOAT32 * prefilled * prompt * c.intermediate_size
        return self._footprint(kv=kv, workspace=max(decoding, prefill))

    def scoring(self, prefix: int, width: int) -> Footprint:
        """The footprint of scoring rows of `width` tokens behind a shared prefix."""
        c, rows = self.config, rows_a_batch(width, prefix)
        attention = 3 * FLOAT32 * rows * c.num_attention_heads * width * (prefix + width)
        mlp = 3 * FLOAT32 * rows * width * c.intermediate_size
        logits = 3 * FLOAT32 * width * c.vocab_size
        return self._footprint(kv=prefix * self.kv_token(False), workspace=attention + mlp + logits)

    def training(self, rows: int, width: int, targets: int, remat: bool, prefix: int = 0) -> Footprint:
        """The footprint of an update by micro-batches: `rows` of each trajectory, with `targets` a row.

        They stand behind a shared prefix, which is a row of its own.
        """
        c, rows, shared = self.config, rows * self.trajectories, prefix * self.trajectories
        tokens = rows * width + shared
        pairs = c.num_attention_heads * (rows * width * (prefix + width) + shared * prefix)
        kept = 3 * shared * self.kv_token(False)  # the prefix's KV, its gradient, and the sum of those
        kept += c.num_hidden_layers * tokens * c.hidden_size * jnp.dtype(self.dtype).itemsize
        if not remat:
            # The last of few layers is computed at the targets alone.
            whole = c.num_hidden_layers - (c.num_hidden_layers <= FEW_LAYERS)
            kept += whole * FLOAT32 * (2 * pairs + 4 * tokens * c.intermediate_size)
        layer = FLOAT32 * (4.5 * pairs + 7 * tokens * c.intermediate_size)  # forward and backward of one
        logits = 3 * FLOAT32 * rows * targets * c.vocab_size
        footprint = self._footprint(kv=0.0, workspace=kept + layer + logits)
        return footprint._replace(optimizer=4 * footprint.adapter)  # two moments, and gradients and their sum

    def _footprint(self, kv: float, workspace: float) -> Footprint:
        c, itemsize = self.config, jnp.dtype(self.dtype).itemsize
        how = Quantization.parse(self.quantization)
        shapes = projection_shapes(c).values()
        linears = layer_bytes(c, how, itemsize, 1.0 if self.platform == "cpu" else 0.5)
        tables = c.vocab_size * c.hidden_size * (1 if c.tie_word_embeddings else 2)
        weights = c.num_hidden_layers * linears + tables * (1 if how.int8_embedding else itemsize)
        if self._upcasts:
            workspace += 1.5 * FLOAT32 * c.vocab_size * c.hidden_size
        if self.platform == "cpu":
            workspace += 1.7 * FLOAT32 * layer_weights(c)
        else:
            workspace += 2 * itemsize * max(out * inner for out, inner in shapes)
        adapter = FLOAT32 * c.num_hidden_layers * self.rank * sum(out + inner for out, inner in shapes)
        adapter *= self.trajectories
        return Footprint(weights / self.devices, adapter, 0.0, kv / self.devices, workspace / self.devices)

    def kv_token(self, int8: bool) -> float:
        """Bytes of a position's keys and values in all layers."""
        return kv_token_bytes(self.config, jnp.dtype(self.dtype).itemsize, int8)

    @property
    def _upcasts(self) -> bool:
        return self.platform == "cpu" and self.dtype == "bfloat16"

    def _largest(self, footprint: Callable[[int], Footprint], most: int, what: str) -> int:
        """The largest count, halved from `most` on, whose footprint fits; UserError if not even one does."""
        count = most
        while self.budget and footprint(count).total > self.budget:
            if count == 1:
                parts = footprint(1)._asdict().items()
                described = ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts if size)
                raise UserError(
                    f"memory.budget_gib = {self.budget / GIB:.1f} does not hold one {what}: it takes "
                    f"{footprint(1).total / GIB:.2f} GiB ({described}); raise it, divide the model by "
                    "mesh.model, or use fewer bits or shorter prompts and answers"
                )
            count //= 2
        return count
