"""The generator against plain loops, transformers and the distributions that it must draw from."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import torch
from transformers import GenerationConfig

from constellation import generator
from constellation.generator import PREFILL, Sample, SamplingConfig, prefill_size, sample
from constellation.model import decoding
from constellation.model.config import ModelConfig
from constellation.model.decoder import forward, init_params, logits
from constellation.model.decoding import ENGINE, Engine
from constellation.model.lora import Adapter, init_adapter, stack
from constellation.model.model import Generator, Model, load_model
from constellation.model.quantize import quantize
from constellation.runtime import keys
from tests.model.conftest import byte_tokenizer, reference
from tests.model.on_mesh import CONFIG, SIZE
from tests.model.test_sampling import chi_square

STOPS = (3, 5)
ADDRESS = keys.Address(0, "sampling", "v0")
KEY = keys.fold(0, "sampling", "v0", 0)


def make_model(dtype: Any = jnp.float32, quantization: str = "", stop_ids: tuple[int, ...] = STOPS) -> Model:
    # At this deviation the tokens depend on each other and the distribution is far from uniform.
    params = quantize(init_params(CONFIG, jax.random.key(1), dtype, std=0.25), quantization)
    return Model(CONFIG, params, SimpleNamespace(size=SIZE), stop_ids, "", Path())  # type: ignore[arg-type]


def make_adapter(seed: int = 3) -> Adapter:
    """With B unlike zero, so that it matters."""
    adapter = init_adapter(CONFIG, jax.random.key(2), rank=4, alpha=8)
    return jax.tree.map(lambda x: x + 0.05 * jax.random.normal(jax.random.key(seed), x.shape), adapter)


MODEL = make_model()
BASE = SamplingConfig(n=8, temperature=0.9, max_new_tokens=9)  # one compiled shape for most tests


def make_tasks(count: int, seed: int = 0, longest: int = 30) -> tuple[list[list[int]], list[str]]:
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(0, SIZE, rng.integers(5, longest + 1)).tolist() for _ in range(count)]
    return prompts, [f"task {seed}.{index}" for index in range(count)]


def tokens(result: list[list[Sample]]) -> list[list[tuple[list[int], bool]]]:
    return [[(one.ids.tolist(), one.finished) for one in samples] for samples in result]


def sample_one(
    model: Model,
    adapter: Adapter | None,
    prompts: list[list[int]],
    task_ids: list[str],
    address: keys.Address,
    config: SamplingConfig,
    **settings: Any,
) -> list[list[Sample]]:
    """`sample` of one trajectory."""
    generator = Generator(model, None if adapter is None else stack([adapter]))
    return sample(generator, [prompts], [task_ids], address, config, **settings)[0]


@functools.partial(jax.jit, static_argnums=0)
def padded_logits(
    config: ModelConfig, params: Any, adapter: Adapter | None, ids: jax.Array, length: int
) -> jax.Array:
    mask = jnp.tril(jnp.ones((1, ids.size, ids.size), bool))
    hidden = forward(config, params, adapter, ids[None], jnp.arange(ids.size)[None], mask)
    return logits(config, params, hidden[0, length - 1])


def next_logits(model: Model, adapter: Adapter | None, ids: list[int]) -> np.ndarray:
    """The logits [SIZE] after a text, without any cache."""
    padded = np.zeros(48, np.int32)
    padded[: len(ids)] = ids
    return np.asarray(padded_logits(model.config, model.params, adapter, padded, len(ids)))[:SIZE]


def noise(task_id: str, sample: int, position: int) -> np.ndarray:
    return np.asarray(jax.random.gumbel(keys.fold(KEY, task_id, sample, position), (SIZE,)))


def plain_loop(
    model: Model, adapter: Adapter, prompt: list[int], task_id: str, sample: int, config: SamplingConfig
) -> tuple[list[int], bool, float]:
    """One sample, token by token; and the least margin by which a token was chosen."""
    ids: list[int] = []
    margin = np.inf
    while len(ids) < config.max_new_tokens:
        after = next_logits(model, adapter, prompt + ids) / np.float32(config.temperature)
        scores = after + noise(task_id, sample, len(ids))
        second, first = np.sort(scores)[-2:]
        margin = min(margin, first - second)
        token = int(scores.argmax())
        if token in model.stop_ids:
            return ids, True, margin
        ids.append(token)
    return ids, False, margin


@pytest.mark.parametrize("quantization", ["", "int4:16"])
def test_equals_a_plain_loop(quantization: str):
    model, adapter = make_model(quantization=quantization), make_adapter()
    prompts, task_ids = make_tasks(2)
    result = sample_one(model, adapter, prompts, task_ids, ADDRESS, BASE)
    for prompt, task_id, samples in zip(prompts, task_ids, result, strict=True):
        for index, one in enumerate(samples[:4]):
            *expected, margin = plain_loop(model, adapter, prompt, task_id, index, BASE)
            assert margin > 1e-4, "choose another seed: this comparison is decided by rounding"
            assert [one.ids.tolist(), one.finished] == expected


def test_draws_are_the_same_alone_and_in_any_batch():
    """Flat logits, so that the token is the noise's alone."""
    draw = functools.partial(decoding.draw, jnp.zeros(1000), KEY)
    words, samples = jnp.arange(3, dtype=jnp.uint32), jnp.arange(5, 9)
    over_samples = jax.vmap(lambda word, sample: draw(word, sample, 7, BASE), (None, 0))
    batched = jax.jit(jax.vmap(over_samples, (0, None)))(words, samples)
    for i, word in enumerate(words):
        for j, index in enumerate(samples):
            alone = jax.random.gumbel(keys.fold(KEY, int(word), int(index), 7), (1000,)).argmax()
            assert batched[i, j] == alone == draw(word, index, 7, BASE)
    assert len(set(batched.ravel().tolist())) > 8


