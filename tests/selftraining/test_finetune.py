"""The training loop: an interrupted one ends like one that was not, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from constellation import checkpoints
from constellation.domains.task import Example, Split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.model.lora import Adapter, init_adapter, stack
from constellation.model.model import Generator, Model, load_model
from constellation.model.score import BATCHING, log_prob
from constellation.runtime.errors import UserError
from constellation.runtime.keys import Address, fold
from constellation.runtime.progress import read_metrics
from constellation.selftraining import finetune as module
from constellation.selftraining.batches import TrainingExample
from constellation.selftraining.finetune import TrainingConfig, finetune, load_adapter
from constellation.selftraining.star import generator_example
from tests.tiny_study import write_tiny_model

UPDATES = 5
TRAINING = TrainingConfig(
    updates=UPDATES,
    batch_size=2,
    learning_rate=0.01,
    clip_norm=1.0,
    weight_decay=0.0,
    remat=False,
    checkpoint_every=2,
)
ADDRESS = Address(0, "batches", "test")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return load_model(write_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def pool(model):
    def example(text: str, *programs: str):
        return generator_example(model, trapdoor, Split((Example((text,), text.upper()),), ()), programs)

    return [example("a", "Upper(x)"), example("bc", "x", "Upper(x)"), example("d", "Lower(x)")]


def fresh(model: Model) -> Adapter:
    return init_adapter(model.config, fold(0, "adapter"), rank=2, alpha=4)


def train(model, pool, directory: Path, training=TRAINING, address=ADDRESS):
    generator = Generator(model, stack([fresh(model)]))
    return finetune(generator, [pool], training, address, directory, {"name": "test"})[0]


@pytest.fixture(scope="module")
def trained(model, pool, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("trained")
    train(model, pool, directory)
    return directory


def same(one, other) -> bool:
    leaves = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(leaves[0]) == len(leaves[1]) and all(map(np.array_equal, *leaves))


def test_trajectories_train_as_each_would_alone(model, pool, trained, tmp_path):
    pools, together = [pool, pool[1:], []], Generator(model, stack([fresh(model)] * 3))
    metadata = {"name": "test"}
    each = finetune(together, pools, TRAINING, ADDRESS, tmp_path / "all", metadata)
    assert [one["updates"] for one in each] == [UPDATES, UPDATES, 0]
    train(model, pools[1], tmp_path / "alone", address=replace(ADDRESS, replicate=1))
    for trajectory, alone in enumerate((trained, tmp_path / "alone")):
        found, wanted = load_adapter(tmp_path / "all", trajectory)[0], load_adapter(alone)[0]
        for one, other in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    assert same(load_adapter(tmp_path / "all", 2)[0].weights, fresh(model).weights)
    rows = read_metrics(tmp_path / "all" / "metrics")
    losses = [row["loss"] for row in read_metrics(trained / "metrics")]
    np.testing.assert_allclose([row["loss_0"] for row in rows], losses, rtol=1e-4)
    with pytest.raises(UserError, match="0 to 2"):
        load_adapter(tmp_path / "all", 3)


def test_the_pool_is_learnt(model, pool, trained):
    losses = [row["loss"] for row in read_metrics(trained / "metrics")]
    assert [row["step"] for row in read_metrics(trained / "metrics")] == [1, 2, 3, 4, 5]
    assert losses[0] == pytest.approx(np.log(model.config.vocab_size), abs=0.1)  # of random weights
    assert losses[-1] < losses[0] - 0.1
    adapter, metadata = load_adapter(trained)
    assert adapter.scale == 2.0 and metadata == {
        "name": "test",
        "scale": 2.0,
        "addresses": [[0, "batches", "test", 0]],
    }
    assert not same(adapter.weights, fresh(model).weights)
    assert same(adapter.weights, load_adapter(trained / "adapter")[0].weights)


def test_prompts_of_one_beginning_have_the_loss_that_scoring_gives(model, tmp_path):
    """The beginning is computed once a batch; `log_prob` is told to compute it in every row."""
    rng = np.random.default_rng(0)
    beginning = rng.integers(0, model.config.vocab_size, 80)
    prompts = [np.append(beginning, rng.integers(0, model.config.vocab_size, size)) for size in (3, 9, 5)]
    answers = [[rng.integers(0, model.config.vocab_size, 6) for _ in range(count)] for count in (1, 3, 2)]
    pool = [
        TrainingExample(prompt, tuple(own), (0,) * len(own))
        for prompt, own in zip(prompts, answers, strict=True)
    ]
    train(model, pool, tmp_path, replace(TRAINING, updates=1, batch_size=len(pool)))
    generator, apart = Generator(model, stack([fresh(model)])), BATCHING._replace(shared_tokens=1000)
    (scores,) = log_prob(generator, [prompts], [answers], apart)
    (row,) = read_metrics(tmp_path / "metrics")
    assert row["loss"] == pytest.approx(-np.concatenate(scores).sum() / 36, rel=1e-5)


@pytest.mark.parametrize("saved", [0, 1, 2])
def test_an_interrupted_training_ends_the_same(model, pool, trained, tmp_path, monkeypatch, saved):
    """Stopped before its first checkpoint, between two, and before its last."""
    left = iter(range(saved))

    def save_some(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        checkpoints.save(*arguments)

    monkeypatch.setattr(module, "checkpoints", _with(checkpoints, save=save_some))
    with pytest.raises(KeyboardInterrupt):
        train(model, pool, tmp_path)
    monkeypatch.undo()
    assert max(checkpoints.steps(tmp_path / "adapter"), default=0) == 2 * saved

    steps = []
    metrics = module.Metrics
    monkeypatch.setattr(metrics, "write", _recording(metrics.write, steps))
    train(model, pool, tmp_path)
    assert steps == list(range(2 * saved + 1, UPDATES + 1))  # what was done is not done again
    assert read_metrics(tmp_path / "metrics") == read_metrics(trained / "metrics")
    restored, expected = (checkpoints.restore(path / "adapter") for path in (tmp_path, trained))
    assert same(restored[0], expected[0]) and restored[1:] == expected[1:]


def _with(module, **replaced):
    return type("Module", (), {**vars(module), **replaced})


def _recording(write, steps):
    def recording(self, step, **values):
        steps.append(step)
        write(self, step, **values)

    return recording


def test_a_finished_training_is_not_trained_further(model, pool, trained):
    before = checkpoints.restore(trained / "adapter")
    assert train(model, pool, trained)["updates"] == UPDATES
    assert same(before[0], checkpoints.restore(trained / "adapter")[0])


def test_batches_belong_to_an_address(model, pool, trained, tmp_path):
    train(model, pool, tmp_path, address=Address(0, "batches", "other"))
    assert not same(load_adapter(tmp_path)[0].weights, load_adapter(trained)[0].weights)


def test_how_often_a_checkpoint_is_written_changes_nothing(model, pool, trained, tmp_path):
    train(model, pool, tmp_path, training=replace(TRAINING, checkpoint_every=1))
    assert same(load_adapter(tmp_path)[0].weights, load_adapter(trained)[0].weights)


def test_the_figures(model, pool, tmp_path):
    # three updates of two go through the pool of three exactly twice
    tokens = sum(len(answer) for example in pool for answer in example.answers)
    assert train(model, pool, tmp_path, replace(TRAINING, updates=3)) == {
        "kept": 4,
        "kept_tasks": 3,
        "updates": 3,
        "answer_tokens": 2 * tokens,
    }


def test_an_empty_pool_leaves_the_adapter_as_it_is(model, tmp_path):
    nothing = {"kept": 0, "kept_tasks": 0, "updates": 0, "answer_tokens": 0}
    for _ in range(2):  # and again, as after a kill
        assert train(model, [], tmp_path) == nothing
    assert same(load_adapter(tmp_path)[0].weights, fresh(model).weights)


def test_a_loss_that_is_not_finite(model, pool, tmp_path):
    wild = replace(TRAINING, learning_rate=1e38)
    with pytest.raises(UserError, match=r"the loss is .* lower config\.training\.learning_rate"):
        train(model, pool, tmp_path, training=wild)


def test_a_checkpoint_of_something_else(tmp_path):
    with pytest.raises(UserError, match="no checkpoint in"):
        load_adapter(tmp_path)
    checkpoints.save(tmp_path, 1, {"params": np.zeros(2)}, {"recipe": "pretraining"})
    with pytest.raises(UserError, match="is no adapter: give the directory of a training stage"):
        load_adapter(tmp_path)
