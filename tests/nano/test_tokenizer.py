"""The nano tokenizer through transformers: one token a lexeme, any text exact, short banks."""

from __future__ import annotations

import random
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from constellation.domains.domain import CRITIC_ANSWERS, Message
from constellation.domains.task import Example, Task, examples_text, split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.domains.trapdoor import prior
from constellation.domains.trapdoor.inputs import FAMILIES, draw_inputs
from constellation.domains.trapdoor.language import Node, to_text
from constellation.domains.trapdoor.language.syntax import CASES, parts_of
from constellation.domains.trapdoor.pretraining import PRETRAINING, draw_wide_program
from constellation.nano import tokenizer as nano_tokenizer
from constellation.nano.tokenizer import NANO

TOKENIZER = nano_tokenizer.build_tokenizer(PRETRAINING)
LEXEMES = nano_tokenizer.lexemes(PRETRAINING)


def pieces(text: str) -> list[str]:
    """The text of every token; ASCII alone, since other characters are several byte tokens."""
    encoding = TOKENIZER.encode(text, add_special_tokens=False)
    assert all(encoding.offsets[i][1] == encoding.offsets[i + 1][0] for i in range(len(encoding.ids) - 1))
    return [text[start:end] for start, end in encoding.offsets]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    directory = tmp_path_factory.mktemp("tokenizer")
    nano_tokenizer.save_tokenizer(TOKENIZER, directory)
    assert TOKENIZER.get_vocab_size() <= 512
    assert {path.name for path in directory.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    return AutoTokenizer.from_pretrained(directory, local_files_only=True)


def chat(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[int]:
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("x", ["x"]),
        ("GetToken(x, Word, -1)", ["GetToken(", "x, ", "Word, ", "-1)"]),
        ("Upper(SubStr(x, 1, 2))", ["Upper(", "SubStr(", "x, ", "1, ", "2)", ")"]),
        ('Const(", ")', ['Const("', ",", " ", '")']),
        ('Const("ab")', ['Const("', "a", "b", '")']),
        (
            'Concat(Const("-"), GetSpan(x, "/", 1, end, Digit, 2, start))',
            'Concat(|Const("|-|")|, |GetSpan(|x, |"|/|", |1, |end, |Digit, |2, |start)|)'.split("|"),
        ),
        ('MapJoin(x, Word, t, " ")', ["MapJoin(", "x, ", "Word, ", "t, ", '"', " ", '")']),
        ('PadLeft(x, 12, "0")', ["PadLeft(", "x, ", "12, ", '"', "0", '")']),
        # the same letters in an example are characters
        ('"Upper Word, x" -> "yes"', [*'"Upper Word, x', '" -> "', *'yes"']),
        ('"a" -> "b"\n"no" -> "d"', ['"', "a", '" -> "', "b", '"\n"', "n", "o", '" -> "', "d", '"']),
    ],
)
def test_tokens(text: str, tokens: list[str]):
    assert pieces(text) == tokens


def test_every_lexeme_is_one_token():
    assert len(set(LEXEMES)) == len(LEXEMES)
    for lexeme in LEXEMES:
        assert TOKENIZER.token_to_id(nano_tokenizer.spelt(lexeme)) is not None
    for operator in (lexeme for lexeme in LEXEMES if lexeme.endswith(("(", '("'))):
        assert len(pieces(operator)) == 1
        assert pieces(f"Upper({operator}")[1:] == [operator]


def test_an_atom_costs_a_token_a_lexeme():
    """`GetToken(`, `x, `, `Word, `, `-1)`; a case takes two more, a literal its characters and quotes."""

    def cost(atom: Node) -> int:
        if atom.op in CASES:
            return 2 + cost(atom.args[0])
        if atom.op == "Const":
            return 2 + len(atom.args[0])
        return 1 + len(atom.args) + 2 * sum(arg in prior.ANCHOR_DELIMITERS for arg in atom.args)

    rng = random.Random(0)
    for _ in range(500):
        program = prior.draw_program(rng, 6)
        parts = parts_of(program)
        wanted = sum(map(cost, parts)) + (len(parts) + 1 if len(parts) > 1 else 0)
        assert len(pieces(to_text(program))) == wanted