def test_tokens_do_not_depend_on_the_other_tasks_of_a_batch():
    """At fixed padded shapes: same number of tasks and rows, other neighbours, another order."""
    config = SamplingConfig(n=24, max_new_tokens=9)
    prompts, task_ids = make_tasks(6)
    others, other_ids = make_tasks(6, seed=1)
    rows = 2 * generator.WIDTH  # fewer slots than tasks, so tasks begin at different times
    expected = tokens(sample_one(MODEL, None, prompts, task_ids, ADDRESS, config, rows=rows))
    reverse = tokens(sample_one(MODEL, None, prompts[::-1], task_ids[::-1], ADDRESS, config, rows=rows))[::-1]
    assert reverse == expected
    prompts, task_ids = others[:4] + prompts[:2], other_ids[:4] + task_ids[:2]
    mixed = sample_one(MODEL, None, prompts, task_ids, ADDRESS, config, rows=rows)
    assert tokens(mixed)[4:] == expected[:2]


Recorded = dict[tuple[int, int, int], np.ndarray]  # (task word, sample, position) -> logits


def recorded(*args: Any, **kwargs: Any) -> tuple[list[list[Sample]], Recorded]:
    """`sample_one` that also returns the logits of every draw."""
    seen: Recorded = {}

    def record(logits: Any, word: Any, sample: Any, position: Any) -> None:
        seen[int(word), int(sample), int(position)] = np.array(logits)

    def recording_draw(logits: Any, key: Any, word: Any, sample: Any, position: Any, *law: Any) -> Any:
        jax.debug.callback(record, logits, word, sample, position)
        return decoding.draw(logits, key, word, sample, position, *law)

    result = sample_one(*args, **kwargs, engine=ENGINE._replace(draw=recording_draw))
    jax.effects_barrier()
    return result, seen


