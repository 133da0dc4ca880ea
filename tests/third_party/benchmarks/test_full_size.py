"""The benchmark of a config's model: its formulas, its tables, and a run of a tiny one."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from constellation.model.config import ModelConfig
from constellation.model.decoder import FEW_LAYERS, init_params
from constellation.model.linear import dense
from constellation.model.lora import init_adapter, projection_shapes, stack
from constellation.model.quantize import pack, quantize
from constellation.model.sampling import SamplingConfig
from constellation.runtime.errors import UserError
from constellation.selftraining.batches import collate, without_prefix
from constellation.selftraining.update import make_update
from tests.model.tiny import CONFIG, FIELDS, tiny_config
from tests.tiny_study import ROOT
from third_party.benchmarks import full_size, tables
from third_party.benchmarks.costs import ByteSizes, decode_bytes
from third_party.benchmarks.harness import Limits, Measurement, failure, measured
from third_party.benchmarks.workload import GPU, Sampler, Sizes, Workload, choose_sizes, sampled, updated
from third_party.random_model import STD, published_fields, random_params

QWEN3_4B = ModelConfig.from_fields(published_fields("4B"))
SIZES = Sizes((1, 2), 64, 8, 6, tasks=2, rows=4, micro_batch=2, repeats=1)
WORK = Workload(
    "cpu", CONFIG, "", "int4:16", "bfloat16", SamplingConfig(n=1), rank=4, alpha=8.0, remat=True, sizes=SIZES
)


def test_bytes_of_the_4b_by_hand() -> None:
    linear = 36 * (2560 * 4096 * 2 + 2560 * 1024 * 2 + 2560 * 9728 * 3)
    assert linear == pytest.approx(3.633e9, rel=1e-3)
    head = 151_936 * 2560
    assert ByteSizes("", 2).weights(QWEN3_4B) == 2 * (linear + head)
    assert ByteSizes("int4:128", 2).weights(QWEN3_4B) == linear / 2 + 2 * linear / 128 + 2 * head
    int8 = ByteSizes("int4:128:int8_embedding", 2, int8_kv=True)
    assert int8.weights(QWEN3_4B) == linear / 2 + 2 * linear / 128 + head + 4 * 151_936
    assert ByteSizes("", 2).cached_token(QWEN3_4B) == 144 * 1024
    assert int8.cached_token(QWEN3_4B) == 72 * 1024 + 2 * 36 * 8 * 2  # and a scale a position and head


def test_bytes_of_decoding_step_by_step() -> None:
    stored = ByteSizes("int4:16", 2)
    weights, token = stored.weights(CONFIG), stored.cached_token(CONFIG)
    for copies in (1, 3):
        moved = sum(weights + (copies * 10 + 3 * step) * token + 3 * token for step in range(5))
        assert decode_bytes(CONFIG, prompt=10, answer=6, samples=3, copies=copies, stored=stored) == moved


@pytest.mark.parametrize("shared", [0, 64])
@pytest.mark.parametrize("remat", [False, True])
def test_operations_of_the_update_are_those_that_xla_counts(remat: bool, shared: int) -> None:
    # Wide, as XLA counts what is elementwise, too; in bfloat16, as no adapter is merged there; and of so many
    # layers that the last is as the others.
    fields = FIELDS | {"num_hidden_layers": FEW_LAYERS + 1, "hidden_size": 1024, "intermediate_size": 3072}
    config = ModelConfig(**fields | {"num_attention_heads": 8, "head_dim": 128, "vocab_size": 2048})
    sizes = Sizes((1,), shared, 96 - shared, 32, tasks=2, rows=4, micro_batch=0, repeats=1)
    work = WORK._replace(config=config, rank=16, remat=remat, sizes=sizes)
    prefix, (examples,) = without_prefix([work.examples()])
    assert len(prefix) == shared
    batch, optimizer = collate([examples]), optax.sgd(1.0)

    def arguments(key: jax.Array) -> tuple:
        adapters, params = stack([init_adapter(config, key, 16, 32)]), init_params(config, key, jnp.bfloat16)
        return adapters, jax.vmap(optimizer.init)(adapters.weights), params, batch

    shapes = jax.eval_shape(arguments, jax.random.key(0))
    update: Any = make_update(config, optimizer, remat=remat, prefix=prefix)
    counted = update.lower(*shapes).compile().cost_analysis()["flops"]
    # XLA counts the body of a loop, a layer, once.
    one_layer = work._replace(config=dataclasses.replace(config, num_hidden_layers=1))
    row = updated(one_layer, "ours", 1.0, 1, shared=True)
    # XLA multiplies masked pairs of the attention, too; the gradient of picking the targets is a product.
    own = 128 - shared
    masked = (4 * own**2 + shared**2) / 2
    pairs = masked * 2 * 8 * 128 * 2 * (4 if remat else 3)
    picked = 2 * 4 * 32 * own * 1024
    assert counted == pytest.approx(row.flops + row.recomputed + pairs + picked, rel=0.04)


@pytest.mark.parametrize("quantization", ["", "int4:16", "int4:channel:int8_embedding"])
def test_random_params_are_laid_out_as_quantised_ones_and_have_so_many_bytes(quantization: str) -> None:
    params = random_params(CONFIG, quantization, jnp.dtype(jnp.float32))
    wanted = jax.eval_shape(lambda: quantize(init_params(CONFIG, jax.random.key(0)), quantization))
    described = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (params, wanted)]
    assert described[0] == described[1]
    for weight in (params["layers"]["down_proj"], params["embed"]):
        assert float(jnp.std(dense(weight, jnp.float32))) == pytest.approx(STD, rel=0.1)
    stored = sum(leaf.nbytes for leaf in jax.tree.leaves(params["embed"]))
    for name in projection_shapes(CONFIG):
        weight = params["layers"][name]
        stored += sum(leaf.nbytes for leaf in (pack(weight) if quantization else [weight]))
    assert ByteSizes(quantization, 4).weights(CONFIG) == stored


def test_a_group_that_does_not_divide() -> None:
    with pytest.raises(UserError, match="groups of 32 do not divide the 48 inputs of q_proj"):
        random_params(CONFIG, "int4:32", jnp.dtype(jnp.float32))


@pytest.mark.parametrize("model_type", ["qwen3", "gemma2"])
def test_our_update_and_pefts(model_type: str) -> None:
    work = WORK._replace(config=tiny_config(model_type))
    peft = next(one for one in full_size.REFERENCES if one.name == "peft")
    found = [row for one in (full_size.OURS, peft) for row in full_size.measure(work, one, "update")]
    assert [(row.part, row.name, row.tokens) for row in found] == [
        ("update", name, 4 * 78) for name in ("ours", "peft")
    ]
    assert all(row.seconds > 0 and row.peak_memory > 2**20 for row in found)


def test_what_generate_is_measured_at() -> None:
    plain, static, four_bits = (one for one in full_size.REFERENCES if "sampling" in one.parts)
    rows = list(full_size.measure(WORK, plain, "sampling"))
    wanted = [("prefill", 1, 72), ("decode", 1, 5), ("prefill", 2, 72), ("decode", 2, 10)]
    for row, (part, samples, tokens) in zip(rows, wanted, strict=True):
        assert (row.part, row.samples) == (part, samples)
        assert row.tokens == tokens or "varies" in row.failed  # few tokens are lost in a busy machine's noise
    for one, reason in ((static, "on CUDA only"), (four_bits, "no CUDA")):
        with pytest.raises(RuntimeError, match=reason):
            list(full_size.measure(WORK, one, "sampling"))


def test_sizes() -> None:
    assert choose_sizes("gpu", {}) == GPU
    assert choose_sizes("cpu", {"samples": (64, 1, 64), "rows": 2})[:2] == ((1, 64), 96)
    for given, message in (
        ({"samples": (0, 8)}, "--samples=0,8: give at least 1"),
        ({"samples": ()}, "--samples=: give at least 1"),
        ({"tasks": 1}, "--tasks=1: give at least 2"),
    ):
        with pytest.raises(UserError, match=message):
            choose_sizes("cpu", given)


def test_tables_and_targets() -> None:
    work = WORK._replace(config=QWEN3_4B, quantization="int4:128", sizes=GPU)
    limits = Limits("gpu", "a card", 1e12, 150e12)
    shared, copied = Sampler(8, True, ByteSizes("int4:128", 2)), Sampler(1, False, ByteSizes("", 2))
    rows = [
        *list(sampled(work, "ours", 64, shared, 1.0, 9.0, 20 * 10**9))[1:],
        *list(sampled(work, "transformers generate", 64, copied, 1.0, 7.0, 10**9))[1:],
        failure("decode", "ours", "out of memory\nat all", 256),
        updated(work, "ours", 10.0, 22 * 10**9, shared=True),
        updated(work, "peft", 13.0, 23 * 10**9, shared=False),
    ]
    text = tables.tables(rows, limits)
    ours_row, theirs, out, update, peft = [
        line for line in text.splitlines() if line.startswith(("ours ", "transformers", "peft "))
    ][:5]
    assert ours_row.split()[:4] == ["ours", "64", "8,128.0", "1.00x"]
    assert theirs.split()[3:5] == ["1,354.7", "6.00x"]
    assert out.split(maxsplit=2) == ["ours", "256", "failed: out of memory"]
    assert update.split()[2] == "1.00x" and peft.split()[2] == "1.30x"
    # 127 steps of weights and one prompt; 128 x 127 / 2 tokens of each sample
    weights = ByteSizes("int4:128", 2).weights(QWEN3_4B)
    moved = 127 * (weights + 700 * 147_456) + 64 * 8128 * 147_456
    share = moved / 1e12
    assert ours_row.split()[4] == f"{share:.1%}"
    verdicts = tables.targets(rows, limits, full_size=True).splitlines()[2:]
    assert [line.partition(": ")[2].partition(" (")[0] for line in verdicts] == [
        "met", "not met", "not met", "not met", "met",
    ]  # fmt: skip
    for other, full, reason in ((limits._replace(platform="cpu"), True, "no GPU"), (limits, False, "layers")):
        verdicts = tables.targets(rows, other, full).splitlines()[2:]
        assert all("not measurable" in line and reason in line for line in verdicts)


def test_a_decoding_lost_in_the_noise() -> None:
    sampler = Sampler(1, False, ByteSizes("", 2))
    prefill, decode = sampled(WORK, "ours", 1, sampler, first=1.0, whole=0.9, peak=1)
    assert prefill.seconds == 1.0 and decode.failed


def killed() -> Iterator[Measurement]:
    yield Measurement("prefill", "x", 1, 1, 1.0)
    os._exit(9)


def raising() -> Iterator[Measurement]:
    raise ValueError("no\nthing")
    yield


@pytest.mark.filterwarnings("ignore:.*fork")
def test_what_ends_early_is_a_row() -> None:
    first, *rest = measured("x", ("prefill", "decode"), killed)
    assert not first.failed and [row.failed for row in rest] == ["its process was killed (exit code 9)"] * 2
    (row,) = measured("x", ("update",), raising)
    assert row.failed == "ValueError: no" and row.part == "update"


@pytest.fixture
def launched(tmp_path: Path):
    """launched(*flags): the program on a config.json alone."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(tiny_config("gemma3_text").to_fields()))

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "launch.benchmark", "--config=configs/qwen3_4b.py"]
        return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)

    return run


