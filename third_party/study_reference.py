"""What a self-training round does with a model: transformers answers, peft and torch.optim train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ml_collections import ConfigDict
from peft import PeftModel
from torch.utils.data import BatchSampler, RandomSampler
from transformers import PreTrainedModel

from constellation.generator import Sample
from constellation.model.sampling import SamplingConfig
from constellation.runtime.progress import Progress
from constellation.selftraining.batches import TrainingExample
from third_party import sampling_reference, training_reference

ROWS = 256  # samples decoded at a time


def draw(
    base: PreTrainedModel,
    adapter: Path | None,
    prompts: Sequence[Sequence[int]],
    stop_ids: Sequence[int],
    sampling: SamplingConfig,
    seed: int,
    progress: Progress,
) -> list[list[Sample]]:
    """n answers to each prompt.

    Args:
        base: as it was again afterwards.
        adapter: in peft's format; None for the base alone.
        seed: of torch's generator, in [0, 2^63).
        progress: counts the samples.
    """
    torch.manual_seed(seed)
    model = PeftModel.from_pretrained(base, adapter).eval() if adapter else base
    drawn: list[list[Sample]] = []
    size = max(1, ROWS // sampling.n)
    for start in range(0, len(prompts), size):
        part = prompts[start : start + size]
        for answers in sampling_reference.prefill_once(model, part, stop_ids, sampling):
            drawn.append([_without_stop(answer, stop_ids) for answer in answers])
        progress.update(len(part) * sampling.n)
    if adapter:
        model.unload()
    return drawn


def train(
    base: PreTrainedModel,
    start: Path | None,
    lora: ConfigDict,
    pool: Sequence[TrainingExample],
    updates: int,
    training: ConfigDict,
    seed: int,
    directory: Path,
    progress: Progress,
) -> None:
    """Trains an adapter by torch's AdamW and writes it to `directory` in peft's format.

    Args:
        base: as it was again afterwards.
        start: an adapter in peft's format; None for a fresh one.
        lora: rank and alpha of a fresh one.
        pool: gone through in random order, again and again, by torch's own samplers; empty, nothing is
            trained.
        updates: optimizer steps.
        training: batch_size, learning_rate, clip_norm, weight_decay.
        seed: of torch's generator, in [0, 2^63).
        progress: counts the updates.
    """
    torch.manual_seed(seed)
    if start is None:
        model = training_reference.add_adapter(base, lora.rank, int(lora.alpha))
    else:
        model = PeftModel.from_pretrained(base, start, is_trainable=True)
    if pool:
        optimizer = training_reference.make_optimizer(model, training.learning_rate, training.weight_decay)
        order = RandomSampler(pool, num_samples=updates * training.batch_size)
        for indices in BatchSampler(order, training.batch_size, drop_last=False):
            examples = training_reference.separate([pool[index] for index in indices])
            batch = training_reference.one_a_row(examples)
            loss = training_reference.update(model, optimizer, [batch], training.clip_norm)
            progress.update(1, loss=loss)
    model.save_pretrained(str(directory))
    model.unload()


def _without_stop(answer: Sequence[int], stop_ids: Sequence[int]) -> Sample:
    finished = answer[-1] in stop_ids
    return Sample(np.array(answer[:-1] if finished else answer, np.int32), finished)
