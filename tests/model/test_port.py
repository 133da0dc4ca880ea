"""Reading and writing Hugging Face directories."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from constellation.model import decoder
from constellation.model.config import ModelConfig
from constellation.model.port import EMBED, INDEX, LM_HEAD, NORM, SINGLE, Tensors, layer_tensor, save_hf
from constellation.model.quantize import quantize
from constellation.model.weights import load_params
from constellation.runtime.errors import UserError
from tests.model.tiny import causal, params_and_adapter, random_tokens

MakeDir = Callable[..., Path]


@pytest.fixture
def copy(model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_dir, tmp_path / "copy"))


def load(directory: Path, quantization: str = "") -> decoder.Params:
    return load_params(directory, ModelConfig.from_dir(directory), jnp.float32, quantization)


def test_rotary_constants_of_old_files_are_not_read(copy: Path) -> None:
    before, tensors = load(copy), load_file(copy / SINGLE)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(tensors, copy / SINGLE, metadata={"format": "pt"})
    jax.tree.map(np.testing.assert_array_equal, load(copy), before)


def test_shards_equal_a_single_file(make_dir: MakeDir) -> None:
    single, sharded = make_dir(tie_word_embeddings=False), make_dir(tie_word_embeddings=False, shard="100KB")
    assert (sharded / INDEX).exists()
    assert len(list(sharded.glob("*.safetensors"))) > 2
    jax.tree.map(np.testing.assert_array_equal, load(single), load(sharded))


def test_streamed_int4_equals_quantising_afterwards(model_dir: Path) -> None:
    streamed, afterwards = load(model_dir, "int4:16"), quantize(load(model_dir), "int4:16")
    jax.tree.map(np.testing.assert_array_equal, streamed, afterwards)


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_reads_what_we_write(tied: bool, make_dir: MakeDir, tmp_path: Path) -> None:
    config = ModelConfig.from_dir(make_dir(tie_word_embeddings=tied))
    save_hf(tmp_path, config, params_and_adapter(config)[0])
    assert {tensor.dtype for tensor in load_file(tmp_path / SINGLE).values()} == {torch.bfloat16}
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokens = random_tokens((2, 7))
    with torch.no_grad():
        want = theirs(torch.tensor(np.asarray(tokens))).logits.numpy()
    params = load(tmp_path)
    ours = decoder.logits(config, params, decoder.forward(config, params, None, tokens, *causal(2, 7)))
    np.testing.assert_allclose(ours, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_all_bad_tensors_in_one_error(copy: Path) -> None:
    tensors = load_file(copy / SINGLE)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(3)
    tensors["model.norm.weight"] = torch.zeros(47)
    tensors["model.layers.2.self_attn.k_norm.weight"] = torch.zeros(16, dtype=torch.int32)
    save_file(tensors, copy / SINGLE)
    with pytest.raises(UserError) as caught:
        load(copy)
    message = str(caught.value)
    assert "\n" not in message
    for words in (
        "missing model.layers.1.mlp.up_proj.weight",
        "unexpected model.layers.0.self_attn.q_proj.bias",
        "model.norm.weight is [47], not [48]",
        "model.layers.2.self_attn.k_norm.weight is I32",
    ):
        assert words in message


def test_a_duplicate_of_the_tied_head(copy: Path) -> None:
    expected = load(copy)
    tensors = load_file(copy / SINGLE)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, copy / SINGLE)
    jax.tree.map(np.testing.assert_array_equal, load(copy), expected)
    tensors["lm_head.weight"][5, 7] += 1
    save_file(tensors, copy / SINGLE)
    with pytest.raises(UserError, match="differs from the embedding"):
        load(copy)


def test_pieces_equal_the_whole(make_dir: MakeDir) -> None:
    directory = make_dir(tie_word_embeddings=False)
    config, whole = ModelConfig.from_dir(directory), load(directory)
    tensors = Tensors(directory, config)
    for name, stacked in whole["layers"].items():
        layers = [tensors.read(layer_tensor(layer, name)) for layer in range(config.num_hidden_layers)]
        np.testing.assert_array_equal(np.stack(layers), stacked)
    np.testing.assert_array_equal(tensors.read(NORM), whole["norm"])
    for name, table in ((EMBED, "embed"), (LM_HEAD, "lm_head")):
        ends = [0, 100, 200, config.vocab_size]
        pieces = [tensors.rows(name, start, end) for start, end in itertools.pairwise(ends)]
        np.testing.assert_array_equal(np.concatenate(pieces), whole[table])


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file(keep: int, copy: Path) -> None:
    content = (copy / SINGLE).read_bytes()
    (copy / SINGLE).write_bytes(content[:keep])
    with pytest.raises(UserError, match="damaged or cut short"):
        load(copy)


def test_missing_weights(copy: Path) -> None:
    (copy / SINGLE).unlink()
    with pytest.raises(UserError, match="fetch the model's weights"):
        load(copy)
    (copy / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": "1-of-2.safetensors"}}))
    with pytest.raises(UserError, match="lacks 1-of-2"):
        load(copy)
    (copy / INDEX).write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        load(copy)
