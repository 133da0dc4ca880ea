"""Every path from an adapter to a sample or a score uses the adapter.

Each adapter is trained to answer every prompt by one token, another in every model and trajectory: samples of
the base, or of another adapter, would be others.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from constellation.domains.task import split
from constellation.domains.trapdoor import DOMAIN
from constellation.domains.trapdoor.pretraining import PRETRAINING
from constellation.experiments.compute import Compute
from constellation.experiments.evaluate import evaluate_checkpoint
from constellation.experiments.files import SAMPLES, numbered
from constellation.experiments.run import run
from constellation.generator import sample
from constellation.model.decoder import init_params
from constellation.model.decoding import ENGINE
from constellation.model.lora import stack, unstack
from constellation.model.model import Generator, Model, load_model
from constellation.model.peft_format import save_peft
from constellation.model.sampling import SamplingConfig
from constellation.model.score import log_prob, next_token_logits
from constellation.nano.pretraining import write_model
from constellation.nano.tokenizer import build_tokenizer
from constellation.runtime.keys import Address, fold
from constellation.samples import SampleSet
from constellation.selftraining.batches import TrainingExample
from constellation.selftraining.finetune import load_adapter, load_adapters
from tests.tiny_study import tiny_config, tiny_model_config

ANSWERS = {"gen_v0": ("a", "b"), "v1": ("c", "d")}  # of each trajectory


def firsts(samples: SampleSet) -> set[str]:
    """What the samples begin with; a token more may follow before the stop."""
    return {text[:1] for text in samples.text}


def prompts_of(model: Model) -> list[list[int]]:
    tasks = DOMAIN.make_bank("tuning_hard", 8)
    return [model.chat(DOMAIN.messages(split(task, 0))) for task in tasks]


def answer(model: Model, text: str) -> list[int]:
    return [*model.tokenizer.encode(text), model.stop_ids[0]]


class Forced(Compute):
    """Trains generators on one answer to all prompts."""

    def finetune(self, generator, pools, training, address, directory, metadata):
        if address.arm in ANSWERS:
            model = generator.model
            prompts = [np.array(prompt, np.int32) for prompt in prompts_of(model)]
            answers = [np.array(answer(model, text), np.int32) for text in ANSWERS[address.arm]]
            pools = [[TrainingExample(prompt, (own,), (0,)) for prompt in prompts] for own in answers]
            training = dataclasses.replace(training, updates=60, learning_rate=0.05, checkpoint_every=60)
        return super().finetune(generator, pools, training, address, directory, metadata)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, Path]:
    """The workdir of a study of two trajectories, and the directory of its base."""
    model_dir, workdir = (tmp_path_factory.mktemp(name) for name in ("model", "study"))
    tokenizer = build_tokenizer(PRETRAINING)
    config = dataclasses.replace(tiny_model_config(tokenizer.get_vocab_size()), tie_word_embeddings=False)
    params = init_params(config, fold(0, "adapters"))
    # No hidden state gives such a small head a logit that one token could win by.
    write_model(model_dir, config, params | {"lm_head": 50 * params["lm_head"]}, tokenizer)
    run(tiny_config(model_dir, **FIELDS), str(workdir), compute=Forced())
    return workdir, model_dir


FIELDS: dict[str, object] = {"tasks__banks": "hard", "trajectories": 2}


def test_the_study_samples_each_models_own_adapter(study):
    stages = study[0] / "stages"
    for name, texts in ANSWERS.items():
        for trajectory, text in enumerate(texts):
            path = stages / f"draws_samples_{name}_hard_1234" / numbered(SAMPLES, trajectory)
            assert firsts(SampleSet.load(path)) == {text}, (name, trajectory)
    base = SampleSet.load(stages / "draws_samples_theta0_hard_1234" / numbered(SAMPLES, 0))
    assert not firsts(base) & {text for texts in ANSWERS.values() for text in texts}
    drawn = SampleSet.load(stages / "draws_v1_samples" / numbered(SAMPLES, 1))  # what v1 is trained on
    assert firsts(drawn) == {"b"}


@pytest.mark.parametrize("name, trajectory", itertools.product(ANSWERS, (0, 1)))
def test_so_does_an_evaluation(study, name, trajectory, tmp_path):
    workdir, model_dir = study
    config, checkpoint = tiny_config(model_dir, **FIELDS), workdir / "stages" / name / "adapter"
    expected = {ANSWERS[name][trajectory]}
    drawn = evaluate_checkpoint(config, str(checkpoint), "hard", ["1"], 8, trajectory)
    assert firsts(drawn) == expected
    adapter, _ = load_adapter(checkpoint, trajectory)
    save_peft(tmp_path, load_model(model_dir, weights=False).config, adapter, str(model_dir))
    assert firsts(evaluate_checkpoint(config, str(tmp_path), "hard", ["1"], 8)) == expected


@pytest.fixture(scope="module")
def generator(study) -> Generator:
    workdir, model_dir = study
    return Generator(load_model(model_dir, "int4:32"), load_adapters(workdir / "stages/v1")[0])


@pytest.mark.parametrize("int8_kv", [False, True])
@pytest.mark.parametrize("merged_bytes", [ENGINE.merged_bytes, 0])
@pytest.mark.parametrize("shared_tokens", [1, 1000])
def test_every_way_of_sampling_uses_it(generator, int8_kv, merged_bytes, shared_tokens):
    engine = ENGINE._replace(merged_bytes=merged_bytes, shared_tokens=shared_tokens)
    prompts, ids = prompts_of(generator.model)[:2], ["one", "other"]
    sampling = SamplingConfig(n=2, max_new_tokens=4, int8_kv=int8_kv)
    address = Address(0, "sampling", "v1")
    drawn = sample(generator, [prompts] * 2, [ids] * 2, address, sampling, engine=engine)
    for groups, text in zip(drawn, ANSWERS["v1"], strict=True):
        texts = {generator.model.tokenizer.decode(one.ids[:1]) for group in groups for one in group}
        assert texts == {text}


def test_so_does_every_way_of_scoring(generator):
    model, prompts = generator.model, prompts_of(generator.model)[:2]
    answers = [answer(model, text) for text in ANSWERS["v1"]]
    together = log_prob(generator, [prompts] * 2, [[answers] * 2] * 2)
    ids = [tokens[0] for tokens in answers]
    after = next_token_logits(generator, [prompts] * 2, [[[[]]] * 2] * 2, ids)
    for trajectory, adapter in enumerate(unstack(generator.adapters)):
        for values, (logits,) in zip(together[trajectory], after[trajectory], strict=True):
            assert np.argmax(values) == np.argmax(logits) == trajectory
            assert values.max() > np.log(0.9)
        alone = Generator(model, stack([adapter]))
        (one,) = log_prob(alone, [prompts], [[answers] * 2])
        np.testing.assert_allclose(one, together[trajectory], atol=1e-4)
    (bare,) = log_prob(Generator(model), [prompts], [[answers] * 2])
    assert np.max(bare) < np.log(0.1)
