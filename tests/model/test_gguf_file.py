"""GGUF files against the directory that they were made of, and against transformers' reading of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Quantised
from transformers import AutoModelForCausalLM, AutoTokenizer

from constellation.model.config import SLIDING, ModelConfig
from constellation.model.gguf_file import MODEL_TYPES, QUANTISATIONS
from constellation.model.model import SMALL_FILES, check_model, load_model
from constellation.model.port import leaves, open_tensors, tensor_shapes
from constellation.model.published import write_directory
from constellation.model.rope import RopeScaling
from constellation.model.weights import load_params, write_ported
from constellation.runtime.errors import UserError
from tests.model.tiny import byte_tokenizer, reference, save, tiny_config
from tests.model.tiny_gguf import write_gguf

# What a file does not say: scores are scaled by the size of a head, every sixth layer is global.
FIELDS: dict[str, dict[str, Any]] = {
    "llama": {"rope_scaling": RopeScaling("llama3", 8.0, 8192, low_freq_factor=1.0, high_freq_factor=4.0)},
    "gemma2": {"query_pre_attn_scalar": 16},
    "gemma3_text": {"query_pre_attn_scalar": 16, "layer_types": (SLIDING,) * 3},
}
WIDE = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64}  # blocks of 256 weights fit in a row
MESSAGES = [{"role": "user", "content": "abc a 12\u00e9"}]


def write(directory: Path, model_type: str = "llama", **how: Any) -> Path:
    """A tiny model as a GGUF file."""
    fields = FIELDS.get(model_type, {}) | how.pop("fields", {})
    model, config = reference(0, model_type, **fields), tiny_config(model_type, **fields)
    return write_gguf(directory / "model.gguf", model, config, byte_tokenizer(), **how)


@pytest.mark.parametrize("model_type", MODEL_TYPES.values())
def test_a_file_is_the_model_it_was_made_of(model_type: str, tmp_path: Path) -> None:
    model = reference(0, model_type, **FIELDS.get(model_type, {}))
    directory, file = save(tmp_path / "hf", model, byte_tokenizer()), write(tmp_path, model_type)
    config = ModelConfig.from_dir(file)
    assert config == ModelConfig.from_dir(directory) == tiny_config(model_type, **FIELDS.get(model_type, {}))
    theirs, ours = (load_params(path, config, jnp.float32) for path in (directory, file))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-7), ours, theirs)
    check_model(file)
    one, other = load_model(file, weights=False), load_model(directory, weights=False)
    assert one.chat(MESSAGES) == other.chat(MESSAGES)
    assert one.chat(MESSAGES, thinking=True) != one.chat(MESSAGES)  # the template is there, with its switch
    assert one.stop_ids == other.stop_ids


@pytest.mark.parametrize("model_type", MODEL_TYPES.values())
def test_transformers_loads_what_is_written_of_a_file(model_type: str, tmp_path: Path) -> None:
    write_directory(write(tmp_path, model_type), tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="float32").eval()
    original, ids = reference(0, model_type, **FIELDS.get(model_type, {})), torch.arange(60)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, original(ids).logits, rtol=0, atol=1e-5)
    assert model.config.max_position_embeddings == 512


@pytest.mark.parametrize("model_type", ["llama", "gemma2"])
def test_every_quantisation_is_read_as_transformers_reads_it(model_type: str, tmp_path: Path) -> None:
    file = write(tmp_path, model_type, fields=WIDE, types=QUANTISATIONS)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, dtype="float32").state_dict()
    config = ModelConfig.from_dir(file)
    tensors = open_tensors(file, config)
    for name in tensor_shapes(config):
        np.testing.assert_array_equal(tensors.read(name), theirs[name].numpy(), err_msg=name)
    name = "model.layers.0.self_attn.q_proj.weight"
    np.testing.assert_array_equal(tensors.rows(name, 3, 5), theirs[name].numpy()[3:5])


def test_its_tokenizer_is_transformers(tmp_path: Path) -> None:
    file = write(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file=file.name)
    ours = load_model(file, weights=False)
    for text in ("abc a 12\u00e9", "<|im_start|>user\n", "  \n", ""):
        assert ours.tokenizer.encode(text) == theirs.encode(text, add_special_tokens=False)
    conversation = [*MESSAGES, {"role": "assistant", "content": "b"}, *MESSAGES]
    rendered = theirs.apply_chat_template(
        conversation, add_generation_prompt=True, enable_thinking=False, return_dict=False
    )
    assert ours.chat(conversation) == rendered


def test_a_ported_file_is_the_same_model(tmp_path: Path) -> None:
    file, out = write(tmp_path), tmp_path / "ported"
    config, how = ModelConfig.from_dir(file), ("int4:16", "float32")
    described = {"quantization": how[0], "dtype": how[1], "hash": check_model(file, *how)}
    weights = leaves(file, config, jnp.float32, "int4:16")
    write_ported(file, SMALL_FILES, out, weights, described)
    one, other = load_model(file, "int4:16"), load_model(out, "int4:16")
    assert one.config == other.config and one.hash == other.hash and one.stop_ids == other.stop_ids
    assert one.chat(MESSAGES) == other.chat(MESSAGES)
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"llama.expert_count": 8}, "expert_count = 8"),
        ({"llama.rope.dimension_count": 8}, "rope.dimension_count = 8"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "lacks rms_norm_eps"),
        ({"general.architecture": "mamba"}, "the architecture is 'mamba'"),
        ({"tokenizer.ggml.eos_token_id": None, "tokenizer.ggml.eot_token_id": None}, "ends an answer"),
        ({"tokenizer.ggml.eos_token_id": 10**6}, "not readable by transformers"),
        ({"tokenizer.ggml.eot_token_id": 10**6}, "ends an answer"),
        ({"tokenizer.chat_template": None}, "no chat template"),
        ({"tokenizer.ggml.model": "bert"}, "not readable by transformers"),
        ({"llama.embedding_length": 64}, "embed_tokens.weight is \\[272, 48\\], not \\[272, 64\\]"),
        ({"llama.embedding_length": "wide"}, "hidden_size = 'wide' is not a valid int"),
        ({"llama.rope.freq_base": 5e5}, "rope_freqs.weight is not Llama 3's"),
    ],
)
def test_what_a_file_may_not_say(metadata: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        check_model(write(tmp_path, metadata=metadata))


def test_a_quantisation_that_is_not_read(tmp_path: Path) -> None:
    file = write(tmp_path, fields=WIDE, types=(Quantised.TQ2_0,))
    with pytest.raises(UserError, match="is quantised as TQ2_0: use one of F32"):
        check_model(file)
    content = bytearray(file.read_bytes())
    at = content.index(b"blk.0.attn_q.weight") + len(b"blk.0.attn_q.weight") + 4 + 2 * 8
    content[at] = 99
    file.write_bytes(content)
    with pytest.raises(UserError, match="unknown quantisation: use one of F32"):
        check_model(file)


def test_a_damaged_file(tmp_path: Path) -> None:
    file = write(tmp_path)
    content = file.read_bytes()
    for length in (0, 3, 30, 300, 3_000, len(content) // 2, len(content) - 40):
        file.write_bytes(content[:length])
        with pytest.raises(UserError, match="damaged or cut short"):
            check_model(file)
    file.unlink()
    with pytest.raises(UserError, match="not found"):
        check_model(file)


def test_a_length_beyond_the_files_end(tmp_path: Path) -> None:
    """It would take years to count to it."""
    file = write(tmp_path)
    content = bytearray(file.read_bytes())
    at = content.index(b"tokenizer.ggml.token_type") + len(b"tokenizer.ggml.token_type") + 8
    content[at : at + 8] = (2**60).to_bytes(8, "little")
    file.write_bytes(content)
    with pytest.raises(UserError, match="damaged or cut short"):
        check_model(file)
