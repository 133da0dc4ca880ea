"""A peer of peer-predictive self-training in PyTorch: PMI, weights, the weighted loss and its steps.

It takes texts: conversations as a domain writes them, and answers. Prompts, tokens, log-likelihoods and all
that follows from these are transformers', peft's and torch's, one sequence at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from peft import PeftModel
from transformers import AutoTokenizer

from constellation.model.tokenizer import DATE
from third_party import training_reference

Conversation = Sequence[Mapping[str, str]]


class Weighted(NamedTuple):
    """An answer to a conversation, whether it came to its end, and by what its loss is multiplied."""

    conversation: Conversation
    answer: str
    finished: bool
    weight: float


class Peer:
    """A model with an adapter, and the tokenizer of its directory."""

    def __init__(self, model: PeftModel, directory: str | Path):
        self.model = model
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        ends = model.generation_config.eos_token_id
        turns = self._rendered([{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}])
        # Of all ids that would end an answer, the one that the template writes behind it.
        self.stop = [id for id in turns if id in (ends if isinstance(ends, list) else [ends])][-1]

    def prompt(self, conversation: Conversation) -> list[int]:
        """Up to where the answer begins."""
        return self._rendered(conversation, add_generation_prompt=True, enable_thinking=False)

    def answer(self, text: str, finished: bool = True) -> list[int]:
        """The tokens of an answer, and the one that ends it if it came to its end."""
        ids = self.tokenizer(text, add_special_tokens=False).input_ids
        return [*ids, self.stop] if finished else ids

    def _rendered(self, conversation: Conversation, **options: bool) -> list[int]:
        return self.tokenizer.apply_chat_template(
            conversation, return_dict=False, date_string=DATE, **options
        )

    def log_likelihood(self, conversation: Conversation, answer: Sequence[int]) -> torch.Tensor:
        """log p of every token of an answer behind a conversation, in nats: [A]."""
        ids = torch.tensor([[*self.prompt(conversation), *answer]])
        logits = self.model(input_ids=ids, use_cache=False, logits_to_keep=len(answer) + 1).logits[0, :-1]
        return -torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="none")

    @torch.inference_mode()
    def pmi(
        self, alone: Conversation, behind: Conversation, reference: str, finished: bool
    ) -> tuple[float, float]:
        """log p(reference | behind) - log p(reference | alone), in nats: of the whole, and a token.

        Args:
            alone: a problem.
            behind: the problem, behind which an answer stands.
            finished: whether the reference came to its end.
        """
        tokens = self.answer(reference, finished)
        gain = self.log_likelihood(behind, tokens).double() - self.log_likelihood(alone, tokens).double()
        return gain.sum().item(), gain.mean().item()

    def loss(self, answers: Sequence[Weighted]) -> torch.Tensor:
        """sum_i w_i CE_i / sum_i T_i over answers of T_i tokens, whatever they weigh."""
        losses = [
            -self.log_likelihood(each.conversation, self.answer(each.answer, each.finished))
            for each in answers
        ]
        weighted = sum(each.weight * loss.sum() for each, loss in zip(answers, losses, strict=True))
        return weighted / sum(map(len, losses))

    def update(self, optimizer: torch.optim.Optimizer, answers: Sequence[Weighted], clip_norm: float) -> None:
        """One optimizer step on weighted answers."""
        optimizer.zero_grad(set_to_none=True)
        self.loss(answers).backward()
        training_reference.step(self.model, optimizer, clip_norm)


def weight(pmi: float, tau: float, inverted: bool = False) -> float:
    """w = sigmoid(-PMI / tau), or 1 - w."""
    w = torch.sigmoid(torch.tensor(-pmi / tau, dtype=torch.float64)).item()
    return 1 - w if inverted else w
