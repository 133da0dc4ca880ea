"""Random checkpoints have the layout that transformers reads and that Qwen3's directories have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from constellation.model import decoder
from constellation.model.model import load_model
from constellation.model.port import INDEX
from constellation.runtime.errors import UserError
from tests.model.test_config import QWEN3_4B
from tests.model.tiny import causal
from tests.tiny_study import ROOT
from third_party.random_model import FIRST_SPECIAL, published_fields, write_random_checkpoint

NARROW: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real vocabulary, two narrow layers, in small shards."""
    directory = tmp_path_factory.mktemp("random") / "model"
    fields = published_fields("4B", layers=2) | NARROW
    write_random_checkpoint(directory, fields, ["the quick brown fox", "the lazy dog"], shard_bytes=20_000)
    return directory


def test_published_fields_are_those_of_the_4b() -> None:
    fields = published_fields("4B")
    assert {name: QWEN3_4B[name] for name in fields if name in QWEN3_4B} == fields
    with pytest.raises(UserError, match="4B-2507"):
        published_fields("5B")


def test_transformers_reads_it_and_agrees(written: Path) -> None:
    index = json.loads((written / INDEX).read_text())
    files = sorted(path.name for path in written.glob("*.safetensors"))
    assert len(files) > 2 and sorted(set(index["weight_map"].values())) == files
    theirs = AutoModelForCausalLM.from_pretrained(written, dtype=torch.float32)
    assert index["metadata"]["total_size"] == 2 * sum(p.numel() for p in theirs.parameters())
    model = load_model(written)
    tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, (2, 7))
    hidden = decoder.forward(model.config, model.params, None, jnp.asarray(tokens), *causal(2, 7))
    with torch.no_grad():
        want = theirs(torch.tensor(tokens)).logits.numpy()
    ours = decoder.logits(model.config, model.params, hidden)
    np.testing.assert_allclose(ours, want, rtol=0, atol=1e-4 * np.abs(want).max())


def test_the_tokenizer_has_qwens_ids_and_template(written: Path) -> None:
    model, theirs = load_model(written), AutoTokenizer.from_pretrained(written)
    assert model.stop_ids == (FIRST_SPECIAL + 2, FIRST_SPECIAL) == (151_645, 151_643)
    assert model.tokenizer.size == 151_669
    assert len(model.tokenizer.encode(" quick")) < len(" quick")
    user, answer = (
        {"role": "user", "content": "fox"},
        {"role": "assistant", "content": "<think>\nx\n</think>\n\ndog"},
    )
    asked = theirs.decode(model.tokenizer.chat([user]))
    assert asked == "<|im_start|>user\nfox<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    thinking = theirs.decode(model.tokenizer.chat([user], enable_thinking=True))
    assert thinking == "<|im_start|>user\nfox<|im_end|>\n<|im_start|>assistant\n"
    continued = theirs.decode(model.tokenizer.chat([user, answer, user]))
    assert "<|im_start|>assistant\ndog<|im_end|>\n" in continued


def test_the_seed_decides_and_files_are_safe(written: Path, tmp_path: Path) -> None:
    fields = published_fields("0.6B", layers=1) | NARROW | {"vocab_size": 300}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_random_checkpoint(tmp_path / name, fields, ["ab"], seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c
    with pytest.raises(UserError, match="not empty"):
        write_random_checkpoint(tmp_path / "a", fields, ["ab"])


def test_the_program(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(published_fields("8B") | NARROW | {"vocab_size": 2000}))
    command = [sys.executable, "-m", "launch.make_random_checkpoint", f"--config_json={config}", "--layers=2"]
    subprocess.run([*command, f"--out={tmp_path / 'out'}"], cwd=ROOT, check=True, capture_output=True)
    model = load_model(tmp_path / "out", "int4:16")
    assert model.config.num_hidden_layers == 2 and "lm_head" in model.params
    config.write_text("[]")
    refused = subprocess.run(
        [*command, f"--out={tmp_path / 'other'}"], cwd=ROOT, capture_output=True, text=True
    )
    assert refused.returncode == 2 and "no JSON object" in refused.stderr