@settings(deadline=None, max_examples=300)
@given(
    st.text()
    | st.text('é漢\U0001f600\u2028\x00\n ,()"x-1').map(lambda s: f"GetToken({s}, Word, 1)")
    | st.lists(st.sampled_from([*LEXEMES, *NANO.special, "é", "<|", "\n"])).map("".join)
)
def test_any_text_is_encoded_exactly(text: str):
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text
    assert not ids or max(ids) < TOKENIZER.get_vocab_size()


@settings(deadline=None, max_examples=100)
@given(st.text())
def test_transformers_agrees(loaded: PreTrainedTokenizerBase, text: str):
    ids = loaded.encode(text, add_special_tokens=False)
    assert ids == TOKENIZER.encode(text, add_special_tokens=False).ids
    assert loaded.decode(ids) == text


def test_transformers_loads_the_special_tokens(loaded: PreTrainedTokenizerBase):
    assert (loaded.pad_token, loaded.eos_token) == (NANO.pad, NANO.end)
    assert [loaded.convert_tokens_to_ids(token) for token in NANO.special] == [0, 1, 2, 3, 4]
    assert len(loaded) == TOKENIZER.get_vocab_size()


def test_generator_prompt_opens_the_critic_prompt(loaded: PreTrainedTokenizerBase, hard: list[Task]):
    """Token for token, whatever the candidate: the prompt is prefilled once for all candidates of a task."""
    for task in hard:
        halves = split(task, 1234)
        prompt = chat(loaded, trapdoor.messages(halves))
        answer = loaded.encode(task.program, add_special_tokens=False)
        for program, ids in ((task.program, answer), ("", []), ('x") <', None)):
            critic = chat(loaded, trapdoor.critic_messages(halves, program))
            assert critic[: len(prompt)] == prompt
            if ids is not None:  # the generator's own tokens are what the critic reads
                assert critic[len(prompt) : len(prompt) + len(ids) + 1] == [*ids, loaded.eos_token_id]
        assert len(critic) - len(prompt) < 12  # the question is one token


def test_the_critics_words_are_one_token_where_they_are_used(loaded: PreTrainedTokenizerBase):
    for word in CRITIC_ANSWERS:
        assert len(loaded.encode(word, add_special_tokens=False)) == 1
        conversation = f"<|assistant|>{word}{NANO.end}"
        assert len(loaded.encode(conversation, add_special_tokens=False)) == 3


def test_chat_template(loaded: PreTrainedTokenizerBase):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}]
    text = loaded.apply_chat_template(messages, tokenize=False)
    assert text == "<|user|>a<|assistant|>x<|end|>"
    opened = loaded.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert opened == "<|user|>a<|assistant|>"


def test_the_hard_bank_is_short(loaded: PreTrainedTokenizerBase, hard: list[Task]):
    assert mean(len(loaded.encode(task.program, add_special_tokens=False)) for task in hard) <= 25
    assert mean(len(chat(loaded, trapdoor.messages(split(task, 1234)))) for task in hard) <= 100


def test_example_strings_are_characters():
    """Inputs hold what could be lexemes (`12)`, `, x`); nearly none may be read as one."""
    rng, merged = random.Random(0), 0
    for family in FAMILIES:
        for text in draw_inputs(rng, family, 200):
            line = examples_text([Example((text,), text)])
            merged += pieces(line) != ['"', *text, '" -> "', *text, '"']
    assert merged < 10


def test_wide_programs_round_trip_through_ids():
    rng = random.Random(0)
    for _ in range(100):
        text = to_text(draw_wide_program(rng))
        assert TOKENIZER.decode(TOKENIZER.encode(text + NANO.end).ids) == text
