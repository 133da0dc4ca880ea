"""Text and token ids: the tokenizer and chat template that lie beside the weights."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from constellation.model.gguf_file import GgufFile, is_gguf
from constellation.runtime.errors import UserError

# What Llama 3's templates take for today's date where none is known: prompts must not change overnight.
DATE = "26 Jul 2024"


class Tokenizer:
    """`transformers.AutoTokenizer` of a model directory."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        # Ids below have a meaning; the vocabulary of the model may be padded beyond.
        self.size = max(id for id in tokenizer.get_vocab().values() if id < vocab_size) + 1

    @classmethod
    def from_dir(cls, directory: str | Path, vocab_size: int) -> Tokenizer:
        """Reads tokenizer.json and the chat template, or those of a GGUF file.

        Raises:
            UserError: no tokenizer, a damaged one, no chat template, or an id that is not below `vocab_size`.
        """
        file = GgufFile(directory) if is_gguf(directory) else None
        path = Path(directory) if file else Path(directory) / "tokenizer.json"
        if not path.exists():
            raise UserError(f"{path} not found: model.dir must hold the tokenizer of the model")
        try:
            if file:
                tokenizer = file.tokenizer()
            else:
                tokenizer = AutoTokenizer.from_pretrained(Path(directory), local_files_only=True)
        except Exception as error:  # a damaged file surfaces as any of a dozen types
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{path} is not readable by transformers ({reason}): fetch it again") from None
        if not tokenizer.chat_template:
            raise UserError(f"{directory} has no chat template: add chat_template.jinja of a chat model")
        self = cls(tokenizer, vocab_size)
        # An added token beyond that no prompt has may be of the model's kin, as Gemma 3's for images is.
        written = set(tokenizer.get_vocab().values()) - tokenizer.added_tokens_decoder.keys()
        try:
            written.update(self.chat([{"role": "user", "content": "a"}]))
        except TemplateError as error:
            raise UserError(f"the chat template of {directory} takes no user turn ({error})") from None
        if max(written) >= vocab_size:
            raise UserError(
                f"{path} has ids up to {max(written)}, beyond vocab_size = {vocab_size} of config.json: "
                "use the tokenizer that belongs to the model"
            )
        return self

    def chat(self, messages: Sequence[Mapping[str, str]], enable_thinking: bool = False) -> list[int]:
        """A conversation as prompt ids, up to where the answer begins.

        Where the template has no system turn, its text begins the first user turn.
        """
        turns = list(messages)
        if turns[0]["role"] == "system" and not self._has_system_turn:
            system, user, *rest = turns
            turns = [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *rest]
        return self._rendered(turns, add_generation_prompt=True, enable_thinking=enable_thinking)

    def end_of_answer(self, ids: Collection[int]) -> int | None:
        """The first of these ids that the template writes behind an answer; None if it writes none."""
        user = {"role": "user", "content": "a"}
        try:
            one, other = (self._rendered([user, {"role": "assistant", "content": text}]) for text in "ab")
        except TemplateError:  # no answers in the conversation
            return None
        pairs = zip(reversed(one), reversed(other), strict=False)
        behind = [id for id, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
        return next((id for id in reversed(behind) if id in ids), None)

    @cached_property
    def _has_system_turn(self) -> bool:
        """Whether the template shows a system turn: some raise an error, some leave it out."""
        marker = "a system message"
        turns = [{"role": "system", "content": marker}, {"role": "user", "content": ""}]
        try:
            return marker in self.decode(self._rendered(turns))
        except TemplateError:
            return False

    def _rendered(self, turns: Sequence[Mapping[str, str]], **options: bool) -> list[int]:
        return self._tokenizer.apply_chat_template(turns, return_dict=False, date_string=DATE, **options)

    def encode(self, text: str) -> list[int]:
        """The ids of the text alone, without special tokens around it."""
        return self._tokenizer.encode(text, add_special_tokens=False)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; a special token in the middle of an answer is part of what was written."""
        return self._tokenizer.decode([int(id) for id in ids], skip_special_tokens=False)
