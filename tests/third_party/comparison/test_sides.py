"""The two sides step by step: equal gradients and steps where nothing is left to chance."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from constellation.conductor import Conductor
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.experiments.study import Study
from constellation.model.lora import Adapter
from constellation.model.model import check_model
from constellation.model.peft_format import load_peft, save_peft
from constellation.model.sampling import SamplingConfig
from constellation.runtime.keys import Address
from constellation.selftraining.batches import TrainingExample
from constellation.selftraining.star import warm_start_examples
from tests.tiny_study import tiny_config, write_tiny_model
from third_party.comparison.sides import PEFT, Ours, Side, Theirs
from third_party.comparison.table import relative_norm

UPDATES = 6
ADDRESS = Address(0, "test", "sides")


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> Study:
    config = tiny_config(
        write_tiny_model(tmp_path_factory.mktemp("model")),
        training__weight_decay=0.1,
        training__clip_norm=0.5,
    )
    model = config.model
    conductor = Conductor(tmp_path_factory.mktemp("run"))
    return Study(config, conductor, trapdoor, [check_model(model.dir, model.quantization, model.dtype)])


@pytest.fixture(scope="module")
def pool(stages) -> list[TrainingExample]:
    """One batch, of examples of one length: every batch drawn from it is the pool, in some order."""
    tasks = trapdoor.training_tasks("star", 64, max_atoms=2)
    examples = warm_start_examples(stages.base.model, trapdoor, tasks, stages.split)
    [(length, count)] = Counter(example.length for example in examples).most_common(1)
    batch_size = stages.config.training.batch_size
    assert count >= batch_size
    return [example for example in examples if example.length == length][:batch_size]


@pytest.fixture(scope="module")
def start(stages, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("start")
    Ours(stages).train(None, [], 0, ADDRESS, directory)
    fresh, rng = trained(stages, directory), np.random.default_rng(0)
    shaken = jax.tree.map(lambda x: x + rng.normal(0, 0.05, x.shape).astype(np.float32), fresh.weights)
    save_peft(directory / PEFT, stages.base.model.config, Adapter(shaken, fresh.scale), "")
    return directory / PEFT


def trained(stages: Study, directory: Path) -> Adapter:
    return load_peft(directory / PEFT, stages.base.model.config)


def test_both_take_the_same_steps_from_the_same_adapter(stages, pool, start, tmp_path) -> None:
    changes = []
    for side in (Ours(stages), Theirs(stages)):
        side.train(start, pool, UPDATES, ADDRESS, tmp_path / side.name)
        after, before = trained(stages, tmp_path / side.name), load_peft(start, stages.base.model.config)
        assert after.scale == before.scale
        changes.append(jax.tree.map(np.subtract, after.weights, before.weights))
    assert relative_norm(*changes) < 1e-3


@pytest.mark.parametrize("side", [Ours, Theirs])
def test_nothing_to_train_on_leaves_the_start(side: type[Side], stages, start, tmp_path) -> None:
    side(stages).train(start, [], UPDATES, ADDRESS, tmp_path)
    before = load_peft(start, stages.base.model.config).weights
    jax.tree.map(np.testing.assert_array_equal, trained(stages, tmp_path).weights, before)


@pytest.mark.parametrize("side", [Ours, Theirs])
def test_a_fresh_adapter_is_the_configs(side: type[Side], stages, tmp_path) -> None:
    side(stages).train(None, [], UPDATES, ADDRESS, tmp_path)
    fresh, lora = trained(stages, tmp_path), stages.config.lora
    assert fresh.scale == lora.alpha / lora.rank
    assert set(fresh.weights) == {f"{name}_proj" for name in "q k v o gate up down".split()}
    for pair in fresh.weights.values():
        assert pair["a"].shape[1] == lora.rank and np.any(pair["a"]) and not np.any(pair["b"])


@pytest.mark.parametrize("side", [Ours, Theirs])
def test_draws_are_addressed(side: type[Side], stages, start) -> None:
    tasks, sampling = trapdoor.make_bank("tuning_easy", 3), SamplingConfig(n=4, max_new_tokens=4)

    def drawn(adapter: Path | None, replicate: int) -> list[int]:
        samples = side(stages).draw(adapter, tasks, sampling, replace(ADDRESS, replicate=replicate))
        assert samples.program.shape == (3, 4)
        return samples.tokens.tolist()

    assert drawn(start, 0) == drawn(start, 0) != drawn(start, 1)
    assert drawn(None, 0) != drawn(start, 0)


def test_transformers_base_is_left_as_it_was(stages, pool, start, tmp_path) -> None:
    side = Theirs(stages)
    before = {name: value.clone() for name, value in side.base.state_dict().items()}
    side.draw(start, trapdoor.make_bank("tuning_easy", 2), SamplingConfig(n=2, max_new_tokens=2), ADDRESS)
    side.train(start, pool, 1, ADDRESS, tmp_path)
    after = side.base.state_dict()
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)
