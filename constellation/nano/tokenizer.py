"""The nano model's tokenizer: byte-level BPE without merges, one token a lexeme of the language.

A lexeme carries the punctuation after it (`GetToken(`, `x, `, `Word, `, `-1)`), so that an atom costs four
tokens. Example strings stay one token a character: lexemes are cut by a pre-tokenizer that looks at their
left neighbour, which inside an example is not `(` or `, `. Any other text falls back to bytes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from constellation.domains.trapdoor.language.syntax import MAX_INDEX, MAX_WIDTH, SIGNATURES, Side, TokenClass

SPECIAL = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
PAD, END, USER, ASSISTANT, _ = SPECIAL
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if message.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = ("yes", "no", "generalises?")  # the critic's vocabulary
ARROW, NEWLINE = '" -> "', '"\n"'  # between an example's input and output, and between two examples
_QUOTES = (ARROW, NEWLINE, '", ', '")')


def lexemes() -> list[str]:
    """Every token longer than a byte, in a fixed order."""
    operators = [f'{op}("' if op == "Const" else f"{op}(" for op in SIGNATURES]
    integers = [str(i) for i in (*range(-MAX_INDEX, 0), *range(1, MAX_WIDTH + 1))]
    leaves = ["x", "t", *(side.value for side in Side), *(token.value for token in TokenClass), *integers]
    return [*operators, *(leaf + end for leaf in leaves for end in (", ", ")")), ", ", *_QUOTES, *WORDS]


def _pattern() -> str:
    def either(words: list[str]) -> str:
        return "(?:" + "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) + ")"

    operators = [word for word in lexemes() if word.endswith(("(", '("'))]
    leaves = [word for word in lexemes() if re.fullmatch(r"-?\w+(, |\))", word)]
    return "|".join(
        [
            either(list(SPECIAL)),
            # an operator opens the text or follows a turn's marker, `(` or `, `
            rf"(?:(?<=\()|(?<=, )|(?<=\|>)|^){either(operators)}",
            rf"(?:(?<=\()|(?<=, )){either(leaves)}",
            r"(?<=\)), ",
            either(list(_QUOTES)),
            rf"(?<=\|>){either(list(WORDS))}|^{either(list(WORDS))}$",
            r"[\s\S]",
        ]
    )


_BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def spelt(lexeme: str) -> str:
    """A lexeme as the vocabulary has it: in the byte-level alphabet, as everywhere in byte-level BPE."""
    return _BYTE_LEVEL.pre_tokenize_str(lexeme)[0][0]


def build_tokenizer() -> Tokenizer:
    """The tokenizer as a `tokenizers.Tokenizer`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = dict.fromkeys([*SPECIAL, *alphabet, *map(spelt, lexemes())])
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(ids, [], ignore_merges=True))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_pattern()), behavior="isolated"), _BYTE_LEVEL]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def save_tokenizer(directory: Path) -> int:
    """Write tokenizer.json, tokenizer_config.json and the chat template; returns the vocabulary's size."""
    tokenizer = build_tokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "chat_template": CHAT_TEMPLATE,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return tokenizer.get_vocab_size()