def test_between_shapes_tokens_differ_only_within_the_logit_error():
    """Other shapes, and bfloat16, so that rounding changes tokens often enough for this to mean something."""
    prompts, task_ids = make_tasks(4)
    result, of = recorded(MODEL, None, prompts, task_ids, ADDRESS, BASE, rows=32)
    rounded = make_model(jnp.bfloat16)
    other_result, other_of = recorded(rounded, None, prompts, task_ids, ADDRESS, BASE, rows=4)
    differences = 0
    for task_id, samples, other_samples in zip(task_ids, result, other_result, strict=True):
        for index, (one, other) in enumerate(zip(samples, other_samples, strict=True)):
            ids, other_ids = ([*x.ids.tolist(), -1] for x in (one, other))  # -1: a stop token
            if ids == other_ids:
                continue
            position = next(t for t, (a, b) in enumerate(zip(ids, other_ids, strict=False)) if a != b)
            address = int(keys.word(task_id)), index, position
            error = np.abs(of[address] - other_of[address]).max() / BASE.temperature
            scores = of[address] / BASE.temperature + noise(task_id, index, position)
            margin = scores.max() - np.sort(scores)[-2]
            assert margin <= 2 * error < 0.5
            differences += 1
    assert differences > 0


NOT_MERGED = ENGINE._replace(merged_bytes=0)


@pytest.mark.parametrize("engine", [ENGINE, NOT_MERGED], ids=["merged", "not merged"])
def test_trajectories_together_draw_what_each_draws_alone(engine: Engine) -> None:
    model = make_model(quantization="int4:16")
    adapters = [make_adapter(seed) for seed in (3, 4, 5)]
    addresses = [dataclasses.replace(ADDRESS, replicate=replicate) for replicate in range(3)]
    groups = [make_tasks(count, seed=count) for count in (5, 1, 3)]  # of unequal numbers and lengths
    groups = [([BEGINNING + prompt for prompt in prompts], ids) for prompts, ids in groups]
    all_prompts, all_ids = zip(*groups, strict=True)
    together = sample(Generator(model, stack(adapters)), all_prompts, all_ids, ADDRESS, BASE, engine=engine)

    def alone(
        adapter: Adapter, prompts: list[list[int]], ids: list[str], address: keys.Address
    ) -> list[list[tuple[list[int], bool]]]:
        return tokens(sample_one(model, adapter, prompts, ids, address, BASE, engine=engine))

    for group, adapter, address, drawn in zip(groups, adapters, addresses, together, strict=True):
        assert alone(adapter, *group, address) == tokens(drawn)
    assert alone(adapters[0], *groups[0], addresses[1]) != tokens(together[0])
    assert alone(adapters[1], *groups[0], addresses[0]) != tokens(together[0])


BEGINNING = np.random.default_rng(7).integers(0, SIZE, 90).tolist()


def test_what_all_prompts_begin_with_is_prefilled_once():
    prompts, task_ids = make_tasks(4)
    described = [BEGINNING + prompt for prompt in prompts]
    widths: list[int] = []

    def keeping(*args: Any) -> Any:
        widths.append(args[4].tokens.shape[1])
        return ENGINE.begin(*args)

    def drawn(prompts: list[list[int]], engine: Engine) -> list[list[tuple[list[int], bool]]]:
        return tokens(sample_one(MODEL, make_adapter(), prompts, task_ids, ADDRESS, BASE, engine=engine))

    engine = ENGINE._replace(begin=keeping)
    shared = drawn(described, engine)
    assert set(widths) == {64}
    whole = engine._replace(shared_tokens=1000)
    assert drawn(described, whole) == shared
    assert 128 in widths
    assert drawn(prompts, whole) != shared


def test_int8_kv_draws_what_its_small_error_leaves():
    prompts, task_ids = make_tasks(4)
    exact, of = recorded(MODEL, None, prompts, task_ids, ADDRESS, BASE)
    rounded, other_of = recorded(
        MODEL, None, prompts, task_ids, ADDRESS, dataclasses.replace(BASE, int8_kv=True)
    )
    same = [
        (one, other) for a, b in zip(exact, rounded, strict=True) for one, other in zip(a, b, strict=True)
    ]
    assert sum(one.ids.tolist() == other.ids.tolist() for one, other in same) > 0.8 * len(same)
    # Where both caches hold the same tokens. Rounding to 127 steps of a vector's largest element, twice its
    # RMS or so, is an error of half a percent in each of two layers' keys and values.
    second = [address for address in of if address[2] == 1 and address in other_of]
    error, scale = (
        np.std(np.stack(x)) for x in ([of[a] - other_of[a] for a in second], [of[a] for a in second])
    )
    assert 0 < error < 0.02 * scale


