"""Two tiny models that differ in one thing, as directories, and what both sides load of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from constellation.model.tokenizer import Tokenizer
from tests.model.tiny import byte_tokenizer, reference, save
from third_party.comparison.logits import LeftPadded, task_prompts

# Widths that groups of 32 divide.
FIELDS = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}


@pytest.fixture(scope="session")
def make_dir(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make_dir(perturbed=None, **config_fields): a directory; one tensor may be a little different."""

    def make(perturbed: str | None = None, **fields: Any) -> Path:
        directory = tmp_path_factory.mktemp("model")
        model, tokenizer = reference(**FIELDS | fields), byte_tokenizer()
        if perturbed is not None:
            with torch.no_grad():
                model.state_dict()[perturbed].flatten()[0] += 0.05
        return save(directory, model, tokenizer)

    return make


@pytest.fixture(scope="session")
def model_dir(make_dir: Callable[..., Path]) -> Path:
    return make_dir()


@pytest.fixture(scope="session")
def batch(model_dir: Path) -> LeftPadded:
    return task_prompts(Tokenizer.from_dir(model_dir, 272))
