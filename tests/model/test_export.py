"""What is exported is, to transformers and peft, base and adapter together."""

from __future__ import annotations

import dataclasses
import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from constellation.model import port, weights
from constellation.model.config import ModelConfig
from constellation.model.export import divergence, prompt_logits, write_merged
from constellation.model.families import FAMILIES
from constellation.model.lora import Adapter
from constellation.model.model import SMALL_FILES, Model, load_model
from constellation.model.peft_format import save_peft
from constellation.model.port import INDEX, LM_HEAD, SINGLE
from constellation.runtime.errors import UserError
from tests.model.tiny import byte_tokenizer, params_and_adapter, reference, save
from third_party import model_reference
from third_party.comparison.logits import LeftPadded

MakeDir = Callable[..., Path]
PROMPTS = [np.random.default_rng(0).integers(0, 250, length).tolist() for length in (60, 9, 1)]


def adapter_of(source: Path) -> Adapter:
    return params_and_adapter(ModelConfig.from_dir(source))[1]


def export(
    source: Path,
    out: Path,
    quantization: str = "int4:16",
    dtype: str = "float32",
    shard_bytes: int = port.SHARD_BYTES,
    adapter: Adapter | None = None,
    base_dtype: str = "float32",
) -> None:
    leaves = weights.read_leaves(source, ModelConfig.from_dir(source), base_dtype, quantization)
    write_merged(source, out, leaves, adapter or adapter_of(source), dtype, shard_bytes)


def their_logits(directory: Path) -> np.ndarray:
    batch = LeftPadded.from_prompts(PROMPTS)
    return model_reference.logits(model_reference.load(directory), batch.ids, batch.attention)


def our_logits(model: Model, adapter: Adapter | None) -> np.ndarray:
    return prompt_logits(model, adapter, PROMPTS)


def check_equal(source: Path, out: Path, quantization: str, base_dtype: str = "float32") -> None:
    """transformers' logits of `out` are ours of `source` with the adapter, and not those of the base."""
    base, theirs = load_model(source, quantization, base_dtype), their_logits(out)
    ours = our_logits(base, adapter_of(source))
    largest = np.abs(ours).max()
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4 * min(largest, 1))
    assert np.abs(our_logits(base, None) - ours).max() > 0.1 * largest


@pytest.mark.parametrize("model_type", FAMILIES)
def test_transformers_gives_our_logits(model_type: str, tmp_path: Path) -> None:
    source, out = save(tmp_path / "base", reference(0, model_type), byte_tokenizer()), tmp_path / "out"
    export(source, out)
    check_equal(source, out, "int4:16")


@pytest.mark.parametrize(("tied", "base_dtype"), [(True, "float32"), (False, "bfloat16")])
def test_shards_and_an_int8_embedding(tied: bool, base_dtype: str, make_dir: MakeDir, tmp_path: Path) -> None:
    how, most = "int4:16:clip:int8_embedding", 60_000
    source, out = make_dir(tie_word_embeddings=tied), tmp_path / "out"
    export(source, out, how, shard_bytes=most, base_dtype=base_dtype)
    index = json.loads((out / INDEX).read_text())
    shards = {path.name: load_file(path) for path in out.glob("*.safetensors")}
    assert len(shards) > 2 and set(index["weight_map"].values()) == set(shards)
    assert all(name in shards[file] for name, file in index["weight_map"].items())
    sizes = [sum(tensor.nbytes for tensor in shard.values()) for shard in shards.values()]
    assert max(sizes) <= most and sum(sizes) == index["metadata"]["total_size"]
    assert (LM_HEAD in index["weight_map"]) is not tied
    small = {name for name in SMALL_FILES if (source / name).exists()}
    assert {path.name for path in out.iterdir()} == {INDEX, *small, *shards}
    check_equal(source, out, how, base_dtype)


def test_a_dense_base_is_merged_as_by_peft(model_dir: Path, tmp_path: Path) -> None:
    whole = adapter_of(model_dir)
    adapter = dataclasses.replace(
        whole, weights={name: whole.weights[name] for name in ("q_proj", "down_proj")}
    )
    export(model_dir, tmp_path / "out", quantization="", adapter=adapter)
    save_peft(tmp_path / "peft", ModelConfig.from_dir(model_dir), adapter, str(model_dir))
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, tmp_path / "peft").merge_and_unload().state_dict()
    ours = load_file(tmp_path / "out" / SINGLE)
    assert ours.keys() == theirs.keys() - {LM_HEAD}  # tied
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-6)


def test_a_ported_base_gives_the_same_file(model_dir: Path, tmp_path: Path) -> None:
    ported = tmp_path / "ported"
    leaves = port.leaves(model_dir, ModelConfig.from_dir(model_dir), "float32", "int4:16")
    described = {"quantization": "int4:16", "dtype": "float32", "hash": ""}
    weights.write_ported(model_dir, SMALL_FILES, ported, leaves, described)
    for name, source in (("a", model_dir), ("b", ported)):
        export(source, tmp_path / name)
    assert (tmp_path / "a" / SINGLE).read_bytes() == (tmp_path / "b" / SINGLE).read_bytes()
    with pytest.raises(UserError, match="give the Hugging Face directory"):
        export(ported, tmp_path / "c", quantization="")


@pytest.mark.parametrize("spelling", ["dtype", "torch_dtype"])
def test_the_dtype_is_that_of_the_tensors(spelling: str, model_dir: Path, tmp_path: Path) -> None:
    source, out = Path(shutil.copytree(model_dir, tmp_path / "base")), tmp_path / "out"
    fields = json.loads((source / "config.json").read_text())
    fields[spelling] = fields.pop("dtype")
    (source / "config.json").write_text(json.dumps(fields))
    export(source, out, dtype="bfloat16")
    assert json.loads((out / "config.json").read_text()) == fields | {spelling: "bfloat16"}
    export(source, tmp_path / "exact")
    exact = load_file(tmp_path / "exact" / SINGLE)
    for name, tensor in load_file(out / SINGLE).items():
        assert torch.equal(tensor, exact[name].bfloat16())
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.bfloat16


def test_nothing_is_overwritten(model_dir: Path, tmp_path: Path) -> None:
    kept = tmp_path / "out" / "kept"
    kept.parent.mkdir()
    kept.write_text("mine")
    for taken in (kept.parent, kept):
        with pytest.raises(UserError, match="is not empty: give another --out"):
            export(model_dir, taken)
    assert list(kept.parent.iterdir()) == [kept] and kept.read_text() == "mine"


def test_what_fails_half_way_can_be_given_again(model_dir: Path, tmp_path: Path) -> None:
    config, out = ModelConfig.from_dir(model_dir), tmp_path / "out"
    seen = []

    def fails():
        yield from list(weights.read_leaves(model_dir, config, "float32"))[:3]
        seen.extend(path.name for path in out.iterdir())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_merged(model_dir, out, fails(), adapter_of(model_dir), "float32", shard_bytes=10_000)
    assert "model-00001.unfinished" in seen
    assert not {SINGLE, INDEX, "config.json"} & set(seen)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(UserError, match="no space left for"):
            export(model_dir, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    export(model_dir, out)
    load_model(out)


def test_divergence() -> None:
    ours, theirs = np.log(np.array([[[0.5, 0.5], [0.9, 0.1]], [[0.25, 0.75], [0.9, 0.1]]], np.float32))
    expected = (0.5 * np.log(2) + 0.5 * np.log(2 / 3)) / 2
    assert divergence(ours + 3, theirs) == pytest.approx(expected, rel=1e-6)