def test_offset_and_count_do_not_change_a_sample():
    prompts, task_ids = make_tasks(2)
    whole = tokens(sample_one(MODEL, None, prompts, task_ids, ADDRESS, BASE))
    half = dataclasses.replace(BASE, n=4)
    for first in (0, 4):
        part = sample_one(MODEL, None, prompts, task_ids, ADDRESS, half, first_sample=first)
        assert tokens(part) == [samples[first : first + 4] for samples in whole]
    later = tokens(sample_one(MODEL, None, prompts, task_ids, ADDRESS, BASE, first_sample=4))
    assert [samples[:4] for samples in later] == [samples[4:] for samples in whole]


def test_other_keys_give_other_samples():
    prompts, task_ids = make_tasks(2)
    one = tokens(sample_one(MODEL, None, prompts, task_ids, ADDRESS, BASE))
    other = dataclasses.replace(ADDRESS, replicate=1)
    assert one != tokens(sample_one(MODEL, None, prompts, task_ids, other, BASE))
    assert len({str(x) for x in one[0]}) > 4  # samples of one task differ
    twins = tokens(sample_one(MODEL, None, [prompts[0]] * 2, task_ids, ADDRESS, BASE))
    assert twins[0] != twins[1]  # and so do two tasks of one prompt


def test_stop_truncation_and_vocabulary():
    prompts, task_ids = make_tasks(2)
    samples = [
        one
        for first in range(0, 80, 8)
        for samples in sample_one(MODEL, None, prompts, task_ids, ADDRESS, BASE, first_sample=first)
        for one in samples
    ]
    assert {one.finished for one in samples} == {True, False}
    for one in samples:
        assert one.ids.dtype == np.int32
        assert not set(one.ids.tolist()) & set(STOPS)
        assert len(one.ids) < 9 if one.finished else len(one.ids) == 9
    assert {len(one.ids) for one in samples} == set(range(10))
    drawn = np.concatenate([one.ids for one in samples])
    assert SIZE - 5 <= drawn.max() < SIZE  # padding ids are never drawn


@pytest.mark.parametrize("max_new_tokens", [1, 4])
def test_a_shorter_limit_cuts_the_same_samples_short(max_new_tokens: int):
    prompts, task_ids = make_tasks(2)
    long = sample_one(MODEL, None, prompts, task_ids, ADDRESS, BASE)
    config = dataclasses.replace(BASE, max_new_tokens=max_new_tokens)
    short = sample_one(MODEL, None, prompts, task_ids, ADDRESS, config)
    for long_samples, short_samples in zip(long, short, strict=True):
        for one, cut in zip(long_samples, short_samples, strict=True):
            assert cut.ids.tolist() == one.ids[:max_new_tokens].tolist()
            assert cut.finished == (one.finished and len(one.ids) < max_new_tokens)


def test_distribution_of_first_and_second_token():
    """The softmax of the plain forward pass."""
    model = make_model(stop_ids=(0,))
    prompts, task_ids = make_tasks(1)
    config = dataclasses.replace(BASE, n=5000, max_new_tokens=2)
    drawn = np.array(
        [[*one.ids, 0, 0][:2] for one in sample_one(model, None, prompts, task_ids, ADDRESS, config)[0]]
    )
    common = np.bincount(drawn[:, 0])[1:].argmax() + 1
    for before, tokens in (([], drawn[:, 0]), ([common], drawn[drawn[:, 0] == common, 1])):
        after = next_logits(model, None, prompts[0] + before).astype(float)
        assert chi_square(tokens, scipy.special.softmax(after / BASE.temperature)) > 1e-3


