"""The nano models' tokenizers: byte-level BPE without merges, one token a lexeme of the domains' languages.

A lexeme carries the punctuation after it (`GetToken(`, `x, `, `Word, `, `-1)`), so that an atom costs four
tokens. Example strings stay one token a character: lexemes are cut by a pre-tokenizer that looks at their
left neighbour, which inside an example is not `(` or `, `. Any other text falls back to bytes. A style says
how conversations are written, and how numbers are cut.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from constellation.domains.domain import ANOTHER, CRITIC_ANSWERS, CRITIC_QUESTION, Pretraining

WORDS = (*CRITIC_ANSWERS, CRITIC_QUESTION)
ARROW, NEWLINE = '" -> "', '"\n"'  # between an example's input and output, and between two examples


class Style(NamedTuple):
    """What one tokenizer has that another has not.

    Attributes:
        special: its special tokens: first the one for padding, then the one that ends an answer.
        template: the chat template.
        words: lexemes beside those of the languages, wherever they stand.
        digits: how many digits one token may hold.
        signed: whether the sign of a number of one digit belongs to its token.
        marker: the end of what an answer follows.
    """

    special: tuple[str, ...]
    template: str
    words: tuple[str, ...] = ()
    digits: int = 1
    signed: bool = False
    marker: str = "\n"

    @property
    def pad(self) -> str:
        return self.special[0]

    @property
    def end(self) -> str:
        return self.special[1]


NANO = Style(
    ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"),
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if message.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    marker="|>",
)
# Each as its family writes a conversation.
STYLES = {
    "nano": NANO,
    "qwen3": Style(
        ("<|endoftext|>", "<|im_end|>", "<|im_start|>"),
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        ("system\n", "user\n", "assistant\n", ANOTHER),
    ),
    "llama": Style(
        (
            "<|finetune_right_pad_id|>",
            "<|eot_id|>",
            "<|begin_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
        ),
        "<|begin_of_text|>{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>"
        "\n\n{{ message.content }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        ("system", "user", "assistant", "\n\n", ANOTHER),
        digits=2,
    ),
    "gemma": Style(
        ("<pad>", "<end_of_turn>", "<bos>", "<start_of_turn>"),
        "<bos>{% for message in messages %}<start_of_turn>"
        "{{ 'model' if message.role == 'assistant' else message.role }}\n{{ message.content }}<end_of_turn>\n"
        "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        ("user\n", "model\n", ANOTHER),
        signed=True,
    ),
}


def lexemes(*languages: Pretraining, style: Style = NANO) -> list[str]:
    """Every token longer than a byte, in a fixed order."""
    found = [*_all(languages, "operators"), *_leaves(languages), ", ", *_quotes(languages), *WORDS]
    found += [*_all(languages, "words"), *style.words]
    if style.signed:
        found += [f"-{digit}" for digit in range(10)]
    for length in range(2, style.digits + 1):
        found += ["".join(digits) for digits in itertools.product("0123456789", repeat=length)]
    return found


def _all(languages: Sequence[Pretraining], kind: str) -> list[str]:
    return [lexeme for language in languages for lexeme in getattr(language, kind)]


def _leaves(languages: Sequence[Pretraining]) -> list[str]:
    return [leaf + end for leaf in _all(languages, "leaves") for end in (", ", ")")]


def _quotes(languages: Sequence[Pretraining]) -> list[str]:
    return [ARROW, NEWLINE, *_all(languages, "quotes")]


def _pattern(languages: Sequence[Pretraining], style: Style) -> str:
    def either(words: Iterable[str]) -> str:
        return "(?:" + "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) + ")"

    begins = rf"(?<={re.escape(style.marker)})"
    words = [*_all(languages, "words"), *style.words]
    return "|".join(
        [
            either(style.special),
            # an operator opens the text or follows a turn's marker, `(` or `, `
            rf"(?:(?<=\()|(?<=, )|{begins}|^){either(_all(languages, 'operators'))}",
            rf"(?:(?<=\()|(?<=, )){either(_leaves(languages))}",
            r"(?<=\)), ",
            either(_quotes(languages)),
            rf"{begins}{either(WORDS)}|^{either(WORDS)}$",
            *([either(words)] if words else []),
            *([r"(?<=[-+*/=\n])-\d"] if style.signed else []),
            *([rf"\d{{1,{style.digits}}}"] if style.digits > 1 else []),
            r"[\s\S]",
        ]
    )


_BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def spelt(lexeme: str) -> str:
    """A lexeme as the vocabulary has it: in the byte-level alphabet, as everywhere in byte-level BPE."""
    return _BYTE_LEVEL.pre_tokenize_str(lexeme)[0][0]


def build_tokenizer(*languages: Pretraining, style: Style = NANO) -> Tokenizer:
    """The tokenizer; every special token, byte and lexeme of the languages has an id of its own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = dict.fromkeys([*style.special, *alphabet, *map(spelt, lexemes(*languages, style=style))])
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(ids, [], ignore_merges=True))
    tokenizer.add_special_tokens(list(style.special))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_pattern(languages, style)), behavior="isolated"), _BYTE_LEVEL]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, directory: Path, style: Style = NANO) -> None:
    """Writes tokenizer.json and, with the chat template, tokenizer_config.json."""
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": style.pad,
        "eos_token": style.end,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "chat_template": style.template,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
