"""The nano model's tokenizer: byte-level BPE without merges, one token a lexeme of the domain's language.

A lexeme carries the punctuation after it (`GetToken(`, `x, `, `Word, `, `-1)`), so that an atom costs four
tokens. Example strings stay one token a character: lexemes are cut by a pre-tokenizer that looks at their
left neighbour, which inside an example is not `(` or `, `. Any other text falls back to bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from constellation.domains.domain import CRITIC_ANSWERS, CRITIC_QUESTION, Pretraining

SPECIAL = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
PAD, END, USER, ASSISTANT, _ = SPECIAL
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if message.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = (*CRITIC_ANSWERS, CRITIC_QUESTION)
ARROW, NEWLINE = '" -> "', '"\n"'  # between an example's input and output, and between two examples


def lexemes(language: Pretraining) -> list[str]:
    """Every token longer than a byte, in a fixed order."""
    return [*language.operators, *_leaves(language), ", ", *_quotes(language), *WORDS]


def _leaves(language: Pretraining) -> list[str]:
    return [leaf + end for leaf in language.leaves for end in (", ", ")")]


def _quotes(language: Pretraining) -> list[str]:
    return [ARROW, NEWLINE, *language.quotes]


def _pattern(language: Pretraining) -> str:
    def either(words: Iterable[str]) -> str:
        return "(?:" + "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) + ")"

    return "|".join(
        [
            either(SPECIAL),
            # an operator opens the text or follows a turn's marker, `(` or `, `
            rf"(?:(?<=\()|(?<=, )|(?<=\|>)|^){either(language.operators)}",
            rf"(?:(?<=\()|(?<=, )){either(_leaves(language))}",
            r"(?<=\)), ",
            either(_quotes(language)),
            rf"(?<=\|>){either(WORDS)}|^{either(WORDS)}$",
            r"[\s\S]",
        ]
    )


_BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def spelt(lexeme: str) -> str:
    """A lexeme as the vocabulary has it: in the byte-level alphabet, as everywhere in byte-level BPE."""
    return _BYTE_LEVEL.pre_tokenize_str(lexeme)[0][0]


def build_tokenizer(language: Pretraining) -> Tokenizer:
    """The tokenizer; every special token, byte and lexeme of the language has an id of its own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = dict.fromkeys([*SPECIAL, *alphabet, *map(spelt, lexemes(language))])
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(ids, [], ignore_merges=True))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_pattern(language)), behavior="isolated"), _BYTE_LEVEL]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Writes tokenizer.json and, with the chat template, tokenizer_config.json."""
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