def test_draws_of_positions_and_samples_are_independent():
    """Flat logits, so that only the noise decides: pairs must be uniform."""
    position, index = jnp.meshgrid(jnp.arange(100), jnp.arange(200))
    draw = jax.vmap(lambda s, p: decoding.draw(jnp.zeros(8), KEY, jnp.uint32(9), s, p, BASE))
    drawn = np.asarray(jax.jit(draw)(index.ravel(), position.ravel())).reshape(index.shape)
    for pairs in (drawn[:, ::2] * 8 + drawn[:, 1::2], drawn[::2] * 8 + drawn[1::2]):
        assert chi_square(pairs.ravel(), np.full(64, 1 / 64)) > 1e-3


def test_greedy_is_transformers_generate(tmp_path: Path):
    hf = reference()
    hf.generation_config = GenerationConfig(eos_token_id=[261, 259], pad_token_id=259)
    hf.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    model = load_model(tmp_path)
    # A random model would never stop at its two stop ids.
    model = dataclasses.replace(model, stop_ids=(*model.stop_ids, *range(40)))
    prompts = [np.random.default_rng(seed).integers(0, 250, 20 + seed).tolist() for seed in range(4)]
    config = SamplingConfig(n=2, temperature=0, max_new_tokens=20)
    result = sample_one(model, None, prompts, list("abcd"), ADDRESS, config)
    for prompt, samples in zip(prompts, result, strict=True):
        ids = hf.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            max_new_tokens=20,
            eos_token_id=list(model.stop_ids),
        )[0, len(prompt) :].tolist()
        for one in samples:
            assert one.ids.tolist() == (ids[:-1] if one.finished else ids)
            assert one.finished == (ids[-1] in model.stop_ids)


def test_a_model_too_large_to_merge_samples_the_same():
    model, adapter = make_model(quantization="int4:16"), make_adapter()
    prompts, task_ids = make_tasks(2)
    merged = tokens(sample_one(model, adapter, prompts, task_ids, ADDRESS, BASE))
    assert merged != tokens(sample_one(model, None, prompts, task_ids, ADDRESS, BASE))
    assert tokens(sample_one(model, adapter, prompts, task_ids, ADDRESS, BASE, engine=NOT_MERGED)) == merged


def test_prompts_are_prefilled_once_and_never_copied_per_sample():
    prefilled: list[int] = []
    arguments: list[Any] = []

    def counting(*args: Any) -> Any:
        prompts = args[4]
        prefilled.extend(prompts.words[prompts.lengths > 1].tolist())
        return ENGINE.begin(*args)

    def keeping(*args: Any) -> Any:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype), args[1:])
        arguments.append((args[0], *shapes))
        return ENGINE.extend(*args)

    prompts, task_ids = make_tasks(5, longest=1000)
    sampling, engine = SamplingConfig(n=64, max_new_tokens=5), Engine(counting, keeping)
    sample_one(MODEL, None, prompts, task_ids, ADDRESS, sampling, rows=64, engine=engine)
    assert sorted(prefilled) == sorted(int(keys.word(task_id)) for task_id in task_ids)
    longest = max(arguments, key=lambda args: args[3][0].k.size)
    prompt_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(longest[3]))
    width = longest[4][0].k.shape[3]
    assert width == generator.WIDTH
    memory = decoding.extend.lower(*longest).compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < prompt_bytes * width / 4


@pytest.mark.parametrize(
    ("fewest", "buckets"),
    [
        (1, {64: [1, 3, 5], 128: [0], 256: [2, 4]}),
        (2, {64: [1, 3, 5], 256: [0, 2, 4]}),
        (4, {128: [0, 1, 3, 5], 256: [2, 4]}),
        (9, {256: [0, 1, 2, 3, 4, 5]}),
    ],
)
def test_prompts_of_a_length_that_few_have_go_with_longer_ones(
    fewest: int, buckets: dict[int, list[int]]
) -> None:
    prompts = [[0] * length for length in (65, 1, 200, 64, 193, 2)]
    assert generator._buckets(prompts, fewest) == buckets


def test_of_long_prompts_few_are_prefilled_at_a_time():
    """Up to 1,024 tokens as many as ever; beyond, attention grows with the square."""
    sizes = {length: prefill_size(length) for length in (64, 1024, 2048, 4096, 8192)}
    assert sizes == {64: PREFILL, 1024: PREFILL, 2048: 2, 4096: 1, 8192: 1}
