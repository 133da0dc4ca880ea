"""The embedded nano models, as their users and transformers see them."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from constellation.domains.equations import DOMAIN as equations
from constellation.domains.task import split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.model.model import Generator, load_model
from constellation.model.module import CausalLM
from constellation.nano.tokenizer import STYLES, build_tokenizer, save_tokenizer

ASSETS = Path(__file__).parents[1] / "constellation" / "assets"
BASES = {  # directory -> the domain that it is asked about, and the style of its tokenizer
    "nano": (trapdoor, "nano"),
    **{f"peers/{path.name}": (equations, path.name) for path in sorted((ASSETS / "peers").iterdir())},
}
each_base = pytest.mark.parametrize("name", BASES)


@each_base
def test_transformers_gives_our_logits(name: str) -> None:
    directory, (domain, _) = ASSETS / name, BASES[name]
    tokenizer = AutoTokenizer.from_pretrained(directory)
    reference = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    model, face = load_model(directory), CausalLM.from_pretrained(directory)
    for task in domain.make_bank("tuning_hard", 4):
        messages = domain.messages(split(task, 0))
        prompt = model.tokenizer.chat(messages)
        assert prompt == tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
        tokens = [*prompt, *tokenizer(task.program, add_special_tokens=False).input_ids]
        with torch.no_grad():
            expected = reference(torch.tensor([tokens])).logits.numpy()
        np.testing.assert_allclose(face(jnp.array([tokens])), expected, atol=1e-4)


@each_base
def test_size_and_tokenizer_are_the_recipes(name: str, tmp_path: Path) -> None:
    directory, style = ASSETS / name, STYLES[BASES[name][1]]
    model = load_model(directory)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    assert 0.5e6 < parameters < 1.5e6
    both = [domain.pretraining for domain in (equations, trapdoor) if domain.pretraining]
    tokenizer = build_tokenizer(*(both if name != "nano" else both[1:]), style=style)
    assert model.config.vocab_size == tokenizer.get_vocab_size() <= 640
    for text in (
        'Concat(Upper(SubStr(x, 1, 3)), Const(". "), GetToken(x, Word, -1))',
        "12*-3=-36\nanswer -36",
    ):
        assert model.tokenizer.encode(text) == tokenizer.encode(text).ids
    save_tokenizer(tokenizer, tmp_path, style)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (directory / path.name).read_bytes(), path.name


def test_the_peers_are_small() -> None:
    files = [path for path in (ASSETS / "peers").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 10 * 2**20


@each_base
def test_it_writes_answers(name: str) -> None:
    """Greedy answers of the base alone: most have the right format, and some are right (chance is nil)."""
    from constellation.generator import sample
    from constellation.model.sampling import SamplingConfig
    from constellation.runtime.keys import Address

    domain, _ = BASES[name]
    model, tasks = load_model(ASSETS / name, "int4:32"), domain.make_bank("tuning_easy", 24)
    splits = [split(task, 0) for task in tasks]
    prompts = [model.tokenizer.chat(domain.messages(of)) for of in splits]
    config = SamplingConfig(n=1, temperature=0.0, max_new_tokens=96)
    ids, address = [task.id for task in tasks], Address(0, "test", "assets")
    (drawn,) = sample(Generator(model), [prompts], [ids], address, config)
    verdicts = [
        domain.verdict(task, of, model.tokenizer.decode(answer.ids))
        for task, of, (answer,) in zip(tasks, splits, drawn, strict=True)
    ]
    assert sum(verdict.valid for verdict in verdicts) >= 18
    assert sum(verdict.right for verdict in verdicts) >= 2
