"""Every family beside Qwen3 against transformers and peft, through all that studies do with a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from constellation.generator import sample
from constellation.model import decoder, score
from constellation.model.config import ModelConfig
from constellation.model.decoding import ENGINE
from constellation.model.families import FAMILIES
from constellation.model.lora import Adapter, stack
from constellation.model.model import Generator, Model, load_model
from constellation.model.peft_format import load_peft, save_peft
from constellation.model.sampling import SamplingConfig
from constellation.runtime.keys import Address
from tests.model.tiny import byte_tokenizer, params_and_adapter, reference, save, tiny_config
from third_party import model_reference
from third_party.comparison.logits import LeftPadded
from third_party.sampling_reference import greedy, left_padded

OTHERS = [name for name in FAMILIES if name != "qwen3"]
RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(0, 250, length).tolist() for length in (23, 9, 1)]


@pytest.fixture(scope="module", params=OTHERS)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of a family, as transformers writes it."""
    model_type = request.param
    return save(tmp_path_factory.mktemp(model_type), reference(0, model_type), byte_tokenizer())


@pytest.fixture(scope="module")
def model(directory: Path) -> Model:
    return load_model(directory)


@pytest.fixture(scope="module")
def hf(directory: Path) -> PreTrainedModel:
    return model_reference.load(directory)


@pytest.fixture(scope="module")
def adapter(model: Model) -> Adapter:
    return params_and_adapter(model.config)[1]


def test_config_is_read_as_it_was_written(directory: Path) -> None:
    config = ModelConfig.from_dir(directory)
    assert config == tiny_config(config.model_type)
    assert ModelConfig.from_fields(config.to_fields()) == config


def test_logits_and_each_layer_equal_transformers(
    directory: Path, model: Model, hf: PreTrainedModel
) -> None:
    batch = LeftPadded.from_prompts(PROMPTS)
    config, local = model.config, decoder.local_layers(model.config)
    theirs = [x[batch.real] for x in model_reference.hidden_states(directory, batch.ids, batch.attention)]
    tokens, positions, mask = map(jnp.asarray, (batch.tokens, batch.positions, batch.mask))
    x = decoder.embed(config, model.params["embed"], tokens, jnp.float32)
    np.testing.assert_allclose(x[batch.real], theirs[0], atol=1e-6)
    for index, want in enumerate(theirs[1:]):
        here = slice(index, index + 1)
        layer = jax.tree.map(lambda weight, here=here: weight[here], model.params["layers"])
        windows = None if local is None else jnp.asarray(local[here])
        x = decoder.through_layers(config, layer, x, positions, mask, windows)
        np.testing.assert_allclose(x[batch.real], want, rtol=0, atol=2e-5 * np.abs(want).max())
    hidden = decoder.forward(config, model.params, None, tokens, positions, mask)
    expected = model_reference.logits(hf, batch.ids, batch.attention)
    for want in (expected, model_reference.streamed_logits(directory, theirs[-1], 100)):
        ours = decoder.logits(config, model.params, hidden[batch.real])
        np.testing.assert_allclose(ours, want, rtol=0, atol=2e-5 * np.abs(want).max())


BEGINNING = RNG.integers(0, 250, 80).tolist()  # longer than any window, and worth sharing
SHARED = [BEGINNING + prompt for prompt in PROMPTS]
ADDRESS = Address(0, "sampling", "v0")


@pytest.mark.parametrize("int8_kv", [False, True])
def test_greedy_tokens_behind_a_shared_beginning(int8_kv: bool, model: Model, hf: PreTrainedModel) -> None:
    """Equal to transformers' up to the first token that leads by less than the error."""
    endless = Generator(dataclasses.replace(model, stop_ids=()))
    sampling = SamplingConfig(n=1, temperature=0, max_new_tokens=33, int8_kv=int8_kv)
    (drawn,) = sample(endless, [SHARED], [list("abc")], ADDRESS, sampling)
    theirs, lead = greedy(hf, SHARED, 33, model.tokenizer.size)
    scale = model_reference.logits(hf, *left_padded(SHARED)).std()
    error = scale * (0.02 if int8_kv else 1e-4)
    same = 0
    for (answer,), want, margins in zip(drawn, theirs, lead, strict=True):
        certain = int(np.argmax(np.append(margins < error, True)))
        np.testing.assert_array_equal(answer.ids[:certain], want[:certain])
        same += certain
    assert same > (20 if int8_kv else 60)


