"""Many samples a task in PyTorch: plain `generate`, and a loop that prefills once and repeats the cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from constellation.model.sampling import SamplingConfig
from third_party.model_reference import token_positions


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    stop_ids: Sequence[int],
    sampling: SamplingConfig,
    cache: str | None = None,
) -> torch.Tensor:
    """transformers' `generate` with n return sequences: every sample has its own copy of the prompt.

    Args:
        stop_ids: each ends an answer; there may be none.
        cache: the name of a cache implementation of transformers, instead of the default one, which grows.

    Returns:
        the new tokens of the n answers of each prompt [B * n, A].
    """
    ids, mask = left_padded(prompts)
    output = model.generate(
        ids.to(model.device),
        attention_mask=mask.to(model.device),
        num_return_sequences=sampling.n,
        do_sample=sampling.temperature > 0,
        temperature=sampling.temperature or None,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=list(stop_ids) or None,
        pad_token_id=stop_ids[0] if stop_ids else 0,
        cache_implementation=cache,
    )
    return output[:, ids.shape[1] :]


def plain_generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    stop_ids: Sequence[int],
    sampling: SamplingConfig,
) -> list[list[list[int]]]:
    """The n answers of each prompt by `generate`, up to and including a stop token."""
    return _answers(generate(model, prompts, stop_ids, sampling), stop_ids, sampling.n)


@torch.inference_mode()
def prefill_once(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    stop_ids: Sequence[int],
    sampling: SamplingConfig,
) -> list[list[list[int]]]:
    """One prefill a prompt, whose cache is then repeated n times, and a plain decoding loop on the copies.

    Returns:
        as `plain_generate`.
    """
    ids, mask = left_padded(prompts)
    positions = token_positions(mask)
    cache = DynamicCache(config=model.config)
    output = model(ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1)
    cache.batch_repeat_interleave(sampling.n)
    logits = output.logits[:, -1].repeat_interleave(sampling.n, 0)
    mask = mask.repeat_interleave(sampling.n, 0)
    position = positions[:, -1:].repeat_interleave(sampling.n, 0)
    filters = warpers(sampling)
    stops = torch.tensor(list(stop_ids))
    running = torch.ones(len(logits), dtype=torch.bool)
    drawn = []
    while True:
        tokens = torch.multinomial(torch.softmax(filters(None, logits), -1), 1)  # [B * n, 1]
        drawn.append(tokens)
        running &= ~torch.isin(tokens[:, 0], stops)
        if len(drawn) == sampling.max_new_tokens or not running.any():
            return _answers(torch.cat(drawn, 1), stop_ids, sampling.n)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        position = position + 1
        output = model(tokens, attention_mask=mask, position_ids=position, past_key_values=cache)
        logits = output.logits[:, -1]


@torch.inference_mode()
def greedy(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], tokens: int, vocabulary: int
) -> tuple[np.ndarray, np.ndarray]:
    """The most likely token again and again, stop tokens or not, by a loop on a left-padded batch.

    Args:
        tokens: how many are decoded for each prompt.
        vocabulary: only ids below it are taken.

    Returns:
        ids [B, tokens], and by how much the logit of each leads the next best, float32 [B, tokens].
    """
    ids, mask = left_padded(prompts)
    position = token_positions(mask)
    cache = DynamicCache(config=model.config)
    taken, margins = [], []
    while True:
        output = model(
            ids, attention_mask=mask, position_ids=position, past_key_values=cache, logits_to_keep=1
        )
        best = output.logits[:, -1, :vocabulary].topk(2)
        taken.append(best.indices[:, :1])
        margins.append(best.values[:, 0] - best.values[:, 1])
        if len(taken) == tokens:
            return torch.cat(taken, 1).numpy(), torch.stack(margins, 1).numpy()
        ids, position = taken[-1], position[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)


def probabilities(logits: np.ndarray, sampling: SamplingConfig) -> np.ndarray:
    """torch's softmax [B, V], float64, of logits [B, V] behind transformers' warpers."""
    return torch.softmax(warpers(sampling)(None, torch.from_numpy(logits)).double(), -1).numpy()


def left_padded(prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, both [B, T]."""
    length = max(map(len, prompts))
    ids = torch.zeros(len(prompts), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = torch.tensor(prompt)
        mask[row, length - len(prompt) :] = 1
    return ids, mask


def warpers(sampling: SamplingConfig) -> LogitsProcessorList:
    """transformers' temperature, top-k and top-p, in its order."""
    filters = LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature))])
    if sampling.top_k:
        filters.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        filters.append(TopPLogitsWarper(sampling.top_p))
    return filters


def _answers(drawn: torch.Tensor, stop_ids: Sequence[int], n: int) -> list[list[list[int]]]:
    answers = []
    for row in drawn.tolist():
        stop = next((index for index, token in enumerate(row) if token in stop_ids), len(row) - 1)
        answers.append(row[: stop + 1])
    return [answers[start : start + n] for start in range(0, len(answers), n)]
