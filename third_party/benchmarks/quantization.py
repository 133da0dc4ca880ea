"""What rounding weights to four bits costs: error by kind of layer, and the KL of the next token.

Ours (AQT's rounding, with and without the search for a clipping ratio) beside plain rounding, where a group's
largest weight is 7 steps, and NF4 (2305.14314, appendix E), all with one scale a group.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from constellation.model import decoder, port
from constellation.model.config import ModelConfig
from constellation.model.linear import dense
from constellation.model.lora import projection_shapes
from constellation.model.model import Model, load_model
from constellation.model.quantize import Quantization, quantize_weight

NF4 = np.array(
    [-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0,
     0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0], np.float32,
)  # fmt: skip
TASKS = 100

Rounding = Callable[[jax.Array], jax.Array]  # [out, in] -> what the rounded weight stands for, float32


class QuantizationRow(NamedTuple):
    """What one way of rounding costs."""

    name: str
    errors: dict[str, float]  # {projection: |W - W'| / |W|, Frobenius norms over all layers}
    kl: float | None  # as of `next_token_kl`, where that was measured


def quantization_benchmark(model_dir: str | Path, group: int, with_kl: bool = True) -> list[QuantizationRow]:
    """The ways of rounding side by side; one layer's tensor at a time.

    Args:
        group: inputs that share a scale.
        with_kl: whether to load the model, too, and compare its next-token distributions.
    """
    config = ModelConfig.from_dir(model_dir)
    ways = roundings(group)
    squares = {name: dict.fromkeys(projection_shapes(config), 0.0) for name in ways}
    norms = dict.fromkeys(projection_shapes(config), 0.0)
    tensors = port.Tensors(model_dir, config)
    for layer, kind in itertools.product(range(config.num_hidden_layers), norms):
        weight = jnp.asarray(tensors.read(port.layer_tensor(layer, kind)), jnp.float32)
        norms[kind] += float(jnp.square(weight).sum())
        for name, rounded in ways.items():
            squares[name][kind] += float(jnp.square(rounded(weight) - weight).sum())
    kls = next_token_kl(load_model(model_dir), ways) if with_kl else {}
    return [
        QuantizationRow(
            name, {kind: (squares[name][kind] / norms[kind]) ** 0.5 for kind in norms}, kls.get(name)
        )
        for name in ways
    ]


def roundings(group: int) -> dict[str, Rounding]:
    """Every way of rounding, jitted, by its name."""

    def ours(clip: bool) -> Rounding:
        how = Quantization(group, clip)
        return jax.jit(lambda weight: dense(quantize_weight(weight, how), jnp.float32))

    def by_groups(levels: Callable[[jax.Array], jax.Array]) -> Rounding:
        """`levels` maps weights, relative to the largest of their group, to what represents them."""

        def rounded(weight: jax.Array) -> jax.Array:
            groups = weight.reshape(weight.shape[0], -1, group)
            largest = jnp.abs(groups).max(-1, keepdims=True)
            return (levels(groups / jnp.maximum(largest, 1e-30)) * largest).reshape(weight.shape)

        return jax.jit(rounded)

    middles = (NF4[1:] + NF4[:-1]) / 2
    return {
        f"int4:{group}": ours(clip=False),
        f"int4:{group}:clip": ours(clip=True),
        "plain rounding": by_groups(lambda relative: jnp.round(7 * relative) / 7),
        "NF4": by_groups(lambda relative: jnp.asarray(NF4)[jnp.searchsorted(jnp.asarray(middles), relative)]),
    }


def next_token_kl(model: Model, ways: dict[str, Rounding]) -> dict[str, float]:
    """{name: mean KL(dense || rounded) of the next token, in nats} over the programs of tuning tasks."""
    from constellation.domains.task import split
    from constellation.domains.trapdoor import DOMAIN as trapdoor

    sequences = []
    for task in trapdoor.make_bank("tuning_hard", TASKS):
        prompt = model.chat(trapdoor.messages(split(task, 0)))
        sequences.append((prompt, [*prompt, *model.tokenizer.encode(task.program)]))
    width = max(len(ids) for _, ids in sequences)
    tokens = np.zeros((len(sequences), width), np.int32)
    predicts = np.zeros((len(sequences), width), bool)  # positions before a token of the program or its end
    for row, (prompt, ids) in enumerate(sequences):
        tokens[row, : len(ids)] = ids
        predicts[row, len(prompt) - 1 : len(ids)] = True

    @jax.jit
    def log_probs(params: decoder.Params) -> jax.Array:
        positions = jnp.broadcast_to(jnp.arange(width), tokens.shape)
        mask = jnp.broadcast_to(jnp.tril(jnp.ones((width, width), bool)), (*tokens.shape, width))
        hidden = decoder.forward(model.config, params, None, jnp.asarray(tokens), positions, mask)
        return jax.nn.log_softmax(decoder.logits(model.config, params, hidden))

    exact = log_probs(model.params)

    def kl(params: decoder.Params) -> float:
        per_position = (jnp.exp(exact) * (exact - log_probs(params))).sum(-1)
        return float(per_position[predicts].mean())

    def rounded(rounding: Rounding) -> decoder.Params:
        layers = {
            name: jnp.stack([rounding(layer) for layer in weight]) if name.endswith("_proj") else weight
            for name, weight in model.params["layers"].items()
        }
        return model.params | {"layers": layers}

    return {name: kl(rounded(rounding)) for name, rounding in ways.items()}
