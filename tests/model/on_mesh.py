"""Run by test_mesh.py in processes of their own: samples, scores and an update on meshes of many devices."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import optax

from constellation.generator import sample
from constellation.model.config import ModelConfig
from constellation.model.decoder import init_params
from constellation.model.lora import init_adapter, stack
from constellation.model.mesh import make_mesh, put, replicate
from constellation.model.model import Generator, Model
from constellation.model.quantize import quantize
from constellation.model.sampling import SamplingConfig
from constellation.model.score import log_prob, next_token_logits
from constellation.runtime.keys import Address
from constellation.selftraining.batches import TrainingExample, collate
from constellation.selftraining.update import make_update
from tests.model.tiny import FIELDS, tiny_config

SIZE = 37  # ids that the tokenizer knows
CONFIG = ModelConfig(
    vocab_size=40,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    rms_norm_eps=1e-6,
    rope_theta=10000.0,
    tie_word_embeddings=True,
)


def config_of(model_type: str) -> ModelConfig:
    """CONFIG as one of the family, with all that its row of the table honours."""
    config = tiny_config(model_type, num_hidden_layers=CONFIG.num_hidden_layers)
    return dataclasses.replace(config, **{name: getattr(CONFIG, name) for name in FIELDS})


def results(model_type: str, data: int, model: int) -> dict[str, np.ndarray]:
    mesh, config = make_mesh(data, model), config_of(model_type)
    params = quantize(init_params(config, jax.random.key(1), std=0.25), "int4:16")
    host: Any = jax.tree.map(np.asarray, params)
    params = {name: put(name, leaf, mesh) for name, leaf in host.items() if name != "layers"}
    params["layers"] = {name: put(f"layers/{name}", leaf, mesh) for name, leaf in host["layers"].items()}
    base = Model(config, params, SimpleNamespace(size=SIZE), (3, 5), "", Path(), mesh=mesh)  # type: ignore[arg-type]

    rng = np.random.default_rng(0)
    beginning = rng.integers(0, SIZE, 70).tolist()  # long enough to be shared
    # with their texts all in rows of one padded length: every mesh compiles its programs anew
    prompts = [beginning + rng.integers(0, SIZE, length).tolist() for length in (5, 20, 12, 9, 4)]
    adapter = init_adapter(config, jax.random.key(2), rank=4, alpha=8)
    adapters = stack([jax.tree.map(lambda x: x + 0.05, adapter)])  # B unlike zero, so that it matters
    generator, address = Generator(base, adapters), Address(0, "sampling", "v0")
    sampling = SamplingConfig(n=8, max_new_tokens=9)
    (drawn,) = sample(generator, [prompts], [list("abcde")], address, sampling, rows=16)
    texts = [[rng.integers(0, SIZE, 6).tolist() for _ in range(count)] for count in (3, 1, 2, 2, 4)]
    (scores,) = log_prob(generator, [prompts], [texts])
    (answers,) = next_token_logits(generator, [prompts], [texts], [1, 2])
    examples = [
        TrainingExample(np.array(prompt[70:], np.int32), tuple(map(np.array, own)), (0,) * len(own))
        for prompt, own in zip(prompts, texts, strict=True)
    ]
    optimizer = optax.sgd(1.0)
    before = jax.tree.map(np.asarray, adapters.weights)
    adapters, opt_states = replicate((adapters, jax.vmap(optimizer.init)(adapters.weights)), mesh)
    update = make_update(config, optimizer, mesh, micro_batch=2, prefix=tuple(beginning))
    after, _, metrics = update(adapters, opt_states, params, collate([examples]))
    change = jax.tree.map(lambda new, old: np.asarray(new) - old, after.weights, before)
    return {
        "ids": np.concatenate([one.ids for samples in drawn for one in samples]),
        "lengths": np.array([len(one.ids) for samples in drawn for one in samples]),
        "scores": np.concatenate(scores),
        "answers": np.concatenate(answers),
        "loss": np.asarray(metrics["loss"]),
        "change": np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(change)]),
    }


if __name__ == "__main__":
    out, meshes, processes, index, port = (json.loads(argument) for argument in sys.argv[1:])
    if processes > 1:
        jax.distributed.initialize(f"localhost:{port}", processes, index)
    assert jax.process_count() == processes
    for model_type, data, model in meshes:
        found: Any = results(model_type, data, model)
        np.savez(f"{out}/{model_type}_{data}x{model}_of_{processes}_{index}.npz", **found)
