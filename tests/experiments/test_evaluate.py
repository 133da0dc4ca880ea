"""A generator evaluated from its checkpoint draws what it drew in the study."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from constellation.conductor import Conductor, Stage
from constellation.domains.domain import Verdict
from constellation.domains.task import split
from constellation.domains.trapdoor import DOMAIN
from constellation.evaluation.pass_at_k import pass_at_k
from constellation.experiments.config import memory_of
from constellation.experiments.evaluate import evaluate_checkpoint
from constellation.experiments.files import samples_of
from constellation.experiments.star import bank_samples, models
from constellation.experiments.study import Study
from constellation.model.model import Generator, check_model, load_model
from constellation.model.sampling import SamplingConfig
from constellation.runtime.keys import Address
from constellation.samples import SampleSet
from constellation.solve import draw_samples
from tests.tiny_study import tiny_config, write_tiny_model


def lenient(task, split, text: str) -> Verdict:
    """A judge who lets some of what random weights write pass, or every curve were zero."""
    digit = hashlib.blake2b(text.encode()).digest()[0] % 3
    return Verdict(valid=True, fits=digit > 0, right=digit > 1)


LENIENT = dataclasses.replace(DOMAIN, judge=lenient)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The config, and of each model its stage and its samples on the hard bank."""
    model_dir = write_tiny_model(tmp_path_factory.mktemp("model"))
    # random weights seldom end an answer: a quarter of the tokens are to
    (model_dir / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, *range(6, 106)]}))
    config = tiny_config(model_dir, training__learning_rate=0.05)
    model_hash = check_model(config.model.dir, config.model.quantization, config.model.dtype)
    found: dict[str, tuple[Stage | None, SampleSet]] = {}
    with Conductor(tmp_path_factory.mktemp("study")) as conductor:
        study = Study(config, conductor, LENIENT, [model_hash])
        for name, stage in models(study).items():
            drawn = bank_samples(study, "hard", name, stage).samples
            found[name] = stage, samples_of(drawn)[0]
    return config, found


@pytest.mark.parametrize("name", ["theta0", "gen_v0", "v1"])
def test_draws_the_studys_samples_again(stored, capsys, name):
    config, found = stored
    stage, samples = found[name]
    checkpoint = str(stage.path / "adapter") if stage else "none"
    drawn = evaluate_checkpoint(config, checkpoint, "hard", ["1", "4"], samples.n, domain=LENIENT)
    rows = [line.replace("+-", "").split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert drawn.text.tolist() == samples.text.tolist()
    assert np.array_equal(drawn.program, samples.program)
    if stage is not None:  # the adapter matters: the base draws others at the same address
        model = load_model(config.model.dir, "int4:32")
        tasks = LENIENT.make_bank("hard", 4, config.tasks.seed)
        sampling = SamplingConfig(n=samples.n, **config.sampling)
        address = Address(config.seed, "evaluation, split 1234", name)
        memory = memory_of(config, model.config, "cpu")
        asked = LENIENT, [tasks], lambda task: split(task, 1234), sampling, address, memory, "bare"
        (bare,) = draw_samples(Generator(model), *asked)
        assert bare.text.tolist() != samples.text.tolist()

    assert [row[0] for row in rows] == ["1", "4"]
    for k, passed, _, fitted, _ in rows:
        for shown, column in ((passed, samples.right), (fitted, samples.fits)):
            expected = pass_at_k(samples.n, samples.per_sample(column).sum(axis=1), int(k)).mean()
            assert expected > 0 and float(shown) == pytest.approx(100 * expected, abs=0.051)


def test_models_have_samples_of_their_own(stored):
    """Or the test above would show less than it says."""
    _, found = stored
    texts = [tuple(samples.text.tolist()) for _, samples in found.values()]
    assert len(set(texts)) == len(texts) == 3
    assert all(Path(stage.path, "adapter").is_dir() for stage, _ in found.values() if stage)