def test_a_tiny_model_from_end_to_end(launched, tmp_path) -> None:
    sizes = {"samples": "1,2", "shared_tokens": 64, "own_tokens": 8, "answer_tokens": 6, "rows": 4}
    result = launched(
        f"--config.model.dir={tmp_path / 'model'}",
        "--config.model.quantization=int4:16",
        "--random_weights",
        "--noreferences",
        "--layers=2",
        f"--out={tmp_path / 'rows.json'}",
        *(f"--{name}={value}" for name, value in sizes.items()),
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "2 layers of 48, random weights: int4:16, bfloat16" in result.stdout
    assert result.stdout.count("not measurable on this device") == 5
    written = json.loads((tmp_path / "rows.json").read_text())
    found = {(row["part"], row["name"], row["samples"]): row for row in written["rows"]}
    for samples in (1, 2):
        assert found["prefill", "ours", samples]["tokens"] == 2 * 72
        assert found["prefill", "ours", samples]["peak_memory"] > 2**20
        decode = found["decode", "ours", samples]
        assert decode["tokens"] == 2 * samples * 5 or "varies" in decode["failed"]
    assert found["update", "ours", 0]["tokens"] == 4 * 78
    assert written["limits"]["bandwidth"] > 0 and written["workload"]["num_hidden_layers"] == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--random_weights", "--samples=0"], "--samples=0: give at least 1"),
        (["--random_weights", "--samples=many"], "--samples=many: give numbers, as --samples=1,8,64"),
        (
            ["--config.model.dir=nowhere"],
            "model directory nowhere not found: set --config.model.dir, or give",
        ),
        (["--layers=2"], "--layers=2 is of random weights"),
        (["--random_weights", "--part=tasks"], "--part=tasks measures --model_dir: leave out --config"),
        (["--random_weights", "--out=nowhere/x.json"], "--out=nowhere/x.json: there is no directory nowhere"),
        (
            ["--random_weights", "--config.model.quantization=int4:7"],
            "model.quantization: groups of 7 do not divide the 2560 inputs of q_proj",
        ),
        (["--random_weights", "--config.model.dtype=float16"], "model.dtype = 'float16': use 'float32' or"),
        (["--config=", "--config.seed=1"], "--config.seed=1 overrides a config: give --config=<file>, too"),
    ],
)
def test_a_mistake_is_one_line(launched, arguments, message) -> None:
    result = launched(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {message}") and result.stderr.count("\n") == 1
