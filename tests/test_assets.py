"""The embedded nano model, as its users and transformers see it."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from constellation.domains.task import split
from constellation.domains.trapdoor import DOMAIN
from constellation.domains.trapdoor.pretraining import PRETRAINING
from constellation.model.model import Generator, load_model
from constellation.model.module import CausalLM
from constellation.nano.tokenizer import build_tokenizer, save_tokenizer

NANO = Path(__file__).parents[1] / "constellation" / "assets" / "nano"


def test_transformers_gives_our_logits() -> None:
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    reference = AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32).eval()
    model, face = load_model(NANO), CausalLM.from_pretrained(NANO)
    for task in DOMAIN.make_bank("tuning_hard", 4):
        messages = DOMAIN.messages(split(task, 0))
        prompt = model.tokenizer.chat(messages)
        assert prompt == tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
        tokens = [*prompt, *tokenizer(task.program, add_special_tokens=False).input_ids]
        with torch.no_grad():
            expected = reference(torch.tensor([tokens])).logits.numpy()
        np.testing.assert_allclose(face(jnp.array([tokens])), expected, atol=1e-4)


def test_size_and_tokenizer_are_the_recipes(tmp_path: Path) -> None:
    model = load_model(NANO)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    assert 0.8e6 < parameters < 1.5e6
    tokenizer = build_tokenizer(PRETRAINING)
    assert model.config.vocab_size == tokenizer.get_vocab_size() <= 512
    text = 'Concat(Upper(SubStr(x, 1, 3)), Const(". "), GetToken(x, Word, -1))'
    assert model.tokenizer.encode(text) == tokenizer.encode(text).ids
    save_tokenizer(tokenizer, tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (NANO / path.name).read_bytes(), path.name


def test_it_writes_programs() -> None:
    """Greedy answers of the base alone: most parse, and some are right (chance is nil)."""
    from constellation.domains.trapdoor.verifier import judge
    from constellation.generator import sample
    from constellation.model.sampling import SamplingConfig
    from constellation.runtime.keys import Address

    model, tasks = load_model(NANO, "int4:32"), DOMAIN.make_bank("tuning_easy", 24)
    splits = [split(task, 0) for task in tasks]
    prompts = [model.tokenizer.chat(DOMAIN.messages(of)) for of in splits]
    config = SamplingConfig(n=1, temperature=0.0, max_new_tokens=40)
    ids, address = [task.id for task in tasks], Address(0, "test", "assets")
    (drawn,) = sample(Generator(model), [prompts], [ids], address, config)
    verdicts = [
        judge(of, model.tokenizer.decode(answer.ids)) for of, (answer,) in zip(splits, drawn, strict=True)
    ]
    assert sum(verdict.valid for verdict in verdicts) >= 18
    assert sum(verdict.right for verdict in verdicts) >= 2
