"""The memory plan against what XLA says of the compiled programs."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from constellation.memory import GIB, Memory
from constellation.model import decoder, decoding, score
from constellation.model.config import ModelConfig
from constellation.model.lora import init_adapter
from constellation.model.mesh import make_mesh
from constellation.model.quantize import quantize
from constellation.model.sampling import SamplingConfig
from constellation.runtime.errors import UserError
from constellation.selftraining.batches import Batch, TrainingExample
from constellation.selftraining.update import make_optimizer, make_update
from third_party.random_model import published_fields

FIELDS = published_fields("0.6B", 2) | {"vocab_size": 16384}
CONFIG = ModelConfig.from_fields(FIELDS)
RANK = 16
INT4, BF16 = "int4:128", "bfloat16"


def memory(dtype: str, config: ModelConfig = CONFIG, **changed: Any) -> Memory:
    return Memory(config, INT4, dtype, RANK, "cpu", **changed)


def shaped(shape: tuple[int, ...], dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def abstract(dtype: str, config: ModelConfig) -> tuple[Any, Any]:
    def make() -> tuple[Any, Any]:
        params = decoder.init_params(config, jax.random.key(0), dtype)
        return quantize(params, INT4), init_adapter(config, jax.random.key(0), RANK, 32)

    return jax.eval_shape(make)


def measured(compiled: Any) -> float:
    sizes = compiled.memory_analysis()
    return (
        sizes.argument_size_in_bytes
        + sizes.output_size_in_bytes
        - sizes.alias_size_in_bytes
        + (sizes.temp_size_in_bytes)
    )


def compile_sampling(
    dtype: str, rows: int, prefix: int, prompt: int, sampling: SamplingConfig, config: ModelConfig = CONFIG
) -> Any:
    params, adapter = abstract(dtype, config)
    vocabulary, devices = config.vocab_size, make_mesh()
    static = decoding.Static(config, sampling.compiled(), vocabulary, devices, decoding.draw)
    key: Any = shaped((1,), jax.random.key(0).dtype)
    adapters = jax.tree.map(lambda x: shaped((len(x), 1, *x.shape[1:]), x.dtype), adapter)
    fixed = decoding.Fixed(static, params, decoding.Own(adapters, [], None, key))

    def kv(batch: tuple[int, ...], positions: int) -> Any:
        return jax.eval_shape(lambda: decoding.empty(fixed, batch, positions))

    dense = fixed._replace(static=static._replace(sampling=SamplingConfig(n=1)))
    shared = jax.eval_shape(lambda: decoding.empty(dense, (1,), prefix)[0])
    slots, width = rows // 8, 8
    grid = shaped((1, slots, width))
    return decoding.extend.lower(
        *fixed._replace(own=fixed.own._replace(prefix=shared)),
        kv((1, slots), prompt),
        kv((1, slots, width), sampling.max_new_tokens),
        decoding.Rows(shaped((1, slots)), shaped((1, slots), jnp.uint32), grid, grid, grid),
    ).compile()


def compile_update(
    dtype: str,
    rows: int,
    micro_batch: int,
    width: int,
    targets: int,
    remat: bool,
    prefix: int = 0,
    config: ModelConfig = CONFIG,
) -> Any:
    params, adapter = abstract(dtype, config)
    optimizer = make_optimizer(1e-4, 0.0, 1.0)
    adapters = jax.tree.map(lambda leaf: shaped((1, *leaf.shape), leaf.dtype), adapter)
    opt_states = jax.eval_shape(jax.vmap(optimizer.init), adapters.weights)
    tokens, answers = shaped((rows, 1, width)), shaped((rows, 1, targets))
    batch = Batch(tokens, tokens, tokens, tokens, answers, answers, shaped((rows, 1, targets), jnp.float32))
    update: Any = make_update(config, optimizer, None, micro_batch, remat, (), tuple(range(prefix)))
    return update.lower(adapters, opt_states, params, batch).compile()


@pytest.mark.parametrize(
    ("dtype", "rows", "int8_kv"), [("float32", 64, False), (BF16, 64, False), (BF16, 128, True)]
)
def test_sampling_bounds_what_is_compiled(dtype: str, rows: int, int8_kv: bool) -> None:
    sampling = SamplingConfig(n=64, max_new_tokens=192, int8_kv=int8_kv)
    planned = memory(dtype).sampling(rows, 600, 128, sampling).total
    actual = measured(compile_sampling(dtype, rows, 600, 128, sampling))
    assert actual <= planned <= 2 * actual


@pytest.mark.parametrize(
    ("dtype", "rows", "micro_batch", "remat", "width", "prefix"),
    [
        ("float32", 4, 0, False, 768, 0),
        (BF16, 4, 0, True, 768, 0),
        (BF16, 8, 2, True, 768, 0),
        ("float32", 16, 0, False, 128, 700),
        (BF16, 16, 4, True, 128, 700),
    ],
)
def test_training_bounds_what_is_compiled(
    dtype: str, rows: int, micro_batch: int, remat: bool, width: int, prefix: int
) -> None:
    planned = memory(dtype).training(micro_batch or rows, width, 64, remat, prefix).total
    actual = measured(compile_update(dtype, rows, micro_batch, width, 64, remat, prefix))
    assert actual <= planned <= 2 * actual


def compile_scoring(dtype: str, prefix: int, width: int, config: ModelConfig = CONFIG) -> Any:
    params, adapter = abstract(dtype, config)
    rows = score.rows_a_batch(width, prefix)
    head = (config.num_hidden_layers, config.num_key_value_heads)
    sizes = (config.head_dim, prefix), (prefix, config.head_dim)
    shared = decoder.KV(*(shaped((1, *head, *size), jnp.dtype(dtype)) for size in sizes))  # type: ignore[arg-type]
    tokens = shaped((rows, 1, width))
    batch = score._Padded(tokens, tokens, tokens), shaped((rows, 1, 16))
    adapters = jax.tree.map(lambda x: shaped((1, *x.shape), x.dtype), adapter)
    static = score._Static(config, make_mesh())
    return score._chosen_logits.lower(static, params, (adapters, shared), shaped((2,)), batch).compile()


def test_scoring_bounds_what_is_compiled() -> None:
    actual = measured(compile_scoring(BF16, 600, 320))
    assert actual <= memory(BF16).scoring(600, 320).total <= 2 * actual


@pytest.mark.parametrize("size", ["Qwen2.5-1.5B", "Llama-3.2-1B", "Gemma-2-2B", "Gemma-3-1B"])
def test_other_families_are_bounded_too(size: str) -> None:
    config = ModelConfig.from_fields(published_fields(size, 2))
    small = dataclasses.replace(config, vocab_size=16384)  # or scoring is bounded by more than twice
    planned, sampling = memory(BF16, config), SamplingConfig(n=64, max_new_tokens=192)
    pairs = {
        "sampling": (
            planned.sampling(64, 600, 128, sampling),
            compile_sampling(BF16, 64, 600, 128, sampling, config),
        ),
        "training": (
            planned.training(2, 768, 64, True),
            compile_update(BF16, 8, 2, 768, 64, True, 0, config),
        ),
        "scoring": (memory(BF16, small).scoring(600, 320), compile_scoring(BF16, 600, 320, small)),
    }
    for name, (footprint, compiled) in pairs.items():
        assert measured(compiled) <= footprint.total <= 2 * measured(compiled), name


def test_weights_are_those_that_are_loaded() -> None:
    for quantization in ("", "int4:128", "int4:64:int8_embedding"):
        params = jax.eval_shape(
            lambda how=quantization: quantize(decoder.init_params(CONFIG, jax.random.key(0), BF16), how)
        )
        sizes = [x.size * (1 if x.dtype == jnp.int4 else x.dtype.itemsize) for x in jax.tree.leaves(params)]
        planned = Memory(CONFIG, quantization, BF16, RANK, "cpu").sampling(1, 0, 64, SAMPLING).weights
        assert planned == pytest.approx(sum(sizes), rel=0.01)  # norms are left out


SAMPLING = SamplingConfig(n=64, max_new_tokens=192)
PROMPTS = [[1] * 700 + [task] * 60 for task in range(5)]


def two_examples(prompt: int, answer: int) -> list[TrainingExample]:
    """They have no token in common."""
    prompts = (np.full(prompt, number, np.int32) for number in range(2))
    return [TrainingExample(own, (np.zeros(answer, np.int32),), (0,)) for own in prompts]


def test_batches_shrink_with_the_budget() -> None:
    assert memory(BF16).sampling_rows(PROMPTS, SAMPLING) == 256
    assert memory(BF16).micro_batch(two_examples(700, 60), 32, remat=True) == 0  # all rows
    seen = []
    for budget in (8 * GIB, 3 * GIB, 1.5 * GIB, 0.6 * GIB):
        limited = memory(BF16, budget=budget)
        rows = limited.sampling_rows(PROMPTS, SAMPLING)
        micro_batch = limited.micro_batch(two_examples(700, 60), 32, remat=True) or 32
        assert limited.sampling(rows, 700, 64, SAMPLING).total <= budget
        assert limited.training(micro_batch, 768, 64, True).total <= budget
        seen.append((rows, micro_batch))
    assert seen == sorted(set(seen), reverse=True) and seen[-1][0] < 256


def test_trajectories_share_the_rows_of_one_on_a_cpu_alone() -> None:
    pool = two_examples(70, 60)
    together = memory(BF16, trajectories=8)
    assert together.micro_batch(pool, 32, remat=False) == 4
    assert dataclasses.replace(together, platform="gpu").micro_batch(pool, 32, remat=False) == 0


def test_on_a_gpu_every_trajectory_decodes_as_many_rows_as_one_alone() -> None:
    together = memory(BF16, trajectories=8)
    assert together.sampling_rows(PROMPTS, SAMPLING) == 4 * 256
    assert dataclasses.replace(together, platform="gpu").sampling_rows(PROMPTS, SAMPLING) == 8 * 256


def test_what_cannot_fit_is_refused_with_its_parts() -> None:
    tight = memory(BF16, budget=0.1 * GIB)
    with pytest.raises(
        UserError, match=r"budget_gib = 0\.1 does not hold one sample at a time: .*weights 0\.0"
    ):
        tight.sampling_rows(PROMPTS, SAMPLING)
    with pytest.raises(UserError, match="does not hold one row of 768 tokens"):
        tight.micro_batch(two_examples(700, 60), 32, remat=True)
    with pytest.raises(UserError, match="batch of candidates to score"):
        tight.check_scoring(700, 576)
    assert tight.micro_batch([], 32, remat=True) == 0


def test_qwen3_4b_in_int4_fits_a_card_of_24_gb() -> None:
    config = ModelConfig.from_fields(published_fields("4B"))
    plan = Memory(config, INT4, BF16, RANK, "gpu", budget=22 * GIB)
    assert plan.sampling(1, 0, 64, SAMPLING).weights == pytest.approx(2.47 * GIB, rel=0.01)
    assert plan.sampling_rows(PROMPTS, SAMPLING) >= 128
    assert plan.micro_batch(two_examples(800, 60), 32, remat=True) >= 4