def test_texts_behind_a_shared_beginning_are_scored_as_transformers_would(
    model: Model, hf: PreTrainedModel
) -> None:
    texts = [[RNG.integers(0, 250, length).tolist() for length in (9, 1)] for _ in SHARED]
    (ours,) = score.log_prob(Generator(model), [SHARED], [texts])
    (answers,) = score.next_token_logits(Generator(model), [SHARED], [texts], [7, 9])
    for prompt, group, values, after in zip(SHARED, texts, ours, answers, strict=True):
        for text, value, chosen in zip(group, values, after, strict=True):
            with torch.no_grad():
                logits = hf(torch.tensor([prompt + text])).logits[0]
            picked = torch.log_softmax(logits[len(prompt) - 1 : -1], -1)[range(len(text)), text]
            np.testing.assert_allclose(value, picked.sum(), rtol=2e-5)
            np.testing.assert_allclose(chosen, logits[-1, [7, 9]], atol=2e-5 * logits.abs().max())


def test_adapters_go_to_peft_and_back(
    directory: Path, model: Model, adapter: Adapter, tmp_path: Path
) -> None:
    batch = LeftPadded.from_prompts(PROMPTS)

    def ours(adapter: Adapter) -> np.ndarray:
        tokens, positions, mask = map(jnp.asarray, (batch.tokens, batch.positions, batch.mask))
        hidden = decoder.forward(model.config, model.params, adapter, tokens, positions, mask)
        return np.asarray(decoder.logits(model.config, model.params, hidden[batch.real]))

    def base() -> PreTrainedModel:
        return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)

    def same(adapter: Adapter, theirs: PeftModel) -> None:
        want = model_reference.logits(theirs.eval(), batch.ids, batch.attention)
        np.testing.assert_allclose(ours(adapter), want, rtol=0, atol=2e-5 * np.abs(want).max())

    save_peft(tmp_path / "ours", model.config, adapter, str(directory))
    same(adapter, PeftModel.from_pretrained(base(), tmp_path / "ours"))
    theirs = get_peft_model(base(), LoraConfig(r=4, target_modules=["v_proj", "gate_proj"]))
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(str(tmp_path / "theirs"))
    same(load_peft(tmp_path / "theirs", model.config), theirs)


@pytest.mark.parametrize("merged_bytes", [ENGINE.merged_bytes, 0])
def test_samples_are_the_adapters(
    merged_bytes: int, model: Model, adapter: Adapter, hf: PreTrainedModel, tmp_path: Path
) -> None:
    """Merged into the base or not, and not those of the base."""
    endless = dataclasses.replace(model, stop_ids=())
    sampling = SamplingConfig(n=1, temperature=0, max_new_tokens=9)
    engine = ENGINE._replace(merged_bytes=merged_bytes)

    def drawn(adapter: Adapter | None) -> list[list[int]]:
        generator = Generator(endless, None if adapter is None else stack([adapter]))
        (groups,) = sample(generator, [SHARED], [list("abc")], ADDRESS, sampling, engine=engine)
        return [samples[0].ids.tolist() for samples in groups]

    save_peft(tmp_path, model.config, adapter, "")
    base = AutoModelForCausalLM.from_pretrained(model.dir, dtype=torch.float32)
    theirs, _ = greedy(PeftModel.from_pretrained(base, tmp_path).eval(), SHARED, 9, model.tokenizer.size)
    assert drawn(adapter) == theirs.tolist() != drawn(None)
