"""The command that makes the nano base."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from constellation.model.model import check_model
from tests.tiny_study import ROOT

CONFIG = ROOT / "configs" / "nano_pretrain.py"
FLAGS = [
    f"--config={CONFIG}:quick",
    "--config.model.hidden_size=32",
    "--config.model.num_hidden_layers=1",
    "--config.model.num_attention_heads=2",
    "--config.model.num_key_value_heads=1",
    "--config.model.head_dim=16",
    "--config.model.intermediate_size=64",
    "--config.corpus.domains.trapdoor.tasks_per_shard=32",
    "--config.batch_size=8",
    "--config.checkpoint_every=2",
]


@pytest.fixture(scope="module")
def pretrained(run_all, tmp_path_factory):
    """The workdir, how the program ended, and how it ended on the same workdir with mistakes."""
    workdir = tmp_path_factory.mktemp("pretraining")
    command = ["launch.pretrain", *FLAGS, f"--workdir={workdir}"]
    mistakes = ["--config.learning_rate=0.5"], ["--config.corpus.shard=3"], ["--config=configs/none.py"]
    result, *refused = run_all(command, *([*command, *mistake] for mistake in mistakes))
    return workdir, result, refused


def test_writes_a_model_that_the_study_accepts(pretrained):
    workdir, result, _ = pretrained
    assert result.code == 0, result.stderr
    model = workdir / "model"
    assert check_model(model, "int4:32")
    names = {path.name for path in model.iterdir()}
    assert {"tokenizer.json", "generation_config.json", "training_skeletons.txt"} <= names
    weights = load_file(model / "model.safetensors")
    assert all(np.isfinite(np.asarray(tensor, np.float32)).all() for tensor in weights.values())
    assert "pretraining  " in result.stderr and "steps" in result.stderr


def test_a_mistake_is_one_line(pretrained):
    _, _, refused = pretrained
    messages = (
        "holds a run with another recipe; give another --workdir, or set the config back",
        "unknown config field 'corpus.shard'; did you mean 'corpus.shards'?",
        "unknown config file 'configs/none.py'",
    )
    for result, message in zip(refused, messages, strict=True):
        assert (result.code, result.stdout) == (2, "")
        assert message in result.stderr and result.stderr.count("\n") == 1
