"""Text and token ids: the tokenizer and chat template that lie beside the weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from constellation.runtime.errors import UserError


class Tokenizer:
    """`transformers.AutoTokenizer` of a model directory."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        # Ids below have a meaning; the vocabulary of the model may be padded beyond.
        self.size = max(tokenizer.get_vocab().values()) + 1

    @classmethod
    def from_dir(cls, directory: str | Path, vocab_size: int) -> Tokenizer:
        """Reads tokenizer.json and the chat template.

        Raises:
            UserError: no tokenizer, a damaged one, no chat template, or an id that is not below `vocab_size`.
        """
        path = Path(directory) / "tokenizer.json"
        if not path.exists():
            raise UserError(f"{path} not found: model.dir must hold the tokenizer of the model")
        try:
            tokenizer = AutoTokenizer.from_pretrained(Path(directory), local_files_only=True)
        except Exception as error:  # a damaged file surfaces as any of a dozen types
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{path} is not readable by transformers ({reason}): fetch it again") from None
        if not tokenizer.chat_template:
            raise UserError(f"{directory} has no chat template: add chat_template.jinja of a chat model")
        self = cls(tokenizer)
        if self.size > vocab_size:
            raise UserError(
                f"{path} has ids up to {self.size - 1}, beyond vocab_size = {vocab_size} of config.json: "
                "use the tokenizer that belongs to the model"
            )
        return self

    def chat(self, messages: Sequence[Mapping[str, str]], enable_thinking: bool = False) -> list[int]:
        """A conversation as prompt ids, up to where the answer begins."""
        return self._tokenizer.apply_chat_template(
            list(messages),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            enable_thinking=enable_thinking,
        )

    def encode(self, text: str) -> list[int]:
        """The ids of the text alone, without special tokens around it."""
        return self._tokenizer.encode(text, add_special_tokens=False)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; a special token in the middle of an answer is part of what was written."""
        return self._tokenizer.decode([int(id) for id in ids], skip_special_tokens=False)
