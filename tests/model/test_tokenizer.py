"""Chat prompts and text against transformers, and tokenizers that do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from constellation.model.tokenizer import Tokenizer
from constellation.runtime.errors import UserError
from tests.model.tiny import CONFIG, byte_tokenizer

MESSAGES = [{"role": "system", "content": "abc"}, {"role": "user", "content": "a b\nc"}]


@pytest.fixture(scope="module")
def tokenizer(model_dir: Path) -> Tokenizer:
    return Tokenizer.from_dir(model_dir, CONFIG.vocab_size)


@pytest.mark.parametrize("thinking", [None, False, True])
def test_chat_is_the_template(thinking: bool | None, tokenizer: Tokenizer) -> None:
    ids = tokenizer.chat(MESSAGES) if thinking is None else tokenizer.chat(MESSAGES, enable_thinking=thinking)
    text = "<|im_start|>system\nabc<|im_end|>\n<|im_start|>user\na b\nc<|im_end|>\n<|im_start|>assistant\n"
    text += "" if thinking else "<think></think>"
    assert ids == byte_tokenizer().encode(text)
    assert all(isinstance(id, int) for id in ids)


USER_TURNS = "{% for turn in messages if turn.role == 'user' %}<{{ turn.content }}>{% endfor %}"
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"


@pytest.mark.parametrize("template", [USER_TURNS, REFUSES + USER_TURNS], ids=["left out", "refused"])
def test_without_a_system_turn_its_text_begins_the_first_user_turn(
    template: str, model_dir: Path, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(model_dir, tmp_path / "copy"))
    (directory / "chat_template.jinja").write_text(template)
    tokenizer = Tokenizer.from_dir(directory, CONFIG.vocab_size)
    assert tokenizer.decode(tokenizer.chat(MESSAGES)) == "<abc\n\na b\nc>"
    assert tokenizer.decode(tokenizer.chat(MESSAGES[1:])) == "<a b\nc>"


@pytest.mark.parametrize("text", ["", "abc a", " caf\u00e9 \u2603\n", "(cat x0 'y')  ?  ."])
def test_decode_inverts_encode(text: str, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    special = byte_tokenizer().convert_tokens_to_ids("<|im_start|>")
    assert tokenizer.decode([*ids, special]) == text + "<|im_start|>"  # not hidden from the verifier


def test_what_the_template_writes_behind_an_answer_ends_it(tokenizer: Tokenizer) -> None:
    end, start, *letters = byte_tokenizer().convert_tokens_to_ids(["<|im_end|>", "<|im_start|>", "a", "b"])
    assert tokenizer.end_of_answer([*letters, start, end]) == end
    assert tokenizer.end_of_answer([*letters, start]) is None


def test_a_template_that_takes_nothing_is_one_line(model_dir: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(model_dir, tmp_path / "copy"))
    (directory / "chat_template.jinja").write_text("{{ raise_exception('not so') }}")
    with pytest.raises(UserError, match=r"takes no user turn \(not so\)"):
        Tokenizer.from_dir(directory, CONFIG.vocab_size)


def test_an_added_token_beyond_the_vocabulary_may_lie_there_unused(model_dir: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(model_dir, tmp_path / "copy"))
    extended = byte_tokenizer()
    extended.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<image>"]})
    extended.save_pretrained(directory)
    assert len(extended) == 263
    assert Tokenizer.from_dir(directory, 262).size == 262


def test_size_counts_special_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.size == len(byte_tokenizer()) == 262


@pytest.mark.parametrize("damage", ["missing", "cut", "not a tokenizer", "no template", "too large"])
def test_refusals(damage: str, model_dir: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(model_dir, tmp_path / "copy"))
    file = directory / "tokenizer.json"
    vocab_size = CONFIG.vocab_size
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_text(file.read_text()[:200])
    elif damage == "not a tokenizer":
        file.write_text(json.dumps({"model": 3}))
    elif damage == "no template":
        (directory / "chat_template.jinja").unlink()
    else:
        vocab_size = 261
    with pytest.raises(UserError) as caught:
        Tokenizer.from_dir(directory, vocab_size)
    assert "\n" not in str(caught.value)
    assert ("vocab_size = 261" in str(caught.value)) == (damage == "too large")
