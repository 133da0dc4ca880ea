"""A generator evaluated from its checkpoint draws what it drew in the study."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from constellation import solve
from constellation.conductor import Conductor, Stage
from constellation.domains.domain import Verdict
from constellation.evaluation.pass_at_k import pass_at_k
from constellation.experiments import evaluate
from constellation.experiments.evaluate import evaluate_checkpoint
from constellation.experiments.stage_files import samples_of
from constellation.experiments.star_stages import StarStages
from constellation.model.model import check_model
from constellation.samples import SampleSet
from tests.tiny_study import tiny_config, write_tiny_model


def lenient(task, split, text: str) -> Verdict:
    """A judge who lets some of what random weights write pass, or every curve were zero."""
    digit = hashlib.blake2b(text.encode()).digest()[0] % 3
    return Verdict(valid=True, fits=digit > 0, right=digit > 1)


LENIENT = dataclasses.replace(solve.trapdoor, judge=lenient)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The config, and of each model its stage and its samples on the hard bank."""
    model_dir = write_tiny_model(tmp_path_factory.mktemp("model"))
    # random weights seldom end an answer: a quarter of the tokens are to
    (model_dir / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, *range(6, 106)]}))
    config = tiny_config(model_dir, training__learning_rate=0.05)
    model_hash = check_model(config.model.dir, config.model.quantization, config.model.dtype)
    found: dict[str, tuple[Stage | None, SampleSet]] = {}
    with pytest.MonkeyPatch.context() as patch, Conductor(tmp_path_factory.mktemp("study")) as conductor:
        patch.setattr(solve, "trapdoor", LENIENT)
        study = StarStages(config, conductor, model_hash)
        for name, stage in study.models().items():
            drawn = study.bank_samples("hard", name, stage, config.tasks.split_seed)
            found[name] = stage, samples_of(drawn)[0]
    return config, found


@pytest.mark.parametrize("name", ["theta0", "gen_v0", "v1"])
def test_draws_the_studys_samples_again(stored, monkeypatch, capsys, name):
    config, found = stored
    stage, samples = found[name]
    drawn: list[SampleSet] = []
    given: list[tuple] = []

    def recorded(*arguments):
        given.append(arguments)
        drawn.extend(solve.draw_samples(*arguments))
        return drawn

    monkeypatch.setattr(evaluate, "draw_samples", recorded)
    monkeypatch.setattr(solve, "trapdoor", LENIENT)
    checkpoint = str(stage.path / "adapter") if stage else "none"
    evaluate_checkpoint(config, checkpoint, "hard", ["1", "4"], samples.n)
    rows = [line.replace("+-", "").split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert drawn[0].text.tolist() == samples.text.tolist()
    assert np.array_equal(drawn[0].program, samples.program)
    if stage is not None:  # the adapter matters: the base draws others at the same address
        generator, *arguments = given[0]
        (bare,) = solve.draw_samples(dataclasses.replace(generator, adapters=None), *arguments)
        assert bare.text.tolist() != samples.text.tolist()

    for k, passed, _, fitted, _ in rows:
        for shown, column in ((passed, samples.generalises), (fitted, samples.fits)):
            expected = pass_at_k(samples.n, samples.per_sample(column).sum(axis=1), int(k)).mean()
            assert expected > 0 and float(shown) == pytest.approx(100 * expected, abs=0.051)


def test_models_have_samples_of_their_own(stored):
    """Or the test above would show less than it says."""
    _, found = stored
    texts = [tuple(samples.text.tolist()) for _, samples in found.values()]
    assert len(set(texts)) == len(texts) == 3
    assert all(Path(stage.path, "adapter").is_dir() for stage, _ in found.values() if stage)
