"""Pretraining continues where it was stopped, to the same weights."""

from __future__ import annotations

import pytest

from constellation import checkpoints
from constellation.domains.trapdoor.pretraining import PRETRAINING
from constellation.nano import pretraining as nano_base
from constellation.nano.corpus import Corpus
from constellation.nano.pretraining import pretrain
from constellation.nano.tokenizer import build_tokenizer
from constellation.runtime.errors import UserError
from constellation.runtime.progress import read_metrics
from launch.common import load_config
from tests.tiny_study import ROOT

SMALL = {
    "model.hidden_size": 32,
    "model.num_hidden_layers": 1,
    "model.num_attention_heads": 2,
    "model.num_key_value_heads": 1,
    "model.head_dim": 16,
    "model.intermediate_size": 64,
    "corpus.shards": 2,
    "corpus.tasks_per_shard": 16,
    "corpus.views": 2,
    "batch_size": 8,
    "checkpoint_every": 3,
}


def config(**fields):
    changed = SMALL | {name.replace("__", "."): value for name, value in fields.items()}
    overrides = [f"--config.{name}={value}" for name, value in changed.items()]
    return load_config(str(ROOT / "configs/nano_pretrain.py:quick"), overrides)


def test_a_stopped_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    """Eight steps; stopped at the second checkpoint, in the middle of a view of the second shard."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    pretrain(config(), str(whole))
    assert checkpoints.steps(whole / "checkpoint")[-1] == 8

    save, saved = checkpoints.save, []

    def save_once(directory, step, tree, metadata):
        if saved:
            raise KeyboardInterrupt
        saved.append(step)
        save(directory, step, tree, metadata)

    monkeypatch.setattr(checkpoints, "save", save_once)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config(), str(stopped))
    monkeypatch.undo()
    assert checkpoints.steps(stopped / "checkpoint") == [3]
    pretrain(config(), str(stopped))
    for file in (path.name for path in (whole / "model").iterdir()):
        assert (stopped / "model" / file).read_bytes() == (whole / "model" / file).read_bytes(), file
    assert read_metrics(stopped / "metrics") == read_metrics(whole / "metrics")
    assert (stopped / "pretraining.png").read_bytes().startswith(b"\x89PNG")

    with pytest.raises(UserError, match="another recipe"):
        pretrain(config(learning_rate=0.5), str(whole))


def test_a_loss_that_is_not_finite_is_found_by_the_last_step(tmp_path):
    with pytest.raises(UserError, match="the loss is nan at step 8"):
        pretrain(config(learning_rate=1e30, warmup_steps=0), str(tmp_path))
    assert not (tmp_path / "model").exists()


def test_batches_go_on_at_any_step(tmp_path):
    """The batches from step n on are the last ones of all batches."""
    tokenizer = build_tokenizer(PRETRAINING)
    corpus = Corpus(tmp_path, PRETRAINING.sources, config().corpus.mixture.to_dict(), 16)

    def batches(first: int):
        return [batch.tokens.tolist() for batch in nano_base._batches(config(), tokenizer, corpus, first)]

    every = batches(0)
    assert len(every) == 8 and every[:2] != every[2:4]  # a second view shows other examples
    for first in range(1, 9):
        assert batches(first) == every[first:]


def test_a_domain_without_a_corpus_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"'tests\.reverse_words' has nothing to pretrain on"):
        pretrain(config(domain="tests.reverse_words"), str(tmp_path))
