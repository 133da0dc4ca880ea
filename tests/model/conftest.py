"""Model directories for the tests of this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.model.tiny import byte_tokenizer, reference, save


@pytest.fixture(scope="session")
def make_dir(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make_dir(seed=0, shard="10GB", **config_fields): a fresh directory as transformers writes it."""

    def make(seed: int = 0, shard: str = "10GB", **fields: Any) -> Path:
        return save(tmp_path_factory.mktemp("model"), reference(seed, **fields), byte_tokenizer(), shard)

    return make


@pytest.fixture(scope="session")
def model_dir(make_dir: Callable[..., Path]) -> Path:
    """One directory for the tests that only read it."""
    return make_dir()
