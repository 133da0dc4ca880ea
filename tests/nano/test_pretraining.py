"""Pretraining continues where it was stopped, to the same weights; a step is that of torch."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
import torch
from ml_collections import ConfigDict
from transformers import AutoModelForCausalLM

from constellation import checkpoints
from constellation.domains.domain import ANOTHER, load_domain
from constellation.domains.task import read_tasks, split
from constellation.domains.trapdoor import DOMAIN
from constellation.domains.trapdoor.pretraining import PRETRAINING
from constellation.model.config import ModelConfig
from constellation.model.decoder import init_params
from constellation.model.port import save_hf
from constellation.model.weights import load_params
from constellation.nano.answers import Answer
from constellation.nano.corpus import Corpus
from constellation.nano.pretraining import SKELETONS, PretrainingBatch, Views, make_train_step, pretrain
from constellation.nano.tokenizer import NANO, STYLES, build_tokenizer
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
    "corpus.domains.trapdoor.tasks_per_shard": 16,
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
    mixture = config().corpus.domains.trapdoor.mixture.to_dict()
    corpora = {"trapdoor": Corpus(tmp_path, PRETRAINING.sources, mixture, 16)}
    views = Views(config(), build_tokenizer(PRETRAINING), NANO, {"trapdoor": DOMAIN}, corpora)

    def batches(first: int):
        return [batch.tokens.tolist() for batch in views.batches_from(first)]

    every = batches(0)
    assert len(every) == 8 and every[:2] != every[2:4]  # a second view shows other examples
    for first in range(1, 9):
        assert batches(first) == every[first:]


def test_several_domains_are_mixed_in_every_view(tmp_path):
    """A batch holds documents of one domain; weights are those of answers, and of outputs where alone."""
    peer = load_config(str(ROOT / "configs/peers_pretrain.py:llama"), [])
    domains = {name: load_domain(name) for name in peer.corpus.domains}
    languages = [domain.pretraining for domain in domains.values()]
    style = STYLES[peer.style]
    tokenizer = build_tokenizer(*languages, style=style)
    corpora = {
        name: Corpus(
            tmp_path / name, domain.pretraining.sources, peer.corpus.domains[name].mixture.to_dict(), 64
        )
        for name, domain in domains.items()
    }
    views = Views(peer, tokenizer, style, domains, corpora)
    tasks = {name: list(next(corpus.shards(0, 1))) for name, corpus in corpora.items()}
    batches = views.view(tasks, random.Random(0))
    assert len(batches) == views.batches == 2
    texts = [
        [tokenizer.decode(row.tolist(), skip_special_tokens=False) for row in batch.tokens]
        for batch in batches
    ]
    arrows = [sum('" -> "' in text for text in rows) for rows in texts]
    assert sorted(arrows) == [0, 64]
    for rows, batch in zip(texts, batches, strict=True):
        for text, tokens, weight in zip(rows, batch.tokens, batch.weight, strict=True):
            learnt = tokenizer.decode(tokens[weight == 1].tolist(), skip_special_tokens=False)
            assert learnt.endswith(style.end) and not text.rpartition(learnt)[2].replace(style.pad, "")
            if "Another answer" in text or "right?" in text:
                assert set(np.unique(weight)) == {0.0, 1.0}


def test_a_domain_without_a_corpus_is_refused(tmp_path):
    other = config()
    with other.unlocked():
        other.corpus.domains["words"] = other.corpus.domains.trapdoor
    with pytest.raises(UserError, match=r"config\.domain = 'words' is no domain"):
        pretrain(other, str(tmp_path))


CONFIG = ModelConfig(
    vocab_size=40,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    rms_norm_eps=1e-6,
    rope_theta=10_000.0,
    tie_word_embeddings=True,
)


def test_a_step_is_that_of_torch(tmp_path: Path) -> None:
    save_hf(tmp_path, CONFIG, init_params(CONFIG, jax.random.key(0), std=0.2))
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 40, (6, 12)).astype(np.int32)
    weight = rng.choice([0.0, 0.1, 1.0], (6, 12)).astype(np.float32)
    weight[:, 0] = 0

    reference = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.5)
    logits = reference(torch.from_numpy(tokens).long()).logits[:, :-1]
    targets, weights = torch.from_numpy(tokens[:, 1:]).long(), torch.from_numpy(weight[:, 1:])
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    loss = (losses * weights).sum() / weights.sum()
    loss.backward()
    optimizer.step()
    reference.save_pretrained(tmp_path / "after")
    hits = (logits.argmax(-1) == targets)[weights == 1].float().mean()

    params = load_params(tmp_path, CONFIG, np.float32)
    sgd = optax.sgd(0.5)
    step = make_train_step(CONFIG, sgd)
    params, _, metrics = step(params, sgd.init(params), PretrainingBatch(tokens, weight))
    assert np.isclose(metrics["loss"], loss.item(), rtol=1e-5)
    assert np.isclose(metrics["answer_accuracy"], hits.item())
    expected = load_params(tmp_path / "after", CONFIG, np.float32)
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> Path:
    """Two tiny models."""
    root = tmp_path_factory.mktemp("bases")
    for seed in (0, 1):
        pretrain(equations(seed=seed), str(root / f"{seed}"))
    return root


def equations(**fields):
    config_ = config(**fields)
    with config_.unlocked():
        section = config_.corpus.domains.trapdoor.copy_and_resolve_references()
        section.mixture = ConfigDict({"level1": 1.0})
        section.visible = ConfigDict({"1": 1.0})
        config_.corpus.domains = ConfigDict({"equations": section})
    return config_


def reading(bases: Path, **fields):
    """Goes on from the first of them, and reads both."""
    reads = {
        "start": str(bases / "0/model"),
        "answers.models": f"{bases / '0/model'},{bases / '1/model'}",
        "answers.domains": "equations",
        "answers.temperatures": "0.0,1.0",
        "answers.max_new_tokens": 24,
    }
    config_ = equations(**(reads | {name.replace("__", "."): value for name, value in fields.items()}))
    with config_.unlocked():
        config_.corpus.domains.equations.kinds = ConfigDict({"behind": 0.5, "judged": 0.5})
    return config_


@pytest.fixture(scope="module")
def read(bases, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("read")
    pretrain(reading(bases), str(workdir))
    return workdir


def stored(workdir: Path, kind: str) -> list[Path]:
    return sorted(workdir.glob(f"shards/equations-*/{kind}-*.jsonl"))


def test_the_models_answers_are_stored_with_a_judges_word(read):
    domain = load_domain("equations")
    assert len(stored(read, "answers")) == 2
    for shard, answers in zip(stored(read, "shard"), stored(read, "answers"), strict=True):
        for task, line in zip(read_tasks(shard), answers.read_text().splitlines(), strict=True):
            found = [Answer(*answer) for answer in json.loads(line)]
            assert [answer[:2] for answer in found] == [(0, -1), (1, -1), (0, 1), (1, 0)]
            for answer in found:
                right = domain.verdict(task, split(task, 0), answer.text).right
                assert answer.right == (right and answer.finished)


class ByHand:
    """Answers to every task: the first model's are wrong, the second's right."""

    def shard(self, index, tasks):
        return [
            [Answer(0, -1, "answer 1111", True, False), Answer(1, -1, task.program, True, True)]
            for task in tasks
        ]


def test_a_peer_reads_the_others_and_judges_itself_too(bases, tmp_path):
    config_, domain = reading(bases), load_domain("equations")
    tokenizer = build_tokenizer(domain.pretraining)
    corpora = {"equations": Corpus(tmp_path, domain.pretraining.sources, {"level1": 1.0}, 16)}
    views = Views(config_, tokenizer, NANO, {"equations": domain}, corpora, {"equations": ByHand()})
    texts = [
        tokenizer.decode(row.tolist(), skip_special_tokens=False)
        for batch in views.batches_from(0)
        for row in batch.tokens
    ]
    judged = ["right?" in text for text in texts]
    assert len(texts) == 64 and 10 < sum(judged) < 54
    for text, is_judged in zip(texts, judged, strict=True):
        if is_judged:
            assert ("1111" in text) == ("no" in text.rpartition("right?")[2])
        else:
            assert ANOTHER.strip() in text and "1111" not in text
    assert any("1111" in text for text in texts)


def test_goes_on_from_the_weights_of_its_start_and_adds_its_skeletons(bases, read, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(bases / "0/model", base)
    (base / SKELETONS).write_text("another skeleton\n")
    models = f"{base},{bases / '1/model'}"
    still = reading(bases, learning_rate=0.0, start=str(base), answers__models=models)
    pretrain(still, str(tmp_path / "still"))
    weights = [path / "model.safetensors" for path in (base, tmp_path / "still/model", read / "model")]
    first, second, trained = (path.read_bytes() for path in weights)
    assert first == second != trained
    assert "another skeleton" in (tmp_path / "still/model" / SKELETONS).read_text().splitlines()


DEVICES = """
import sys
from pathlib import Path
from tests.nano.test_pretraining import pretrain, reading
bases = Path(sys.argv[1])
pretrain(reading(bases), str(bases / "devices"))
"""


def test_going_on_takes_several_devices(bases, virtual_devices):
    """A step is data-parallel over all devices, as under launch/pretrain.py."""
    command = [sys.executable, "-c", DEVICES, str(bases)]
    subprocess.run(command, cwd=ROOT, env=virtual_devices(2), check=True)
    assert (bases / "devices/model/model.safetensors").exists()


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"model.intermediate_size": 32}, r"config\.start = .* has another shape than config\.model"),
        ({"answers.models": "", "start": ""}, r"config\.answers\.models = \(\) must be set with"),
        ({"answers.domains": "trapdoor"}, r"config\.answers\.domains = .* must be among .*: equations"),
        ({"answers.temperatures": ""}, r"config\.answers\.temperatures = \(\) must be one temperature"),
        ({"start": ""}, r"config\.start = '' must be one of config\.answers\.models"),
        ({"start": "none", "answers.models": "none"}, r"config\.start: there is no none; make it first"),
    ],
)
def test_a_mistake_in_what_is_read_is_refused(bases, tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        pretrain(reading(bases, **fields), str(tmp_path / "refused"))
    assert not (tmp_path / "refused/model").exists()
