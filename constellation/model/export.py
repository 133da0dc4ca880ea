"""A trained adapter merged into its base, as a Hugging Face directory that transformers loads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax

from constellation.model import decoder, port
from constellation.model.config import ModelConfig, read_fields
from constellation.model.linear import dense
from constellation.model.lora import Adapter
from constellation.model.mesh import dividing
from constellation.model.model import SMALL_FILES, Model
from constellation.model.quantize import Leaf, Nibbles, unpack
from constellation.model.weights import copy_small_files
from constellation.runtime.files import fsync_tree, new_directory, write_atomically
from constellation.runtime.progress import Progress

POSITIONS = 64  # of each prompt, whose next tokens are compared


def write_merged(
    source: str | Path,
    out: Path,
    leaves: Iterable[tuple[str, Leaf]],
    adapter: Adapter,
    dtype: str,
    shard_bytes: int = port.SHARD_BYTES,
) -> None:
    """Writes the model that base and adapter are together, leaf by leaf; config.json last.

    Args:
        source: the base's directory, Hugging Face's or a ported one, whose small files are copied.
        leaves: of the base, as `weights.read_leaves` gives them; a quantised one is multiplied out.
        dtype: "float32" or "bfloat16", of what is written; merged in float32 either way.
        shard_bytes: as for `port.write_shards`.

    Raises:
        UserError: as `leaves`; the directory holds something already, or the disk is full.
    """
    source = Path(source)
    config = ModelConfig.from_dir(source)
    fields = read_fields(source)
    spellings = [name for name in ("dtype", "torch_dtype") if name in fields] or ["torch_dtype"]
    described = json.dumps(fields | dict.fromkeys(spellings, dtype), indent=2) + "\n"
    count = len(port.tensor_shapes(config))
    with new_directory(out), Progress("writing", count, "tensors") as progress:

        def rounded() -> Iterator[tuple[str, np.ndarray]]:
            for name, tensor in merged(config, leaves, adapter):
                yield name, tensor.astype(jnp.dtype(dtype), copy=False)
                progress.update()

        copy_small_files(source, (name for name in SMALL_FILES if name != "config.json"), out)
        port.write_shards(out, rounded(), shard_bytes)
        fsync_tree(out)
        # Without it no one takes the directory for a model.
        write_atomically(out / "config.json", lambda file: file.write(described.encode()))


def merged(
    config: ModelConfig, leaves: Iterable[tuple[str, Leaf]], adapter: Adapter
) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor in float32 under Hugging Face's name: W, or W + scale B A where the adapter has those."""
    for name, leaf in leaves:
        if name in port.OUTSIDE:
            yield port.OUTSIDE[name], _multiplied_out(leaf)
            continue
        name = name.removeprefix("layers/")
        lora = {part: np.asarray(matrices) for part, matrices in adapter.weights.get(name, {}).items()}
        for layer in range(config.num_hidden_layers):
            weight = _multiplied_out(jax.tree.map(lambda stacked, layer=layer: stacked[layer], leaf))
            if lora:
                weight = weight + np.float32(adapter.scale) * (lora["b"][layer] @ lora["a"][layer])
            yield port.layer_tensor(layer, name), weight


def _multiplied_out(leaf: Leaf) -> np.ndarray:
    """A weight in float32, however it is stored."""
    weight = unpack(leaf) if isinstance(leaf, Nibbles) else jax.tree.map(jnp.asarray, leaf)
    return np.asarray(dense(weight, jnp.float32))


def prompt_logits(model: Model, adapter: Adapter | None, prompts: Sequence[Sequence[int]]) -> np.ndarray:
    """The logits [P, V] at the last POSITIONS positions of the prompts, one prompt after the other.

    Activations are float32, whatever the dtype of the weights.
    """

    def in_float32(leaf: jax.Array) -> jax.Array:
        return leaf.astype(jnp.float32) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    lengths = [len(prompt) for prompt in prompts]
    rows, width = len(prompts), max(lengths)
    tokens = np.zeros((rows, width), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    positions = jnp.broadcast_to(jnp.arange(width), (rows, width))
    causal = positions[:, :, None] >= positions[:, None]
    params = jax.tree.map(in_float32, model.params)
    ends = jnp.array(lengths)[:, None]
    compared = (positions < ends) & (positions >= ends - POSITIONS)  # [B, T]
    with dividing(model.mesh):
        hidden = decoder.forward(model.config, params, adapter, jnp.asarray(tokens), positions, causal)
    return np.asarray(decoder.logits(model.config, params, hidden[compared]))


def divergence(ours: np.ndarray, theirs: np.ndarray) -> float:
    """KL(ours || theirs) of next tokens by logits [P, V], in nats, averaged over the positions."""
    p, q = (log_softmax(logits.astype(np.float64), axis=-1) for logits in (ours, theirs))
    return float((np.exp(p) * (p - q)).sum(axis=-1).mean())
