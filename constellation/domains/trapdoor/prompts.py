"""What the generator is asked, as chat messages; the model's own template does the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence

from constellation.domains.domain import Message
from constellation.domains.task import Example

PROMPT_VERSION = 2  # raised with every change of a prompt or of the extraction: stored samples are then old


def examples_text(examples: Sequence[Example]) -> str:
    """One line an example, strings as JSON literals: `"john smith" -> "J. smith"`."""
    return "\n".join(
        f"{', '.join(map(_quote, example.inputs))} -> {_quote(example.output)}" for example in examples
    )


def generator_messages(visible: Sequence[Example]) -> list[Message]:
    """The generator's prompt: the visible examples alone."""
    return [{"role": "user", "content": examples_text(visible)}]


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
