"""Model directories for the tests of this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from tests.model.tiny import byte_tokenizer, reference


@pytest.fixture(scope="session")
def make_dir(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make_dir(seed=0, shard="10GB", **config_fields): a fresh directory as transformers writes it."""

    def make(seed: int = 0, shard: str = "10GB", **fields: Any) -> Path:
        directory = tmp_path_factory.mktemp("model")
        tokenizer = byte_tokenizer()
        stop_ids = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
        model = reference(seed, **fields)
        model.generation_config = GenerationConfig(eos_token_id=stop_ids, pad_token_id=stop_ids[1])
        model.save_pretrained(directory, max_shard_size=shard)
        tokenizer.save_pretrained(directory)
        return directory

    return make


@pytest.fixture(scope="session")
def model_dir(make_dir: Callable[..., Path]) -> Path:
    """One directory for the tests that only read it."""
    return make_dir()
